"""A grid of independent jobs (trainings, validations), on this machine or on a Ray cluster, with equal results.

A job is data: a name, a cost and arguments. The work is a module-level function, called as ``work(folder, arguments)``
in a single-threaded process; as its last step it writes ``result.json`` to the folder. A job with a result is finished
and not run again.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from dmsynth.support.errors import DmsynthError, explain_os_error
from dmsynth.support.parallel import cores
from dmsynth.support.processes import end_with
from dmsynth.support.progress import ENVIRONMENT, console, report

Work = Callable[[Path, dict[str, Any]], None]
_ON_A_GPU = 8  # trainings at once on a GPU
_ELSEWHERE = 3  # times that a job is begun again on another machine of a cluster when its own is lost
_TICK = 1.0  # seconds between checks of the jobs
_SAY_EVERY = 60.0  # seconds between lines of progress if the output is no terminal


@dataclass(frozen=True)
class Job:
    """One job of a grid. ``cost`` is relative to the other jobs'; ``arguments`` are JSON-like."""

    name: str
    cost: float
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Engine:
    """Where jobs run: ``local`` processes, or ``ray`` at ``address`` (default: a Ray instance on this machine).

    ``workers`` jobs run at once on this machine; by default one per core, or eight on a GPU, which batches of four do
    not saturate. A cluster runs as many as fit: each job takes one core, and 1/``workers`` of a GPU. All machines of a
    cluster must share the disk with the grid's folder.
    """

    name: str = "local"
    workers: int | None = None
    address: str | None = None

    def __post_init__(self) -> None:
        if self.name not in _ENGINES:
            raise DmsynthError(f"--engine {self.name}: there is {' and '.join(_ENGINES)}")
        if self.address and self.name != "ray":
            raise DmsynthError("--address is a Ray cluster's; add --engine ray")

    @property
    def at_once(self) -> int:
        import torch

        return self.workers or (_ON_A_GPU if torch.cuda.is_available() else cores())


def is_finished(out: Path, job: Job) -> bool:
    return (out / job.name / "result.json").is_file()


def run_grid(
    title: str,
    work: Work,
    jobs: list[Job],
    out: Path,
    engine: Engine,
    share: Callable[[Path, Job], float],
    things: str = "trainings",
) -> None:
    """Run the unfinished jobs, the most expensive first. A failed job does not stop the others, but one whose process
    is killed (for example when out of memory) does.

    Args:
        title: for the progress line.
        share: finished share (0 to 1) of an unfinished job, read from its folder.
        things: name of the jobs in messages.

    Raises:
        DmsynthError: a job failed; raised after all others have finished, which are kept.
    """
    open_jobs = sorted((job for job in jobs if not is_finished(out, job)), key=lambda job: -job.cost)
    if not open_jobs:
        return
    out.mkdir(parents=True, exist_ok=True)
    finished = {job.name for job in jobs} - {job.name for job in open_jobs}
    total = sum(job.cost for job in jobs)

    def done() -> float:
        parts = (job.cost * (1.0 if job.name in finished else share(out / job.name, job)) for job in jobs)
        return sum(parts) / total

    with _progress(title, len(jobs), things, done) as look:
        failed: list[str] = []
        for ended in _ENGINES[engine.name](work, open_jobs, out, engine):
            if ended is None:
                pass
            elif ended.error is None:
                finished.add(ended.name)
            else:
                failed.append(f"{ended.name}: {in_words(ended.error)}")
                console.print(f"failed: {failed[-1]}", style="red")
            look(len(finished))
    if failed:
        raise DmsynthError(
            f"{len(failed)} of {len(jobs)} {things} failed ({failed[0]}); the others are kept: mend the cause and run "
            "the same command again"
        )


@contextlib.contextmanager
def _progress(title: str, jobs: int, things: str, done: Callable[[], float]) -> Iterator[Callable[[int], None]]:
    """A bar for the whole grid, with the remaining time at this run's rate."""
    columns = (TextColumn(title), BarColumn(), TextColumn("{task.percentage:.1f} %"), TimeElapsedColumn())
    first, begun = done(), time.monotonic()
    said = begun
    with Progress(*columns, TextColumn("{task.description}"), console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=1.0)

        def look(finished: int) -> None:
            nonlocal said
            part, seconds = done(), time.monotonic() - begun
            text = f"{finished} of {jobs} {things}"
            if part <= first:
                report(text, round(100 * part, 1), 100, 0.0, None)
            else:  # a resumed training first repeats the steps after its last checkpoint
                left = timedelta(seconds=round(seconds * (1 - part) / (part - first)))
                report(text, round(100 * part, 1), 100, (part - first) * jobs / seconds, left.total_seconds())
                text += f", {3600 * (part - first) * jobs / seconds:.0f}/h, left {left}"
            bar.update(task, completed=part, description=text)
            if not console.is_terminal and (time.monotonic() - said > _SAY_EVERY or finished == jobs):
                said = time.monotonic()
                console.print(f"{title}: {100 * part:.1f} %, {text}")

        look(0)
        yield look


@dataclass(frozen=True)
class _Ended:
    """A finished or failed job."""

    name: str
    error: BaseException | None


def in_words(error: BaseException) -> str:
    """What a job failed of, in one line."""
    if isinstance(error, DmsynthError):
        return str(error)
    if isinstance(error, OSError):  # such as a full disk
        return explain_os_error(error)
    return f"{type(error).__name__}: {error}"


# An engine yields every job as it ends, and None regularly while it waits.


def _local(work: Work, jobs: list[Job], out: Path, engine: Engine) -> Iterator[_Ended | None]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(engine.at_once, context, _begin_worker, (os.getpid(),)) as pool:
        names = {pool.submit(work, out / job.name, job.arguments): job.name for job in jobs}
        workers = list((pool._processes or {}).values())
        try:
            waiting = set(names)
            while waiting:
                done, waiting = wait(waiting, timeout=_TICK, return_when=FIRST_COMPLETED)
                for future in done:
                    if isinstance(future.exception(), BrokenProcessPool):
                        raise DmsynthError(
                            f"{out}: a job's process was killed, most likely for lack of memory; run the same "
                            "command again with fewer --workers to go on"
                        )
                    yield _Ended(names[future], future.exception())
                yield None
        except BaseException:  # Ctrl-C: cancel the rest; a killed training leaves no incomplete files
            pool.shutdown(wait=False, cancel_futures=True)
            for process in workers:
                process.kill()
            raise


def _ray(work: Work, jobs: list[Job], out: Path, engine: Engine) -> Iterator[_Ended | None]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ModuleNotFoundError:
        raise DmsynthError("--engine ray: Ray is not installed; pip install ray") from None
    if engine.address and engine.address != "auto":
        _check_reachable(engine.address)
    own: dict[str, Any] = {"num_cpus": engine.at_once, "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    try:
        ray.init(
            engine.address or "local", log_to_driver=False, configure_logging=False, **({} if engine.address else own)
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise DmsynthError(f"--address {engine.address}: no Ray cluster answers there ({error})") from None
    try:
        part = 1 / (engine.workers or _ON_A_GPU) if ray.cluster_resources().get("GPU") else 0
        remote = ray.remote(num_cpus=1, num_gpus=part, max_retries=_ELSEWHERE)(_in_one_thread)
        names = {remote.remote(work, out.resolve() / job.name, job.arguments): job.name for job in jobs}
        waiting = list(names)
        while waiting:
            done, waiting = ray.wait(waiting, num_returns=1, timeout=_TICK)
            for reference in done:
                try:
                    ray.get(reference)
                    yield _Ended(names[reference], None)
                except ray.exceptions.RayTaskError as error:
                    yield _Ended(names[reference], error.cause or error)
                except ray.exceptions.RayError as error:  # the worker is gone
                    yield _Ended(names[reference], error)
            yield None
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Raise ``DmsynthError`` at once if nothing listens at HOST:PORT: Ray itself would retry for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, ValueError) as error:
        raise DmsynthError(f"--address {address}: no Ray cluster answers there ({error}); give HOST:PORT") from None


_ENGINES: dict[str, Callable[[Work, list[Job], Path, Engine], Iterator[_Ended | None]]] = {
    "local": _local,
    "ray": _ray,
}


def _begin_worker(parent: int) -> None:
    """Make this process single-threaded, and end it together with its parent."""
    end_with(parent)
    _single_thread()


def _in_one_thread(work: Work, folder: Path, arguments: dict[str, Any]) -> None:
    end_with(os.getppid())  # the parent is Ray's process on this machine, which ends with the cluster
    _single_thread()
    work(folder, arguments)


def _single_thread() -> None:
    import cv2
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    threadpool_limits(1, "blas")  # sums in another order are other sums: results must not depend on the cores
    os.environ.pop(ENVIRONMENT, None)  # only the grid's progress is reported, not that of single jobs
