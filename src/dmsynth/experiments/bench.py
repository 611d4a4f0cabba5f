"""Benchmark of every stage of the pipeline in one run on this machine, so that the figures can be compared."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track as show

from dmsynth.controls import CONTROL_SPACES
from dmsynth.controls.carried import Carried
from dmsynth.controls.coverage import Coverage
from dmsynth.datasets.photo import PoseRange, pose_photo, prepare
from dmsynth.experiments.race import race
from dmsynth.learning.autoencoder import channels_last
from dmsynth.learning.face_file import TrainedFace, save_face
from dmsynth.learning.models import RECIPES
from dmsynth.learning.swapping import OBJECTIVES
from dmsynth.steering import SteerableFace
from dmsynth.support.machine import best_precision, describe_machine
from dmsynth.support.parallel import cores, map_ordered, prefetch
from dmsynth.support.progress import console
from dmsynth.trackers import Tracker
from dmsynth.video import Image, VideoWriter, fit, read_video
from dmsynth.video.portrait import default_portrait

SIZE, LARGE = (320, 240), (640, 480)
SECONDS = 3.0  # each stage is repeated for this long
RACE = (15.0, 30.0, 60.0, 120.0)  # seconds of training
RACE_FRAMES = 1200


def bench(
    tracker: Tracker, folder: Path, race_seconds: tuple[float, ...] = RACE, loaded: bool = False
) -> dict[str, Any]:
    """Benchmark all stages in one run: ``images_per_second`` of each stage, and a training race.

    Args:
        folder: for the race, whose finished parts are kept. The other stages leave no files.
        race_seconds: training times of the race; empty: no race.
        loaded: measure steering and training beside other work, too: ``beside_others``, images a second while a busy
            process runs on each core.
    """
    posed = prepare(default_portrait(), tracker, SIZE, "astronaut", colour=False)
    poses = [PoseRange().draw(0, number) for number in range(64)]
    frames = [posed.pose(*pose.values()) for pose in poses]
    stages: dict[str, Callable[[], int]] = {
        "pose a photo": lambda: _count(map_ordered(lambda pose: posed.pose(*pose.values()), poses)),
        "pose a photo and track it": lambda: _count(
            map_ordered(lambda pose: tracker(posed.pose(*pose.values())), poses)
        ),
        "track": lambda: _count(map_ordered(tracker, frames)),
    }
    with tempfile.TemporaryDirectory() as scratch:
        video = Path(scratch) / "video.mp4"
        _write(video, frames)
        for workers in sorted({1, cores()}):
            stages[f"import a video (read, scale, track), {workers} thread{'s' * (workers > 1)}"] = partial(
                _import, video, tracker, workers
            )
        for size in (SIZE, LARGE):
            named = f"{size[0]}×{size[1]}"
            for model, channels in (("swapwarp", 16), ("rotation", 16), ("rotation", 64)):
                face = untrained(Path(scratch) / "face.safetensors", model, size, channels)
                kind = f"{model}, {channels} base channels, {named}"
                stages[f"steer: {kind}"] = partial(_steer, face)
                stages[f"steer and encode video: {kind}"] = partial(_steer, face, Path(scratch) / "out.mp4")
            pictures = [fit(frame, *size) for frame in frames[:16]]
            stages[f"encode video, {named}"] = partial(_write, Path(scratch) / "out.mp4", pictures)
        for model, channels, batch in (("swapwarp", 16, 8), ("rotation", 16, 4), ("rotation", 64, 4)):
            for precision in ("32-true", "bf16-mixed"):
                name = f"train: {model}, {channels} base channels, batches of {batch}, {precision} (images)"
                stages[name] = _training(model, channels, batch, precision)
        rates = {name: _rate(stage) for name, stage in show(stages.items(), "measuring", console=console)}
        if loaded:
            ours = {name: stage for name, stage in stages.items() if name.startswith(("steer", "train"))}
            with _busy():
                beside = {
                    name: _rate(stage) for name, stage in show(ours.items(), "beside other work", console=console)
                }
    result = {
        "size": list(SIZE),
        "tracker": tracker.name,
        "precision_chosen": best_precision(),
        "images_per_second": rates,
        "machine": describe_machine(),
    }
    if loaded:
        result["beside_others"] = beside
    if race_seconds:
        dataset = pose_photo(folder / "dataset", None, tracker, RACE_FRAMES, SIZE, PoseRange(), seed=0, colour=False)
        result["race"] = race(dataset, folder / "race", tracker, race_seconds)
    return result


@contextmanager
def _busy() -> Iterator[None]:
    """A process that does nothing but compute, for each core; they end with this one, however it ends."""
    compute = f"from dmsynth.support.processes import end_with\nend_with({os.getpid()})\nwhile True: pass"
    with ExitStack() as others:
        for _ in range(cores()):
            other = others.enter_context(subprocess.Popen([sys.executable, "-c", compute]))
            others.callback(other.kill)
        yield


def _rate(stage: Callable[[], int]) -> float:
    """Items a second, after one warm-up call."""
    stage()
    done, begun = 0, time.perf_counter()
    while (seconds := time.perf_counter() - begun) < SECONDS:
        done += stage()
    return round(done / seconds, 2)


def _count(items: Any) -> int:
    return sum(1 for _ in items)


def _steer(face: SteerableFace, video: Path | None = None) -> int:
    values = np.zeros((64, 3))
    frames = face.frames(values)
    return _write(video, prefetch(frames)) if video else _count(frames)


def _import(video: Path, tracker: Tracker, workers: int) -> int:
    frames = read_video(video, grey=True)
    return _count(map_ordered(lambda frame: tracker(fit(frame.image, *SIZE)), frames, workers))


def _write(path: Path, frames: Iterable[Image]) -> int:
    written = 0
    frames = iter(frames)
    first = next(frames)
    height, width = first.shape[:2]
    with VideoWriter(path, width, height, 25) as video:
        for frame in itertools.chain([first], frames):
            video.write(frame)
            written += 1
    return written


def untrained(path: Path, model: str, size: tuple[int, int], channels: int, colours: int = 1) -> SteerableFace:
    """A face with random weights, written to ``path``: speed does not depend on the weights."""
    shape = {"width": size[0], "height": size[1], "channels": colours, "base_channels": channels}
    shape |= {"latent": 8} if RECIPES[model].latent else {"controls": 3}
    network = RECIPES[model].network(**shape)
    coverage = Coverage.of(np.zeros((1, 3), dtype=np.float32))
    source = np.zeros((1, *size[::-1]) if colours == 1 else (1, *size[::-1], colours), dtype=np.uint8)
    code = np.zeros((1, 3), dtype=np.float32)
    rotation = CONTROL_SPACES["rotation"]
    face = TrainedFace(network.eval(), shape, model, rotation, coverage, Carried(), source, code, {})
    save_face(path, face)  # for its size; only files of a training can be loaded
    return SteerableFace(face, path)


def _training(model: str, channels: int, batch: int, precision: str) -> Callable[[], int]:
    """One optimizer step on a batch of images."""
    network = channels_last(RECIPES[model].network(*SIZE, base_channels=channels))
    objective = OBJECTIVES[RECIPES[model].objective]
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-6, fused=True)
    images = torch.rand(batch, 1, SIZE[1], SIZE[0]).contiguous(memory_format=torch.channels_last)
    code = torch.rand(batch, 3)

    def step() -> int:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision != "32-true"):
            losses = objective(network, images, code)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        return len(images)

    return step
