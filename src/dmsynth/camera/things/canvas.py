"""A small renderer: facets in a picture finer than the frame, with depth, and then over the frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from dmsynth.camera.things.head import Double, Float, Head, Light, patch, triangles
from dmsynth.video import Image

FINE = 20.0  # pixels per centimetre that edges are drawn with, about
_FINENESS = (2, 4)  # pixels of a canvas per pixel of the frame, least and most
_FAR = -1e3  # centimetres: the depth of what nothing covers
_SUB = 4  # binary digits after the pixel that OpenCV's drawing takes
_SHADOW_OFFSET = 0.25  # centimetres down
_SHADOW_BLUR = 0.35  # centimetres, standard deviation
_AMBIENT = 0.45  # of the light comes from everywhere
_BAND = 0.4  # centimetres: side of the square of skin that is looked at
_NO_SKIN = 0.4  # logarithm of a colour over the skin's from where it is hair
_TIGHT = 24  # exponent of a highlight
_GREY = np.array([0.299, 0.587, 0.114], np.float32)


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
    cover: NDArray[np.uint8]
    head: Head
    light: Light
    infrared: bool

    @property
    def fine(self) -> int:
        """Pixels of a canvas per pixel of the frame and axis."""
        return int(np.clip(round(FINE / self.head.scale), *_FINENESS))

    def box(self, points: Double, margin: float) -> tuple[int, int, int, int]:
        """Left, top, right and bottom around ``points`` (n, 2 or more) in pixels, a ``margin`` more, in the frame."""
        height, width = self.image.shape[:2]
        low = np.floor(points[:, :2].min(axis=0) - margin).clip(0, [width, height])
        high = np.ceil(points[:, :2].max(axis=0) + margin).clip(low, [width, height])
        return int(low[0]), int(low[1]), int(high[0]), int(high[1])

    @cached_property
    def skin(self) -> tuple[tuple[int, int, int, int], Float]:
        """A box around the face, and the depth of the skin in it, as fine as a canvas."""
        seen, corner = self.head.seen(self.head.points), triangles()
        left, top, right, bottom = box = self.box(seen, 1.0)
        skin = np.full(((bottom - top) * self.fine, (right - left) * self.fine), _FAR, np.float32)
        places = _places(seen, (left, top), self.fine)[corner]
        depth = seen[corner, 2].mean(axis=1)
        first, second = seen[corner[:, 1]] - seen[corner[:, 0]], seen[corner[:, 2]] - seen[corner[:, 0]]
        shown = np.flatnonzero(first[:, 0] * second[:, 1] < first[:, 1] * second[:, 0])
        order = shown[np.argsort(depth[shown], kind="stable")]
        for place, near in zip(places[order], depth[order].tolist(), strict=True):
            cv2.fillConvexPoly(skin, place, near, cv2.LINE_8, _SUB)
        return box, skin

    def shown(self, path: Double) -> float:
        """How far a band along a ``path`` (n, 3) of the head's frame is seen, of its length, before it goes under hair,
        which is darker or lighter than the skin at the path's beginning."""
        seen, half = self.head.seen(path), max(1, round(_BAND / 2 * self.head.scale))
        colours = np.log(np.stack([patch(self.bare, x, y, half) for x, y, _ in seen]) + 8.0)
        other = np.abs(colours - np.median(colours[: max(1, len(path) // 5)], axis=0)).max(axis=1)
        under = np.flatnonzero(other > _NO_SKIN)
        if not len(under) or under[0] == 0:
            return 1.0
        first = int(under[0])
        into = (_NO_SKIN - other[first - 1]) / (other[first] - other[first - 1])
        return float((first - 1 + into) / (len(path) - 1))

    def lay(self, box: tuple[int, int, int, int], layer: Float, light: Float | None = None) -> None:
        """Lay a ``layer`` (h, w, 4), colours times opacity and opacity, over a ``box``; ``light`` (h, w) is what a
        shadow leaves of the picture below."""
        place = np.s_[box[1] : box[3], box[0] : box[2]]
        alpha = layer[..., 3]
        left = 1.0 - alpha if light is None else (1.0 - alpha) * light
        part = self.image[place]
        colours = layer[..., :3] @ _GREY if part.ndim == 2 else layer[..., :3]
        mixed = part * (left if part.ndim == 2 else left[..., None]) + colours
        self.image[place] = np.clip(mixed + 0.5, 0.0, 255.0).astype(np.uint8)
        np.maximum(self.cover[place], (alpha * 255.0).astype(np.uint8), out=self.cover[place])


class Canvas:
    """A part of a frame, finer, on which one thing is drawn.

    Depths are centimetres in the camera's frame (``Head.project``).
    """

    def __init__(self, scene: Scene, points: Double) -> None:
        """Around ``points`` (n, 2 or more) in pixels of the frame."""
        self._scene, self._fine = scene, scene.fine
        self._box = left, top, right, bottom = scene.box(points, 3.0 * _SHADOW_BLUR * scene.head.scale + 2.0)
        self._size = (right - left, bottom - top)
        self.outside = min(self._size) == 0
        self._pixels = np.zeros((self._size[1] * self._fine, self._size[0] * self._fine, 4), np.float32)
        self._pixels[..., 3] = _FAR

    def facets(self, corners: Double, colours: Double, inside: bool = False) -> None:
        """Draw facets (n, 4, 3) as seen, those whose outside faces the camera, or those whose ``inside`` does, too; the
        farthest first, each in its colour (n, 3)."""
        first, second = corners[:, 1] - corners[:, 0], corners[:, 3] - corners[:, 0]
        facing = np.flatnonzero((first[:, 0] * second[:, 1] > first[:, 1] * second[:, 0]) | inside)
        depth = corners[..., 2].mean(axis=1)
        order = facing[np.argsort(depth[facing], kind="stable")]
        rows = np.column_stack([colours, depth])[order].tolist()
        for place, row in zip(_places(corners[order], self._box, self._fine), rows, strict=True):
            cv2.fillConvexPoly(self._pixels, place, row, cv2.LINE_8, _SUB)

    def hide(self, tolerance: float) -> None:
        """Remove what lies more than ``tolerance`` centimetres behind the face."""
        box, skin = self._scene.skin
        left, top = max(box[0], self._box[0]), max(box[1], self._box[1])
        right, bottom = min(box[2], self._box[2]), min(box[3], self._box[3])
        if left < right and top < bottom:
            fine = self._fine
            x, y = (np.array([left, right]) - box[0]) * fine, (np.array([top, bottom]) - box[1]) * fine
            before = skin[y[0] : y[1], x[0] : x[1]]
            x, y = (np.array([left, right]) - self._box[0]) * fine, (np.array([top, bottom]) - self._box[1]) * fine
            drawn = self._pixels[y[0] : y[1], x[0] : x[1]]
            depth = drawn[..., 3]
            drawn[(depth < before - tolerance) & (depth > _FAR)] = (0.0, 0.0, 0.0, _FAR)

    def layer(self) -> Float:
        """What is drawn, in pixels of the frame: (h, w, 4), colours times opacity and opacity."""
        self._pixels[..., 3] = self._pixels[..., 3] > _FAR
        return np.asarray(cv2.resize(self._pixels, self._size, interpolation=cv2.INTER_AREA))

    def blend(self, shadow: float, soften: float = 0.0) -> None:
        """Lay what is drawn over the frame.

        Args:
            shadow: how dark the shadow is that it casts on the face, 0 to 1.
            soften: centimetres over which colours are averaged, edges are not: about a facet, which is seen no more.
        """
        layer = self.layer()
        if soften:
            side = 2 * round(soften / 2 * self._scene.head.scale) + 1
            soft = cv2.blur(layer, (side, side))
            layer[..., :3] = soft[..., :3] * (layer[..., 3] / np.maximum(soft[..., 3], 1e-3))[..., None]
        self._scene.lay(self._box, layer, self._shadow(layer[..., 3], shadow))

    def lay(self, layer: Float) -> None:
        """Lay a layer of this size over the frame."""
        self._scene.lay(self._box, layer)

    def _shadow(self, alpha: Float, darkness: float) -> Float:
        """What is left of the light (h, w) beside a thing."""
        scale = self._scene.head.scale
        down = np.array([[1, 0, 0], [0, 1, _SHADOW_OFFSET * scale]], np.float32)
        soft = cv2.GaussianBlur(cv2.warpAffine(alpha, down, self._size), (0, 0), _SHADOW_BLUR * scale)
        face = np.zeros(alpha.shape, np.float32)
        cv2.fillConvexPoly(face, self._scene.head.outline() - np.array(self._box[:2]), 1.0)
        return np.asarray(1.0 - np.float32(darkness) * soft * cv2.blur(face, (3, 3)))


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
