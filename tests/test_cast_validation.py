"""A DMS before a whole cast: every person plays every scenario, in one grid; and versions are compared over all."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from commands import dmsynth, fails
from conftest import browser_page
from dmsynth.cli import app
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import sha256_of, write_json
from dmsynth.support.table_files import read_table
from dmsynth.validation.dms import Answer
from dmsynth.validation.results import read_results

HEAD = "title: T\nsource: test\nrequirements: [R-1]\nspeed: 80\nframe_rate: 10\nmoves:\n"
SCENARIOS = {
    "away": f"name: away\n{HEAD}  - hold: 0.5\n  - {{move: {{yaw: 25}}, seconds: 0.5}}\n  - {{hold: 4, mark: away}}\n"
    "warnings:\n  - {since: away, earliest: 1.5, latest: 3.5}\n",
    "quiet": f"name: quiet\n{HEAD}  - hold: 2\n",
    "winks": f"name: winks\n{HEAD}  - hold: 1\n  - {{move: {{gaze_yaw: 4}}, seconds: 0.5}}\n  - hold: 0.5\n",
}


@pytest.fixture(scope="module")
def cast(tmp_path_factory: pytest.TempPathFactory, small_face: Path, head_file: Path) -> Path:
    """Three persons, of whom one cannot move the eyes; and the scenarios beside their file."""
    folder = tmp_path_factory.mktemp("cast")
    (folder / "scenarios").mkdir()
    for name, text in SCENARIOS.items():
        (folder / "scenarios" / f"{name}.yaml").write_text(text)
    path = folder / "cast.yaml"
    path.write_text(f"persons:\n  eileen: {small_face}\n  photo: posed:portrait\n  stiff: {head_file}\n")
    return path


@pytest.fixture(scope="module")
def out(cast: Path) -> Path:
    """Version 1 of a DMS on it."""
    done = dmsynth("validate", cast.parent / "scenarios", "--cast", cast, "--out", cast.parent / "one", "--workers", 1)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "stiff: 2 pass, 0 fail, 1 inconclusive" in done.stdout and ": 8 pass, 0 fail, 1 inconclusive" in done.stdout
    return cast.parent / "one"


def results(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "results.json").read_text()))


@pytest.mark.slow
def test_every_person_plays_every_scenario(out: Path) -> None:
    found = results(out)
    assert "face" not in found and found["summary"] == {"pass": 8, "fail": 0, "inconclusive": 1}
    assert [each["name"] for each in found["persons"]] == ["eileen", "photo", "stiff"]
    assert [each["summary"]["pass"] for each in found["persons"]] == [3, 3, 2]
    for each in found["persons"]:
        assert {"face", "sha256", "consent", "tracker", "dataset_sha256"} <= set(each)
    assert len({each["sha256"] for each in found["persons"]}) == 3
    rows = {(each["person"], each["name"]): each for each in found["scenarios"]}
    assert set(rows) == {(person, name) for person in ("eileen", "photo", "stiff") for name in SCENARIOS}
    stiff = rows["stiff", "winks"]
    assert stiff["outcome"] == "inconclusive" and "the face steers pitch, yaw, roll" in stiff["reasons"][0]
    assert len({each["video"] for each in rows.values() if each["video"]}) == 8
    for each in rows.values():
        if each["answers"]:
            assert each["answers_sha256"] == sha256_of(out / each["answers"])
            assert each["answers"].startswith(f"jobs/{each['person']}-{each['name']}-")
    (requirement,) = found["requirements"]
    assert requirement == {"id": "R-1", "outcome": "inconclusive", "scenarios": ["away", "quiet", "winks"]}
    truths = sorted(str(file.relative_to(out / "openlabel")) for file in (out / "openlabel").rglob("*.json"))
    assert len(truths) == 8 and truths[0] == "eileen/away.json" and "stiff/winks.json" not in truths


@pytest.mark.slow
def test_junit_has_a_suite_for_each_person(out: Path) -> None:
    root = ElementTree.parse(out / "junit.xml").getroot()
    assert root.attrib["tests"] == "9" and root.attrib["skipped"] == "1"
    assert [suite.attrib["name"].rpartition(": ")[2] for suite in root] == ["eileen", "photo", "stiff"]
    case = root[2].findall("testcase")[2]
    assert case.attrib["name"] == "winks" and case.attrib["classname"].startswith("dmsynth.stiff.")
    told = [{each.attrib["name"]: each.attrib["value"] for each in suite[0]} for suite in root]
    assert [each["face"] for each in told][:1] == ["starter.safetensors"]
    assert len({each["face_sha256"] for each in told}) == 3


@pytest.mark.slow
def test_the_report_begins_with_a_matrix_that_leads_to_every_video(out: Path) -> None:
    html = (out / "report.html").read_text()
    assert html.index("Scenarios by person") < html.index("What did not pass") < html.index("<h2>Scenarios</h2>")
    with browser_page() as page:
        page.goto((out / "report.html").as_uri())
        cells = page.locator(".matrix td a[aria-label]")
        assert cells.all_inner_texts() == ["✓"] * 8 + ["?"]
        targets = [link.get_attribute("href") for link in cells.all()]
        assert all(page.locator(f'[id="{target[1:]}"]').count() == 1 for target in targets if target)
        assert page.locator("video").count() == 8
        page.wait_for_function(
            "[...document.querySelectorAll('video')].every(v => v.readyState >= 1 && v.duration > 1)"
        )


@pytest.mark.slow
def test_a_person_alone_uses_the_same_videos_and_gives_the_files_of_one_face(
    cast: Path, out: Path, small_face: Path
) -> None:
    videos = {file: file.stat().st_mtime_ns for file in (cast.parent / "videos").iterdir()}
    alone = cast.parent / "alone"
    done = dmsynth("validate", cast.parent / "scenarios", "--face", small_face, "--out", alone, "--workers", 1)
    assert done.returncode == 0, done.stderr
    assert {file: file.stat().st_mtime_ns for file in (cast.parent / "videos").iterdir()} == videos
    found = results(alone)
    assert found["face"]["name"] == "starter.safetensors" and "persons" not in found
    assert not any("person" in each for each in found["scenarios"]) and (alone / "openlabel" / "away.json").is_file()
    compared = dmsynth("compare", alone, out)
    assert compared.returncode == 0 and "B against A on 3 scenarios" in compared.stdout, compared.stderr
    assert "left out: photo, stiff" in " ".join(compared.stdout.split())
    assert "one person in common" in fails(dmsynth("compare", alone, out, "--wanted", "yaw error=1"))


@pytest.mark.slow
def test_a_second_version_is_compared_over_all_persons(cast: Path, out: Path) -> None:
    two = cast.parent / "two"
    arguments = ["validate", cast.parent / "scenarios", "--cast", cast, "--dms-option", "delay=1.5", "--workers", 1]
    done = dmsynth(*arguments, "--out", two)
    assert done.returncode == 1, done.stdout + done.stderr
    assert results(two)["persons"][1]["summary"]["fail"] == 1
    compared = dmsynth("compare", out, two, "--out", two / "compared.json", "--wanted", "yaw error=2")
    assert compared.returncode == 0, compared.stderr
    assert "B against A on 3 persons in 3 scenarios" in compared.stdout and "3 × 3" in compared.stdout
    rows = {each["metric"]: each for each in json.loads((two / "compared.json").read_text())["differences"]}
    assert rows["pass rate"]["cast"]["pairs"] == 8 and rows["pass rate"]["difference"] == pytest.approx(-100 * 3 / 8)
    assert rows["yaw error"]["difference"] == 0 and rows["pass rate"]["verdict"] == "not distinguishable"
    for wrong in ("yaw error", "yaw error=-1", "=3"):
        assert "give FIGURE=NUMBER" in fails(dmsynth("compare", out, two, "--wanted", wrong))


@pytest.mark.slow
def test_logs_lie_in_a_folder_for_each_person(cast: Path, out: Path, tmp_path: Path) -> None:
    lines = [Answer(number / 10, yaw=0.0).to_json() + "\n" for number in range(21)]
    for person in ("eileen", "photo"):
        (tmp_path / "logs" / person).mkdir(parents=True)
        (tmp_path / "logs" / person / "quiet.jsonl").write_text("".join(lines))
    arguments = ["validate", cast.parent / "scenarios" / "quiet.yaml", "--cast", cast, "--out", tmp_path / "out"]
    arguments += ["--videos", cast.parent / "videos", "--workers", 1]
    done = dmsynth(*arguments, "--dms-log", tmp_path / "logs")
    assert done.returncode == 0, done.stderr
    found = results(tmp_path / "out")
    assert [each["outcome"] for each in found["scenarios"]] == ["pass", "pass", "inconclusive"]
    assert found["dms"]["name"] == "log logs" and len(found["dms"]["files"]) == 2
    assert len(read_table(tmp_path / "out" / found["scenarios"][0]["answers"])) == 21
    told = CliRunner().invoke(app, [*map(str, arguments), "--dms-log", str(tmp_path / "logs/photo/quiet.jsonl")])
    assert isinstance(told.exception, DmsynthError) and "is one file; with --cast give a folder" in str(told.exception)


@pytest.mark.slow
def test_results_of_a_cast_are_read_back_checked(out: Path, tmp_path: Path) -> None:
    whole = results(out)
    assert [each["person"] for each in read_results(out)["scenarios"]] == [e["person"] for e in whole["scenarios"]]
    rows = whole["scenarios"]
    for changed, said in (
        ({"scenarios": [*rows, rows[0]]}, "'away' stands in it twice"),
        ({"persons": whole["persons"] + whole["persons"][:1]}, "'eileen' stands in it twice"),
        ({"persons": whole["persons"][1:]}, "'away' is played by 'eileen', who is none of its persons"),
        ({"persons": []}, "'away' is played by 'eileen', who is none of its persons"),
        ({"persons": [{"name": "eileen"}]}, "persons.0.sha256: is missing"),
    ):
        write_json(tmp_path / "results.json", whole | changed)
        with pytest.raises(DmsynthError, match=said):
            read_results(tmp_path)


def test_mistakes_are_told(cast: Path, head_file: Path, tmp_path: Path) -> None:
    twins = tmp_path / "twins.yaml"
    (tmp_path / "copy.safetensors").write_bytes(head_file.read_bytes())
    twins.write_text(f"persons:\n  a: {head_file}\n  b: copy.safetensors\n")
    broken = tmp_path / "broken.yaml"
    (tmp_path / "no.safetensors").write_text("no face")
    broken.write_text("persons:\n  a: starter\n  b: no.safetensors\n")
    one = ["validate", str(cast.parent / "scenarios" / "quiet.yaml"), "--out", str(tmp_path / "out"), "--cast"]
    for arguments, said in (
        ([*one, "absent.yaml"], "absent.yaml: no such cast"),
        ([*one, str(cast), "--face", "starter"], "--cast names the faces; leave out --face"),
        ([*one, str(twins)], "b: has the face of a (SHA-256 "),
        ([*one, str(broken)], "b: "),
    ):
        told = CliRunner().invoke(app, arguments).exception
        assert isinstance(told, DmsynthError) and said in str(told), (arguments, told)
    assert not (tmp_path / "out").exists()
