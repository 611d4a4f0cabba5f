"""Facial features that move, measured from landmarks: eyes (``gaze``), mouth (``mouth``) and brows (``brows``)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dmsynth.trackers.brows import brow_columns, brows_from_rest
from dmsynth.trackers.face import Face
from dmsynth.trackers.gaze import EYE_POINTS, eye_columns
from dmsynth.trackers.gaze import from_rest as eyes_from_rest
from dmsynth.trackers.mouth import MOUTH_POINTS, mouth_columns, mouth_from_rest

FEATURE_POINTS = tuple(sorted({*EYE_POINTS, *MOUTH_POINTS}))
"""The points of Face Landmarker's mesh that are needed to pose eyes, mouth and brows."""


def feature_columns(face: Face) -> dict[str, float]:
    """Gaze, lids, mouth and brows of a face by its landmarks, named as the controls; none is from this person's rest.
    Empty without Face Landmarker's mesh."""
    return eye_columns(face) | mouth_columns(face) | brow_columns(face)


def features_from_rest(measured: NDArray[np.float64], frames: NDArray[np.int64]) -> NDArray[np.float64]:
    """Measured features (n, 6), in the order of ``controls.FEATURES``, from a person's rest in those ``frames``."""
    mouth, brows = mouth_from_rest(measured[:, 4], frames), brows_from_rest(measured[:, 5], frames)
    return np.column_stack([eyes_from_rest(measured[:, :4], frames), mouth, brows])
