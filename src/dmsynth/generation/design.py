"""Which person, motion, camera and things a clip has: a balanced design, in which every clip is known by its number.

The numbers of the clips are split among the people by weight, those of each person among the motions, and so on. Each
split is even all along (of weights 3 and 1 every fourth goes to the second), so any number of clips has the shares that
were asked for, to within one clip a cell. Nothing is drawn by chance, and no clip needs to know the others.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from hashlib import blake2b

from dmsynth.generation.plan import Order


@dataclass(frozen=True)
class Cell:
    """One combination, as positions in the order's people, motions, cameras and things."""

    person: int
    motion: int
    camera: int
    things: int


@dataclass(frozen=True)
class Design:
    """The design of an ``order``."""

    order: Order

    def cell(self, number: int) -> tuple[Cell, int]:
        """The cell of the clip ``number``, and how many clips of the same person and motion come before it."""
        path: list[int] = []
        rank, of_motion = number, 0
        for level, weights in enumerate(self.order.weights):
            choice, rank = _split(rank, weights, path)
            path.append(choice)
            if level == 1:
                of_motion = rank
        return Cell(*path), of_motion

    def counts(self, clips: int) -> Iterator[tuple[Cell, int]]:
        """How many of the first ``clips`` clips each cell has."""

        def below(path: list[int], count: int) -> Iterator[tuple[Cell, int]]:
            if len(path) == len(self.order.weights):
                yield Cell(*path), count
                return
            for choice, part in enumerate(_parts(count, self.order.weights[len(path)], path)):
                if part:
                    yield from below([*path, choice], part)

        return below([], clips)

    def frames_of(self, cell: Cell) -> int:
        """How many frames a clip of a cell has."""
        rate = list(self.order.cameras.values())[cell.camera].sensor.frame_rate
        return max(2, round(self.order.plan.seconds * rate))

    def frames(self, clips: int) -> int:
        """How many frames the first ``clips`` clips have."""
        return sum(count * self.frames_of(cell) for cell, count in self.counts(clips))

    @property
    def clips(self) -> int:
        """The fewest clips that have the plan's frames."""
        wanted = self.order.plan.frames
        return bisect_left(range(wanted), wanted, key=self.frames)

    def counted(self, clips: int, level: str) -> list[int]:
        """How many of the first ``clips`` clips have each ``person``, ``motion``, ``camera`` or ``things``."""
        level_of = [field.name for field in fields(Cell)]
        found = [0] * len(self.order.weights[level_of.index(level)])
        for cell, count in self.counts(clips):
            found[getattr(cell, level)] += count
        return found


def _offset(path: Sequence[int]) -> float:
    """Where the counting at a place of the design begins, 0 to 1: of small cells each is rounded its own way, so that
    all together have the shares, too."""
    return int.from_bytes(blake2b(repr(tuple(path)).encode(), digest_size=6).digest()) / 2**48


def _split(number: int, weights: Sequence[float], path: Sequence[int]) -> tuple[int, int]:
    """Which choice the ``number``-th clip of the cell at ``path`` is, and how many before it are the same choice."""
    before, after = _parts(number, weights, path), _parts(number + 1, weights, path)
    choice = next(place for place, (one, other) in enumerate(zip(before, after, strict=True)) if other > one)
    return choice, before[choice]


def _parts(count: int, weights: Sequence[float], path: Sequence[int]) -> list[int]:
    """How many of the first ``count`` clips of the cell at ``path`` are each choice."""
    left, rest, parts = count, math.fsum(weights), list[int]()
    for choice, weight in enumerate(weights[:-1]):
        part = min(left, math.floor(left * (weight / rest) + _offset((*path, choice))))
        parts.append(part)
        left, rest = left - part, rest - weight
    return [*parts, left]
