"""Verdicts: right for a DMS that works, and each broken one is caught by the scenario that should catch it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pandas as pd
import pytest

from dmsynth.camera import read_camera
from dmsynth.camera.things import parse_things
from dmsynth.validation.dms import Answer, DmsRun
from dmsynth.validation.reference_dms import Seen, SeenEyes, Timers, warn
from dmsynth.validation.scenario_files import find_scenarios, parse_scenario
from dmsynth.validation.scenarios import Scenario, Wearing
from dmsynth.validation.verdicts import Verdict, align, commands, judge

BY_EYES = {
    *(f"ncap-long-{place}-lizard" for place in ("driver-mirror", "rear-view-mirror", "infotainment")),
    *(f"ncap-long-{place}-lizard" for place in ("instrument-cluster", "glove-box", "phone-in-lap")),
    "ncap-glances-infotainment-lizard", "ncap-glances-phone-lizard",
}  # fmt: skip
SCENARIOS = {scenario.name: scenario for scenario in find_scenarios(["all"])}


@lru_cache
def commanded(name: str) -> pd.DataFrame:
    """A scenario's command as a table, all of it covered."""
    return SCENARIOS[name].trajectory().table().assign(covered=True)


def good(scenario: Scenario, table: pd.DataFrame, timers: Timers | None = None) -> list[Answer]:
    """The reference policy on a tracker that is right to about a degree."""
    noise = np.random.default_rng(len(table)).normal(0, 1, (len(table), 3))
    poses = table[["pitch", "yaw", "roll"]].to_numpy() + noise
    seen = [Seen(float(t), (float(p[0]), float(p[1]), float(p[2]))) for t, p in zip(table["time"], poses, strict=True)]
    if scenario.moves_eyes:
        seen = [replace(each, eyes=eyes) for each, eyes in zip(seen, seen_eyes(table), strict=True)]
    hidden = [any(begin <= each.time <= end for begin, end in scenario.blocked) for each in seen]
    seen = [Seen(each.time, None) if gone else each for each, gone in zip(seen, hidden, strict=True)]
    return list(warn(seen, scenario.speed, timers or Timers()))


def seen_eyes(table: pd.DataFrame) -> list[SeenEyes]:
    """What a tracker sees of the eyes: right to a degree, but with this person's offsets, and lids that never meet."""
    noise = np.random.default_rng(len(table) + 1).normal(0, 1, (len(table), 3))
    opening = table[["eye_opening_left", "eye_opening_right"]].mean(axis=1)
    aspects = 0.27 * (0.22 + 0.78 * opening) + 0.005 * noise[:, 2]
    pitches, yaws = table["gaze_pitch"] + 6 + noise[:, 0], table["gaze_yaw"] - 3 + noise[:, 1]
    return [SeenEyes(*each) for each in zip(pitches, yaws, aspects, strict=True)]


def late(scenario: Scenario, table: pd.DataFrame) -> list[Answer]:
    return good(scenario, table, Timers(delay=1.5))


def mirrored(scenario: Scenario, table: pd.DataFrame) -> list[Answer]:
    return [replace(answer, yaw=-(answer.yaw or 0)) for answer in good(scenario, table)]


def dead(scenario: Scenario, table: pd.DataFrame) -> list[Answer]:
    return [Answer(float(time)) for time in table["time"]]


def dropping(scenario: Scenario, table: pd.DataFrame) -> list[Answer]:
    keep = np.random.default_rng(1).random(len(table)) >= 0.1
    return [answer for answer, kept in zip(good(scenario, table), keep, strict=True) if kept]


def silent(scenario: Scenario, table: pd.DataFrame) -> list[Answer]:
    return [replace(answer, warning=False) for answer in good(scenario, table)]


def nervous(scenario: Scenario, table: pd.DataFrame) -> list[Answer]:
    return good(scenario, table, Timers(limits=((0, 1.0),), margin=0))


def laggy(scenario: Scenario, table: pd.DataFrame) -> list[Answer]:
    answers = good(scenario, table)
    return [replace(answers[max(0, i - 20)], time=answer.time) for i, answer in enumerate(answers)]


def blind_to_eyes(scenario: Scenario, table: pd.DataFrame) -> list[Answer]:
    poses = table[["pitch", "yaw", "roll"]].to_numpy()
    seen = [Seen(t, (p[0], p[1], p[2])) for t, p in zip(table["time"].tolist(), poses.tolist(), strict=True)]
    return list(warn(seen, scenario.speed, Timers()))


def startled(scenario: Scenario, table: pd.DataFrame) -> list[Answer]:
    """Takes blinks for sleep."""
    return good(scenario, table, Timers(microsleep=0.1, asleep=0.1))


def unseeing(scenario: Scenario, table: pd.DataFrame) -> list[Answer]:
    """Takes the line of sight for the head."""
    wanted, answers = commands(table), good(scenario, table)
    pitch, yaw = wanted.get("gaze_pitch", wanted["pitch"]), wanted.get("gaze_yaw", wanted["yaw"])
    return [replace(a, pitch=p, yaw=y) for a, p, y in zip(answers, pitch.tolist(), yaw.tolist(), strict=True)]


def unkind(scenario: Scenario, table: pd.DataFrame) -> list[Answer]:
    """Knows no kinds of warnings."""
    return [replace(answer, warning_kind=None) for answer in good(scenario, table)]


def one_kind(scenario: Scenario, table: pd.DataFrame) -> list[Answer]:
    """Calls every warning one of distraction."""
    return [replace(a, warning_kind="distraction" if a.warning else None) for a in good(scenario, table)]


MEASURED = ("pose-gaze", "pose-eye-opening")


def both(name: str) -> tuple[Scenario, pd.DataFrame]:
    return SCENARIOS[name], commanded(name)


def sleepy_lids() -> list[Answer]:
    """Half a second behind."""
    answers = good(*both("pose-eye-opening"))
    return [replace(answers[max(0, i - 12)], time=answer.time) for i, answer in enumerate(answers)]


def verdicts(
    dms: Callable[[Scenario, pd.DataFrame], list[Answer]], names: Iterable[str] = SCENARIOS
) -> dict[str, Verdict]:
    return {name: judge(SCENARIOS[name], commanded(name), DmsRun(dms(*both(name)))) for name in names}


def test_a_dms_that_works_passes_everything() -> None:
    found = verdicts(good)
    for name, verdict in found.items():
        assert verdict.outcome == "pass", (name, verdict.reasons)
        assert verdict.trusted == 1 and all(told.outcome == "in time" for told in verdict.told)
        if name != "degraded-lamp":  # in which there is nothing to be seen
            assert verdict.availability == 1
            assert verdict.errors["yaw"]["mae"] == pytest.approx(np.sqrt(2 / np.pi), rel=0.15)  # of the noise
        assert all(warning.outcome == "in time" for warning in verdict.warnings)
    assert found["addw-80-side-window"].warnings[0].latency == pytest.approx(2.7, abs=0.2)


@pytest.mark.parametrize(
    ("dms", "caught_by", "reason"),
    [
        (late, {"addw-50-down", "addw-80-side-window", "addw-30-down", "thesis-passing-a-truck"}, "came after"),
        (mirrored, {"pose-yaw", "thesis-yaw-sweep"}, "yaw is off by"),
        (dead, {"addw-50-down", "ncap-long-infotainment", "ncap-glances-phone"}, "never came"),
        (dead, {"degraded-hands", "degraded-lamp"}, "has to tell within 10 s: it never did"),
        (dropping, {"pose-yaw", "pose-pitch", "pose-roll", "nominal-sway"}, r"answers for (89|9\d)\.\d % of the time"),
        (silent, {name for name, each in SCENARIOS.items() if each.windows}, "never came"),
        (nervous, {"addw-80-short-glance", "addw-30-short-glance", "nominal-junction"}, "false alarm at"),
        (laggy, {"pose-yaw", "pose-pitch", "pose-roll"}, r"lags by 0\.8"),
        (blind_to_eyes, {name for name in SCENARIOS if name.startswith("fatigue-")}, "never came|not as (sleep|drows)"),
        (blind_to_eyes, BY_EYES, "never came"),
        (blind_to_eyes, {"drowsy-perclos", "drowsy-slow-blinks"}, "never came"),
        (blind_to_eyes, {"unresponsive-eyes-closed"}, r"came after 7\.\d"),  # for a head that hangs
        (startled, {"nominal-blinking", "nominal-mirrors-by-eyes", "nominal-squinting"}, "false alarm at"),
        (unseeing, {"pose-gaze"}, r"yaw is off by \d"),
        (one_kind, {"fatigue-sleep", "fatigue-microsleep", "drowsy-perclos"}, "as distraction, not as (sleep|drowsi)"),
        (one_kind, {"unresponsive-eyes-closed", "unresponsive-gaze-away"}, "as distraction, not as unresponsive"),
    ],
)
def test_a_broken_dms_is_caught_by_the_scenarios_that_should(
    dms: Callable[[Scenario, pd.DataFrame], list[Answer]], caught_by: set[str], reason: str
) -> None:
    found = verdicts(dms, {*caught_by, "addw-50-down", "nominal-talking"})
    for name in caught_by:
        assert found[name].outcome == "fail", (name, found[name])
        with pytest.raises(ValueError, match=reason):
            raise ValueError("; ".join(found[name].reasons))
    if dms in (mirrored, dropping):  # what they can still do is not held against them
        assert found["addw-50-down"].outcome == "pass" and found["nominal-talking"].outcome == "pass"


ASKED = ("fatigue-sleep", "addw-50-down", "unresponsive-gaze-away")


def test_a_dms_without_kinds_is_judged_by_the_time_only() -> None:
    for name, verdict in verdicts(unkind).items():
        assert verdict.outcome == "pass", (name, verdict.reasons)
        assert {warning.kind for warning in verdict.warnings} <= {None}
    kinds = {name: [(w.asked, w.kind) for w in verdict.warnings] for name, verdict in verdicts(good, ASKED).items()}
    assert kinds["fatigue-sleep"] == [("sleep", "sleep")] and kinds["addw-50-down"] == [(None, "distraction")]
    assert kinds["unresponsive-gaze-away"] == [("unresponsive", "unresponsive")]


def test_gaze_and_lids_are_judged_like_the_head() -> None:
    gaze, lids = (judge(SCENARIOS[n], commanded(n), DmsRun(good(SCENARIOS[n], commanded(n)))) for n in MEASURED)
    for axis in ("gaze_yaw", "gaze_pitch"):
        error = gaze.errors[axis]
        assert error["mae"] < 2 and error["gain"] == pytest.approx(1, abs=0.05) and abs(error["lag"]) < 0.03, error
        assert 0.9 < error["available"] < 1 and abs(error["bias"]) < 1  # a second goes by before the rest is known
    error = lids.errors["eye_opening"]
    assert error["mae"] < 0.05 and error["gain"] == pytest.approx(1, abs=0.05) and error["bands"][0]["to"] == 0.2
    behind = judge(SCENARIOS["pose-eye-opening"], commanded("pose-eye-opening"), DmsRun(sleepy_lids()))
    assert behind.errors["eye_opening"]["lag"] == pytest.approx(0.48, abs=0.03)
    blind = judge(SCENARIOS["pose-gaze"], commanded("pose-gaze"), DmsRun(blind_to_eyes(*both("pose-gaze"))))
    assert blind.outcome == "inconclusive" and "says nothing of gaze_yaw" in " ".join(blind.reasons)
    head_only = judge(*both("pose-yaw"), DmsRun([Answer(0.0, yaw=1.0, gaze_yaw=2.0, eye_opening=1.0)]))
    assert set(head_only.errors) == {"yaw"}  # what the eyes of such a face do is not known


def test_a_dead_camera_does_not_pass_for_saying_nothing() -> None:
    found = verdicts(dead, ["pose-yaw"])
    assert found["pose-yaw"].outcome == "inconclusive" and "says nothing of yaw" in " ".join(found["pose-yaw"].reasons)
    blind = judge(SCENARIOS["nominal-sway"], commanded("nominal-sway"), DmsRun([], "gave no answer"))
    assert blind.outcome == "fail" and blind.availability == 0


def test_what_is_not_covered_counts_neither_way() -> None:
    name = "addw-80-side-window"
    scenario, table = SCENARIOS[name], commanded(name)
    turned = table.assign(covered=table["yaw"].abs() < 20)
    for dms in (good, silent, late):
        verdict = judge(scenario, turned, DmsRun(dms(scenario, turned)))
        assert verdict.outcome == "inconclusive" and not verdict.false_alarms, verdict
    before = table.assign(covered=table["time"] > 1)
    assert judge(scenario, before, DmsRun(silent(scenario, before))).outcome == "fail"
    alarm = [Answer(float(t), warning=10 < t < 10.5) for t in table["time"]]
    quiet = SCENARIOS["nominal-sway"]
    table = commanded("nominal-sway")
    alarm = [Answer(float(t), warning=10 < t < 10.5) for t in table["time"]]
    assert judge(quiet, table, DmsRun(alarm)).false_alarms == [pytest.approx(10.04)]
    doubted = judge(quiet, table.assign(covered=table["time"] > 5), DmsRun(alarm))
    assert doubted.outcome == "inconclusive" and len(doubted.doubtful_alarms) == 1


def test_a_face_that_was_lost_out_of_coverage_may_be_found_again() -> None:
    """For a second; what is missing later, or without such a reason, counts."""
    table = commanded("pose-yaw")
    times, away = table["time"].to_numpy(), table["yaw"].abs().to_numpy() > 20
    outside = table.assign(covered=~away)

    def judged(table: pd.DataFrame, slow: float) -> Verdict:
        last = np.maximum.accumulate(np.where(away, times, -np.inf))
        answers = [Answer(float(t), pitch=float(p), yaw=float(y), roll=float(r))
                   for t, p, y, r, since in zip(times, table["pitch"], table["yaw"], table["roll"], times - last,
                                                strict=True) if since > slow]  # fmt: skip
        return judge(SCENARIOS["pose-yaw"], table, DmsRun(answers))

    assert judged(outside, 0.8).availability == 1 and judged(outside, 0.8).outcome == "inconclusive"
    assert (judged(outside, 1.8).availability or 0) < 0.95
    assert (judged(table, 0.8).availability or 0) < 0.95, "all of it is covered"


def test_a_breakdown_is_a_failure_and_what_was_not_tested_is_not() -> None:
    scenario, table = SCENARIOS["addw-50-down"], commanded("addw-50-down")
    crashed = judge(scenario, table, DmsRun(good(scenario, table), "crashed with exit code 3"))
    assert crashed.outcome == "fail" and crashed.reasons == ["the DMS crashed with exit code 3"]
    untested = judge(scenario, table, DmsRun([], "x.jsonl: no such log", tested=False))
    assert untested.outcome == "inconclusive"


@pytest.mark.parametrize(
    ("on", "outcome", "said"),
    [
        ([(3.0, 5.0)], "pass", ""),
        ([(2.0, 2.0001)], "pass", ""),  # exactly when the window opens
        ([(4.0, 4.5)], "pass", ""),  # in the last frame of the window
        ([(3.0, 3.5), (5.0, 5.5)], "pass", ""),  # warned again while still away
        ([(4.3, 5.0)], "fail", "came after 3.30 s"),
        ([(1.5, 5.0)], "fail", "too early"),
        ([(1.2, 1.4), (3.0, 5.0)], "fail", "false alarm at 1.20 s"),
        ([(3.0, 5.0), (9.0, 9.5)], "fail", "false alarm at 9.00 s"),
        ([], "fail", "never came"),
    ],
)
def test_windows(on: list[tuple[float, float]], outcome: str, said: str) -> None:
    scenario = parse_scenario(
        "name: x\ntitle: x\nsource: x\nspeed: 50\nframe_rate: 10\nmoves:\n  - hold: 1\n  - hold: 6\n    mark: away\n"
        "  - hold: 3\n    mark: back\nwarnings:\n  - {since: away, earliest: 1, latest: 3, until: back}\n",
        "x.yaml",
    )
    table = scenario.trajectory().table().assign(covered=True)
    answers = [Answer(float(t), warning=any(a - 1e-6 <= t <= b for a, b in on)) for t in table["time"]]
    verdict = judge(scenario, table, DmsRun(answers))
    assert verdict.outcome == outcome and said in "; ".join(verdict.reasons), verdict


def test_a_slow_but_steady_dms_is_available() -> None:
    times = np.arange(0, 10, 0.04)
    steady = [Answer(float(t), yaw=1.0) for t in np.arange(0, 10, 0.1)]
    assert align(times, steady)["answered"].mean() > 0.99
    assert align(times, steady[:50])["answered"].mean() == pytest.approx(0.5, abs=0.02)
    assert not align(times, [])["answered"].any()
    posed = [replace(answer, yaw=1.0 if i % 2 else None) for i, answer in enumerate(steady)]
    assert align(times, posed)["answered"].mean() == pytest.approx(0.5, abs=0.12)


def test_what_blocks_the_view_stays_under_another_camera_and_other_things() -> None:
    """Else every DMS that sees would fail for not telling that it cannot."""
    day, mask = read_camera("day"), [Wearing.of(each) for each in parse_things(["mask"])]
    scenarios = {each.name: each.in_setting(day, mask) for each in find_scenarios(["degraded", "addw-50-down"])}
    assert scenarios["degraded-lamp"].camera != day and scenarios["degraded-lamp"].wear == mask
    assert scenarios["degraded-hands"].camera == day and scenarios["degraded-hands"].wear != mask
    assert scenarios["addw-50-down"].camera == day and scenarios["addw-50-down"].wear == mask
