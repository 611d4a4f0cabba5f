"""Every process that we start ends with us, however we end, unless it is a job (``cockpit.jobs``), which shall not.

Programs of others run inside ``contained.py``, which holds a pipe of ours. Processes of our own look for who started
them, which works on every system.
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
"""Environment variable with the number of the process with which a command ends."""

_CONTAINED = Path(__file__).with_name("contained.py")
_LOOK = 0.2  # seconds between looks for the parent
_PATIENCE = 15.0  # seconds that ending a program may take


def end_with(parent: int) -> None:
    """End this process as soon as the process ``parent`` is not its parent any more: that one is gone, however it
    went."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def end_with_whoever_says_so() -> None:
    """The same for a command that was started by one of ours which wants it so (``PARENT``)."""
    parent = os.environ.pop(PARENT, "")  # it says nothing of the processes below
    if parent.isdecimal():
        end_with(int(parent))


def run_contained(
    arguments: Sequence[str], said: IO[bytes], complained: IO[bytes], watch: Callable[[subprocess.Popen[bytes]], T]
) -> tuple[T, str]:
    """Run a program, and end it, with all that it started, when ``watch`` returns or raises, or when we end.

    Args:
        said, complained: files for its standard output and error.
        watch: waits for the end of the process, or has had enough of it.

    Returns:
        What ``watch`` returned, and how the program ended: ``exit CODE``, ``signal NUMBER``, ``cannot ERRNO`` (be
        started), ``stopped`` or ``lost``.
    """
    told, tell = os.pipe()
    with os.fdopen(told) as answer:
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_CONTAINED), str(tell), *arguments],
                stdin=subprocess.PIPE, stdout=said, stderr=complained, start_new_session=True, pass_fds=[tell],
            )  # fmt: skip
        finally:
            os.close(tell)
        try:
            watched = watch(process)
        finally:
            _end(process)
        return watched, answer.read() or "lost"


def run(arguments: Sequence[str], timeout: float | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, like ``subprocess.run`` with its output as text, but contained.

    Raises ``OSError`` if it cannot be started, ``subprocess.TimeoutExpired`` if it takes longer than ``timeout``.
    """
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as complained:
        _, ended = run_contained(arguments, said, complained, lambda process: process.wait(timeout))
        kind, _, number = ended.partition(" ")
        if kind == "cannot":
            raise OSError(int(number), os.strerror(int(number)), arguments[0])
        texts = []
        for file in (said, complained):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
        code = int(number) if kind == "exit" else -int(number or 1)
        return subprocess.CompletedProcess(list(arguments), code, *texts)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End what contains the program, and with it everything that it started."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
