"""The persons of a cast: are they found, do two judges follow them, and are they unlike each other?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dmsynth.controls import CONTROL_SPACES
from dmsynth.datasets.photo import PoseRange
from dmsynth.evaluation.judges import agreement
from dmsynth.steering import FaceSpec, opened
from dmsynth.support.errors import DmsynthError
from dmsynth.support.progress import progress
from dmsynth.trackers import Tracker, check_landmarks, recognition, track_to_table
from dmsynth.trackers.face import Face, why_unusable
from dmsynth.trackers.identity import Mesh
from dmsynth.video import Frame, Image

POSES = PoseRange(pitch=15, yaw=30, roll=15)
FRAMES = 40
_SEED = 0
_Look = Callable[[NDArray[np.float64], NDArray[np.float64]], float]


@dataclass(frozen=True)
class _Seen:
    """A person at the common poses: what each judge says of them, and the frames, by number, in which the first judge
    finds a face."""

    followed: dict[str, Any]
    faces: dict[int, tuple[Image, Face]]


def check_people(cast: Mapping[str, FaceSpec], tracker: Tracker, second: Tracker | None) -> dict[str, Any]:
    """Pose every person of a cast alike, and measure.

    Args:
        cast: the face of each person by name; at least two.
        tracker: the first judge; with landmarks.
        second: the second judge, or None.

    Returns:
        ``persons``: by name and judge ``frames`` in which it finds a face, ``lost``, and ``correlation``, ``gain`` and
        ``mae`` against the exact command. ``likeness``: ``mesh`` (correlation of shape-free patterns, ``identity``) and
        ``network`` (distance, ``recognition``; None where it is not installed), each with ``own``, the median over
        any two frames of each person, ``others``, the median over frames of the same pose of each two persons (the
        most alike first), and ``apart``: whether no two persons are as alike as the own frames of either.

    Raises:
        DmsynthError: fewer than two persons, a face that cannot be opened, that is found in less than three frames, or
            a tracker without landmarks.
    """
    if len(cast) < 2:
        raise DmsynthError(
            "the cast has one person; likeness is measured between two or more: name another in its file"
        )
    poses = [POSES.draw(_SEED, number) for number in range(FRAMES)]
    seen = {}
    with progress("posing and tracking", len(cast)) as advance:
        for name, spec in cast.items():
            seen[name] = _look(name, spec, poses, tracker, second)
            advance()
    first = next(iter(seen.values())).faces
    mesh = Mesh.of(first[min(first, key=lambda number: sum(abs(turn) for turn in poses[number].values()))][1])
    patterns = {name: {n: mesh.warp(*face) for n, face in each.faces.items()} for name, each in seen.items()}
    likeness: dict[str, Any] = {"mesh": _compared(patterns, lambda one, other: float(one @ other), 1), "network": None}
    if recognition.is_at_hand():
        numbers = {
            name: dict(zip(each.faces, recognition.described(each.faces.values()), strict=True))
            for name, each in seen.items()
        }
        distances = _compared(numbers, lambda one, other: float(np.linalg.norm(one - other)), -1)
        likeness["network"] = {"same_below": recognition.SAME, **distances}
    return {
        "poses": {"frames": FRAMES, "seed": _SEED, "pitch": POSES.pitch, "yaw": POSES.yaw, "roll": POSES.roll},
        "judges": [judge.name for judge in (tracker, second) if judge],
        "persons": {name: each.followed for name, each in seen.items()},
        "likeness": likeness,
    }


def _look(name: str, spec: FaceSpec, poses: list[dict[str, float]], tracker: Tracker, second: Tracker | None) -> _Seen:
    face = opened(spec)
    images = list(face.frames(np.array([face.trained.space.row(pose) for pose in poses]), moving=False))
    exact = pd.DataFrame(poses).assign(found=True)
    followed = {}
    for judge in (tracker, second):
        if judge is None:
            continue
        table = track_to_table(judge, (Frame(n, float(n), image) for n, image in enumerate(images)))
        told = agreement(CONTROL_SPACES["rotation"], exact, table)
        followed[judge.name] = {key: told[key] for key in ("frames", "lost", "correlation", "gain", "mae")}
    found = [(image, tracker(image)) for image in images]
    faces = {n: (image, each[0]) for n, (image, each) in enumerate(found) if why_unusable(each, image) is None}
    if len(faces) < 3:
        raise DmsynthError(f"{name}: a face is found in {len(faces)} of {FRAMES} posed frames; use another picture")
    check_landmarks(tracker, next(iter(faces.values()))[1])
    return _Seen(followed, faces)


def _compared(looks: Mapping[str, Mapping[int, NDArray[np.float64]]], alike: _Look, sign: int) -> dict[str, Any]:
    """``own``, ``others`` and ``apart`` of ``check_people``, of what each person's frames look like. ``sign``: 1 if a
    larger ``alike`` means more alike, −1 if less."""
    own = {
        name: float(np.median([alike(one, other) for one, other in combinations(frames.values(), 2)]))
        for name, frames in looks.items()
    }
    others: list[dict[str, Any]] = []
    for one, other in combinations(looks, 2):
        both = looks[one].keys() & looks[other].keys()
        if both:
            value = float(np.median([alike(looks[one][n], looks[other][n]) for n in both]))
            others.append({"persons": [one, other], "value": value})
    others.sort(key=lambda pair: -sign * pair["value"])
    apart = all(sign * pair["value"] < min(sign * own[name] for name in pair["persons"]) for pair in others)
    return {"own": own, "others": others, "apart": apart}
