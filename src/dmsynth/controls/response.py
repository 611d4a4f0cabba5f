"""How a tracker reads what a face draws, and the command that makes it read what is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dmsynth.controls import HEAD, ControlSpace

UNIT = 10.0  # degrees, so that the terms are of one size
TERMS = tuple(combinations_with_replacement(range(1 + len(HEAD)), 3))
"""Products of three of (1, pitch, yaw, roll): every power up to the third."""

ROUNDS = 10  # of approaching the command
STEP = 0.7  # of what is left, in each round: whole steps may swing
MOST = 5.0  # degrees: what is read more wrongly is corrected by this much
_HELD = 0.003  # every term's being 0 counts for this share of the frames
_FAR = 3.0  # times the median error: frames that the tracker misreads
_FEWEST = 60  # readings
_FOLDS = 5
_MISSED = 0.1  # degrees between what is wanted and what the command found for it should give
_WORTH = 0.9  # of the error on frames left out: what a correction must come below


@dataclass(frozen=True)
class Response:
    """The tracker's reading of the drawn head, less the command.

    A label of a filmed frame is what the tracker reads of a head *and* of its expression: who looks down also lowers
    lids and brows. Commanded alone, at the expression of the source frame, a head is read short of the command, by as
    much every time.

    Attributes:
        low, high: (3,) degrees of pitch, yaw and roll between which it was measured; beyond, it is as at the edge.
        weights: (20, 3) degrees of error in pitch, yaw and roll, of each of ``TERMS`` of the command in ``UNIT``.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    weights: NDArray[np.float64]

    @staticmethod
    def fitted(commanded: NDArray[np.float64], read: NDArray[np.float64]) -> Response | None:
        """Least squares over ``commanded`` (n, 3) and what is ``read`` (n, 3) of them, degrees; rows without a reading
        are NaN. An axis that this does not make more exact on frames left out stays as it is. None if there is nothing
        to correct, or no command for every reading."""
        seen = np.isfinite(read).all(axis=1)
        commanded, errors = commanded[seen], (read - commanded)[seen]
        if len(errors) < _FEWEST:
            return None
        inputs = _terms(commanded)
        folds = np.arange(len(errors)) % _FOLDS
        left = np.empty_like(errors)
        for one in range(_FOLDS):
            left[folds == one] = inputs[folds == one] @ _solved(inputs[folds != one], errors[folds != one])
        left = np.abs(errors - left)
        worth = np.median(left, axis=0) < _WORTH * np.median(np.abs(errors), axis=0)
        if not worth.any():
            return None
        low, high = np.quantile(commanded, (0.02, 0.98), axis=0)
        response = Response(low, high, np.where(worth, _solved(inputs, errors), 0.0))
        undone = response._approached(commanded)
        missed = np.abs(undone + response.error(undone) - commanded)
        return response if np.median(missed.max(axis=1)) < _MISSED else None

    def error(self, head: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, 3) degrees → (n, 3): what is read too much of each command."""
        return np.clip(_terms(np.clip(head, self.low, self.high)) @ self.weights, -MOST, MOST)

    def undone(self, values: NDArray[np.float64], space: ControlSpace) -> NDArray[np.float64]:
        """What to command so that ``values`` (n, 3 or more; the head first) are read: the same shape. A command in the
        range that ``space`` was learned in stays in it: beyond, a face is drawn badly."""
        head = values[:, : len(HEAD)]
        low, high = space.low[: len(HEAD)], space.high[: len(HEAD)]
        wanted = np.clip(self._approached(head), np.minimum(low, head), np.maximum(high, head))
        return np.concatenate([wanted, values[:, len(HEAD) :]], axis=1)

    def _approached(self, head: NDArray[np.float64]) -> NDArray[np.float64]:
        wanted = head
        for _ in range(ROUNDS):
            wanted = wanted + STEP * (head - wanted - self.error(wanted))
        return wanted

    def to_dict(self) -> dict[str, Any]:
        return {name: value.round(6).tolist() for name, value in vars(self).items()}

    @staticmethod
    def from_dict(content: Mapping[str, Any]) -> Response:
        return Response(**{name: np.array(content[name], float) for name in ("low", "high", "weights")})


def _terms(head: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 3) degrees → (n, 20)."""
    factors = np.column_stack([np.ones(len(head)), head / UNIT])
    return np.stack([factors[:, term].prod(axis=1) for term in np.array(TERMS)], axis=1)


def _solved(inputs: NDArray[np.float64], errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """(20, 3): least squares of ``errors`` (n, 3) over ``inputs`` (n, 20), then once more without rows far off."""
    held = _HELD * len(inputs) * np.diag([0.0] + [1.0] * (len(TERMS) - 1))
    found = np.linalg.solve(inputs.T @ inputs + held, inputs.T @ errors)
    off = np.abs(errors - inputs @ found)
    near = (off <= _FAR * np.median(off, axis=0) + 1e-6).all(axis=1)
    inputs, errors = inputs[near], errors[near]
    return np.asarray(np.linalg.solve(inputs.T @ inputs + held, inputs.T @ errors))
