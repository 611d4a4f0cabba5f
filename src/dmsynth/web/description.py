"""The description of a face for a web page: its controls and its coverage."""

from __future__ import annotations

from typing import Any

from dmsynth.steering import SteerableFace
from dmsynth.steering.provenance import consent_of


def description(face: SteerableFace, name: str) -> dict[str, Any]:
    """JSON-like, for ``steerer.js``: ``name``, ``size`` (width, height), ``channels``, ``controls`` (name, unit, the
    trained range, the rest value), ``coverage`` (``codes`` of training frames in the
    first ``joint`` controls, ``ranges`` of the others, and ``tolerance``), ``consent``."""
    space, coverage = face.trained.space, face.trained.coverage
    codes, joint = coverage.codes.astype(float).round(5), coverage.joint or space.size
    return {
        "name": name,
        "model": face.trained.model,
        "size": list(face.size),
        "channels": face.trained.shape["channels"],
        "controls": [
            {"name": c.name, "unit": c.unit, "low": c.low, "high": c.high, "rest": c.at_rest} for c in space.controls
        ],
        "coverage": {
            "codes": codes[:, :joint].tolist(),
            "joint": joint,
            "ranges": [[float(alone.min()), float(alone.max())] for alone in codes[:, joint:].T],
            "tolerance": coverage.tolerance,
        },
        "consent": consent_of(face.trained.about),
    }
