"""Run a program so that none of its child processes outlives it or the process that requested it. This is a separate
script, run by path and limited to the standard library so that it starts fast: it is started once per video.

    python contained.py DESCRIPTOR PROGRAM ARGUMENT ...

Standard input is a pipe that the requesting process holds open. When the pipe closes, for whatever reason, all child
processes are killed. How the program ended is written to the file descriptor DESCRIPTOR: ``exit CODE``,
``signal NUMBER``, ``cannot ERRNO`` (it could not be started) or ``stopped``.

On Linux this process is a subreaper: it adopts orphaned descendants, so it also finds a child that started its own
session or whose parent exited. On other systems only the program's process group is killed.
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

_POLL_INTERVAL = 0.02  # seconds
_KILL_TIMEOUT = 10.0  # seconds
_SET_DEATH_SIGNAL, _SET_SUBREAPER = 1, 36  # of prctl(2)
_CANNOT = 127


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _start(command: list[str]) -> tuple[int, int]:
    """The process, and the error number if the program cannot be started (else 0)."""
    read_end, write_end = os.pipe()  # close-on-exec: closes when the program is started
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            _prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.execvp(command[0], command)
        except OSError as error:
            os.write(write_end, str(error.errno).encode())
        finally:
            os._exit(_CANNOT)
    os.close(write_end)
    with os.fdopen(read_end) as answer:
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
    """All descendant processes of ``ancestor``; empty where there is no /proc."""
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
    while left and time.monotonic() - begun < _KILL_TIMEOUT:  # repeat for processes that were started meanwhile
        below = descendants(os.getpid())
        for signum in (signal.SIGSTOP, signal.SIGKILL):  # stopped processes cannot start others
            for process in below:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(process, signum)
        _, left = _reap(child)
        time.sleep(_POLL_INTERVAL / 10)


def _in_words(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"signal {os.WTERMSIG(status)}"
    return f"exit {os.WEXITSTATUS(status)}"


def main(descriptor: int, command: list[str]) -> None:
    """Run ``command`` until it exits or standard input closes, then kill its remaining descendants."""
    os.set_inheritable(descriptor, False)
    _prctl(_SET_SUBREAPER, 1)
    child, error = _start(command)
    ended = f"cannot {error}" if error else "stopped"
    while not error:
        status, _ = _reap(child)
        if status is not None:
            ended = _in_words(status)
            break
        if select.select([0], [], [], _POLL_INTERVAL)[0]:
            break
    _end_all(child)
    os.write(descriptor, ended.encode())


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
