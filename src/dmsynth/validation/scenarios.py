"""Scenarios: the driver's motion, and the expected reaction of a DMS, as YAML (``docs/scenarios.md``).

A scenario file contains the scenario's source, parameters, moves and expectations. ``scenario_files.py`` reads it and
reports errors with their line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from dmsynth.controls import CONTROL_SPACES
from dmsynth.motion.trajectory import Motion, MotionPath, Trajectory

_LONGEST = 600.0  # seconds
_MOST_MOVES = 2000  # with repeats expanded: a small file must not become a huge motion
_PEAK_OVER_MEAN = 1.875  # of a minimum-jerk move's speed (Flash and Hogan 1985)
_SWAY_WAVES = 12
_SWAY_BAND = (0.05, 0.6)  # Hz: from slow shifts of the trunk to breathing

Angle = Annotated[float, Field(ge=-90, le=90)]
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
    """A head rotation in degrees; angles that are not given keep their value."""

    pitch: Angle | None = None
    yaw: Angle | None = None
    roll: Angle | None = None

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

    @model_validator(mode="after")
    def _in_order(self) -> Window:
        if self.latest <= self.earliest:
            raise ValueError(f"latest ({self.latest:g}) must come after earliest ({self.earliest:g})")
        return self


class Requirements(_Strict):
    """Requirements on the DMS besides warnings. Only those given are judged."""

    availability: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None, description="Smallest share of the time for which it answers."
    )
    mean_error: dict[Literal["pitch", "yaw", "roll"], Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict, description="Largest mean absolute difference of its head pose from the command, degrees."
    )
    lag: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="Longest lag behind the command, seconds."
    )


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
    start: Pose = Pose()
    sway: Sway = Sway()
    moves: Annotated[list[Step], Field(min_length=1)]
    warnings: Annotated[
        Annotated[Literal["ignore"], Tag("(word)")] | Annotated[list[Window], Tag("(windows)")],
        Discriminator(lambda value: "(windows)" if isinstance(value, list | tuple) else "(word)"),
    ] = Field(
        default_factory=list, description="The warnings that have to come; any other is a false alarm. Or: ignore."
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
        return self

    @property
    def windows(self) -> list[Window]:
        return [] if self.warnings == "ignore" else self.warnings

    @property
    def marks(self) -> dict[str, float]:
        """Time of every mark in seconds."""
        return self._path[1]

    @property
    def seconds(self) -> float:
        return self._path[0].seconds

    def trajectory(self) -> Trajectory:
        """The command for each frame: ``pitch``, ``yaw``, ``roll`` in degrees, sway included."""
        motion = self._path[0].trajectory()
        swaying = np.stack(
            [_wave(motion.times, getattr(self.sway, name), (self.sway.seed, i)) for i, name in enumerate(motion.names)],
            axis=1,
        )
        return Trajectory(motion.names, motion.times, motion.values + swaying)

    def motions(self) -> list[Motion]:
        """Its moves with repeats expanded, beginning with the start pose, without sway."""
        start = [Motion("sweep", 1 / self.frame_rate, self.start.named)] if any(self.start.named.values()) else []
        return start + self._path[0].motions

    @cached_property
    def _path(self) -> tuple[MotionPath, dict[str, float]]:
        path = MotionPath(CONTROL_SPACES["rotation"].names, self.frame_rate, self.start.named)
        marks: dict[str, float] = {}
        _follow(self.moves, path, marks, Counter())
        return path, marks


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


def _wave(times: NDArray[np.float64], size: float, seed: tuple[int, int]) -> NDArray[np.float64]:
    """A sum of slow sines with root mean square ``size``; (n,)."""
    random = np.random.default_rng(seed)
    frequencies = random.uniform(*_SWAY_BAND, _SWAY_WAVES)
    phases = random.uniform(0, 2 * np.pi, _SWAY_WAVES)
    waves = np.sin(2 * np.pi * frequencies * times[:, None] + phases).sum(axis=1)
    return np.asarray(size * waves * np.sqrt(2 / _SWAY_WAVES))
