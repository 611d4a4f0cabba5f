"""A matrix of scenarios, cameras and things: balanced samples, verdicts by factor, versions compared level by level."""

from __future__ import annotations

import copy
import json
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commands import dmsynth, fails
from dmsynth.camera import camera_file
from dmsynth.report.heat_maps import heat_maps
from dmsynth.support.errors import DmsynthError
from dmsynth.validation.compare import compare
from dmsynth.validation.factors import by_factor, figures
from dmsynth.validation.matrix import LIGHT, Cell, cells_of, file_name, parse_factors, stratified
from dmsynth.validation.results import read_results
from dmsynth.validation.scenario_files import parse_scenario
from dmsynth.validation.statistics import LEVEL, joint_flip_p

SCENARIO = "name: {name}\ntitle: T\nsource: test\nspeed: 80\nframe_rate: 5\n{more}moves:\n  - hold: 1\n"


def scenarios(count: int, own: int = 0) -> list[Any]:
    """Some scenarios, the last ``own`` of which have a camera of their own."""
    more = ["camera: night\n" if i >= count - own else "" for i in range(count)]
    return [parse_scenario(SCENARIO.format(name=f"s{i}", more=each), f"s{i}.yaml") for i, each in enumerate(more)]


def counts(cells: list[Cell], *factors: str) -> list[int]:
    """How often each level, or pair of levels, was drawn, where there are some."""
    return list(Counter(tuple(cell.levels[name] for name in factors) for cell in cells).values())


@settings(max_examples=40)
@given(st.integers(1, 9), st.integers(2, 6), st.integers(2, 11), st.integers(1, 3), st.data())
def test_a_sample_has_every_level_about_equally_often(
    played: int, light: int, worn: int, persons: int, data: st.DataObject
) -> None:
    things = ["none", "glasses", "sunglasses", "mask", "cap", "scarf", "hand-mouth", "hand-eye", "phone", "wheel"]
    things += ["hand-cheek"]
    factors = parse_factors([f"light={','.join(LIGHT[:light])}", f"wear={','.join(things[:worn])}"])
    drivers = ["a", "b", "c"][:persons]
    cells = cells_of([(person, each) for person in drivers for each in scenarios(played)], factors)
    assert len(cells) == played * light * worn * persons
    size, seed = data.draw(st.integers(1, len(cells))), data.draw(st.integers(0, 99))
    drawn = stratified(cells, size, seed)
    assert len({id(cell) for cell in drawn}) == size and stratified(cells, size, seed) == drawn
    for name, levels in (("light", light), ("wear", worn)):
        often = counts(drawn, name)
        assert len(often) == min(levels, size) and max(often) - min(often) <= 2
        assert max(often) <= -(-size // levels) + 1
    names = Counter(cell.scenario.name for cell in drawn)
    assert len(names) == min(played, size) and max(names.values()) <= -(-size // played) + 1
    who = Counter(cell.person for cell in drawn)
    assert len(who) == min(persons, size) and max(who.values()) <= -(-size // persons) + 1
    pairs = counts(drawn, "light", "wear")
    assert max(pairs) <= -(-size // (light * worn)) + 2
    assert size < 2 * light * worn or len(pairs) >= 0.9 * light * worn
    if size > 1:  # a smaller sample is in the larger one
        assert {id(cell) for cell in stratified(cells, size - 1, seed)} < {id(cell) for cell in drawn}


def test_a_scenario_keeps_the_camera_that_it_has() -> None:
    factors = parse_factors(["light,occlusion"])
    assert parse_factors(["occlusion,light"]) == factors, "cells have the same names in any order"
    cells = cells_of([(None, each) for each in scenarios(3, own=1)], factors)
    assert len(cells) == 2 * 6 * 11 + 11
    own = [cell for cell in cells if cell.scenario.name == "s2"]
    assert all(set(cell.levels) == {"occlusion"} and cell.played.camera.name == "night" for cell in own)  # type: ignore[union-attr]
    drawn = stratified(cells, 60, 3)
    assert sorted(Counter(cell.scenario.name for cell in drawn).values())[-1] <= 30
    of_own = [cell for cell in drawn if cell.scenario.name == "s2"]
    assert len(of_own) == 11  # all that there are
    played = next(cell for cell in cells if cell.levels == {"light": "day", "occlusion": "mask"}).played
    assert played.camera is not None and played.camera.name == "day" and str(played.worn[0]) == "mask"
    assert file_name("s0", {"light": "day", "wear": "mask=2:5+cap"}) == "s0.day.mask-2-5+cap"


@pytest.mark.parametrize(
    ("vary", "said"),
    [
        ("weather", "no factor 'weather'; choose light, place, camera, occlusion or wear"),
        ("camera=dya,day", "dya: no such camera; .* or none"),
        ("occlusion=none,hat", "hat: no such thing; .* or none"),
        ("camera=day", "has one level; give at least two, or use --camera"),
        ("wear=mask,cap,mask", "mask stands in it twice"),
        ("light,place", "light and place both say which camera"),
        ("light,", "no factor ''"),
    ],
)
def test_mistakes_in_factors_are_told(vary: str, said: str) -> None:
    with pytest.raises(DmsynthError, match=said) as error:
        parse_factors([vary])
    assert "\n" not in str(error.value) and str(error.value).startswith(f"--vary {vary}: ")


def entry(scenario: str, levels: dict[str, str], outcome: str = "pass", error: float = 1.0) -> dict[str, Any]:
    """An entry of results, as far as figures read it."""
    axis = {"mae": error, "bias": 0.0, "rms": 1.0, "frames": 10, "bands": []}
    return {
        "name": scenario, "factors": levels, "outcome": outcome, "availability": 0.9, "unavailable": 0.1,
        "warnings": [{"trusted": True, "latency": 2.5}], "errors": {"yaw": axis}, "video": "v.mp4", "false_alarms": [],
        "frame_rate": 25.0, "video_sha256": "0" * 64,
    }  # fmt: skip


def test_verdicts_by_factor_name_the_worst_level_with_its_interval() -> None:
    rows = [entry(f"s{i}", {"wear": "none"}) for i in range(20)]
    rows += [entry(f"s{i}", {"wear": "mask"}, "fail" if i < 14 else "pass") for i in range(20)]
    rows += [entry("s0", {"wear": "cap"}, "inconclusive"), entry("own", {})]
    (found,) = by_factor(rows, {"wear": ["none", "mask", "cap"]})
    none, mask, cap = found["levels"]
    assert (none["pass"], mask["fail"], mask["cells"]) == (20, 14, 20)
    assert mask["interval"] == pytest.approx([0.1455, 0.5190], abs=1e-4)  # Wilson
    assert cap["rate"] is None and cap["inconclusive"] == 1 and mask["p"] < LEVEL
    assert "mask passes 6 of 20 (30 %; 15 to 52 %), none 20 of 20" in found["in_words"]
    few = by_factor([*rows[:2], entry("s1", {"wear": "mask"}, "fail")], {"wear": ["none", "mask"]})
    assert "no level can be told from the others" in few[0]["in_words"]
    assert figures([])["rate"] is None and figures(rows[:3])["latency"] == 2.5


def matrix_results(worse: str | None = None, by: float = 0.0) -> dict[str, Any]:
    """Results of a matrix of 16 scenarios, 2 cameras and 3 things; at one thing the error is larger."""
    random = np.random.default_rng(5)
    rows = []
    for i in range(16):
        for camera in ("day", "night"):
            for thing in ("none", "mask", "cap"):
                error = 2.0 + random.normal(0, 0.2) + (by if thing == worse else 0.0)
                rows.append(entry(f"s{i}", {"light": camera, "wear": thing}, error=error))
    factors = {"light": ["day", "night"], "wear": ["none", "mask", "cap"]}
    return {"dms": {"name": "D"}, "face": {"sha256": "0"}, "scenarios": rows, "matrix": {"factors": factors}}


def test_versions_are_compared_at_each_level() -> None:
    found = compare(matrix_results(), matrix_results("mask", 0.6))
    worse = {(each.level, row.metric) for each in found.by_level for row in each.differences if row.verdict == "worse"}
    assert ("mask", "yaw error") in worse and not {("none", "yaw error"), ("cap", "yaw error")} & worse
    at_mask = next(each for each in found.by_level if each.level == "mask")
    yaw = next(row for row in at_mask.differences if row.metric == "yaw error")
    assert at_mask.cells == 32 and yaw.scenarios == 16  # the cells of a scenario are one value
    assert yaw.difference == pytest.approx(0.6) and yaw.interval == pytest.approx((0.6, 0.6))
    assert any("at mask B is worse in yaw error (+0.60°" in said for said in found.by_factor_in_words())
    assert {each["level"] for each in found.to_dict()["by_level"]} == {"day", "night", "none", "mask", "cap"}
    same = compare(matrix_results(), matrix_results())
    assert all(row.verdict == "not distinguishable" for each in same.by_level for row in each.differences)


def test_cells_are_paired_by_their_levels() -> None:
    a, b = matrix_results(), matrix_results()
    del a["scenarios"][0], b["scenarios"][1]
    found = compare(a, b)
    assert found.left_out == ["s0 [day, mask]", "s0 [day, none]"] and found.scenarios == 16
    other = copy.deepcopy(b)
    other["scenarios"][5]["video_sha256"] = "1" * 64
    with pytest.raises(DmsynthError, match=r"s1 \[day, none\]: A and B saw different videos"):
        compare(a, other)


def test_identical_versions_differ_at_no_level_in_nineteen_of_twenty_comparisons() -> None:
    """Levels overlap, metrics are alike, and one scenario counts in many tests."""
    random = np.random.default_rng(1)
    wrong, comparisons = 0, 100
    for seed in range(comparisons):
        levels = [random.integers(0, count, 60) for count in (4, 5)]
        metrics = random.normal(0, 1, (1, 60)) + random.normal(0, 1, (4, 60))
        rows = [np.where(of == at, each, np.nan) for each in metrics for of in levels for at in range(of.max() + 1)]
        wrong += bool((joint_flip_p(np.array(rows), seed) < LEVEL).any())
    assert 0 < wrong <= 10  # at most 5 %, and that may by chance be 10 of 100
    rows[4] = np.where(np.isfinite(rows[4]), 2 + 0.5 * random.normal(0, 1, 60), np.nan)
    p = joint_flip_p(np.array(rows))
    assert p[4] < LEVEL and (np.delete(p, 4) > 0.05).all()
    assert joint_flip_p(np.full((1, 5), 3.0)) == pytest.approx(1.0)  # so few cannot show anything


def test_heat_maps_show_every_level_and_what_was_not_played() -> None:
    found = matrix_results("mask", 5.0)
    found["scenarios"] = [row for row in found["scenarios"] if row["factors"] != {"light": "night", "wear": "cap"}]
    for row in found["scenarios"]:
        row["outcome"] = "fail" if row["factors"]["wear"] == "mask" and int(row["name"][1:]) < 7 else "pass"
    found["by_factor"] = by_factor(found["scenarios"], found["matrix"]["factors"])
    ((title, maps),) = heat_maps(found)
    assert title == "wear × light" and [each.figure for each in maps][:3] == [
        "Pass rate", "Availability", "Mean error of the head pose",
    ]  # fmt: skip
    rates = dict(maps[0].rows)
    assert maps[0].columns == ["day", "night", "all"] and list(rates) == ["none", "mask", "cap", "all"]
    assert [each.text for each in rates["none"]] == ["100 %"] * 3 and rates["mask"][2].below == "18/32"
    assert rates["none"][0].back == "#ffffff" != rates["mask"][0].back  # the redder, the worse
    assert rates["cap"][1].back == "" and rates["cap"][2].below == "16/16"
    assert "mask, day: passes 9 of 16 (56 %; 33 to 77 %)" in rates["mask"][0].title
    assert heat_maps({"scenarios": []}) == []


DMS = 'import json\nfor i in range(5): print(json.dumps({"time": i / 5, "yaw": 0.5, "warning": False}))\n'


@pytest.mark.slow
def test_the_command_plays_a_matrix_and_goes_on(tmp_path: Path, face_file: Path) -> None:
    """Two scenarios, two cameras, two things, a small face, and a DMS that sees nothing."""
    (tmp_path / "dms.py").write_text(DMS)
    (tmp_path / "scenarios").mkdir()
    for name, more in (("away", "start: {yaw: 8}\n"), ("quiet", "")):
        (tmp_path / "scenarios" / f"{name}.yaml").write_text(SCENARIO.format(name=name, more=more))
    out = tmp_path / "out"
    small = tmp_path / "small.yaml"
    small.write_text(camera_file("night-small").read_text().replace("name: night-small", "name: small"))
    command = [
        "validate", tmp_path / "scenarios", "--face", face_file, "--dms", f"python {tmp_path / 'dms.py'} {{video}}",
        "--vary", f"camera=none,{small}", "--vary", "wear=none,wheel", "--out", out, "--workers", 1,
    ]  # fmt: skip
    for sample, said in (("0", "has 8 cells; give 1 to 8"), ("9", "has 8 cells; give 1 to 8")):
        assert said in fails(dmsynth(*command, "--sample", sample))
    first = dmsynth(*command, "--sample", 2)
    assert "2 of 8 cells, chosen with seed 0; 0 are judged already, 2 are left" in first.stderr, first.stderr
    done = dmsynth(*command)
    assert "8 of 8 cells; 2 are judged already, 6 are left" in done.stderr and "about 0:0" in done.stderr, done.stderr
    assert "By wear: " in done.stdout and "small, wheel" in done.stdout
    found = json.loads((out / "results.json").read_text())
    assert {(row["name"], *row["factors"].values()) for row in found["scenarios"]} == {
        (name, camera, thing)
        for name in ("away", "quiet")
        for camera in ("none", "small")
        for thing in ("none", "wheel")
    }
    assert len({row["video_sha256"] for row in found["scenarios"]}) == 8
    assert [factor["name"] for factor in found["by_factor"]] == ["camera", "wear"]
    suite = ElementTree.parse(out / "junit.xml").getroot()[0]
    assert "away [small, wheel]" in {case.attrib["name"] for case in suite.iter("testcase")}
    assert (out / "openlabel" / "away.small.wheel.json").is_file()
    page = (out / "report.html").read_text()
    assert "Where does it fail?" in page and page.count('<table class="heat">') >= 2 and "8 of 8 cells" in page
    compared = dmsynth("compare", out, out)
    assert "By camera: B and A are not distinguishable at any of 2 levels." in compared.stdout, compared.stderr
    assert len(read_results(out)["scenarios"]) == 8


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--sample", "3"), "samples a matrix; say with --vary what is varied"),
        (("--vary", "light", "--camera", "night"), "--camera sets what --vary light varies"),
        (("--vary", "occlusion", "--wear", "mask"), "--wear sets what --vary occlusion varies"),
        (("--vary", "light", "--seed", "-1"), "give a number from 0 on"),
    ],
)
def test_options_that_do_not_go_together_are_told(tmp_path: Path, given: tuple[str, ...], said: str) -> None:
    assert said in fails(dmsynth("validate", "addw-50-down", "--face", "starter", "--out", tmp_path / "out", *given))
