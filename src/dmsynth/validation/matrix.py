"""A matrix of scenarios, cameras and things on the face (and persons): all of its cells, or a stratified sample.

A scenario that brings a camera or things of its own keeps them, and is not varied in that factor.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dmsynth.camera import cameras, read_camera
from dmsynth.camera.things import THINGS, parse_things
from dmsynth.support.errors import DmsynthError
from dmsynth.validation.scenarios import Scenario, Wearing

NONE = "none"
"""The level without a camera, or without a thing."""
LIGHT = ("day", "low-sun-colour", "street-lamps", "day-infrared", "low-sun", "night")
"""Cameras that differ in light and spectrum only: one place, one lens, one sensor."""
PLACE = ("night", "night-mirror", "night-pillar")
"""Cameras that differ in their place: all in infrared, at night."""
OCCLUSION = (
    NONE, "glasses", "sunglasses", "mask", "cap", "scarf", "hand-mouth", "hand-cheek", "hand-eye", "phone", "wheel",
)  # fmt: skip
"""Each kind of thing once."""
FACTORS = {"light": "camera", "place": "camera", "camera": "camera", "occlusion": "wear", "wear": "wear"}
"""What a factor's levels say of a scenario, by its name."""

_LEVEL_FIRST = 10**7  # levels are balanced before pairs of levels


@dataclass(frozen=True)
class Factor:
    """What is varied: by level, what is changed in a scenario."""

    name: str
    levels: Mapping[str, Mapping[str, Any]]

    def varies(self, scenario: Scenario) -> bool:
        """Whether a scenario leaves it open."""
        return not getattr(scenario, FACTORS[self.name])


@dataclass(frozen=True)
class Matrix:
    """Factors, and how many cells are played: ``sample`` of them, chosen by ``seed``, or all (None)."""

    factors: tuple[Factor, ...]
    sample: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Cell:
    """A scenario of the matrix, played by a person (None: the single face) at a level of each factor that it leaves
    open. ``changed``: what that changes in the scenario."""

    person: str | None
    scenario: Scenario
    levels: Mapping[str, str]
    changed: Mapping[str, Any]

    @cached_property
    def played(self) -> Scenario:
        return self.scenario.model_copy(update=dict(self.changed))


def condition(levels: Mapping[str, str]) -> str:
    """Levels as a name's addition: `` [night, mask]``; empty without levels."""
    return f" [{', '.join(levels.values())}]" if levels else ""


def file_name(scenario: str, levels: Mapping[str, str]) -> str:
    """Of a scenario at these levels, without a suffix: ``addw-50-down.night.mask``."""
    return ".".join([scenario, *(re.sub(r"[^A-Za-z0-9+-]", "-", level) for level in levels.values())])


def parse_factors(texts: Sequence[str]) -> tuple[Factor, ...]:
    """Factors from ``NAME,NAME`` or ``NAME=LEVEL,LEVEL``; things that are worn together are joined by ``+``.

    The camera comes first, in whatever order they are given: so cells have the same names.

    Raises:
        DmsynthError: an unknown factor or level, one level only, a level or a factor twice, two factors that both say
            which camera, or which things.
    """
    found: list[Factor] = []
    for text in texts:
        name, equals, levels = text.partition("=")
        for each in [name] if equals else name.split(","):
            if each not in FACTORS:
                *most, last = FACTORS
                raise DmsynthError(
                    f"--vary {text}: no factor {each!r}; choose {', '.join(most)} or {last}, with =LEVEL,LEVEL or "
                    "without"
                )
            given = levels.split(",") if equals else _all_levels(each)
            found.append(Factor(each, _levels(text, FACTORS[each], given)))
            both = [factor.name for factor in found if FACTORS[factor.name] == FACTORS[each]]
            if len(both) > 1:
                what = "which camera" if FACTORS[each] == "camera" else "what is worn"
                raise DmsynthError(
                    f"--vary {text}: {' and '.join(both)} both say {what}; name all levels in one: {both[0]}="
                    f"{','.join(list(found[-1].levels)[:2])},…"
                )
    return tuple(sorted(found, key=lambda factor: FACTORS[factor.name]))


def _all_levels(factor: str) -> Sequence[str]:
    every = {"light": LIGHT, "place": PLACE, "occlusion": OCCLUSION, "wear": (NONE, *THINGS)}
    return every[factor] if factor in every else [path.stem for path in cameras()]


def _levels(text: str, what: str, given: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """What each level changes in a scenario."""
    levels: dict[str, Mapping[str, Any]] = {}
    for each in given:
        changed: Mapping[str, Any]
        try:
            if what == "camera":
                camera = None if each == NONE else read_camera(each)
                level, changed = camera.name if camera else NONE, {"camera": camera}
            else:
                things = [] if each == NONE else parse_things(each.split("+"))
                level, changed = each, {"wear": [Wearing.of(thing) for thing in things]}
        except DmsynthError as error:
            raise DmsynthError(f"--vary {text}: {error}, or {NONE}") from None
        if level in levels:
            raise DmsynthError(f"--vary {text}: {level} stands in it twice; remove one")
        levels[level] = changed
    if len(levels) < 2:
        option = "--camera" if what == "camera" else "--wear"
        raise DmsynthError(f"--vary {text}: has one level; give at least two, or use {option}")
    return levels


def cells_of(played: Sequence[tuple[str | None, Scenario]], factors: Sequence[Factor]) -> list[Cell]:
    """All cells: each person and scenario at every level of each factor that the scenario leaves open."""
    cells = []
    for person, scenario in played:
        own = [factor for factor in factors if factor.varies(scenario)]
        for levels in itertools.product(*(factor.levels.items() for factor in own)):
            names = {factor.name: name for factor, (name, _) in zip(own, levels, strict=True)}
            changed = {what: value for _, changes in levels for what, value in changes.items()}
            cells.append(Cell(person, scenario, names, changed))
    return cells


def stratified(cells: Sequence[Cell], size: int, seed: int) -> list[Cell]:
    """A sample of cells, in their order: every scenario, person and level of a factor about equally often, and as far
    as that allows every pair of them.

    Cells are drawn one after the other, each time one whose levels were drawn least, and among those one whose pairs of
    levels were; equal ones by chance. A level counts in the measure of how many its factor has.

    Raises:
        DmsynthError: for a size below 1, or above the number of cells.
    """
    if not 1 <= size <= len(cells):
        raise DmsynthError(
            f"--sample {size}: the whole matrix has {len(cells)} cells; give 1 to {len(cells)}, or leave it out"
        )
    order = np.random.default_rng(seed).permutation(len(cells))
    strata, most = _strata([cells[i] for i in order])
    score = np.zeros(len(cells), np.int64)  # how often what a cell has was drawn
    absent = np.zeros(len(cells), np.int64)  # what it does not have counts as drawn as often as on average
    for codes, weight in zip(strata.T, most, strict=True):
        absent += np.where(codes < 0, weight[0], 0)
    free = np.ones(len(cells), dtype=bool)
    drawn = []
    for number in range(size):
        now = np.where(free, score + number * absent, np.iinfo(np.int64).max)
        chosen = int(now.argmin())
        free[chosen] = False
        drawn.append(int(order[chosen]))
        for codes, weight in zip(strata.T, most, strict=True):
            if codes[chosen] >= 0:
                score[codes == codes[chosen]] += weight[0] * weight[1]
    return [cells[i] for i in sorted(drawn)]


def _strata(cells: Sequence[Cell]) -> tuple[NDArray[np.int64], list[tuple[int, int]]]:
    """For each cell the number of its scenario, its person, its level of each factor, and of each pair of these, -1
    where it has none, (cells, strata); and of each stratum its weight and how many there are."""
    names = list(dict.fromkeys(name for cell in cells for name in cell.levels))
    texts = [[cell.scenario.name, cell.person, *(cell.levels.get(name) for name in names)] for cell in cells]
    single = []
    for column in zip(*texts, strict=True):
        known = {text: number for number, text in enumerate(dict.fromkeys(each for each in column if each is not None))}
        single.append(np.array([-1 if text is None else known[text] for text in column], np.int64))
    columns, most = list(single), [(_LEVEL_FIRST, int(codes.max()) + 1) for codes in single]
    for one, other in itertools.combinations(range(len(single)), 2):
        levels = most[one][1], most[other][1]
        both = (single[one] >= 0) & (single[other] >= 0)
        columns.append(np.where(both, single[one] * levels[1] + single[other], -1))
        most.append((1, levels[0] * levels[1]))
    return np.stack(columns, axis=1), most
