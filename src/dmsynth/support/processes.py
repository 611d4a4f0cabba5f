"""Child processes end with their parent, however the parent ends. Exception: jobs (``cockpit.jobs``) keep running.

Third-party programs run inside ``contained.py``, which reads from a pipe of this process. dmsynth's own child
processes poll for their parent, which works on every system.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, TypeVar

T = TypeVar("T")

PARENT = "DMSYNTH_ENDS_WITH"
"""Environment variable with the ID of the process with which a command ends."""

_CONTAINED = Path(__file__).with_name("contained.py")
_POLL_INTERVAL = 0.2  # seconds between checks of the parent
_KILL_TIMEOUT = 15.0  # seconds


def end_with(parent: int) -> None:
    """End this process as soon as ``parent`` is not its parent any more, which means that the parent has ended."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL_INTERVAL)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def end_with_requested_parent() -> None:
    """``end_with`` for the parent process that the environment variable ``PARENT`` names, if it is set."""
    parent = os.environ.pop(PARENT, "")  # not for child processes
    if parent.isdecimal():
        end_with(int(parent))


def run_contained(
    arguments: Sequence[str], stdout: IO[bytes], stderr: IO[bytes], watch: Callable[[subprocess.Popen[bytes]], T]
) -> tuple[T, str]:
    """Run a program. It and its descendants are killed when ``watch`` returns or raises, or when this process ends.

    Args:
        stdout, stderr: files for its standard output and error.
        watch: waits for the end of the process, or returns earlier to stop it.

    Returns:
        What ``watch`` returned, and how the program ended: ``exit CODE``, ``signal NUMBER``, ``cannot ERRNO`` (be
        started), ``stopped`` or ``lost``.
    """
    read_end, write_end = os.pipe()
    with os.fdopen(read_end) as answer:
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_CONTAINED), str(write_end), *arguments],
                stdin=subprocess.PIPE, stdout=stdout, stderr=stderr, start_new_session=True, pass_fds=[write_end],
            )  # fmt: skip
        finally:
            os.close(write_end)
        try:
            watched = watch(process)
        finally:
            _end(process)
        return watched, answer.read() or "lost"


def run(arguments: Sequence[str], timeout: float | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, like ``subprocess.run`` with its output as text, but contained.

    Raises ``OSError`` if it cannot be started, ``subprocess.TimeoutExpired`` if it takes longer than ``timeout``.
    """
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        _, ended = run_contained(arguments, stdout, stderr, lambda process: process.wait(timeout))
        kind, _, number = ended.partition(" ")
        if kind == "cannot":
            raise OSError(int(number), os.strerror(int(number)), arguments[0])
        texts = []
        for file in (stdout, stderr):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
        code = int(number) if kind == "exit" else -int(number or 1)
        return subprocess.CompletedProcess(list(arguments), code, *texts)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End ``contained.py``, and with it the program and its descendants."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(_KILL_TIMEOUT)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
