"""Where the drawn frame lies in the camera's: one scale and one shift, from lens, distance and place.

Frames are worked on as large as they were drawn, on a *canvas* in the shape of the sensor's frame; only the sensor's
grid, with its noise, is finer.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dmsynth.camera import Camera
from dmsynth.camera.surface import OVAL
from dmsynth.datasets.head_shape import EAR_TO_EAR, LEFT_EAR, RIGHT_EAR
from dmsynth.support.errors import DmsynthError
from dmsynth.video import Image

Float = NDArray[np.float32]
Double = NDArray[np.float64]

_HALF = np.array([0.5, 0.5, 0.0], np.float32)  # pixels' centres are at whole numbers
_FADES = 0.08  # of the frame's width
_SMALLEST = 24  # pixels of a face's height: less cannot be told apart


@dataclass(frozen=True)
class View:
    """A drawn frame in a camera's.

    Attributes:
        size: width and height of the canvas.
        sensor: of the camera's frames.
        drawn: of the drawn frame on the canvas, and ``corner``: its left upper pixel there.
        shrink: canvas pixels per drawn pixel, at most 1.
    """

    size: tuple[int, int]
    sensor: tuple[int, int]
    drawn: tuple[int, int]
    corner: tuple[int, int]
    shrink: float

    @staticmethod
    def of(camera: Camera, drawn: tuple[int, int], rest: Float) -> View:
        """Of drawn frames of a size (width, height) in which the resting face has the mesh ``rest`` (478, 3).

        Raises ``DmsynthError`` for a face that would be too small to be seen.
        """
        width, height = camera.size
        wanted = camera.focal_length / (100 * camera.place.distance)  # pixels per centimetre
        ears = rest[[RIGHT_EAR, LEFT_EAR]].astype(np.float64)
        scale = wanted * EAR_TO_EAR / max(float(np.linalg.norm(ears[1] - ears[0])), 1e-6)  # sensor's pixels per drawn
        oval = rest[list(OVAL), :2].astype(np.float64)
        if scale * np.ptp(oval[:, 1]) < _SMALLEST:
            raise DmsynthError(
                f"--camera {camera.name}: the face would be {scale * np.ptp(oval[:, 1]):.0f} pixels high; give a "
                "smaller field_of_view, a smaller distance or more pixels"
            )
        shrink, canvas = min(1.0, scale), min(1.0, 1 / scale)
        size = (max(16, round(width * canvas)), max(16, round(height * canvas)))
        on_canvas = (max(2, round(drawn[0] * shrink)), max(2, round(drawn[1] * shrink)))
        centre = oval.mean(axis=0) * shrink
        left = round(camera.place.x * size[0] - centre[0])
        top = max(round(camera.place.y * size[1] - centre[1]), size[1] - on_canvas[1])
        return View(size, (width, height), on_canvas, (left, top), shrink)

    @property
    def scale(self) -> float:
        """Canvas pixels per pixel of the sensor."""
        return self.size[0] / self.sensor[0]

    def placed(self, image: Image) -> Image:
        """A drawn image (h, w) or (h, w, 3) on the canvas, its edges drawn out to fill it."""
        if self.shrink < 1:
            image = cv2.resize(image, self.drawn, interpolation=cv2.INTER_AREA)
        (left, top), (width, height) = self.corner, self.size
        cut = image[max(0, -top) : height - top, max(0, -left) : width - left]
        below, right = height - max(0, top) - cut.shape[0], width - max(0, left) - cut.shape[1]
        return cv2.copyMakeBorder(cut, max(0, top), max(0, below), max(0, left), max(0, right), cv2.BORDER_REPLICATE)

    def faded(self, matte: Image) -> Float:
        """A matte (h, w) uint8 of a drawn image on the canvas, as a share: beside the drawn frame it fades out."""
        x = np.arange(self.size[0], dtype=np.float32) - self.corner[0]
        beside = np.maximum(-x, x - (self.drawn[0] - 1)) / np.float32(_FADES * self.size[0])
        return np.asarray(self.placed(matte) * (np.clip(1 - beside, 0, 1) / np.float32(255)), np.float32)

    def on_canvas(self, landmarks: Float) -> Float:
        """Drawn pixels (..., 3), z in the scale of x, as the canvas's."""
        scaled = (landmarks + _HALF) * self.shrink - _HALF
        return np.asarray(scaled + np.array([*self.corner, 0.0]), np.float32)

    def in_camera(self, landmarks: Float) -> Float:
        """The canvas's pixels (..., 3) as the sensor's."""
        across, down = (a / b for a, b in zip(self.sensor, self.size, strict=True))
        return np.asarray((landmarks + _HALF) * np.array([across, down, across]) - _HALF, np.float32)
