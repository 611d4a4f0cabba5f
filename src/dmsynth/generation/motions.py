"""What a driver does in a clip: natural driving, an even walk through the coverage, or cells that are visited in turn.

``driving`` is in the car's frame. ``uniform`` and ``stratified`` are in that of the drawn face, in which coverage is
known: as the camera sees it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from dmsynth.controls import BOTH_EYES, BROWS, EYES, HEAD, MOUTH, ControlSpace
from dmsynth.controls.coverage import Coverage
from dmsynth.controls.pose import rotation_matrix
from dmsynth.generation.plan import Driving, Ranges
from dmsynth.motion.eyes import (
    Blink,
    Fixation,
    eye_opening,
    gaze_in_head,
    gaze_shifts,
    line_of_sight,
    microsleep,
    natural_blinks,
    saccades,
    small_saccades,
)
from dmsynth.motion.mouth import talking
from dmsynth.motion.trajectory import MotionPath, Trajectory, minimum_jerk
from dmsynth.support.errors import DmsynthError
from dmsynth.validation.scenarios import slow_wave

Double = NDArray[np.float64]

_TARGETS = (
    (0.22, 3.0, -13.0), (0.18, -22.0, -14.0), (0.2, -26.0, 7.0), (0.18, 32.0, -4.0), (0.08, -36.0, -5.0),
    (0.08, -8.0, -26.0), (0.06, 40.0, 2.0),
)  # fmt: skip
"""Share of the glances, yaw and pitch: instruments, middle screen, the three mirrors, a phone, the side window."""
_STRAY = (5.0, 3.0)  # degrees of yaw and pitch around a target, standard deviation
_GLANCE = (0.5, 2.2)  # seconds
_PAUSE = 0.2  # seconds between two changes of the line of sight at least
_SITS = (4.0, 3.0, 1.5)  # degrees of pitch, yaw and roll in which drivers sit unlike each other
_SWAY = 0.7  # degrees, root mean square
_SLOWEST, _FASTEST = 6.0, 45.0  # degrees a second of a head in an even walk
_TRIES = 4096
_RESTS = (0.25, 0.8)  # seconds between changes of gaze, lids, mouth and brows in an even walk
_STEPS = {"pitch": 4, "yaw": 8, "roll": 3, "gaze_pitch": 3, "gaze_yaw": 4, BOTH_EYES: 3, MOUTH: 2, BROWS: 1}
"""Cells of a stratified walk along each control."""
_MOVES, _STAYS = 0.3, 0.4  # seconds to a cell, and in it


@dataclass(frozen=True)
class Room:
    """What a face covers, within ``ranges``.

    Attributes:
        space, coverage: the face's.
        low, high: (k,) of every control of the space, in its unit.
    """

    space: ControlSpace
    coverage: Coverage
    low: Double
    high: Double

    @staticmethod
    def of(space: ControlSpace, coverage: Coverage, ranges: Ranges, who: str) -> Room:
        """Raises ``DmsynthError`` that begins with ``who`` for a range of a control that the face has not, or does not
        cover."""
        known = space.decode(coverage.codes)
        low, high = known.min(axis=0), known.max(axis=0)
        middle = np.median(known, axis=0)
        for name, ends in ranges.named.items():
            columns = _columns(space, name)
            if not columns:
                raise DmsynthError(f"{who}: has no {name}, for which the plan gives a range; use a face that moves it")
            for end in ends:
                pose = middle.copy()
                pose[columns] = end
                if coverage.outside(space.encode(pose[None]))[0]:
                    raise DmsynthError(
                        f"{who}: {name} {end:g} lies beyond what this face covers, {low[columns[0]]:.3g} to "
                        f"{high[columns[0]]:.3g}; give a range within it"
                    )
            low[columns], high[columns] = ends
        return Room(space, coverage, low, high)

    def holds(self, values: Double) -> NDArray[np.bool_]:
        """Which of ``values`` (n, k) the face covers: (n,)."""
        return ~self.coverage.outside(self.space.encode(values))

    def anywhere(self, random: np.random.Generator, low: Double, high: Double) -> Double | None:
        """A pose (k,) between ``low`` and ``high`` (k,) that the face covers, all equally likely; None: there is
        none."""
        poses = random.uniform(low, high, (_TRIES // 16, len(low)))
        held = self.holds(poses)
        return poses[held.argmax()] if held.any() else None


def _columns(space: ControlSpace, name: str) -> list[int]:
    return [n for n, own in enumerate(space.names) if own == name or (name == BOTH_EYES and own in EYES[2:])]


def uniform(room: Room, times: Double, random: np.random.Generator) -> Trajectory:
    """A walk (n, k) at ``times`` (n,) that is everywhere in the room equally often.

    The head goes straight at a constant speed, mirrored at the ends of the ranges, and back on its way where coverage
    ends: like light between mirrors it prefers no place. Gaze, lids, mouth and brows change to values drawn evenly.
    """
    space, rate = room.space, 1 / (times[1] - times[0])
    start = next((pose for _ in range(16) if (pose := room.anywhere(random, room.low, room.high)) is not None), None)
    if start is None:
        raise DmsynthError("uniform: the face covers next to nothing of the ranges; give wider ones")
    head = [n for n, name in enumerate(space.names) if name in HEAD]
    direction = np.zeros(space.size)
    direction[head] = random.standard_normal(len(head))
    direction *= random.uniform(_SLOWEST, _FASTEST) / rate / np.linalg.norm(direction)
    steps = np.arange(-len(times), len(times) + 1)
    course = _mirrored(start + steps[:, None] * direction, room.low, room.high)
    away = np.flatnonzero(~room.holds(course)) - len(times)  # steps from the start
    first = int(max(away[away < 0], default=-len(times) - 1)) + 1
    last = int(min(away[away > 0], default=len(times) + 1)) - 1
    walked = np.rint(_mirrored(np.arange(len(times), dtype=float), np.array(float(first)), np.array(float(last))))
    values = course[walked.astype(int) + len(times)]
    _add_features(values, room, times, random)
    return Trajectory(space.names, times, values)


def _mirrored(values: Double, low: Double, high: Double) -> Double:
    """Values mirrored at ``low`` and ``high`` until they lie between them."""
    span = np.maximum(high - low, 1e-9)
    phase = np.mod(values - low, 2 * span)
    return low + np.minimum(phase, 2 * span - phase)


def _add_features(values: Double, room: Room, times: Double, random: np.random.Generator) -> None:
    """Gaze, lids, mouth and brows of an even walk, in place."""
    for names in (EYES[:2], EYES[2:], (MOUTH,), (BROWS,)):
        columns = [room.space.names.index(name) for name in names if name in room.space.names]
        if not columns:
            continue
        starts = np.cumsum(np.concatenate([[0.0], random.uniform(*_RESTS, int(times[-1] / _RESTS[0]) + 1)]))
        if names == EYES[:2]:
            pitch, yaw = (random.uniform(room.low[c], room.high[c], len(starts)) for c in columns)
            values[:, columns] = saccades(times, map(Fixation._make, zip(starts, yaw, pitch, strict=True)))[:, ::-1]
        else:
            levels = random.uniform(room.low[columns[0]], room.high[columns[0]], len(starts))
            values[:, columns] = _levels(times, starts, levels)[:, None]


def _levels(times: Double, starts: Double, levels: Double) -> Double:
    """(n,) one level after the other, with a move of 0.15 s from each to the next."""
    at = np.searchsorted(starts, times, side="right") - 1
    phase = np.clip((times - starts[at]) / 0.15, 0, 1)
    before = levels[np.maximum(at - 1, 0)]
    share = minimum_jerk(np.zeros(1), np.ones(1), phase)[:, 0]
    return np.asarray(before + share * (levels[at] - before))


def cells(room: Room) -> Double:
    """The lowest and highest corner (m, 2, k) of every cell of the room whose middle the face covers."""
    space = room.space
    names = [name for name in _STEPS if _columns(space, name)]
    sizes = np.array([_STEPS[name] for name in names])
    numbers = np.array(list(product(*(range(size) for size in sizes))), dtype=float)
    corners = np.full((len(numbers), 2, space.size), np.nan)  # of a control without cells, none is covered
    for at, name in enumerate(names):
        for column in _columns(space, name):
            step = (room.high[column] - room.low[column]) / sizes[at]
            for end in (0, 1):
                corners[:, end, column] = room.low[column] + (numbers[:, at] + end) * step
    return corners[room.holds(corners.mean(axis=1))]


def visited(seconds: float) -> int:
    """How many cells a clip visits."""
    return max(1, round(seconds / (_MOVES + _STAYS)))


def stratified(
    room: Room, corners: Double, rank: int, frames: int, frame_rate: float, random: np.random.Generator
) -> Trajectory:
    """A walk through the next few of the cells ``corners`` (m, 2, k), whose order is their own.

    Args:
        rank: how many such clips of this person come before: where in the cells the walk begins.
        frames, frame_rate: of the clip.
    """
    if not len(corners):
        raise DmsynthError("stratified: the face covers none of the cells; give wider ranges")
    count = visited(frames / frame_rate)
    names = room.space.names
    path: MotionPath | None = None
    for step in range(count):
        low, high = corners[(rank * count + step) % len(corners)]
        pose = room.anywhere(random, low, high)
        pose = (low + high) / 2 if pose is None else pose
        lids = _columns(room.space, BOTH_EYES)
        pose[lids] = pose[lids[:1]]  # both alike
        named = dict(zip(names, map(float, pose), strict=True))
        if path is None:
            path = MotionPath(names, frame_rate, named)
        else:
            path.add("move", _MOVES, {}, named)
        path.add("hold", _STAYS + (_MOVES if step == 0 else 0.0), {}, {})
    assert path is not None
    path.add("hold", frames / frame_rate, {}, {})
    walk = path.trajectory()
    return Trajectory(walk.names, walk.times[:frames], walk.values[:frames])


def driving(about: Driving, times: Double, random: np.random.Generator) -> Trajectory:
    """A driver on the road at ``times`` (n,): pitch, yaw, roll, gaze, lids and mouth in the car's frame."""
    end = float(times[-1])
    seed = int(random.integers(2**32))
    looks = _looks(about, end, random)
    course = gaze_shifts(times, looks, head_share=float(random.uniform(0.25, 0.75)))
    sits = random.normal(0, _SITS)
    head = np.stack([course[name] for name in HEAD], axis=1)
    look = line_of_sight(rotation_matrix(*head.T), course["gaze_yaw"], course["gaze_pitch"])
    head += sits + np.stack([slow_wave(times, _SWAY, (seed, axis)) for axis in range(3)], axis=1)
    gaze = gaze_in_head(rotation_matrix(*head.T), *look)  # eyes stay on the road while the head sways
    drowsy = random.random() < about.drowsy
    opening = eye_opening(times, _blinks(end, drowsy, random))
    mouth = np.zeros(len(times))
    if drowsy and random.random() < 0.5:
        mouth = _yawn(times, random)
    columns = (*head.T, *gaze, opening, mouth)
    motion = Trajectory((*HEAD, "gaze_yaw", "gaze_pitch", BOTH_EYES, MOUTH), times, np.stack(columns, axis=1))
    return talking(motion, seed) if random.random() < about.talking else motion


def _looks(about: Driving, end: float, random: np.random.Generator) -> list[Fixation]:
    """Where the driver looks: the road, with small saccades, and glances away from it."""
    shares = np.array([share for share, _, _ in _TARGETS])
    scan = small_saccades(0.0, end + 0.01, random, spread=1.5)
    stray = {each.start: (each.yaw, each.pitch) for each in scan}
    now = 0.0
    glances: list[tuple[float, float, float, float]] = []
    while about.glances and (now := now + float(random.exponential(60 / about.glances))) < end:
        _, yaw, pitch = _TARGETS[int(random.choice(len(shares), p=shares / shares.sum()))]
        lasts = float(random.uniform(*_GLANCE))
        off = random.normal(0, _STRAY)
        glances.append((now, now + lasts, yaw + float(off[0]), pitch + float(off[1])))
        now += lasts
    looks: list[Fixation] = []
    for start in sorted({*stray, *(edge for glance in glances for edge in glance[:2])}):
        if looks and start - looks[-1].start < _PAUSE:
            continue
        aim = next((glance[2:] for glance in glances if glance[0] <= start < glance[1]), (0.0, 0.0))
        aside = stray.get(start, (0.0, 0.0))
        looks.append(Fixation(start, aim[0] + aside[0], aim[1] + aside[1]))
    return looks


def _blinks(end: float, drowsy: bool, random: np.random.Generator) -> list[Blink]:
    """Blinks until ``end``, seconds; of a drowsy driver slow ones, and a microsleep where there is time for one."""
    if not drowsy:
        return natural_blinks(0.0, end, random)
    blinks = natural_blinks(0.0, end, random, drowsiness=float(random.uniform(0.4, 1.0)))
    if end > 2 and random.random() < 0.5:
        blinks.append(microsleep(float(random.uniform(0, end - 2)), float(random.uniform(0.8, 2.0))))
    return blinks


def _yawn(times: Double, random: np.random.Generator) -> Double:
    """(n,) a mouth that opens in 1.2 s, stays, and closes."""
    begin = float(random.uniform(-1, max(times[-1] - 2, 0)))
    phase = np.minimum((times - begin) / 1.2, (begin + 4.0 - times) / 1.2)
    shape = minimum_jerk(np.zeros(1), np.ones(1), np.clip(phase, 0, 1))[:, 0]
    return np.asarray(random.uniform(0.6, 1.0) * shape)
