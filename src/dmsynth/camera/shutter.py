"""The shutter: the blur of what moves while it is open, and rows that are read one after the other."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from dmsynth.camera import Sensor
from dmsynth.camera.surface import Surface

Float = NDArray[np.float32]

_SHARP, _STILL = 1.0, 0.25  # pixels: less blur, and less of a shift, is not seen
_MOST = 8  # moments that are averaged


def moments(surface: Surface, before: Surface, after: Surface, sensor: Sensor) -> list[tuple[Float, Float]]:
    """While the shutter is open, at a few moments around that in which a frame was drawn: x and y (h, w) of what each
    pixel sees. None at all if nothing moves that far.

    Args:
        before, after: the surface a frame earlier and a frame later; at either end that of the frame itself.
    """
    frames = (before is not surface) + (after is not surface)
    if frames == 0:
        return []
    speed = (after.points - before.points) / frames * surface.moves[:, None]  # pixels a frame
    opened, rolling = sensor.shutter * sensor.frame_rate / 1000, sensor.rolling * sensor.frame_rate / 1000
    furthest = float(np.abs(speed).max())
    if furthest * opened < _SHARP and furthest * rolling / 2 < _STILL:
        return []
    right, down = surface.spread(speed)
    width, height = surface.size
    x, y = np.arange(width, dtype=np.float32)[None], np.arange(height, dtype=np.float32)[:, None]
    count, paths = int(np.clip(np.ceil(furthest * opened), 1, _MOST)), []
    for moment in (np.arange(count) + 0.5) / count - 0.5:
        # the middle row is read at the moment of the frame
        when = np.float32(opened * moment) + np.float32(rolling) * (y / np.float32(height) - np.float32(0.5))
        paths.append((x - when * right, y - when * down))
    return paths


def exposed_over_time(light: Float, paths: list[tuple[Float, Float]]) -> Float:
    """Light (h, w) as it is while the shutter is open, along the ``moments``."""
    if not paths:
        return light
    total = np.zeros_like(light)
    for x, y in paths:
        total += cv2.remap(light, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(total / np.float32(len(paths)), np.float32)
