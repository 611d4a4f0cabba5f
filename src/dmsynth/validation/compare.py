"""Compare versions A and B of a DMS: paired on the same videos, with the differences as sentences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from dmsynth.support.errors import DmsynthError
from dmsynth.validation.results import read_results
from dmsynth.validation.statistics import (
    LEVEL,
    Floats,
    bootstrap_interval,
    detectable,
    detectable_passes,
    holm,
    mcnemar_p,
    sign_flip_p,
)

__all__ = ["METRICS", "Comparison", "Difference", "Metric", "compare", "read_results"]

Scenario = dict[str, Any]
"""One entry of ``scenarios`` in ``results.json``."""


@dataclass(frozen=True)
class Metric:
    """A figure of a scenario; None if the scenario does not have it.

    Attributes:
        lower: whether lower is better.
        resolution: its measurement resolution in a scenario; the interval is widened by it.
    """

    name: str
    unit: str
    lower: bool
    of: Callable[[Scenario], float | None]
    resolution: Callable[[Scenario], float] = lambda scenario: 0.0


def _error(axis: str) -> Callable[[Scenario], float | None]:
    return lambda scenario: scenario["errors"][axis]["mae"] if axis in scenario["errors"] else None


def _latency(scenario: Scenario) -> float | None:
    """Mean over the warnings that occurred and can be judged."""
    times = [w["latency"] for w in scenario["warnings"] if w["trusted"] and w["latency"] is not None]
    return float(np.mean(times)) if times else None


def _false_alarms(scenario: Scenario) -> float | None:
    return None if scenario["outcome"] == "inconclusive" else float(len(scenario["false_alarms"]))


METRICS = (
    *(Metric(f"{axis} error", "°", True, _error(axis)) for axis in ("pitch", "yaw", "roll")),
    *(Metric(f"{axis.replace('_', ' ')} error", "°", True, _error(axis)) for axis in ("gaze_pitch", "gaze_yaw")),
    Metric("eye opening error", "", True, _error("eye_opening")),
    # A warning is detected in the first frame with it: the difference of two latencies is accurate to ± one frame.
    Metric("warning latency", " s", True, _latency, lambda scenario: 1 / scenario["frame_rate"]),
    Metric("false alarms a scenario", "", True, _false_alarms),
    Metric(
        "availability", " %", False, lambda s: None if s["availability"] is None else 100 * float(s["availability"])
    ),
)


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

    def in_words(self) -> str:
        """One sentence."""
        sizes = f"A {self.a:.2f}{self.unit}, B {self.b:.2f}{self.unit}, {self.scenarios} scenarios"
        if self.interval is None:
            return f"{self.metric}: cannot be compared with {self.scenarios} scenarios."
        if self.effect is None and not self.difference:
            average = f"{self.a:.2f}{self.unit} on average"
            return f"{self.metric}: the same in each of the {self.scenarios} scenarios ({average})."
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


@dataclass(frozen=True)
class Comparison:
    """B against A: names, number of common scenarios, unpaired scenarios, and every metric."""

    a: str
    b: str
    scenarios: int
    left_out: list[str]
    differences: list[Difference]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"in_words": [self.in_words(), *(each.in_words() for each in self.differences)]}

    def in_words(self) -> str:
        """One sentence on all metrics."""
        parts = []
        for verdict in ("better", "worse"):
            names = [each.metric for each in self.differences if each.verdict == verdict]
            if names:
                parts.append(f"{verdict} in {', '.join(names)}")
        same = sum(each.verdict == "not distinguishable" for each in self.differences)
        rest = f"not distinguishable in {'the other ' if parts else 'any of '}{same} figures"
        return f"B against A on {self.scenarios} scenarios: {'; '.join([*parts, rest] if same else parts)}."


def compare(a: dict[str, Any], b: dict[str, Any]) -> Comparison:
    """Compare two validations (``read_results``), scenario by scenario.

    Raises:
        DmsynthError: nothing in common, or a scenario whose videos differ: the comparison would not be paired.
    """
    of_a, of_b = ({each["name"]: each for each in results["scenarios"]} for results in (a, b))
    common = [name for name in of_a if name in of_b]
    if not common:
        raise DmsynthError("A and B have no scenario in common; validate both on the same scenarios")
    for name in common:
        if of_a[name]["video"] != of_b[name]["video"]:
            raise DmsynthError(
                f"{name}: A and B saw different videos ({of_a[name]['video']}, {of_b[name]['video']}); validate both "
                "with the same face and version"
            )
        hashes = [of[name].get("video_sha256") for of in (of_a, of_b)]
        if hashes[0] != hashes[1]:
            raise DmsynthError(
                f"{name}: A and B saw different videos of the same name, {of_a[name]['video']} (SHA-256 "
                f"{_short(hashes[0])} and {_short(hashes[1])}): one was damaged, replaced or rendered on another "
                "machine; validate both on the same folder of videos"
            )
    pairs = [(of_a[name], of_b[name]) for name in common]
    rows = [row for metric in METRICS if (row := _paired(metric, pairs)) is not None]
    passes = _passes(pairs)
    tests = len(rows) + (passes is not None)
    if not tests:
        raise DmsynthError("A and B have no figure in common: in no scenario did both answer; see their reports")
    p = [float(sign_flip_p((vb - va)[None])[0]) for _, va, vb, _ in rows]
    if passes is not None:
        p.append(float(mcnemar_p(passes[0][None] > 0, passes[1][None] > 0)[0]))
    corrected = holm(np.array(p)[:, None])[:, 0]
    level = LEVEL / tests
    found = [
        _difference(metric, va, vb, resolution, p[i], float(corrected[i]), level)
        for i, (metric, va, vb, resolution) in enumerate(rows)
    ]
    if passes is not None:
        rate = Metric("pass rate", " %", False, lambda scenario: None)
        va, vb = 100 * passes[0], 100 * passes[1]
        smallest = detectable_passes(len(va), level)
        smallest = None if smallest is None else 100 * smallest
        found.insert(0, _difference(rate, va, vb, 0.0, p[-1], float(corrected[-1]), level, smallest))
    left_out = sorted(set(of_a) ^ set(of_b))
    return Comparison(a["dms"]["name"], b["dms"]["name"], len(common), left_out, found)


def _short(sha256: str | None) -> str:
    return f"{sha256[:16]}…" if sha256 else "not recorded"


def _paired(metric: Metric, pairs: list[tuple[Scenario, Scenario]]) -> tuple[Metric, Floats, Floats, float] | None:
    """The scenarios' values that A and B both have, and their resolution; None if there are none."""
    both = [(va, vb, s) for s, t in pairs if (va := metric.of(s)) is not None and (vb := metric.of(t)) is not None]
    if not both:
        return None
    resolution = max(metric.resolution(scenario) for *_, scenario in both)
    return metric, np.array([va for va, _, _ in both]), np.array([vb for _, vb, _ in both]), resolution


def _passes(pairs: list[tuple[Scenario, Scenario]]) -> tuple[Floats, Floats] | None:
    """1 for a pass and 0 for a failure, where neither is inconclusive; None if there is no such scenario."""
    known = [pair for pair in pairs if all(each["outcome"] != "inconclusive" for each in pair)]
    if not known:
        return None
    a, b = (np.array([float(pair[i]["outcome"] == "pass") for pair in known]) for i in (0, 1))
    return a, b


def _difference(
    metric: Metric,
    a: Floats,
    b: Floats,
    resolution: float,
    p: float,
    corrected: float,
    level: float,
    smallest: float | None = None,
) -> Difference:
    differences = b - a
    spread = float(differences.std(ddof=1)) if len(differences) > 1 else 0.0
    interval = bootstrap_interval(differences)
    mean = float(differences.mean())
    # A difference below the measurement resolution does not count, even if significant.
    differs = corrected < LEVEL and abs(mean) > resolution
    better = (mean < 0) == metric.lower
    if metric.name != "pass rate":
        smallest = detectable(spread, len(differences), level)
        smallest = None if smallest is None else max(smallest, resolution)
    return Difference(
        metric=metric.name,
        unit=metric.unit,
        scenarios=len(differences),
        a=float(a.mean()),
        b=float(b.mean()),
        difference=mean,
        interval=None if interval is None else (interval[0] - resolution, interval[1] + resolution),
        effect=mean / spread if spread > 1e-12 else None,
        p=p,
        p_corrected=corrected,
        smallest=smallest,
        verdict=("better" if better else "worse") if differs else "not distinguishable",
    )
