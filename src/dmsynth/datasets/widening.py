"""Data augmentation of a recording: its own frames, posed in rotations that were not filmed.

A head in a recording turns little and along few paths, so its rotation is confounded with everything that changed
together with it (thesis 4.2.1). Frames of the recording, posed like portraits, fill the space between and beyond. They
are used only for training; test and validation frames are filmed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dmsynth.controls import HEAD
from dmsynth.datasets.photo_posing import PosedPhoto
from dmsynth.trackers import Face, Tracker, why_unusable
from dmsynth.video import Image

SHARE = 1.0  # posed frames per training frame, but at most
MOST = 288
EACH = 12  # posed frames of one filmed frame, whose preparation takes as long as about thirty posings
TURN = {"pitch": 12.0, "yaw": 20.0, "roll": 12.0}  # degrees either way, drawn uniformly
LIMIT = {"pitch": 22.0, "yaw": 36.0, "roll": 24.0}  # beyond, posed frames no longer look natural


def posed_frames(image: Image, tracker: Tracker, seed: int) -> Iterator[tuple[Image, Face | str]]:
    """``EACH`` poses of a frame (h, w) or (h, w, 3) uint8, each with its tracked face, or with the reason why it is
    unusable. An unusable frame itself is yielded ``EACH`` times with its reason instead."""
    faces = tracker(image)
    reason = why_unusable(faces, image) or (None if len(faces[0].landmarks) else "no landmarks")
    if reason:
        yield from [(image, reason)] * EACH
        return
    photo = PosedPhoto(image, faces[0].landmarks, faces[0].rotation)
    random = np.random.default_rng(seed)
    for _ in range(EACH):
        turned = {name: faces[0].pose[name] + random.uniform(-1, 1) * turn for name, turn in TURN.items()}
        posed = photo.pose(*(float(np.clip(turned[name], -LIMIT[name], LIMIT[name])) for name in HEAD))
        found = tracker(posed)
        yield posed, why_unusable(found, posed) or found[0]
