"""What a page knows of a face: its controls, its coverage, and which source frames it draws from."""

from __future__ import annotations

from typing import Any

import numpy as np

from dmsynth.provenance import consent_of
from dmsynth.steering import SteerableFace

_MOST_POSES = 1500  # of the coverage: more would only make a page slow


def description(face: SteerableFace, name: str) -> dict[str, Any]:
    """JSON-like, for ``steerer.js``: ``name``, ``size`` (width, height), ``channels``, ``controls`` (name, unit, the
    trained range, the value at rest), ``coverage`` (``codes`` of training frames and ``tolerance``), ``consent``."""
    space, coverage = face.trained.space, face.trained.coverage
    codes = coverage.codes[: len(coverage.codes)]
    if len(codes) > _MOST_POSES:
        codes = codes[np.linspace(0, len(codes) - 1, _MOST_POSES).round().astype(int)]
    return {
        "name": name,
        "model": face.trained.model,
        "size": list(face.size),
        "channels": face.trained.shape["channels"],
        "controls": [
            {"name": c.name, "unit": c.unit, "low": c.low, "high": c.high, "rest": c.at_rest} for c in space.controls
        ],
        "coverage": {"codes": codes.round(4).astype(float).tolist(), "tolerance": coverage.tolerance},
        "consent": consent_of(face.trained.about),
    }
