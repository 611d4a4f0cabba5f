"""What is printed is text, whatever it holds and wherever it goes."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands import dmsynth, fails
from dmsynth import __version__
from dmsynth.cli.app import FACES, MAINTAINERS, RESEARCH, VALIDATION
from dmsynth.datasets.dataset import Dataset
from dmsynth.support.errors import DmsynthError
from dmsynth.support.machine import device_of
from dmsynth.support.terminal import Terminal, printable


@given(st.text())
def test_no_text_commands_a_terminal(text: str) -> None:
    shown = printable(text)
    assert not any((ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160 for c in shown)
    assert printable(shown) == shown


@pytest.mark.parametrize("terminal", [True, False])
def test_texts_are_printed_as_they_are(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("FORCE_COLOR", "1") if terminal else monkeypatch.delenv("FORCE_COLOR", raising=False)
    console = Terminal()
    console.print("hello [bold] world.mp4 :smile: x[/b].mp4 \x1b[31mred\x1b]0;title\x07 \u202egnp.exe", style="red")
    console.table(["[i]name[/i]"], [["[/x] \x1b[2J"]])
    shown = out.getvalue()
    for expected in ("hello [bold] world.mp4 :smile: x[/b].mp4", "[31mred]0;title gnp.exe", "[i]name[/i]", "[/x]"):
        assert expected in shown
    assert "\x1b]" not in shown and "\x1b[2J" not in shown
    assert terminal == ("\x1b[31m" in shown), "colours are ours, and for terminals"


def test_off_a_terminal_lines_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a pipe of 80 columns."""
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setenv("COLUMNS", "80")
    console = Terminal()
    console.table(["name", "title"], [["a" * 70, "b" * 70], ["c", "d"]])
    console.print("/a/" + "long" * 60 + "/path.mp4")
    assert out.getvalue().splitlines() == [
        "name" + " " * 68 + "title",
        "a" * 70 + "  " + "b" * 70,
        "c" + " " * 71 + "d",
        "/a/" + "long" * 60 + "/path.mp4",
    ]


def test_on_a_narrow_terminal_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "40")
    Terminal().table(["a", "b"], [["n" * 30, "t" * 70]])
    shown = out.getvalue()
    shown = re.sub(r"\x1b\[[\d;]*m", "", shown)
    assert shown.count("n") == 30 and shown.count("t") == 70
    assert all(len(line) <= 40 for line in shown.splitlines())


def test_names_with_markup_pass_through_commands(workdir: Path, face_file: Path) -> None:
    for name in ("x[/b].mp4", "hello [bold] world.mp4"):
        done = dmsynth("steer", face_file, "--trajectory", "hold 0.1", "--out", name)
        assert done.returncode == 0 and f"video: {name}" in done.stdout, done.stderr
    assert "[/gone] x: not a dataset" in fails(dmsynth("dataset", "info", "[/gone] x"))


def test_a_terminal_of_any_encoding_and_a_closed_one() -> None:
    """In processes of their own, whose streams are what the system gives them."""
    code = "import sys; sys.argv = ['dmsynth', 'scenario', 'show', 'thesis']; from dmsynth.cli import main; main()"
    environment = {"PYTHONIOENCODING": "ascii", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, check=False)
    assert done.returncode == 0 and b"thesis-yaw-sweep" in done.stdout and not done.stderr, done.stderr
    closed = subprocess.run(["/bin/sh", "-c", f'"{sys.executable}" -c "{code}" >&-'], capture_output=True, check=False)
    assert closed.returncode == 0 and not closed.stderr, closed.stderr


def test_exit_codes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("dmsynth.cli.cache_folder", lambda: tmp_path)
    assert dmsynth("scenario", "list").returncode == 0
    assert dmsynth("steer", "--no-such-option").returncode == 2
    assert dmsynth("dataset", "info", "absent").returncode == 2
    for error, code, says in (
        (ZeroDivisionError("division by zero"), 3, "a fault of dmsynth, not yours: ZeroDivisionError"),
        (ImportError("libGL.so.1: cannot open shared object file"), 2, "lacks libGL.so.1: sudo "),
        (KeyboardInterrupt(), 130, "interrupted"),
        (BrokenPipeError(), 0, ""),
    ):

        def broken(names: list[str], error: BaseException = error) -> None:
            raise error

        monkeypatch.setattr("dmsynth.validation.scenario_files.find_scenarios", broken)
        done = dmsynth("scenario", "list")
        assert done.returncode == code and says in done.stderr and "Traceback" not in done.stderr
    kept = (tmp_path / "fault.txt").read_text()
    assert kept.startswith("dmsynth scenario list\n") and "Traceback" in kept
    monkeypatch.setenv("DMSYNTH_TRACEBACK", "1")
    monkeypatch.setattr("dmsynth.validation.scenario_files.find_scenarios", lambda names: 1 / 0)
    assert "in <lambda>" in dmsynth("scenario", "list").stderr


def test_results_as_json(photo_dataset: Dataset, tmp_path: Path) -> None:
    info = json.loads(dmsynth("dataset", "info", photo_dataset.path, "--out", tmp_path, "--json").stdout)
    assert info["frames"] == len(photo_dataset) and set(info["controls"]) == {"pitch", "yaw", "roll"}
    listed = json.loads(dmsynth("scenario", "list", "--json").stdout)
    assert {"name", "group", "km/h", "seconds", "warnings", "title"} == set(listed[0])


def test_help_is_in_groups_and_the_version_at_hand() -> None:
    shown = dmsynth("-h").stdout
    assert all(f"─ {group} ─" in shown for group in (FACES, VALIDATION, RESEARCH, MAINTAINERS))
    assert dmsynth("--version").stdout.strip() == dmsynth("version").stdout.strip() == __version__


def test_quiet_says_results_only(workdir: Path, face_file: Path) -> None:
    command = ("steer", face_file, "--trajectory", "hold 0.2", "--out", "a.mp4")
    assert dmsynth(*command).stderr and not dmsynth("--quiet", *command).stderr
    assert "video: a.mp4" in dmsynth("-q", *command).stdout


def test_a_device_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert device_of("auto") == "cpu"
    command = ("steer", "starter", "--trajectory", "hold 1", "--out", "x.mp4", "--device")
    assert "--device cuda: PyTorch finds no GPU here" in fails(dmsynth(*command, "cuda"))
    assert "--device abacus: choose auto, cpu or cuda" in fails(dmsynth(*command, "abacus"))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert device_of("auto") == device_of("cuda") == "cuda" and device_of("cpu") == "cpu"
    with pytest.raises(DmsynthError):
        device_of("")
