"""dmsynth: steerable synthetic drivers for validating driver monitoring systems.

import dmsynth

face = dmsynth.load("runs/demo/face.safetensors")
picture = face.steer(yaw=20, pitch=-5)          # (height, width) uint8
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from os import PathLike
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dmsynth.steering import SteerableFace

try:
    __version__ = version("dmsynth")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+source"


def load(path: str | PathLike[str]) -> SteerableFace:
    """Load a trained face (``face.safetensors``), ready to be steered.

    Raises ``DmsynthError`` for a file that is missing, damaged, no face, or written by another format version.
    """
    from pathlib import Path

    from dmsynth.steering import load_face

    return load_face(Path(path))


__all__ = ["__version__", "load"]
