"""Face detection: the detector inside Face Landmarker's model, which gives trackers the place of a face."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from dmsynth.trackers.face_model import MODEL
from dmsynth.trackers.quiet import close_with_owner, explained_import_errors, first_face, quiet
from dmsynth.video import Image, to_rgb

Box = tuple[float, float, float, float]
_MOST = 2
_SURE = 0.5  # the detector's own default
_SMALLEST_TILE = 64  # pixels
_SURE_IN_SMALL_TILES = 0.7  # hands and seats reach 0.77 there, but no landmarks are found on them


class FaceFinder:
    """Bounding boxes of at most two faces, the highest score first.

    The detector scales the picture to 128×128 and so misses a driver in a wide cabin view. If it finds no face in the
    whole picture, it searches square tiles of the picture's height, then of half of it, overlapping by half; told to
    look closely, then also of a quarter.
    """

    def __init__(self) -> None:
        with zipfile.ZipFile(MODEL.find()) as parts:
            network = parts.read("face_detector.tflite")
        with quiet(), explained_import_errors():
            from mediapipe.tasks import python as tasks
            from mediapipe.tasks.python import vision

            options = vision.FaceDetectorOptions(
                base_options=tasks.BaseOptions(model_asset_buffer=network), min_detection_confidence=_SURE
            )
            self._detector = vision.FaceDetector.create_from_options(options)
            close_with_owner(self, self._detector)
            self(first_face())

    def __call__(self, image: Image, closely: bool = False) -> list[Box]:
        """Left, top, right, bottom in pixels, from the brows to the chin and about as wide as the face."""
        rgb = np.ascontiguousarray(to_rgb(image))
        found = self._detect(rgb, 0, 0)
        side = min(rgb.shape[:2])
        while not found and side >= max(_SMALLEST_TILE, min(rgb.shape[:2]) // 2):
            found = [box for x, y, tile in _tiles(rgb, side) for box in self._detect(tile, x, y)]
            side //= 2
        if closely and not found:
            tiles = _tiles(rgb, max(_SMALLEST_TILE, side))
            found = [box for x, y, tile in tiles for box in self._detect(tile, x, y) if box[0] > _SURE_IN_SMALL_TILES]
        clearest: list[Box] = []
        for _, box in sorted(found, reverse=True):
            if not any(same_face(box, kept) for kept in clearest):
                clearest.append(box)
        return clearest[:_MOST]

    def _detect(self, rgb: NDArray[np.uint8], x: int, y: int) -> list[tuple[float, Box]]:
        """Score and box of each face in a tile whose top left corner is at ``x``, ``y``."""
        import mediapipe

        found = []
        for detection in self._detector.detect(mediapipe.Image(mediapipe.ImageFormat.SRGB, rgb)).detections:
            box = detection.bounding_box
            left, top = float(x + box.origin_x), float(y + box.origin_y)
            found.append((float(detection.categories[0].score), (left, top, left + box.width, top + box.height)))
        return found


def _tiles(rgb: NDArray[np.uint8], side: int) -> Iterator[tuple[int, int, NDArray[np.uint8]]]:
    """x, y and content of square tiles that cover the picture, with at least 50 % overlap."""
    height, width = rgb.shape[:2]

    def starts(length: int) -> list[int]:
        return [round(s) for s in np.linspace(0, length - side, math.ceil((length - side) / (side / 2)) + 1)]

    for y in starts(height):
        for x in starts(width):
            yield x, y, np.ascontiguousarray(rgb[y : y + side, x : x + side])


def same_face(a: Box, b: Box) -> bool:
    """Whether two boxes belong to the same face: the centre of one lies in the other."""

    def holds(outer: Box, inner: Box) -> bool:
        x, y = (inner[0] + inner[2]) / 2, (inner[1] + inner[3]) / 2
        return outer[0] < x < outer[2] and outer[1] < y < outer[3]

    return holds(a, b) or holds(b, a)
