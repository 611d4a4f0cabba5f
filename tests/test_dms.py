"""The DMS under test: the protocol, and every way in which a program can misbehave."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dmsynth.errors import DmsynthError
from dmsynth.validation.dms import Answer, DmsSpec, open_dms, read_answers, run_dms
from dmsynth.validation.programs import Program

VIDEO = Path("video.mp4")


def python(code: str, time_limit: float = 10) -> Program:
    return Program("test", [sys.executable, "-c", code, "{video}", "{speed}"], time_limit, output_limit=2**20)


def test_a_program_gets_video_and_speed_and_its_answers_are_read() -> None:
    code = (
        "import json, sys; video, speed = sys.argv[1:]\n"
        "print(json.dumps({'time': 0, 'yaw': float(speed), 'comment': video}))\n\n"
        "print(json.dumps({'time': 0.04, 'warning': True, 'pitch': None}))"
    )
    run = run_dms(python(code), VIDEO, 80, 1)
    assert run.problem is None
    assert run.answers == [Answer(0, yaw=80), Answer(0.04, warning=True)]
    assert list(read_answers([answer.to_json() for answer in run.answers], "x")) == run.answers


@pytest.mark.parametrize(
    ("code", "said", "answers"),
    [
        ("import time; print('{\"time\": 0}', flush=True); time.sleep(60)", "time limit of 0.5 s", 1),
        ("while True: print('{\"time\": 0}')", "printing more than 1 MiB", None),
        ("while True: print('x' * 999)", "printing more than 1 MiB.*line 1: is no JSON", 0),
        ("print('{\"time\": 0}'); print('hello')", "line 2: is no JSON: 'hello'", 1),
        ("print('{\"time\": 0}'); print('{\"ti', end='', flush=True); 1 / 0", "exit code 1: ZeroDivisionError", 1),
        ("import os; os.abort()", "crashed with signal SIGABRT", 0),
        ("print('{\"time\": 7}')", "answers about 7 s, but the video runs from 0 to 1 s: no such frame", 0),
        ("print('{\"time\": -1}')", "no such frame", 0),
        ("print('{\"time\": 0.4}'); print('{\"time\": 0.2}')", "time goes back", 1),
        ("print('{\"time\": NaN}')", "its time is no number", 0),
        ('print(\'{"time": 0, "yaw": "left"}\')', "its yaw is no number", 0),
        ('print(\'{"time": 0, "warning": "beep"}\')', "neither true nor false", 0),
        ("print('{\"yaw\": 3}')", "has no time", 0),
        ("print('[' * 200_000)", "line 1: is no JSON", 0),
        ("print(3)", "is no JSON object", 0),
        ("pass", "gave no answer", 0),
    ],
)
def test_whatever_a_program_does_there_is_a_result(code: str, said: str, answers: int | None) -> None:
    run = run_dms(python(code, time_limit=0.5 if "sleep" in code else 10), VIDEO, 50, 1)
    with pytest.raises(ValueError, match=said):
        raise ValueError(run.problem)
    assert answers is None or len(run.answers) == answers


def test_what_a_program_leaves_running_is_ended(tmp_path: Path) -> None:
    sign = tmp_path / "alive"
    child = f"import time, pathlib; time.sleep(1); pathlib.Path({str(sign)!r}).touch()"
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}]); print('{{\"time\": 0}}')"
    assert run_dms(python(code), VIDEO, 50, 1).problem is None
    import time

    time.sleep(1.5)
    assert not sign.exists()


def test_an_exception_in_python_is_part_of_the_result() -> None:
    class Crashing:
        name = "crashing"

        def __call__(self, video: Path, speed: float) -> list[Answer]:
            raise RuntimeError("no camera")

    assert run_dms(Crashing(), VIDEO, 50, 1).problem == "raised RuntimeError: no camera (after 0 answers)"


def test_no_shell_reads_the_command(tmp_path: Path) -> None:
    target = tmp_path / "made-by-a-shell"
    run = run_dms(open_dms(DmsSpec(f"echo {{video}} ; touch {target} && true"), "x"), VIDEO, 50, 1)
    assert run.problem is not None and "is no JSON" in run.problem and not target.exists()


def test_mistakes_are_told(tmp_path: Path) -> None:
    for spec, said in (
        (DmsSpec("nobody"), "--dms nobody: no such DMS; give one of openpilot, reference"),
        (DmsSpec("unclosed 'quote {video}"), "close the quotes"),
        (DmsSpec("prog {video}", options={"noise": "1"}), "has no options"),
        (DmsSpec(f"{tmp_path}/absent {{video}}"), "no program .*absent; check its path"),
    ):
        with pytest.raises(DmsynthError, match=said):
            open_dms(spec, "x")
    (tmp_path / "no-program").write_bytes(b"\x00")
    (tmp_path / "no-program").chmod(0o755)
    with pytest.raises(DmsynthError, match="no-program cannot be started"):
        run_dms(open_dms(DmsSpec(f"{tmp_path}/no-program {{video}}"), "x"), VIDEO, 50, 1)


def test_logs(tmp_path: Path) -> None:
    (tmp_path / "sweep.jsonl").write_text('{"time": 0.5, "yaw": 3}\n')
    assert run_dms(open_dms(DmsSpec(log=str(tmp_path)), "sweep"), VIDEO, 50, 1).answers == [Answer(0.5, yaw=3)]
    missing = run_dms(open_dms(DmsSpec(log=str(tmp_path)), "nod"), VIDEO, 50, 1).problem
    assert missing is not None and "nod.jsonl: no such log" in missing


def test_the_fingerprint_changes_with_the_files_named(tmp_path: Path) -> None:
    program = tmp_path / "dms.py"
    program.write_text("1")
    before = DmsSpec(f"python {program} {{video}}").fingerprint()
    program.write_text("2")
    assert before != DmsSpec(f"python {program} {{video}}").fingerprint()
