"""How weights begin and are fitted: the thesis's way, and the stable one, our default (docs/stable-training.md)."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Optimization:
    """A start and Adam's settings, as data.

    Attributes:
        even_start: begin with a decoder that keeps the signal's size (``learning.autoencoder.init_decoder``) instead
            of PyTorch's own weights.
        mean_start: begin with images as bright as the dataset's are on average
            (``learning.autoencoder.begin_as_bright``).
        batch: images a step; even, because neighbours are swapped.
        learning_rate: the largest step size.
        warm_up: share of the training during which the step size rises from 0 to the largest.
        hold: share of the training up to which it stays there.
        decay: whether it falls to 0 afterwards, along half a cosine (Loshchilov and Hutter 2017).
        clip: the largest norm of a step's gradient; longer ones are shortened to it.
        average: the result is a running mean of the weights, each step of which keeps this share of what it was
            (Polyak and Juditsky 1992); None: the weights themselves.
    """

    even_start: bool = False
    mean_start: bool = False
    batch: int = 4
    learning_rate: float = 5e-4
    warm_up: float = 0.0
    hold: float = 0.0
    decay: bool = False
    clip: float | None = None
    average: float | None = None

    def step_size(self, done: float) -> float:
        """The learning rate when the share ``done`` (0 to 1) of the training is over."""
        if done < self.warm_up:
            return self.learning_rate * done / self.warm_up
        held = max(self.warm_up, self.hold)
        past = min(max(0.0, done - held) / (1 - held), 1.0)
        return self.learning_rate * (0.5 + 0.5 * math.cos(math.pi * past) if self.decay else 1.0)


OPTIMIZATIONS: dict[str, Optimization] = {
    # 3.1.2, 4.2: batches of four, Adam at a fixed 0.0005. The thesis names no initial weights: PyTorch's, but for one
    "thesis": Optimization(mean_start=True),
    "stable": Optimization(even_start=True, learning_rate=1e-3, warm_up=0.01, decay=True, clip=0.1, average=0.998),
    "warp": Optimization(batch=8, learning_rate=2e-3, warm_up=0.02, hold=0.4, decay=True, clip=1.0, average=0.998),
}
