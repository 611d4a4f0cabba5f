"""Trackers: a user's own adapter, and which faces are usable."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from dmsynth.datasets.photo_posing import PosedPhoto
from dmsynth.support.errors import DmsynthError
from dmsynth.trackers import Tracker, open_tracker, tracker_names, why_unusable
from dmsynth.video import Image


def test_a_tracker_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example of docs/trackers.md: a package with one class and an entry point."""
    (tmp_path / "cabin.py").write_text(
        "import numpy as np\n"
        "from dmsynth.controls.pose import rotation_matrix\n"
        "from dmsynth.trackers import Face\n"
        "class Dash:\n"
        "    name = 'dash 2.1'\n"
        "    def __call__(self, image):\n"
        "        return [Face(rotation_matrix(1, 2, 3), (10, 10, 20, 20), np.empty((0, 3), np.float32))]\n"
    )
    (tmp_path / "cabin-1.dist-info").mkdir()
    (tmp_path / "cabin-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: cabin\nVersion: 1\n")
    (tmp_path / "cabin-1.dist-info" / "entry_points.txt").write_text("[dmsynth.trackers]\ndash = cabin:Dash\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert "dash" in tracker_names()
    tracker = open_tracker("dash")
    assert tracker(np.zeros((30, 30), np.uint8))[0].pose == pytest.approx({"pitch": 1, "yaw": 2, "roll": 3})
    with pytest.raises(DmsynthError, match=r"no tracker named 'dush'; installed: auto, adas, dash, face-landmarker"):
        open_tracker("dush")


def test_usable_faces(tracker: Tracker, posed: PosedPhoto) -> None:
    face = posed.pose(0, 0, 0)
    blank = np.full_like(face, 128)
    shifted = np.full_like(face, 128)
    shifted[:, :160] = face[:, 100:260]  # the face moves left by 100 of its about 100 pixels
    cases: list[tuple[Image, set[str | None]]] = [
        (face, {None}),
        (np.dstack([face] * 3), {None}),
        (blank, {"no face"}),
        (np.hstack([face, face]), {"several faces"}),
        (np.ascontiguousarray(face[:, 165:]), {"face at the border", "no face"}),
    ]
    for image, expected in cases:
        assert why_unusable(tracker(image), image) in expected
    near = np.ascontiguousarray(face[:, int(tracker(face)[0].box[0]) + 15 :])  # a seventh of the face is cut away
    assert why_unusable(tracker(near), near) == "face at the border"


@pytest.mark.parametrize(("width", "height", "pixels"), [(1280, 720, 38), (1280, 720, 90), (1920, 1080, 75)])
def test_a_driver_far_away_in_a_wide_cabin_is_found(
    tracker: Tracker, portrait: Image, width: int, height: int, pixels: int
) -> None:
    """The networks see a picture at 128×128; a small face is looked for in tiles, and its pose is that of the whole."""
    head = portrait[:330, 40:420]
    known = tracker(head)[0]
    factor = pixels / (known.box[2] - known.box[0])
    small = cv2.resize(head, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    cabin = np.full((height, width, 3), 110, np.uint8)
    left, top = (width - small.shape[1]) // 2, (height - small.shape[0]) // 2
    cabin[top : top + small.shape[0], left : left + small.shape[1]] = small
    (face,) = tracker(cabin)
    assert face.box[0] - left == pytest.approx(known.box[0] * factor, abs=0.15 * pixels)
    assert face.box[1] - top == pytest.approx(known.box[1] * factor, abs=0.15 * pixels)
    for axis in ("yaw", "roll"):
        assert face.pose[axis] == pytest.approx(known.pose[axis], abs=5)
    assert tracker(np.full((height, width, 3), 110, np.uint8)) == []
