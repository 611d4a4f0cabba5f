"""Faces as a tracker finds them; why a frame has no usable one; both as rows of a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dmsynth.controls import HEAD, MEASURED
from dmsynth.controls.pose import angles_from_matrix
from dmsynth.support.errors import DmsynthError
from dmsynth.support.parallel import map_ordered
from dmsynth.trackers.gaze import eye_columns
from dmsynth.video import Frame, Image

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
        return dict(zip(HEAD, map(float, angles_from_matrix(self.rotation)), strict=True))

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
    """A face as columns of a table: pose, centre, box; gaze and lids if the landmarks show the irises; and the parts of
    its expression that are controls."""
    left, top, right, bottom = face.box
    x, y = face.centre
    place = {"x": x, "y": y, "left": left, "top": top, "right": right, "bottom": bottom}
    measured = {name: value for name, value in face.expression.items() if name in MEASURED}
    return face.pose | place | eye_columns(face) | measured


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
