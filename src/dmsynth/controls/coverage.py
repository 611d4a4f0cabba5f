"""Training coverage: the poses in a face's training data, so that commands outside can be marked, refused or
clipped."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2
from scipy.spatial import KDTree

from dmsynth.controls import ControlSpace

_MOST_POSES = 4096
SMALLEST_TOLERANCE = 0.05  # of the range of a control; and what a control may leave its own range by
_UNFAMILIAR = 0.45  # code units (0.2: one standard deviation of a carried control); chosen on docs/swapwarp.md's videos


@dataclass(frozen=True)
class Coverage:
    """The training poses as control codes, and the largest allowed distance of a command from them.

    A command is covered if its code lies within ``tolerance`` of a training frame's. The tolerance is 1.25 times the
    99th percentile of the training frames' distances to their nearest neighbours: gaps as large as those in the
    training data are interpolated, larger ones are not trusted.

    Attributes:
        codes: (n, k) float32, control codes of training frames; [0, 1] spans the training range.
        tolerance: distance in code units.
        carried: (n, c) float32, the carried codes of the same frames.
        joint: how many leading controls are judged together, by the nearest training frame; default: all. Each other
            one is judged by its own range: eyes move within a head, whatever the head does, and no data fills all
            combinations.
    """

    codes: NDArray[np.float32]
    tolerance: float
    carried: NDArray[np.float32]
    joint: int | None = None

    @staticmethod
    def of(codes: NDArray[np.float32], controls: int | None = None, joint: int | None = None) -> Coverage:
        """Coverage of training frames with codes (n, k + c), of which the first ``controls`` (k; default: all) can be
        commanded and the rest are carried."""
        if len(codes) > _MOST_POSES:
            codes = codes[np.random.default_rng(0).permutation(len(codes))[:_MOST_POSES]]
        codes, carried = np.split(codes, [codes.shape[1] if controls is None else controls], axis=1)
        if len(codes) < 2:
            return Coverage(codes, SMALLEST_TOLERANCE, carried, joint)
        own, _ = KDTree(codes[:, :joint]).query(codes[:, :joint], k=2)
        tolerance = max(SMALLEST_TOLERANCE, 1.25 * float(np.quantile(own[:, 1], 0.99)))
        return Coverage(codes, tolerance, carried, joint)

    def distance(self, codes: NDArray[np.float32]) -> NDArray[np.float64]:
        """Distance (m,) of codes (m, k) to the nearest training frame, in code units; or, if larger, that of a control
        to its own range, in which ``SMALLEST_TOLERANCE`` counts as much as the tolerance: however few heads were seen,
        a range is known."""
        distance, _ = KDTree(self.codes[:, : self.joint]).query(codes[:, : self.joint])
        beyond = np.abs(codes - self._in_range(codes)).max(axis=1)
        return np.asarray(np.maximum(distance, beyond * self.tolerance / SMALLEST_TOLERANCE))

    def _in_range(self, codes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Codes (m, k) with the controls that are judged each by its own range drawn into it."""
        if self.joint is None:
            return codes
        alone = self.codes[:, self.joint :]
        within = np.clip(codes[:, self.joint :], alone.min(axis=0), alone.max(axis=0))
        return np.concatenate([codes[:, : self.joint], within], axis=1)

    def outside(self, codes: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which of codes (m, k) are not covered; (m,) bool."""
        return np.asarray(self.distance(codes) > self.tolerance * (1 + 1e-6))

    def unfamiliar(self, codes: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which of codes (m, k + c), carried controls included, are far from every training frame: (m,) bool. A known
        rotation with an unseen expression is drawn badly, too."""
        size = self.codes.shape[1]
        known = np.concatenate([self.codes[:, : self.joint], self.carried], axis=1)
        asked = np.concatenate([codes[:, :size][:, : self.joint], codes[:, size:]], axis=1)
        return (
            np.asarray(KDTree(known).query(asked)[0] > _UNFAMILIAR)
            if self.carried.size
            else self.outside(codes[:, : self.codes.shape[1]])
        )

    def confidence(self, codes: NDArray[np.float32]) -> NDArray[np.float64]:
        """Confidence (m,) in codes (m, k): 1 at a training frame, 0.5 where coverage ends, falling to 0 beyond."""
        return np.asarray(0.5 ** np.square(self.distance(codes) / self.tolerance))

    def clipped(self, codes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Codes (m, k); those outside are moved straight towards their nearest training frame until covered."""
        distance, nearest = KDTree(self.codes[:, : self.joint]).query(codes[:, : self.joint])
        codes = self._in_range(codes)
        anchor = codes.copy()
        anchor[:, : self.joint] = self.codes[nearest, : self.joint]
        share = np.minimum(1, self.tolerance / np.maximum(distance, 1e-9))[:, None]
        return np.asarray(anchor + share * (codes - anchor), dtype=np.float32)


def typical(codes: NDArray[np.float32], count: int, first: int) -> NDArray[np.int64]:
    """Row numbers of at most ``count`` representative ``codes`` (n, k): ``first``, and the rows nearest to the
    centres of ``count`` − 1 clusters (k-means)."""
    if count < 2 or len(codes) < 2:
        return np.array([first])
    centres, _ = kmeans2(codes.astype(float), min(count - 1, len(codes)), minit="++", seed=0)
    nearest = KDTree(codes).query(centres)[1]
    return np.array([first, *(row for row in np.unique(nearest) if row != first)])


def clip(values: NDArray[np.float64], space: ControlSpace, coverage: Coverage) -> NDArray[np.float64]:
    """``values`` (n, k) with poses outside the coverage drawn to its edge."""
    codes = space.encode(values)
    outside = coverage.outside(codes)
    result = np.array(values, dtype=float)
    if outside.any():
        result[outside] = space.decode(coverage.clipped(codes[outside]))
    return result


def frame_ranges(numbers: NDArray[np.int64]) -> str:
    """Frame numbers as text: ``frames 3-9, 12, 40-44``."""
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    named = [f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs]
    shown = ", ".join(named[:8]) + (f" and {len(named) - 8} more stretches" if len(named) > 8 else "")
    return f"frame{'s' if len(numbers) > 1 else ''} {shown}"
