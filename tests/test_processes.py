"""Whoever is killed, nothing of what it started is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dmsynth.cockpit.jobs import make_job
from dmsynth.datasets.dataset import Dataset
from dmsynth.support.contained import descendants
from dmsynth.support.files import read_json
from dmsynth.support.processes import run

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to see who is left")

_SLEEPS = "import time; time.sleep(100)"


def until(true: Callable[[], object], seconds: float) -> None:
    begun = time.monotonic()
    while not true():
        assert time.monotonic() - begun < seconds, "it takes too long"
        time.sleep(0.05)


def lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def killed_leaves_nothing(command: list[str], cwd: Path, begun: Callable[[list[int]], object], seconds: float) -> None:
    """Start a command, kill it when it has ``begun`` by the processes below it, and wait until those are gone."""
    with (cwd / "said.txt").open("wb") as said:
        process = subprocess.Popen(command, cwd=cwd, stdout=said, stderr=said, start_new_session=True)
        try:
            until(lambda: begun(descendants(process.pid)) or process.poll() is not None, seconds)
            below = descendants(process.pid)
            assert process.poll() is None, (cwd / "said.txt").read_text()
        finally:
            process.kill()
            process.wait()
    begun_at = time.monotonic()
    while any(map(lives, below)) and time.monotonic() - begun_at < 10:
        time.sleep(0.05)
    left = {each: Path(f"/proc/{each}/cmdline").read_text().replace("\0", " ")[:200] for each in filter(lives, below)}
    for each in left:
        os.kill(each, signal.SIGKILL)
    assert not left


@pytest.mark.parametrize(
    "code",
    [
        "from dmsynth.support.parallel import in_own_process; import time; in_own_process(time.sleep, 100)",
        "from dmsynth.support.processes import run; import sys; "
        "run([sys.executable, '-c', 'import time; time.sleep(100)'])",
        # a child of the program that begins a session of its own
        "from dmsynth.support.processes import run; run(['sh', '-c', 'setsid sleep 100 & sleep 100'])",
    ],
)
def test_a_killed_parent_leaves_no_child(tmp_path: Path, code: str) -> None:
    enough = 4 if "setsid" in code else 2 if "sys" in code else 1

    def begun(below: list[int]) -> bool:
        time.sleep(0.3)  # for whatever is just being started
        return len(below) >= min(enough, 3)

    killed_leaves_nothing([sys.executable, "-c", code], tmp_path, begun, 20)


def test_a_program_is_run_like_any_other(tmp_path: Path) -> None:
    done = run([sys.executable, "-c", "import sys; print('a'); print('b', file=sys.stderr); sys.exit(3)"])
    assert (done.returncode, done.stdout, done.stderr) == (3, "a\n", "b\n")
    assert run([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]).returncode == -9
    with pytest.raises(FileNotFoundError):
        run(["no-such-program"])
    begun = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        run([sys.executable, "-c", _SLEEPS], timeout=0.5)
    assert time.monotonic() - begun < 10


def test_a_job_whose_leader_is_killed_ends(tmp_path: Path, photo_dataset: Dataset) -> None:
    command = ["train", str(photo_dataset.path), "--base-channels", "4", "--max-time", "60s"]
    job = make_job(tmp_path / "job", "x", "training", [[*command, "--out", str(tmp_path / "run")]])
    job.start()
    leader = int(read_json(job.folder / "state.json")["leader"])
    until(lambda: (tmp_path / "run" / "run.json").is_file(), 300)
    os.kill(leader, signal.SIGKILL)
    until(lambda: job.state == "interrupted", 120)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["reproduce", "rotation", "--preset", "smoke", "--driving", "VIDEO", "--out", "out"],
        ["reproduce", "position", "--preset", "smoke", "--out", "out"],
        ["reproduce", "position", "--preset", "smoke", "--out", "out", "--engine", "ray", "--workers", "1"],
        ["validate", "all", "--face", "starter", "--dms", "reference", "--out", "out"],
        ["validate", "all", "--face", "starter", "--dms", f"{sys.executable} -c '{_SLEEPS}' {{video}}", "--out", "out"],
    ],
)
def test_a_killed_command_leaves_nothing_running(tmp_path: Path, arguments: list[str], face_video: Path) -> None:
    """Killed a moment after it has started others, and again later."""
    command = [sys.executable, "-m", "dmsynth.cli"]
    command += [str(face_video) if argument == "VIDEO" else argument for argument in arguments]
    for later in (1.0, 5.0):
        seen: list[float] = []

        def begun(below: list[int], later: float = later, seen: list[float] = seen) -> bool:
            seen[:] = [*seen, time.monotonic()] if below else []  # not one that asks for the machine's name
            return bool(seen) and seen[-1] - seen[0] >= later

        killed_leaves_nothing(command, tmp_path, begun, 200)
