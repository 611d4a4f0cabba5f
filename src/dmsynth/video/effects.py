"""Camera effects on rendered frames, by name. To add one: a function and an entry of ``EFFECTS``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from dmsynth.support.errors import DmsynthError
from dmsynth.video import Image


@dataclass(frozen=True)
class Effect:
    """One effect.

    Attributes:
        apply: frame (h, w) or (h, w, 3) uint8, strength, random generator → frame.
        unit: unit of the strength, for messages.
        strength: default.
        most: largest strength; the smallest is 0.
    """

    apply: Callable[[Image, float, np.random.Generator], Image]
    unit: str
    strength: float
    most: float


def _exposure(image: Image, factor: float, _: np.random.Generator) -> Image:
    return np.clip(image * np.float32(factor), 0, 255).round().astype(np.uint8)


def _blur(image: Image, sigma: float, _: np.random.Generator) -> Image:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8) if sigma else image


def _noise(image: Image, deviation: float, random: np.random.Generator) -> Image:
    noise = random.standard_normal(image.shape, dtype=np.float32) * np.float32(deviation)
    return np.clip(image + noise, 0, 255).round().astype(np.uint8)


EFFECTS: dict[str, Effect] = {
    "exposure": Effect(_exposure, "times as bright", 0.4, 4.0),
    "blur": Effect(_blur, "pixels, standard deviation of a Gaussian", 1.5, 20.0),
    "noise": Effect(_noise, "grey levels of 255, standard deviation in each pixel", 8.0, 128.0),
}


def parse_effects(texts: Sequence[str]) -> tuple[tuple[str, float], ...]:
    """``NAME`` or ``NAME=STRENGTH`` as names and strengths. ``DmsynthError`` for any other, or out of range."""
    parsed = []
    for text in texts:
        name, equals, number = text.partition("=")
        effect = EFFECTS.get(name)
        if effect is None:
            raise DmsynthError(
                f"--effect {text}: no such effect; choose {', '.join(EFFECTS)}, with =STRENGTH or without"
            )
        try:
            strength = float(number) if equals else effect.strength
        except ValueError:
            strength = -1.0
        if not 0 <= strength <= effect.most:
            raise DmsynthError(f"--effect {text}: give a strength from 0 to {effect.most:g} ({effect.unit})")
        parsed.append((name, strength))
    return tuple(parsed)


def with_effects(frames: Iterable[Image], effects: Sequence[tuple[str, float]], seed: int = 0) -> Iterator[Image]:
    """Apply effects to frames, in order. Equal seeds give equal frames."""
    for number, image in enumerate(frames):
        random = np.random.default_rng((seed, number))  # the noise of a frame depends on its number only
        for name, strength in effects:
            image = EFFECTS[name].apply(image, strength, random)
        yield image
