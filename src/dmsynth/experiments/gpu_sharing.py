"""How many trainings share a GPU best, and how long all of chapter 3 takes at that rate.

Each training is a process, as in a grid. They begin together, so that all of them share the device the whole time.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier, BrokenBarrierError
from typing import Any

import torch

from dmsynth.datasets.dataset import open_dataset
from dmsynth.experiments.grid import in_words
from dmsynth.experiments.position import Study, with_split
from dmsynth.learning.autoencoder import channels_last
from dmsynth.learning.data import prepare
from dmsynth.learning.settings import choose_settings
from dmsynth.learning.swapping import OBJECTIVES
from dmsynth.learning.training import first_network
from dmsynth.support.machine import device_of
from dmsynth.support.parallel import largest_memory
from dmsynth.support.processes import end_with

LATENT = 32  # dimensions of the trainings that are counted; chapter 3 finds no gain beyond
_WARM_UP = 5  # steps: the first ones choose algorithms and allocate
_BETWEEN = 10  # steps between two looks at the clock, each of which waits for the device
_PATIENCE = 180.0  # seconds within which every process must be ready

_barriers: Mapping[int, Barrier] = {}  # by number of trainings; of a worker process, which inherits them at its start


@dataclass(frozen=True)
class Stepping:
    """A training of which a few steps are timed: SPE of a ``study``'s size, on the position dataset at ``dataset``."""

    dataset: Path
    study: Study
    latent: int
    seconds: float
    seed: int


class Sharing:
    """Worker processes that train at once, at most ``max(counts)`` of them."""

    def __init__(self, counts: tuple[int, ...]) -> None:
        context = multiprocessing.get_context("spawn")
        self._barriers = {count: context.Barrier(count) for count in counts}
        self.pool = ProcessPoolExecutor(max(counts), context, _begin_worker, (os.getpid(), self._barriers))

    def measure(self, count: int, stepping: Stepping) -> dict[str, Any]:
        """``count`` equal trainings at once: ``steps_per_second`` of all together, ``memory_gib`` (of the whole device,
        or without a GPU of the processes) at its peak; or ``why`` there is no figure, such as too little memory."""
        row: dict[str, Any] = {"at_once": count, "latent": stepping.latent}
        futures = [self.pool.submit(_steps, count, stepping) for _ in range(count)]
        errors = [error for future in futures if (error := future.exception())]
        if errors:
            self._barriers[count].reset()
            own = [error for error in errors if not isinstance(error, BrokenBarrierError)]
            return row | {"why": in_words((own or errors)[0]).splitlines()[0]}
        rates, used = zip(*(future.result() for future in futures), strict=True)
        memory = max(used) if torch.cuda.is_available() else sum(used)
        return row | {"steps_per_second": round(sum(rates), 2), "memory_gib": round(memory, 2)}


def _begin_worker(parent: int, barriers: Mapping[int, Barrier]) -> None:
    global _barriers
    end_with(parent)
    torch.set_num_threads(1)
    _barriers = barriers


def _steps(count: int, stepping: Stepping) -> tuple[float, float]:
    """Steps a second of one of ``count`` trainings, and GiB of memory in use then."""
    barrier = _barriers[count]
    try:
        return _timed(barrier, stepping)
    except Exception:
        barrier.abort()  # the others wait for this one
        raise
    finally:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _timed(barrier: Barrier, stepping: Stepping) -> tuple[float, float]:
    study = stepping.study
    dataset = with_split(open_dataset(stepping.dataset), study.validation, stepping.seed)
    settings = choose_settings(dataset, "position-spe", {
        "optimization": study.optimization, "precision": "32-true", "seed": stepping.seed,
        "latent": stepping.latent, "base_channels": study.base_channels,
    })  # fmt: skip
    data, device = prepare(dataset, settings), device_of("auto")
    torch.manual_seed(stepping.seed)
    network = channels_last(first_network(data, settings)).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.optimization.learning_rate, fused=True)
    objective, done = OBJECTIVES[settings.recipe.objective], 0

    def steps(number: int) -> None:
        nonlocal done
        for _ in range(number):
            images, codes = (part.to(device) for part in data.training.batches(done))
            losses = objective(network, images, codes)
            optimizer.zero_grad()
            torch.stack(list(losses.values())).sum().backward()
            optimizer.step()
            done += 1
        if device == "cuda":
            torch.cuda.synchronize()

    steps(_WARM_UP)
    barrier.wait(_PATIENCE)
    begun = time.perf_counter()
    while time.perf_counter() - begun < stepping.seconds:
        steps(_BETWEEN)
    seconds = time.perf_counter() - begun
    barrier.wait(_PATIENCE)  # nobody gives memory back before all have looked
    used = _memory()
    barrier.wait(_PATIENCE)
    return (done - _WARM_UP) / seconds, used


def _memory() -> float:
    """GiB: what is in use on the GPU, by all processes; without one, this process's peak."""
    if not torch.cuda.is_available():
        return largest_memory() / 2**10
    free, total = torch.cuda.mem_get_info()
    return (total - free) / 2**30


def best_count(rows: list[dict[str, Any]]) -> int:
    """How many trainings at once made the most steps a second in all."""
    counted = [row for row in rows if "steps_per_second" in row]
    return int(max(counted, key=lambda row: row["steps_per_second"])["at_once"]) if counted else 1


def steps_of(study: Study) -> dict[int, int]:
    """By latent size: how many steps all trainings of a study take together."""
    batch = 4  # 3.1.2
    per_epoch = (study.frames - study.validation) // batch
    steps = dict.fromkeys(study.latents, 0)
    for cell in study.cells():
        steps[cell.latent] += study.epochs[cell.objective] * per_epoch
    return steps


def whole_hours(study: Study, rows: list[dict[str, Any]]) -> float | None:
    """Hours that all steps of a study take at the measured rates, by latent size; None where one was not measured.

    Every step counts as one of SPE's. Those of position only, which draw nothing, are shorter.
    """
    rates: dict[int, float] = {}
    for row in rows:
        rates[row["latent"]] = max(rates.get(row["latent"], 0.0), row.get("steps_per_second", 0.0))
    rates = {latent: rate for latent, rate in rates.items() if rate}
    steps = steps_of(study)
    if not set(steps) <= set(rates):
        return None
    return sum(number / rates[latent] for latent, number in steps.items()) / 3600
