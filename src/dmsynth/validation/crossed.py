"""Paired statistics where both the persons and the scenarios are a sample: would B differ for others of both?

A difference of person p in scenario s is taken as mu + person_p + scenario_s + rest_ps, all three random with mean 0
(crossed random effects; Westfall, Kenny and Judd 2014). Of the mean over all cells, the variance is estimated from
the three variance components (Henderson's method I, 1953; with all cells there, the analysis of variance).

Interval and decision come from one method, the generalized p value (Tsui and Weerahandi 1989; for this design Burdick,
Borror and Montgomery 2005): each mean square is known up to a chi-square factor, so the error of the mean is a normal
error whose variance is uncertain by these factors. With many persons this is a t test; with few it knows that the
persons' variance may by chance look small. The pigeonhole bootstrap (Owen 2007), which resamples persons and scenarios,
does not know it, and is too narrow with few persons (``tests/test_crossed.py``).

Differences are (m, persons, scenarios), NaN where a cell is missing in all m comparisons, which are independent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import optimize, stats
from scipy.special import ndtr
from scipy.stats import qmc

from dmsynth.validation.statistics import LEVEL, POWER, Floats

_FACTORS = 12  # 2 to the power of this many factors of the mean squares in a p value
_PLANNED = 9  # and in a calculation of power, as many as outcomes
_HALVINGS = 30
_AT_ONCE = 250  # comparisons
MOST = 1000  # persons or scenarios that are planned with


@dataclass(frozen=True)
class Components:
    """Means and variance components of m comparisons, each (m,), and the design.

    Attributes:
        mean: over all cells.
        person, scenario, rest: variances, at least 0.
        persons, scenarios, cells: how many.
        a_person, a_scenario: cells of each, on average over cells; with all cells there ``scenarios``, ``persons``.
    """

    mean: Floats
    person: Floats
    scenario: Floats
    rest: Floats
    persons: int
    scenarios: int
    cells: int
    a_person: float
    a_scenario: float

    @property
    def mean_squares(self) -> Floats:
        """(m, 3): of persons, scenarios and rest; what is expected of them with these components."""
        return np.stack([
            self.rest + self.a_person * self.person, self.rest + self.a_scenario * self.scenario, self.rest,
        ], axis=-1)  # fmt: skip

    @property
    def freedom(self) -> tuple[int, int, int]:
        """Degrees of freedom of the mean squares."""
        return self.persons - 1, self.scenarios - 1, self.cells - self.persons - self.scenarios + 1

    @property
    def spread(self) -> Floats:
        """(m,): the standard deviation of a single difference."""
        return np.sqrt(self.person + self.scenario + self.rest)

    def planned(self, persons: int, scenarios: int) -> Components:
        """The same components in another design, with all cells there."""
        return Components(
            self.mean, self.person, self.scenario, self.rest, persons, scenarios, persons * scenarios, scenarios,
            persons,
        )  # fmt: skip


def components(differences: Floats) -> Components | None:
    """Means and variance components of differences (m, persons, scenarios).

    None if they cannot be told apart: fewer than two persons or scenarios, or too many missing cells.
    """
    kept = np.isfinite(differences[0])
    there = kept[kept.any(axis=1)][:, kept.any(axis=0)]
    persons, scenarios = there.shape
    cells = int(there.sum())
    if persons < 2 or scenarios < 2 or cells < persons + scenarios:
        return None
    values = np.where(there, differences[:, kept.any(axis=1)][:, :, kept.any(axis=0)], 0.0)
    mean = values.sum(axis=(1, 2)) / cells
    values = values - mean[:, None, None] * there
    of_person, of_scenario = there.sum(axis=1), there.sum(axis=0)
    total = np.square(values).sum(axis=(1, 2))
    within_persons = total - (np.square(values.sum(axis=2)) / of_person).sum(axis=1)
    within_scenarios = total - (np.square(values.sum(axis=1)) / of_scenario).sum(axis=1)
    a_person, a_scenario = float(np.square(of_person).sum() / cells), float(np.square(of_scenario).sum() / cells)
    expected = np.array([
        [0.0, cells - persons, cells - persons],
        [cells - scenarios, 0.0, cells - scenarios],
        [cells - a_person, cells - a_scenario, cells - 1.0],
    ])  # fmt: skip
    if abs(a_person + a_scenario - cells - 1) < 1e-9:
        return None
    found = np.linalg.solve(expected, np.stack([within_persons, within_scenarios, total]))
    found = np.where(found > 1e-12 * total / cells, found, 0.0)  # a negative estimate means none, and so does rounding
    person, scenario, rest = found
    return Components(mean, person, scenario, rest, persons, scenarios, cells, a_person, a_scenario)


def crossed_p(found: Components) -> Floats:
    """Two-sided p (m,) for a mean of zero in the population of persons and scenarios.

    Never below the share of sign patterns, of persons times scenarios, that put all cells on one side: where all
    differences are equal, there is no variance to go by.
    """
    least = 2.0 ** (2 - found.persons - found.scenarios)
    result = np.empty(len(found.mean))
    for begin in range(0, len(result), _AT_ONCE):
        part = slice(begin, begin + _AT_ONCE)
        errors = _errors(found.mean_squares[part], found, _FACTORS)
        size = np.abs(found.mean[part, None])
        with np.errstate(divide="ignore", invalid="ignore"):
            far = np.where(size > 0, size / errors, 0.0)
        result[part] = 2 * ndtr(-far).mean(axis=1)
    return np.clip(result, least, 1.0)


def half_width(found: Components, level: float = LEVEL) -> Floats:
    """(m,): half of the interval of the mean at 1 − ``level``. It contains zero if ``crossed_p`` is above the level."""
    return _half_width(_errors(found.mean_squares, found, _FACTORS), level)


def detectable_crossed(found: Components, level: float = LEVEL) -> float | None:
    """The smallest mean difference that this design detects with probability ``POWER``, if the components of the first
    comparison are the true ones; None if so few persons and scenarios detect none."""
    if 2.0 ** (2 - found.persons - found.scenarios) > level:
        return None
    spread, widths = _outcomes(found, level)
    if spread < 1e-12:
        return 0.0
    widest = float(widths.max()) + 8 * spread  # surely enough
    return float(optimize.brentq(lambda d: _seen(d, spread, widths) - POWER, 0.0, widest))


def power_crossed(difference: float, found: Components, level: float = LEVEL) -> float:
    """Power of the test at ``level`` for a true mean ``difference``, if the components of the first comparison are the
    true ones and the effects are normal."""
    if 2.0 ** (2 - found.persons - found.scenarios) > level:
        return 0.0
    spread, widths = _outcomes(found, level)
    return float(difference != 0) if spread < 1e-12 else _seen(difference, spread, widths)


def needed(difference: float, found: Components, level: float = LEVEL) -> tuple[int | None, int | None]:
    """How many persons with the same scenarios, and how many scenarios with the same persons, detect a mean
    ``difference`` with probability ``POWER``; None: more than ``MOST``, or no number of them does."""
    persons = _fewest(lambda n: found.planned(n, found.scenarios), difference, level)
    return persons, _fewest(lambda n: found.planned(found.persons, n), difference, level)


def needed_of_both(difference: float, found: Components, level: float = LEVEL) -> tuple[int, int] | None:
    """The same where both grow in one proportion."""
    share = found.scenarios / found.persons

    def design(persons: int) -> Components:
        return found.planned(persons, max(2, round(persons * share)))

    persons = _fewest(design, difference, level)
    return None if persons is None else (persons, design(persons).scenarios)


def _errors(mean_squares: Floats, found: Components, fineness: int) -> Floats:
    """(m, k): what the standard error of the mean may be, all alike, given the ``mean_squares`` (m, 3) observed."""
    factors = _factors(found.freedom, fineness)
    of_persons, of_scenarios, of_rest = (mean_squares[:, i, None] * factors[:, i] for i in range(3))
    # Persons and scenarios can add to the rest, not take from it.
    variance = np.maximum(of_persons, of_rest) + np.maximum(of_scenarios, of_rest) - of_rest
    return np.asarray(np.sqrt(variance / found.cells))


@lru_cache(maxsize=64)
def _chi_square(freedom: tuple[int, int, int], fineness: int, seed: int) -> Floats:
    """(2**fineness, 3): chi-square variables over their degrees of freedom, evenly spread (Sobol)."""
    even = qmc.Sobol(3, rng=np.random.default_rng(seed)).random_base2(fineness)
    return np.asarray(stats.chi2.ppf(even, freedom) / np.array(freedom))


def _factors(freedom: tuple[int, int, int], fineness: int) -> Floats:
    return 1 / _chi_square(freedom, fineness, 0)


def _half_width(errors: Floats, level: float) -> Floats:
    """(m,): what normal errors with the standard deviations ``errors`` (m, k) exceed with probability ``level``."""
    score = float(stats.norm.isf(level / 2))
    low, high = score * errors.min(axis=1), score * errors.max(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        for _ in range(_HALVINGS):
            middle = np.sqrt(low * high)  # they may lie orders of magnitude apart
            over = np.where(middle[:, None] > 0, 2 * ndtr(-middle[:, None] / errors), 0.0).mean(axis=1) > level
            low, high = np.where(over, middle, low), np.where(over, high, middle)
    return np.asarray(high)


def _outcomes(found: Components, level: float) -> tuple[float, Floats]:
    """The true standard error of the mean, and the intervals' half widths (k,) in repetitions, if the components of the
    first comparison are the true ones."""
    true = found.mean_squares[:1]
    spread = float(np.sqrt((true[0, 0] + true[0, 1] - true[0, 2]) / found.cells))
    squares = true * _chi_square(found.freedom, _PLANNED, 1)
    squares[:, :2] = np.maximum(squares[:, :2], squares[:, 2:])
    return spread, _half_width(_errors(squares, found, _PLANNED), level)


def _seen(difference: float, spread: float, widths: Floats) -> float:
    return float((ndtr((difference - widths) / spread) + ndtr((-difference - widths) / spread)).mean())


def _fewest(design: Callable[[int], Components], difference: float, level: float) -> int | None:
    """The fewest n, up to ``MOST``, whose design has the power; None if there are none."""

    def enough(n: int) -> bool:
        return power_crossed(difference, design(n), level) >= POWER

    def hopeless(n: int) -> bool:  # even if the variances were known
        true = design(n).mean_squares[0]
        score = float(stats.norm.isf(level / 2) + stats.norm.ppf(POWER))
        return abs(difference) < 0.99 * score * np.sqrt((true[0] + true[1] - true[2]) / design(n).cells)

    if hopeless(MOST):
        return None
    low, high = 1, 2  # low is too few
    while high < MOST and (hopeless(high) or not enough(high)):
        low, high = high, min(2 * high, MOST)
    if not enough(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if hopeless(middle) or not enough(middle) else (low, middle)
    return high
