"""Template matching: locates a known face in an image, to judge the position models.

It uses pixels only, never a network's own outputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dmsynth.video import Image


@dataclass(frozen=True)
class FaceTemplate:
    """A picture of the face and the position of its centre.

    Attributes:
        picture: (h, w) float32, grey.
        centre: x, y of the face's centre from the picture's top left corner, in pixels.
    """

    picture: NDArray[np.float32]
    centre: tuple[float, float]

    @staticmethod
    def of(frame: Image, centre: tuple[float, float], face: tuple[float, float]) -> FaceTemplate:
        """Cut the template out of a frame (h, w) whose face of width × height ``face`` is centred at ``centre``."""
        left, top = int(centre[0] - face[0] / 2), int(centre[1] - face[1] / 2)
        right, bottom = int(np.ceil(centre[0] + face[0] / 2)), int(np.ceil(centre[1] + face[1] / 2))
        picture = frame[top:bottom, left:right].astype(np.float32)
        return FaceTemplate(picture, (centre[0] - left, centre[1] - top))

    def locate(self, image: Image) -> tuple[float, float]:
        """x, y of the face's centre in a grey image (h, w) uint8, in pixels from the top left corner.

        Normalized cross-correlation, with sub-pixel refinement by a parabola through the peak's neighbours. A uniform
        image gives NaN.
        """
        if np.ptp(image) == 0:
            return float("nan"), float("nan")
        match = cv2.matchTemplate(image.astype(np.float32), self.picture, cv2.TM_CCOEFF_NORMED)
        match[~np.isfinite(match)] = -1  # where the image is flat
        row, column = np.unravel_index(int(match.argmax()), match.shape)
        x = column + _peak(match[row], int(column)) + self.centre[0]
        y = row + _peak(match[:, column], int(row)) + self.centre[1]
        return float(x), float(y)


def _peak(values: NDArray[np.float32], index: int) -> float:
    """Offset (-0.5 to 0.5) of the top of the parabola through ``values`` (n,) at ``index`` and its neighbours."""
    if not 0 < index < len(values) - 1:
        return 0.0
    before, at, after = (float(value) for value in values[index - 1 : index + 2])
    bend = before - 2 * at + after
    return 0.5 * (before - after) / bend if bend < 0 else 0.0
