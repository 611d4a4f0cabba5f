"""Image orientation from file metadata: one of eight (a phone held upright, a mirrored selfie)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Orientation:
    """How to make stored pixels upright: transpose first, then flip."""

    transposed: bool = False
    left_right: bool = False
    up_down: bool = False

    @staticmethod
    def of_matrix(matrix: bytes) -> Orientation:
        """From a display matrix (36 bytes: a b u c d v x y w, ISO 14496-12 6.2.2): (x, y) → (ax + cy, bx + dy).

        An angle alone cannot describe a mirrored picture. Other angles are rounded to the nearest quarter turn.
        """
        a, b, _, c, d, *_ = struct.unpack("9i", matrix)
        if abs(b) + abs(c) > abs(a) + abs(d):
            return Orientation(True, left_right=c < 0, up_down=b < 0)
        return Orientation(False, left_right=a < 0, up_down=d < 0)

    @staticmethod
    def of_frame(frame: Any) -> Orientation:
        """Of a decoded ``av.VideoFrame``. Call it for the first frame of a stream only: PyAV's frame and its side data
        reference each other, which keeps the frame in memory for a while."""
        try:
            matrix = frame.side_data.get("DISPLAYMATRIX")
        except ValueError:  # side data of a type unknown to PyAV (EXIF in motion JPEG): use the angle
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
"""Index: the number of counter-clockwise quarter turns that make the picture upright."""
