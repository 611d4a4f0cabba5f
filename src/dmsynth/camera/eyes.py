"""The points of the eyes where a command puts them: irises that look, lids that close.

Anchors know the head; what eyes do in it is geometry, the same by which they were posed (``datasets.eye_posing``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dmsynth.controls import EYES, ControlSpace
from dmsynth.controls.pose import rotation_matrix
from dmsynth.datasets.eye_posing import IRIS_RADIUS, LID_FOLLOWS, LOWER_FOLLOWS, MEET
from dmsynth.trackers.gaze import EYE_OUTLINES, EYEBALL_RADIUS

Float = NDArray[np.float32]
Double = NDArray[np.float64]

_DEEP = float(np.sqrt(EYEBALL_RADIUS**2 - IRIS_RADIUS**2)) / IRIS_RADIUS  # the iris before the eyeball's centre
_AT_REST = (0.0, 0.0, 1.0, 1.0)


def eyes_of(space: ControlSpace, values: Double) -> Double:
    """(n, 4) what ``controls.EYES`` are at commands (n, k); at rest where the space moves no eyes."""
    if not space.moves_eyes:
        return np.tile(_AT_REST, (len(values), 1))
    return np.asarray(values[:, [space.names.index(name) for name in EYES]], np.float64)


def with_eyes(landmarks: Float, rotation: Double, eyes: Double) -> Float:
    """Meshes (n, 478, 3) at rest with irises and lids as told by ``eyes`` (n, 4), of heads with ``rotation``
    (n, 3, 3)."""
    moved = landmarks.copy()
    for mesh, turned, (pitch, yaw, left, right) in zip(moved, rotation, eyes, strict=True):
        facing = (turned @ rotation_matrix(pitch, yaw, 0.0))[:2, 2] - turned[:2, 2]
        for side, opening in (("left", left), ("right", right)):
            _move(mesh, EYE_OUTLINES[side], facing * [1.0, -1.0] * _DEEP, opening)
    return moved


def _move(mesh: Float, outline: dict[str, tuple[int, ...]], facing: Double, opening: float) -> None:
    """Move one eye's points of a mesh in place; ``facing``: the iris's way in its radii."""
    upper, lower, iris = (list(outline[part]) for part in ("upper", "lower", "iris"))
    corner, end = mesh[upper[0], :2].astype(np.float64), mesh[upper[-1], :2].astype(np.float64)
    width = max(float(np.hypot(*(end - corner))), 1e-3)
    along = (end - corner) / width
    down = np.array([-along[1], along[0]])
    way = facing * iris_radius(mesh, iris)
    s_upper, above = _in_eye(mesh[upper, :2], corner, along, down, width)
    s_lower, below = _in_eye(mesh[lower, :2], corner, along, down, width)
    for numbers, s, own, is_upper in ((upper, s_upper, above, True), (lower, s_lower, below, False)):
        other = np.interp(s, s_lower, below) if is_upper else np.interp(s, s_upper, above)
        high, low = (own, other) if is_upper else (other, own)
        bulge = (4 * np.clip(s, 0, 1) * (1 - np.clip(s, 0, 1))) ** 0.7
        high = high + LID_FOLLOWS * float(way @ down) * bulge
        low = np.maximum(low + LOWER_FOLLOWS * float(way @ down) * bulge, high)
        meet = high + MEET * (low - high)
        now = meet + opening * ((high if is_upper else low) - meet)
        mesh[numbers, :2] += ((now - own)[:, None] * down).astype(np.float32)
    mesh[iris, :2] += way.astype(np.float32)


def iris_radius(mesh: Float, iris: list[int]) -> float:
    """In pixels, of a mesh (478, 2 or more); ``iris``: the numbers of its centre and its rim."""
    ring = mesh[iris, :2].astype(np.float64)
    return float(np.hypot(*(ring[1:] - ring[0]).T).max())


def _in_eye(points: Float, corner: Double, along: Double, down: Double, width: float) -> tuple[Any, Any]:
    """Points (m, 2) along the eye, 0 to 1 from corner to corner, and down from the line between them, in pixels."""
    own = points.astype(np.float64) - corner
    return own @ along / width, own @ down


def opening_areas(landmarks: Float) -> Double:
    """Areas (n, 2) in square pixels between the lids of the person's own left and right eye, of meshes (n, 478, 3)."""
    areas = []
    for side in ("left", "right"):
        numbers = [*EYE_OUTLINES[side]["upper"], *EYE_OUTLINES[side]["lower"][::-1]]
        x, y = landmarks[:, numbers, 0].astype(np.float64), landmarks[:, numbers, 1].astype(np.float64)
        areas.append(np.abs((x * np.roll(y, -1, axis=1) - y * np.roll(x, -1, axis=1)).sum(axis=1)) / 2)
    return np.stack(areas, axis=1)
