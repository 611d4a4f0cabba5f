"""DMSs outside this process: a program, a recorded log, and the process that runs a Python entry point."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import IO

from dmsynth.support.errors import DmsynthError
from dmsynth.support.processes import run_contained
from dmsynth.validation.protocol import (
    ENTRY_POINTS,
    Answer,
    DmsFailedError,
    NoAnswer,
    NotTestedError,
    lines_of,
    read_answers,
)

OUTPUT_LIMIT = 32 * 2**20  # bytes; an hour of answers at 30 a second is 16 MiB
_POLL_INTERVAL = 0.02  # seconds between checks of a running program
_SHOWN = 200  # characters of its standard error in messages


@dataclass(frozen=True)
class Program:
    """A program that is started once per video and prints JSON Lines to standard output.

    Attributes:
        name: for reports.
        arguments: the argument list; ``{video}`` and ``{speed}`` in it are replaced.
        time_limit: seconds it may take.
        output_limit: bytes it may print.
        strict: whether it fails if a line is no answer.
    """

    name: str
    arguments: list[str]
    time_limit: float
    output_limit: int = OUTPUT_LIMIT
    strict: bool = True

    def __call__(self, video: Path, speed: float) -> Iterator[Answer | NoAnswer]:
        """Its answers; then ``DmsFailedError`` if it had to be stopped, crashed, or (``strict``) printed anything else.

        Raises ``DmsynthError`` for a program that cannot be started at all.
        """
        given = {"{video}": str(video.resolve()), "{speed}": f"{speed:g}"}
        arguments = [_filled(argument, given) for argument in self.arguments]
        with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
            stopped, ended = run_contained(
                arguments, stdout, stderr, lambda process: self._watch(process, stdout, stderr)
            )
            if ended.startswith("cannot"):
                reason = os.strerror(int(ended.split()[1]))
                raise DmsynthError(
                    f"--dms {self.name}: {arguments[0]} cannot be started ({reason}); check its path and that it is "
                    "executable"
                )
            stdout.truncate(min(os.fstat(stdout.fileno()).st_size, self.output_limit))
            cut = bool(stopped) or ended != "exit 0"
            try:
                with closing(lines_of(stdout, self.strict)) as lines:
                    yield from read_answers(_whole(lines) if cut else lines, "its output", self.strict)
            except DmsFailedError as failure:
                raise DmsFailedError(f"{stopped}; {failure}" if stopped else str(failure)) from None
            if stopped:
                raise DmsFailedError(stopped)
            if ended != "exit 0":
                raise DmsFailedError(f"crashed with {_code(ended)}{_last_words(stderr)}")

    def _watch(self, process: subprocess.Popen[bytes], stdout: IO[bytes], stderr: IO[bytes]) -> str | None:
        """Wait until it ends (returns None), or until it has to be stopped (returns the reason)."""
        begun = time.monotonic()
        while True:
            ended = process.poll() is not None
            if max(os.fstat(file.fileno()).st_size for file in (stdout, stderr)) > self.output_limit:
                return f"was stopped after printing more than {self.output_limit / 2**20:g} MiB"
            if ended:
                return None
            if time.monotonic() - begun > self.time_limit:
                return f"was stopped after the time limit of {self.time_limit:g} s"
            time.sleep(_POLL_INTERVAL)


def _whole(lines: Iterator[str]) -> Iterator[str]:
    """Drop an incomplete last line."""
    return (line for line in lines if line.endswith("\n"))


def _filled(argument: str, given: dict[str, str]) -> str:
    for name, value in given.items():
        argument = argument.replace(name, value)
    return argument


def _code(ended: str) -> str:
    kind, _, number = ended.partition(" ")
    if kind == "lost":
        return "an end that could not be seen: it ended the process that started it"
    return f"exit code {number}" if kind == "exit" else f"signal {_signal(int(number))}"


def _signal(number: int) -> str:
    return signal.Signals(number).name if number in set(signal.Signals) else str(number)


def _last_words(stderr: IO[bytes]) -> str:
    size = stderr.seek(0, os.SEEK_END)
    stderr.seek(max(0, size - 4096))
    lines = stderr.read().decode(errors="replace").strip().splitlines()
    return f": {lines[-1].strip()[-_SHOWN:]}" if lines else ""


@dataclass(frozen=True)
class Log:
    """Answers recorded elsewhere, such as on real hardware: JSON Lines in a file or a folder's ``SCENARIO.jsonl``."""

    path: Path
    scenario: str
    strict: bool = True

    @property
    def name(self) -> str:
        return f"log {self.path.name}"

    def __call__(self, video: Path, speed: float) -> Iterator[Answer | NoAnswer]:
        file = self.path / f"{self.scenario}.jsonl" if self.path.is_dir() else self.path
        if not file.is_file():
            raise NotTestedError(f"{file}: no such log; record one for this scenario")
        with file.open("rb") as content, closing(lines_of(content, self.strict)) as lines:
            yield from read_answers(lines, str(file), self.strict)


def main(name: str, video: str, speed: str) -> None:
    """Run the Python DMS of this entry point on a video and print its answers."""
    entry = next(entry for entry in entry_points(group=ENTRY_POINTS) if entry.name == name)
    for answer in entry.load()()(Path(video), float(speed)):
        sys.stdout.write(answer.to_json() + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
