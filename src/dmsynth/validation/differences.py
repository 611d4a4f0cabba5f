"""What is compared between two versions of a DMS, figure by figure, and each difference as a sentence."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

Scenario = dict[str, Any]
"""One entry of ``scenarios`` in ``results.json``."""


@dataclass(frozen=True)
class Metric:
    """A figure of a scenario; None if the scenario does not have it.

    Attributes:
        lower: whether lower is better.
        resolution: its measurement resolution in a scenario; the interval is widened by it.
        most: the largest difference that is possible.
    """

    name: str
    unit: str
    lower: bool
    of: Callable[[Scenario], float | None]
    resolution: Callable[[Scenario], float] = lambda scenario: 0.0
    most: float = math.inf


def _error(axis: str) -> Callable[[Scenario], float | None]:
    return lambda scenario: scenario["errors"][axis]["mae"] if axis in scenario["errors"] else None


def _latency(scenario: Scenario) -> float | None:
    """Mean over the warnings that occurred and can be judged."""
    times = [w["latency"] for w in scenario["warnings"] if w["trusted"] and w["latency"] is not None]
    return float(np.mean(times)) if times else None


def _latency_resolution(scenario: Scenario) -> float:
    """A warning is detected in the first frame with it: the difference of two latencies is accurate to ± one frame; and
    where logs were aligned afterwards, to the uncertainty of their times."""
    return 1 / float(scenario["frame_rate"]) + float(scenario.get("time_uncertainty") or 0)


def _false_alarms(scenario: Scenario) -> float | None:
    return None if scenario["outcome"] == "inconclusive" else float(len(scenario["false_alarms"]))


METRICS = (
    *(Metric(f"{axis} error", "°", True, _error(axis)) for axis in ("pitch", "yaw", "roll")),
    *(Metric(f"{axis.replace('_', ' ')} error", "°", True, _error(axis)) for axis in ("gaze_pitch", "gaze_yaw")),
    Metric("eye opening error", "", True, _error("eye_opening")),
    Metric("warning latency", " s", True, _latency, _latency_resolution),
    Metric("false alarms a scenario", "", True, _false_alarms),
    Metric(
        "availability",
        " %",
        False,
        lambda s: None if s["availability"] is None else 100 * float(s["availability"]),
        most=100,
    ),
)


PASS_RATE = Metric("pass rate", " %", False, lambda scenario: None, most=100)
"""Tested on pairs, so it is no figure of a single scenario."""


@dataclass(frozen=True)
class Needed:
    """How many persons and scenarios detect a ``difference`` with a power of 80 %, if the spreads found are the true
    ones: ``persons`` with the same scenarios, ``scenarios`` with the same persons (None: no number does), and ``both``
    where they grow in one proportion."""

    difference: float
    persons: int | None
    scenarios: int | None
    both: tuple[int, int] | None

    def in_words(self, unit: str, at: tuple[int, int]) -> str:
        """What to do with ``at`` (persons, scenarios) at hand."""
        persons, scenarios = at
        ways = []
        if self.persons is not None:
            ways.append(f"{self.persons} persons with {scenarios} scenarios")
        if self.scenarios is not None:
            ways.append(f"{self.scenarios} scenarios with {persons} persons")
        if not ways and self.both is not None:
            ways.append(
                f"{self.both[0]} persons with {self.both[1]} scenarios, more of one of them alone is not enough"
            )
        if not ways:
            ways.append("more persons and scenarios than can be planned with")
        return f"to see {self.difference:.2g}{unit} with a power of 80 %, it takes {' or '.join(ways)}"


@dataclass(frozen=True)
class InCast:
    """What several persons tell of a difference.

    Attributes:
        persons, pairs: number of persons, and of pairs of person and scenario, that have the figure for A and B.
        person_spread, scenario_spread, rest_spread: standard deviations of the difference between persons, between
            scenarios, and of the rest; None: they cannot be told apart.
        needed: for the difference that is wanted, or that was found not distinguishable.
    """

    persons: int
    pairs: int
    person_spread: float | None = None
    scenario_spread: float | None = None
    rest_spread: float | None = None
    needed: Needed | None = None


@dataclass(frozen=True)
class Difference:
    """B against A in one metric.

    Attributes:
        scenarios: number of scenarios that have the figure for both A and B.
        a, b: means; ``difference`` is b − a, ``interval`` its 95 % interval (None: too few scenarios).
        effect: the mean difference in standard deviations of the differences (Cohen's d_z); None if they do not vary.
        p, p_corrected: of the test, and corrected for all metrics of the comparison.
        smallest: the smallest difference that this set detects with a power of 80 % (for pass rates: at all).
        verdict: of B: ``better`` means that B is better than A.
        cast: set if A and B have several persons in common; means are then over pairs of person and scenario.
    """

    metric: str
    unit: str
    scenarios: int
    a: float
    b: float
    difference: float
    interval: tuple[float, float] | None
    effect: float | None
    p: float
    p_corrected: float
    smallest: float | None
    verdict: Literal["better", "worse", "not distinguishable"]
    cast: InCast | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-like; without ``cast`` if there is none."""
        content = asdict(self)
        return content if self.cast else {name: value for name, value in content.items() if name != "cast"}

    def in_words(self) -> str:
        """One sentence."""
        said = self._said()
        if self.cast is None or self.cast.needed is None:
            return said
        return f"{said[:-1]}; {self.cast.needed.in_words(self.unit, (self.cast.persons, self.scenarios))}."

    def _said(self) -> str:
        on, each = f"{self.scenarios} scenarios", f"{self.scenarios} scenarios"
        if self.cast:
            on, each = f"{self.cast.persons} persons, {on}", f"{self.cast.pairs} pairs of person and scenario"
        sizes = f"A {self.a:.2f}{self.unit}, B {self.b:.2f}{self.unit}, {on}"
        if self.interval is None:
            return f"{self.metric}: cannot be compared with {on}."
        if self.effect is None and not self.difference:
            average = f"{self.a:.2f}{self.unit} on average"
            return f"{self.metric}: the same in each of the {each} ({average})."
        low, high = self.interval
        if self.verdict == "not distinguishable":
            seen = (
                "so few could show no difference at all"
                if self.smallest is None
                else f"a difference of {self.smallest:.2f}{self.unit} would have been seen"
            )
            return (
                f"{self.metric}: not distinguishable; B − A is {self.difference:+.2f}{self.unit} (95 % interval "
                f"{low:+.2f} to {high:+.2f}; {sizes}); {seen}."
            )
        if self.difference < 0:
            low, high = -high, -low
        return (
            f"{self.metric}: B is {self.verdict} by {abs(self.difference):.2f}{self.unit} (95 % interval {low:.2f} to "
            f"{high:.2f}; {sizes})."
        )
