"""A view that is blocked: a DMS has to tell that it cannot see, in time, and must not tell so while it can."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmsynth.support.errors import DmsynthError
from dmsynth.validation.dms import Answer, DmsRun, read_answers
from dmsynth.validation.openlabel import openlabel
from dmsynth.validation.reference_dms import Seen, Timers, warn
from dmsynth.validation.rendering import Rendered
from dmsynth.validation.scenario_files import parse_scenario
from dmsynth.validation.scenarios import Scenario
from dmsynth.validation.verdicts import Verdict, judge

TEXT = """name: hidden
title: Hidden
source: test
speed: 80
frame_rate: 10
moves:
  - hold: 3
  - {hold: 12, mark: hidden}
  - {hold: 5, mark: clear}
warnings: ignore
unavailable:
  - {since: hidden, until: clear}
"""


def hidden(text: str = TEXT) -> Scenario:
    return parse_scenario(text, "hidden.yaml")


def judged(*tells: tuple[float, float], covered: bool = True) -> Verdict:
    """Of a DMS that measures all the time, and tells that it cannot see from … until."""
    scenario = hidden()
    table = scenario.trajectory().table().assign(covered=True)
    if not covered:
        table.loc[table["time"] > 15, "covered"] = False
    answers = [
        Answer(float(t), yaw=1.0, unavailable=any(begin <= t < end for begin, end in tells)) for t in table["time"]
    ]
    return judge(scenario, table, DmsRun(answers))


@pytest.mark.parametrize(
    ("tells", "outcome", "reason"),
    [
        ([(5, 16)], "in time", ""),
        ([(13, 15)], "in time", ""),  # at the last moment
        ([(13.2, 15)], "late", "it did after 10.20 s"),
        ([], "never", "it never did"),
        ([(0, 2), (5, 16)], "in time", "at 0.00 s, although it could"),
        ([(5, 19)], "in time", "at 18.10 s, although it could"),  # three seconds to see again
        ([(1, 17)], "in time", "at 1.00 s, although it could"),
        ([(16, 17)], "never", "it never did"),
    ],
)
def test_it_has_to_tell_in_time_and_only_while_it_cannot_see(
    tells: list[tuple[float, float]], outcome: str, reason: str
) -> None:
    verdict = judged(*tells)
    assert verdict.told[0].outcome == outcome and verdict.outcome == ("fail" if reason else "pass")
    assert reason in "; ".join(verdict.reasons)
    assert (verdict.told_wrongly != []) == ("although" in reason)


@given(st.integers(300, 1479), st.floats(0.2, 5.0))
def test_the_delay_is_that_of_the_first_frame_that_tells(hundredths: int, seconds: float) -> None:
    begin = (hundredths + 0.5) / 100  # between two frames: on one, the last bit would decide
    found = judged((begin, min(begin + seconds, 17.9)))
    told = found.told[0]
    assert told.delay is not None and told.delay == pytest.approx(np.ceil(10 * (begin - 3)) / 10, abs=1e-6)
    assert told.outcome == ("in time" if told.delay <= 10.04 else "late") and not found.told_wrongly
    assert (found.outcome == "pass") == (told.outcome == "in time")


def test_what_the_coverage_leaves_open_does_not_count_against_it() -> None:
    assert judged((5, 20)).told_wrongly and not judged((5, 20), covered=False).told_wrongly


def test_availability_is_that_while_it_can_see() -> None:
    assert judged((5, 16)).availability == 1.0  # but for the second in which it finds the face again
    assert judged((0, 1.5), (5, 16)).availability == pytest.approx(1 - 15 / 70, abs=0.01)
    assert judged((5, 16)).unavailable == pytest.approx(11 / 20, abs=0.01)


def test_the_reference_tells_after_three_seconds_and_is_not_fooled_by_single_frames() -> None:
    times = np.arange(0, 20, 0.1)
    found = [t < 3 or t >= 15 or abs(t - 8) < 0.12 for t in times]
    seen = [Seen(float(t), (0.0, 0.0, 0.0) if f else None) for t, f in zip(times, found, strict=True)]
    tells = [answer.time for answer in warn(seen, 80, Timers()) if answer.unavailable]
    assert tells[0] == pytest.approx(5.9) and tells[-1] == pytest.approx(15.2)
    assert len(tells) == round(10 * (tells[-1] - tells[0])) + 1  # without a gap


def test_the_protocol_carries_it() -> None:
    (answer,) = read_answers(['{"time": 1, "unavailable": true}'], "log")
    assert isinstance(answer, Answer) and answer.unavailable and '"unavailable": true' in answer.to_json()
    assert "unavailable" not in replace(answer, unavailable=False).to_json()
    (loose,) = read_answers(['{"time": 1, "unavailable": "1"}'], "log", strict=False)
    assert isinstance(loose, Answer) and loose.unavailable
    with pytest.raises(DmsynthError, match="its unavailable is neither true nor false"):
        list(read_answers(['{"time": 1, "unavailable": 3}'], "log"))


def test_the_ground_truth_has_it() -> None:
    scenario = hidden()
    table = scenario.trajectory().table().assign(covered=True)
    actions = openlabel(scenario, Rendered(Path("hidden.mp4"), table))["openlabel"]["actions"].values()
    spans = {each["type"]: each["frame_intervals"] for each in actions}
    assert spans["ViewBlocked"] == [{"frame_start": 30, "frame_end": 149}]
    assert spans["UnavailableExpected"] == [{"frame_start": 30, "frame_end": 130}]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("{since: hiden}", "no mark 'hiden'; there is: hidden, clear"),
        ("{since: hidden, until: clear, within: 13}", "blocked for 12 s only"),
        ("{since: hidden, within: 0}", "greater than 0"),
    ],
)
def test_mistakes_are_told_with_their_line(wrong: str, said: str) -> None:
    with pytest.raises(DmsynthError, match=said) as error:
        hidden(TEXT.replace("{since: hidden, until: clear}", wrong))
    assert "line 12" in str(error.value)
