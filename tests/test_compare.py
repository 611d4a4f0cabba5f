"""A against B: checked by simulation, and against known truths."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from dmsynth.support.errors import DmsynthError
from dmsynth.validation.compare import Comparison, Difference, compare, read_results
from dmsynth.validation.dms import Answer, DmsRun
from dmsynth.validation.reference_dms import Seen, Timers, warn
from dmsynth.validation.scenario_files import find_scenarios
from dmsynth.validation.scenarios import Scenario
from dmsynth.validation.statistics import (
    LEVEL,
    bootstrap_interval,
    detectable,
    detectable_passes,
    holm,
    mcnemar_p,
    power,
    sign_flip_p,
)
from dmsynth.validation.verdicts import judge

COMPARISONS, METRICS, SCENARIOS = 1000, 6, 25


def called_different(differences: Any, passes: tuple[Any, Any]) -> Any:
    """(k, m) which metrics of m comparisons are called different, as ``compare`` does it."""
    p = np.stack([*(sign_flip_p(each) for each in differences), mcnemar_p(*passes)])
    return holm(p) < LEVEL


def test_identical_versions_are_called_different_in_at_most_one_comparison_in_twenty() -> None:
    """Every metric has its own size, and scenarios differ far more than versions; errors have heavy tails."""
    random = np.random.default_rng(1)
    shape = (METRICS, COMPARISONS, SCENARIOS)
    scenario = random.gamma(2, 3, shape)
    a, b = (scenario * (1 + 0.1 * random.standard_t(3, shape)) for _ in range(2))
    chance = random.beta(4, 1, (COMPARISONS, SCENARIOS))
    passes = random.random(chance.shape) < chance, random.random(chance.shape) < chance
    wrong = called_different(b - a, passes).any(axis=0).mean()
    assert wrong <= 0.05
    assert wrong > 0.005  # it is a test, not a refusal


@pytest.mark.parametrize("wanted", [0.5, 0.8, 0.95])
def test_an_improvement_is_found_as_often_as_the_power_calculation_says(wanted: float) -> None:
    random = np.random.default_rng(2)
    level = LEVEL / (METRICS + 1)
    shift = _shift_of_power(wanted, level)
    differences = random.normal(0, 1, (METRICS, COMPARISONS, SCENARIOS))
    differences[0] += shift
    nothing = np.ones((COMPARISONS, SCENARIOS), dtype=bool)
    found = called_different(differences, (nothing, nothing))[0].mean()
    # Holm tests the others less strictly once one is found, never this one less strictly than level: hence the slack.
    assert wanted - 0.045 < found < wanted + 0.06
    assert power(detectable(1.0, SCENARIOS, level) or 0, 1.0, SCENARIOS, level) == pytest.approx(0.8, abs=1e-6)


def _shift_of_power(wanted: float, level: float) -> float:
    shifts = np.linspace(0.01, 2, 2000)
    return float(shifts[np.argmin([abs(power(s, 1.0, SCENARIOS, level) - wanted) for s in shifts])])


def test_the_tests_agree_with_scipy() -> None:
    random = np.random.default_rng(3)
    for n in (8, 30):
        d = random.normal(0.3, 1, n)
        theirs = stats.permutation_test(
            (d, np.zeros(n)), lambda x, y: (x - y).mean(), permutation_type="samples", n_resamples=20_000, rng=random
        )
        assert sign_flip_p(d[None])[0] == pytest.approx(theirs.pvalue, abs=0.02)
    a, b = np.array([[True] * 9 + [False]]), np.array([[False] * 8 + [True] * 2])
    assert mcnemar_p(a, b)[0] == pytest.approx(stats.binomtest(1, 9, 0.5).pvalue)
    p = np.array([0.01, 0.04, 0.03])
    assert holm(p[:, None])[:, 0] == pytest.approx([0.03, 0.06, 0.06])
    assert sign_flip_p(np.zeros((1, 20)))[0] == 1 and sign_flip_p(np.zeros((2, 0))).tolist() == [1, 1]


def test_intervals_contain_the_truth_nineteen_times_out_of_twenty() -> None:
    random = np.random.default_rng(4)
    inside = 0
    for _ in range(100):
        low, high = bootstrap_interval(random.gamma(4, 1, SCENARIOS)) or (0, 0)
        inside += low <= 4 <= high
    assert inside >= 88
    assert bootstrap_interval(np.ones(1)) is None and bootstrap_interval(np.ones(9)) == (1, 1)


def test_what_cannot_be_seen_is_said() -> None:
    assert detectable(1.0, 4, 0.05) is None and detectable_passes(4, 0.05) is None
    assert detectable_passes(25, 0.05) == 6 / 25 and 2 * 0.5**6 < 0.05 < 2 * 0.5**5


# --- known truths, through verdicts and compare ---------------------------------------------------------------------


@lru_cache
def suite() -> tuple[Scenario, ...]:
    return tuple(
        scenario for scenario in find_scenarios(["all"]) if not scenario.moves_eyes and not scenario.unavailable
    )


def version(name: str, noise: float = 1.0, seed: int = 0, timers: Timers | None = None) -> dict[str, Any]:
    """Results of the reference policy on a head tracker with ``noise`` degrees of error, without videos."""
    rows = []
    for number, scenario in enumerate(suite()):
        table = scenario.trajectory().table().assign(covered=True)
        random = np.random.default_rng((seed, number))
        poses = table[["pitch", "yaw", "roll"]].to_numpy() + random.normal(0, noise, (len(table), 3))
        times = table["time"].tolist()
        seen = [Seen(t, (float(p[0]), float(p[1]), float(p[2]))) for t, p in zip(times, poses, strict=True)]
        answers: list[Answer] = list(warn(seen, scenario.speed, timers or Timers()))
        verdict = judge(scenario, table, DmsRun(answers)).to_dict()
        rows.append({"name": scenario.name, "frame_rate": scenario.frame_rate, "video": "v", **verdict})
    return {"format": 1, "dms": {"name": name}, "scenarios": rows}


def figures(comparison: Comparison) -> dict[str, Difference]:
    return {each.metric: each for each in comparison.differences}


@pytest.fixture(scope="module")
def base() -> dict[str, Any]:
    return version("A")


def test_the_same_version_is_not_distinguishable(base: dict[str, Any]) -> None:
    for other in (base, version("A again", seed=1)):
        found = compare(base, other)
        assert {each.verdict for each in found.differences} == {"not distinguishable"}
        assert "not distinguishable in any of 7 figures" in found.in_words()
        again = figures(compare(base, version("A again", seed=1)))["yaw error"]
    assert "B − A is" in again.in_words() and "would have been seen" in again.in_words()
    same = compare(base, base).to_dict()["in_words"]
    assert f"pass rate: the same in each of the {len(suite())} scenarios (100.00 % on average)." in same


def test_a_timer_half_a_second_slower_is_found(base: dict[str, Any]) -> None:
    found = figures(compare(base, version("slower", seed=1, timers=Timers(delay=0.5))))
    latency = found["warning latency"]
    assert latency.verdict == "worse" and latency.interval is not None
    slowed = [s for s in base["scenarios"] if s["warnings"] and "glances" not in s["name"]]
    truth = 0.5 * len(slowed) / latency.scenarios  # repeated glances have a timer of their own, as fast as ever
    assert latency.interval[0] <= truth <= latency.interval[1] and latency.interval[0] > 0
    assert found["yaw error"].verdict == "not distinguishable"
    assert latency.in_words().startswith("warning latency: B is worse by 0.")


def test_a_fifth_more_noise_is_found(base: dict[str, Any]) -> None:
    noisier = compare(base, version("noisier", noise=1.2, seed=2))
    found = figures(noisier)
    truth = 0.2 * math.sqrt(2 / math.pi)  # the mean size of normal noise is sqrt(2/π) of its standard deviation
    for axis in ("pitch", "yaw", "roll"):
        error = found[f"{axis} error"]
        assert error.verdict == "worse" and error.interval is not None
        assert error.interval[0] <= truth <= error.interval[1]
        better = figures(compare(version("noisier", noise=1.2, seed=2), base))[f"{axis} error"]
        assert better.verdict == "better" and better.difference == pytest.approx(-error.difference)
        assert "B is better by 0.1" in better.in_words()
    assert found["warning latency"].verdict == "not distinguishable"
    assert "worse in pitch error, yaw error" in noisier.in_words()


def test_a_version_that_never_warns_loses_the_pass_rate(base: dict[str, Any]) -> None:
    silent = version("silent", timers=Timers(margin=-100, glances=1000))
    found = figures(compare(base, silent))["pass rate"]
    assert found.verdict == "worse" and found.a == 100 and found.b < 60
    assert "warning latency" not in figures(compare(base, silent))


def test_what_is_not_paired_is_refused(base: dict[str, Any], tmp_path: Path) -> None:
    other = base | {"scenarios": [base["scenarios"][0] | {"video": "another"}]}
    with pytest.raises(DmsynthError, match="saw different videos"):
        compare(base, other)
    with pytest.raises(DmsynthError, match="no scenario in common"):
        compare(base, base | {"scenarios": []})
    fewer = compare(base, base | {"scenarios": base["scenarios"][:-2]})
    assert len(fewer.left_out) == 2 and fewer.scenarios == len(suite()) - 2
    (tmp_path / "results.json").write_text('{"format": 9}')
    with pytest.raises(DmsynthError, match="no results of this version"):
        read_results(tmp_path)


# --- several persons ------------------------------------------------------------------------------------------------


def in_cast(name: str, noises: dict[str, float], seed: int = 0) -> dict[str, Any]:
    """Results of a version whose tracker has ``noises`` degrees of error with each person."""
    played = {
        person: version(name, noise, seed=seed + 10 * number) for number, (person, noise) in enumerate(noises.items())
    }
    rows = [row | {"person": person} for person, each in played.items() for row in each["scenarios"]]
    persons = [{"name": person, "sha256": f"{number:064x}"} for number, person in enumerate(noises)]
    return {"format": 1, "dms": {"name": name}, "persons": persons, "scenarios": rows}


@pytest.fixture(scope="module")
def cast_base() -> dict[str, Any]:
    return in_cast("A", dict.fromkeys("efgh", 1.0))


def test_a_difference_that_all_persons_show_is_found_in_a_cast(cast_base: dict[str, Any]) -> None:
    compared = compare(cast_base, in_cast("noisier", dict.fromkeys("efgh", 1.2), seed=1), {"yaw error": 0.01})
    assert compared.persons == list("efgh") and compared.scenarios == len(suite()) and not compared.left_out
    assert compared.in_words().startswith(f"B against A on 4 persons in {len(suite())} scenarios: worse in ")
    error = figures(compared)["yaw error"]
    truth = 0.2 * math.sqrt(2 / math.pi)
    assert error.verdict == "worse" and error.interval is not None and error.cast is not None
    assert error.interval[0] <= truth <= error.interval[1] and error.cast.pairs == 4 * error.scenarios
    needed = error.cast.needed
    assert needed is not None and needed.difference == 0.01 and "to see 0.01° with a power of 80 %" in error.in_words()
    content = compared.to_dict()
    assert content["persons"] == list("efgh")
    assert {each["metric"]: each["cast"]["persons"] for each in content["differences"]}["yaw error"] == 4


def test_a_difference_of_one_person_alone_is_not_found_in_a_cast(cast_base: dict[str, Any]) -> None:
    """Scenario by scenario it would be significant: the same person again and again."""
    other = in_cast("B", dict.fromkeys("efg", 1.0) | {"h": 2.0}, seed=1)
    error = figures(compare(cast_base, other))["yaw error"]
    assert error.verdict == "not distinguishable" and error.cast is not None and error.interval is not None
    assert error.interval[0] < 0 < error.interval[1] and error.p_corrected > 0.5
    assert (error.cast.person_spread or 0) > 5 * (error.cast.scenario_spread or 0)
    assert (
        error.cast.needed is not None and (error.cast.needed.persons or 0) > 4 and error.cast.needed.scenarios is None
    )
    assert f"it takes {error.cast.needed.persons} persons with {error.scenarios} scenarios." in error.in_words()
    a, b = (np.array([row["errors"]["yaw"]["mae"] for row in each["scenarios"]]) for each in (cast_base, other))
    assert sign_flip_p((b - a)[None])[0] < 0.001


def test_what_only_one_cast_has_is_left_out_and_named(cast_base: dict[str, Any]) -> None:
    first, second, third = (scenario.name for scenario in suite()[:3])
    other = cast_base | {"scenarios": [
        row for row in cast_base["scenarios"]
        if row["person"] != "g" and row["name"] != first and (row["person"], row["name"]) != ("e", second)
    ]}  # fmt: skip
    compared = compare(cast_base, other)
    assert compared.left_out == ["g", first, f"e: {second}"] and compared.persons == ["e", "f", "h"]
    changed = [row | ({"video": "w"} if row["name"] == third else {}) for row in cast_base["scenarios"]]
    with pytest.raises(DmsynthError, match=f"e: {third}: A and B saw different videos"):
        compare(cast_base, cast_base | {"scenarios": changed})
    with pytest.raises(DmsynthError, match="--wanted size: A and B have no such figure in common; they have pass rate"):
        compare(cast_base, cast_base, {"size": 1.0})
    with pytest.raises(DmsynthError, match=r"--wanted warning latency=0.01: is measured to 0.04 s; give more"):
        compare(cast_base, cast_base, {"warning latency": 0.01})


def test_a_rate_differs_by_a_hundred_percent_at_most(cast_base: dict[str, Any]) -> None:
    names = [scenario.name for scenario in suite()[:2]]
    rows = [row for row in cast_base["scenarios"] if row["name"] in names and row["person"] in "ef"]
    failed = [row | {"outcome": "fail" if row["person"] == "e" else "pass"} for row in rows]
    rate = figures(compare(cast_base | {"scenarios": rows}, cast_base | {"scenarios": failed}))["pass rate"]
    assert rate.difference == -50 and rate.interval == (-100, 100) and rate.smallest is None
    assert "so few could show no difference at all" in rate.in_words()


def test_one_person_in_common_is_compared_by_scenarios(cast_base: dict[str, Any], base: dict[str, Any]) -> None:
    """Person e is the single face of ``base``: the same seed, the same hash."""
    single = base | {"face": {"name": "e.safetensors", "sha256": f"{0:064x}"}}
    compared = compare(cast_base, single)
    assert compared.differences == compare(base, base).differences and not compared.persons
    assert compared.left_out == ["f", "g", "h"] and "persons" not in compared.to_dict()
    assert "cast" not in compared.to_dict()["differences"][0]
    with pytest.raises(DmsynthError, match="no person in common"):
        compare(cast_base, base | {"face": {"name": "x", "sha256": f"{9:064x}"}})
    with pytest.raises(DmsynthError, match="one person in common"):
        compare(cast_base, single, {"yaw error": 0.1})
