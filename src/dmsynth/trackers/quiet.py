"""Suppress the start-up messages that MediaPipe's C++ code writes to standard error."""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dmsynth.support.errors import DmsynthError
from dmsynth.support.system_libraries import how_to_install, missing_libraries
from dmsynth.video.portrait import default_portrait

_one_at_a_time = threading.RLock()


@contextmanager
def quiet() -> Iterator[None]:
    """Discard the process's standard error inside the block. Python exceptions are still raised."""
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


@contextmanager
def explained_import_errors() -> Iterator[None]:
    """Raise ``DmsynthError`` with the install command if MediaPipe cannot load because a system library is missing."""
    try:
        yield
    except OSError as error:
        lacking = missing_libraries()
        if not lacking:
            raise
        how = how_to_install(lacking)
        raise DmsynthError(f"MediaPipe needs {' and '.join(lacking)}, which this system lacks: {how}") from error


def close_with_owner(owner: object, task: Any) -> None:
    """Close a MediaPipe task together with its owner; otherwise it closes during interpreter shutdown, with an error
    message."""

    def close() -> None:
        try:
            task.close()
        except RuntimeError:  # its threads have ended already: the system frees the rest
            task._handle = None

    weakref.finalize(owner, close)


def first_face() -> NDArray[np.uint8]:
    """A picture with a face, (128, 170, 3) uint8: once tracked inside ``quiet``, MediaPipe prints nothing more."""
    return np.ascontiguousarray(default_portrait()[0:256:2, 60:400:2])
