"""Parts of a long measurement, one after the other, each within its share of the time.

Each runs in a process, so that one that fails, hangs or is killed costs the others nothing. What is done is kept:
called again on the same folder, the others are tried again.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Generic, TypeVar

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from dmsynth.experiments.grid import in_words
from dmsynth.support.files import read_json, write_json
from dmsynth.support.processes import end_with
from dmsynth.support.progress import console, report

DONE, CUT_OFF, FAILED = "done", "cut off", "failed"
"""What becomes of a part."""

_STATE = "state.json"
_TICK = 0.5  # seconds between two looks at a part

G = TypeVar("G")


@dataclass(frozen=True)
class Part(Generic[G]):
    """A thing to measure, a module-level function, and its share of the time."""

    title: str
    work: Callable[[G], None]
    share: float


def run_in_turn(parts: Mapping[str, Part[G]], give: Callable[[str, float], G], out: Path, seconds: float) -> None:
    """Run the parts that are not done in ``out``, each within its share of the ``seconds`` that are left.

    Args:
        give: of a part's name and seconds: what its work gets, picklable.
        out: each part has a folder in it by its name; there stands what became of it (``state_of``).
    """
    waiting = [name for name in parts if state_of(out, name).get("state") != DONE]
    end = time.monotonic() + seconds
    with _clock(seconds, len(parts)) as look, _Worker() as worker:
        for number, name in enumerate(waiting):
            shares = sum(parts[later].share for later in waiting[number:])
            budget = max(0.0, end - time.monotonic()) * parts[name].share / shares
            begun = time.monotonic()
            place = list(parts).index(name) + 1

            def tell(left: float, title: str = parts[name].title, place: int = place) -> None:
                look(place, title, left)

            state, why = worker.do(parts[name].work, give(name, budget), budget, tell)
            took = time.monotonic() - begun
            content = {"state": state, "why": why, "seconds": round(took, 1), "budget": round(budget, 1)}
            write_json(out / name / _STATE, content)
            console.print(f"{parts[name].title}: {state} after {took:.0f} s{f': {why}' if why else ''}")


def state_of(out: Path, name: str) -> dict[str, Any]:
    """What became of a part: ``state``, ``why`` it is not done, ``seconds`` it took, and the ``budget`` that it had;
    empty if it never ended."""
    path = out / name / _STATE
    return read_json(path) if path.is_file() else {}


class _Worker:
    """A process in which parts run, one after the other; after one that went wrong, another process."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if self._pool is not None and kind is None:  # it has nothing to do any more
            self._pool.shutdown()
        else:
            self._end()

    def do(self, work: Callable[[G], None], given: G, seconds: float, tell: Callable[[float], None]) -> tuple[str, str]:
        """Do the work within its time, and ``tell`` the seconds left; what became of it, and why."""
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(1, context, _begin_worker, (os.getpid(),))
        future = self._pool.submit(_done, work, given)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            tell(end - time.monotonic())
            with suppress(NotYet):
                try:
                    why = future.result(timeout=_TICK)
                except BrokenProcessPool:
                    why = "its process was killed, most likely for lack of memory"
                if why is None:
                    return DONE, ""
                self._end()  # after an error a GPU may be of no more use to a process
                return FAILED, why
        self._end()
        return CUT_OFF, f"its {seconds:.0f} s were over"

    def _end(self) -> None:
        """Kill the process; its own processes end with it."""
        if self._pool is not None:
            processes = list((self._pool._processes or {}).values())
            self._pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.kill()
                process.join()
            self._pool = None


def _begin_worker(parent: int) -> None:
    end_with(parent)
    console.quiet = True  # the parent tells how it goes


def _done(work: Callable[[G], None], given: G) -> str | None:
    """Do the work; the reason if it failed, in one line."""
    try:
        work(given)
    except Exception as error:
        return in_words(error).strip().partition("\n")[0]
    return None


@contextmanager
def _clock(seconds: float, parts: int) -> Iterator[Callable[[int, str, float], None]]:
    """A bar of the whole time, with the part that is at work, and the time left of it and of all."""
    columns = (TextColumn("measuring"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task, begun = bar.add_task("", total=seconds), time.monotonic()

        def look(number: int, title: str, left: float) -> None:
            took = time.monotonic() - begun
            text = f"{number} of {parts}, {title}: left {_minutes(left)}, of all at most {_minutes(seconds - took)}"
            bar.update(task, completed=min(took, seconds), description=text)
            report(text, round(min(took, seconds)), round(seconds), 1.0, max(0.0, seconds - took))

        yield look


def _minutes(seconds: float) -> str:
    return str(timedelta(seconds=max(0, round(seconds))))
