"""Evaluation: errors that are what they say, and frames that are lost counted as lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

import dmsynth
from dmsynth.controls import CONTROL_SPACES
from dmsynth.datasets.dataset import Dataset
from dmsynth.evaluation import evaluate, sharpness, tracking_errors
from dmsynth.trackers import Face, Tracker
from dmsynth.video import Image

ROTATION = CONTROL_SPACES["rotation"]


def test_errors_of_a_known_answer() -> None:
    """A tracker that answers 0.8 of the yaw plus 3, wraps its roll around, and never moves in pitch."""
    yaw = np.linspace(-30, 30, 61)
    roll = np.linspace(170, 179, 61)
    table = pd.DataFrame({"found": True, "target_pitch": 0.0, "tracked_pitch": 1.0}, index=range(61))
    table = table.assign(target_yaw=yaw, tracked_yaw=0.8 * yaw + 3, target_roll=roll, tracked_roll=roll + 2)
    table["tracked_roll"] = (table["tracked_roll"] + 180) % 360 - 180
    errors = tracking_errors(table, ROTATION)
    assert errors["gain"]["yaw"] == pytest.approx(0.8) and errors["bias"]["yaw"] == pytest.approx(3)
    assert errors["mae"]["roll"] == pytest.approx(2) and errors["gain"]["roll"] == pytest.approx(1)
    assert errors["correlation"]["yaw"] == pytest.approx(1)
    assert errors["mae"]["pitch"] == 1 and errors["gain"]["pitch"] is None


class _Sees:
    """The real tracker, blind to images that ``blind`` says."""

    def __init__(self, tracker: Tracker, images: list[Image]) -> None:
        self.tracker, self.name, self.blind = tracker, tracker.name, {image.tobytes() for image in images}

    def __call__(self, image: Image) -> list[Face]:
        return [] if image.tobytes() in self.blind else self.tracker(image)


class _Perfect:
    """A face whose steered frames are the real ones."""

    def __init__(self, face: object, frames: list[Image]) -> None:
        self.__dict__.update(vars(face))
        self.size, self._frames = face.size, frames  # type: ignore[attr-defined]

    def frames(self, values: NDArray[Any], *how: object, **named: object) -> object:
        return iter(self._frames[: len(values)])


def test_lost_faces_are_counted_and_frames_without_a_target_are_not(
    face_file: Path, photo_dataset: Dataset, tracker: Tracker
) -> None:
    real = [np.array(photo_dataset.frames[index]) for index in photo_dataset.split("test")]
    steered = [frame.copy() for frame in real]
    steered[0] = np.full_like(real[0], 128)  # one steered frame without a face
    face = _Perfect(dmsynth.load(face_file), steered)
    blind = _Sees(tracker, [real[-1]])  # and one real frame in which the tracker sees nothing
    found = sum(len(tracker(frame)) == 1 for frame in real[:-1])
    result = evaluate(face, photo_dataset, blind)  # type: ignore[arg-type]
    assert result.metrics["frames"] == found and result.metrics["lost"] == 1
    assert max(result.metrics["mae"].values()) == 0  # the same pictures get the same answers
    assert result.metrics["sharpness"] == pytest.approx(1)
    assert all(0 < floor < 5 for floor in result.metrics["tracker_floor"].values())


def test_sharpness_falls_with_blur() -> None:
    image = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    smooth = np.asarray(
        np.clip((image.astype(float) + np.roll(image, 1, 0) + np.roll(image, 1, 1)) / 3, 0, 255), np.uint8
    )
    box = (-5.0, 4.0, 60.0, 70.0)  # reaches outside: only what is inside counts
    assert sharpness(smooth, box) < 0.7 * sharpness(image, box)
