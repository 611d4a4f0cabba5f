"""What matters on a GPU, measured by one command in ten minutes, on one page (docs/gpu.md)."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import suppress
from datetime import date
from pathlib import Path

import torch

from dmsynth.experiments.gpu_page import write_page
from dmsynth.experiments.gpu_parts import PARTS, SIZES, Given
from dmsynth.experiments.in_turn import FAILED, run_in_turn, state_of
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import lock, read_json, write_json
from dmsynth.support.machine import describe_machine
from dmsynth.support.processes import run

SMOKE = "smoke"


def measure_gpu(out: Path, preset: str, minutes: float, seed: int, command: str) -> Path:
    """Measure every part that is not done in ``out`` yet, in about ``minutes``, and write ``report.md``,
    ``report.html`` and ``figures.json``; returns the first.

    Raises:
        DmsynthError: an unknown preset; no GPU, which ``smoke`` does without; a folder that holds another measurement,
            or in which one is running; parts that failed, when all others are on the page.
    """
    if preset not in SIZES:
        raise DmsynthError(f"--preset {preset}: there is {', '.join(SIZES)}")
    if preset != SMOKE and not torch.cuda.is_available():
        raise DmsynthError(
            f"no CUDA GPU: PyTorch {torch.__version__} finds none here; install its CUDA build and the driver "
            "(docs/gpu.md), or try everything small on this CPU with --preset smoke"
        )
    note, size = out / "about.json", SIZES[preset]
    same = {"preset": preset, "seed": seed, "machine": describe_machine() | _driver()}
    if not note.is_file():
        write_json(note, same | {"date": date.today().isoformat(), "command": command})
    elif any(read_json(note).get(key) != value for key, value in same.items()):
        raise DmsynthError(f"{out}: holds a measurement of another preset, seed or machine; give another --out")
    with note.open("rb") as file:
        lock(file, out)
        run_in_turn(PARTS, lambda name, seconds: Given(out, name, size, seed, seconds), out, 60 * minutes)
        page = write_page(out)
    states = {part.title: state_of(out, name) for name, part in PARTS.items()}
    failed = [f"{title}: {state['why']}" for title, state in states.items() if state.get("state") == FAILED]
    if failed:
        raise DmsynthError(
            f"{len(failed)} of {len(PARTS)} parts failed ({failed[0]}); {page} has the others: mend the cause and run "
            "the same command again"
        )
    return page


def _driver() -> dict[str, str]:
    """The driver's version and CUDA's, where there are any."""
    if not torch.cuda.is_available():
        return {}
    versions = {"cuda": str(torch.version.cuda), "cudnn": str(torch.backends.cudnn.version())}
    if shutil.which("nvidia-smi"):
        with suppress(OSError, subprocess.TimeoutExpired):
            asked = run(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"], timeout=10)
            versions["driver"] = asked.stdout.partition("\n")[0].strip()
    return versions
