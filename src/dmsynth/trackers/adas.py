"""Intel's head pose network for cars as a tracker: a judge that shares no training with MediaPipe's or openpilot's.

The network is ``head-pose-estimation-adas-0001`` of Open Model Zoo (``open_model_zoo.py`` says where its files are
looked for). Faces are found by ``finder.py``, which gives only the place.

**Crop.** The network takes a square of the face from forehead to chin. One crop gives angles that jump by some degrees
with a crop a little larger or higher. So the mean is taken over three sizes, and over each crop's mirror image with
yaw and roll reversed. On 120 posed frames this raises the correlation with the command from 0.94 / 0.96 / 0.97
(pitch, yaw, roll) to 0.97 / 0.97 / 0.99.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dmsynth.controls.pose import rotation_matrix
from dmsynth.trackers.face import Face
from dmsynth.trackers.finder import Box, FaceFinder
from dmsynth.trackers.open_model_zoo import SIDE, Network, cut_square
from dmsynth.video import Image

HEAD_POSE = Network(
    "head-pose-estimation-adas-0001",
    {"data": (1, 3, SIDE, SIDE)},
    {"angle_r_fc": (1, 1), "angle_p_fc": (1, 1), "angle_y_fc": (1, 1)},
)
NEUTRAL = (2.3, 1.0, 0.7)
"""Its answer (pitch, yaw, roll; degrees) at (0, 0, 0) in our convention: the intercept against the exact command on
300 posed frames of the embedded portrait (``docs/judges.md``). It is subtracted."""

_SIZES = (1.3, 1.45, 1.6)  # of the crop, in widths of the finder's box
_RISE = 0.08  # of the crop's centre over the box's, in heights of the box, which ends at the brows


class Adas:
    """The network on single images, grey or colour, of any size. It gives no landmarks, expression or reports."""

    def __init__(self, model: Path | None = None) -> None:
        """``model`` is the ``.xml`` or its folder. Raises ``DmsynthError`` as ``Network.open`` does."""
        self._network = HEAD_POSE.open(model)
        self.name = f"{HEAD_POSE.name} ({self._network.sha256[:8]})"
        self._find = FaceFinder()

    def __call__(self, image: Image) -> list[Face]:
        return [self._measure(image, box) for box in self._find(image)]

    def _measure(self, image: Image, box: Box) -> Face:
        left, top, right, bottom = box
        centre = np.array([(left + right) / 2, (top + bottom) / 2 - _RISE * (bottom - top)])
        answers = []
        for size in _SIZES:
            crop = cut_square(image, centre, size * (right - left))
            answers += [self._run(crop), self._run(crop[..., ::-1]) * (1, -1, -1)]
        pitch, yaw, roll = np.mean(answers, axis=0) - NEUTRAL
        return Face(rotation_matrix(pitch, yaw, roll), box, np.empty((0, 3), np.float32))

    def _run(self, crop: NDArray[np.float32]) -> NDArray[np.float64]:
        """Pitch, yaw, roll in our convention. The network's pitch is positive downwards; the others are as ours."""
        answer = self._network(data=np.ascontiguousarray(crop))
        return np.array([-answer["angle_p_fc"][0], answer["angle_y_fc"][0], answer["angle_r_fc"][0]])
