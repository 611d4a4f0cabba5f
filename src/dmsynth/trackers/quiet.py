"""MediaPipe's C++ side writes start-up chatter straight to the terminal; users should not have to read it."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

_one_at_a_time = threading.RLock()


@contextmanager
def quiet() -> Iterator[None]:
    """Send the process's standard error nowhere for the length of the block. Python exceptions still rise."""
    with _one_at_a_time:
        sys.stderr.flush()
        try:
            saved = os.dup(2)
        except OSError:  # a process without a standard error has nothing to silence
            yield
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 2)
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            os.close(nowhere)


def first_face() -> NDArray[np.uint8]:
    """A picture with a face, (128, 170, 3) uint8: a tracker that has seen it inside ``quiet`` chatters no more."""
    from skimage import data

    return np.ascontiguousarray(data.astronaut()[0:256:2, 60:400:2])
