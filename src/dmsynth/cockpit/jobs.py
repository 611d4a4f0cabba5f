"""Background jobs: dmsynth commands in processes that keep running after the process that started them has ended.

A job is a folder:

    job.json        its purpose, and its commands
    lock            lock file, held while any process of the job is running
    state.json      its leading process, the number of finished commands, and how it ended
    stopped         exists if a user stopped it
    progress.json   its progress (``dmsynth.support.progress``)
    log.txt         output of the commands

An interrupted dmsynth command resumes when it is run again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Any

from pydantic import ConfigDict, Field

from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import write_json
from dmsynth.support.processes import PARENT
from dmsynth.support.progress import ENVIRONMENT
from dmsynth.support.records import Count, Record, Text, read_record

_STOP_TIMEOUT = 20.0  # seconds that a job has to end after a signal
_TAIL = 20_000  # bytes of a log that are read
# -P: without the current folder on Python's path, where a queue.py would shadow Python's.
_PYTHON = [sys.executable, "-P", "-m"]


class _About(Record):
    """``job.json``; it may have more entries."""

    model_config = ConfigDict(extra="allow")

    title: Text
    kind: Text
    made: Annotated[float, Field(ge=0, le=1e11)]
    commands: Annotated[list[Annotated[list[Text], Field(min_length=1, max_length=1000)]], Field(max_length=1000)]
    out: Text = ""
    outs: Annotated[list[Text], Field(max_length=1000)] = Field(default_factory=list)


class _State(Record):
    """``state.json``."""

    leader: Count | None = None
    finished: Count = 0
    log: Annotated[int, Field(ge=0)] = 0
    code: Annotated[int, Field(ge=-255, le=255)] | None = None


class _Progress(Record):
    """``progress.json``."""

    title: Text
    done: float
    total: float | None
    rate: float
    left: float | None


@dataclass(frozen=True)
class Job:
    """One job, running or not."""

    folder: Path

    @property
    def about(self) -> dict[str, Any]:
        """``title``, ``kind``, ``made`` (seconds since 1970), ``commands``, and further entries of ``job.json``.

        Raises ``DmsynthError`` if it is damaged.
        """
        return read_record(self.folder / "job.json", _About, "remove the job's folder and begin it anew").model_dump()

    @property
    def state(self) -> str:
        """``running``, ``done``, ``stopped``, ``failed``, or ``interrupted``: killed, or the machine went down."""
        if self.is_alive():
            return "running"
        code = self._state().code
        if code == 0:  # perhaps a moment before it was stopped
            return "done"
        if self._stopped.exists():
            return "stopped"
        return "interrupted" if code is None else "failed"

    def is_alive(self) -> bool:
        """Whether any process of it is running: each holds the lock. (Process IDs can be reused.)"""
        with (self.folder / "lock").open("ab") as file:
            return not _locked(file, shared=True)  # shared: simultaneous checks do not block each other

    @property
    def progress(self) -> dict[str, Any]:
        """``title``, ``done``, ``total``, ``rate`` (a second), ``left`` (seconds); empty if not known yet."""
        try:
            return read_record(self.folder / "progress.json", _Progress, "").model_dump()
        except DmsynthError:
            return {}

    @property
    def log(self) -> str:
        """The end of its commands' output."""
        return self._log_since(0)

    @property
    def error(self) -> str:
        """The error line of a failed command in the job's last run."""
        lines = [line for line in self._log_since(self._state().log).splitlines() if line.strip()]
        errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        return errors[-1] if errors else (lines[-1] if lines else "it said nothing")

    def start(self) -> None:
        """Start or resume it, in a new session. ``DmsynthError`` if it is running."""
        with (self.folder / "lock").open("ab") as lock, (self.folder / "log.txt").open("ab") as log:
            if not _locked(lock):
                raise DmsynthError(f"{self.about['title']}: is running already")
            self._stopped.unlink(missing_ok=True)
            (self.folder / "progress.json").unlink(missing_ok=True)
            write_json(self.folder / "state.json", {"finished": self._state().finished, "log": log.seek(0, 2)})
            # The lock is inherited by the job's leading process, and by its commands.
            process = subprocess.Popen(
                [*_PYTHON, "dmsynth.cockpit.jobs", str(self.folder.resolve()), str(lock.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=[lock.fileno()],
            )
            while self._state().leader is None and process.poll() is None:
                time.sleep(0.02)

    def stop(self) -> None:
        """Stop it; finished work is kept. Returns when all its processes have ended."""
        if not self.is_alive():
            return
        self._stopped.touch()
        for signum in (signal.SIGINT, signal.SIGKILL):
            leader = self._state().leader or 0
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if leader > 1 and self.is_alive():  # then its process group ID is still valid
                    os.killpg(leader, signum)
            begun = time.monotonic()
            while self.is_alive() and time.monotonic() - begun < _STOP_TIMEOUT:
                time.sleep(0.05)

    @property
    def _stopped(self) -> Path:
        return self.folder / "stopped"

    def _log_since(self, since: int) -> str:
        """The end of the log, from byte ``since`` at the earliest."""
        path = self.folder / "log.txt"
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            file.seek(max(since, path.stat().st_size - _TAIL))
            return file.read().decode("utf-8", "replace")

    def _state(self) -> _State:
        """The state; empty if it is damaged: then the commands are run again, and resume."""
        try:
            return read_record(self.folder / "state.json", _State, "")
        except DmsynthError:
            return _State()


def make_job(
    folder: Path, title: str, kind: str, commands: Sequence[Sequence[str]], note: dict[str, Any] | None = None
) -> Job:
    """Create a job of ``dmsynth`` commands, each a list of arguments, in a new ``folder``; it is not started."""
    folder.mkdir(parents=True)
    about = {"title": title, "kind": kind, "made": time.time(), "commands": [list(map(str, c)) for c in commands]}
    (folder / "lock").touch()
    write_json(folder / "job.json", about | (note or {}))
    return Job(folder)


def find_jobs(folder: Path) -> list[Job]:
    """The jobs in a folder, newest first; damaged ones are skipped."""
    made = {}
    for path in folder.glob("*/job.json"):
        with contextlib.suppress(DmsynthError, OSError):
            job = Job(path.parent)
            made[job] = float(job.about["made"])
    return sorted(made, key=lambda job: -made[job])


def _locked(file: IO[bytes], shared: bool = False) -> bool:
    """Take a lock until ``file``, and every inherited copy of it, is closed; False if it is held by another process.

    An exclusive request waits a moment for processes that only check.
    """
    import fcntl

    begun = time.monotonic()
    while True:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if shared or time.monotonic() - begun > 0.2:
                return False
            time.sleep(0.01)


def _lead(folder: Path, lock: int) -> int:
    """Main function of a job's leading process: run the unfinished commands one after the other.

    ``lock`` is the file descriptor of the held lock.
    """
    job, stopped = Job(folder), folder / "stopped"
    signal.signal(signal.SIGINT, lambda *_: None)  # the command gets it, too; this process records how it ended
    state = job._state().model_dump(exclude_none=True) | {"leader": os.getpid()}
    write_json(folder / "state.json", state)
    try:
        about = job.about
    except DmsynthError as error:
        sys.stderr.write(f"error: {error}\n")
        write_json(folder / "state.json", state | {"code": 2})
        return 2
    environment = os.environ | {ENVIRONMENT: str(folder / "progress.json"), "COLUMNS": "200", PARENT: str(os.getpid())}
    code = 0
    for number, command in enumerate(about["commands"]):
        if number < int(state["finished"]):
            continue
        if stopped.exists():  # between two commands
            code = 130
            break
        (folder / "progress.json").unlink(missing_ok=True)
        done = subprocess.run(
            [*_PYTHON, "dmsynth.cli", *command],
            env=environment,
            check=False,
            pass_fds=[lock],
            preexec_fn=_lower_priority,
        )
        code = done.returncode
        if code and not (about["kind"] == "validation" and code == 1 and _has_results(command)):
            break
        code = 0
        state["finished"] = number + 1
        write_json(folder / "state.json", state)
    write_json(folder / "state.json", state | {"code": code})
    return code


def _has_results(command: Sequence[str]) -> bool:
    """Whether a validation reached a verdict: a DMS that fails is no failure of the job."""
    out = Path(command[list(command).index("--out") + 1])
    return (out / "results.json").is_file()


def _lower_priority() -> None:
    """Leave the processor to interactive work."""
    with contextlib.suppress(OSError):
        os.nice(5)


if __name__ == "__main__":
    sys.exit(_lead(Path(sys.argv[1]), int(sys.argv[2])))
