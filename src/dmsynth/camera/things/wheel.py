"""The rim of the steering wheel, between the camera and the face: it stands still in the picture."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from dmsynth.camera.things.canvas import Scene
from dmsynth.camera.things.flesh import looked_up
from dmsynth.camera.things.head import Bytes

# In heights of the picture.
_TOP = 0.66  # where the rim's upper edge is in the middle
_RADIUS, _THICK = 0.95, 0.085
_OUT_OF_FOCUS = 0.006  # standard deviation
_ALBEDO, _INFRARED_ALBEDO = np.array([0.075, 0.072, 0.07]), np.full(3, 0.22)
_SHINE = 0.35  # of a highlight, times the albedo's light
_BESIDE = np.linspace(-1.0, 1.0, 256)  # across the rim: its lower edge, its upper one


@dataclass(frozen=True)
class Wheel:
    """A rim of leather, out of focus."""

    comes: float = 0.0

    def draw(self, scene: Scene, presence: float) -> None:
        height, width = scene.image.shape[:2]
        first, beside, alpha = _rim(width, height)
        towards = scene.light.towards
        upright = np.sqrt(1.0 - _BESIDE**2)
        lambert = np.maximum(towards[1] * _BESIDE + towards[2] * upright, 0.0)
        bright = 0.4 + 0.6 * lambert + _SHINE * lambert**12
        albedo = _INFRARED_ALBEDO if scene.infrared else _ALBEDO
        colours = looked_up(beside, np.clip(255.0 * scene.light.strength * bright[:, None] * albedo, 0.0, 255.0))
        scene.lay((0, first, width, height), cv2.multiply(colours, cv2.merge([alpha] * 3), scale=1 / 255), alpha)


@lru_cache(maxsize=2)
def _rim(width: int, height: int) -> tuple[int, Bytes, Bytes]:
    """The first row of a frame that it is in, and from there (h, w): which of ``_BESIDE`` it shows, and its opacity."""
    first = int((_TOP - 4 * _OUT_OF_FOCUS) * height)
    x = (np.arange(width)[None] - width / 2) / height
    y = np.arange(first, height)[:, None] / height - _TOP - _RADIUS
    across = (_RADIUS - np.hypot(x, y)) / _THICK
    edge = height * _THICK / max(1.0, 2 * _OUT_OF_FOCUS * height)
    alpha = np.clip(across * edge + 0.5, 0.0, 1.0) * np.clip((1.0 - across) * edge + 0.5, 0.0, 1.0)
    beside = 255 - np.clip(255.0 * across, 0.0, 255.0).round()
    return first, beside.astype(np.uint8), (255.0 * alpha).round().astype(np.uint8)
