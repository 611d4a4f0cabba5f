"""Speed of LivePortrait's networks against our models: same machine, same output size, one run."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track as show
from torch import Tensor

from dmsynth.experiments.bench import SECONDS, untrained
from dmsynth.steering import SteerableFace
from dmsynth.steering.liveportrait import CROP, SPACE, Appearance, Steered
from dmsynth.steering.liveportrait_checkout import open_networks, weights_of
from dmsynth.support.machine import describe_machine
from dmsynth.support.progress import console
from dmsynth.trackers import Tracker
from dmsynth.video import Image
from dmsynth.video.portrait import default_portrait

_SIZE = (CROP, CROP)  # LivePortrait's output
_REPEATS = 3  # at least
_AT_ONCE = 8  # batch of our models; LivePortrait draws one frame at a time


def bench_liveportrait(folder: Path, tracker: Tracker) -> dict[str, Any]:
    """Milliseconds a frame of LivePortrait, SwapWarp and the rotation model, and the ratio to SwapWarp.

    A steered frame is stitched (S), warped (W), drawn (G) and pasted back; a driven one passes M as well. If the
    checkout has no weights they are random, which does not affect speed, and ``weights`` says so.

    Raises:
        DmsynthError: no checkout, or weights that do not fit.
    """
    random = not all(path.is_file() for path in weights_of(folder).values())
    networks = open_networks(folder, random_weights=random)
    stages: dict[str, tuple[Callable[[], object], int]] = {}
    with tempfile.TemporaryDirectory() as scratch, torch.inference_mode():
        for model, channels in (("swapwarp", 16), ("rotation", 16), ("rotation", 64)):
            face = untrained(Path(scratch) / "face.safetensors", model, _SIZE, channels, colours=3)
            stages[f"{model}, {channels} base channels, float32"] = partial(_ours, face), _AT_ONCE
        for precision, named in (("32-true", "float32"), ("bf16-mixed", "bfloat16")):
            network = Steered(networks, tracker, "astronaut", precision)
            portrait = torch.tensor(default_portrait()).permute(2, 0, 1)[None].float() / 255
            source = network.encode(portrait)
            code = torch.from_numpy(SPACE.encode(np.zeros((1, 3))))
            stages[f"LivePortrait steered, {named}"] = partial(network.steer, source, code), 1
            stages[f"LivePortrait driven, {named}"] = partial(_driven, network, source), 1
        milliseconds = {
            name: 1000 * _seconds(*stage) for name, stage in show(stages.items(), "measuring", console=console)
        }
    ours = next(value for name, value in milliseconds.items() if name.startswith("swapwarp"))
    return {
        "size": list(_SIZE),
        "milliseconds": {name: round(value, 2) for name, value in milliseconds.items()},
        "times_swapwarp": {name: round(value / ours, 2) for name, value in milliseconds.items()},
        "weights": "random" if random else "its own",
        "liveportrait_parameters": networks.parameters,
        "machine": describe_machine(),
    }


def _ours(face: SteerableFace) -> list[Image]:
    return list(face.frames(np.zeros((_AT_ONCE, 3))))


def _driven(network: Steered, source: Appearance) -> Tensor:
    """Draw a frame driven by the source frame itself."""
    motion = network.motion(source.crop.cut(source.frame))
    return network.picture(source, motion.after(source.motion, source.motion).keypoints())


def _seconds(draw: Callable[[], object], frames: int) -> float:
    """Median seconds a frame of a call that draws ``frames`` of them, after one warm-up call."""
    draw()
    each: list[float] = []
    begun = time.perf_counter()
    while len(each) < _REPEATS or time.perf_counter() - begun < SECONDS:
        start = time.perf_counter()
        draw()
        each.append((time.perf_counter() - start) / frames)
    return statistics.median(each)
