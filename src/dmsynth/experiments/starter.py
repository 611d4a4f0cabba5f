"""The starter face: trained on the public-domain portrait and included in the package."""

from __future__ import annotations

import shutil
from pathlib import Path

from dmsynth.datasets.photo import PoseRange, pose_photo
from dmsynth.learning.training import train
from dmsynth.trackers import Tracker

FRAMES = 1200
SIZE = (640, 480)
STEPS = 6000  # not a time, so that the same machine gives the same face; ten minutes on two cores


def make_starter(out: Path, folder: Path, tracker: Tracker) -> Path:
    """Train the starter face in ``folder`` (resumable), and write it to ``out``."""
    dataset = pose_photo(folder / "dataset", None, tracker, FRAMES, SIZE, PoseRange(), seed=0)
    trained = train(dataset, folder / "training", steps=STEPS, seed=0)
    out.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(trained, out)
    return out
