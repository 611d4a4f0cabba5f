"""Whether something covers mouth and nose: a mask, under which Face Landmarker still finds a face, but not its pitch.

Lips, teeth and the dark line between them are seen in any light, as eyes are; a mask has next to nothing in their
place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dmsynth.trackers.features import FEATURE_POINTS
from dmsynth.trackers.gaze import EYE_OUTLINES, MESH_POINTS
from dmsynth.trackers.mouth import LOWER_RIM, UPPER_LIP
from dmsynth.video import Image, to_grey

Float = NDArray[np.floating[Any]]

_LIPS = [*UPPER_LIP, *LOWER_RIM]
_WORKED = 150  # pixels: the height to which every face is scaled
_SMALL = 45  # pixels: a smaller face has no lips to be seen
_FINE, _LARGE = 1.2, 8.0  # of those pixels: details are wider than noise, and narrower than light and shade
_DARK = 0.06  # of the face's level: darker is the same
_WHITE = 240  # code from which skin is overexposed, and shows nothing either
_AROUND = 1.3  # times the outline of lips and eyes
_EYES = 0.15  # contrast of eyes at least: sunglasses have less
_NOTHING = 1 / 3  # of the eyes' contrast: masks that we drew have up to 0.26, faces without one 0.49 and more (docs)
_FEWEST = 12  # frames that tell


def is_covered(frames: Sequence[Image], labels: Sequence[Mapping[str, Any]]) -> bool:
    """Whether mouth and nose are covered in most of the ``frames`` of a dataset, of these ``labels``.

    Frames without Face Landmarker's mesh, and faces that are small or overexposed, do not count; of fewer than a dozen
    others it is not told. A hand or a cup that comes and goes is no matter.
    """
    shares = [
        share
        for image, label in zip(frames, labels, strict=True)
        if "feature_landmarks" in label and (share := mouth_contrast(image, label)) is not None
    ]
    return len(shares) >= _FEWEST and float(np.median(shares)) < _NOTHING


def mouth_contrast(image: Image, label: Mapping[str, Any]) -> float | None:
    """How much there is to be seen of a mouth, in terms of the eyes; None if the face is too small or overexposed.

    ``label``: of the frame ``image``, with ``feature_landmarks`` and the face's box (``trackers.face_labels``).
    """
    height = float(label["tracked_bottom"] - label["tracked_top"])
    if height < _SMALL:
        return None
    points = np.full((MESH_POINTS, 2), np.nan, np.float32)
    points[list(FEATURE_POINTS)] = np.reshape(label["feature_landmarks"], (-1, 2))
    factor, box = _WORKED / height, [float(label[f"tracked_{edge}"]) for edge in ("left", "top", "right", "bottom")]
    left, top = max(0, int(box[0])), max(0, int(box[1]))
    face = to_grey(image)[top : int(box[3]) + 1, left : int(box[2]) + 1]
    scaled = cv2.resize(face, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA if factor < 1 else 1)
    points = (points - np.array([left, top], np.float32)) * np.float32(factor)
    if np.median(_inside(scaled, points[_LIPS])) > _WHITE:
        return None
    level = np.float32(max(float(np.median(scaled)), 1.0))
    light = np.log(cv2.GaussianBlur(scaled.astype(np.float32), (0, 0), _FINE) / level + np.float32(_DARK))
    details = np.asarray(light - cv2.GaussianBlur(light, (0, 0), _LARGE))
    eyes = max(float(_inside(details, points[[*eye["upper"], *eye["lower"]]]).std()) for eye in EYE_OUTLINES.values())
    return float(_inside(details, points[_LIPS]).std()) / max(eyes, _EYES)


def _inside(values: Float, outline: Float) -> Float:
    """The values (h, w) on and around an outline (n, 2), (m,); a 0 where there is none."""
    middle, mask = outline.mean(axis=0), np.zeros(values.shape, np.uint8)
    around = np.rint(middle + _AROUND * (outline - middle)).astype(np.int32)
    cv2.fillConvexPoly(mask, cv2.convexHull(around), 1)
    found = values[mask > 0]
    return found if len(found) else np.zeros(1, np.float32)
