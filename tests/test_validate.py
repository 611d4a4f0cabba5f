"""The whole of it: a face, scenarios and a DMS in; verdicts, a report and files for other programs out."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner

from commands import dmsynth, fails
from dmsynth.cli import app
from dmsynth.experiments.validate import validate_one
from dmsynth.report.validation import totals
from dmsynth.steering import FaceSpec
from dmsynth.support.errors import DmsynthError
from dmsynth.support.table_files import read_table
from dmsynth.validation.dms import BUILT_IN, Answer, Dms, DmsSpec, open_dms, run_dms
from dmsynth.validation.junit import write_junit
from dmsynth.validation.openlabel import openlabel
from dmsynth.validation.rendering import Rendered
from dmsynth.validation.scenario_files import find_scenarios
from dmsynth.video.portrait import PORTRAIT_CONSENT

DOCS = Path(__file__).parents[1] / "docs"

AWAY = """name: away
title: A look <b>aside</b>
source: test
speed: 80
frame_rate: 10
moves:
  - hold: 0.5
  - move: {yaw: 25}
    seconds: 0.5
  - hold: 5
    mark: away
  - move: {yaw: 0}
    seconds: 0.5
    mark: back
  - hold: 1
warnings:
  - {since: away, earliest: 1.5, latest: 3.5, until: back}
"""
QUIET = "name: quiet\ntitle: Quiet\nsource: test\nspeed: 80\nframe_rate: 10\nmoves:\n  - hold: 2\n"
FAR = QUIET.replace("quiet", "far") + "start: {yaw: 70}\n"
ASLEEP = """name: asleep
title: Eyes that close
source: test
speed: 80
frame_rate: 10
moves:
  - hold: 2
  - move: {eye_opening: 0, look_yaw: -6, head_share: 0}
    seconds: 0.3
  - hold: 3.6
    mark: closed
warnings:
  - {since: closed, earliest: 0.5, latest: 3.5, kind: sleep}
"""

# The part of ASAM OpenLABEL 1.0.0 that we use, after the published structure.
INTERVALS = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "properties": {"frame_start": {"type": "integer"}, "frame_end": {"type": "integer"}},
        "required": ["frame_start", "frame_end"],
        "additionalProperties": False,
    },
}


def _keyed(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "patternProperties": {"^[0-9]+$": item}, "additionalProperties": False}


def _closed(required: tuple[str, ...], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


TEXT = {"type": "string"}
NAMED = {"name": TEXT, "type": TEXT, "frame_intervals": INTERVALS}
DATA = _closed(
    ("num",),
    num={"type": "array", "items": _closed(("val",), name=TEXT, val={"type": "number"})},
    boolean={"type": "array", "items": _closed(("name", "val"), name=TEXT, val={"type": "boolean"})},
    mat={
        "type": "array",
        "items": _closed(
            ("name", "val", "width", "height", "channels", "data_type"), name=TEXT,
            val={"type": "array", "items": {"type": "number"}, "minItems": 9, "maxItems": 9},
            width={"const": 3}, height={"const": 3}, channels={"const": 1}, data_type=TEXT,
        ),
    },
)  # fmt: skip
OPENLABEL = _closed(
    ("openlabel",),
    openlabel=_closed(
        ("metadata", "frames", "objects", "streams", "frame_intervals"),
        metadata=_closed(
            ("schema_version",), schema_version={"const": "1.0.0"}, tagged_file=TEXT, annotator=TEXT, name=TEXT,
            comment=TEXT,
        ),
        streams=_closed(("camera",), camera=_closed((), type={"const": "camera"}, uri=TEXT, description=TEXT)),
        frame_intervals=INTERVALS,
        objects=_keyed(_closed(("name", "type"), **NAMED)),
        actions=_keyed(_closed(("name", "type"), **NAMED)),
        frames=_keyed(
            _closed(
                (), frame_properties=_closed((), timestamp={"type": "number"}), actions=_keyed(_closed(())),
                objects=_keyed(_closed(("object_data",), object_data=DATA)),
            )
        ),
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def scenarios(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenarios")
    for text in (AWAY, QUIET, FAR):
        (folder / f"{text.partition('name: ')[2].splitlines()[0]}.yaml").write_text(text)
    return folder


@pytest.fixture(scope="module")
def good(scenarios: Path, tmp_path_factory: pytest.TempPathFactory, small_face: Path) -> Path:
    """The reference DMS on the starter face."""
    out = tmp_path_factory.mktemp("validated") / "good"
    done = dmsynth("validate", scenarios, "--face", small_face, "--out", out, "--workers", 1)
    assert done.returncode == 0, done.stderr
    assert "2 pass, 0 fail, 1 inconclusive" in done.stdout and "report:" in done.stdout
    return out


def outcomes(out: Path) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in json.loads((out / "results.json").read_text())["scenarios"]}


def test_results(good: Path) -> None:
    found = outcomes(good)
    assert {name: each["outcome"] for name, each in found.items()} == {
        "away": "pass", "quiet": "pass", "far": "inconclusive",
    }  # fmt: skip
    assert 2.4 < found["away"]["warnings"][0]["latency"] < 3.1
    assert found["away"]["errors"]["yaw"]["mae"] < 3 and found["away"]["availability"] == 1
    results = json.loads((good / "results.json").read_text())
    assert results["face"]["consent"] == PORTRAIT_CONSENT and results["face"]["name"] == "starter.safetensors"
    assert totals(results)["in_time"] == totals(results)["expected"] == 1
    answers = read_table(good / found["away"]["answers"])
    assert answers["warning"].any() and len(answers) == 76


def test_the_report_is_one_page_that_says_what_it_does_not_show(good: Path) -> None:
    html = (good / "report.html").read_text()
    assert html.count('src="data:video/mp4;base64,') == 3 and html.count('src="data:image/jpeg;base64,') == 3
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", html)
    assert "A look &lt;b&gt;aside&lt;/b&gt;" in html and "<b>aside" not in html
    for said in (
        "does not show",
        PORTRAIT_CONSENT,
        "Eyes and lids move as commanded",
        "Its bias is in every commanded angle",
        "dmsynth validate",
    ):
        assert said in html, said


def test_junit_xml(good: Path, tmp_path: Path) -> None:
    suite = ElementTree.parse(good / "junit.xml").getroot()[0]
    assert suite.attrib | {"time": ""} == {
        "name": suite.attrib["name"], "tests": "3", "failures": "0", "errors": "0", "skipped": "1", "time": "",
    }  # fmt: skip
    results = json.loads((good / "results.json").read_text())
    results["scenarios"][0] |= {"outcome": "fail", "problem": "x", "reasons": ["printed \x00\x1b[31m <&> \ud800"]}
    results["scenarios"][1] |= {"outcome": "fail", "reasons": ["late"]}
    write_junit(tmp_path / "junit.xml", results)
    cases = ElementTree.parse(tmp_path / "junit.xml").getroot()[0]
    assert [child.tag for case in cases for child in case].count("error") == 1
    assert cases.attrib["failures"] == "1"


def test_openlabel(good: Path) -> None:
    for file in (good / "openlabel").iterdir():
        content = json.loads(file.read_text())
        jsonschema.validate(content, OPENLABEL)
    content = json.loads((good / "openlabel" / "away.json").read_text())["openlabel"]
    assert {each["type"] for each in content["actions"].values()} == {"LooksAway", "WarningExpected"}
    assert len(content["frames"]) == 76
    for scenario in find_scenarios(["addw-50-down", "ncap-long-footwell", "pose-roll"]):
        table = scenario.trajectory().table().assign(covered=True)
        jsonschema.validate(openlabel(scenario, Rendered(Path("x.mp4"), table)), OPENLABEL)


@pytest.mark.slow
def test_a_face_that_cannot_move_its_eyes_does_not_play_them_by_the_head(
    good: Path, head_file: Path, tmp_path: Path
) -> None:
    own = {name: tmp_path / f"{name}.yaml" for name in ("asleep", "quiet")}
    for name, text in (("asleep", ASLEEP), ("quiet", QUIET)):
        own[name].write_text(text)
    arguments = ["--face", head_file, "--workers", 1, "--videos", good.parent / "videos"]
    done = dmsynth("validate", *own.values(), *arguments, "--out", tmp_path / "out")
    assert done.returncode == 0 and "1 pass, 0 fail, 1 inconclusive" in done.stdout, done.stdout + done.stderr
    found = outcomes(tmp_path / "out")["asleep"]
    assert found["outcome"] == "inconclusive" and found["video_sha256"] is None and found["trusted"] == 0
    assert found["reasons"] == [
        "not tested: the face steers pitch, yaw, roll, and this scenario moves eyes, mouth or brows; use one that does"
        ": starter, posed:portrait, or one whose dataset was made and trained anew"
    ]
    html = (tmp_path / "out" / "report.html").read_text()
    assert html.count("<video") == 1 and "cannot move its eyes" in html and "not tested" in html
    assert not list((good.parent / "videos").glob("asleep*"))
    compared = dmsynth("compare", tmp_path / "out", tmp_path / "out")
    assert compared.returncode == 0, compared.stderr
    asleep = own["asleep"]
    said = fails(dmsynth("validate", asleep, *arguments, "--out", tmp_path / "none"))
    assert "not tested: the face steers" in said
    assert "not tested" in fails(dmsynth("scenario", "render", asleep, "--face", head_file, "--out", tmp_path))


def test_closed_eyes_are_drawn_seen_and_judged(tmp_path: Path) -> None:
    (tmp_path / "asleep.yaml").write_text(ASLEEP)
    arguments = ["--face", "posed:portrait", "--workers", 1, "--out", tmp_path / "out"]
    done = dmsynth("validate", tmp_path / "asleep.yaml", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    found = outcomes(tmp_path / "out")["asleep"]
    (warning,) = found["warnings"]
    assert warning["kind"] == warning["asked"] == "sleep" and warning["latency"] == pytest.approx(3, abs=0.25)
    assert found["errors"]["eye_opening"]["mae"] < 0.15 and found["errors"]["eye_opening"]["gain"] > 0.7
    answers = read_table(tmp_path / "out" / found["answers"])
    assert set(answers["warning_kind"].dropna()) == {"drowsiness", "sleep"}
    html = (tmp_path / "out" / "report.html").read_text()
    assert "eye opening" in html and "of the kind sleep if it tells kinds" in html and "cannot move" not in html
    truth = json.loads((tmp_path / "out" / "openlabel" / "asleep.json").read_text())
    jsonschema.validate(truth, OPENLABEL)
    assert {each["type"] for each in truth["openlabel"]["actions"].values()} == {"EyesClosed", "WarningExpected"}
    last = truth["openlabel"]["frames"]["58"]["objects"]["0"]["object_data"]["num"]
    assert {"name": "eye_opening", "val": 0.0} in last
    assert {"name": "line_of_sight_yaw", "val": -6.0} in last


@pytest.mark.slow
def test_a_second_version_reuses_the_videos_and_is_compared(good: Path, scenarios: Path, small_face: Path) -> None:
    videos = {file: file.stat().st_mtime_ns for file in (good.parent / "videos").iterdir()}
    slow = good.parent / "slow"
    arguments = ["validate", scenarios, "--face", small_face, "--workers", 1, "--dms-option", "delay=1.5"]
    done = dmsynth(*arguments, "--out", slow)
    assert done.returncode == 1 and "came after 4" in " ".join(done.stdout.split()), done.stdout + done.stderr
    assert {file: file.stat().st_mtime_ns for file in (good.parent / "videos").iterdir()} == videos
    compared = dmsynth("compare", good, slow, "--out", slow / "compared.json")
    assert compared.returncode == 0, compared.stderr
    assert "warning latency: cannot be compared with 1 scenarios" in compared.stdout
    assert json.loads((slow / "compared.json").read_text())["differences"][0]["metric"] == "pass rate"

    before = (good / outcomes(good)["quiet"]["answers"]).stat().st_mtime_ns
    (good / outcomes(good)["away"]["answers"]).with_name("result.json").unlink()
    assert dmsynth("validate", scenarios, "--face", small_face, "--out", good, "--workers", 1).returncode == 0
    assert (good / outcomes(good)["quiet"]["answers"]).stat().st_mtime_ns == before


@pytest.mark.slow
def test_a_killed_validation_goes_on(good: Path, scenarios: Path, tmp_path: Path, small_face: Path) -> None:
    program = tmp_path / "dms.py"
    program.write_text("import time; print('{\"time\": 0}', flush=True); time.sleep(1.5)")
    arguments = [
        "validate", scenarios, "--face", small_face, "--dms", f"{sys.executable} {program} {{video}}",
        "--out", tmp_path / "out", "--videos", good.parent / "videos", "--workers", 1,
    ]  # fmt: skip
    command = [sys.executable, "-m", "dmsynth.cli", *map(str, arguments)]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob("out/jobs/*/result.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    running.send_signal(signal.SIGKILL)
    running.wait()
    first = {file: file.stat().st_mtime_ns for file in tmp_path.glob("out/jobs/*/result.json")}
    assert 1 <= len(first) < 3 and not (tmp_path / "out" / "results.json").exists()
    time.sleep(0.5)  # its worker notices and ends
    assert dmsynth(*arguments).returncode == 1  # it never warns
    assert {file: file.stat().st_mtime_ns for file in first} == first
    assert len(outcomes(tmp_path / "out")) == 3


@pytest.mark.slow
def test_logs_of_some_scenarios(good: Path, scenarios: Path, tmp_path: Path, small_face: Path) -> None:
    """Judged in this process: what was recorded is judged, the rest is inconclusive; nothing judged is no success."""
    (tmp_path / "logs").mkdir()
    lines = [Answer(number / 10, yaw=0.0).to_json() + "\n" for number in range(21)]
    (tmp_path / "logs" / "quiet.jsonl").write_text("".join(lines))
    found = {}
    for scenario in find_scenarios([str(scenarios)]):
        spec = DmsSpec(log=str(tmp_path / "logs"))
        arguments = {
            "scenario": scenario.model_dump(mode="json"), "log": scenario.name,
            "face": asdict(FaceSpec(str(small_face))),
            "videos": str(good.parent / "videos"), "dms": asdict(spec),
        }  # fmt: skip
        validate_one(tmp_path / scenario.name, arguments)
        found[scenario.name] = json.loads((tmp_path / scenario.name / "result.json").read_text())
    assert {name: each["outcome"] for name, each in found.items()} == {
        "away": "inconclusive", "far": "inconclusive", "quiet": "pass",
    }  # fmt: skip
    assert "away.jsonl: no such log" in found["away"]["reasons"][0]
    command = ["validate", str(scenarios / "far.yaml"), "--face", str(small_face), "--dms-log", str(tmp_path / "logs")]
    more = ["--out", str(tmp_path / "out"), "--videos", str(good.parent / "videos"), "--workers", "1"]
    told = CliRunner().invoke(app, [*command, *more]).exception
    assert isinstance(told, DmsynthError) and "nothing could be judged" in str(told)
    assert (tmp_path / "out" / "report.html").is_file()  # of a DMS without a single answer


def test_hostile_dms_end_in_a_verdict(good: Path, scenarios: Path, tmp_path: Path, small_face: Path) -> None:
    """In this process, because how programs are started is tested elsewhere (test_dms.py)."""
    scenario = find_scenarios([str(scenarios / "quiet.yaml")])[0]
    for code, limit, said in (
        ("import time; time.sleep(600)", 0.5, "was stopped after the time limit of 0.5 s"),
        ("print('{\"time\": 99}')", 300, "no such frame"),
        ("print('{\"time\": 0}'); raise SystemExit(3)", 300, "crashed with exit code 3 (after 1 answers)"),
    ):
        program = tmp_path / "dms.py"
        program.write_text(code)
        spec = DmsSpec(f"{sys.executable} {program} {{video}}", time_limit=limit)
        arguments = {
            "scenario": scenario.model_dump(mode="json"), "log": scenario.name,
            "face": asdict(FaceSpec(str(small_face))),
            "videos": str(good.parent / "videos"), "dms": asdict(spec),
        }  # fmt: skip
        validate_one(tmp_path / "job", arguments)
        result = json.loads((tmp_path / "job" / "result.json").read_text())
        assert result["outcome"] == "fail" and said in result["reasons"][0], result


def test_mistakes_are_told(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(QUIET.replace("80", "fast"))
    one = ["nominal-sway", "--out", str(tmp_path / "out"), "--face"]
    for arguments, said in (
        (["validate", "no-such", *one[1:], "starter"], "no-such: no such scenario"),
        (["validate", *one, "absent.safetensors"], "no such face file"),
        (["validate", *one, "starter", "--dms", "nobody"], "no such DMS"),
        (["validate", *one, "starter", "--dms-log", "absent"], "--dms-log absent"),
        (["validate", *one, "starter", "--dms-option", "delay"], "give NAME=VALUE"),
        (["validate", *one, "starter", "--dms-option", "delay=-3"], "a number from 0 to 100"),
        (["validate", *one, "starter", "--dms-option", "dealy=3"], "the reference DMS has tracker"),
        (["validate", *one, "starter", "--engine", "cloud"], "there is local and ray"),
        (["compare", str(tmp_path), str(tmp_path)], "results.json: no such file"),
    ):
        told = CliRunner().invoke(app, arguments).exception
        assert isinstance(told, DmsynthError) and said in str(told), (arguments, told)
    assert not (tmp_path / "out").exists()
    assert "bad.yaml, line 4: speed" in fails(dmsynth("scenario", "check", bad))


def test_the_scenario_commands(scenarios: Path, good: Path, tmp_path: Path, small_face: Path) -> None:
    listed = dmsynth("scenario", "list")
    assert listed.returncode == 0 and "thesis-yaw-sweep" in listed.stdout
    shown = dmsynth("scenario", "show", scenarios / "away.yaml", "--face", small_face, "--out", tmp_path)
    assert "yaw +25°" in shown.stdout and "██" in shown.stdout and "76 of 76 frames" in shown.stdout
    assert (tmp_path / "away.png").stat().st_size > 5000
    videos = good.parent / "videos"
    rendered = dmsynth("scenario", "render", scenarios / "far.yaml", "--face", small_face, "--out", videos)
    assert rendered.returncode == 0 and "21 of 21 frames outside the face's coverage" in rendered.stdout
    schema = json.loads(dmsynth("scenario", "schema").stdout)
    assert schema["properties"]["speed"]["maximum"] == 300
    video = next(videos.glob("far-*.mp4"))
    assert "Synthetic video" in dmsynth("provenance", video).stdout


# --- what the documentation shows, as it stands there ----------------------------------------------------------------


def examples(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", (DOCS / "validate-a-dms.md").read_text("utf-8"), re.DOTALL)


@pytest.fixture
def video(good: Path) -> tuple[Path, float]:
    path = next((good.parent / "videos").glob("away-*.mp4"))
    return path, 7.5


def test_the_documented_python_program_runs(video: tuple[Path, float], workdir: Path) -> None:
    Path("my_dms.py").write_text(next(code for code in examples("python") if "my_dms.py VIDEO" in code))
    spec = DmsSpec(f"{sys.executable} my_dms.py {{video}} {{speed}}")
    run = run_dms(open_dms(spec, "away"), video[0], 80, video[1])
    assert run.problem is None and len(run.answers) == 76
    assert any(answer.warning for answer in run.answers) and run.answers[20].yaw == pytest.approx(25, abs=4)
    assert not any(answer.warning for answer in run_dms(open_dms(spec, "away"), video[0], 10, video[1]).answers)


def test_the_documented_shell_script_runs(video: tuple[Path, float], workdir: Path) -> None:
    Path("my_dms.sh").write_text(next(code for code in examples("sh") if "our-dms" in code))
    Path("our-dms").write_text('#!/bin/sh\ntest "$2" = 80 && test -f "$3" && printf "0.0 1.5 0\\n0.1 -2 1\\n"\n')
    Path("our-dms").chmod(0o755)
    run = run_dms(open_dms(DmsSpec("sh my_dms.sh {video} {speed}"), "away"), video[0], 80, video[1])
    assert run.problem is None
    assert run.answers == [Answer(0.0, yaw=1.5), Answer(0.1, yaw=-2.0, warning=True)]


def test_the_documented_class_runs_in_a_process_of_its_own(
    video: tuple[Path, float], workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("cabin").mkdir()
    Path("cabin/dms.py").write_text(next(code for code in examples("python") if "class MyDms" in code))
    entry = re.findall(r'^(my-dms) = "(.*)"$', examples("toml")[0], re.MULTILINE)[0]
    installed = Path("cabin-2.0.dist-info")
    installed.mkdir()
    (installed / "METADATA").write_text("Name: cabin\nVersion: 2.0\n")
    (installed / "entry_points.txt").write_text(f"[dmsynth.dms]\n{entry[0]} = {entry[1]}\n")
    monkeypatch.syspath_prepend(str(workdir))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(workdir), os.environ.get("PYTHONPATH", "")]))
    dms = open_dms(DmsSpec("my-dms"), "away")
    assert run_dms(dms, video[0], 80, video[1]).answers == [Answer(0.0, yaw=1.5)]


def test_what_is_documented_is_there() -> None:
    text = (DOCS / "validate-a-dms.md").read_text("utf-8")
    assert all(f"`{name}`" in text for name in BUILT_IN)
    made: Dms = open_dms(DmsSpec(options={"delay": "0.5", "noise": "2"}), "x")
    assert "0.5 s slower" in made.name and "2° of noise" in made.name
