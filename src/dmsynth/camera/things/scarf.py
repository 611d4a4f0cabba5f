"""A scarf: wound around the neck, up to the chin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dmsynth.camera.things.canvas import Canvas, Scene, shaded, sheet
from dmsynth.camera.things.head import Double
from dmsynth.datasets.head_shape import CHIN

_FOLLOWS = 0.35  # of the head's turn: a scarf hangs on the neck
_NECK = np.array([0.0, -6.0, -2.0])  # centimetres from between the ears: where it turns about
# Centimetres from the neck's axis: the upper rim and the lower one, aside and before.
_UPPER, _LOWER = (7.8, 1.4), (9.6, 1.2)  # … of which the second is added to the chin's distance
_OVER_CHIN, _HIGH = 0.7, 10.0  # the rim above the chin, and the height of the whole
_FALLS = 2.2  # the rim at the back below that in front
_WINDINGS, _SLANT = 2.6, 0.35  # of the cloth over its height; how much they go down to the image's right, in windings
_BULGE = 1.1  # of a winding
_WRINKLES = ((9, 0.22, 0.4), (14, 0.16, 2.1), (31, 0.07, 4.4))  # around: number, depth, phase
_ROWS, _COLUMNS = 25, 35
_CREASE = 0.4  # of the light reaches the crease between windings
_STRIPE = 0.93  # of the brightness: the knit
_SOFT = 0.35


@dataclass(frozen=True)
class Scarf:
    """A scarf. ``cloth`` and ``infrared_cloth``: albedo, (3,) and in the near infrared."""

    cloth: tuple[float, float, float] = (0.5, 0.14, 0.12)
    infrared_cloth: float = 0.55
    comes: float = 0.0

    def draw(self, scene: Scene, presence: float) -> None:
        head = scene.head
        rotation = head.partly(_FOLLOWS)
        pivot = head.turned(_NECK)
        chin = (head.turned(head.points[CHIN]) - pivot) @ rotation
        grid, lit = _windings(chin)
        corners, normals = sheet(grid)
        seen = head.project(pivot + corners @ rotation.T)
        canvas = Canvas(scene, seen.reshape(-1, 3))
        if canvas.outside:
            return
        albedo = np.full(3, self.infrared_cloth) if scene.infrared else np.array(self.cloth)
        canvas.facets(seen, shaded(normals @ rotation.T, albedo * lit[:, None], scene.light), inside=True)
        canvas.blend(shadow=0.45, soften=_SOFT)


def _windings(chin: Double) -> tuple[Double, Double]:
    """Grid (rows, columns, 3) of the cloth around the neck, from its upper rim down, for a ``chin`` (3,) there; and how
    much light reaches its facets (n,)."""
    around = np.linspace(-2.1, 2.1, _COLUMNS)[None]  # radians from the front
    down = np.linspace(0.0, 1.0, _ROWS)[:, None]
    phase = np.pi * (_WINDINGS * down + _SLANT * around)
    ridge = np.abs(np.sin(phase))
    wrinkled = sum(deep * np.sin(number * around + 5.0 * down + 1.5 * phase + at) for number, deep, at in _WRINKLES)
    rolled = -1.6 * np.clip(1.0 - down / 0.12, 0.0, 1.0) ** 2  # the rim turns in
    out = _BULGE * ridge**0.7 + ridge * wrinkled + rolled
    aside = _UPPER[0] + down * (_LOWER[0] - _UPPER[0]) + out
    before = float(chin[2]) + _UPPER[1] + down * (_LOWER[1] - _UPPER[1]) + out
    rim = chin[1] + _OVER_CHIN - _FALLS * (1.0 - np.cos(around)) / 2
    height = rim - _HIGH * (down - 0.04 * np.clip(1.0 - down / 0.12, 0.0, 1.0))
    grid = np.stack(np.broadcast_arrays(aside * np.sin(around), height, before * np.cos(around)), axis=-1)
    lit = (_CREASE + (1.0 - _CREASE) * ridge**0.6) * np.where(np.arange(_COLUMNS) % 2, _STRIPE, 1.0)
    return grid, np.broadcast_to(lit, grid.shape[:2])[:-1, :-1].ravel()
