"""How far the brows are raised: MediaPipe's landmarks of the brows above those of the eyes, in space."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dmsynth.trackers.face import Face
from dmsynth.trackers.gaze import EYE_OUTLINES, MESH_POINTS
from dmsynth.trackers.mouth import eye_distance

BROW_WAY = 0.04
"""Of the distance between the outer corners of the eyes, about 95 mm: how far the landmarks of the brows go up at 1,
and down at -1. Of four people who talk with moving brows they go from -0.037 to 0.041 of it about their median (means
of the 5th and 95th percentiles; ``docs/eyes.md``)."""

TYPICAL_HEIGHT = 0.28  # of that distance: the middle of brows at rest above what is taken for the eyes' height
_BRIDGE = 6  # between the eyes, on the nose
_OF_BRIDGE = 0.4  # of the eyes' height is the bridge's, so that it is as far in front as brows: a pitch moves both
_UPPER_EDGES = (70, 63, 105, 66, 107, 336, 296, 334, 293, 300)
_BROWS = [*EYE_OUTLINES["right"]["brow"], *EYE_OUTLINES["left"]["brow"], *_UPPER_EDGES]
_CORNERS = [EYE_OUTLINES[side]["upper"][end] for side in EYE_OUTLINES for end in (0, -1)]


def brow_columns(face: Face) -> dict[str, float]:
    """``brow_raise`` of a face, named as the control: the mean height of both brows, 0 at ``TYPICAL_HEIGHT``, in steps
    of ``BROW_WAY``. It is not from this person's rest: ``brows_from_rest`` does that. Empty without Face Landmarker's
    mesh."""
    if len(face.landmarks) != MESH_POINTS:
        return {}
    points = face.landmarks.astype(float) * (1, -1, -1)
    eyes = (1 - _OF_BRIDGE) * points[_CORNERS].mean(axis=0) + _OF_BRIDGE * points[_BRIDGE]
    height = float((points[_BROWS].mean(axis=0) - eyes) @ face.rotation[:, 1])
    return {"brow_raise": (height / max(eye_distance(face.landmarks), 1e-6) - TYPICAL_HEIGHT) / BROW_WAY}


def brows_from_rest(raised: NDArray[np.float64], frames: NDArray[np.int64]) -> NDArray[np.float64]:
    """Measured brows (n,) from a person's rest, the median of those ``frames``; -1 to 1."""
    return np.clip(raised - np.median(raised[frames]), -1, 1)
