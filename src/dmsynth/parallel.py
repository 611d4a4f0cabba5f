"""Ways to use several cores on frames: threads, in order, with a short queue."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_ordered(function: Callable[[T], R], items: Iterable[T], workers: int | None = None) -> Iterator[R]:
    """Like ``map``, on threads, results in order; at most a few items a thread wait, so memory stays bounded.

    Threads suffice because OpenCV, MediaPipe, FFmpeg and PyTorch release Python's lock while they compute.
    """
    workers = workers or cores()
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(workers) as pool:
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


def ahead(items: Iterable[T], most: int = 16) -> Generator[T, None, None]:
    """The same items, made in a second thread while the first uses them; at most ``most`` wait.

    An exception in the making rises here, after the items before it.
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
        while thread.is_alive():  # it may wait for room
            with contextlib.suppress(queue.Empty):
                made.get(timeout=0.05)
        thread.join()
