"""A mouth over time: talking, as a column ``mouth_opening`` of a trajectory (0 as at rest, 1 as in a yawn).

As with the eyes (``motion.eyes``), events in seconds are drawn first, by a seed, and then read at a trajectory's times.
Figures that are not cited are choices within what drivers do.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dmsynth.controls import MOUTH
from dmsynth.motion.trajectory import Trajectory

Array = NDArray[np.float64]

_SYLLABLE = 0.2  # seconds: mouths of talkers open and close 2 to 7 times a second (Chandrasekaran et al. 2009)
_SPREAD = 0.25  # of that
_PHRASE = (4, 16)  # syllables between pauses
_PAUSE = (0.3, 1.2)  # seconds
_MOST = 0.45  # of a wide opening: a loud vowel
_SHARE = (1.6, 3.0)  # beta distribution of a syllable's opening below that: few are wide
_STAYS = 0.3  # of it: how far the mouth stays open towards the next syllable


class Syllable(NamedTuple):
    """The mouth opens to ``opening`` and closes, from ``start``, for ``seconds``."""

    start: float
    seconds: float
    opening: float


def talk(begin: float, end: float, random: np.random.Generator) -> list[Syllable]:
    """Phrases with pauses between ``begin`` and ``end``, seconds."""
    found, now = [], begin + float(random.uniform(*_PAUSE))
    while now < end:
        for _ in range(int(random.integers(*_PHRASE))):
            seconds = float(_SYLLABLE * np.exp(_SPREAD * random.standard_normal()))
            found.append(Syllable(now, seconds, float(_MOST * random.beta(*_SHARE))))
            now += seconds
        now += float(random.uniform(*_PAUSE))
    return [syllable for syllable in found if syllable.start + syllable.seconds <= end]


def mouth_opening(times: Array, syllables: Iterable[Syllable]) -> Array:
    """(n,) the opening at ``times`` (n,), seconds. Within a phrase the mouth does not wholly close."""
    opening = np.zeros(len(times))
    for start, seconds, height in syllables:
        near = (times > start - seconds) & (times < start + 2 * seconds)
        phase = (times[near] - start) / seconds
        peak = height * np.where((phase > 0) & (phase < 1), np.sin(np.pi * np.clip(phase, 0, 1)) ** 2, 0)
        around = _STAYS * height * np.cos(np.pi * (phase - 0.5) / 3) ** 2
        opening[near] = np.maximum(opening[near], np.maximum(peak, around))
    return opening


def talking(trajectory: Trajectory, seed: int) -> Trajectory:
    """Add a mouth that talks to a head's course; where that has a mouth, the wider opening
    counts. The same seed gives the same syllables, at any frame rate."""
    times = trajectory.times
    syllables = talk(float(times[0]), float(times[-1]), np.random.default_rng((seed, 1)))
    opening = mouth_opening(times, syllables)
    if MOUTH in trajectory.names:
        opening = np.maximum(opening, trajectory[MOUTH])
    others = [name for name in trajectory.names if name != MOUTH]
    columns = [*(trajectory[name] for name in others), opening]
    return Trajectory((*others, MOUTH), times, np.stack(columns, axis=1))
