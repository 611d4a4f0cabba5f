"""Kills at random moments: python -m torture.kills COUNT [SEED [COMMAND ...]] (``make torture``).

Each command is run undisturbed, then in fresh folders, where it is killed some times, alone or with all that it began,
and then goes on to its end. Counted are commands that do not go on, results that are not those of the undisturbed run,
files that are left over, and processes that outlive their parent by 10 s.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from random import Random

from dmsynth.support.contained import descendants

_KILLS_A_RUN = 4
_PATIENCE = 10.0  # seconds


@dataclass
class Command:
    """What is run in a folder, and the hash of what it makes, whatever else is noted beside it."""

    name: str
    arguments: list[str]
    result: Callable[[Path], str]
    seconds: float = 0.0
    whole: str = ""
    files: set[str] = field(default_factory=set)


def _hash_of(*contents: object) -> str:
    return sha256(json.dumps(contents, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _dataset(out: Path) -> str:
    from dmsynth.datasets.dataset import open_dataset

    return open_dataset(out / "data").check_frames().sha256


def _weights(face: Path) -> str:
    from safetensors.torch import load_file

    total = sha256()
    for name, tensor in sorted(load_file(face).items()):
        total.update(name.encode() + tensor.numpy().tobytes())
    return total.hexdigest()[:16]


def _training(out: Path) -> str:
    return _weights(out / "run" / "face.safetensors")


def _position(out: Path) -> str:
    faces = sorted((out / "study").rglob("face.safetensors"))
    return _hash_of([(str(face.relative_to(out)), _weights(face)) for face in faces])


def _validation(out: Path) -> str:
    results = json.loads((out / "results" / "results.json").read_text())
    noted = ("judged", "dms_seconds")
    rows = [{name: value for name, value in row.items() if name not in noted} for row in results["scenarios"]]
    return _hash_of(rows)


def _files(out: Path) -> set[str]:
    """Every file by its name, but for those that are named after a moment."""
    found = (path.relative_to(out) for path in out.rglob("*") if path.is_file())
    return {str(path.with_name("events") if path.name.startswith("events.") else path) for path in found}


def _run(command: Command, out: Path, kill_after: float | None, all_of_it: bool) -> tuple[int, str, list[int]]:
    """Run it; what it ended with, its last line, and which processes outlived it."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "dmsynth.cli", *command.arguments],
            cwd=out, stdout=said, stderr=said, start_new_session=True,
        )  # fmt: skip
        below: list[int] = []
        try:
            process.wait(kill_after)
        except subprocess.TimeoutExpired:
            below = descendants(process.pid)
            if all_of_it:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
            process.wait()
        begun = time.monotonic()
        while any(map(_lives, below)) and time.monotonic() - begun < _PATIENCE:
            time.sleep(0.05)
        left = [each for each in below if _lives(each)]
        for each in left:
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        said.seek(0)
        return process.returncode, (said.read().decode(errors="replace").strip().splitlines() or [""])[-1], left


def _lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _commands(folder: Path) -> list[Command]:
    import numpy as np

    from dmsynth.datasets.photo import PoseRange, pose_photo, prepare
    from dmsynth.trackers import open_tracker
    from dmsynth.video import VideoWriter
    from dmsynth.video.portrait import default_portrait

    tracker, video, data = open_tracker(), folder / "turning.mp4", folder / "posed"
    posed = prepare(default_portrait(), tracker, (320, 240), "astronaut", colour=False)
    with VideoWriter(video, 320, 240, 30) as out:
        for phase in np.linspace(0, 2 * np.pi, 60, endpoint=False):
            out.write(posed.pose(pitch=4 * np.cos(2 * phase), yaw=15 * np.sin(phase), roll=0))
    pose_photo(data, None, tracker, 72, (96, 80), PoseRange(10, 20, 10), seed=3)
    train = ["train", str(data), "--base-channels", "4", "--steps", "150", "--precision", "32-true", "--out", "run"]
    scenarios = ["addw-30-short-glance", "addw-30-down", "addw-30-side-window"]
    return [
        Command("import", ["dataset", "recording", "data", str(video)], _dataset),
        Command("photo", ["dataset", "photo", "data", "--frames", "80", "--size", "96x80"], _dataset),
        Command("training", train, _training),
        Command("validate", ["validate", *scenarios, "--face", "starter", "--out", "results"], _validation),
        Command("position", ["reproduce", "position", "--preset", "smoke", "--out", "study"], _position),
    ]


def main(count: int, seed: int = 0, names: Sequence[str] = ()) -> int:
    """Kill ``count`` times, only the commands ``names`` if any are given; 1 if anything is wrong."""
    counts: dict[str, Counter[str]] = {}
    wrong: list[str] = []
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        folder, random = Path(place), Random(seed)
        commands = [each for each in _commands(folder) if not names or each.name in names]
        for command in commands:
            counts[command.name] = Counter()
            out = folder / f"{command.name}-whole"
            out.mkdir()
            started = time.monotonic()
            code, said, _ = _run(command, out, None, False)
            assert code == 0, f"{command.name}: {said}"
            command.seconds = time.monotonic() - started
            command.whole, command.files = command.result(out), _files(out)
            sys.stderr.write(f"{command.name}: {command.seconds:.1f} s undisturbed\n")
        killed, number = 0, 0
        while killed < count:
            command, number = commands[number % len(commands)], number + 1
            out = folder / f"{command.name}-{number}"
            out.mkdir()
            tally: Counter[str] = counts[command.name]
            for _ in range(_KILLS_A_RUN):
                code, said, left = _run(command, out, random.uniform(0.2, 0.8 * command.seconds), random.random() < 0.3)
                killed += code < 0
                tally["killed"] += code < 0
                tally["outlived"] += len(left)
                if code > 0:
                    wrong.append(f"{command.name}, run {number}: {said}")
                    tally["does not go on"] += 1
                if code == 0:  # it was faster than the undisturbed run
                    break
            code, said, _ = _run(command, out, None, False)
            sys.stderr.write(f"{command.name}, run {number}: {dict(tally)}; {time.monotonic() - begun:.0f} s\n")
            tally["runs"] += 1
            if code != 0:
                tally["does not go on"] += 1
                wrong.append(f"{command.name}, run {number}: {said}")
                continue
            if command.result(out) != command.whole:
                tally["another result"] += 1
                wrong.append(f"{command.name}, run {number}: another result")
            if _files(out) != command.files:
                tally["left over"] += 1
                wrong.append(f"{command.name}, run {number}: {sorted(_files(out) ^ command.files)[:5]}")
    lines = [f"{name:10} " + ", ".join(f"{what} {n}" for what, n in each.items()) for name, each in counts.items()]
    lines += [f"{killed} kills in {time.monotonic() - begun:.0f} s", *wrong[:40]]
    sys.stdout.write("\n".join(lines) + "\n")
    return int(bool(wrong) or any(each["outlived"] for each in counts.values()))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0, sys.argv[3:]))
