"""Glasses: a frame with two lenses and straight temples, clear or dark."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from dmsynth.camera.things.canvas import Canvas, Scene, shaded, sheets
from dmsynth.camera.things.head import Double, Head
from dmsynth.datasets.head_shape import CAMERA_DISTANCE, EYE_CORNERS, LEFT_EAR, RIGHT_EAR

# Of an adult whose outer eye corners are 9 cm apart, in centimetres.
_EYES = 9.0
_WIDTH, _HEIGHT = 4.9, 3.9  # of a lens
_BELOW = 0.35  # the lens's middle below the eye's
_BEFORE = 0.3  # the bridge before the root of the nose
_RIM = 0.3  # width of the frame around a lens
_DEEP = 0.35  # of the frame, front to back
_HINGE = 0.35  # from the rim to the hinge
_TEMPLE = (0.55, 0.4)  # height of a temple at its hinge and at the ear
_THICK = 0.2  # of a temple
_SQUARE = 2.7  # exponent of the lens's outline: 2 is an ellipse
_FLARE = 0.07  # how much wider the lens is above
_NOSE_CUT = 0.55  # how far the lower inner corner gives way to the nose
_WRAP = 0.022  # how far the frame runs back, per square centimetre from its middle
_TILT = 0.1  # how far the lens's lower edge is nearer to the cheek, per centimetre
_CURVE = 11.0  # radius of a lens: its normals, and so its reflections
_ON_EAR = np.array([0.3, 1.6, -0.6])  # from the ear's point of the mesh, outwards, up and out of the face
_CLEAR = 0.1  # between a temple and the skin
_PASSES = {-1: [127, 162, 21], 1: [356, 389, 251]}  # points of the mesh that a temple passes
_ROOT = 168  # of the nose
_CORNERS = {-1: [33, 133], 1: [263, 362]}  # of an eye; the person's right one is on the image's left
_INTO_SKIN = 0.6  # centimetres: what the mesh may be wrong by
_SOFT = 0.2  # centimetres that a reflection is out of focus
_USUALLY = 0.4  # of a temple is seen before hair begins
_ROUND, _LENS_ROUND = 34, 18  # facets around a rim, and around a lens, whose edge it covers


@dataclass(frozen=True)
class Glasses:
    """Glasses.

    Attributes:
        frame, infrared_frame: albedo (3,), and in the near infrared.
        tint, infrared_tint: share of the light that the lenses keep back.
        mirror: share of the light that they reflect when seen from ahead.
    """

    frame: tuple[float, float, float] = (0.085, 0.065, 0.055)
    infrared_frame: float = 0.12
    tint: float = 0.03
    infrared_tint: float = 0.03
    mirror: float = 0.06
    comes: float = 0.0

    def draw(self, scene: Scene, presence: float) -> None:
        shape = _Shape.of(scene.head)
        way = np.linspace(0.15, 1.0, 18)
        temples = [
            shape.temple(
                side, way[0] + (1.0 - way[0]) * scene.shown(shape.placed(shape.along(side, way)), side, _USUALLY)
            )
            for side in (-1, 1)
        ]
        corners, normals = sheets([*temples, *shape.front()])
        seen = scene.head.seen(corners)
        canvas = Canvas(scene, seen.reshape(-1, 3))
        if canvas.outside:
            return
        albedo = np.full(3, self.infrared_frame) if scene.infrared else np.array(self.frame)
        canvas.facets(seen, shaded(scene.head.turned(normals), albedo, scene.light, 0.2))
        canvas.hide(_INTO_SKIN)
        self._lenses(scene, shape)
        canvas.blend(shadow=0.3)

    def _lenses(self, scene: Scene, shape: _Shape) -> None:
        head = scene.head
        corners, _ = sheets([shape.lens(-1), shape.lens(1)])
        turned = head.turned(corners)
        seen = head.project(turned)
        canvas = Canvas(scene, seen.reshape(-1, 3))
        if canvas.outside:
            return
        middles = corners.mean(axis=1)
        shine = self.mirror * _mirrored(head.turned(shape.normals(middles)), head.turned(middles), scene.infrared)
        canvas.facets(seen, np.repeat(255.0 * np.minimum(shine, 0.9)[:, None], 3, axis=1))
        canvas.hide(_INTO_SKIN)
        layer = canvas.layer()
        inside = layer[..., 3] / np.float32(255.0)
        side = 2 * round(_SOFT * head.scale) + 1
        glare = cv2.blur(np.ascontiguousarray(layer[..., 0]), (side, side)) / np.float32(255.0) * (inside > 0)
        tint = np.float32(self.infrared_tint if scene.infrared else self.tint) * inside
        dark = 9.0 * scene.light.strength * tint * (1.0 - glare)
        bright = cv2.convertScaleAbs(dark + 255.0 * min(1.2 * scene.light.strength, 1.0) * glare)
        alpha = cv2.convertScaleAbs(255.0 * (1.0 - (1.0 - tint) * (1.0 - glare)))
        canvas.lay(cv2.merge([bright] * 3), alpha)


@dataclass(frozen=True)
class _Shape:
    """Glasses on a face. The frame of the glasses has its origin between the eyes' outer corners, x along them.

    Attributes:
        middle, axes: (3,) and (3, 3), columns x, y, z, in the head's frame.
        size: times an adult's with 9 cm between the corners.
        apart: half the distance of the lenses' middles.
        before: depth of the bridge.
        ears: where the temples end, (3,) in the frame of the glasses, by side.
    """

    middle: Double
    axes: Double
    size: float
    apart: float
    before: float
    ears: dict[int, Double]

    @staticmethod
    def of(head: Head) -> _Shape:
        right, left = head.points[EYE_CORNERS]
        middle, x = (right + left) / 2, (left - right) / np.linalg.norm(left - right)
        z = np.array([0.0, 0.0, 1.0]) - x[2] * x
        z /= np.linalg.norm(z)
        axes = np.column_stack([x, np.cross(z, x), z])
        local = (head.points - middle) @ axes
        size = float(np.linalg.norm(left - right)) / _EYES
        apart = float(np.mean([abs(local[_CORNERS[side], 0].mean()) for side in (-1, 1)]))
        shape = _Shape(middle, axes, size, apart, float(local[_ROOT, 2]) + _BEFORE * size, {})
        for side, number in ((-1, RIGHT_EAR), (1, LEFT_EAR)):
            end = local[number] + _ON_EAR * [side, 1.0, 1.0]
            hinge = shape.hinge(side)
            for point in local[_PASSES[side]]:  # the temple goes straight, outside of the skin
                share = (point[2] - hinge[2]) / (end[2] - hinge[2])
                if 0.2 < share < 1.0:
                    beside = hinge[0] + share * (end[0] - hinge[0])
                    end[0] += side * max(0.0, side * (point[0] - beside) + _CLEAR) / share
            shape.ears[side] = end
        return shape

    def placed(self, local: Double) -> Double:
        """Points (..., 3) of the glasses in the head's frame."""
        return self.middle + local @ self.axes.T

    def depth(self, x: Double, y: Double) -> Double:
        """Of the frame's front."""
        return self.before - _WRAP / self.size * x**2 + _TILT * y

    def hinge(self, side: int) -> Double:
        x = self.apart + (_WIDTH / 2 + _RIM + _HINGE) * self.size
        y = (_HEIGHT * 0.3 - _BELOW) * self.size
        return np.array([side * x, y, float(self.depth(np.array(x), np.array(y))) - _DEEP * self.size])

    def outline(self, side: int, grown: float, columns: int) -> tuple[Double, Double]:
        """x and y (columns,) of a lens's outline, ``grown`` by centimetres, clockwise from the left."""
        across, up = _round(columns)
        x = (_WIDTH / 2 * self.size + grown) * across
        y = (_HEIGHT / 2 * self.size + grown) * up
        inner = np.clip(-side * x / (_WIDTH / 2 * self.size), 0.0, 1.2) * np.clip(0.2 - y / _HEIGHT / self.size, 0, 1)
        return side * (self.apart + _NOSE_CUT * self.size * inner) + x * (1.0 + _FLARE * y), y - _BELOW * self.size

    def lens(self, side: int) -> Double:
        """Grid (rows, columns, 3) from the rim to the middle."""
        x, y = self.outline(side, 0.08 * self.size, _LENS_ROUND)
        share = np.array([1.0, 0.75, 0.5, 0.25, 0.0])[:, None]
        x, y = (
            side * self.apart + share * (x - side * self.apart),
            share * (y + _BELOW * self.size) - _BELOW * self.size,
        )
        return self.placed(np.dstack([x, y, self.depth(x, y) - _DEEP / 2 * self.size]))

    def normals(self, points: Double) -> Double:
        """Unit normals (n, 3) of the lenses at points (n, 3) of them, in the head's frame."""
        x, y, _ = ((points - self.middle) @ self.axes).T
        beside = (x - np.sign(x) * self.apart) / _CURVE
        local = np.column_stack([2.0 * _WRAP * x + beside, (y + _BELOW) / _CURVE - _TILT, np.ones_like(x)])
        return np.asarray((local / np.linalg.norm(local, axis=1, keepdims=True)) @ self.axes.T)

    def front(self) -> list[Double]:
        """Grids of both rims and the bridge."""
        grids = []
        for side in (-1, 1):
            rows = []
            for grown, back in ((_RIM, _DEEP), (_RIM, 0.0), (0.0, 0.0), (0.0, _DEEP)):
                x, y = self.outline(side, grown * self.size, _ROUND)
                rows.append(np.column_stack([x, y, self.depth(x, y) - back * self.size]))
            grids.append(self.placed(np.stack(rows)))
        x = np.linspace(-1.0, 1.0, 9) * (self.apart - (_WIDTH / 2 - 0.1) * self.size)
        arch = (0.75 - 0.25 * np.linspace(-1.0, 1.0, 9) ** 2) * self.size
        rows = [
            np.column_stack([x, arch - low * self.size, self.depth(x, arch) - back * self.size])
            for low, back in ((0.0, _DEEP), (0.0, 0.0), (0.5, 0.0), (0.5, _DEEP))
        ]
        return [*grids, self.placed(np.stack(rows))]

    def along(self, side: int, share: Double) -> Double:
        """Points (n, 3) of a temple, at shares (n,) of the way from the hinge to the ear."""
        hinge = self.hinge(side)
        return np.asarray(hinge + share[:, None] * (self.ears[side] - hinge))

    def temple(self, side: int, shown: float) -> Double:
        """Grid of a temple: a bar from the rim's corner around the hinge and straight towards the ear, as far as it is
        ``shown``; there it gets thin, as it goes under hair."""
        share = shown * np.array([0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0])
        corner = self.hinge(side) + np.array([-side * (_HINGE + 0.1), 0.0, _DEEP]) * self.size
        path = np.concatenate([corner[None], self.along(side, share)])
        height = np.interp(np.array([0.0, *share]), [0.0, 1.0], _TEMPLE)[:, None] * self.size / 2
        height[-1] *= 0.3
        up, out = np.array([0.0, 1.0, 0.0]), np.array([side * _THICK * self.size, 0.0, 0.0])
        rows = [path - up * height, path + up * height, path + up * height + out, path - up * height + out]
        grid = self.placed(np.stack([*rows, rows[0]]))
        return grid if side > 0 else grid[:, ::-1]


@lru_cache
def _round(columns: int) -> tuple[Double, Double]:
    """x and y (columns + 1,) of a lens's outline that is 2 wide and high, clockwise from the left."""
    angle = np.linspace(np.pi, -np.pi, columns + 1)
    across, up = (np.sign(each) * np.abs(each) ** (2 / _SQUARE) for each in (np.cos(angle), np.sin(angle)))
    return across, up


def _mirrored(normals: Double, places: Double, infrared: bool) -> Double:
    """Brightness (n,) of what lenses with unit ``normals`` (n, 3) at ``places`` (n, 3), in the camera's frame, mirror
    towards the camera, times what glass reflects more when seen from aside; a white wall is 1."""
    sight = np.array([0.0, 0.0, CAMERA_DISTANCE]) - places
    sight /= np.linalg.norm(sight, axis=1, keepdims=True)
    along = np.einsum("ni,ni->n", normals, sight)
    from_where = 2.0 * along[:, None] * normals - sight
    up = np.degrees(np.arcsin(np.clip(from_where[:, 1], -1.0, 1.0)))
    aside = np.degrees(np.arctan2(from_where[:, 0], from_where[:, 2]))
    screen = _window(up, 6.0, 30.0) * _window(aside, -50.0, 50.0)
    windows = _window(up, -5.0, 30.0) * (_window(aside, 62.0, 115.0) + _window(aside, -115.0, -62.0))
    lamp = np.exp(-(((1.0 - from_where[:, 2]) / 0.012) ** 2))  # of the camera
    bright = 0.6 + (10.0 * lamp if infrared else 3.5 * screen + 4.5 * windows)
    return np.asarray(bright * (1.0 + 5.0 * (1.0 - np.clip(along, 0.0, 1.0)) ** 3))


def _window(angle: Double, low: float, high: float) -> Double:
    """1 between two angles in degrees, with soft edges."""
    return np.asarray(1.0 / (1.0 + np.exp((low - angle) / 2.0)) / (1.0 + np.exp((angle - high) / 2.0)))
