"""A cap: a crown over head and hair, down to above the brows, and a visor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dmsynth.camera.things.canvas import Canvas, Scene, shaded, sheet
from dmsynth.camera.things.head import Double, Head

_FOREHEAD, _BROWS = 10, 9  # of the mesh: below the hair, and between the brows
_EDGE = 0.6  # of the way from the brows to there: the cap's edge in front
# Centimetres of a head 14.5 wide between the ears.
_BEFORE = 0.8  # the edge before the forehead
_HALF_WIDE, _LONG = 9.3, 22.5  # with hair
_LOWER_BEHIND = 4.0  # the edge behind, below that in front
_HIGH = 11.3  # of the crown above its edge
_FULL = 2.5  # exponent of the crown's profile: 2 is an ellipse
_VISOR, _DROPS, _BENDS = 6.5, 1.6, 1.8  # the visor's length, how much lower its end is, and its sides
_THICK = 0.3
_SEWN_ON = np.radians(58.0)  # either way of the front
_ROWS, _COLUMNS, _VISOR_ROWS, _VISOR_COLUMNS = 13, 49, 5, 25
_PANELS, _SEAM = 6, 0.82  # around the crown, and how dark the seams between them are
_VISOR_LIT = 0.8  # of the crown's albedo: seen at its seam
_UNDER = 0.5  # of the light reaches the visor's lower side
_SOFT = 0.7


@dataclass(frozen=True)
class Cap:
    """A cap. ``cloth`` and ``infrared_cloth``: albedo, (3,) and in the near infrared."""

    cloth: tuple[float, float, float] = (0.1, 0.13, 0.24)
    infrared_cloth: float = 0.4  # most dark dyes are bright there
    comes: float = 0.0

    def draw(self, scene: Scene, presence: float) -> None:
        head = scene.head
        albedo = np.full(3, self.infrared_cloth) if scene.infrared else np.array(self.cloth)
        self._sew(scene, sheet(_crown(head)), albedo * _SEAMS[:, None])
        upper = _visor(head)
        lower = upper - [0.0, _THICK, 0.0]
        parts = [sheet(grid) for grid in (upper, lower[::-1], np.stack([upper[-1], lower[-1]]))]
        lit = np.repeat([_VISOR_LIT, _VISOR_LIT * _UNDER, 1.0], [len(part[0]) for part in parts])
        corners, normals = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
        self._sew(scene, (corners, normals), albedo * lit[:, None])

    def _sew(self, scene: Scene, part: tuple[Double, Double], albedo: Double) -> None:
        corners, normals = part
        seen = scene.head.seen(corners)
        canvas = Canvas(scene, seen.reshape(-1, 3))
        if not canvas.outside:
            canvas.facets(seen, shaded(scene.head.turned(normals), albedo, scene.light, 0.03))
            canvas.blend(shadow=0.4, soften=_SOFT)


def _edge(head: Head, angle: Double) -> Double:
    """The crown's edge (..., 3) at angles from the front, to the image's right, in the head's frame."""
    front = head.points[_BROWS] + _EDGE * (head.points[_FOREHEAD] - head.points[_BROWS])
    y = front[1] - _LOWER_BEHIND / 2 * (1.0 - np.cos(angle))
    z = front[2] + _BEFORE - _LONG / 2 * (1.0 - np.cos(angle))
    return np.stack([_HALF_WIDE * np.sin(angle), y, z], axis=-1)


def _crown(head: Head) -> Double:
    """Grid (rows, columns, 3) from the top to the edge."""
    edge = _edge(head, np.linspace(-np.pi, np.pi, _COLUMNS))
    axis = edge[::2].mean(axis=0)
    down = np.linspace(0.0, np.pi / 2, _ROWS)[:, None, None]
    out, up = np.sin(down) ** (2 / _FULL), np.cos(down) ** (2 / _FULL)
    return np.asarray(axis + out * (edge - axis) + up * [0.0, _HIGH, 0.0])


def _visor(head: Head) -> Double:
    """Grid (rows, columns, 3) of its upper side, from the crown to its end."""
    angle = np.linspace(-_SEWN_ON, _SEWN_ON, _VISOR_COLUMNS)
    sewn, share = _edge(head, angle), np.linspace(0.0, 1.0, _VISOR_ROWS)[:, None]
    aside = np.sin(angle) / np.sin(_SEWN_ON)
    reach = _VISOR * np.sqrt(np.maximum(1.0 - aside**2, 0.0)) ** 0.8
    ahead = np.stack([0.06 * _VISOR * aside, -_DROPS * reach / _VISOR, reach], axis=-1)
    bent = np.stack([np.zeros_like(aside), -_BENDS * aside**2 * reach / _VISOR, np.zeros_like(aside)], axis=-1)
    return np.asarray(sewn + share[..., None] * ahead + np.sqrt(share)[..., None] * bent)


_SEAMS = np.tile(np.where(np.arange(_COLUMNS - 1) % ((_COLUMNS - 1) // _PANELS) == 0, _SEAM, 1.0), _ROWS - 1)
