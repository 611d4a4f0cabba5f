"""Head pose trackers: one file per tracker.

A tracker is any callable object with a ``name`` that takes an image and returns the faces in it:

    class MyTracker:
        name = "my-tracker 1.0"
        def __call__(self, image): ...   # → list[Face]

Register it under the entry point group ``dmsynth.trackers`` of your package, and every command accepts it as
``--tracker NAME`` (``docs/trackers.md``). Angles follow ``controls.pose``; the adapter must convert to it.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from dmsynth.support.errors import DmsynthError
from dmsynth.trackers.face import Face, Tracker, check_landmarks, how_to_crop, why_unusable
from dmsynth.trackers.thorough import find_faces
from dmsynth.trackers.tracking import face_columns, face_labels, track, track_to_table
from dmsynth.video import Image

__all__ = [
    "BUILT_IN", "ENTRY_POINTS", "Face", "Tracker", "TrackerPool", "check_landmarks", "face_columns", "face_labels",
    "find_faces", "how_to_crop", "open_second_tracker", "open_tracker", "track", "track_to_table", "tracker_names",
    "why_unusable",
]  # fmt: skip

ENTRY_POINTS = "dmsynth.trackers"
BUILT_IN = {
    "adas": "dmsynth.trackers.adas:Adas",
    "face-landmarker": "dmsynth.trackers.face_landmarker:FaceLandmarker",
    "openpilot": "dmsynth.trackers.openpilot:Openpilot",
}
"""Included trackers: module and class by name."""


def _trackers() -> dict[str, EntryPoint]:
    """Every tracker by name: the included ones, and those of installed packages."""
    built_in = [EntryPoint(name, place, ENTRY_POINTS) for name, place in BUILT_IN.items()]
    return {entry.name: entry for entry in (*entry_points(group=ENTRY_POINTS), *built_in)}


def tracker_names() -> list[str]:
    """Names that ``open_tracker`` accepts, including those of installed packages."""
    return sorted(_trackers())


def open_tracker(name: str = "auto", model: Path | None = None) -> TrackerPool:
    """A tracker by name, thread-safe.

    ``auto`` is MediaPipe's Face Landmarker (the thesis's tracker, 4.1). ``model`` names the tracker's model file.
    Raises ``DmsynthError`` for an unknown name or a tracker that cannot start.
    """
    if name in ("auto", "face-landmarker"):
        from dmsynth.trackers.face_landmarker import FaceLandmarker
        from dmsynth.trackers.face_model import MODEL

        path = MODEL.find(model)  # once for all threads
        return TrackerPool(lambda: FaceLandmarker(path))
    known = _trackers()
    if name not in known:
        raise DmsynthError(f"no tracker named {name!r}; installed: auto, {', '.join(sorted(known))}")
    make = known[name].load()
    if model is None:
        return TrackerPool(make)
    if not inspect.signature(make).parameters:
        raise DmsynthError(f"{model}: the tracker {name} takes no model file; leave it out or choose another tracker")
    return TrackerPool(lambda: make(model))


def open_second_tracker(first: Tracker, name: str = "auto", model: Path | None = None) -> TrackerPool | None:
    """A second tracker for judging (``judges.md``), or None for ``none``.

    ``auto`` is openpilot's network if its file is given or found (else None); if the first tracker is openpilot's, it
    is the thesis's tracker. Raises ``DmsynthError`` for an unknown name, a tracker that cannot start, or the first one.
    """
    if name == "none":
        return None
    if name == "auto":
        from dmsynth.trackers.openpilot import Openpilot, is_at_hand

        if first.name.startswith(Openpilot.maker):
            return open_tracker()
        if model is None and not is_at_hand():
            return None
        name = "openpilot"
    second = open_tracker(name, model)
    if second.name == first.name:
        raise DmsynthError(f"--second-tracker {name}: the first judge is {first.name}, too; choose another, or none")
    return second


class TrackerPool:
    """One tracker instance per thread, because most trackers are not thread-safe. Itself a tracker."""

    def __init__(self, make: Callable[[], Tracker]) -> None:
        self._make = make
        self._local = threading.local()
        try:
            self._local.tracker = make()
        except ModuleNotFoundError as error:
            raise DmsynthError(f"this tracker needs {error.name}, which is not installed; pip install it") from None
        self.name: str = self._local.tracker.name

    def __call__(self, image: Image) -> list[Face]:
        return self._own()(image)

    def closely(self, image: Image) -> list[Face]:
        """The same, where no face was found, by a tracker that can look more closely; none by another."""
        closely = getattr(self._own(), "closely", None)
        return closely(image) if closely is not None else []

    def _own(self) -> Tracker:
        """This thread's tracker."""
        if not hasattr(self._local, "tracker"):
            self._local.tracker = self._make()
        tracker: Tracker = self._local.tracker
        return tracker
