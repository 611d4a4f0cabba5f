"""A surgical mask: pleated cloth from the bridge of the nose to under the chin, with loops around the ears."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.interpolate import CubicSpline

from dmsynth.camera.things.canvas import Canvas, Scene, shaded, sheet, sheets
from dmsynth.camera.things.head import Double, Head
from dmsynth.datasets.head_shape import CHIN, LEFT_EAR, RIGHT_EAR

# Points of the mesh, the image's left and right: below the cheekbones and at the jaw, where the mask's corners are; on
# the cheeks beside the nose, above and below.
_ABOVE, _JAW = ((123, 137), (352, 366)), ((136, 172), (365, 397))
_BESIDE_EYES, _CHEEKS = (118, 347), (205, 425)
_NOSE_BRIDGE, _NOSE_END, _CHIN_FRONT = 197, 4, 199
_AT = (0.0, 0.36, 0.8, 1.0)  # rows of the net: bridge, tip of the nose, chin, below it
_ROWS, _COLUMNS = 23, 17
_PLEATS, _PLEAT_DEEP = (0.36, 0.5, 0.64, 0.78), 0.22  # where, of the height; centimetres
_TO_EAR = (np.array([0.25, 0.9, -0.7]), np.array([0.15, -1.3, -0.4]))  # from the ear's point: ends of a loop
_LOOP = 0.34  # centimetres wide
_INTO_SKIN = 0.9  # centimetres: what the mesh may be wrong by
_SEAM = 1.12  # times as bright: the folded edges
_SOFT = 0.45  # centimetres: pleats are soft


@dataclass(frozen=True)
class Mask:
    """A surgical mask. ``cloth`` and ``infrared_cloth``: albedo, (3,) and in the near infrared."""

    cloth: tuple[float, float, float] = (0.55, 0.67, 0.73)
    infrared_cloth: float = 0.62
    comes: float = 0.0

    def draw(self, scene: Scene, presence: float) -> None:
        head = scene.head
        grid = _cloth(head)
        corners, normals = sheet(grid)
        albedo = np.full(3, self.infrared_cloth) if scene.infrared else np.array(self.cloth)
        colours = shaded(head.turned(normals), albedo * _SEAMS[:, None], scene.light)
        loops, outwards = sheets([loop for side in (-1, 1) for loop in _loops(scene, grid, side)])
        white = np.full(3, 0.7)
        seen, bands = head.seen(corners), head.seen(loops)
        canvas = Canvas(scene, np.concatenate([seen, bands]).reshape(-1, 3))
        if canvas.outside:
            return
        canvas.facets(bands, shaded(head.turned(outwards), white, scene.light))
        canvas.hide(_INTO_SKIN)  # the cloth lies on the skin: only the loops can be behind it
        canvas.facets(seen, colours)
        canvas.blend(shadow=0.35, soften=_SOFT)


def _cloth(head: Head) -> Double:
    """The mask (rows, columns, 3) in the head's frame."""
    points = head.points
    above, jaw = (np.array([points[list(each)].mean(axis=0) for each in sides]) for sides in (_ABOVE, _JAW))
    out = np.array([0.0, 0.0, 1.0])
    chin = points[_CHIN_FRONT] + 0.5 * out
    middles = [points[_NOSE_BRIDGE] + 0.3 * out, points[_NOSE_END] + 0.35 * out, chin, points[CHIN] - [0.0, 0.5, 0.6]]
    net = np.zeros((len(_AT), 5, 3))
    for row, (at, middle) in enumerate(zip(_AT, middles, strict=True)):
        sides = above + at * (jaw - above)
        net[row, [0, 4]], net[row, 2] = sides, middle
        net[row, [1, 3]] = (sides + middle) / 2 + [[0.0, -0.1, 1.0 - 0.5 * at]]
    net[0, [1, 3]] = points[list(_BESIDE_EYES)] + [0.0, -0.9, 0.35]
    net[1, [1, 3]] = points[list(_CHEEKS)] + [0.0, 0.3, 0.9]
    cloth = np.einsum("rn,ncx,kc->rkx", _DOWN, net, _ACROSS)
    cloth[..., 2] += _FOLDS
    return np.asarray(cloth)


def _loops(scene: Scene, cloth: Double, side: int) -> list[Double]:
    """Grids of the two bands from the mask's corners to the ear, as far as they do not go under hair."""
    ear = scene.head.points[LEFT_EAR if side > 0 else RIGHT_EAR]
    column = -1 if side > 0 else 0
    bands = []
    for corner, end in ((cloth[1, column], _TO_EAR[0]), (cloth[-3, column], _TO_EAR[1])):
        path = corner + np.linspace(0.0, 1.0, 12)[:, None] * (ear + end * [side, 1.0, 1.0] - corner)
        path = path[0] + scene.shown(path, side, 1.0) * (path - path[0]) + [0.1 * side, 0.0, 0.0]
        down = np.array([0.0, _LOOP / 2, 0.0])
        band = np.stack([path + down, path - down])
        bands.append(band if side > 0 else band[:, ::-1])
    return bands


def _spline(at: Double, places: Double) -> Double:
    """The values (places, at) at ``places`` of smooth curves that are 1 at one of ``at`` and 0 at the others."""
    return np.asarray(CubicSpline(at, np.eye(len(at)), bc_type="natural")(places))


def _folds() -> Double:
    """How far pleats lift the cloth (rows, columns): each overlaps the next below it, less towards the sides."""
    down = np.linspace(0.0, 1.0, _ROWS)[:, None]
    lifted = np.zeros_like(down)
    for begin, end in pairwise(_PLEATS):
        share = (down - begin) / (end - begin)
        lifted += _PLEAT_DEEP * np.where((share >= 0) & (share < 1), share - 0.5, 0.0)
    return lifted * (1.0 - np.linspace(-1.0, 1.0, _COLUMNS) ** 4)


_DOWN = _spline(np.array(_AT), np.linspace(0.0, 1.0, _ROWS))
_ACROSS = _spline(np.linspace(-1.0, 1.0, 5), np.linspace(-1.0, 1.0, _COLUMNS))
_FOLDS = _folds()
_SEAMS = np.where(np.pad(np.zeros((_ROWS - 3, _COLUMNS - 3), bool), 1, constant_values=True), _SEAM, 1.0).ravel()
