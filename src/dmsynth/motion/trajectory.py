"""Controls over time: sweeps, holds, minimum-jerk moves, tables, and the tracked poses of a driving video.

On the command line a trajectory is a file (``.csv``, ``.parquet``, or a video of any person) or a line of motions:

    hold 0.5; move yaw=-30 1; sweep yaw=-30:30 4; move yaw=0 pitch=10 1.5

``move`` goes to a pose with a natural head movement (minimum jerk), ``sweep`` at constant speed, ``hold`` keeps the
pose. The last number is the duration in seconds; controls that are not named keep their value; rotations start at 0,
positions in the middle.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dmsynth.controls import BOTH_EYES, BROWS, EYES, HEAD, MOUTH, ControlSpace
from dmsynth.support.errors import DmsynthError
from dmsynth.support.table_files import write_table

_MOST_FRAMES = 1_000_000


@dataclass(frozen=True)
class Trajectory:
    """Controls over time.

    Attributes:
        names: the controls, in the order of the columns of ``values``.
        times: (n,) seconds, increasing, with any start.
        values: (n, len(names)) in each control's unit.
    """

    names: tuple[str, ...]
    times: NDArray[np.float64]
    values: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.times)

    @property
    def seconds(self) -> float:
        return float(self.times[-1] - self.times[0]) if len(self) else 0.0

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        return self.values[:, self.names.index(name)]

    def resampled(self, frame_rate: float) -> Trajectory:
        """The same motion at ``frame_rate`` frames a second, linearly interpolated."""
        count = _frames(self.seconds, frame_rate, "check that times are in seconds")
        times = self.times[0] + np.arange(count) / frame_rate
        columns = [np.interp(times, self.times, column) for column in self.values.T]
        return Trajectory(self.names, times - times[0], np.stack(columns, axis=1))

    def first(self, seconds: float, where: str) -> Trajectory:
        """The first ``seconds``. ``DmsynthError`` naming the source (``where``) if the trajectory is shorter."""
        if self.seconds < seconds - 1e-6:
            raise DmsynthError(
                f"{where}: lasts {self.seconds:.2f} s, but {seconds:g} s were asked for; "
                "give a longer one or ask for less"
            )
        inside = self.times <= self.times[0] + seconds + 1e-6
        return Trajectory(self.names, self.times[inside], self.values[inside])

    def only(self, names: Sequence[str]) -> Trajectory:
        """The columns ``names``."""
        return Trajectory(tuple(names), self.times, np.stack([self[name] for name in names], axis=1))

    def in_space(self, space: ControlSpace) -> Trajectory:
        """The columns of ``space`` in its order; a control the trajectory does not have is held at rest.
        ``eye_opening`` is a factor for both lids."""
        named = {name: self[name] for name in self.names}
        columns = [
            named.get(c.name, np.full(len(self), c.at_rest)) * space.factor(c.name, named) for c in space.controls
        ]
        if not set(self.names) & set(space.commands):
            raise DmsynthError(
                f"the trajectory steers {', '.join(self.names)}, but this face has {', '.join(space.names)}"
            )
        return Trajectory(space.names, self.times, np.stack(columns, axis=1))

    def table(self) -> pd.DataFrame:
        """Columns ``frame``, ``time`` and one per control."""
        frame = pd.DataFrame({"frame": np.arange(len(self)), "time": self.times})
        for name in self.names:
            frame[name] = self[name]
        return frame

    def save(self, path: Path) -> None:
        """Write the table as .csv or .parquet."""
        write_table(path, self.table())


def _frames(seconds: float, frame_rate: float, mend: str) -> int:
    """Number of frames. ``DmsynthError`` if it exceeds the limit."""
    if not seconds * frame_rate < _MOST_FRAMES:
        raise DmsynthError(
            f"trajectory: {seconds:g} s at {frame_rate:g} frames a second are more frames than are steered at once "
            f"({_MOST_FRAMES}): {mend}"
        )
    return int(np.floor(seconds * frame_rate + 1e-6)) + 1


def minimum_jerk(
    start: NDArray[np.float64], end: NDArray[np.float64], phase: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Positions (n, k) on the minimum-jerk path from ``start`` (k,) to ``end`` (k,) at ``phase`` (n,) in [0, 1].

    10 p³ − 15 p⁴ + 6 p⁵ (Flash and Hogan 1985): the smoothest path between two poses, at rest at both ends.
    """
    share = np.minimum(
        phase**3 * (10 - 15 * phase + 6 * phase**2), 1
    )  # rounding must not lead beyond a control's range
    return start + share[:, None] * (end - start)


@dataclass(frozen=True)
class Motion:
    """One part of a trajectory: ``kind`` is hold, move or sweep; ``pose`` is the target in each control's unit;
    controls that are not named keep their value."""

    kind: str
    seconds: float
    pose: dict[str, float]

    def __str__(self) -> str:
        return " ".join(filter(None, [self.kind, as_settings(self.pose), f"{self.seconds:g}"]))


def in_words(motions: Sequence[Motion]) -> str:
    """Motions as text for ``parse_motions``."""
    return "; ".join(map(str, motions))


def settings(text: str) -> dict[str, float]:
    """Values by name from words such as ``gaze_yaw=-20 eye_opening=0.2``. ``DmsynthError`` for words that say
    something else."""
    values = {}
    for word in text.split():
        name, equals, value = word.partition("=")
        if not (equals and _NAME.fullmatch(name)):
            raise DmsynthError(f"cannot read {word[:_SHOWN]!r}; write names and values such as gaze_yaw=-20")
        values[name] = _number(value, word[:_SHOWN])
    return values


def as_settings(values: Mapping[str, float]) -> str:
    """Values by name in words, for ``settings``."""
    return " ".join(f"{name}={value:g}" for name, value in values.items())


def from_pad(taken: NDArray[np.float64], space: ControlSpace) -> Trajectory:
    """A motion recorded by hand: rows (n, 1 + k) of seconds and the controls of ``space``, as a trajectory from 0 s.
    Eyes that stay at rest are left out, and lids that move alike are one ``eye_opening``.

    Raises ``DmsynthError`` if there are no two rows, or not of such numbers.
    """
    if taken.ndim != 2 or len(taken) < 2:
        raise DmsynthError("nothing was recorded: press Record, drag on the pad, press Stop")
    if taken.shape[1] != 1 + space.size or not np.isfinite(taken).all():
        raise DmsynthError(f"a recording of this face has seconds, {', '.join(space.names)}; record it anew")
    columns = dict(zip(space.names, taken[:, 1:].T, strict=True))
    if space.moves_eyes:
        left, right = EYES[2:]
        if np.array_equal(columns[left], columns[right]):
            columns[BOTH_EYES] = columns.pop(left)
            del columns[right]
        still = [name for name in columns if name not in HEAD and (columns[name] == space.rest[name]).all()]
        columns = {name: column for name, column in columns.items() if name not in still}
    return Trajectory(tuple(columns), taken[:, 0] - taken[0, 0], np.stack(list(columns.values()), axis=1))


def as_sweeps(motion: Trajectory, tolerance: float = 0.5) -> list[Motion]:
    """Approximate a recorded motion by few sweeps; no control deviates by more than ``tolerance`` (in its unit; Ramer
    1972, Douglas and Peucker 1973), no opening of eyes or mouth and no raise of brows by more than a tenth. The first
    sweep takes 0.2 s and leads from the trajectory's start to the first recorded pose. Controls that keep their value
    are not named; where all do, it is a hold."""
    spans_one = (BOTH_EYES, MOUTH, BROWS)  # not degrees
    fine = np.array([0.1 if name.startswith(spans_one) else 1.0 for name in motion.names])
    kept = {0, len(motion) - 1}
    stretches = [(0, len(motion) - 1)]
    while stretches:
        first, last = stretches.pop()
        if last - first < 2:
            continue
        share = (motion.times[first : last + 1] - motion.times[first]) / (motion.times[last] - motion.times[first])
        straight = motion.values[first] + share[:, None] * (motion.values[last] - motion.values[first])
        off = np.abs((motion.values[first : last + 1] - straight) / fine).max(axis=1)
        if off.max() > tolerance:
            middle = first + int(off.argmax())
            kept.add(middle)
            stretches += [(first, middle), (middle, last)]
    corners = sorted(kept)
    lengths = [0.2, *np.diff(motion.times[corners])]
    digits = [1 if each == 1 else 2 for each in fine]
    motions: list[Motion] = []
    now: dict[str, float] = {}
    for corner, seconds in zip(corners, lengths, strict=True):
        there = {n: round(float(motion[n][corner]), d) for n, d in zip(motion.names, digits, strict=True)}
        moved = {name: value for name, value in there.items() if value != now.get(name)}
        if seconds > 0:
            motions.append(Motion("sweep" if moved else "hold", round(float(seconds), 3), moved))
            now |= moved
    return motions


class MotionPath:
    """Builds a trajectory from motions, one after the other, at a frame rate."""

    def __init__(self, names: Sequence[str], frame_rate: float, rest: Mapping[str, float]) -> None:
        self.names = tuple(names)
        self.frame_rate = frame_rate
        self.end = np.array([rest.get(name, 0.0) for name in self.names])
        self.seconds = 0.0
        self.parts: list[tuple[float, float, str, NDArray[np.float64], NDArray[np.float64]]] = []

    def add(self, kind: str, seconds: float, start: Mapping[str, float], end: Mapping[str, float]) -> None:
        begin = np.array([start.get(name, value) for name, value in zip(self.names, self.end, strict=True)])
        finish = np.array([end.get(name, value) for name, value in zip(self.names, begin, strict=True)])
        self.parts.append((self.seconds, seconds, kind, begin, finish))
        self.seconds += seconds
        self.end = finish

    @property
    def motions(self) -> list[Motion]:
        """The added motions, with the controls that change."""
        return [
            Motion(
                kind,
                seconds,
                {n: float(b) for n, a, b in zip(self.names, start, end, strict=True) if kind != "hold" and a != b}
                or ({} if kind == "hold" else {self.names[0]: float(end[0])}),
            )
            for _, seconds, kind, start, end in self.parts
        ]

    def trajectory(self) -> Trajectory:
        count = _frames(self.seconds, self.frame_rate, "make it shorter")
        times = np.arange(count) / self.frame_rate
        values = np.empty((count, len(self.names)))
        begins = [part[0] - 1e-9 for part in self.parts]  # each part owns the frames before the next
        owns = [*np.searchsorted(times, begins), count]
        for number, (begin, seconds, kind, start, end) in enumerate(self.parts):
            within = slice(owns[number], owns[number + 1])
            phase = np.clip((times[within] - begin) / seconds, 0, 1)
            straight = start + phase[:, None] * (end - start)
            values[within] = minimum_jerk(start, end, phase) if kind == "move" else straight
        return Trajectory(self.names, times, values)


_MOTION = re.compile(r"^(?P<kind>hold|move|sweep)\b(?P<middle>.*?)\s(?P<seconds>[-+.\deE]+)\s*s?$")
_NAME = re.compile(r"[a-z][a-z_]{0,30}")
_SHOWN = 60  # characters of a wrong motion
_LARGEST = 1e6  # of a value, in any control's unit
_WORDS = re.compile(r"^\s*(hold|move|sweep)\b")
_HOW = "write motions such as 'hold 0.5; move yaw=-30 1; sweep yaw=-30:30 4' (the last number is seconds)"


def is_motions(text: str) -> bool:
    """Whether a text begins like motions."""
    return _WORDS.match(text) is not None


def parse_motions(
    text: str, names: Sequence[str], frame_rate: float, rest: Mapping[str, float] | None = None, sparse: bool = False
) -> Trajectory:
    """A trajectory from a line of motions (see the module docstring), for controls ``names``.

    Motions start at ``rest``, by default 0. ``sparse``: without the controls that no motion names.
    Raises ``DmsynthError`` naming the motion that cannot be read.
    """
    path, named = MotionPath(names, frame_rate, rest or {}), set[str]()
    for whole in (part.strip() for part in re.split(r"[;\n]", text)):
        if not whole:
            continue
        match, motion = _MOTION.match(whole), whole if len(whole) <= _SHOWN else f"{whole[:_SHOWN]}…"
        if match is None:
            raise DmsynthError(f"trajectory: cannot read {motion!r}; {_HOW}")
        kind, seconds = match["kind"], _number(match["seconds"], motion)
        if not 0 < seconds <= 3600:
            raise DmsynthError(f"trajectory: {motion!r} lasts {seconds:g} s; a motion lasts up to 3600 s; {_HOW}")
        start: dict[str, float] = {}
        end: dict[str, float] = {}
        for setting in match["middle"].split():
            name, _, value = setting.partition("=")
            if name not in names:
                raise DmsynthError(
                    f"trajectory: no control {name[:_SHOWN]!r} in {motion!r}; there is {', '.join(names)}"
                )
            first, colon, last = value.partition(":")
            if kind == "sweep" and colon:
                start[name], end[name] = _number(first, motion), _number(last, motion)
            else:
                end[name] = _number(value, motion)
        if (kind == "hold") == bool(end):
            raise DmsynthError(f"trajectory: cannot read {motion!r}; {_HOW}")
        path.add(kind, seconds, start, end)
        named |= {*start, *end}
    if not path.parts:
        raise DmsynthError(f"trajectory: no motion given; {_HOW}")
    trajectory = path.trajectory()
    kept = named or names[:1]  # who only holds still commands nothing else, but says for how long
    return trajectory.only([name for name in names if name in kept]) if sparse else trajectory


def _number(text: str, motion: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not abs(value) <= 1e12:
        raise DmsynthError(f"trajectory: {text[:_SHOWN]!r} is no number, or too large, in {motion!r}; {_HOW}")
    return value


def from_table(table: pd.DataFrame, names: Sequence[str], where: str) -> Trajectory:
    """A trajectory from a table with a ``time`` column (seconds, increasing) and one column per control.

    Other columns are ignored, so the table written beside a steered video, or one written by
    ``dmsynth track``, can be read back. In a tracked table (with a ``found`` column) frames without a face are
    skipped. Otherwise raises ``DmsynthError`` naming the table (``where``), row and column.
    """
    present = [name for name in names if name in table.columns]
    for column in ("time", *(present or names)):
        if column not in table.columns:
            raise DmsynthError(
                f"{where}: has no column {column!r}; a trajectory needs 'time' (seconds) and at least one of "
                f"{', '.join(names)}"
            )
    if "found" in table.columns:
        table = table[table["found"].astype(bool)]
    if table.empty:
        raise DmsynthError(f"{where}: holds no usable row; a trajectory needs at least one")
    columns = {}
    for column in ("time", *present):
        numbers = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=float)
        most = 1e12 if column == "time" else _LARGEST  # seconds since 1970, too
        bad = np.flatnonzero(~(np.abs(numbers) <= most))
        if bad.size:
            held = table[column].tolist()[bad[0]]
            raise DmsynthError(
                f"{where}: row {bad[0]}, column {column!r} holds {held!r}; "
                "every value must be a number: fill or remove that row"
            )
        columns[column] = numbers
    times = columns.pop("time")
    late = np.flatnonzero(np.diff(times) <= 0)
    if late.size:
        raise DmsynthError(f"{where}: time does not increase at row {late[0] + 1}; sort the rows by time")
    return Trajectory(tuple(present), times, np.stack(list(columns.values()), axis=1))
