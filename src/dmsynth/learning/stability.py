"""How calm a training is, read off its loss curve."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

WINDOW = 5  # epochs


def spike_factor(losses: ArrayLike) -> float:
    """The worst relapse of a loss curve (n,): the largest loss over the median of the five epochs before it.

    A curve that never rises has factor 1, and no curve has less. Its *excess* is the factor minus 1. The first five
    epochs have no five before them and do not count. Raises ``ValueError`` for fewer than six epochs or a loss that is
    not a number.
    """
    curve = np.asarray(losses, dtype=float)
    if not np.isfinite(curve).all():
        raise ValueError("a loss is not a number")
    if len(curve) <= WINDOW:
        raise ValueError(f"a spike factor needs at least {WINDOW + 1} epochs, not {len(curve)}")
    return max(1.0, float(relapses(curve).max()))


def relapses(losses: ArrayLike) -> NDArray[np.float64]:
    """Each loss from the sixth on over the median of the five before it, (n - 5,): above 1 is a step back."""
    curve = np.asarray(losses, dtype=float)
    before = np.lib.stride_tricks.sliding_window_view(curve, WINDOW)[:-1]
    return np.asarray(curve[WINDOW:] / np.median(before, axis=1))
