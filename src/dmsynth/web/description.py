"""The description of a face for a web page: its controls and its coverage."""

from __future__ import annotations

from typing import Any

import numpy as np

from dmsynth.controls import CONTROL_SPACES
from dmsynth.controls.coverage import SMALLEST_TOLERANCE
from dmsynth.motion.eyes import Blink, eye_opening
from dmsynth.steering import SteerableFace
from dmsynth.steering.provenance import consent_of


def description(face: SteerableFace, name: str) -> dict[str, Any]:
    """JSON-like, for ``steerer.js``: ``name``, ``size`` (width, height), ``channels``, ``controls`` (name, unit, the
    trained range, the rest value, the ``least`` and ``most`` that can be commanded), ``coverage`` (``name``, ``codes``
    of training frames, of the controls that are judged together, and their ``tolerance``; ``alone``: the range in codes
    of each other one, and the ``margin`` around it; see ``controls.coverage``), ``consent``; ``blink`` if it moves its
    eyes: ``seconds`` and the lids' ``openings`` (1 as before), evenly over that time."""
    space, coverage = face.trained.space, face.trained.coverage
    joint, limits = coverage.joint or space.size, CONTROL_SPACES[space.name].only(space.names).controls
    alone = coverage.codes[:, joint:].astype(float).round(5)
    return {
        "name": name,
        "model": face.trained.model,
        "size": list(face.size),
        "channels": 3 if face.trained.in_colour else 1,
        "controls": [
            {
                "name": c.name, "unit": c.unit, "low": c.low, "high": c.high, "rest": c.at_rest,
                "least": limit.low, "most": limit.high,
            }
            for c, limit in zip(space.controls, limits, strict=True)
        ],
        "coverage": {
            "name": str(face.trained.about.get("trusted") or "the training coverage"),
            "codes": coverage.codes[:, :joint].astype(float).round(5).tolist(),
            "margin": SMALLEST_TOLERANCE,
            "alone": np.stack([alone.min(axis=0), alone.max(axis=0)], axis=1).tolist(),
            "tolerance": coverage.tolerance,
        },
        "consent": consent_of(face.trained.about),
        "blink": _blink() if space.moves_eyes else None,
    }  # fmt: skip


def _blink() -> dict[str, Any]:
    """An awake driver's blink (``motion.eyes.natural_blinks``: 100 ms to close, 200 to open), every 10 ms."""
    blink = Blink(0.0, 0.1, 0.0, 0.2)
    times = np.linspace(0, sum(blink), 31)
    return {"seconds": sum(blink), "openings": eye_opening(times, [blink]).round(4).tolist()}
