"""Run a program so that nothing it starts outlives it, nor whoever asked for it. A program of its own, started by its
path and with nothing but the standard library, because it is started once a video:

    python contained.py DESCRIPTOR PROGRAM ARGUMENT ...

Its standard input is a pipe that the asking process holds open. When that closes, however the process ended, everything
ends. How the program ended is written to the file DESCRIPTOR: ``exit CODE``, ``signal NUMBER``, ``cannot ERRNO`` (it
could not be started) or ``stopped``.

On Linux it becomes the parent of whatever loses its own below it, so a child that begins a session of its own or that
lets its parent die is found all the same. Elsewhere only the program's process group is ended.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

_LOOK = 0.02  # seconds between looks at the program
_PATIENCE = 10.0  # seconds for which ending everything is tried
_SET_DEATH_SIGNAL, _SET_SUBREAPER = 1, 36  # of prctl(2)
_CANNOT = 127


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _start(command: list[str]) -> tuple[int, int]:
    """The process, and the error number if the program cannot be started (else 0)."""
    told, tell = os.pipe()  # closes by itself when the program is started
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            _prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.execvp(command[0], command)
        except OSError as error:
            os.write(tell, str(error.errno).encode())
        finally:
            os._exit(_CANNOT)
    os.close(tell)
    with os.fdopen(told) as answer:
        return child, int(answer.read() or 0)


def _reap(child: int) -> tuple[int | None, bool]:
    """The exit status of ``child`` if it just ended, and whether any process is left."""
    status = None
    while True:
        try:
            ended, code = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status, False
        if not ended:
            return status, True
        if ended == child:
            status = code


def descendants(ancestor: int) -> list[int]:
    """Every process below ``ancestor``; empty where there is no /proc."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            parent = int(entry.read_text("utf-8", "replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.parent.name))
    found, queue = [], [ancestor]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def _end_all(child: int) -> None:
    begun, left = time.monotonic(), True
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    while left and time.monotonic() - begun < _PATIENCE:  # those that are born meanwhile, too
        below = descendants(os.getpid())
        for signum in (signal.SIGSTOP, signal.SIGKILL):  # first none of them can start another
            for process in below:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(process, signum)
        _, left = _reap(child)
        time.sleep(_LOOK / 10)


def _in_words(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"signal {os.WTERMSIG(status)}"
    return f"exit {os.WEXITSTATUS(status)}"


def main(descriptor: int, command: list[str]) -> None:
    """Run ``command`` to its end or until standard input closes; then end what it left."""
    os.set_inheritable(descriptor, False)
    _prctl(_SET_SUBREAPER, 1)
    child, error = _start(command)
    said = f"cannot {error}" if error else "stopped"
    while not error:
        status, _ = _reap(child)
        if status is not None:
            said = _in_words(status)
            break
        if select.select([0], [], [], _LOOK)[0]:
            break
    _end_all(child)
    os.write(descriptor, said.encode())


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
