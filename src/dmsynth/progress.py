"""Progress of long work: how much, how fast, how long still."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
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

console = Console(stderr=True)
"""Where progress and notes go. Results go to standard output."""


class _Rate(ProgressColumn):
    """Steps a second, as measured."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f}/s" if speed else "–/s", style="cyan")


@contextmanager
def progress(title: str, total: int | None, done: int = 0) -> Iterator[Callable[[], None]]:
    """Show a bar with count, rate and time left; the yielded function advances it by one.

    ``done`` is what an earlier, interrupted run had finished. Where the output is no terminal, only a closing
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
        advanced = 0

        def advance() -> None:
            nonlocal advanced
            advanced += 1
            bar.advance(task)

        yield advance
    if not console.is_terminal:
        seconds = bar.tasks[0].elapsed or 1e-9
        rate = f"{advanced / seconds:.1f}/s" if advanced else "nothing left to do"
        console.print(f"{title}: {done + advanced} done in {seconds:.0f} s ({rate})")
