"""A renderer before a camera: commands in the car's frame become poses as the camera sees them."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dmsynth.camera import Camera
from dmsynth.camera.capture import Capture, Heads
from dmsynth.camera.eyes import eyes_of
from dmsynth.controls import HEAD, ControlSpace
from dmsynth.controls.pose import rotation_matrix
from dmsynth.motion.covered import cover
from dmsynth.motion.eyes import line_of_sight
from dmsynth.motion.trajectory import Trajectory
from dmsynth.steering.anchors import Anchors
from dmsynth.steering.face import SteerableFace
from dmsynth.steering.provenance import face_sha256
from dmsynth.steering.writing import Shot
from dmsynth.support.errors import DmsynthError
from dmsynth.trackers import Tracker

Double = NDArray[np.float64]

_KEPT = 8
_DRAWN = (640, 480)


def drawn_size(camera: Camera) -> tuple[int, int]:
    """Width and height of a photo that is drawn for a camera: no finer than the camera sees it."""
    height = min(_DRAWN[1], camera.sensor.height)
    return round(height * _DRAWN[0] / _DRAWN[1]), height


def taken(face: SteerableFace, motion: Trajectory, outside: str, name: str, camera: Camera, tracker: Tracker) -> Shot:
    """The shot of a ``motion`` in the car's frame by a camera, at its frame rate.

    Args:
        outside: what to do with poses that the camera sees, but the face does not cover (``motion.covered.cover``).
        name: of the video, for messages.
        tracker: finds the face in drawn frames, once; with Face Landmarker's mesh.

    Raises:
        DmsynthError: a face that does not turn its head, or that is not found; poses outside the coverage under
            ``strict``.
    """
    space = face.trained.space
    if not space.turns_head:
        raise DmsynthError(
            f"--camera {camera.name}: needs a face that turns its head; {face.path} steers {', '.join(space.names)}"
        )
    rate = camera.sensor.frame_rate
    in_car = motion.in_space(space).resampled(rate)
    seen = Trajectory(in_car.names, in_car.times, _turned(space, in_car.values, camera.sees))
    place = camera.place
    where = f"{name}, seen from {place.pitch:+g}° of pitch and {place.yaw:+g}° of yaw by the camera {camera.name}"
    covered = cover(seen, space, face.trained.coverage, rate, outside, where, face.trusted)
    table = _with_car(covered.table, _turned(space, covered.values, camera.in_car), space)
    anchors = _anchors(face, tracker)
    landmarks, rotation = anchors.at(covered.values)
    at_rest = np.array([[control.at_rest for control in space.controls]])
    rest, rest_rotation = anchors.at(at_rest)
    heads = Heads(landmarks, rotation, eyes_of(space, covered.values), rest[0], rest_rotation[0])
    colour = face.trained.shape["channels"] == 3
    capture = Capture(camera, face.size, heads, table["time"].to_numpy(float), colour)
    return Shot(face, covered.values, table, rate, covered.share, capture=capture)


def _turned(space: ControlSpace, values: Double, turn: Callable[[Double], Double]) -> Double:
    """Commands (n, k) with the head's angles as ``turn`` gives them."""
    head = [space.names.index(name) for name in HEAD]
    turned = np.array(values, np.float64)
    turned[:, head] = turn(values[:, head])
    return turned


def _with_car(table: pd.DataFrame, in_car: Double, space: ControlSpace) -> pd.DataFrame:
    """The table of what the camera sees, with the command in the car's frame by the usual names, and the pose and the
    line of sight that the camera sees as ``camera_…``."""
    seen = {f"camera_{name}": table[name].to_numpy(float) for name in HEAD}
    if space.moves_eyes:
        head = rotation_matrix(*seen.values())
        look = line_of_sight(head, table["gaze_yaw"].to_numpy(float), table["gaze_pitch"].to_numpy(float))
        seen |= dict(zip(("camera_look_yaw", "camera_look_pitch"), look, strict=True))
    car = {name: in_car[:, space.names.index(name)] for name in HEAD}
    return table.assign(**car, **seen)


_known: dict[tuple[str, str], Anchors] = {}


def _anchors(face: SteerableFace, tracker: Tracker) -> Anchors:
    """Where this face's head is; measured once, because it takes seconds."""
    source = sha256(face.trained.sources.tobytes() + repr(face.size).encode()).hexdigest()
    key = (face_sha256(face.path, face.trained), source)
    if key not in _known:
        if len(_known) >= _KEPT:
            _known.pop(next(iter(_known)))
        _known[key] = Anchors.measure(face, tracker)
    return _known[key]
