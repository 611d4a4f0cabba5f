"""Marks in a corner of a played frame: its number, for cameras, and a patch that flips, for photodiodes.

The number is three ArUco markers in a row: thousands, units, and a checksum. OpenCV finds such markers in a filmed
picture, blurred, noisy and seen from the side. The patch beside them is black or white by a sequence that never repeats
within a play, so that a log of its brightness fits one place only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from dmsynth.support.errors import DmsynthError
from dmsynth.video import Image, to_grey

MOST_NUMBERS = 1_000_000
"""Frames that can be told apart: four and a half hours at 60 a second."""
CORNERS = ("bottom-left", "bottom-right", "top-left", "top-right")
KINDS = ("code", "patch", "none")

_MARKER = 7  # cells of a side, its black border included
_PITCH = _MARKER + 1  # from one marker to the next: a white cell between them
_ROWS = _MARKER + 2
_CHECK = 997  # a prime: each wrong digit changes the checksum
_CELLS_A_HEIGHT = 80  # cells of 10 pixels at 800 rows; a blur of a third of a cell can be read
_SMALLEST_CELL = 4  # pixels
_NEAR = 0.35  # of a marker's side: how far the next one may be from where it should be
_SMOOTH = 1.2  # pixels: noise that hides a marker is smoothed for a second look
_PATCHES = 2**20  # of the patch's sequence: more than ``MOST_NUMBERS``


@dataclass(frozen=True)
class Marking:
    """What is drawn into the frames of a play.

    Attributes:
        kind: one of ``KINDS``: number and patch, the patch alone, or nothing.
        corner: one of ``CORNERS``.
    """

    kind: str = "code"
    corner: str = "bottom-left"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise DmsynthError(f"--mark {self.kind}: choose one of {', '.join(KINDS)}")
        if self.corner not in CORNERS:
            raise DmsynthError(f"--corner {self.corner}: choose one of {', '.join(CORNERS)}")

    def check(self, width: int, height: int) -> None:
        """``DmsynthError`` for frames that a mark would cover from side to side."""
        strip = self._strip(0, height)
        if strip is not None and (strip.shape[1] > width or strip.shape[0] > height):
            raise DmsynthError(f"frames of {width}×{height} are too small for a mark; play larger ones, or --mark none")

    def drawn(self, image: Image, number: int) -> Image:
        """A copy of a frame, (h, w) or (h, w, 3) uint8, with its ``number`` in the corner."""
        strip = self._strip(number, image.shape[0])
        if strip is None:
            return image
        marked, (rows, columns) = image.copy(), strip.shape
        vertical, _, horizontal = self.corner.partition("-")
        top = 0 if vertical == "top" else image.shape[0] - rows
        left = 0 if horizontal == "left" else image.shape[1] - columns
        marked[top : top + rows, left : left + columns] = strip if image.ndim == 2 else strip[..., None]
        return marked

    def _strip(self, number: int, height: int) -> Image | None:
        cell = max(_SMALLEST_CELL, round(height / _CELLS_A_HEIGHT))
        patch = np.full((_ROWS, _MARKER + 2), 255, np.uint8)
        patch[1:-1, 1:-1] = 255 * patch_is_white(np.array([number]))
        if self.kind == "none":
            return None
        cells = patch if self.kind == "patch" else np.hstack([_code(number), patch[:, 1:]])
        return cells.repeat(cell, axis=0).repeat(cell, axis=1)


def patch_is_white(numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(n,) whether the patch is white in the frames of these numbers (n,)."""
    return _sequence()[numbers % len(_sequence())]


def read_mark(image: Image) -> int | None:
    """The number in a filmed frame, (h, w) or (h, w, 3) uint8; None if none can be read with certainty.

    The checksum rejects what is misread, and frames in which two numbers are mixed.
    """
    grey = to_grey(image)
    for look in (grey, cv2.GaussianBlur(grey, (0, 0), _SMOOTH)):
        number = _read(look)
        if number is not None:
            return number
    return None


def _read(grey: Image) -> int | None:
    corners, ids, _ = _detector().detectMarkers(grey)
    if ids is None:
        return None
    found = [(int(number), each.reshape(4, 2)) for number, each in zip(ids.ravel(), corners, strict=True)]
    for thousands, first in found:
        for units, second in found:
            for check, third in found:
                number = 1000 * thousands + units
                if check == number % _CHECK and _follows(second, first) and _follows(third, second):
                    return number
    return None


def _follows(marker: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    """Whether a ``marker``, corners (4, 2) clockwise from its own top left, stands to the right of the ``other``."""
    along = (other[1] + other[2] - other[0] - other[3]) / 2
    expected = other.mean(axis=0) + along * _PITCH / _MARKER
    return bool(np.linalg.norm(marker.mean(axis=0) - expected) < _NEAR * np.linalg.norm(along))


def _code(number: int) -> Image:
    """(9, 25) uint8: three markers with a white cell around each."""
    cells = np.full((_ROWS, 3 * _PITCH + 1), 255, np.uint8)
    for place, part in enumerate((number // 1000, number % 1000, number % _CHECK)):
        left = 1 + place * _PITCH
        marker = cv2.aruco.generateImageMarker(_dictionary(), part, _MARKER)
        cells[1:-1, left : left + _MARKER] = marker
    return cells


@cache
def _dictionary() -> cv2.aruco.Dictionary:
    return cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_5X5_1000)


@cache
def _detector() -> cv2.aruco.ArucoDetector:
    return cv2.aruco.ArucoDetector(_dictionary(), cv2.aruco.DetectorParameters())


@cache
def _sequence() -> NDArray[np.bool_]:
    raw = np.asarray(np.random.PCG64(0).random_raw(_PATCHES // 64), dtype="<u8")  # the same with every NumPy (NEP 19)
    return np.unpackbits(raw.view(np.uint8)).astype(bool)
