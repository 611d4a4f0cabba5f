"""How large a plan comes out, and how long it takes: by a short sample that is drawn."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from dmsynth.generation.clip import Studio, draw
from dmsynth.generation.design import Design
from dmsynth.generation.plan import Order

_FRAMES = 45  # of a clip in the sample
_CLIPS = 8  # each of another camera
_LOOKED_AT = 400  # clips among which they are


@dataclass(frozen=True)
class Estimate:
    """What a plan comes to.

    Attributes:
        clips, frames: how many.
        bytes_a_frame, frames_a_second: of one core, of the cameras by weight.
    """

    clips: int
    frames: int
    bytes_a_frame: float
    frames_a_second: float

    @property
    def gigabytes(self) -> float:
        return self.frames * self.bytes_a_frame / 1e9

    def hours(self, workers: int) -> float:
        return self.frames / self.frames_a_second / workers / 3600


def estimate(order: Order) -> Estimate:
    """Draw the beginnings of a few clips, of each camera if there are not too many, and reckon from them."""
    design = Design(order)
    clips = design.clips
    by_camera: dict[int, int] = {}
    for number in range(min(clips, _LOOKED_AT)):
        if len(by_camera) < _CLIPS:
            by_camera.setdefault(design.cell(number)[0].camera, number)
    studio = Studio(order, most=_FRAMES)
    frames = dict.fromkeys(range(len(order.cameras)), 0)
    for cell, count in design.counts(clips):
        frames[cell.camera] += count * design.frames_of(cell)
    measured: dict[int, tuple[float, float]] = {}  # by camera: seconds and bytes a frame
    with TemporaryDirectory() as folder:
        for camera, number in by_camera.items():
            studio.shot(number)  # opens the face
            begun = time.perf_counter()
            row = draw(studio, number, Path(folder))
            seconds = time.perf_counter() - begun
            size = (Path(folder) / f"{row.key}.part").stat().st_size
            measured[camera] = (seconds / row.frames, size / row.frames)
    known = sum(frames[camera] for camera in measured)
    second, weight = (sum(frames[c] * measured[c][part] for c in measured) / known for part in (0, 1))
    return Estimate(clips, sum(frames.values()), weight, 1 / second)
