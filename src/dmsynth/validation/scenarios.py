"""Scenarios: the driver's motion, and the expected reaction of a DMS, as YAML (``docs/scenarios.md``).

A scenario file contains the scenario's source, parameters, moves and expectations. ``scenario_files.py`` reads it and
reports errors with their line.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from dmsynth.camera import Camera, cameras, read_camera
from dmsynth.camera.things import Worn, parse_things
from dmsynth.controls import BOTH_EYES, BROWS, CONTROL_SPACES, EYES, FEATURES, HEAD, LOOK
from dmsynth.motion.eyes import (
    eye_opening,
    natural_blinks,
    natural_eyes,
    perclos_blinks,
    saccades,
    small_saccades,
    with_gaze,
)
from dmsynth.motion.mouth import talking
from dmsynth.motion.trajectory import Motion, MotionPath, Trajectory
from dmsynth.support.errors import DmsynthError

_LONGEST = 600.0  # seconds
_MOST_MOVES = 2000  # with repeats expanded: a small file must not become a huge motion
_PEAK_OVER_MEAN = 1.875  # of a minimum-jerk move's speed (Flash and Hogan 1985)
_SWAY_WAVES = 12
_SWAY_BAND = (0.05, 0.6)  # Hz: from slow shifts of the trunk to breathing

_FEATURES = (*FEATURES, BOTH_EYES, *LOOK)  # what a pose may say beside the head

Angle = Annotated[float, Field(ge=-90, le=90)]
Opening = Annotated[float, Field(ge=0, le=1.3)]
WarningKind = Literal["distraction", "drowsiness", "sleep", "unresponsive"]
Seconds = Annotated[float, Field(ge=0.04, le=600)]
Mark = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
RequirementId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._:/#()+-]*$", max_length=80)]


class PlacedError(ValueError):
    """An error in the part of a scenario at the path ``place``."""

    def __init__(self, message: str, *place: int | str) -> None:
        super().__init__(message)
        self.place = place


class _Strict(BaseModel):
    """Strict, frozen model: unknown names are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)


class Pose(_Strict):
    """Head, eyes, mouth and brows; what is not given keeps its value."""

    pitch: Angle | None = Field(default=None, description="Of the head, degrees.")
    yaw: Angle | None = None
    roll: Angle | None = None
    gaze_pitch: Annotated[float, Field(ge=-40, le=40)] | None = Field(
        default=None, description="Of the eyes in the head, degrees."
    )
    gaze_yaw: Annotated[float, Field(ge=-50, le=50)] | None = None
    eye_opening: Opening | None = Field(default=None, description="Both lids: 0 closed, 1 as at rest.")
    eye_opening_left: Opening | None = None
    eye_opening_right: Opening | None = None
    mouth_opening: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None, description="0 as at rest, 1 as in a yawn."
    )
    brow_raise: Annotated[float, Field(ge=-1, le=1)] | None = Field(
        default=None, description="Both brows: -1 lowered as against glare, 0 as at rest, 1 raised as in surprise."
    )
    look_pitch: Angle | None = Field(default=None, description="Line of sight in the camera's frame, degrees.")
    look_yaw: Angle | None = None
    head_share: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None, description="How much of the look the head does: 1 owl, 0 lizard."
    )

    @property
    def named(self) -> dict[str, float]:
        return {name: value for name, value in self if value is not None}


class _Timed(_Strict):
    """A motion with either a duration or a peak speed."""

    seconds: Seconds | None = Field(default=None, description="How long it takes.")
    peak_speed: Annotated[float, Field(gt=0, le=1000)] | None = Field(
        default=None, description="Highest speed of the widest angle, in degrees a second."
    )
    mark: Mark | None = Field(default=None, description="A name for the moment at which it begins.")

    @model_validator(mode="after")
    def _one_of_both(self) -> _Timed:
        if (self.seconds is None) == (self.peak_speed is None):
            raise ValueError("give either seconds or peak_speed")
        return self


class Hold(_Strict):
    """Keep the pose."""

    hold: Seconds
    mark: Mark | None = None


class Move(_Timed):
    """Turn to a pose with a natural head movement: minimum jerk."""

    move: Pose


class Sweep(_Timed):
    """Turn to a pose at constant speed."""

    sweep: Pose


class Repeat(_Strict):
    """Repeat ``moves``. In the second repetition marks are called ``NAME.2``, and so on."""

    repeat: Annotated[int, Field(ge=1, le=100)]
    moves: Annotated[list[Step], Field(min_length=1)]


def _kind(step: Any) -> str | None:
    names = step if isinstance(step, dict) else type(step).model_fields if isinstance(step, BaseModel) else ()
    return next((f"({kind})" for kind in ("hold", "move", "sweep", "repeat") if kind in names), None)


Step = Annotated[
    Annotated[Hold, Tag("(hold)")]
    | Annotated[Move, Tag("(move)")]
    | Annotated[Sweep, Tag("(sweep)")]
    | Annotated[Repeat, Tag("(repeat)")],
    Discriminator(
        _kind,
        custom_error_type="no_step",
        custom_error_message="a step holds one of hold, move, sweep and repeat",
    ),
]


class Sway(_Strict):
    """Natural sway: slow irregular movement added to every angle, reproducible by its seed."""

    pitch: Annotated[float, Field(ge=0, le=10)] = Field(default=0.0, description="Root mean square, degrees.")
    yaw: Annotated[float, Field(ge=0, le=10)] = 0.0
    roll: Annotated[float, Field(ge=0, le=10)] = 0.0
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0


class NaturalEyes(_Strict):
    """Eyes that are never quite still: blinks, small saccades, counter-rotation; reproducible by the seed. Sources and
    figures: ``motion.eyes``."""

    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    blinks: Annotated[float, Field(ge=0, le=60)] = Field(default=17.0, description="A minute; 0: none.")
    drowsiness: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.0, description="How slow the blinks are: 0 awake, 1 drowsy."
    )
    perclos: Annotated[list[Annotated[float, Field(ge=0, le=0.6)]], Field(min_length=2, max_length=20)] | None = Field(
        default=None,
        description="In place of blinks and drowsiness: share of the last minute with closed eyes, at evenly spaced "
        "moments from the beginning to the end.",
    )
    saccades: Annotated[float, Field(ge=0, le=5)] = Field(
        default=1.0, description="Standard deviation of the line of sight between small saccades, degrees."
    )

    @model_validator(mode="after")
    def _fit_in(self) -> NaturalEyes:
        if self.perclos is not None and (self.blinks, self.drowsiness) != (17.0, 0.0):
            raise ValueError("perclos says when the eyes close; leave blinks and drowsiness out")
        if self.blinks:
            try:
                natural_blinks(0, 0, 0, self.blinks, self.drowsiness)
            except DmsynthError as error:
                raise ValueError(str(error)) from None
        return self

    def lids(self, times: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
        """(n,) the opening, 0 to 1, at ``times`` (n,), seconds."""
        begin, end = float(times[0]), float(times[-1])
        if self.perclos is not None:
            moments = np.linspace(begin, max(end, begin + 1), len(self.perclos))
            return eye_opening(times, perclos_blinks(moments, self.perclos, random))
        blinks = natural_blinks(begin, end, random, self.blinks, self.drowsiness) if self.blinks else []
        return eye_opening(times, blinks)


class Talking(_Strict):
    """A mouth that talks, with pauses, from the beginning to the end; where a move opens it wider, that counts.
    Reproducible by the seed. Sources and figures: ``motion.mouth``."""

    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0


class Window(_Strict):
    """An expected warning. Times are seconds after the mark ``since``."""

    since: str = Field(description="A mark. Latency is counted from it.")
    earliest: Annotated[float, Field(ge=-600, le=600)] = Field(
        default=0.0, description="A warning before is a false alarm."
    )
    latest: Annotated[float, Field(gt=0, le=600)] = Field(description="A warning must have begun by then.")
    until: str | None = Field(
        default=None, description="A mark; up to it the warning may go on or come again. Default: the end of the video."
    )
    kind: WarningKind | None = Field(
        default=None, description="Its kind, asked of a DMS that tells kinds; others are judged by the time only."
    )

    @model_validator(mode="after")
    def _in_order(self) -> Window:
        if self.latest <= self.earliest:
            raise ValueError(f"latest ({self.latest:g}) must come after earliest ({self.earliest:g})")
        return self


class Blocked(_Strict):
    """The view is blocked, and the DMS has to tell that it cannot see. Elsewhere it must not tell so."""

    since: str = Field(description="A mark: from then on the view is blocked.")
    within: Annotated[float, Field(gt=0, le=600)] = Field(
        default=10.0,
        description="Seconds until it must tell. Euro NCAP: the driver is informed within 10 s of the occlusion.",
    )
    until: str | None = Field(default=None, description="A mark: the view is clear again. Default: the end.")
    back: Annotated[float, Field(ge=0, le=600)] = Field(
        default=3.0, description="Seconds after that in which it may still tell so. Our choice."
    )


class Requirements(_Strict):
    """Requirements on the DMS besides warnings. Only those given are judged."""

    availability: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None, description="Smallest share of the time for which it answers."
    )
    mean_error: dict[
        Literal["pitch", "yaw", "roll", "gaze_pitch", "gaze_yaw", "eye_opening"], Annotated[float, Field(gt=0)]
    ] = Field(
        default_factory=dict,
        description="Largest mean absolute difference of its answer from the command: degrees, and shares of rest.",
    )
    lag: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="Longest lag behind the command, seconds."
    )


class Wearing(_Strict):
    """A thing on the driver's face."""

    thing: str = Field(description="Its name (docs/things.md).")
    since: Annotated[float, Field(ge=0, le=_LONGEST)] | None = Field(default=None, description="Seconds; default: 0.")
    until: Annotated[float, Field(gt=0, le=_LONGEST)] | None = Field(
        default=None, description="Seconds; default: the end."
    )

    @model_validator(mode="after")
    def _exists(self) -> Wearing:
        try:
            self.worn  # noqa: B018
        except DmsynthError as error:
            raise ValueError(str(error)) from None
        return self

    @property
    def worn(self) -> Worn:
        since, until = ("" if each is None else f"{each:g}" for each in (self.since, self.until))
        return parse_things([f"{self.thing}={since}:{until}" if since or until else self.thing])[0]

    @staticmethod
    def of(worn: Worn) -> Wearing:
        until = None if math.isinf(worn.until) else worn.until
        return Wearing(thing=worn.name, since=worn.since or None, until=until)


def _wearing(given: Any) -> Any:
    """A thing's name alone stands for it from the beginning to the end."""
    return {"thing": given} if isinstance(given, str) else given


def _camera(given: Any) -> Any:
    """The included camera of a name; anything else as it is."""
    if not isinstance(given, str):
        return given
    known = [path.stem for path in cameras()]
    if given not in known:
        raise ValueError(f"no camera {given!r}; there is: {', '.join(known)}")
    return read_camera(given)


class Scenario(_Strict):
    """The driver's motion and the expected reaction of a DMS."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=60, description="The file's name.")]
    title: Annotated[str, Field(min_length=1, max_length=200)]
    group: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")] = "own"
    source: Annotated[str, Field(min_length=1, description="Where the scenario and its numbers come from.")]
    requirements: Annotated[list[RequirementId], Field(max_length=50)] = Field(
        default_factory=list,
        description="Ids of what it gives evidence for: a regulation, or an entry of your own list.",
    )
    speed: Annotated[float, Field(ge=0, le=300)] = Field(description="Of the vehicle, km/h.")
    frame_rate: Annotated[float, Field(ge=5, le=120)] = 25
    camera: Annotated[Camera, BeforeValidator(_camera, json_schema_input_type=str | Camera)] | None = Field(
        default=None,
        description="The cabin camera: the name of an included one, or all of it (docs/camera.md); it has a frame rate "
        "of its own. Poses are then the car's. Default: straight ahead, with nothing done to the picture.",
    )
    wear: Annotated[
        list[Annotated[Wearing, BeforeValidator(_wearing, json_schema_input_type=str | Wearing)]],
        Field(max_length=20),
    ] = Field(default_factory=list, description="Things on the driver's face (docs/things.md), by name or with times.")
    start: Pose = Pose()
    sway: Sway = Sway()
    eyes: (
        Annotated[
            Annotated[Literal["natural"], Tag("(word)")] | Annotated[NaturalEyes, Tag("(eyes)")],
            Discriminator(lambda value: "(eyes)" if isinstance(value, dict | NaturalEyes) else "(word)"),
        ]
        | None
    ) = Field(default=None, description="Natural eyes, added to the moves. Default: eyes at rest in the head.")
    talking: Talking | None = Field(
        default=None, description="A mouth that talks, added to the moves. Default: at rest."
    )
    moves: Annotated[list[Step], Field(min_length=1)]
    warnings: Annotated[
        Annotated[Literal["ignore"], Tag("(word)")] | Annotated[list[Window], Tag("(windows)")],
        Discriminator(lambda value: "(windows)" if isinstance(value, list | tuple) else "(word)"),
    ] = Field(
        default_factory=list, description="The warnings that have to come; any other is a false alarm. Or: ignore."
    )
    unavailable: Annotated[list[Blocked], Field(max_length=20)] = Field(
        default_factory=list,
        description="When the view is blocked, so that the DMS has to tell that it cannot see. Not judged if empty.",
    )
    require: Requirements = Requirements()

    @model_validator(mode="after")
    def _is_short(self) -> Scenario:
        """Check the length before repeats are expanded and frames are made, which takes time and memory."""
        moves, seconds = _size(self.moves, self.frame_rate)
        if seconds > _LONGEST:
            raise ValueError(f"lasts {seconds:g} s or more; at most {_LONGEST:g} s are rendered")
        if moves > _MOST_MOVES:
            raise ValueError(f"has {moves} moves, repeats written out; at most {_MOST_MOVES} are followed")
        return self

    @model_validator(mode="after")
    def _eyes_agree(self) -> Scenario:
        """Check that no two names say where the eyes look, and that the eyes reach it."""
        names = self._named
        look, gaze, head = ([n for n in those if n in names] for those in (LOOK[:2], EYES[:2], HEAD[:2]))
        if look and gaze:
            raise PlacedError(
                f"{look[0]} says where the eyes look, and so does {gaze[0]}; leave one out", *names[gaze[0]]
            )
        if "head_share" in names and (head or not look):
            beside = f"{head[0]} says it, too" if head else "there is no look_yaw or look_pitch"
            raise PlacedError(
                f"says how much of a look the head does, but {beside}; leave it out", *names["head_share"]
            )
        if self.moves_eyes and _size(self.moves, self.frame_rate)[1] <= _LONGEST:
            try:
                CONTROL_SPACES["driver"].check(self._course.values)
            except DmsynthError as error:
                share = "; give more head_share" if "gaze" in str(error) and look else ""
                raise ValueError(f"{error}{share}") from None
        return self

    @model_validator(mode="after")
    def _marks_exist(self) -> Scenario:
        path, marks = self._path
        if path.seconds > _LONGEST:
            raise ValueError(f"lasts {path.seconds:g} s; at most {_LONGEST:g} s are rendered")
        for number, window in enumerate(self.windows):
            for field, name in (("since", window.since), ("until", window.until)):
                if name is not None and name not in marks:
                    known = ", ".join(marks) or "no step has one"
                    raise PlacedError(f"no mark {name!r}; there is: {known}", "warnings", number, field)
            if marks[window.since] + window.latest > path.seconds + 1e-6:
                raise PlacedError(
                    f"the warning may come after the end of the scenario ({path.seconds:g} s)",
                    "warnings",
                    number,
                    "latest",
                )
        self._check_blocked(marks, path.seconds)
        return self

    def _check_blocked(self, marks: dict[str, float], seconds: float) -> None:
        for number, blocked in enumerate(self.unavailable):
            for field, name in (("since", blocked.since), ("until", blocked.until)):
                if name is not None and name not in marks:
                    known = ", ".join(marks) or "no step has one"
                    raise PlacedError(f"no mark {name!r}; there is: {known}", "unavailable", number, field)
            since, until = marks[blocked.since], marks[blocked.until] if blocked.until else seconds
            if since + blocked.within > until + 1e-6:
                raise PlacedError(
                    f"the view is blocked for {until - since:g} s only; give the DMS less than that",
                    "unavailable",
                    number,
                    "within",
                )

    @property
    def worn(self) -> tuple[Worn, ...]:
        return tuple(each.worn for each in self.wear)

    @property
    def video_rate(self) -> float:
        """Frames a second of the video."""
        return self.camera.sensor.frame_rate if self.camera else self.frame_rate

    @property
    def windows(self) -> list[Window]:
        return [] if self.warnings == "ignore" else self.warnings

    @property
    def blocked(self) -> list[tuple[float, float]]:
        """From when until when the view is blocked, in seconds."""
        ends = [self.marks[each.until] if each.until else self.seconds for each in self.unavailable]
        return [(self.marks[each.since], end) for each, end in zip(self.unavailable, ends, strict=True)]

    def in_setting(self, camera: Camera | None, wear: Sequence[Wearing]) -> Scenario:
        """The scenario before another camera (None: its own), or with other things on the face (empty: its own). One
        that blocks the view by a camera or things of its own keeps these: they are what it is about."""
        changed: dict[str, Any] = {}
        if camera and not (self.unavailable and self.camera):
            changed["camera"] = camera
        if wear and not (self.unavailable and self.wear):
            changed["wear"] = list(wear)
        return self.model_copy(update=changed)

    @property
    def marks(self) -> dict[str, float]:
        """Time of every mark in seconds."""
        return self._path[1]

    @property
    def seconds(self) -> float:
        return self._path[0].seconds

    @property
    def moves_eyes(self) -> bool:
        """Whether it needs a face that moves its eyes, mouth and brows."""
        return self.eyes is not None or self.talking is not None or any(name in _FEATURES for name in self._named)

    @property
    def moves_brows(self) -> bool:
        return BROWS in self._named

    def trajectory(self) -> Trajectory:
        """The command for each frame, sway included: ``pitch``, ``yaw``, ``roll`` in degrees, and if it moves the eyes
        also the rest of the control space ``driver``."""
        return self._course

    def motions(self) -> list[Motion]:
        """Its moves with repeats expanded, beginning with the start pose, without sway and natural eyes."""
        start = [Motion("sweep", 1 / self.frame_rate, self.start.named)] if any(self.start.named.values()) else []
        return start + self._path[0].motions

    @cached_property
    def _named(self) -> dict[str, tuple[int | str, ...]]:
        """The names that start and moves command, and where each stands first."""
        found: dict[str, tuple[int | str, ...]] = {name: ("start", name) for name in self.start.named}
        _collect(self.moves, ("moves",), found)
        return found

    @cached_property
    def _course(self) -> Trajectory:
        motion = self._path[0].trajectory()
        if not self.moves_eyes:
            return Trajectory(motion.names, motion.times, motion.values + self._swaying(motion.times))
        eyes = NaturalEyes(saccades=0, blinks=0) if self.eyes is None else self.eyes
        eyes = NaturalEyes() if eyes == "natural" else eyes
        lids, scan = np.random.default_rng(eyes.seed).spawn(2)
        columns = {name: motion[name] for name in motion.names}
        if set(LOOK) & set(columns):  # which looks the head follows is known before it sways
            turned = with_gaze(motion)
            columns = {name: values for name, values in columns.items() if name != "head_share"}
            columns |= {name: turned[name] for name in HEAD}
        for name, waves in zip(HEAD, self._swaying(motion.times).T, strict=True):
            columns[name] = columns.get(name, np.zeros(len(motion))) + waves
        aside = [name for name in ("look_yaw", "look_pitch", "gaze_yaw", "gaze_pitch") if name in columns]
        if eyes.saccades and aside:
            around = small_saccades(0, motion.seconds + 0.01, scan, spread=eyes.saccades)
            stray = saccades(motion.times, around)
            for name in (f"{aside[0].partition('_')[0]}_{axis}" for axis in ("yaw", "pitch")):
                columns[name] = columns.get(name, np.zeros(len(motion))) + stray[:, int(name.endswith("pitch"))]
        blinking = eyes.lids(motion.times, lids)
        columns[BOTH_EYES] = columns.get(BOTH_EYES, np.ones(len(motion))) * blinking
        whole = with_gaze(Trajectory(tuple(columns), motion.times, np.stack(list(columns.values()), axis=1)))
        if self.eyes is not None and not aside:
            whole = natural_eyes(whole, eyes.seed, spread=eyes.saccades)
        whole = whole if self.talking is None else talking(whole, self.talking.seed)
        return whole.in_space(CONTROL_SPACES["driver"])

    def _swaying(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, 3) degrees of pitch, yaw and roll."""
        waves = [slow_wave(times, getattr(self.sway, name), (self.sway.seed, i)) for i, name in enumerate(HEAD)]
        return np.stack(waves, axis=1)

    @cached_property
    def _path(self) -> tuple[MotionPath, dict[str, float]]:
        space = CONTROL_SPACES["driver"]
        own = tuple(name for name in _FEATURES if name in self._named)
        turns = not set(own) & set(LOOK) or any(name in self._named for name in HEAD[:2])
        names = (*(HEAD if turns else HEAD[2:]), *own)
        path = MotionPath(names, self.frame_rate, space.rest | self._first_share | self.start.named)
        marks: dict[str, float] = {}
        _follow(self.moves, path, marks, Counter())
        return path, marks

    @property
    def _first_share(self) -> dict[str, float]:
        """The first ``head_share`` holds from the beginning, where there is nothing to share yet."""
        share = next((pose.head_share for pose in _poses(self.moves) if pose.head_share is not None), None)
        return {} if share is None else {"head_share": share}


def _poses(steps: Sequence[Hold | Move | Sweep | Repeat]) -> Iterator[Pose]:
    """The poses that steps lead to, those of a repeat once."""
    for step in steps:
        if isinstance(step, Repeat):
            yield from _poses(step.moves)
        elif not isinstance(step, Hold):
            yield step.move if isinstance(step, Move) else step.sweep


def _collect(
    steps: Sequence[Hold | Move | Sweep | Repeat],
    place: tuple[int | str, ...],
    found: dict[str, tuple[int | str, ...]],
) -> None:
    """Add to ``found`` every name that steps at ``place`` command, with the place where it stands first."""
    for number, step in enumerate(steps):
        if isinstance(step, Repeat):
            _collect(step.moves, (*place, number, "moves"), found)
        elif not isinstance(step, Hold):
            kind, pose = ("move", step.move) if isinstance(step, Move) else ("sweep", step.sweep)
            for name in pose.named:
                found.setdefault(name, (*place, number, kind, name))


def _size(steps: Sequence[Hold | Move | Sweep | Repeat], frame_rate: float) -> tuple[int, float]:
    """Number of moves with repeats expanded, and their minimum duration in seconds."""
    moves, seconds = 0, 0.0
    for step in steps:
        if isinstance(step, Repeat):
            inner, lasts = _size(step.moves, frame_rate)
            moves, seconds = moves + step.repeat * inner, seconds + step.repeat * lasts
        else:
            lasts = step.hold if isinstance(step, Hold) else step.seconds or 1 / frame_rate
            moves, seconds = moves + 1, seconds + lasts
    return moves, seconds


def _follow(
    steps: Sequence[Hold | Move | Sweep | Repeat], path: MotionPath, marks: dict[str, float], met: Counter[str]
) -> None:
    """Append ``steps`` to ``path`` and record the times of their marks; ``met`` counts the occurrences of each."""
    for step in steps:
        if isinstance(step, Repeat):
            for _ in range(step.repeat):
                _follow(step.moves, path, marks, met)
            continue
        if step.mark is not None:
            met[step.mark] += 1
            times = met[step.mark]
            marks[step.mark if times == 1 else f"{step.mark}.{times}"] = path.seconds
        if isinstance(step, Hold):
            path.add("hold", step.hold, {}, {})
            continue
        kind, pose = ("move", step.move) if isinstance(step, Move) else ("sweep", step.sweep)
        path.add(kind, _duration(step, pose.named, path), {}, pose.named)


def _duration(step: _Timed, pose: dict[str, float], path: MotionPath) -> float:
    if step.seconds is not None:
        return step.seconds
    assert step.peak_speed is not None
    now = dict(zip(path.names, path.end, strict=True))
    widest = max((abs(value - now[name]) for name, value in pose.items()), default=0.0)
    mean_speed = step.peak_speed / (_PEAK_OVER_MEAN if isinstance(step, Move) else 1)
    return max(1 / path.frame_rate, widest / mean_speed)


def slow_wave(times: NDArray[np.float64], size: float, seed: tuple[int, int]) -> NDArray[np.float64]:
    """A sum of slow sines with root mean square ``size``; (n,)."""
    random = np.random.default_rng(seed)
    frequencies = random.uniform(*_SWAY_BAND, _SWAY_WAVES)
    phases = random.uniform(0, 2 * np.pi, _SWAY_WAVES)
    waves = np.sin(2 * np.pi * frequencies * times[:, None] + phases).sum(axis=1)
    return np.asarray(size * waves * np.sqrt(2 / _SWAY_WAVES))
