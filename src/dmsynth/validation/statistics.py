"""Paired statistics: is B different from A on the same scenarios, by how much, and which difference is detectable?

The tests only assume that under the null hypothesis a scenario's difference is equally likely to be negative or
positive. All take many comparisons at once along the first axis, so that they can be checked by simulation.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

Floats = NDArray[np.float64]

LEVEL = 0.05  # of every test; intervals are at 1 − LEVEL
POWER = 0.8
_FLIPS = 5000
_ALL_FLIPS = 12  # up to this many scenarios all sign patterns are tried
_RESAMPLES = 9999
_AT_ONCE = 500
_MOST_DRAWN = 10_000_000  # numbers of a bootstrap that are drawn at once


def sign_flip_p(differences: Floats, seed: int = 0) -> Floats:
    """Two-sided p (m,) of the paired permutation test (Fisher 1935) for differences (m, n): the share of random sign
    patterns whose mean is at least as far from zero. Without differences p is 1."""
    m, n = differences.shape
    if n == 0:
        return np.ones(m)
    exact = n <= _ALL_FLIPS
    if exact:
        signs = np.array(list(itertools.product((-1.0, 1.0), repeat=n)))
    else:
        signs = np.random.default_rng(seed).choice((-1.0, 1.0), (_FLIPS, n))
    result = np.empty(m)
    for begin in range(0, m, _AT_ONCE):
        part = differences[begin : begin + _AT_ONCE]
        observed = np.abs(part.sum(axis=1, keepdims=True))
        tolerance = 1e-9 * np.abs(part).sum(axis=1, keepdims=True)
        as_far = (np.abs(part @ signs.T) >= observed - tolerance).sum(axis=1)
        result[begin : begin + _AT_ONCE] = as_far / len(signs) if exact else (1 + as_far) / (1 + len(signs))
    return result


def joint_flip_p(differences: Floats, seed: int = 0) -> Floats:
    """p (k,) of k paired tests on the same scenarios, corrected for all of them: step-down max-T by sign flips
    (Westfall and Young 1993, algorithm 4.1). One flip turns a scenario in all tests at once, so that what tests have in
    common is accounted for. p is 1 with so few scenarios that no outcome would be significant.

    Args:
        differences: (k, scenarios), NaN where a test does not have the scenario.
    """
    there = np.isfinite(differences)
    there &= 2 * 0.5 ** there.sum(axis=1, keepdims=True) <= LEVEL
    values, n = np.where(there, differences, 0.0), there.sum(axis=1)
    squares = np.square(values).sum(axis=1)
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), (_FLIPS, differences.shape[1]))

    def distance(sums: Floats) -> Floats:
        """|t| without what is the same in all flips of a test; 0 where nothing differs."""
        explained = np.square(sums) / np.maximum(n, 1)
        rest = np.maximum(squares - explained, 1e-9 * squares)
        degrees = np.maximum(n - 1, 1)
        return np.sqrt(np.divide(explained * degrees, rest, out=np.zeros_like(explained), where=rest > 0))

    observed, flipped = distance(values.sum(axis=1)), distance(signs @ values.T)
    order = np.argsort(-observed)
    highest = np.maximum.accumulate(flipped[:, order[::-1]], axis=1)[:, ::-1]  # of this test and those less far
    p = (1 + (highest >= observed[order] * (1 - 1e-9)).sum(axis=0)) / (1 + _FLIPS)
    result = np.empty(len(differences))
    result[order] = np.maximum.accumulate(p)
    return np.where(observed > 0, result, 1.0)


def mcnemar_p(passed_a: NDArray[np.bool_], passed_b: NDArray[np.bool_]) -> Floats:
    """Two-sided p (m,) of McNemar's exact test for passes (m, n); only scenarios in which A and B differ count."""
    only_a, only_b = (passed_a & ~passed_b).sum(axis=1), (passed_b & ~passed_a).sum(axis=1)
    return np.asarray(np.minimum(1.0, 2 * stats.binom.cdf(np.minimum(only_a, only_b), only_a + only_b, 0.5)))


def holm(p: Floats) -> Floats:
    """p (k, m) of k tests of one comparison, corrected for multiple testing (Holm 1979)."""
    k = len(p)
    order = np.argsort(p, axis=0)
    factors = (k - np.arange(k))[:, None]
    stepped = np.maximum.accumulate(np.minimum(1.0, np.take_along_axis(p, order, axis=0) * factors), axis=0)
    result = np.empty_like(p)
    np.put_along_axis(result, order, stepped, axis=0)
    return result


def bootstrap_interval(differences: Floats, seed: int = 0) -> tuple[float, float] | None:
    """95 % interval of the mean of differences (n,), by paired bootstrap over scenarios (BCa; Efron 1987).

    None for fewer than two. Where all are equal the interval is that value.
    """
    if len(differences) < 2:
        return None
    if np.ptp(differences) < 1e-12:
        return float(differences[0]), float(differences[0])
    found = stats.bootstrap(
        (differences,), np.mean, n_resamples=_RESAMPLES, confidence_level=1 - LEVEL, method="BCa",
        batch=max(1, min(_RESAMPLES, _MOST_DRAWN // len(differences))), rng=np.random.default_rng(seed),
    ).confidence_interval  # fmt: skip
    return float(found.low), float(found.high)


def power(difference: float, spread: float, n: int, level: float = LEVEL) -> float:
    """Power of a two-sided paired test at ``level`` for a true mean ``difference``, with ``n`` scenarios whose
    differences have the standard deviation ``spread`` (noncentral t)."""
    critical = stats.t.ppf(1 - level / 2, n - 1)
    shift = difference / spread * np.sqrt(n)
    other_side = np.nan_to_num(stats.nct.cdf(-critical, n - 1, shift))  # scipy gives NaN where it is zero
    return float(stats.nct.sf(critical, n - 1, shift) + other_side)


def detectable(spread: float, n: int, level: float = LEVEL) -> float | None:
    """The smallest mean difference that is detected with probability ``POWER``; None for fewer than two scenarios, or
    so few that no outcome would be significant."""
    if n < 2 or 2 * 0.5**n > level:
        return None
    if spread < 1e-12:
        return 0.0
    widest = spread * (1.5 * stats.t.ppf(1 - level / 2, n - 1) + 8) / np.sqrt(n)  # surely enough
    return float(optimize.brentq(lambda d: power(d, spread, n, level) - POWER, 1e-9 * spread, widest))


def detectable_passes(n: int, level: float = LEVEL) -> float | None:
    """The smallest difference of pass rates that McNemar's test can detect, if all differences have the same sign."""
    needed = int(np.ceil(1 - np.log2(level)))
    return needed / n if needed <= n else None
