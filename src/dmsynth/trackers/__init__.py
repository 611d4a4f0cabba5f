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
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dmsynth.controls.pose import angles_from_matrix
from dmsynth.support.errors import DmsynthError
from dmsynth.support.parallel import map_ordered
from dmsynth.video import Frame, Image

ENTRY_POINTS = "dmsynth.trackers"
BUILT_IN = {
    "face-landmarker": "dmsynth.trackers.face_landmarker:FaceLandmarker",
    "openpilot": "dmsynth.trackers.openpilot:Openpilot",
}
"""Included trackers: module and class by name."""

_LANDMARKS = 150  # at least so many of a tracker's landmarks are kept as labels


@dataclass(frozen=True)
class Face:
    """One face found in an image.

    Attributes:
        rotation: (3, 3) float, the head's rotation in the frame of ``dmsynth.controls.pose``.
        box: left, top, right, bottom of the landmarks in pixels; may reach outside the image.
        landmarks: (n, 3) float32 in pixels: x right, y down, z negative towards the camera, in the scale of x.
            Empty for trackers that have none.
        expression: facial expression and gaze by name (blink_left, gaze_x, jaw, …), in any scale. Empty for trackers
            that do not measure it.
        reports: the tracker's own confidence outputs (face and eye probabilities, standard deviations of its angles,
            …), with its names and scales. Kept in tracked tables; unlike the expression, never steered.
    """

    rotation: NDArray[np.float64]
    box: tuple[float, float, float, float]
    landmarks: NDArray[np.float32]
    expression: dict[str, float] = field(default_factory=dict)
    reports: dict[str, float] = field(default_factory=dict)

    @property
    def pose(self) -> dict[str, float]:
        """pitch, yaw, roll in degrees."""
        return dict(zip(("pitch", "yaw", "roll"), map(float, angles_from_matrix(self.rotation)), strict=True))

    def scaled(self, factor: float) -> Face:
        """The same face in an image enlarged by ``factor``."""
        left, top, right, bottom = (edge * factor for edge in self.box)
        return replace(self, box=(left, top, right, bottom), landmarks=self.landmarks * np.float32(factor))

    @property
    def centre(self) -> tuple[float, float]:
        """x, y of the box's centre in pixels."""
        left, top, right, bottom = self.box
        return (left + right) / 2, (top + bottom) / 2

    def is_cut_off(self, image: Image) -> bool:
        """Whether more than a twentieth of the face's width or height lies outside the image."""
        height, width = image.shape[:2]
        left, top, right, bottom = self.box
        across, down = (right - left) / 20, (bottom - top) / 20
        return left < -across or top < -down or right > width + across or bottom > height + down


class Tracker(Protocol):
    """Software that measures head pose in a frame. Each frame is measured independently, so results do not depend on
    where a recording starts."""

    name: str

    def __call__(self, image: Image) -> list[Face]:
        """Faces in a grey (h, w) or RGB (h, w, 3) uint8 image, at most the two clearest."""
        ...


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
        if not hasattr(self._local, "tracker"):
            self._local.tracker = self._make()
        return self._local.tracker(image)


def why_unusable(faces: list[Face], image: Image) -> str | None:
    """Why a frame has not exactly one usable face, or None if it has."""
    if not faces:
        return "no face"
    if len(faces) > 1:
        return "several faces"
    return "face at the border" if faces[0].is_cut_off(image) else None


def how_to_crop(reasons: Iterable[str]) -> str:
    """Advice to append to a message if the reason (``why_unusable``) is several faces or no face."""
    if "several faces" in reasons:
        return "; several people in view: --crop LEFT,TOP,WIDTH,HEIGHT around one"
    if "no face" in reasons:
        return (
            "; a face is found from a twentieth of the picture's height on, in a small picture from an eighth of its "
            "width: --crop LEFT,TOP,WIDTH,HEIGHT around a smaller one"
        )
    return ""


def check_landmarks(tracker: Tracker, face: Face) -> None:
    """Raise ``DmsynthError`` if the tracker gives no landmarks: they are needed to cut out or pose a picture."""
    if not len(face.landmarks):
        raise DmsynthError(f"the tracker {tracker.name} gives no landmarks to pose a picture by; use --tracker auto")


def track(tracker: Tracker, frames: Iterable[Frame]) -> Iterator[dict[str, object]]:
    """Measure frames in order, one row per frame: ``frame``, ``time``, ``found``. If exactly one usable face is found,
    also ``pitch``, ``yaw``, ``roll`` (degrees), ``x``, ``y`` (face centre, pixels), its box, and the tracker's
    ``reports``; else ``reason``.
    """

    def measure(frame: Frame) -> dict[str, object]:
        row: dict[str, object] = {"frame": frame.index, "time": frame.time}
        faces = tracker(frame.image)
        reason = why_unusable(faces, frame.image)
        if reason:
            return row | {"found": False, "reason": reason}
        return row | {"found": True, "reason": ""} | face_columns(faces[0]) | faces[0].reports

    yield from map_ordered(measure, frames)


def face_columns(face: Face) -> dict[str, float]:
    """A face as columns of a table: pose, centre, box."""
    left, top, right, bottom = face.box
    x, y = face.centre
    return face.pose | {"x": x, "y": y, "left": left, "top": top, "right": right, "bottom": bottom}


def face_labels(face: Face) -> dict[str, float | list[float]]:
    """A face as a dataset's labels: ``tracked_pitch`` … and, if the tracker has any, ``landmarks``: x and y in pixels
    of about 160 points spread over the face, in one flat list."""
    labels: dict[str, float | list[float]] = {f"tracked_{name}": value for name, value in face_columns(face).items()}
    if len(face.landmarks):
        some = face.landmarks[:: max(1, len(face.landmarks) // _LANDMARKS), :2]
        labels["landmarks"] = [round(float(value), 2) for value in some.ravel()]
    return labels


def track_to_table(tracker: Tracker, frames: Iterable[Frame]) -> pd.DataFrame:
    """``track`` as a table; the tracker's ``reports`` are the last columns."""
    columns = ["frame", "time", "found", "reason", "pitch", "yaw", "roll", "x", "y"]
    columns += ["left", "top", "right", "bottom"]
    rows = list(track(tracker, frames))
    columns += [name for name in {name: None for row in rows for name in row} if name not in columns]
    return pd.DataFrame(rows, columns=columns)
