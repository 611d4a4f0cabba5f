"""A renderer before a camera: commands in the car's frame become poses as the camera sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dmsynth.camera import Camera
from dmsynth.camera.capture import Capture, Heads
from dmsynth.camera.eyes import eyes_of, with_eyes
from dmsynth.camera.things import Worn
from dmsynth.camera.wardrobe import Wardrobe
from dmsynth.controls import HEAD, ControlSpace
from dmsynth.controls.pose import rotation_matrix
from dmsynth.motion.covered import cover
from dmsynth.motion.eyes import line_of_sight
from dmsynth.motion.trajectory import Trajectory
from dmsynth.steering.anchors import Anchors
from dmsynth.steering.face import SteerableFace
from dmsynth.steering.writing import Shot
from dmsynth.support.errors import DmsynthError
from dmsynth.trackers import Tracker
from dmsynth.video import Image

Double = NDArray[np.float64]

_DRAWN = (640, 480)


def drawn_size(camera: Camera) -> tuple[int, int]:
    """Width and height of a photo that is drawn for a camera: no finer than the camera sees it."""
    height = min(_DRAWN[1], camera.sensor.height)
    return round(height * _DRAWN[0] / _DRAWN[1]), height


def taken(
    face: SteerableFace,
    motion: Trajectory,
    outside: str,
    name: str,
    camera: Camera,
    worn: Sequence[Worn],
    tracker: Tracker,
    seed: int = 0,
) -> Shot:
    """The shot of a ``motion`` in the car's frame by a camera, at its frame rate.

    Args:
        outside: what to do with poses that the camera sees, but the face does not cover (``motion.covered.cover``).
        name: of the video, for messages.
        worn: things on the face.
        tracker: finds the face in drawn frames, once; with Face Landmarker's mesh.
        seed: of the sensor's noise.

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
    seen = seen_by(camera, motion.in_space(space).resampled(rate))
    place = camera.place
    where = f"{name}, seen from {place.pitch:+g}° of pitch and {place.yaw:+g}° of yaw by the camera {camera.name}"
    covered = cover(seen, space, face.trained.coverage, rate, outside, where, face.trusted)
    table = _with_car(covered.table, camera, space)
    heads, colour = _heads(face, covered.values, tracker), face.trained.in_colour
    capture = Capture(camera, face.size, heads, table["time"].to_numpy(float), colour, worn, seed)
    return Shot(face, covered.values, table, rate, covered.share, capture=capture)


def dressed(shot: Shot, face: SteerableFace, worn: Sequence[Worn], tracker: Tracker) -> Shot:
    """A ``face``'s shot with things on it, taken by no camera. Raises ``DmsynthError`` for a face that is not found."""
    heads = _heads(face, shot.values, tracker)
    landmarks = with_eyes(heads.landmarks, heads.rotation, heads.eyes)
    times = shot.table["time"].to_numpy(float)
    return replace(shot, wardrobe=Wardrobe(worn, landmarks, heads.landmarks, heads.rotation, times))


def still(face: SteerableFace, camera: Camera, tracker: Tracker, time: float = 0.0, worn: Sequence[Worn] = ()) -> Image:
    """What a camera sees of a face at rest at that time, in seconds: (height, width) or (height, width, 3) uint8."""
    space = face.trained.space
    rest = Trajectory(space.names, np.zeros(1), np.array([[control.at_rest for control in space.controls]]))
    values = seen_by(camera, rest).values
    colour = face.trained.in_colour
    capture = Capture(camera, face.size, _heads(face, values, tracker), np.array([time]), colour, worn)
    return next(iter(capture.frames(face.frames(values))))


def _heads(face: SteerableFace, values: Double, tracker: Tracker) -> Heads:
    space, anchors = face.trained.space, Anchors.known(face, tracker)
    landmarks, rotation = anchors.at(values)
    rest, rest_rotation = anchors.at(np.array([[control.at_rest for control in space.controls]]))
    return Heads(landmarks, rotation, eyes_of(space, values), rest[0], rest_rotation[0])


def seen_by(camera: Camera, motion: Trajectory) -> Trajectory:
    """A motion in the car's frame, among whose controls are the head's angles, as the camera sees it."""
    head = [motion.names.index(name) for name in HEAD]
    values = np.array(motion.values, np.float64)
    values[:, head] = camera.sees(values[:, head])
    return Trajectory(motion.names, motion.times, values)


def _with_car(table: pd.DataFrame, camera: Camera, space: ControlSpace) -> pd.DataFrame:
    """The table of what the camera sees, with the command in the car's frame by the usual names, and the pose and the
    line of sight that the camera sees as ``camera_…``."""
    poses = table[list(HEAD)].to_numpy(float)
    seen = {f"camera_{name}": poses[:, number] for number, name in enumerate(HEAD)}
    if space.moves_eyes:
        head = rotation_matrix(*poses.T)
        look = line_of_sight(head, table["gaze_yaw"].to_numpy(float), table["gaze_pitch"].to_numpy(float))
        seen |= dict(zip(("camera_look_yaw", "camera_look_pitch"), look, strict=True))
    return table.assign(**dict(zip(HEAD, camera.in_car(poses).T, strict=True)), **seen)
