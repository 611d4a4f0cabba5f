"""Whatever shows a text of somebody else's shows it as text: the terminal, reports, the cockpit, the page."""

from __future__ import annotations

import sys
from html import escape
from pathlib import Path
from typing import Any

import pytest

from commands import dmsynth
from conftest import browser_page
from dmsynth.cockpit.jobs import make_job
from dmsynth.cockpit.showing import job_in_html, plain
from dmsynth.report.charts import Panel, Series, stacked
from dmsynth.steering import load_face
from dmsynth.web import static
from dmsynth.web.runtime import FILES

MARKUP = "<img src=x onerror=window.harmed=1><script>window.harmed=1</script>"
NASTY = f"form [/x] \x1b]0;title\x07\x1b[2J {MARKUP} ![x](http://192.0.2.1/)"
SCENARIO = """name: look
title: {title}
source: {title}
speed: 50
frame_rate: 10
moves: [{{hold: 0.5}}, {{move: {{yaw: 10}}, seconds: 0.5}}]
"""


@pytest.fixture
def nasty(tmp_path: Path) -> tuple[Path, Path]:
    """A scenario and a DMS that say whatever they like."""
    scenario, program = tmp_path / "look.yaml", tmp_path / "dms.py"
    scenario.write_text(SCENARIO.format(title='"' + NASTY.replace("\x1b", "\\e").replace("\x07", "\\a") + '"'))
    program.write_text(f"import sys; text = {NASTY!r}; print(text); print('{{\"time\": 0}}'); sys.exit(text)")
    return scenario, program


@pytest.mark.slow
def test_the_terminal_and_the_report_of_a_validation(nasty: tuple[Path, Path], tmp_path: Path) -> None:
    scenario, program = nasty
    shown = dmsynth("scenario", "show", scenario)
    command = (
        "--face",
        "starter",
        "--dms",
        f"{sys.executable} {program} {{video}}",
        "--dms-version",
        NASTY,
        "--out",
        tmp_path / "out",
    )
    done = dmsynth("validate", scenario, *command, "--workers", 1)
    said = shown.stdout + shown.stderr + done.stdout + done.stderr
    assert "\x1b" not in said and "\x07" not in said and "Traceback" not in said, said
    report = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert escape(MARKUP, quote=False) in report and MARKUP not in report and "<img src=x" not in report
    assert "\x1b" not in report and report.count("<script>") == 1, "our own"
    assert "Content-Security-Policy" in report
    with browser_page() as page:
        page.goto((tmp_path / "out" / "report.html").as_uri())
        assert MARKUP in page.inner_text("body") and page.evaluate("window.harmed") is None
        assert page.evaluate("document.querySelector('svg.chart rect') !== null"), "our own script and charts are there"
    again = dmsynth("compare", tmp_path / "out", tmp_path / "out")
    assert "\x1b" not in again.stdout + again.stderr and "Traceback" not in again.stderr


def test_the_consent_of_a_dataset(tmp_path: Path) -> None:
    out = tmp_path / "[b]me[/b]"
    command = ("dataset", "photo", out, "--frames", 12, "--size", "96x80", "--consent", NASTY)
    for done in (dmsynth(*command), dmsynth("dataset", "info", out)):
        assert done.returncode == 0, done.stderr
        assert "\x1b" not in done.stdout + done.stderr and "[b]me[/b]" in done.stdout + done.stderr


def test_charts() -> None:
    chart = stacked([Panel(MARKUP, [Series(f'"{MARKUP}', "red", [0, 1], [0, 1])], x_title=MARKUP)], MARKUP)
    assert "<img" not in chart and "<script" not in chart and escape(MARKUP) in chart


def test_a_job_in_the_cockpit(tmp_path: Path) -> None:
    job = make_job(tmp_path / "job", NASTY, "training", [["version"]])
    (job.folder / "log.txt").write_text(f"error: {NASTY}\n")
    (job.folder / "state.json").write_text('{"code": 2}')
    shown = job_in_html(job)
    assert "<img" not in shown and "<script" not in shown and shown.count(escape(MARKUP)) == 2
    assert "<" not in plain(NASTY).replace("\\<", "") and "](" not in plain(NASTY)


def test_the_page_without_a_server(tmp_path: Path, face_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its networks are left out here: what it says is on it all the same."""

    def halves(face: Any, encode: Path, steer: Path) -> None:
        encode.touch()
        steer.touch()

    monkeypatch.setattr(static, "export_halves", halves)
    monkeypatch.setattr(static, "consent_of", lambda about: NASTY)
    runtime = {name: tmp_path / name for name in FILES}
    for file in runtime.values():
        file.touch()
    monkeypatch.setattr(static, "runtime_files", lambda: runtime)
    out = tmp_path / "page"
    for _ in range(2):
        page_file = static.export_web(load_face(face_file), out, NASTY)
        (out / "notes.txt").write_text("mine")  # stays, the second time
    (out / "static.js").write_text("")
    assert (out / "notes.txt").is_file() and not list(tmp_path.glob("*.partial"))
    with browser_page() as page:
        page.goto(page_file.as_uri())
        assert MARKUP in page.inner_text("h1") and MARKUP in page.inner_text("footer")
        assert page.evaluate("window.harmed") is None and page.locator("h1 *, footer *").count() == 0
