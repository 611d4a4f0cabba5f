"""Evidence that holds: what was judged is pinned by hash, what is read back is checked, what an audit asks is there."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from conftest import browser_page
from dmsynth.cli import app
from dmsynth.experiments import grid
from dmsynth.experiments import validate as validation
from dmsynth.experiments.grid import Engine, Job, is_finished, run_grid
from dmsynth.experiments.validate import Order, validate
from dmsynth.report.charts import Panel, Series, side_by_side, stacked
from dmsynth.report.pdf import find_browser, print_as_pdf
from dmsynth.report.validation import write_validation_report
from dmsynth.steering import FaceSpec
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import sha256_of, temporary_beside
from dmsynth.support.records import printable
from dmsynth.validation.compare import compare, read_results
from dmsynth.validation.dms import DmsSpec, version_of
from dmsynth.validation.results import by_requirement, read_job_result
from dmsynth.validation.scenario_files import parse_scenario
from dmsynth.validation.scenarios import Scenario

STILL = """name: still
title: Still
source: test
requirements: [R-1, R-2]
speed: 80
frame_rate: 5
moves:
  - hold: 0.6
"""
TURNED = STILL.replace("still", "turned").replace(", R-2", "") + "start: {yaw: 20}\n"
GOOD = 'import sys\nfor n in range(4): print(\'{"time": %g, "yaw": 0}\' % (n / 5))\n'
SPOILING = "from pathlib import Path\nPath(sys.argv[1]).chmod(0o644); Path(sys.argv[1]).write_bytes(b'nonsense')\n"

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def scenarios() -> list[Scenario]:
    return [parse_scenario(text, "x.yaml") for text in (STILL, TURNED)]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scenarios: list[Scenario]) -> Run:
    """Validate a DMS given as Python code, in this process: jobs in processes of their own are tested elsewhere."""

    def inline(title: str, work: Any, jobs: list[Job], out: Path, *rest: Any, **named: Any) -> None:
        for job in jobs:
            if not is_finished(out, job):
                work(out / job.name, job.arguments)

    monkeypatch.setattr(validation, "run_grid", inline)

    def validated(
        name: str, code: str = GOOD, order: Order | None = None, report: bool = False, **spec: Any
    ) -> dict[str, Any]:
        writes = write_validation_report if report else lambda *given: None
        monkeypatch.setattr(validation, "write_validation_report", writes)
        program = tmp_path / f"{name}.py"
        program.write_text(code)
        told = DmsSpec(f"{sys.executable} {program} {{video}}", **spec)
        return validate(scenarios, FaceSpec("starter"), told, tmp_path / name, order or Order("dmsynth validate"))

    return validated


def video(results: dict[str, Any], tmp_path: Path, number: int = 0) -> Path:
    return tmp_path / "videos" / str(results["scenarios"][number]["video"])


def pins(results: dict[str, Any]) -> list[str]:
    return [scenario["video_sha256"] for scenario in results["scenarios"]]


def test_a_dms_that_overwrites_its_input_is_told_and_spoils_nothing(run: Run, tmp_path: Path) -> None:
    spoilt = run("spoiling", GOOD + SPOILING)
    assert spoilt["summary"]["fail"] == 2
    assert "changed or removed the video that it was shown" in spoilt["scenarios"][0]["reasons"][0]
    assert not list((tmp_path / "spoiling").rglob("*.mp4"))  # its copies are gone
    good = run("good")
    assert pins(good) == pins(spoilt) == [sha256_of(video(good, tmp_path, number)) for number in (0, 1)]
    assert good["summary"]["pass"] == 2
    read = read_results(tmp_path / "good")
    for scenario in read["scenarios"]:
        assert scenario["answers_sha256"] == sha256_of(tmp_path / "good" / scenario["answers"])
        assert scenario["table_sha256"] == sha256_of((tmp_path / "videos" / scenario["video"]).with_suffix(".parquet"))

    target = video(good, tmp_path)  # a DMS that knows where the originals lie
    vandal = run("vandal", f"{GOOD}from pathlib import Path\nPath({str(target)!r}).write_bytes(b'nonsense')\n")
    assert "which is not its" in " ".join(vandal["scenarios"][0]["reasons"])
    assert pins(vandal)[0] == sha256_of(target) and target.stat().st_size > 1000  # rendered anew


def test_what_was_damaged_replaced_or_deleted_is_made_and_judged_again(
    run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first = run("dms")
    one, two = video(first, tmp_path, 0), video(first, tmp_path, 1)
    table, sidecar = one.with_suffix(".parquet"), one.with_suffix(".provenance.json")
    results = [(tmp_path / "dms" / scenario["answers"]).with_name("result.json") for scenario in first["scenarios"]]

    def flip(file: Path) -> None:
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 255
        file.write_bytes(content)

    def replaced(*files: Path) -> None:
        for file in files:
            file.write_bytes(two.with_suffix(file.suffix).read_bytes())

    def repinned(result: Path) -> None:
        result.write_text(result.read_text().replace(sha256_of(two), "0" * 64))

    harms: list[list[Callable[[], object]]] = [  # those of one round touch two scenarios
        [lambda: flip(one), lambda: flip(results[1])],
        [lambda: replaced(one), lambda: repinned(results[1])],
        [lambda: replaced(one, table), lambda: flip(results[1].with_name("answers.parquet"))],
        [lambda: sidecar.write_text("{}"), lambda: flip(two.with_suffix(".parquet"))],
        [lambda: shutil.rmtree(one.parent)],
    ]
    for both in harms:
        for harm in both:
            harm()
        again = run("dms")
        assert pins(again) == [sha256_of(one), sha256_of(two)] and one.stat().st_size > 1000
        assert again["summary"] == first["summary"]
    said = capfd.readouterr().err
    assert f"{one}: is not what was rendered: damaged or replaced; rendered anew" in said
    assert "still is judged again" in said and "turned is judged again" in said
    judged = {scenario["judged"] for scenario in run("dms")["scenarios"]}
    assert {scenario["judged"] for scenario in run("dms")["scenarios"]} == judged  # whole: nothing is done again


def test_compare_pairs_by_hash(run: Run, tmp_path: Path) -> None:
    run("a")
    run("b")
    assert compare(read_results(tmp_path / "a"), read_results(tmp_path / "b")).scenarios == 2
    file = tmp_path / "b" / "results.json"
    content = json.loads(file.read_text())
    content["scenarios"][0]["video_sha256"] = "0" * 64
    file.write_text(json.dumps(content))
    with pytest.raises(DmsynthError, match="still: A and B saw different videos of the same name"):
        compare(read_results(tmp_path / "a"), read_results(tmp_path / "b"))
    for row in content["scenarios"]:
        row.pop("video_sha256")
    file.write_text(json.dumps(content))
    with pytest.raises(DmsynthError, match=r"scenarios\.0\.video_sha256: is missing \(and 1 more\); the file is"):
        read_results(file)
    told = CliRunner().invoke(app, ["compare", str(tmp_path / "a"), str(file), "--out", str(file)]).exception
    assert isinstance(told, DmsynthError) and "is an input of this command" in str(told)


# --- files that are read back ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written() -> dict[str, Any]:
    """Results as they are written, without anything rendered."""
    figures = {"mae": 1.0, "bias": -0.5, "rms": 1.2, "frames": 50}
    warning = {
        "since": 3.0, "opens": 4.5, "closes": 6.5, "onset": 5.0, "latency": 2.0, "outcome": "in time", "trusted": True,
    }  # fmt: skip
    row = {
        "title": "A", "group": "own", "source": "b", "requirements": ["R-1"], "speed": 80, "seconds": 12.0,
        "frame_rate": 25, "video": "v.mp4", "answers": "jobs/x/answers.parquet", "dms_seconds": 1.5, "judged": "2026",
        "video_sha256": "a" * 64, "table_sha256": "b" * 64, "answers_sha256": "c" * 64, "outcome": "pass",
        "reasons": [], "problem": None, "no_answers": 0, "first_no_answer": None, "warnings": [warning],
        "false_alarms": [1.5], "doubtful_alarms": [], "availability": 1.0, "lag": None, "trusted": 1.0,
        "errors": {axis: figures | {"bands": [{"from": 0.0, "to": 10.0, **figures}]} for axis in ("pitch", "yaw")},
    }  # fmt: skip
    return {
        "format": 1, "made_by": "dmsynth", "run": {"id": "x", "date": "y"}, "command": "dmsynth validate",
        "dms": {"name": "d", "version": None}, "scenarios": [{"name": name, **row} for name in "abc"],
    }  # fmt: skip


ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1e308, -1e308, 10**400, float("nan"), float("inf"), "", "x", "\ud800", "\x1b[2J", [], {}, [[]],
    [None], {"a": 1}, "9" * 30_000, [0] * 200_000,
)  # fmt: skip


def _harmed(content: Any, random: Random) -> Any:
    """A copy with one value somewhere replaced, removed or doubled."""
    if not isinstance(content, dict | list) or not content or random.random() < 0.15:
        return random.choice(ODD)
    if isinstance(content, list):
        at = random.randrange(len(content))
        kind = random.random()
        rest = [] if kind < 0.1 else [content[at]] * 2 if kind < 0.2 else [_harmed(content[at], random)]
        return [*content[:at], *rest, *content[at + 1 :]]
    name = random.choice(list(content))
    rest_of = {key: value for key, value in content.items() if key != name}
    return rest_of if random.random() < 0.2 else rest_of | {name: _harmed(content[name], random)}


def test_damaged_results_are_told_in_one_line(written: dict[str, Any], tmp_path: Path) -> None:
    random, file = Random(5), tmp_path / "results.json"
    whole = json.dumps(written).encode()
    file.write_bytes(whole)
    good = read_results(tmp_path)
    assert compare(good, good).scenarios == 3
    refused = 0
    for number in range(300):
        if number % 2:
            content = json.dumps(_harmed(written, random)).encode()
        else:
            at, length = random.randrange(len(whole)), random.choice((1, 1, 1, 30, len(whole)))
            new = bytes(random.randrange(256) for _ in range(random.choice((0, 1, 4))))
            content = whole[:at] + new + whole[at + length :]
        file.write_bytes(content)
        try:
            found = read_results(tmp_path)
            with suppress(DmsynthError):  # nothing in common, say
                compare(found, good)
        except DmsynthError as error:
            refused += 1
            assert str(error).startswith(f"{file}: ") and "\n" not in str(error) and len(str(error)) < 600
            assert "again" in str(error) or "run `dmsynth validate`" in str(error)
            assert printable(str(error)) == str(error)
    assert refused > 200


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[" * 100_000, "not valid JSON"),
        (b'{"format": 1, "scenarios": ' + b"9" * 10_000 + b"}", "not valid JSON"),
        (b'{"format": 1, "scenarios": 9}', "made_by: is missing .and 4 more.; the file is damaged"),
        (b'{"format": 1, "scenarios": NaN}', "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"", "not valid JSON"),
        (b"3", "no results of this version"),
    ],
)  # fmt: skip
def test_files_that_are_no_results(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "results.json").write_bytes(content)
    with pytest.raises(DmsynthError, match=said):
        read_results(tmp_path)


def test_too_large_a_file_and_a_doubled_scenario(written: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    with file.open("wb") as sparse:
        sparse.truncate(2**30)
    with pytest.raises(DmsynthError, match="more than it can have"):
        read_results(file)
    file.write_text(json.dumps(written | {"scenarios": [written["scenarios"][0]] * 2}))
    with pytest.raises(DmsynthError, match="'a' stands in it twice"):
        read_results(file)
    with pytest.raises(DmsynthError, match="no such file"):
        read_job_result(tmp_path / "result.json")


# --- what an audit asks ---------------------------------------------------------------------------------------------


def test_who_what_when_and_for_which_requirement(run: Run, tmp_path: Path) -> None:
    order = Order("dmsynth validate x --dms-option 'a b'", "Cabin <b>Watch</b> \x1b[31m", "2.1")
    one, two = run("dms", order=order), run("dms", order=order, report=True)
    assert one["run"]["id"] != two["run"]["id"] and two["run"]["date"].endswith("+00:00")
    assert two["dms"]["name"] == "Cabin <b>Watch</b> \\x1b[31m" and two["dms"]["version"] == "2.1"
    assert "dms.py {video}" in two["dms"]["says_its_name_is"] and sys.executable in two["dms"]["files"]
    assert two["requirements"] == [
        {"id": "R-1", "outcome": "pass", "scenarios": ["still", "turned"]},
        {"id": "R-2", "outcome": "pass", "scenarios": ["still"]},
    ]
    html = (tmp_path / "dms" / "report.html").read_text()
    for said in (two["run"]["id"], two["run"]["date"], "Cabin &lt;b&gt;Watch", "version 2.1", *pins(two), "R-2"):
        assert said in html, said
    assert "&#39;a b&#39;" in html and "<b>Watch" not in html
    suite = ElementTree.parse(tmp_path / "dms" / "junit.xml").getroot()[0]
    about = {each.attrib["name"]: each.attrib["value"] for each in suite.iterfind("properties/property")}
    assert about["run_id"] == two["run"]["id"] and about["requirement R-2"] == "pass"
    assert about["command"] == order.command and about["dms_version"] == "2.1"
    case = suite.findall("testcase")[0]
    named = [each.attrib["value"] for each in case.iterfind("properties/property[@name='requirement']")]
    assert named == ["R-1", "R-2"]


def test_the_worst_scenario_decides_a_requirement() -> None:
    rows = [
        {"name": name, "outcome": outcome, "requirements": ids}
        for name, outcome, ids in (
            ("a", "pass", ["x", "y", "y"]), ("b", "inconclusive", ["y", "z"]), ("c", "fail", ["z"]), ("d", "fail", []),
        )
    ]  # fmt: skip
    assert {each["id"]: each["outcome"] for each in by_requirement(rows)} == {
        "x": "pass", "y": "inconclusive", "z": "fail",
    }  # fmt: skip


def test_the_version_of_a_dms() -> None:
    assert (
        version_of(DmsSpec()) and version_of(DmsSpec("own {video}")) is None and version_of(DmsSpec("nobody")) is None
    )


def test_whatever_a_dms_prints_ends_in_a_report(run: Run, tmp_path: Path) -> None:
    wild = run(
        "wild", 'print(\'{"time": 0, "yaw": 1e308}\\n\\x1b]0;title\\x07<script>alert(1)</script>\')', report=True
    )
    assert wild["summary"]["fail"] == 2 and wild["scenarios"][0]["no_answers"] == 2
    chatty = run("chatty", "print('loading <b>weights</b> ...')\n" + GOOD, report=True)
    assert chatty["summary"]["pass"] == 2
    assert [scenario["no_answers"] for scenario in chatty["scenarios"]] == [1, 1]
    html = (tmp_path / "chatty" / "report.html").read_text()
    assert "1 lines that it printed are no answers" in html and "loading &lt;b&gt;weights" in html
    assert "<script>alert" not in (tmp_path / "wild" / "report.html").read_text()
    strict = run("chatty", "print('loading <b>weights</b> ...')\n" + GOOD, strict_output=True)
    assert strict["summary"]["fail"] == 2 and "is no JSON" in strict["scenarios"][0]["reasons"][0]


def test_a_chart_costs_kilobytes_and_loads_nothing(run: Run, tmp_path: Path) -> None:
    run("dms", report=True)
    html = (tmp_path / "dms" / "report.html").read_text()
    assert html.count('<svg class="chart"') == 2 and html.count("<script>") == 1
    assert len(html) < 300_000 and "http://" not in html.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in html


def test_a_pdf_by_the_browser_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "report.html").write_text("<h1>Report</h1>")
    browser = tmp_path / "chromium"
    browser.write_text(
        '#!/bin/sh\nfor each in "$@"; do case $each in --print-to-pdf=*) cp "$0" "${each#*=}" ;; esac; done\n'
    )
    browser.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert find_browser() == str(browser)
    print_as_pdf(find_browser(), tmp_path / "report.html", tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes() == browser.read_bytes()
    browser.write_text("#!/bin/sh\necho no display >&2\nexit 1\n")
    (tmp_path / "report.pdf").unlink()
    with pytest.raises(DmsynthError, match=r"report.pdf: .*could not print it \(no display\)"):
        print_as_pdf(find_browser(), tmp_path / "report.html", tmp_path / "report.pdf")
    assert not list(tmp_path.glob("*.pdf")) and not list(tmp_path.glob(".*"))
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    told = (
        CliRunner()
        .invoke(app, ["validate", "nominal-sway", "--face", "starter", "--out", str(tmp_path / "out"), "--pdf"])
        .exception
    )
    assert isinstance(told, DmsynthError) and "--pdf: no Chromium" in str(told) and not (tmp_path / "out").exists()


# --- leftovers and full disks ---------------------------------------------------------------------------------------


def test_a_validation_removes_what_a_killed_one_left(run: Run, tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    mine = temporary_beside(tmp_path / "videos" / "still-0123.mp4").name
    left = tmp_path / "videos" / mine.replace(str(os.getpid()), str(ended.pid))
    left.touch()
    run("dms")
    assert not left.exists()


def test_a_full_disk_is_told_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "away.mp4")
    monkeypatch.setitem(grid._ENGINES, "local", lambda *given: iter([grid._Ended("x", full)]))
    with pytest.raises(DmsynthError, match=r"\(x: away.mp4: the disk is full; free some space") as told:
        run_grid("t", lambda *given: None, [Job("x", 1, {})], tmp_path, Engine(), lambda folder, job: 0.0)
    assert "Errno" not in str(told.value)


def test_a_chart_draws_whatever_it_is_given() -> None:
    mark = '"><script>alert(1)</script>'
    odd = Series(mark, "red", [0, 1, 2, 3], [float("nan"), 1e308, -1e308, float("inf")])
    many = Series("many", "blue", np.arange(100_000), np.sin(np.arange(100_000)))
    none = Series("none", "blue", [], [], "dots")
    on = Series("on", "blue", [0, 1, 2], [1, 0, 1], "on")
    for panels in ([Panel(mark, [odd, none, on])], [Panel("y", [many])], [Panel("y", [none])]):
        for drawn in (stacked(panels, mark), side_by_side(panels)):
            ElementTree.fromstring(drawn)
            assert "<script" not in drawn and "nan" not in drawn and len(drawn) < 60_000


def test_charts_answer_the_pointer(run: Run, tmp_path: Path) -> None:
    run("dms", report=True)
    with browser_page() as page:
        loaded: list[str] = []
        page.on("request", lambda request: loaded.append(request.url))
        page.goto((tmp_path / "dms" / "report.html").as_uri())
        chart = page.locator("svg.chart").first
        chart.scroll_into_view_if_needed()
        box = chart.bounding_box()
        page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.4)
        shown = chart.evaluate("chart => chart.lastChild.textContent")
        assert "yaw (°) commanded: 0.0" in shown.replace("-0.0", "0.0") and "warns: no" in shown
        chart.locator("g.name", has_text="commanded").click()
        page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.45)
        assert "commanded" not in chart.evaluate("chart => chart.lastChild.textContent")
        page.mouse.click(box["x"] + box["width"] * 0.7, box["y"] + box["height"] * 0.4)
        page.wait_for_function("document.querySelector('video').currentTime > 0.3")
        assert all(url.startswith(("data:", "file:")) for url in loaded)
