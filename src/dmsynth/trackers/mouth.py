"""How far the mouth is open: MediaPipe's landmarks of the lips, in space."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dmsynth.trackers.face import Face
from dmsynth.trackers.gaze import EYE_OUTLINES, MESH_POINTS

WIDE_OPEN = 0.4
"""Of the distance between the outer corners of the eyes, about 95 mm: how far the lips of a yawn are apart. The mouth's
opening is 1 there."""

# points of the mesh, from the image's left to its right
UPPER_LIP = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
LOWER_LIP = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
LOWER_RIM = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291)
JAW = (58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288)
CHIN, NOSE = 152, 2

MOUTH_POINTS = tuple(sorted({*UPPER_LIP, *LOWER_LIP, *LOWER_RIM, *JAW, NOSE}))
"""The points of the mesh that are needed to pose a mouth."""

_CLOSED = 0.2  # of a person's frames are no less shut: a driver talks part of the time
_OUTER_CORNERS = [EYE_OUTLINES["right"]["upper"][0], EYE_OUTLINES["left"]["upper"][-1]]
_MIDDLE = [UPPER_LIP[5], LOWER_LIP[5]]


def eye_distance(landmarks: NDArray[np.floating]) -> float:
    """Between the outer corners of the eyes, of the mesh (478, 3) in pixels, in space."""
    return float(np.linalg.norm(np.diff(np.asarray(landmarks, np.float64)[_OUTER_CORNERS], axis=0)))


def mouth_columns(face: Face) -> dict[str, float]:
    """``mouth_opening`` of a face, named as the control: the distance of the lips, 1 at ``WIDE_OPEN``. Lips that touch
    are at 0.00 to 0.03, a smile with teeth at 0.2. It is not from this person's rest: ``mouth_from_rest`` does that.
    Empty without Face Landmarker's mesh."""
    if len(face.landmarks) != MESH_POINTS:
        return {}
    gap = np.linalg.norm(np.diff(face.landmarks[_MIDDLE].astype(float), axis=0))
    return {"mouth_opening": float(gap / max(WIDE_OPEN * eye_distance(face.landmarks), 1e-6))}


def mouth_from_rest(openings: NDArray[np.float64], frames: NDArray[np.int64]) -> NDArray[np.float64]:
    """Measured openings (n,) from a person's rest in those ``frames``, 0 to 1."""
    return np.clip(openings - np.quantile(openings[frames], _CLOSED), 0, 1)


def seen_eye_distance(points: NDArray[np.floating], rotation: NDArray[np.floating]) -> float:
    """``eye_distance`` of a mesh without depth (478, 2), of a head with that rotation (3, 3)."""
    flat = float(np.hypot(*np.diff(np.asarray(points, np.float64)[_OUTER_CORNERS], axis=0)[0]))
    return flat / max(float(np.hypot(*rotation[:2, 0])), 0.3)
