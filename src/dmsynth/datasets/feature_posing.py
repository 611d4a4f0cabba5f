"""Eyes, mouth and brows of a picture, moved as told: each feature is drawn where it lies, the rest stays as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dmsynth.controls import FEATURES_AT_REST
from dmsynth.datasets.brow_posing import PosedBrows
from dmsynth.datasets.eye_posing import Eyes, PosedEyes
from dmsynth.datasets.mouth_posing import PosedMouth
from dmsynth.trackers.features import FEATURE_POINTS
from dmsynth.trackers.gaze import MESH_POINTS
from dmsynth.trackers.mouth import MOUTH_POINTS, seen_eye_distance

Float = NDArray[np.floating[Any]]


class PosedFeatures:
    """The facial features of a picture.

    image: (H, W, 3) uint8.
    landmarks: (478, 2 or 3) Face Landmarker's points in pixels, or those of ``FEATURE_POINTS`` alone.
    rotation: (3, 3) the head's rotation in the picture, frame x right, y up, z towards the camera.
    colours: of the image, ``rgb`` or ``yuv``.
    own: (6,) what they do in it, in the order of ``controls.FEATURES``, from this person's rest.
    """

    def __init__(
        self,
        image: NDArray[np.uint8],
        landmarks: Float,
        rotation: Float,
        own: Float | None = None,
        colours: str = "rgb",
    ) -> None:
        points = np.full((MESH_POINTS, 2), np.nan)
        points[list(FEATURE_POINTS) if len(landmarks) == len(FEATURE_POINTS) else slice(None)] = landmarks[:, :2]
        self.own = np.array(FEATURES_AT_REST if own is None else own, np.float64)
        pitch, yaw, *_ = map(float, self.own)
        self.eyes = PosedEyes(image, points, rotation, (pitch, yaw))
        apart = seen_eye_distance(points, rotation)
        self.mouth = PosedMouth(image, points[list(MOUTH_POINTS)], rotation, apart, colours)
        self.brows = PosedBrows(image, points, rotation, colours)

    def moved(self, wanted: Float) -> Float:
        """(6,): how far the ``wanted`` features are from what the picture shows. A mouth only opens further."""
        away = wanted - self.own
        away[4] = max(away[4], 0.0)
        return np.asarray(away)

    def paint(self, image: NDArray[np.uint8], wanted: Float) -> None:
        """Draw the features as ``wanted`` (6,), in the order of ``controls.FEATURES``, into the picture ``image``
        (H, W, 3 or more) uint8, in place."""
        *eyes, mouth, brows = map(float, wanted)
        self.eyes.paint(image, Eyes(*eyes).posed_from(*map(float, self.own[2:4])))
        self.mouth.paint(image, mouth - float(self.own[4]))
        self.brows.paint(image, brows - float(self.own[5]))  # last: lids go along
