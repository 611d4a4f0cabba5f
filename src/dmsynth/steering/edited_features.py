"""Eyes, mouth and brows of a recorded frame, moved: its own pixels, at their own size (``datasets.feature_posing``)."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from dmsynth.controls import BOTH_EYES, BROWS, CONTROL_SPACES, EYES, EYES_RANGE, FEATURES, MOUTH
from dmsynth.datasets.feature_posing import PosedFeatures
from dmsynth.motion.trajectory import Trajectory
from dmsynth.support.errors import DmsynthError
from dmsynth.trackers import Face, face_columns
from dmsynth.trackers.gaze import MESH_POINTS

_GAZE, _LIDS = EYES[:2], EYES[2:]


def features_of(trajectory: Trajectory) -> Trajectory | None:
    """What a trajectory says of eyes, mouth and brows: those of ``FEATURES`` that it commands; None if it leaves them
    alone.

    Raises ``DmsynthError`` for values out of their range.
    """
    told = {*trajectory.names} & set(FEATURES)
    if BOTH_EYES in trajectory.names:
        told |= set(_LIDS)
    if not told:
        return None
    space = CONTROL_SPACES["driver"]
    whole = trajectory.in_space(space)
    space.check(whole.values)
    return whole.only([name for name in FEATURES if name in told])


def looks_natural(eyes: dict[str, float]) -> bool:
    """Whether posed eyes look natural with this gaze (``controls.EYES_RANGE``)."""
    return all(abs(eyes.get(name, 0.0)) <= most for name, most in zip(_GAZE, EYES_RANGE, strict=True))


def paint_features(
    planes: Sequence[NDArray[np.float32]], face: Face, told: dict[str, float], turn: float, fade: float, where: str
) -> dict[str, float]:
    """Move eyes, mouth and brows in a frame's luma and its two chromas of half the size, in place.

    Args:
        face: in pixels of the luma.
        told: ``gaze_pitch``, ``gaze_yaw`` in the head, in degrees as the tracker measures them; lids as factors of the
            recorded opening; ``mouth_opening`` and ``brow_raise`` on top of the recorded ones. What is not told stays
            as recorded.
        turn: how much of the way from the recorded eyes to these, 0 to 1.
        fade: how much of the picture is the new one's, 0 to 1.

    Returns:
        What they do now: gaze in degrees, lids as factors, mouth and brows on top of what was recorded.

    Raises:
        DmsynthError: the tracker gives no irises.
    """
    if len(face.landmarks) != MESH_POINTS:
        raise DmsynthError(f"{where}: the tracker gives no landmarks of the eyes; use --tracker auto")
    own = face_columns(face)
    at_rest = {name: own[name] for name in _GAZE} | dict.fromkeys(_LIDS, 1.0) | {MOUTH: 0.0, BROWS: 0.0}
    now = {name: rest + turn * (told.get(name, rest) - rest) for name, rest in at_rest.items()}
    height, width = planes[0].shape
    whole = np.dstack([planes[0], *(cv2.resize(plane, (width, height)) for plane in planes[1:])])
    pixels = np.clip(np.rint(whole), 0, 255).astype(np.uint8)
    recorded = np.array([own["gaze_pitch"], own["gaze_yaw"], 1.0, 1.0, 0.0, 0.0])
    posed = PosedFeatures(pixels, face.landmarks, face.rotation, recorded, "yuv")
    posed.paint(pixels, np.array([now[name] for name in FEATURES]))
    moved = (posed.eyes.boxes, {*told} & {*EYES}), (posed.mouth.boxes, now[MOUTH] > 0), (posed.brows.boxes, now[BROWS])
    within = np.zeros((height, width), bool)
    for rows, columns in (box for boxes, moves in moved if moves for box in boxes):
        # chroma has half the size, so a box begins and ends at even pixels
        within[_even(rows, height), _even(columns, width)] = True
    for number, plane in enumerate(planes):
        new, at = pixels[..., number].astype(np.float32), within
        if number:
            new, at = cv2.resize(new, (width // 2, height // 2), interpolation=cv2.INTER_AREA), within[::2, ::2]
        plane[at] += fade * (new[at] - plane[at])
    return now


def _even(part: slice, end: int) -> slice:
    return slice(part.start // 2 * 2, min((part.stop + 1) // 2 * 2, end))
