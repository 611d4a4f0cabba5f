"""dmsynth: steerable synthetic drivers for validating driver monitoring systems.

import dmsynth

face = dmsynth.load("runs/demo/face.safetensors")
picture = face.steer(yaw=20, pitch=-5)          # (height, width, 3) uint8
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from os import PathLike
from types import ModuleType
from typing import TYPE_CHECKING, Any

from dmsynth.support.errors import DmsynthError
from dmsynth.support.version import __version__

if TYPE_CHECKING:
    from dmsynth.steering import SteerableFace

__all__ = ["DmsynthError", "__version__", "load"]


def load(path: str | PathLike[str], features: bool = False) -> SteerableFace:
    """Load a trained face (``face.safetensors``), ready to be steered. ``features``: gaze, lids, mouth and brows are
    controls, too, if it knows where they are (``steering.painted``).

    Raises ``DmsynthError`` for a file that is missing, damaged, no face, or written by another format version.
    """
    from pathlib import Path

    from dmsynth.steering import load_face, with_features

    face = load_face(Path(path))
    return with_features(face) if features else face


_FORMERLY = {
    "dmsynth.baselines": "dmsynth.steering",
    "dmsynth.baselines.face_spec": "dmsynth.steering.renderer",
    "dmsynth.errors": "dmsynth.support.errors",
    "dmsynth.export": "dmsynth.steering.export",
    "dmsynth.judges": "dmsynth.evaluation.judges",
    "dmsynth.pose": "dmsynth.controls.pose",
    "dmsynth.sources": "dmsynth.datasets",
    "dmsynth.training": "dmsynth.learning.training",
    "dmsynth.trajectory": "dmsynth.motion.trajectory",
}
"""Modules that the documents of version 0.1 named, and where they are now: programs that import them go on working."""


class _Formerly(MetaPathFinder, Loader):
    """Finds a module by its former name: it is the very same module."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        former, now = max(
            ((old, new) for old, new in _FORMERLY.items() if f"{name}.".startswith(f"{old}.")), default=("", "")
        )
        return ModuleSpec(name, self, origin=now + name.removeprefix(former)) if former else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(str(spec.origin))
        spec.loader_state = module.__spec__  # the import system is about to put the former name there
        return module

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state


sys.meta_path.insert(0, _Formerly())
