"""Tone mapping: high dynamic range, as phones record it, to the standard range that trackers and DMSs expect."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_WHITE = 203.0  # cd/m²: diffuse white of PQ and HLG (ITU-R BT.2408), the maximum of standard video
_HLG_PEAK = 1000.0  # cd/m² of the display that HLG's pictures are graded on
_KNEE = 0.85  # of white: brightness below is unchanged, highlights above are compressed
_TO_709 = np.array(  # linear BT.2020 → BT.709 (ITU-R BT.2087)
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], dtype=np.float32
)


def to_ordinary_range(rgb: NDArray[np.uint16], pq: bool) -> NDArray[np.uint8]:
    """(h, w, 3) uint16 BT.2020 RGB, in PQ or else HLG (ITU-R BT.2100) → (h, w, 3) uint8 BT.709 RGB.

    Diffuse white becomes white. Brighter pixels keep their hue and are compressed below white.
    """
    linear = _curve(pq)[rgb]
    if not pq:  # HLG is scene-referred: apply the display's system gamma
        brightness = linear @ np.array([0.2627, 0.6780, 0.0593], dtype=np.float32)
        linear = linear * (_HLG_PEAK / _WHITE * brightness[..., None] ** np.float32(0.2))
    linear = np.maximum(linear @ _TO_709.T, 0)
    most = linear.max(axis=-1, keepdims=True)
    bent = np.where(most > _KNEE, _KNEE + (1 - _KNEE) * (1 - np.exp(-(most - _KNEE) / (1 - _KNEE))), most)
    linear *= bent / np.maximum(most, 1e-6)
    return np.asarray(np.clip(255 * linear ** np.float32(1 / 2.4), 0, 255) + 0.5, dtype=np.uint8)


@lru_cache
def _curve(pq: bool) -> NDArray[np.float32]:
    """(65536,) linear light of each code value: PQ relative to display white, HLG relative to the scene's peak."""
    code = np.linspace(0, 1, 65536)
    if pq:
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
        root = code ** (1 / m2)
        light = 10_000 / _WHITE * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)
    else:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)
    return light.astype(np.float32)
