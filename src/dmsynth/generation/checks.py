"""Whether a plan can be met, before anything is drawn: every face is there, and covers what is asked of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dmsynth.controls import ControlSpace
from dmsynth.controls.coverage import SMALLEST_TOLERANCE, Coverage
from dmsynth.generation.clip import Studio, open_tracker_once
from dmsynth.generation.motions import Room
from dmsynth.generation.plan import Driving, Order
from dmsynth.motion.trajectory import Trajectory
from dmsynth.steering import SteerableFace
from dmsynth.steering.anchors import Anchors
from dmsynth.steering.provenance import consent_of, face_sha256
from dmsynth.steering.taken import drawn_size, seen_by
from dmsynth.support.errors import DmsynthError
from dmsynth.support.progress import progress
from dmsynth.validation.rendering import why_not
from dmsynth.validation.scenarios import Scenario


@dataclass(frozen=True)
class Checked:
    """A person of the plan: the face's SHA-256, on what consent it is shown, and the range of each control
    that it covers."""

    sha256: str
    consent: str
    covers: dict[str, tuple[float, float]]

    def to_dict(self) -> dict[str, Any]:
        return {"sha256": self.sha256, "consent": self.consent, "covers": {n: list(r) for n, r in self.covers.items()}}


def check(order: Order) -> dict[str, Checked]:
    """Open every face as each camera needs it, and find it in its own frames (``steering.anchors``; once, it is kept).

    Raises ``DmsynthError`` that names the person: no such face, one that does not turn its head or move its eyes where
    the plan asks it to, a range or a camera's direction beyond its coverage, a face that is not found.
    """
    studio, found = Studio(order), {}
    sizes = sorted({drawn_size(camera) for camera in order.cameras.values()})
    with progress("looking at the people", len(order.people)) as advance:
        for person in order.people:
            try:
                faces = [studio.face(person, size) for size in sizes]
                _check_face(order, faces[0])
                for face in faces:
                    Anchors.known(face, open_tracker_once())
            except DmsynthError as error:
                said = str(error)
                raise DmsynthError(said if said.startswith(f"{person}: ") else f"{person}: {said}") from None
            trained = faces[0].trained
            found[person] = Checked(
                face_sha256(faces[0].path, trained), consent_of(trained.about), _covers(trained.space, trained.coverage)
            )
            advance()
    return found


def _covers(space: ControlSpace, coverage: Coverage) -> dict[str, tuple[float, float]]:
    """The range of each control, its tolerance included."""
    spare = np.full(space.size, SMALLEST_TOLERANCE)
    spare[: coverage.joint] = coverage.tolerance
    low, high = space.decode(coverage.codes.min(axis=0) - spare), space.decode(coverage.codes.max(axis=0) + spare)
    ends = zip(low.round(3).tolist(), high.round(3).tolist(), strict=True)
    return dict(zip(space.names, ends, strict=True))


def _check_face(order: Order, face: SteerableFace) -> None:
    space = face.trained.space
    if not space.turns_head:
        raise DmsynthError(f"steers {', '.join(space.names)}; a plan needs faces that turn their heads")
    for name, motion in order.motions.items():
        if isinstance(motion, Scenario):
            reason = why_not(motion, face)
            if reason:
                raise DmsynthError(f"{name}: {reason}")
        elif isinstance(motion, Driving):
            if not space.moves_eyes:
                raise DmsynthError(
                    "moves no eyes, which driving needs; use a face that does: starter, a photo, or one whose dataset "
                    "was made and trained anew"
                )
        else:
            Room.of(space, face.trained.coverage, motion.ranges, name)
    rest = Trajectory(space.names, np.zeros(1), np.array([[control.at_rest for control in space.controls]]))
    for camera in order.cameras.values():
        if face.outside_coverage(seen_by(camera, rest).values).size:
            place = camera.place
            raise DmsynthError(
                f"the camera {camera.name} sees a head at rest from {place.pitch:+g}° of pitch and {place.yaw:+g}° of "
                "yaw, which this face does not cover; leave the camera out, or use a face trained on more poses"
            )
