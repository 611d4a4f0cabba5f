"""Limbs: fingers, palm and arm as tapered rods that run smoothly into each other, shaded as one surface."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dmsynth.camera.things.canvas import Box, Scene
from dmsynth.camera.things.head import Bytes, Double, Float, Head
from dmsynth.datasets.head_shape import CAMERA_DISTANCE

_GRID = 7.0  # samples per centimetre of the surface, at most: between them it is smooth
_FAR = -1e3  # centimetres: the depth where no limb is
_REACHES = 0.6  # of the way over which limbs run into each other, outside of a limb
_STEEP = 1.2  # how fast the surface falls outside of a limb, for the slopes at its edge
_AMBIENT = 0.42  # of the light comes from everywhere
_LIT = 1.12  # times as bright as the cheeks: skin that faces the light
_WARM = np.array([0.8, 1.08, 1.16])  # exponents of the shade: light that leaves skin again is red
_HOLLOW, _DARKENS = 0.9, 0.3  # centimetres around: what lies lower is darker, by that much per centimetre
_CREASE, _CREASE_WIDE = 0.06, 0.16  # how much darker the skin is over a joint, and over how many centimetres
_NAIL = 0.1  # how much lighter a nail is
_LOOKUP = np.linspace(0.0, 1.0, 256)


@dataclass(frozen=True)
class Limb:
    """Rods from joint to joint.

    Attributes:
        joints: (k, 3) centimetres in the camera's frame.
        radii: (k,) centimetres.
        run_in: centimetres over which it runs into the limbs before it.
        cloth: albedo, (3,), if it is in a sleeve; else it is of the face's skin.
        nail: it ends in a nail on the side that faces the camera.
    """

    joints: Double
    radii: Double
    run_in: float
    cloth: tuple[float, float, float] | None = None
    nail: bool = False


def draw_limbs(scene: Scene, limbs: Sequence[Limb], shadow: float, behind: float | None = None) -> None:
    """Draw limbs; what lies more than ``behind`` centimetres behind the face is hidden. At most one is in a sleeve."""
    head = scene.head
    joints, radii = np.concatenate([limb.joints for limb in limbs]), np.concatenate([limb.radii for limb in limbs])
    places, reach = head.project(joints)[:, :2], (radii * _near(head, joints))[:, None]
    box = left, top, right, bottom = scene.box(np.concatenate([places - reach, places + reach]), 0.8 * head.scale)
    if left >= right or top >= bottom:
        return
    step = max(1, round(head.scale / _GRID))  # pixels of the frame per sample
    field = _Field((-(-(right - left) // step), -(-(bottom - top) // step)), head.scale / step)
    corner = np.array([left, top]) + (step - 1) / 2
    for limb in limbs:
        seen = head.project(limb.joints)
        field.add(limb, np.column_stack([(seen[:, :2] - corner) / step, seen[:, 2]]), _near(head, limb.joints) / step)

    def finer(samples: Any) -> Any:
        whole = samples if step == 1 else cv2.resize(samples, None, fx=step, fy=step, interpolation=cv2.INTER_LINEAR)
        return whole[: bottom - top, : right - left]

    alpha = cv2.convertScaleAbs(np.clip(finer(field.inside) * step + 0.5, 0.0, 1.0), alpha=255.0)
    if behind is not None:
        alpha = cv2.multiply(alpha, _before(scene, box, finer(field.depth) + behind), scale=1 / 255)
    colours = np.ascontiguousarray(finer(field.colours(scene)))
    scene.lay(box, cv2.multiply(colours, cv2.merge([alpha] * 3), scale=1 / 255), alpha, shadow)


def _near(head: Head, points: Double) -> Double:
    """Pixels per centimetre (n,) at points (n, 3) of the camera's frame."""
    return np.asarray(head.scale / (1.0 - points[:, 2] / CAMERA_DISTANCE))


def _before(scene: Scene, box: Box, depth: Float) -> Bytes:
    """Where a surface with that ``depth`` (h, w) in a box of the frame is not hidden by the face: (h, w), 255 or 0."""
    seen = np.full(depth.shape, 255, np.uint8)
    face, skin = scene.skin(box)
    left, top, right, bottom = (max(face[0], box[0]), max(face[1], box[1]), min(face[2], box[2]), min(face[3], box[3]))
    if left < right and top < bottom:
        part = skin[:: scene.fine, :: scene.fine][top - face[1] : bottom - face[1], left - face[0] : right - face[0]]
        place = np.s_[top - box[1] : bottom - box[1], left - box[0] : right - box[0]]
        seen[place] = cv2.compare(depth[place], np.ascontiguousarray(part), cv2.CMP_GE)
        seen[place] = cv2.blur(seen[place], (3, 3))
    return seen


class _Field:
    """Depth and outline of limbs, sampled on a grid."""

    def __init__(self, size: tuple[int, int], scale: float) -> None:
        """``size``: columns and rows; ``scale``: samples per centimetre."""
        self._scale = scale
        shape = size[::-1]
        self.depth = np.full(shape, _FAR, np.float32)
        self.inside = np.full(shape, _FAR, np.float32)  # samples from the outline inwards
        self._tone = np.ones(shape, np.float32)
        self._in_sleeve = np.zeros(shape, np.float32)
        self._cloth = (0.0, 0.0, 0.0)

    def add(self, limb: Limb, joints: Double, near: Double) -> None:
        """Add a limb with ``joints`` (k, 3) in samples and centimetres of depth, at which ``near`` (k,) samples are a
        centimetre."""
        radii, run_in = limb.radii * near, limb.run_in * self._scale
        margin = radii.max() + _REACHES * run_in + 2
        low = np.floor(joints[:, :2].min(axis=0) - margin).astype(int).clip(0)
        high = (np.ceil(joints[:, :2].max(axis=0) + margin).astype(int) + 1).clip(0, self.depth.shape[::-1])
        if (low >= high).any():
            return
        place = np.s_[low[1] : high[1], low[0] : high[0]]
        depth, inside, tone = self._rods(limb, joints - [*low, 0.0], radii, high - low)
        if limb.nail:
            np.copyto(self._tone[place], tone, where=depth > self.depth[place])
        if limb.cloth:
            self._in_sleeve[place][depth > self.depth[place]] = 1.0
            self._cloth = limb.cloth
        self.depth[place] = _smooth_max(self.depth[place], depth, limb.run_in)
        self.inside[place] = _smooth_max(self.inside[place], inside, run_in)

    def _rods(
        self, limb: Limb, joints: Double, radii: Double, size: NDArray[np.intp]
    ) -> tuple[Float, Float, Float | float]:
        """Depth, samples inwards, and tone of a limb on a grid of ``size``."""
        x, y, depth = (joints.astype(np.float32)[:, axis, None, None] for axis in range(3))
        thick = radii.astype(np.float32)[:, None, None]
        (along_x, along_y, deeper, thicker) = (part[1:] - part[:-1] for part in (x, y, depth, thick))
        length = np.maximum(along_x**2 + along_y**2, np.float32(1e-3))
        to_x = np.arange(size[0], dtype=np.float32) - x[:-1]
        to_y = np.arange(size[1], dtype=np.float32)[:, None] - y[:-1]
        raw = to_x * (along_x / length) + to_y * (along_y / length)
        share = np.minimum(np.maximum(raw, 0.0), 1.0)
        off_x, off_y = to_x - share * along_x, to_y - share * along_y
        away = np.sqrt(off_x * off_x + off_y * off_y)
        radius = thick[:-1] + share * thicker
        inside = radius - away
        bulge = np.sqrt(np.maximum(inside * (radius + away), 0.0)) + np.float32(_STEEP) * np.minimum(inside, 0.0)
        surface = depth[:-1] + share * deeper + bulge * np.float32(1 / self._scale)
        surface[inside < -_REACHES * limb.run_in * self._scale - 1.0] = _FAR
        if not limb.nail:
            return surface.max(axis=0), inside.max(axis=0), 1.0
        across = raw[1:] * np.sqrt(length[1:]) * np.float32(1 / self._scale / _CREASE_WIDE)
        tone = 1.0 - np.float32(_CREASE) * np.exp(-across * across)
        tone[-1] += np.float32(_NAIL) * _nail(raw[-1], away[-1] / np.maximum(radius[-1], 1e-3))
        tone = np.where(surface[-1] > surface[:-1].max(axis=0), tone[-1], tone[:-1].min(axis=0))
        return surface.max(axis=0), inside.max(axis=0), tone

    def colours(self, scene: Scene) -> Bytes:
        """(rows, columns, 3)."""
        there = self.depth > _FAR / 2
        known = np.where(there, self.depth, self.depth[there].min(initial=0.0) - 1.0)
        slope_x = cv2.Sobel(known, cv2.CV_32F, 1, 0, scale=self._scale / 8)
        slope_y = cv2.Sobel(known, cv2.CV_32F, 0, 1, scale=self._scale / 8)
        towards = scene.light.towards.astype(np.float32)
        lambert = (towards[2] - towards[0] * slope_x + towards[1] * slope_y) / cv2.sqrt(slope_x**2 + slope_y**2 + 1)
        side = 2 * round(_HOLLOW * self._scale) + 1
        hollow = np.clip(cv2.blur(known, (side, side)) - known, 0.0, 1.2)
        bright = (_AMBIENT + (1.0 - _AMBIENT) * np.maximum(lambert, 0.0)) * (1.0 - _DARKENS * hollow)
        level = np.clip(255.0 * bright, 0.0, 255.0).astype(np.uint8)
        of_skin = np.clip(_LIT * scene.light.skin * _LOOKUP[:, None] ** _WARM, 0.0, 255.0)
        of_cloth = np.clip(255.0 * scene.light.strength * np.array(self._cloth) * _LOOKUP[:, None], 0.0, 255.0)
        sleeve = cv2.blur(self._in_sleeve, (3, 3))
        colours = cv2.blendLinear(looked_up(level, of_skin), looked_up(level, of_cloth), 1.0 - sleeve, sleeve)
        return np.asarray(cv2.multiply(colours, cv2.merge([self._tone] * 3), dtype=cv2.CV_8U))


def looked_up(level: Bytes, table: Double) -> Bytes:
    """(h, w, 3) uint8: the rows of a ``table`` (256, 3) that levels (h, w) name."""
    return np.asarray(cv2.LUT(cv2.merge([level] * 3), table.round().astype(np.uint8)[None]))


def _nail(along: Float, beside: Float) -> Float:
    """Where the nail is, 0 to 1: ``along`` the last bone from 0 to 1, ``beside`` in radii."""
    x, y = (along - np.float32(0.78)) / np.float32(0.42), beside / np.float32(0.62)
    x, y = x * x, y * y
    return np.asarray(np.clip(3.0 * (1.0 - x * x - y * y), 0.0, 1.0))


def _smooth_max(one: Float, other: Float, over: float) -> Float:
    """The larger of two, rounded where they differ by less than ``over``."""
    close = np.maximum(1.0 - np.abs(one - other) / np.float32(over), 0.0)
    return np.asarray(np.maximum(one, other) + np.float32(over / 4) * close * close)
