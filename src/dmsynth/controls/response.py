"""How a tracker reads what a face draws, and the command that makes it read what is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dmsynth.controls import HEAD, ControlSpace

_UNIT = 10.0  # degrees, so that slope and offset are of one size
_HELD = 0.01  # a slope of 0 counts for this share of the frames, for heads that hardly move
_FAR = 3.0  # times the median error: frames that the tracker misreads
_FEWEST = 24  # readings
_FOLDS = 4
_WORTH = 0.9  # of the error on frames left out: what a correction must come below


@dataclass(frozen=True)
class Response:
    """The tracker's reading of the drawn head: ``command + offset + slope @ command``.

    A label of a filmed frame is what the tracker reads of a head *and* of its expression: who looks down also lowers
    lids and brows. Commanded alone, at the expression of the source frame, a head is read short of the command, by as
    much every time.

    Attributes:
        offset: (3,) degrees of pitch, yaw and roll.
        slope: (3, 3) degrees a degree.
    """

    offset: NDArray[np.float64]
    slope: NDArray[np.float64]

    @staticmethod
    def fitted(commanded: NDArray[np.float64], read: NDArray[np.float64]) -> Response:
        """Least squares over ``commanded`` (n, 3) and what is ``read`` (n, 3) of them, degrees; rows without a reading
        are NaN. An axis that this does not make more exact on frames left out stays as it is."""
        seen = np.isfinite(read).all(axis=1)
        commanded, errors = commanded[seen], (read - commanded)[seen]
        if len(errors) < _FEWEST:
            return Response(np.zeros(3), np.zeros((3, 3)))
        inputs = np.column_stack([np.ones(len(errors)), commanded / _UNIT])
        folds = np.arange(len(errors)) % _FOLDS
        left = np.concatenate(
            [errors[folds == one] - inputs[folds == one] @ _solved(inputs[folds != one], errors[folds != one])
             for one in range(_FOLDS)]
        )  # fmt: skip
        worth = np.median(np.abs(left), axis=0) < _WORTH * np.median(np.abs(errors), axis=0)
        found = np.where(worth, _solved(inputs, errors), 0.0)
        return Response(found[0], found[1:].T / _UNIT)

    @property
    def can_be_undone(self) -> bool:
        """Whether there is a command for every reading: each axis answers, and most to its own command."""
        turned = np.eye(len(HEAD)) + self.slope
        own, others = np.diag(turned), np.abs(turned - np.diag(np.diag(turned))).sum(axis=1)
        return bool((own > others + 0.2).all() and (own < 3).all() and (np.abs(self.offset) < 30).all())

    def undone(self, values: NDArray[np.float64], space: ControlSpace) -> NDArray[np.float64]:
        """What to command so that ``values`` (n, 3 or more; the head first) are read: the same shape. A command in the
        range that ``space`` was learned in stays in it: beyond, a face is drawn badly."""
        head = values[:, : len(HEAD)]
        wanted = np.linalg.solve(np.eye(len(HEAD)) + self.slope, (head - self.offset).T).T
        low, high = space.low[: len(HEAD)], space.high[: len(HEAD)]
        wanted = np.clip(wanted, np.minimum(low, head), np.maximum(high, head))
        return np.concatenate([wanted, values[:, len(HEAD) :]], axis=1)

    def to_dict(self) -> dict[str, Any]:
        return {"offset": self.offset.tolist(), "slope": self.slope.tolist()}

    @staticmethod
    def from_dict(content: Mapping[str, Any]) -> Response:
        return Response(np.array(content["offset"], float), np.array(content["slope"], float))


def _solved(inputs: NDArray[np.float64], errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """(4, 3): least squares of ``errors`` (n, 3) over ``inputs`` (n, 4), then once more without rows far off."""
    held = _HELD * len(inputs) * np.diag([0.0, 1, 1, 1])
    found = np.linalg.solve(inputs.T @ inputs + held, inputs.T @ errors)
    off = np.abs(errors - inputs @ found)
    near = (off <= _FAR * np.median(off, axis=0) + 1e-6).all(axis=1)
    inputs, errors = inputs[near], errors[near]
    return np.asarray(np.linalg.solve(inputs.T @ inputs + held, inputs.T @ errors))
