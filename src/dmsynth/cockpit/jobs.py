"""Long work beside whoever asked for it: dmsynth's own commands, in processes that nobody's end takes along.

A job is a folder:

    job.json        what it is for, and its commands
    lock            held as long as a process of the job lives, whoever started it
    state.json      which process leads it, how many of its commands are done, and how it ended
    stopped         there if somebody stopped it
    progress.json   how far it is (``dmsynth.support.progress``)
    log.txt         what the commands said

Commands are dmsynth's, so one that was interrupted goes on when it is run again.
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

_PATIENCE = 20.0  # seconds that a job has to end by itself when it is told to
_TAIL = 20_000  # bytes of a log that are read
# Without the folder that somebody happens to stand in on Python's path: a queue.py there would be taken for Python's.
_PYTHON = [sys.executable, "-P", "-m"]


class _About(Record):
    """``job.json``; whoever started the job may note more."""

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
        """``title``, ``kind``, ``made`` (seconds since 1970), ``commands``, and what whoever started it noted.

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
        """Whether any process of it lives: each holds the lock. A number of a process could be another's by now."""
        with (self.folder / "lock").open("ab") as file:
            return not _locked(file, shared=True)  # so that two who look at once do not see each other

    @property
    def progress(self) -> dict[str, Any]:
        """``title``, ``done``, ``total``, ``rate`` (a second), ``left`` (seconds); empty before anything is known."""
        try:
            return read_record(self.folder / "progress.json", _Progress, "").model_dump()
        except DmsynthError:
            return {}

    @property
    def log(self) -> str:
        """The end of what its commands said."""
        return self._said(0)

    @property
    def error(self) -> str:
        """The one line that a failed command left, the last time that the job ran."""
        lines = [line for line in self._said(self._state().log).splitlines() if line.strip()]
        errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        return errors[-1] if errors else (lines[-1] if lines else "it said nothing")

    def start(self) -> None:
        """Run it, or go on where it stopped, in a session of its own. ``DmsynthError`` if it is running."""
        with (self.folder / "lock").open("ab") as lock, (self.folder / "log.txt").open("ab") as log:
            if not _locked(lock):
                raise DmsynthError(f"{self.about['title']}: is running already")
            self._stopped.unlink(missing_ok=True)
            (self.folder / "progress.json").unlink(missing_ok=True)
            write_json(self.folder / "state.json", {"finished": self._state().finished, "log": log.seek(0, 2)})
            # The lock goes from hand to hand: to the process that leads the job, and on to its commands.
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
        """End it; what its commands had done is kept. Returns when nothing of it lives."""
        if not self.is_alive():
            return
        self._stopped.touch()
        for signum in (signal.SIGINT, signal.SIGKILL):
            leader = self._state().leader or 0
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if leader > 1 and self.is_alive():  # then the number of its group is still its own
                    os.killpg(leader, signum)
            begun = time.monotonic()
            while self.is_alive() and time.monotonic() - begun < _PATIENCE:
                time.sleep(0.05)

    @property
    def _stopped(self) -> Path:
        return self.folder / "stopped"

    def _said(self, since: int) -> str:
        """The end of the log, nothing before byte ``since``."""
        path = self.folder / "log.txt"
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            file.seek(max(since, path.stat().st_size - _TAIL))
            return file.read().decode("utf-8", "replace")

    def _state(self) -> _State:
        """Nothing is known of a job whose state is damaged: its commands are run again, and go on where they were."""
        try:
            return read_record(self.folder / "state.json", _State, "")
        except DmsynthError:
            return _State()


def make_job(
    folder: Path, title: str, kind: str, commands: Sequence[Sequence[str]], note: dict[str, Any] | None = None
) -> Job:
    """A job of ``dmsynth`` commands, each a list of arguments, in a new ``folder``; it is not started."""
    folder.mkdir(parents=True)
    about = {"title": title, "kind": kind, "made": time.time(), "commands": [list(map(str, c)) for c in commands]}
    (folder / "lock").touch()
    write_json(folder / "job.json", about | (note or {}))
    return Job(folder)


def find_jobs(folder: Path) -> list[Job]:
    """The jobs in a folder, the newest first; a damaged one does not hide the others."""
    made = {}
    for path in folder.glob("*/job.json"):
        with contextlib.suppress(DmsynthError, OSError):
            job = Job(path.parent)
            made[job] = float(job.about["made"])
    return sorted(made, key=lambda job: -made[job])


def _locked(file: IO[bytes], shared: bool = False) -> bool:
    """Take a lock until ``file``, and every copy that other processes have of it, is closed; False if it is taken.

    Whoever wants it alone waits a moment for those that only look.
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
    """Run the commands that are not done, one after the other: the process that leads a job.

    ``lock`` is the open file of the job's lock, which is held.
    """
    job, stopped = Job(folder), folder / "stopped"
    signal.signal(signal.SIGINT, lambda *_: None)  # for the command; this process writes down how it ended
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
            [*_PYTHON, "dmsynth.cli", *command], env=environment, check=False, pass_fds=[lock], preexec_fn=_kindly
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
    """Whether a validation came to a verdict: that a DMS fails is no failure of the job."""
    out = Path(command[list(command).index("--out") + 1])
    return (out / "results.json").is_file()


def _kindly() -> None:
    """Whoever works on this machine goes first."""
    with contextlib.suppress(OSError):
        os.nice(5)


if __name__ == "__main__":
    sys.exit(_lead(Path(sys.argv[1]), int(sys.argv[2])))
