"""A small renderer: facets in a picture finer than the frame, with depth, and then over the frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from dmsynth.camera.things.head import Bytes, Double, Float, Head, Light, patch, triangles
from dmsynth.trackers.gaze import EYE_OUTLINES
from dmsynth.trackers.mouth import LOWER_LIP, UPPER_LIP
from dmsynth.video import Image

FINE = 20.0  # pixels per centimetre that edges are drawn with, about
_FINENESS = (2, 4)  # pixels of a canvas per pixel of the frame, least and most
_FAR = -1e3  # centimetres: the depth of what nothing covers
_SUB = 4  # binary digits after the pixel that OpenCV's drawing takes
_SHADOW_OFFSET = 0.25  # centimetres down
_SHADOW_GRID = 6.0  # samples per centimetre of a shadow, at least
_SHADOW_BLUR = 0.7  # centimetres: side of the square that it is averaged over, twice
_AMBIENT = 0.45  # of the light comes from everywhere
_BAND = 0.4  # centimetres: side of the square of skin that is looked at
_NO_SKIN = 0.4  # logarithm of a colour over the skin's from where it is hair
_ASIDE = (0.1, 0.3)  # sine of the head's turn from which a side is seen, and is seen well
_TIGHT = 24  # exponent of a highlight
_OPENINGS = (
    *([*eye["upper"], *eye["lower"][::-1]] for eye in EYE_OUTLINES.values()),
    [*UPPER_LIP, *LOWER_LIP[::-1]],
)
"""Outlines of eyes and mouth, of the mesh."""


Box = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels of the frame."""


@dataclass
class Scene:
    """A frame that things are drawn into, one after the other.

    Attributes:
        bare: (h, w) or (h, w, 3) uint8, the frame without things.
        image: the same with things, changed in place.
        cover: (h, w) uint8, how opaque the things are, changed in place.
        head, light: in the frame without things.
        infrared: the frame is seen by a camera for the near infrared.
    """

    bare: Image
    image: Image
    cover: Bytes
    head: Head
    light: Light
    infrared: bool
    _skin: tuple[Box, Float] | None = None

    @property
    def fine(self) -> int:
        """Pixels of a canvas per pixel of the frame and axis."""
        return int(np.clip(round(FINE / self.head.scale), *_FINENESS))

    def box(self, points: Double, margin: float) -> Box:
        """Left, top, right and bottom around ``points`` (n, 2 or more) in pixels, a ``margin`` more, in the frame."""
        height, width = self.image.shape[:2]
        low = np.floor(points[:, :2].min(axis=0) - margin).clip(0, [width, height])
        high = np.ceil(points[:, :2].max(axis=0) + margin).clip(low, [width, height])
        return int(low[0]), int(low[1]), int(high[0]), int(high[1])

    def skin(self, around: Box) -> tuple[Box, Float]:
        """A box with the face's part of the one ``around``, and the depth of the skin in it, as fine as a canvas."""
        face = self.box(self._mesh, 1.0)
        left, top = max(face[0], around[0]), max(face[1], around[1])
        box = (left, top, max(left, min(face[2], around[2])), max(top, min(face[3], around[3])))
        if self._skin is None or not _within(box, self._skin[0]):
            self._skin = box, self._skin_in(box)
        return self._skin

    def _skin_in(self, box: Box) -> Float:
        seen, corner = self._mesh, triangles()
        skin = np.full(((box[3] - box[1]) * self.fine, (box[2] - box[0]) * self.fine), _FAR, np.float32)
        there = np.all((seen[:, :2] > np.array(box[:2]) - 1.0) & (seen[:, :2] < box[2:]), axis=1)
        first, second = seen[corner[:, 1]] - seen[corner[:, 0]], seen[corner[:, 2]] - seen[corner[:, 0]]
        faces = first[:, 0] * second[:, 1] < first[:, 1] * second[:, 0]
        corner = corner[faces & np.any(there[corner], axis=1)]
        depth = seen[corner, 2].mean(axis=1)
        order = np.argsort(depth, kind="stable")
        places = _places(seen, box, self.fine)
        for opening in _OPENINGS:  # the mesh has none of what is in them
            cv2.fillPoly(skin, [places[opening]], float(seen[opening, 2].mean()), cv2.LINE_8, _SUB)
        for place, near in zip(places[corner[order]], depth[order].tolist(), strict=True):
            cv2.fillConvexPoly(skin, place, near, cv2.LINE_8, _SUB)
        return skin

    @cached_property
    def _mesh(self) -> Double:
        """The face's mesh (478, 3) as seen."""
        return self.head.seen(self.head.points)

    def shown(self, path: Double, side: int, usually: float) -> float:
        """How far a band along a ``path`` (n, 3) of the head's frame is seen, of its length, before it goes under hair,
        which is darker or lighter than the skin at the path's beginning. ``side``: -1 of the image's left, 1 right.

        Only of a side that is turned to the camera can it be told; of another it is what it ``usually`` is.
        """
        certain = float(np.clip((-side * self.head.rotation[0, 2] - _ASIDE[0]) / (_ASIDE[1] - _ASIDE[0]), 0.0, 1.0))
        if not certain:
            return usually
        seen, half = self.head.seen(path), max(1, round(_BAND / 2 * self.head.scale))
        colours = np.log(np.stack([patch(self.bare, x, y, half) for x, y, _ in seen]) + 8.0)
        other = np.abs(colours - np.median(colours[: max(1, len(path) // 5)], axis=0)).max(axis=1)
        under = np.flatnonzero(other > _NO_SKIN)
        length = 1.0
        if len(under) and under[0] > 0:
            first = int(under[0])
            into = (_NO_SKIN - other[first - 1]) / (other[first] - other[first - 1])
            length = float((first - 1 + into) / (len(path) - 1))
        return certain * length + (1.0 - certain) * usually

    def lay(self, box: Box, colours: Bytes, alpha: Bytes, shadow: float = 0.0) -> None:
        """Lay something over a ``box`` of the frame.

        Args:
            colours: (h, w, 3), times the opacity.
            alpha: (h, w), the opacity, 255 is all.
            shadow: how dark the shadow is that it casts on the face, 0 to 1.
        """
        place = np.s_[box[1] : box[3], box[0] : box[2]]
        left = cv2.bitwise_not(alpha)
        if shadow:
            left = cv2.multiply(left, self._lit(box, alpha, shadow), scale=1 / 255)
        below = self.image[place]
        if below.ndim == 3:
            left = cv2.merge([left] * 3)
        else:
            colours = cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY)
        self.image[place] = cv2.add(cv2.multiply(below, left, scale=1 / 255), colours)
        self.cover[place] = cv2.max(self.cover[place], alpha)

    def _lit(self, box: Box, alpha: Bytes, darkness: float) -> Bytes:
        """What a shadow leaves of the light (h, w), 255 is all, beside what is opaque by ``alpha`` (h, w)."""
        step = max(1, int(self.head.scale / _SHADOW_GRID))  # pixels of the frame per sample
        size = (-(-alpha.shape[1] // step), -(-alpha.shape[0] // step))
        coarse = alpha if step == 1 else cv2.resize(alpha, size, interpolation=cv2.INTER_AREA)
        down = np.array([[1, 0, 0], [0, 1, _SHADOW_OFFSET * self.head.scale / step]], np.float32)
        side = 2 * round(_SHADOW_BLUR * self.head.scale / step / 2) + 1
        soft = cv2.blur(cv2.blur(cv2.warpAffine(coarse, down, size), (side, side)), (side, side))
        face = np.zeros(size[::-1], np.uint8)
        outline = (self.head.outline() - np.array(box[:2])) / step
        cv2.fillConvexPoly(face, outline.round().astype(np.int32), 255 * darkness)
        lit = cv2.bitwise_not(cv2.multiply(soft, cv2.blur(face, (3, 3)), scale=1 / 255))
        return np.asarray(lit if step == 1 else cv2.resize(lit, alpha.shape[::-1], interpolation=cv2.INTER_LINEAR))


class Canvas:
    """A part of a frame, finer, on which one thing is drawn.

    Depths are centimetres in the camera's frame (``Head.project``).
    """

    def __init__(self, scene: Scene, points: Double) -> None:
        """Around ``points`` (n, 2 or more) in pixels of the frame."""
        self._scene, self._fine = scene, scene.fine
        self._box = left, top, right, bottom = scene.box(points, 2.0 * _SHADOW_BLUR * scene.head.scale)
        self._size = (right - left, bottom - top)
        self.outside = min(self._size) == 0
        self._pixels = np.zeros((self._size[1] * self._fine, self._size[0] * self._fine, 4), np.uint8)
        self._drawn: list[tuple[NDArray[np.int32], Double]] = []

    def facets(self, corners: Double, colours: Double, inside: bool = False) -> None:
        """Draw facets (n, 4, 3) as seen, those whose outside faces the camera, or those whose ``inside`` does, too; the
        farthest first, each in its colour (n, 3)."""
        first, second = corners[:, 1] - corners[:, 0], corners[:, 3] - corners[:, 0]
        facing = np.flatnonzero((first[:, 0] * second[:, 1] > first[:, 1] * second[:, 0]) | inside)
        depth = corners[..., 2].mean(axis=1)
        order = facing[np.argsort(depth[facing], kind="stable")]
        places = _places(corners[order], self._box, self._fine)
        for place, colour in zip(
            places, np.column_stack([colours, np.full(len(depth), 255.0)])[order].tolist(), strict=True
        ):
            cv2.fillConvexPoly(self._pixels, place, colour, cv2.LINE_8, _SUB)
        self._drawn.append((places, depth[order]))

    def hide(self, tolerance: float) -> None:
        """Remove what lies more than ``tolerance`` centimetres behind the face."""
        box, skin = self._scene.skin(self._box)
        left, top = max(box[0], self._box[0]), max(box[1], self._box[1])
        right, bottom = min(box[2], self._box[2]), min(box[3], self._box[3])
        if left >= right or top >= bottom:
            return
        x, y = (np.array([left, right]) - box[0]) * self._fine, (np.array([top, bottom]) - box[1]) * self._fine
        near = skin[y[0] : y[1], x[0] : x[1]]
        own = np.full(near.shape, _FAR, np.float32)
        shift = (np.array([left, top]) - self._box[:2]) * (self._fine << _SUB)
        for places, depth in self._drawn:
            local = (places - shift).astype(np.int32)
            at = np.concatenate([local, local.mean(axis=1, keepdims=True, dtype=np.int32)], axis=1) >> _SUB
            column, row = (np.clip(at[..., axis], 0, near.shape[1 - axis] - 1) for axis in (0, 1))
            some = (depth[:, None] < near[row, column] - tolerance).any(axis=1)
            if some.any():  # with them, what may lie before them
                low, high = local[some].min(axis=(0, 1)), local[some].max(axis=(0, 1))
                some = ((local.max(axis=1) >= low) & (local.min(axis=1) <= high)).all(axis=1)
            for place, deep in zip(local[some], depth[some].tolist(), strict=True):
                cv2.fillConvexPoly(own, place, deep, cv2.LINE_8, _SUB)
        behind = cv2.compare(own, near - np.float32(tolerance), cv2.CMP_LT) & cv2.compare(own, _FAR, cv2.CMP_GT)
        x, y = (
            (np.array([left, right]) - self._box[0]) * self._fine,
            (np.array([top, bottom]) - self._box[1]) * self._fine,
        )
        cv2.copyTo(np.zeros((*own.shape, 4), np.uint8), behind, self._pixels[y[0] : y[1], x[0] : x[1]])

    def layer(self) -> Bytes:
        """What is drawn, in pixels of the frame: (h, w, 4), colours times opacity and opacity."""
        return np.asarray(cv2.resize(self._pixels, self._size, interpolation=cv2.INTER_AREA))

    def blend(self, shadow: float, soften: float = 0.0) -> None:
        """Lay what is drawn over the frame.

        Args:
            shadow: how dark the shadow is that it casts on the face, 0 to 1.
            soften: centimetres over which colours are averaged, edges are not: about a facet, which is seen no more.
        """
        layer = self.layer()
        colours, alpha = layer[..., :3], cv2.extractChannel(layer, 3)
        if soften:
            side = 2 * round(soften / 2 * self._scene.head.scale) + 1
            soft = cv2.blur(layer, (side, side))
            share = cv2.divide(alpha, cv2.max(cv2.extractChannel(soft, 3), 1), dtype=cv2.CV_32F)
            colours = cv2.multiply(soft[..., :3], cv2.merge([share] * 3), dtype=cv2.CV_8U)
        self._scene.lay(self._box, np.ascontiguousarray(colours), alpha, shadow)

    def lay(self, colours: Bytes, alpha: Bytes) -> None:
        """Lay colours (h, w, 3) times opacity, and the opacity (h, w), of this size over the frame."""
        self._scene.lay(self._box, colours, alpha)


def _within(one: Box, other: Box) -> bool:
    """Whether a box lies inside another."""
    return one[0] >= other[0] and one[1] >= other[1] and one[2] <= other[2] and one[3] <= other[3]


def _places(points: Double, corner: Sequence[int], fine: int) -> NDArray[np.int32]:
    """Points (..., 2 or more) of the frame on a canvas with that left and top, in OpenCV's units."""
    inside = (points[..., :2] - np.array(corner[:2]) + 0.5) * fine - 0.5
    return np.rint(inside * (1 << _SUB)).astype(np.int32)


def sheet(grid: Double) -> tuple[Double, Double]:
    """Facets (n, 4, 3) and unit normals (n, 3) of a surface given as a grid (rows, columns, 3); seen from outside, rows
    go down and columns to the right."""
    corners = np.stack([grid[:-1, :-1], grid[:-1, 1:], grid[1:, 1:], grid[1:, :-1]], axis=2).reshape(-1, 4, 3)
    normals = cross(corners[:, 2] - corners[:, 0], corners[:, 1] - corners[:, 3])
    return corners, normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)


def cross(one: Double, other: Double) -> Double:
    """Cross products (n, 3); NumPy's takes five times as long for few."""
    (a, b, c), (d, e, f) = one.T, other.T
    return np.column_stack([b * f - c * e, c * d - a * f, a * e - b * d])


def sheets(grids: Sequence[Double]) -> tuple[Double, Double]:
    """``sheet`` of several surfaces."""
    parts = [sheet(grid) for grid in grids]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def shaded(normals: Double, albedo: Double, light: Light, shine: float = 0.0) -> Double:
    """Colours (n, 3) in 0 to 255 of surfaces with unit ``normals`` (n, 3) in the camera's frame and ``albedo`` (3,) or
    (n, 3); ``shine`` is the strength of a soft highlight."""
    bright = _AMBIENT + (1.0 - _AMBIENT) * np.clip(normals @ light.towards, 0.0, 1.0)
    half = light.towards + np.array([0.0, 0.0, 1.0])
    glint = shine * np.clip(normals @ (half / np.linalg.norm(half)), 0.0, 1.0) ** _TIGHT
    return np.asarray(np.clip(255.0 * light.strength * (bright[:, None] * albedo + glint[:, None]), 0.0, 255.0))
