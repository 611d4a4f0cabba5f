"""DMSs outside this process: a program, a log that one left, and the process that runs a Python entry point."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import IO

from dmsynth.errors import DmsynthError
from dmsynth.validation.dms import ENTRY_POINTS, Answer, DmsFailedError, NotTestedError, read_answers

OUTPUT_LIMIT = 32 * 2**20  # bytes; an hour of answers at 30 a second is 16 MiB
_LOOK = 0.02  # seconds between looks at a running program
_SHOWN = 200  # characters of what it said on standard error


@dataclass(frozen=True)
class Program:
    """A program that is started once a video and prints JSON Lines on its standard output.

    Attributes:
        name: for reports.
        arguments: the argument list; ``{video}`` and ``{speed}`` in it are replaced.
        time_limit: seconds it may take.
        output_limit: bytes it may print.
    """

    name: str
    arguments: list[str]
    time_limit: float
    output_limit: int = OUTPUT_LIMIT

    def __call__(self, video: Path, speed: float) -> Iterator[Answer]:
        """Its answers; then ``DmsFailedError`` if it had to be stopped, crashed, or printed anything else.

        Raises ``DmsynthError`` for a program that cannot be started at all.
        """
        given = {"{video}": str(video.resolve()), "{speed}": f"{speed:g}"}
        arguments = [_filled(argument, given) for argument in self.arguments]
        with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as complained:
            try:
                process = subprocess.Popen(
                    arguments, stdin=subprocess.DEVNULL, stdout=said, stderr=complained, start_new_session=True
                )
            except OSError as error:
                raise DmsynthError(
                    f"--dms {self.name}: {arguments[0]} cannot be started ({error.strerror}); check its path and "
                    "that it is executable"
                ) from None
            stopped = self._watch(process, said, complained)
            said.seek(0)
            lines = said.read(self.output_limit).decode(errors="replace").splitlines(keepends=True)
            if (stopped or process.returncode) and lines and not lines[-1].endswith("\n"):
                lines.pop()  # it was cut in the middle of a line
            try:
                yield from read_answers(lines, "its output")
            except DmsFailedError as failure:
                raise DmsFailedError(f"{stopped}; {failure}" if stopped else str(failure)) from None
            if stopped:
                raise DmsFailedError(stopped)
            if process.returncode:
                raise DmsFailedError(f"crashed with {_code(process.returncode)}{_last_words(complained)}")

    def _watch(self, process: subprocess.Popen[bytes], said: IO[bytes], complained: IO[bytes]) -> str | None:
        """Wait for its end. Why it was stopped, or None. Nothing that it started is left running."""
        begun = time.monotonic()
        try:
            while process.poll() is None:
                if time.monotonic() - begun > self.time_limit:
                    return f"was stopped after the time limit of {self.time_limit:g} s"
                if max(os.fstat(file.fileno()).st_size for file in (said, complained)) > self.output_limit:
                    return f"was stopped after printing more than {self.output_limit / 2**20:g} MiB"
                time.sleep(_LOOK)
            return None
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _filled(argument: str, given: dict[str, str]) -> str:
    for name, value in given.items():
        argument = argument.replace(name, value)
    return argument


def _code(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _last_words(complained: IO[bytes]) -> str:
    size = complained.seek(0, os.SEEK_END)
    complained.seek(max(0, size - 4096))
    lines = complained.read().decode(errors="replace").strip().splitlines()
    return f": {lines[-1].strip()[-_SHOWN:]}" if lines else ""


@dataclass(frozen=True)
class Log:
    """What a DMS answered elsewhere, on real hardware: JSON Lines in ``SCENARIO.jsonl`` of a folder, or one file."""

    path: Path
    scenario: str

    @property
    def name(self) -> str:
        return f"log {self.path.name}"

    def __call__(self, video: Path, speed: float) -> Iterator[Answer]:
        file = self.path / f"{self.scenario}.jsonl" if self.path.is_dir() else self.path
        if not file.is_file():
            raise NotTestedError(f"{file}: no such log; record one for this scenario")
        with file.open(encoding="utf-8", errors="replace") as lines:
            yield from read_answers(lines, str(file))


def main(name: str, video: str, speed: str) -> None:
    """Run the Python DMS of this entry point on a video and print its answers."""
    entry = next(entry for entry in entry_points(group=ENTRY_POINTS) if entry.name == name)
    for answer in entry.load()()(Path(video), float(speed)):
        sys.stdout.write(answer.to_json() + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
