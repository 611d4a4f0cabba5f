"""Training race on the same data for the same time: the thesis's rotation model against SwapWarp."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from dmsynth.datasets.dataset import Dataset
from dmsynth.evaluation import evaluate
from dmsynth.learning.models import RECIPES
from dmsynth.learning.optimization import OPTIMIZATIONS
from dmsynth.learning.training import train
from dmsynth.steering import load_face
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import read_json, write_json
from dmsynth.trackers import Tracker

GOAL = 3.0  # degrees, on every axis: the time to reach it is compared
LONGER = 2.5  # times the longest race: additional time for the thesis's model to reach the goal

RUNNERS: dict[str, dict[str, Any]] = {
    # exactly as published (4.2): 64 base channels, batches of 4, Adam at a fixed 5e-4
    "thesis": {"model": "rotation", "optimization": "thesis", "precision": "32-true"},
    "swapwarp": {"model": "swapwarp"},
}


def race(dataset: Dataset, out: Path, tracker: Tracker, seconds: tuple[float, ...], seed: int = 0) -> dict[str, Any]:
    """Train each model for each of the ``seconds`` (the thesis's also for ``LONGER`` times the largest), and evaluate
    it on the held-out frames from one source frame. Finished parts in ``out`` are kept.

    A step size schedule that decays to zero depends on the training time: such a model is trained anew for every time.
    With a fixed step size the training continues from one time to the next.

    Returns:
        By name: ``runs``, one for each time (seconds, steps, ``mae``, lost, frames, psnr, sharpness), and
        ``seconds_to_goal``: the shortest time after which every axis is within ``GOAL`` and at most one frame in fifty
        is lost, or None.
    """
    result: dict[str, Any] = {}
    for name, how in RUNNERS.items():
        goes_on = not OPTIMIZATIONS[how.get("optimization") or RECIPES[how["model"]].optimization].decay
        runs = []
        for duration in [*sorted(seconds), *([LONGER * max(seconds)] if goes_on else [])]:
            folder = out / (name if goes_on else f"{name}-{duration:g}s")
            note = folder / f"judged-{duration:g}s.json"
            of = {"dataset_sha256": dataset.sha256, "tracker": tracker.name, "seed": seed, "how": how}
            if not note.is_file():
                path = train(dataset, folder, max_time=timedelta(seconds=duration), seed=seed, quiet=True, **how)
                face = load_face(path).from_one_source()
                metrics = evaluate(face, dataset, tracker).metrics
                kept = ("mae", "lost", "frames", "psnr", "sharpness", "tracker_floor")
                judged = {"of": of, "seconds": duration, "steps": face.trained.about["steps"]}
                write_json(note, judged | {key: metrics[key] for key in kept})
            runs.append(read_json(note))
            if runs[-1]["of"] != of:
                raise DmsynthError(f"{folder}: holds a run of another race; give another --out or remove it")
        there = [run["seconds"] for run in runs if _reached_goal(run)]
        result[name] = {"runs": runs, "seconds_to_goal": min(there, default=None)}
    return result


def _reached_goal(run: dict[str, Any]) -> bool:
    errors = run["mae"].values()
    return run["lost"] * 50 <= run["frames"] and all(error is not None and error <= GOAL for error in errors)
