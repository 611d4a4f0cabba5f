"""Steering: open a renderer by name and render a command as a video (thesis 4.2, "in the inference stage")."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import numpy as np

from dmsynth.camera import Camera
from dmsynth.camera.things import Worn
from dmsynth.controls import BOTH_EYES, FEATURES
from dmsynth.motion.covered import cover
from dmsynth.motion.driving import Driving, read_trajectory
from dmsynth.motion.eyes import natural_eyes
from dmsynth.motion.mouth import talking
from dmsynth.motion.tables import Columns
from dmsynth.motion.trajectory import Trajectory
from dmsynth.steering.face import SteerableFace, load_face
from dmsynth.steering.painted import with_features
from dmsynth.steering.renderer import FACE, FaceSpec, Renderer, VideoFollower, is_portrait
from dmsynth.steering.source import as_source, read_source
from dmsynth.steering.taken import drawn_size, dressed, taken
from dmsynth.steering.writing import Shot, write_video
from dmsynth.support.errors import DmsynthError
from dmsynth.trackers import open_tracker

__all__ = [
    "FACE", "KINDS", "Command", "FaceSpec", "Kind", "Renderer", "SteerableFace", "Steered", "VideoFollower",
    "commanded", "is_portrait", "kind_of", "kinds", "load_face", "open_face", "open_follower", "open_renderer",
    "opened", "steer", "steer_to_video", "with_features",
]  # fmt: skip

ENTRY_POINTS = "dmsynth.renderers"


@dataclass(frozen=True)
class Kind:
    """One kind of renderer.

    Attributes:
        place: module and function that open it: ``open(spec: FaceSpec, size: (width, height) or None)``.
        title: display name.
        folder: what the folder after the colon is, if it needs a ``source`` picture, too; None: it does not.
        instead: set if it follows a driving video and takes no commands: the kind to use for commands.
    """

    place: str
    title: str
    folder: str | None = None
    instead: str | None = None


KINDS: Mapping[str, Kind] = {
    "face": Kind("dmsynth.steering:open_face", "a trained face"),
    "liveportrait": Kind("dmsynth.steering.liveportrait:open_liveportrait", "LivePortrait", "its official checkout"),
    "liveportrait-driven": Kind(
        "dmsynth.steering.liveportrait_driven:open_driven", "LivePortrait, driven", "its official checkout",
        instead="liveportrait",
    ),
    "posed": Kind("dmsynth.steering.posed:open_posed", "a photo or the frames of a dataset, posed"),
    "recorded": Kind("dmsynth.steering.recorded:open_recorded", "a video made elsewhere"),
}  # fmt: skip
"""Included renderers. Installed packages add theirs as entry points of the group ``dmsynth.renderers``."""


def kinds() -> dict[str, Kind]:
    """Every kind of renderer by its name, including those of installed packages."""
    return {entry.name: Kind(entry.value, entry.name) for entry in entry_points(group=ENTRY_POINTS)} | dict(KINDS)


def kind_of(spec: FaceSpec) -> Kind:
    """The kind of renderer that a spec names. ``DmsynthError`` if there is none."""
    known = kinds()
    if spec.kind not in known:
        raise DmsynthError(
            f"{spec.face}: no such file, and no renderer is named {spec.kind}; there is {', '.join(known)}"
        )
    return known[spec.kind]


def open_renderer(spec: FaceSpec, size: tuple[int, int] | None = None) -> SteerableFace:
    """Open the renderer that a spec names. ``size`` (width, height) of its frames if it has no size of its own.

    Raises ``DmsynthError`` if the name, file, folder or source does not exist, or if it takes no commands.
    """
    kind = kind_of(spec)
    if kind.instead and spec.driving is None:
        raise DmsynthError(
            f"--renderer {spec.kind} follows a driving video, not commanded poses; "
            f"steer, evaluate and validate with {kind.instead}"
        )
    renderer: SteerableFace = _opener(spec)(spec, size)
    return renderer


def open_follower(spec: FaceSpec, size: tuple[int, int] | None = None) -> VideoFollower:
    """Open a renderer that follows the driving video of the spec. Raises as ``open_renderer``."""
    follower: VideoFollower = _opener(spec)(spec, size)
    return follower


def _opener(spec: FaceSpec) -> Callable[[FaceSpec, tuple[int, int] | None], Any]:
    return EntryPoint(spec.kind, kind_of(spec).place, ENTRY_POINTS).load()


def open_face(spec: FaceSpec, size: tuple[int, int] | None = None) -> SteerableFace:
    """The trained face that a spec names, at its source if it says one, and at ``size`` if that is not its own."""
    face = load_face(spec.where, spec.device)
    face = face if size is None else face.drawn_at(size)
    if spec.source is None:
        return with_features(face.from_one_source() if spec.one_source else face)
    source = read_source(spec.source)
    if not face.trained.space.turns_head:
        return face.from_source(source)
    return with_features(face.from_source(*as_source(source, spec.source, face, spec.open_tracker())))


@lru_cache(maxsize=1)
def opened(spec: FaceSpec) -> SteerableFace:
    """``open_renderer``, cached for the next call with the same spec."""
    return open_renderer(spec)


EXPRESSIONS = ("driving", "neutral", "source")


@dataclass(frozen=True)
class Command:
    """A trajectory as the user gives it, and how to render it.

    Attributes:
        trajectory: motions in words, a table, or a driving video (``motion.driving.read_trajectory``).
        frame_rate: of the video.
        seconds: render only the first so many; None: all.
        outside: what to do with poses outside the training coverage (``motion.covered.cover``).
        driving: how a tracked head becomes a command.
        columns: the meaning of a table's columns.
        natural_eyes: a seed: add natural blinks, saccades and counter-rotation where the trajectory does not say
            what the eyes do (``motion.eyes.natural_eyes``).
        talking: a seed: add a mouth that talks; where the trajectory opens it wider, that counts (``motion.mouth``).
        expression: of eyes, mouth and brows: what the trajectory says (``driving``), ``neutral``: at rest, or as in the
            ``source`` frame.
        size: width, height of the frames, if not the renderer's own.
        effects: camera effects (``video.effects``): names and strengths, applied in this order.
        worn: things on the face (``camera.things``).
        camera: the camera that takes the frames; poses are then those of the car's frame, and the camera has its own
            ``frame_rate``.
    """

    trajectory: str
    frame_rate: float = 25.0
    seconds: float | None = None
    outside: str = "warn"
    driving: Driving = field(default_factory=Driving)
    columns: Columns = field(default_factory=Columns)
    effects: tuple[tuple[str, float], ...] = ()
    natural_eyes: int | None = None
    talking: int | None = None
    expression: str = "driving"
    size: tuple[int, int] | None = None
    camera: Camera | None = None
    worn: tuple[Worn, ...] = ()

    def __post_init__(self) -> None:
        if self.expression not in EXPRESSIONS:
            raise DmsynthError(f"--expression {self.expression}: choose {', '.join(EXPRESSIONS)}")
        if self.expression != "driving" and (self.natural_eyes, self.talking) != (None, None):
            raise DmsynthError(
                f"--expression {self.expression} leaves eyes and mouth alone; leave out --natural-eyes and --talking"
            )


@dataclass(frozen=True)
class Steered:
    """What ``steer`` wrote: the video, its table, and the factor by which the motion was shrunk."""

    video: Path
    table: Path
    share: float = 1.0


def steer(spec: FaceSpec, command: Command, out: Path) -> Steered:
    """Open a renderer and render a command to the video ``out``, with its table and provenance beside it.

    Raises ``DmsynthError`` as ``open_renderer``, ``motion.driving.read_trajectory`` and ``steer_to_video``.
    """
    shot = _followed(spec, command) if kind_of(spec).instead else _commanded(spec, command, out.name)
    return Steered(out, write_video(replace(shot, effects=command.effects), out), shot.share)


def steer_to_video(
    face: SteerableFace,
    trajectory: Trajectory,
    out: Path,
    frame_rate: float,
    outside: str = "warn",
    camera: Camera | None = None,
    worn: Sequence[Worn] = (),
) -> Path:
    """Render a trajectory to a video and write beside it, as ``OUT.parquet``, what was commanded frame by frame, and
    as ``OUT.provenance.json`` where the video comes from.

    Args:
        outside: what to do with poses outside the training coverage: ``warn``, ``strict`` (refuse), ``clip``, ``fit``,
            or ``mark`` (say nothing and show no progress: for work beside other work; the table says it).
        camera: takes the frames; the trajectory is then in the car's frame, and ``frame_rate`` the camera's.
        worn: things on the face.

    Returns:
        The path of the table (``motion.covered.Covered.table``).

    Raises:
        DmsynthError: poses outside the coverage under ``strict``; an unwritable name.
    """
    if camera:
        shot = taken(face, trajectory, outside, out.name, camera, worn, open_tracker())
    else:
        shot = _shot(face, trajectory, frame_rate, outside, out.name)
        shot = dressed(shot, face, worn, open_tracker()) if worn else shot
    return write_video(shot, out, quiet=outside == "mark")


def _commanded(spec: FaceSpec, command: Command, name: str) -> Shot:
    """The shot of a renderer that takes commands. Relative driving starts at the pose of its source."""
    if command.camera:
        command = replace(command, frame_rate=command.camera.sensor.frame_rate)
    face = open_renderer(spec, command.size or (drawn_size(command.camera) if command.camera else None))
    if command.size not in (None, face.size):
        raise DmsynthError(f"{spec.face}: draws {face.size[0]}x{face.size[1]}, and no other size; leave --size out")
    motion = commanded(face, spec, command)
    face = getattr(face, "head_only", face) if command.expression == "source" else face
    if command.expression == "source" and face.trained.space.moves_eyes:
        raise DmsynthError(
            f"{spec.face}: has learned its eyes and mouth, which have no source; use --expression neutral"
        )
    if command.camera:
        return taken(face, motion, command.outside, name, command.camera, command.worn, spec.open_tracker())
    shot = _shot(face, motion, command.frame_rate, command.outside, name)
    return dressed(shot, face, command.worn, spec.open_tracker()) if command.worn else shot


def commanded(face: SteerableFace, spec: FaceSpec, command: Command) -> Trajectory:
    """The motion that a command asks a ``face`` for, opened by ``spec``: read, cut to its seconds, with natural eyes
    and talking.

    Its columns are named as the face's ``space.commands``, in their units; ``Trajectory.in_space`` gives its controls.
    Raises ``DmsynthError`` as ``motion.driving.read_trajectory``, and for natural eyes or talking of a face
    that moves none.
    """
    space = face.trained.space
    begin = space.decode(face.trained.source_codes[0][: space.size])
    motion = read_trajectory(
        command.trajectory, space, command.frame_rate, spec.open_tracker, command.driving, begin, command.columns
    )
    motion = motion.first(command.seconds, command.trajectory) if command.seconds else motion
    if command.expression != "driving":
        of_head = [name for name in motion.names if name not in (*FEATURES, BOTH_EYES)]
        still = Trajectory(space.names[:1], motion.times, np.full((len(motion), 1), space.controls[0].at_rest))
        motion = motion.only(of_head) if of_head else still
    if command.natural_eyes is None and command.talking is None:
        return motion
    if not space.moves_eyes:
        raise DmsynthError(
            f"{spec.face}: steers {', '.join(space.names)} only; natural eyes and talking need a face that moves its "
            "eyes and mouth: starter, a photo (steer PHOTO.jpg), or one whose dataset was made and trained anew"
        )
    motion = motion.resampled(command.frame_rate)
    motion = motion if command.natural_eyes is None else natural_eyes(motion, command.natural_eyes)
    return motion if command.talking is None else talking(motion, command.talking)


def _shot(face: SteerableFace, motion: Trajectory, frame_rate: float, outside: str, name: str) -> Shot:
    """A motion, checked against the coverage of the face."""
    space, coverage = face.trained.space, face.trained.coverage
    covered = cover(motion, space, coverage, frame_rate, outside, name, face.trusted)
    return Shot(face, covered.values, covered.table, frame_rate, covered.share)


def _followed(spec: FaceSpec, command: Command) -> Shot:
    """The shot of a renderer that follows a driving video."""
    if replace(command, trajectory="", seconds=None, effects=()) != Command(""):
        raise DmsynthError(
            "--strict, --clip, --fit, --frame-rate, --camera, --wear, --driving, --neutral, --smooth, --longest-gap, "
            "--natural-eyes, --talking and --expression go with commanded poses; "
            f"--renderer {spec.kind} follows its video"
        )
    follower = open_follower(replace(spec, driving=command.trajectory))
    rows = follower.rows(command.seconds)
    return Shot(follower, rows, follower.table[: len(rows)], follower.frame_rate)
