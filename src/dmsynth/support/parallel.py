"""Use several cores on frames: ordered map on threads, a prefetch thread, a separate process."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TypeVar

from dmsynth.support.errors import DmsynthError
from dmsynth.support.processes import end_with

T = TypeVar("T")
R = TypeVar("R")


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_ordered(
    function: Callable[[T], R],
    items: Iterable[T],
    workers: int | None = None,
    initializer: Callable[[], object] | None = None,
) -> Iterator[R]:
    """Like ``map``, on threads, results in order; only a few items per thread are queued, so memory stays bounded.

    Threads suffice because OpenCV, MediaPipe, FFmpeg and PyTorch release the GIL while they compute. The items are
    taken in the caller's thread. ``initializer`` is called once in each new thread.
    """
    workers = workers or cores()
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(workers, initializer=initializer) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > 3 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def prefetch(items: Iterable[T], most: int = 16) -> Generator[T, None, None]:
    """Prefetch: the same items, produced in a second thread while the first consumes them; at most ``most`` are queued.

    An exception of the producer is raised here, after the items before it.
    """
    made: queue.Queue[tuple[T] | BaseException | None] = queue.Queue(most)
    enough = threading.Event()

    def make() -> None:
        last: BaseException | None = None
        try:
            for item in items:
                made.put((item,))
                if enough.is_set():
                    break
        except BaseException as error:
            last = error
        finally:
            if isinstance(items, Generator):  # in the thread that ran it
                items.close()
        made.put(last)

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    try:
        while (item := made.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item[0]
    finally:
        enough.set()
        while thread.is_alive():  # it may wait for a free place in the queue
            with contextlib.suppress(queue.Empty):
                made.get(timeout=0.05)
        thread.join()


def in_own_process(function: Callable[[T], R], argument: T) -> tuple[R, float]:
    """``function(argument)`` in a separate process, and that process's peak resident memory in MiB.

    The process ends with this one. Function, argument and result must be picklable. Its exceptions are raised here;
    ``DmsynthError`` if it was killed.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, end_with, (os.getpid(),)) as pool:
        try:
            result = pool.submit(function, argument).result()
            return result, pool.submit(largest_memory).result()
        except BrokenProcessPool:
            raise DmsynthError("a process was killed, most likely for lack of memory; free some and go on") from None


def largest_memory() -> float:
    """This process's peak resident memory in MiB."""
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage counts the parent's memory, too
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
