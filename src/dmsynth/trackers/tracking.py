"""Faces as rows of a table and as labels of a dataset."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pandas as pd

from dmsynth.controls import MEASURED
from dmsynth.support.parallel import map_ordered
from dmsynth.trackers.face import Face, Tracker, why_unusable
from dmsynth.trackers.features import FEATURE_POINTS, feature_columns
from dmsynth.trackers.gaze import MESH_POINTS
from dmsynth.video import Frame

_LANDMARKS = 150  # at least so many of a tracker's landmarks are kept as labels


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
    """A face as columns of a table: pose, centre, box; gaze, lids, mouth and brows if the landmarks show the irises;
    and the parts of its expression that are controls."""
    left, top, right, bottom = face.box
    x, y = face.centre
    place = {"x": x, "y": y, "left": left, "top": top, "right": right, "bottom": bottom}
    measured = {name: value for name, value in face.expression.items() if name in MEASURED}
    return face.pose | place | feature_columns(face) | measured


def face_labels(face: Face) -> dict[str, float | list[float]]:
    """A face as a dataset's labels: ``tracked_pitch`` … and, if the tracker has any, ``landmarks``: x and y in pixels
    of about 160 points spread over the face, in one flat list; and ``feature_landmarks``, likewise, those of
    ``features.FEATURE_POINTS``, if the landmarks show the irises."""
    labels: dict[str, float | list[float]] = {f"tracked_{name}": value for name, value in face_columns(face).items()}
    if len(face.landmarks):
        some = face.landmarks[:: max(1, len(face.landmarks) // _LANDMARKS), :2]
        labels["landmarks"] = [round(float(value), 2) for value in some.ravel()]
    if len(face.landmarks) == MESH_POINTS:
        labels["feature_landmarks"] = [
            round(float(value), 2) for value in face.landmarks[list(FEATURE_POINTS), :2].ravel()
        ]
    return labels


def track_to_table(tracker: Tracker, frames: Iterable[Frame]) -> pd.DataFrame:
    """``track`` as a table; the tracker's ``reports`` are the last columns."""
    columns = ["frame", "time", "found", "reason", "pitch", "yaw", "roll", "x", "y"]
    columns += ["left", "top", "right", "bottom"]
    rows = list(track(tracker, frames))
    columns += [name for name in {name: None for row in rows for name in row} if name not in columns]
    return pd.DataFrame(rows, columns=columns)
