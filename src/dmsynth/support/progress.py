"""Progress of long work: count, rate and remaining time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from dmsynth.support.terminal import Terminal

console = Terminal(stderr=True)
"""For progress and notes (standard error). Results go to standard output."""

ENVIRONMENT = "DMSYNTH_PROGRESS"
"""Environment variable: path of a file to which progress is also written, for other processes (``report``)."""

_EVERY = 0.5  # seconds between two reports
_reported = 0.0


class _Rate(ProgressColumn):
    """Steps a second, as measured."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f}/s" if speed else "–/s", style="cyan")


@contextmanager
def progress(title: str, total: int | None, done: int = 0) -> Iterator[Callable[[], None]]:
    """Show a bar with count, rate and time left; the yielded function advances it by one.

    ``done`` is the count that an earlier, interrupted run reached. If the output is no terminal, only a final
    line with the rate is printed.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TextColumn("·"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=total, completed=done)
        advanced, begun = 0, time.monotonic()

        def advance() -> None:
            nonlocal advanced
            advanced += 1
            bar.advance(task)
            rate = advanced / max(time.monotonic() - begun, 1e-9)
            report(title, done + advanced, total, rate, (total - done - advanced) / rate if total else None)

        yield advance
    if not console.is_terminal:
        seconds = bar.tasks[0].elapsed or 1e-9
        rate = f"{advanced / seconds:.1f}/s" if advanced else "nothing left to do"
        console.print(f"{title}: {done + advanced} done in {seconds:.0f} s ({rate})")


def is_watched() -> bool:
    """Whether progress is written to a file for another process."""
    return ENVIRONMENT in os.environ


def report(title: str, done: float, total: float | None, rate: float, left: float | None) -> None:
    """Write progress to the file named by ``DMSYNTH_PROGRESS``, if it is set, at most every half second.

    Args:
        done, total: number of steps; total None: unknown.
        rate: steps a second.
        left: remaining seconds.
    """
    global _reported
    path, now = os.environ.get(ENVIRONMENT), time.monotonic()
    if not path or (now - _reported < _EVERY and done != total):
        return
    _reported = now
    from dmsynth.support.files import write_json

    with suppress(OSError):  # a failed progress write must not end the work
        write_json(
            Path(path), {"title": title, "done": done, "total": total, "rate": rate, "left": left}, lasting=False
        )
