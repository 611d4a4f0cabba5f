"""Training coverage: which poses a face has seen, so that a command outside can be named, refused or clipped."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2
from scipy.spatial import KDTree

_MOST_POSES = 4096
_SMALLEST_TOLERANCE = 0.05  # of the range of a control
_UNFAMILIAR = 0.45  # of code units, of which a carried control's deviation is 0.2; chosen on docs/swapwarp.md's videos


@dataclass(frozen=True)
class Coverage:
    """The training poses as control codes, and how far from one of them a command may lie.

    A command is covered if its code lies within ``tolerance`` of a training frame's. The tolerance is a quarter more
    than the distance that 99 % of the training frames have to their own nearest neighbour: gaps of the size that the
    training data has itself are interpolated, larger ones are not trusted.

    Attributes:
        codes: (n, k) float32, control codes of training frames; [0, 1] spans the training range.
        tolerance: distance in code units.
        carried: (n, c) float32, the carried codes of the same frames.
    """

    codes: NDArray[np.float32]
    tolerance: float
    carried: NDArray[np.float32]

    @staticmethod
    def of(codes: NDArray[np.float32], controls: int | None = None) -> Coverage:
        """Coverage of training frames with codes (n, k + c), of which the first ``controls`` (k; default: all) can be
        commanded and the rest are carried."""
        if len(codes) > _MOST_POSES:
            codes = codes[np.random.default_rng(0).permutation(len(codes))[:_MOST_POSES]]
        codes, carried = np.split(codes, [codes.shape[1] if controls is None else controls], axis=1)
        if len(codes) < 2:
            return Coverage(codes, _SMALLEST_TOLERANCE, carried)
        own, _ = KDTree(codes).query(codes, k=2)
        return Coverage(codes, max(_SMALLEST_TOLERANCE, 1.25 * float(np.quantile(own[:, 1], 0.99))), carried)

    def distance(self, codes: NDArray[np.float32]) -> NDArray[np.float64]:
        """Distance (m,) of codes (m, k) to the nearest training frame, in code units."""
        distance, _ = KDTree(self.codes).query(codes)
        return np.asarray(distance)

    def outside(self, codes: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which of codes (m, k) are not covered; (m,) bool."""
        return np.asarray(self.distance(codes) > self.tolerance * (1 + 1e-6))

    def unfamiliar(self, codes: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which of codes (m, k + c), carried controls included, no training frame is like: (m,) bool. A known rotation
        with an expression that was never seen is drawn badly, too."""
        known = np.concatenate([self.codes, self.carried], axis=1)
        return np.asarray(KDTree(known).query(codes)[0] > _UNFAMILIAR) if self.carried.size else self.outside(codes)

    def confidence(self, codes: NDArray[np.float32]) -> NDArray[np.float64]:
        """How far codes (m, k) are to be trusted: (m,), 1 at a training frame, 0.5 where coverage ends, then to 0."""
        return np.asarray(0.5 ** np.square(self.distance(codes) / self.tolerance))

    def clipped(self, codes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Codes (m, k) with those outside drawn straight towards their nearest training frame until covered."""
        distance, nearest = KDTree(self.codes).query(codes)
        anchor = self.codes[nearest]
        share = np.minimum(1, self.tolerance / np.maximum(distance, 1e-9))[:, None]
        return np.asarray(anchor + share * (codes - anchor), dtype=np.float32)


def typical(codes: NDArray[np.float32], count: int, first: int) -> NDArray[np.int64]:
    """Row numbers of at most ``count`` of ``codes`` (n, k): ``first``, and the rows nearest to the centres of as many
    clusters (k-means), so that every row has one of them near."""
    if count < 2 or len(codes) < 2:
        return np.array([first])
    centres, _ = kmeans2(codes.astype(float), min(count - 1, len(codes)), minit="++", seed=0)
    nearest = KDTree(codes).query(centres)[1]
    return np.array([first, *(row for row in np.unique(nearest) if row != first)])
