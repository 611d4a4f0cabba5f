"""The starter face: trained on the public-domain portrait and included in the package."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from dmsynth.controls import HEAD
from dmsynth.datasets.photo import PoseRange, framed_face, pose_photo
from dmsynth.datasets.photo_posing import PosedPhoto
from dmsynth.learning.data import prepare
from dmsynth.learning.face_file import SourceFeatures, read_face, save_face
from dmsynth.learning.settings import choose_settings
from dmsynth.learning.training import train
from dmsynth.steering.renderer import PORTRAIT
from dmsynth.trackers import Tracker
from dmsynth.video.portrait import default_portrait

FRAMES = 1200
LEARNED, SIZE = (320, 240), (640, 480)
STEPS = 3600  # not a time, so that the same machine gives the same face; four minutes on two cores


def make_starter(out: Path, folder: Path, tracker: Tracker) -> Path:
    """Train the starter face in ``folder`` (resumable), pose its source frames anew, large and in colour, and write it
    to ``out``. Each is drawn in the pose that it was learned in."""
    dataset = pose_photo(folder / "dataset", None, tracker, FRAMES, LEARNED, PoseRange(), seed=0, colour=False)
    face = read_face(train(dataset, folder / "training", steps=STEPS, seed=0))
    sources = prepare(dataset, choose_settings(dataset, face.model, {})).sources
    framed, found = framed_face(default_portrait(), tracker, SIZE, PORTRAIT)
    photo = PosedPhoto(framed, found.landmarks, found.rotation, soft_edges=True)
    poses = dataset.labels[[f"commanded_{name}" for name in HEAD]].to_numpy(float)[sources]
    features = face.features
    assert features is not None
    enlarged = SourceFeatures(features.landmarks * np.float32(SIZE[0] / LEARNED[0]), features.values)
    large = np.stack([photo.pose(*map(float, pose)) for pose in poses])
    out.parent.mkdir(parents=True, exist_ok=True)
    save_face(out, replace(face, sources=large, features=enlarged))
    return out
