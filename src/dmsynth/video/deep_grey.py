"""More than 8 bits, as cameras of DMSs record them, to 8: by one rule for a whole recording, so nothing flickers."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.uint8] | NDArray[np.uint16]
"""Pixels as stored."""
_BRIGHTEST = 0.001  # of all pixels may become white: hot ones, and lamps


def bits_used(frames: Iterable[Values], most: int = 16) -> int:
    """How many of ``most`` bits a recording uses, 8 to ``most``, by its ``frames`` of any shape.

    A camera may store 10 or 12 bits in 16, and a dark drive uses only the lower ones: the fewest that hold all but a
    thousandth of the pixels.
    """
    counts = np.zeros(65536, dtype=np.int64)
    for values in frames:
        counts += np.bincount(values[::2, ::2].ravel(), minlength=65536)
    above = counts[::-1].cumsum()[::-1]  # at each value: how many pixels are as bright or brighter
    return next((bits for bits in range(8, most) if above[2**bits] <= _BRIGHTEST * above[0]), most)


def to_8_bits(values: Values, bits: int) -> NDArray[np.uint8]:
    """Pixels of ``bits`` bits as uint8 of the same shape; brighter ones are white."""
    return np.minimum(values >> (bits - 8), 255).astype(np.uint8)
