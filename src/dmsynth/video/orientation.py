"""Which way up a picture is stored: one of eight ways, as files say it (a phone held upright, a selfie mirrored)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Orientation:
    """How stored pixels become upright ones: rows and columns change places, then the sides do."""

    transposed: bool = False
    left_right: bool = False
    up_down: bool = False

    @staticmethod
    def of_matrix(matrix: bytes) -> Orientation:
        """From a display matrix (36 bytes: a b u c d v x y w, ISO 14496-12 6.2.2): (x, y) → (ax + cy, bx + dy).

        An angle cannot say this: a mirrored picture has none. What is no quarter turn is taken for the nearest one.
        """
        a, b, _, c, d, *_ = struct.unpack("9i", matrix)
        if abs(b) + abs(c) > abs(a) + abs(d):
            return Orientation(True, left_right=c < 0, up_down=b < 0)
        return Orientation(False, left_right=a < 0, up_down=d < 0)

    @staticmethod
    def of_frame(frame: Any) -> Orientation:
        """Of a decoded ``av.VideoFrame``, the first of a stream: whoever asks each keeps each in memory for a while,
        because PyAV's frame and its side data hold each other."""
        try:
            matrix = frame.side_data.get("DISPLAYMATRIX")
        except (
            ValueError
        ):  # something else beside it that PyAV has no name for (EXIF in motion JPEG): the angle is left
            return _TURNED[round(frame.rotation / 90) % 4]
        return Orientation.of_matrix(bytes(matrix)) if matrix is not None else Orientation()

    def upright(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(h, w, …) as stored → upright, (w, h, …) where transposed."""
        if self == Orientation():
            return pixels
        turned = pixels.swapaxes(0, 1) if self.transposed else pixels
        turned = turned[:, ::-1] if self.left_right else turned
        return np.ascontiguousarray(turned[::-1] if self.up_down else turned)


_TURNED = (Orientation(), Orientation(True, up_down=True), Orientation(False, True, True), Orientation(True, True))
"""By how many quarter turns counter-clockwise make upright."""
