"""Nothing goes on working when whoever asked for it is gone, however that went."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dmsynth.dataset import Dataset
from dmsynth.files import read_json
from dmsynth.jobs import make_job

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="descendants are read from /proc")


def parents() -> dict[int, int]:
    """The parent of every process that runs."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if state != "Z":
            found[int(stat.parent.name)] = int(parent)
    return found


def descendants(process: int) -> set[int]:
    tree = parents()
    found: set[int] = set()
    new = {process}
    while new:
        new = {child for child, parent in tree.items() if parent in new} - found
        found |= new
    return found


def command_lines(processes: set[int]) -> list[str]:
    lines = []
    for process in processes:
        try:
            lines.append(Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
        except OSError:
            continue
    return lines


def until(true: Callable[[], Any], seconds: float) -> Any:
    begun = time.monotonic()
    while not (value := true()):
        assert time.monotonic() - begun < seconds, "it takes too long"
        time.sleep(0.05)
    return value


def kill_when_it_has_children(command: list[str], at_work: str, patience: float = 15) -> None:
    """Start, wait for a descendant whose command line holds ``at_work``, kill the parent alone; all must end."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: any(at_work in line for line in command_lines(descendants(process.pid))), 120)
    time.sleep(1)  # well at work
    left = descendants(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    until(lambda: not left & set(parents()), patience)


def test_a_process_of_ones_own_ends_with_whoever_asked(tmp_path: Path) -> None:
    code = "import time; from dmsynth.parallel import in_own_process; in_own_process(time.sleep, 600)"
    kill_when_it_has_children([sys.executable, "-c", code], "multiprocessing.spawn")


def test_a_jobs_command_ends_with_its_leader(tmp_path: Path, photo_dataset: Dataset) -> None:
    command = [
        "train",
        str(photo_dataset.path),
        "--base-channels",
        "4",
        "--max-time",
        "10m",
        "--out",
        str(tmp_path / "r"),
    ]
    job = make_job(tmp_path / "job", "Training", "training", [command])
    job.start()
    until(lambda: job.progress, 120)
    os.kill(int(read_json(job.folder / "state.json")["leader"]), signal.SIGKILL)
    until(lambda: not job.is_alive(), 15)
    assert job.state == "interrupted"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "at_work"),
    [
        (
            ["reproduce", "rotation", "--preset", "smoke", "--driving", "VIDEO", "--second-tracker", "none"],
            "spawn_main",
        ),
        (["reproduce", "position", "--preset", "smoke"], "spawn_main"),
        (["reproduce", "position", "--preset", "smoke", "--engine", "ray"], "ray::"),
        (["reproduce", "stability", "--preset", "smoke"], "spawn_main"),
        (["validate", "all", "--face", "starter", "--dms", "sleep 1000 {video}"], "sleep 1000"),
        (["validate", "all", "--face", "starter"], "spawn_main"),
    ],
    ids=lambda value: "-".join(value[:2]) if isinstance(value, list) else value,
)
def test_children_end_with_the_command(arguments: list[str], at_work: str, tmp_path: Path, face_video: Path) -> None:
    # Ray's own agents look for their parent twice a minute; what we gave it to do ends at once.
    given = [str(face_video) if word == "VIDEO" else word for word in arguments]
    kill_when_it_has_children(
        [sys.executable, "-m", "dmsynth.cli", *given, "--out", str(tmp_path / "out")],
        at_work,
        90 if "ray" in arguments else 15,
    )
