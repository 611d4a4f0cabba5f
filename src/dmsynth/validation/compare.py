"""Compare versions A and B of a DMS: paired on the same videos, with the differences as sentences.

With one synthetic driver the scenarios are the sample (``statistics``); with several, persons and scenarios are
(``crossed``), and a pair is a person in a scenario. In a matrix, cells are paired by the levels of its factors, too,
and averaged within a person and scenario: cells of one scenario are no sample of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from dmsynth.support.errors import DmsynthError
from dmsynth.validation.crossed import (
    Components,
    components,
    crossed_p,
    detectable_crossed,
    half_width,
    needed,
    needed_of_both,
)
from dmsynth.validation.differences import METRICS, PASS_RATE, Difference, InCast, Metric, Needed, Scenario
from dmsynth.validation.matrix import condition
from dmsynth.validation.results import read_results
from dmsynth.validation.statistics import (
    LEVEL,
    Floats,
    bootstrap_interval,
    detectable,
    detectable_passes,
    holm,
    joint_flip_p,
    mcnemar_p,
    sign_flip_p,
)

__all__ = ["METRICS", "Comparison", "Difference", "Metric", "compare", "read_results"]

Cell = tuple[str, str]
"""A person and a scenario; the person of a validation with a single face is empty."""
Key = tuple[str, str, str]
"""The same, and the levels of a matrix in words; empty without one."""
Pair = tuple[Key, Scenario, Scenario]


@dataclass(frozen=True)
class AtLevel:
    """B against A at one level of a factor, over so many ``cells``; ``p_corrected`` is for all levels and metrics. The
    scenarios are the sample, averaged over the cells of all persons: it holds for these persons."""

    factor: str
    level: str
    cells: int
    differences: list[Difference]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"differences": [each.to_dict() for each in self.differences]}

    def in_words(self) -> str:
        """What differs, with 95 % intervals; empty if nothing does."""
        parts = []
        for verdict in ("better", "worse"):
            told = [
                f"{each.metric} ({each.difference:+.2f}{each.unit}, {each.interval[0]:+.2f} to {each.interval[1]:+.2f})"
                for each in self.differences
                if each.verdict == verdict and each.interval
            ]
            if told:
                parts.append(f"B is {verdict} in {', '.join(told)}")
        return f"at {self.level} {' and '.join(parts)}" if parts else ""


@dataclass(frozen=True)
class Comparison:
    """B against A: names, number of common scenarios, what is unpaired, every metric, the common persons if there are
    several, and of a matrix every metric at each level of each factor."""

    a: str
    b: str
    scenarios: int
    left_out: list[str]
    differences: list[Difference]
    persons: list[str] = field(default_factory=list)
    by_level: list[AtLevel] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        content = asdict(self)
        for name in ("differences", "by_level"):
            content[name] = [each.to_dict() for each in getattr(self, name)]
        for name in ("persons", "by_level"):
            if not content[name]:
                del content[name]
        said = [self.in_words(), *(each.in_words() for each in self.differences), *self.by_factor_in_words()]
        return content | {"in_words": said}

    def by_factor_in_words(self) -> list[str]:
        """One sentence on each factor: at which levels B differs, and in what."""
        said = []
        for factor in dict.fromkeys(each.factor for each in self.by_level):
            levels = [each for each in self.by_level if each.factor == factor]
            parts = [told for each in levels if (told := each.in_words())]
            told = "; ".join(parts) or f"B and A are not distinguishable at any of {len(levels)} levels"
            said.append(f"By {factor}: {told}.")
        return said

    def in_words(self) -> str:
        """One sentence on all metrics."""
        parts = []
        for verdict in ("better", "worse"):
            names = [each.metric for each in self.differences if each.verdict == verdict]
            if names:
                parts.append(f"{verdict} in {', '.join(names)}")
        same = sum(each.verdict == "not distinguishable" for each in self.differences)
        rest = f"not distinguishable in {'the other ' if parts else 'any of '}{same} figures"
        persons = f"{len(self.persons)} persons in " if self.persons else ""
        on = f"{persons}{self.scenarios} scenarios"
        return f"B against A on {on}: {'; '.join([*parts, rest] if same else parts)}."


@dataclass(frozen=True)
class _Paired:
    """The pairs that both have a figure: persons and scenarios, values of A and B (n,), their resolution, and whether
    they are ``means`` over cells of a matrix."""

    metric: Metric
    cells: list[Cell]
    a: Floats
    b: Floats
    resolution: float = 0.0
    means: bool = False

    @property
    def differences(self) -> Floats:
        return self.b - self.a

    def crossed(self) -> Floats:
        """(1, persons, scenarios): the differences, NaN where there is none."""
        persons, scenarios = (list(dict.fromkeys(cell[i] for cell in self.cells)) for i in (0, 1))
        table = np.full((1, len(persons), len(scenarios)), np.nan)
        for (person, scenario), difference in zip(self.cells, self.differences, strict=True):
            table[0, persons.index(person), scenarios.index(scenario)] = difference
        return table


def compare(a: dict[str, Any], b: dict[str, Any], wanted: Mapping[str, float] | None = None) -> Comparison:
    """Compare two validations (``read_results``): scenario by scenario, or, with several persons in common, pair by
    pair of person and scenario.

    Args:
        wanted: differences to be seen, by metric: how many persons and scenarios they need; only with several persons.
            Without, it is said of the differences that were found not distinguishable.

    Raises:
        DmsynthError: nothing in common, or a scenario whose videos differ: the comparison would not be paired.
    """
    of_a, of_b = _with_persons(_cells(a), a, b), _with_persons(_cells(b), b, a)
    common = [cell for cell in of_a if cell in of_b]
    if not common:
        raise DmsynthError("A and B have no scenario in common; validate both on the same scenarios")
    for cell in common:
        _refuse_other_video(cell, of_a[cell], of_b[cell])
    persons = sorted({person for person, *_ in common})
    in_cast = len(persons) > 1
    if wanted and not in_cast:
        raise DmsynthError(
            "A and B have one person in common: how many are needed can be told from several; see --cast"
        )
    pairs = [(cell, of_a[cell], of_b[cell]) for cell in common]
    paired = _rows(pairs)
    if not paired:
        raise DmsynthError("A and B have no figure in common: in no scenario did both answer; see their reports")
    _check_wanted(wanted or {}, paired)
    estimated = [components(row.crossed()) if in_cast else None for row in paired]
    p = np.array([_p(row, found, in_cast) for row, found in zip(paired, estimated, strict=True)])
    corrected, level = holm(p[:, None])[:, 0], LEVEL / len(paired)
    differences = []
    for i, (row, found) in enumerate(zip(paired, estimated, strict=True)):
        tested = float(p[i]), float(corrected[i]), level
        aim = (wanted or {}).get(row.metric.name)
        differences.append(_of_cast(row, found, *tested, aim) if in_cast else _of_one(row, *tested))
    return Comparison(
        a["dms"]["name"], b["dms"]["name"], len({name for _, name, _ in common}), _left_out(of_a, of_b), differences,
        persons if in_cast else [], _by_level(pairs, a),
    )  # fmt: skip


def _check_wanted(wanted: Mapping[str, float], paired: Sequence[_Paired]) -> None:
    names = [row.metric.name for row in paired]
    for name, size in wanted.items():
        if name not in names:
            raise DmsynthError(f"--wanted {name}: A and B have no such figure in common; they have {', '.join(names)}")
        row = paired[names.index(name)]
        if size <= row.resolution:
            raise DmsynthError(
                f"--wanted {name}={size:g}: is measured to {row.resolution:g}{row.metric.unit}; give more"
            )


def _rows(pairs: Sequence[Pair]) -> list[_Paired]:
    """Every metric that some pairs have."""
    passes = _passes(pairs)
    paired = [row for metric in METRICS if (row := _paired(metric, pairs)) is not None]
    return [passes, *paired] if passes else paired


def _by_level(pairs: Sequence[Pair], results: dict[str, Any]) -> list[AtLevel]:
    """B against A at each level of the factors of a matrix; empty without one."""
    factors = (results.get("matrix") or {}).get("factors", {})
    alike = [(("", *key[1:]), s, t) for key, s, t in pairs]  # whoever plays it
    at = {
        (factor, level): [pair for pair in alike if pair[1]["factors"].get(factor) == level]
        for factor, levels in factors.items()
        for level in levels
    }
    groups = {place: rows for place, those in at.items() if (rows := _rows(those))}
    rows = [row for those in groups.values() for row in those]
    if not rows:
        return []
    scenarios = list(dict.fromkeys(key[1] for key, _, _ in alike))
    table = np.full((len(rows), len(scenarios)), np.nan)
    for number, row in enumerate(rows):
        table[number, [scenarios.index(name) for _, name in row.cells]] = row.differences
    corrected = iter(joint_flip_p(table).tolist())
    found = []
    for place, those in groups.items():
        own = [_of_one(row, _p(row, None, False), next(corrected), LEVEL / len(rows)) for row in those]
        found.append(AtLevel(*place, len(at[place]), own))
    return found


def _cells(results: dict[str, Any]) -> dict[Key, Scenario]:
    return {
        (each.get("person") or "", each["name"], condition(each.get("factors", {}))): each
        for each in results["scenarios"]
    }


def _with_persons(cells: dict[Key, Scenario], own: dict[str, Any], other: dict[str, Any]) -> dict[Key, Scenario]:
    """The cells of a validation with a single face, under the name that this face has in the other's cast."""
    if own.get("persons") or not other.get("persons"):
        return cells
    sha256 = (own.get("face") or {}).get("sha256")
    name = next((each["name"] for each in other["persons"] if each["sha256"] == sha256), None)
    if name is None:
        raise DmsynthError("A and B have no person in common; validate both with the same cast, or face")
    return {(name, *rest): each for (_, *rest), each in cells.items()}


def _left_out(of_a: Mapping[Key, Scenario], of_b: Mapping[Key, Scenario]) -> list[str]:
    """What only one of them has: a person as a whole, a scenario as a whole, or a scenario of a person, at some levels
    of a matrix."""
    sides = [{cell[i] for cell in of} for i in (0, 1) for of in (of_a, of_b)]
    persons, scenarios = sides[0] ^ sides[1], sides[2] ^ sides[3]
    single = [
        f"{person}: {scenario}{levels}" if person else f"{scenario}{levels}"
        for person, scenario, levels in set(of_a) ^ set(of_b)
        if person not in persons and scenario not in scenarios
    ]
    return sorted(persons) + sorted(scenarios) + sorted(single)


def _refuse_other_video(cell: Key, in_a: Scenario, in_b: Scenario) -> None:
    name = ": ".join(part for part in cell[:2] if part) + cell[2]
    if in_a["video"] != in_b["video"]:
        raise DmsynthError(
            f"{name}: A and B saw different videos ({in_a['video']}, {in_b['video']}); validate both "
            "with the same face and version"
        )
    hashes = [of.get("video_sha256") for of in (in_a, in_b)]
    if hashes[0] != hashes[1]:
        raise DmsynthError(
            f"{name}: A and B saw different videos of the same name, {in_a['video']} (SHA-256 "
            f"{_short(hashes[0])} and {_short(hashes[1])}): one was damaged, replaced or rendered on another "
            "machine; validate both on the same folder of videos"
        )


def _short(sha256: str | None) -> str:
    return f"{sha256[:16]}…" if sha256 else "not recorded"


def _paired(metric: Metric, pairs: Sequence[Pair]) -> _Paired | None:
    """The values that A and B both have; None if there are none."""
    both = [
        (cell, va, vb, s)
        for cell, s, t in pairs
        if (va := metric.of(s)) is not None and (vb := metric.of(t)) is not None
    ]
    if not both:
        return None
    cells, a, b, scenarios = zip(*both, strict=True)
    return _averaged(metric, cells, np.array(a), np.array(b), max(map(metric.resolution, scenarios)))


def _averaged(metric: Metric, keys: Sequence[Key], a: Floats, b: Floats, resolution: float = 0.0) -> _Paired:
    """Means over the cells of each person and scenario, which without a matrix is one."""
    cells = list(dict.fromkeys(key[:2] for key in keys))
    number = {cell: i for i, cell in enumerate(cells)}
    of = np.array([number[key[:2]] for key in keys])
    count = np.bincount(of)
    means = [np.bincount(of, weights=values) / count for values in (a, b)]
    return _Paired(metric, cells, means[0], means[1], resolution, bool(count.max() > 1))


def _passes(pairs: Sequence[Pair]) -> _Paired | None:
    """100 for a pass and 0 for a failure, where neither is inconclusive; None if there is no such scenario."""
    known = [pair for pair in pairs if all(each["outcome"] != "inconclusive" for each in pair[1:])]
    if not known:
        return None
    a, b = (
        np.array([100.0 * (each["outcome"] == "pass") for each in side])
        for side in zip(*((s, t) for _, s, t in known), strict=True)
    )
    return _averaged(PASS_RATE, [row[0] for row in known], a, b)


def _p(row: _Paired, found: Components | None, in_cast: bool) -> float:
    if in_cast:
        return 1.0 if found is None else float(crossed_p(found)[0])
    if row.metric is PASS_RATE and not row.means:
        return float(mcnemar_p(row.a[None] > 0, row.b[None] > 0)[0])
    return float(sign_flip_p(row.differences[None])[0])


def _of_one(row: _Paired, p: float, corrected: float, level: float) -> Difference:
    """With one person: the scenarios are the sample."""
    differences = row.differences
    spread = float(differences.std(ddof=1)) if len(differences) > 1 else 0.0
    interval = bootstrap_interval(differences)
    if row.metric is PASS_RATE and not row.means:
        smallest = detectable_passes(len(differences), level)
        smallest = None if smallest is None else 100 * smallest
    else:
        smallest = detectable(spread, len(differences), level)
    return _difference(row, len(differences), interval, spread, smallest, (p, corrected))


def _of_cast(
    row: _Paired, found: Components | None, p: float, corrected: float, level: float, wanted: float | None
) -> Difference:
    """With several: persons and scenarios are, and a scenario counts once, whoever plays it."""
    persons, scenarios = (len({cell[i] for cell in row.cells}) for i in (0, 1))
    if found is None:
        about = InCast(persons, len(row.cells))
        return _difference(row, scenarios, None, 0.0, None, (p, corrected), about)
    mean, half, most = float(found.mean[0]), float(half_width(found)[0]), row.metric.most
    person, scenario, rest = (float(np.sqrt(each[0])) for each in (found.person, found.scenario, found.rest))
    smallest = detectable_crossed(found, level)
    smallest = None if smallest is None or smallest > most else smallest
    aim = abs(mean) if wanted is None and corrected >= LEVEL else wanted
    plan = None
    if aim and aim > row.resolution and found.spread[0] > 0:
        plan = Needed(aim, *needed(aim, found, level), None)
        if plan.persons is None and plan.scenarios is None:
            plan = replace(plan, both=needed_of_both(aim, found, level))
    about = InCast(persons, len(row.cells), person, scenario, rest, plan)
    interval = max(mean - half, -most), min(mean + half, most)
    return _difference(row, scenarios, interval, float(found.spread[0]), smallest, (p, corrected), about)


def _difference(
    row: _Paired,
    scenarios: int,
    interval: tuple[float, float] | None,
    spread: float,
    smallest: float | None,
    p: tuple[float, float],
    cast: InCast | None = None,
) -> Difference:
    """What both have in common; ``p``: as tested, and corrected."""
    mean = float(row.differences.mean())
    # A difference below the measurement resolution does not count, even if significant.
    differs = p[1] < LEVEL and abs(mean) > row.resolution
    better = (mean < 0) == row.metric.lower
    return Difference(
        metric=row.metric.name,
        unit=row.metric.unit,
        scenarios=scenarios,
        a=float(row.a.mean()),
        b=float(row.b.mean()),
        difference=mean,
        interval=None if interval is None else (interval[0] - row.resolution, interval[1] + row.resolution),
        effect=mean / spread if spread > 1e-12 else None,
        p=p[0],
        p_corrected=p[1],
        smallest=None if smallest is None else max(smallest, row.resolution),
        verdict=("better" if better else "worse") if differs else "not distinguishable",
        cast=cast,
    )
