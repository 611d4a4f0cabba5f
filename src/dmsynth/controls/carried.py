"""Carried controls: quantities that the tracker measures besides the commanded ones, kept constant by the swap.

A rotation does not determine a whole frame: eyes, mouth and shoulders move independently. A network that does not know
them has to draw their average (thesis 4.2.1). So they are part of the control code during training, and keep the
source frame's values when only the rotation is commanded.

A carried control is the residual that the command does *not* explain: a turning head also moves sideways, and its
blinks are measured differently. With those parts included, a constant carried control would contradict the command.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

_OUTLIERS = 0.01  # quantile of the training frames at either end at which codes are clipped
CODES_PER_SPREAD = 0.2  # of the network's [0, 1] per standard deviation


@dataclass(frozen=True)
class Carried:
    """How measured quantities become carried codes.

    Attributes:
        names: of the quantities.
        explained: (1 + 2 k, c) weights of a quadratic in the k control codes, fitted to the training frames.
        spread: (c,) standard deviation of its residuals.
        low, high: (c,) range to which codes are clipped; a network draws values outside its training data badly.
    """

    names: tuple[str, ...] = ()
    explained: NDArray[np.float64] | None = None
    spread: NDArray[np.float64] | None = None
    low: float | NDArray[np.float64] = -np.inf
    high: float | NDArray[np.float64] = np.inf

    @property
    def size(self) -> int:
        return len(self.names)

    @staticmethod
    def fitted(names: tuple[str, ...], codes: NDArray[np.float32], values: NDArray[np.float64]) -> Carried:
        """Fit to training frames with control codes (n, k) and measured quantities (n, c)."""
        if not names:
            return Carried()
        explained = np.asarray(np.linalg.lstsq(_terms(codes), values, rcond=None)[0], np.float64)
        spread = (values - _terms(codes) @ explained).std(axis=0)
        moving = spread > 1e-6
        kept = tuple(name for name, moves in zip(names, moving, strict=True) if moves)
        unbounded = Carried(kept, explained[:, moving], spread[moving])
        low, high = np.quantile(unbounded.encode(names, codes, values), (_OUTLIERS, 1 - _OUTLIERS), axis=0)
        return replace(unbounded, low=low, high=high)

    def encode(
        self, names: tuple[str, ...], codes: NDArray[np.float32], values: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """Carried codes (n, size) of frames with control codes (n, k) and quantities (n, c) called ``names``.

        0.5 is the value predicted from the command, 0.2 is one standard deviation. ``KeyError`` if a quantity is
        missing.
        """
        if self.explained is None or self.spread is None:
            return np.zeros((len(codes), 0), dtype=np.float32)
        column = {name: number for number, name in enumerate(names)}
        chosen = values[:, [column[name] for name in self.names]]
        beyond = (chosen - _terms(codes) @ self.explained) / self.spread
        return np.clip(0.5 + CODES_PER_SPREAD * beyond, self.low, self.high).astype(np.float32)

    def to_dict(self) -> dict[str, object]:
        explained = [] if self.explained is None else self.explained.tolist()
        spread = [] if self.spread is None else self.spread.tolist()
        low, high = np.broadcast_to(self.low, self.size), np.broadcast_to(self.high, self.size)
        bounds = {"low": low.tolist(), "high": high.tolist()}
        return {"names": list(self.names), "explained": explained, "spread": spread, **bounds}

    @staticmethod
    def from_dict(content: Mapping[str, object]) -> Carried:
        names = content["names"]
        assert isinstance(names, list)
        if not names:
            return Carried()
        arrays = (np.array(content[key]) for key in ("explained", "spread", "low", "high"))
        return Carried(tuple(map(str, names)), *arrays)


def _terms(codes: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n, 1 + 2 k): one, the centred codes, their squares."""
    centred = np.asarray(codes, dtype=float) - 0.5
    return np.concatenate([np.ones((len(centred), 1)), centred, centred**2], axis=1)
