"""Speed on this machine, each stage of the pipeline in one run, so that the figures can be compared."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track as show

from dmsynth.controls import CONTROL_SPACES
from dmsynth.coverage import Coverage
from dmsynth.machine import best_precision, describe_machine
from dmsynth.models import RECIPES
from dmsynth.models.autoencoder import channels_last
from dmsynth.models.face_file import TrainedFace, save_face
from dmsynth.optimization import OPTIMIZATIONS
from dmsynth.parallel import map_ordered
from dmsynth.progress import console
from dmsynth.sources.photo import PoseRange, default_portrait, prepare
from dmsynth.steering import SteerableFace, load_face
from dmsynth.swapping import swap_position_encoding
from dmsynth.trackers import Tracker
from dmsynth.video import Image, VideoWriter, fit, read_video

SIZE = (320, 240)
SECONDS = 3.0  # each stage is repeated for this long


def bench(tracker: Tracker) -> dict[str, Any]:
    """Rates per second at 320×240: posing, tracking, import (decode, scale, track), training and steering."""
    posed = prepare(default_portrait(), tracker, SIZE, "astronaut", colour=False)
    poses = [PoseRange().draw(0, number) for number in range(64)]
    frames = [posed.pose(**pose) for pose in poses]
    stages: dict[str, Callable[[], int]] = {
        "pose a photo": lambda: _count(map_ordered(lambda pose: posed.pose(**pose), poses)),
        "pose a photo and track it": lambda: _count(map_ordered(lambda pose: tracker(posed.pose(**pose)), poses)),
        "track": lambda: _count(map_ordered(tracker, frames)),
    }
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "video.mp4"
        _write(video, frames)
        stages["read a video, scale and track it"] = lambda: _count(
            map_ordered(lambda frame: tracker(fit(frame.image, *SIZE)), read_video(video, grey=True))
        )
        for channels in (16, 32, 64):
            face = _untrained(Path(folder) / "face.safetensors", channels)
            stages[f"steer, {channels} base channels"] = partial(_steer, face)
            stages[f"steer and encode, {channels} base channels"] = partial(_steer, face, Path(folder) / "out.mp4")
        for channels in (16, 32, 64):
            for precision in ("32-true", "bf16-mixed"):
                stages[f"train on batches of 4, {channels} base channels, {precision} (images)"] = _training(
                    channels, precision
                )
        rates = {name: _rate(stage) for name, stage in show(stages.items(), "measuring", console=console)}
    return {
        "size": list(SIZE),
        "tracker": tracker.name,
        "precision_chosen": best_precision(),
        "images_per_second": rates,
        "machine": describe_machine(),
    }


def _rate(stage: Callable[[], int]) -> float:
    """Things a second, after one call to warm up."""
    stage()
    done, begun = 0, time.perf_counter()
    while (seconds := time.perf_counter() - begun) < SECONDS:
        done += stage()
    return round(done / seconds, 2)


def _count(items: Any) -> int:
    return sum(1 for _ in items)


def _steer(face: SteerableFace, video: Path | None = None) -> int:
    frames = face.frames(np.zeros((16, 3)))
    return _write(video, frames) if video else _count(frames)


def _write(path: Path, frames: Iterable[Image]) -> int:
    written = 0
    with VideoWriter(path, *SIZE, 25) as video:
        for frame in frames:
            video.write(frame)
            written += 1
    return written


def _untrained(path: Path, channels: int) -> SteerableFace:
    """A face with random weights: speed does not depend on what was learned."""
    shape = {"width": SIZE[0], "height": SIZE[1], "channels": 1, "latent": 8, "base_channels": channels}
    network = RECIPES["rotation"].network(**shape)
    coverage = Coverage(np.zeros((1, 3), dtype=np.float32), 1.0)
    source = np.zeros(SIZE[::-1], dtype=np.uint8)
    save_face(path, TrainedFace(network, shape, "rotation", CONTROL_SPACES["rotation"], coverage, source, {}))
    return load_face(path)


def _training(channels: int, precision: str) -> Callable[[], int]:
    """One optimizer step of the rotation model on a batch of four."""
    network = channels_last(RECIPES["rotation"].network(*SIZE, base_channels=channels))
    optimizer = torch.optim.Adam(network.parameters(), lr=OPTIMIZATIONS["thesis"].learning_rate)
    images = torch.rand(4, 1, SIZE[1], SIZE[0]).contiguous(memory_format=torch.channels_last)
    code = torch.rand(4, 3)

    def step() -> int:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision != "32-true"):
            losses = swap_position_encoding(network, images, code)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        return len(images)

    return step
