"""The DMS under test: the protocol, and every way in which a program can misbehave."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dmsynth.support.errors import DmsynthError
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
    time.sleep(1.5)
    assert not sign.exists()


def _gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def _until(done: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not done() and time.monotonic() < deadline:
        time.sleep(0.02)
    return done()


ESCAPING = """
import os, signal, sys, time
from pathlib import Path
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for number in range(3):  # children that begin sessions of their own and let their parents die
    if not os.fork():
        os.setsid()
        if os.fork():
            os._exit(0)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        Path(sys.argv[1], f"new-{number}").write_text(str(os.getpid()))
        Path(sys.argv[1], f"new-{number}").rename(Path(sys.argv[1], str(number)))
        time.sleep(60)
while len(list(Path(sys.argv[1]).glob("?"))) < 3:
    time.sleep(0.01)
print('{"time": 0}', flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands orphans to whoever contains them")
def test_children_that_run_away_are_ended_however_the_run_ends(tmp_path: Path) -> None:
    def pids(folder: Path) -> list[int]:
        return [int(file.read_text()) for file in folder.glob("?")]

    for number, (ending, time_limit) in enumerate((("", 10.0), ("time.sleep(60)", 1.0))):
        folder = tmp_path / str(number)
        folder.mkdir()
        program = Program("x", [sys.executable, "-c", ESCAPING + ending, str(folder)], time_limit)
        assert run_dms(program, VIDEO, 50, 1).answers == [Answer(0)]
        assert len(pids(folder)) == 3 and all(map(_gone, pids(folder)))

    folder = tmp_path / "killed"
    folder.mkdir()
    arguments = [sys.executable, "-c", ESCAPING + "time.sleep(60)", str(folder)]
    code = (
        "from pathlib import Path; from dmsynth.validation.programs import Program;"
        f"list(Program('x', {arguments!r}, 60)(Path('v'), 1))"
    )
    asking = subprocess.Popen([sys.executable, "-c", code])
    assert _until(lambda: len(pids(folder)) == 3)
    asking.send_signal(signal.SIGKILL)
    asking.wait()
    assert _until(lambda: all(map(_gone, pids(folder))))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands orphans to whoever contains them")
def test_a_flood_in_half_lines_by_one_that_does_not_end_is_contained(tmp_path: Path) -> None:
    """A gigabyte, children in sessions of their own, no ear for SIGTERM: what it said before is kept, nothing lives."""
    flood = """
os.write(1, b'{"time": 0.5, "ya')
for _ in range(1024):
    os.write(1, b"x" * 2**20)
time.sleep(60)
"""
    program = Program("x", [sys.executable, "-c", ESCAPING + flood, str(tmp_path)], 60)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run = run_dms(program, VIDEO, 50, 1)
    assert run.problem is not None and "was stopped after printing more than" in run.problem
    assert run.answers == [Answer(0)]
    children = [int(file.read_text()) for file in tmp_path.glob("?")]
    assert len(children) == 3 and all(map(_gone, children))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024, "kilobytes"


@pytest.mark.parametrize(
    ("output", "answers", "others"),
    [
        (
            b'loading model ...\n{"time": 0}\n 50 %|###   |\r{"time": 0.5, "yaw": 2}\ndone\n',
            [Answer(0), Answer(0.5, yaw=2)], 3,
        ),
        (b'\xef\xbb\xbf{"time": 0}\n', [Answer(0)], 0),
        (
            b'{"time": 0, "eye_opening": 0.2, "warning": true, "warning_kind": "Sleep"}\n'
            b'{"time": 1, "eye_opening": 9}\n'
            b'{"time": 2, "warning": true, "warning_kind": "nap"}\n{"time": 3, "warning_kind": 1}\n',
            [Answer(0, eye_opening=0.2, warning=True, warning_kind="sleep")], 3,
        ),
        ('{"time": 0, "comment": "ö"}\n'.encode("utf-16"), [Answer(0)], 0),
        ('{"time": 0}\r\n{"time": 0.5}\r\n'.encode("utf-16-le"), [Answer(0), Answer(0.5)], 0),
        ('{"time": 0}\n{"time": 0.5}\n'.encode("utf-16-be"), [Answer(0), Answer(0.5)], 0),
        (b'{"time": 0, "yaw": NaN, "pitch": 3}\n', [Answer(0, pitch=3)], 0),
        (
            b'{"time": "0.5", "yaw": "-31.5", "roll": "nan", "warning": "true"}\n',
            [Answer(0.5, yaw=-31.5, warning=True)], 0,
        ),
        ('{"time": 0, "text": "a\u2028b\u0085c"}\n'.encode(), [Answer(0)], 0),
        (
            b'{"time": 0, "warning": 1}\n{"time": 0.1, "warning": 0}\n{"time": 0.2, "warning": 1.0}\n',
            [Answer(0, warning=True), Answer(0.1), Answer(0.2, warning=True)], 0,
        ),
        (b'{"time": 0}\n{"time": 0.5, "ya', [Answer(0)], 1),
        (
            b'{"time": 0, "yaw": 1e308}\n{"time": 0.1, "yaw": 1e999}\n'
            b'{"time": 0.2, "yaw": 1' + b"0" * 400 + b'}\n{"time": 0.3}\n',
            [Answer(0.3)], 3,
        ),
        (
            b'{"time": NaN}\n{"time": 0, "warning": "beep"}\n{"time": 0, "yaw": "left"}\n{"time": 0, "yaw": true}\n'
            b'{}\n3\n{"time": 1}\n',
            [Answer(1)], 6,
        ),
        (b"\xff\xfe\x00" + b"\x00" * 50 + b'\n', [], None),
    ],
)  # fmt: skip
def test_lines_that_are_no_answers_are_counted_and_fail_nothing(
    tmp_path: Path, output: bytes, answers: list[Answer], others: int | None
) -> None:
    (tmp_path / "x.jsonl").write_bytes(output)
    run = run_dms(open_dms(DmsSpec(log=str(tmp_path)), "x"), VIDEO, 50, 1)
    assert run.answers == answers and (run.problem is None) == bool(answers)
    assert others is None or run.no_answers == others
    assert (run.first_no_answer is not None) == (run.no_answers > 0)
    printing = f"import sys; sys.stdout.buffer.write({output!r})"
    program = Program("x", [sys.executable, "-c", printing], 10, strict=False)
    assert run_dms(program, VIDEO, 50, 1).answers == answers


def test_a_strict_reading_refuses_what_a_lenient_one_counts(tmp_path: Path) -> None:
    for line in ("hello", '{"time": "0"}', '{"time": 0, "warning": 1}', '{"time": 0, "yaw": NaN}', '\ufeff{"time": 0}'):
        (tmp_path / "x.jsonl").write_text(f'{line}\n{{"time": 0}}\n', encoding="utf-8")
        strict = run_dms(open_dms(DmsSpec(log=str(tmp_path), strict_output=True), "x"), VIDEO, 50, 1)
        assert strict.problem is not None and "x.jsonl, line 1" in strict.problem, line
        assert run_dms(open_dms(DmsSpec(log=str(tmp_path)), "x"), VIDEO, 50, 1).problem is None


def test_an_impossible_angle_of_a_class_is_its_failure() -> None:
    class Wild:
        name = "wild"

        def __call__(self, video: Path, speed: float) -> list[Answer]:
            return [Answer(0, yaw=float("inf"))]

    assert "no angle in degrees" in str(run_dms(Wild(), VIDEO, 50, 1).problem)


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
