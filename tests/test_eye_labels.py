"""Labels of eyes: how noisy they are, and when the driver blinked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands import dmsynth
from dmsynth.controls import EYES
from dmsynth.datasets.dataset import Dataset, open_dataset
from dmsynth.datasets.eye_labels import eye_facts, find_blinks
from dmsynth.motion.eyes import eye_opening, natural_blinks


@given(st.integers(0, 10_000), st.sampled_from([25.0, 30.0, 60.0]), st.floats(0, 0.04))
def test_blinks_are_found_where_they_are(seed: int, rate: float, noise: float) -> None:
    blinks = natural_blinks(1.0, 58.0, seed)
    blinks = [b for b, later in zip(blinks, [*blinks[1:], None], strict=True) if not later or later.start - b.start > 1]
    times = np.arange(0, 60, 1 / rate)
    opening = eye_opening(times, blinks) + noise * np.random.default_rng(seed).normal(size=len(times))
    found = find_blinks(times, opening)
    assert len(found) == len(blinks)
    for blink, (start, seconds) in zip(blinks, found, strict=True):
        assert blink.start < start < blink.start + blink.closing + 1 / rate
        assert seconds < sum(blink[1:]) + 1 / rate


def test_what_is_no_blink_is_none() -> None:
    times = np.arange(0, 10, 1 / 25)
    asleep = np.where((times > 3) & (times < 5), 0.1, 1.0)
    assert find_blinks(times, asleep) == [], "two seconds are sleep, or a look down"
    assert find_blinks(times, np.where(times < 0.2, 0.1, 1.0)) == [], "how long before, nobody knows"
    hole = np.delete(np.arange(len(times)), slice(50, 60))
    assert find_blinks(times[hole], np.where(hole == 49, 0.1, 1.0)[: len(hole)]) == [], "frames are missing there"
    assert find_blinks(times, np.ones(len(times))) == []


@pytest.mark.slow
def test_a_recordings_eyes(tmp_path: Path, photo_dataset: Dataset) -> None:
    """A video with two known blinks and a known gaze, imported and looked at."""
    moves = (
        "move yaw=6 0.6; move eye_opening=0 0.1; move eye_opening=1 0.2; move gaze_yaw=12 0.4; hold 0.4; "
        "move eye_opening=0 0.1; hold 0.08; move eye_opening=1 0.2; move yaw=-6 gaze_yaw=-12 0.9; hold 0.6"
    )
    video, data = tmp_path / "blinks.mp4", tmp_path / "data"
    done = dmsynth("steer", "portrait", "--trajectory", moves, "--size", "320x240", "--out", video)
    assert done.returncode == 0, done.stderr
    made = dmsynth("dataset", "recording", data, video)
    assert made.returncode == 0, made.stderr
    facts = eye_facts(open_dataset(data))
    assert facts is not None
    starts = [blink["start"] for blink in facts["blinks"]]
    assert starts == pytest.approx([0.68, 1.78], abs=0.06)
    assert set(facts["noise"]) == set(EYES) and 0 < facts["noise"]["gaze_yaw"] < 4
    assert facts["noise"]["eye_opening_left"] < 0.1
    told = json.loads(dmsynth("dataset", "info", data, "--json").stdout)
    assert told["eyes"]["blinks"] == facts["blinks"]
    assert "eyes: 2 blinks" in dmsynth("dataset", "info", data).stdout
    assert eye_facts(photo_dataset) is None, "a photo does not blink"


def test_noise_in_a_blink_does_not_split_it() -> None:
    opening = np.array([1.0, 1.0, 0.55, 0.3, 0.62, 0.3, 0.66, 1.0, 1.0, 0.5, 0.9, 1.0])
    assert [round(start, 2) for start, _ in find_blinks(np.arange(12) / 25, opening)] == [0.08, 0.36]
