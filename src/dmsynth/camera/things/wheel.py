"""The rim of the steering wheel, between the camera and the face: it stands still in the picture."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from dmsynth.camera.things.canvas import Scene

# In heights of the picture.
_TOP = 0.7  # where the rim's upper edge is in the middle
_RADIUS, _THICK = 0.95, 0.085
_OUT_OF_FOCUS = 0.006  # standard deviation
_ALBEDO, _INFRARED_ALBEDO = np.array([0.075, 0.072, 0.07]), np.full(3, 0.22)
_SHINE = 0.35  # of a highlight, times the albedo's light


@dataclass(frozen=True)
class Wheel:
    """A rim of leather, out of focus."""

    comes: float = 0.0

    def draw(self, scene: Scene, presence: float) -> None:
        height, width = scene.image.shape[:2]
        first = int((_TOP - 4 * _OUT_OF_FOCUS) * height)
        x = (np.arange(width, dtype=np.float32)[None] - np.float32(width / 2)) / np.float32(height)
        y = np.arange(first, height, dtype=np.float32)[:, None] / np.float32(height) - np.float32(_TOP + _RADIUS)
        across = (np.float32(_RADIUS) - cv2.magnitude(*np.broadcast_arrays(x, y))) / np.float32(_THICK)
        edge = np.float32(height * _THICK / max(1.0, 2 * _OUT_OF_FOCUS * height))
        alpha = np.clip(across * edge + 0.5, 0.0, 1.0) * np.clip((1.0 - across) * edge + 0.5, 0.0, 1.0)
        beside = np.clip(1.0 - 2.0 * across, -1.0, 1.0)  # 1 at its upper edge, -1 at the lower one
        towards = scene.light.towards.astype(np.float32)
        upright = cv2.sqrt(1.0 - beside * beside)
        lambert = np.maximum(towards[1] * beside + towards[2] * upright, 0.0)
        bright = (0.4 + 0.6 * lambert) + np.float32(_SHINE) * lambert**12
        albedo = _INFRARED_ALBEDO if scene.infrared else _ALBEDO
        colour = (255.0 * scene.light.strength * albedo).astype(np.float32)
        colours = cv2.merge([cv2.convertScaleAbs(bright * alpha * level) for level in colour])
        scene.lay((0, first, width, height), colours, cv2.convertScaleAbs(255.0 * alpha))
