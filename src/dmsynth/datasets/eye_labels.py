"""What a recording says of its driver: how noisy the labels of gaze and lids are, and when the driver blinked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dmsynth.controls import EYES
from dmsynth.datasets.dataset import Dataset

_OPEN_AGAIN = 0.7  # of rest: less is still the same blink, whose noise went over _SHUT
_SHUT = 0.6  # of rest: landmarks of closed lids never meet, and of half-closed ones are nearly as open as at rest
_LONGEST = 0.8  # seconds: longer, eyes are closed, or look down
_STEADY = 0.12  # seconds: frames further apart say nothing of noise, and between them nobody knows


@dataclass(frozen=True)
class FoundBlink:
    """Eyes closed from ``start``, for ``seconds``, in the recording of that number."""

    recording: int
    start: float
    seconds: float


def eye_facts(dataset: Dataset) -> dict[str, Any] | None:
    """Of filmed frames: ``noise`` (standard deviation of the measurement by control, in its unit, from this person's
    rest), ``blinks`` and ``blinks_a_minute``. None if no eyes were measured in them."""
    columns = [f"tracked_{name}" for name in EYES]
    if dataset.frames_are != "real" or not set(columns) <= set(dataset.labels.columns):
        return None
    recordings, times = (dataset.labels[name].to_numpy() for name in ("recording_index", "time"))
    eyes, noise, blinks, seconds = dataset.features[:, :4], [], list[FoundBlink](), 0.0
    for recording in np.unique(recordings):
        filmed = np.flatnonzero((recordings == recording) & ~dataset.posed)
        filmed = filmed[np.argsort(times[filmed], kind="stable")]
        at, seen = times[filmed].astype(float), eyes[filmed]
        seconds += float(np.minimum(np.diff(at), _STEADY).sum())
        noise.append(_second_differences(at, seen))
        blinks += [FoundBlink(int(recording), *found) for found in find_blinks(at, seen[:, 2:].min(axis=1))]
    differences = np.concatenate(noise)
    return {
        "noise": {name: _spread(differences[:, i]) for i, name in enumerate(EYES)},
        "blinks": [vars(blink) for blink in blinks],
        "blinks_a_minute": round(60 * len(blinks) / seconds, 1) if seconds else None,
    }


def _closed(opening: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(n,): from where the eyes shut to where they are open again."""
    states = np.select([opening < _SHUT, opening > _OPEN_AGAIN], [1, 0], -1)
    known = np.maximum.accumulate(np.where(states >= 0, np.arange(len(states)), -1))
    return np.where(known >= 0, states[known], 0) == 1


def find_blinks(times: NDArray[np.float64], opening: NDArray[np.float64]) -> list[tuple[float, float]]:
    """Start and length in seconds of the blinks in a course of the ``opening`` (n,) of the eyes, from rest."""
    shut = np.concatenate([[False], _closed(opening), [False]])
    begins, ends = (np.flatnonzero(shut[1:] & ~shut[:-1]), np.flatnonzero(~shut[1:] & shut[:-1]))
    found = []
    for begin, end in zip(begins, ends, strict=True):
        known = begin > 0 and end < len(times) and times[end] - times[begin - 1] < _LONGEST + _STEADY
        if known and np.diff(times[begin - 1 : end + 1]).max() < _STEADY and times[end] - times[begin] <= _LONGEST:
            found.append((float(times[begin]), float(times[end] - times[begin])))
    return found


def _second_differences(times: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(m, k) of three neighbouring frames each, while eyes are open: motion is nearly straight in so short a time."""
    if len(times) < 3:
        return np.empty((0, values.shape[1]))
    near = (times[2:] - times[:-2] < 2 * _STEADY) & (values[:, 2:].min(axis=1)[1:-1] > _SHUT)
    return np.asarray((values[2:] - 2 * values[1:-1] + values[:-2])[near])


def _spread(differences: NDArray[np.float64]) -> float | None:
    """Standard deviation of the noise, robust against blinks and saccades; None without frames."""
    if len(differences) < 8:
        return None
    return round(float(np.median(np.abs(differences)) / (0.6745 * np.sqrt(6))), 4)
