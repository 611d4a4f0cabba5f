"""Parts of a measurement that go as parts can go, in a module of its own: their processes import nothing large."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from dmsynth.support.errors import DmsynthError


@dataclass(frozen=True)
class Given:
    out: Path
    name: str
    seconds: float


def works(given: Given) -> None:
    with (given.out / "calls").open("a") as calls:
        calls.write(f"{given.name} ")


def fails(given: Given) -> None:
    if not (given.out / "mended").exists():
        raise DmsynthError(f"{given.name}: no such data; give some")
    works(given)


def hangs(given: Given) -> None:
    if not (given.out / "mended").exists():
        time.sleep(600)
    works(given)


def dies(given: Given) -> None:
    if not (given.out / "mended").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    works(given)
