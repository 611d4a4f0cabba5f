"""Brows on command: in pictures, in trained faces, from a driver."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dmsynth.controls import CONTROL_SPACES
from dmsynth.datasets.brow_posing import PosedBrows
from dmsynth.datasets.dataset_files import shown_by, with_brows
from dmsynth.datasets.photo_posing import PosedPhoto
from dmsynth.learning.face_description import ControlRecord, SpaceRecord
from dmsynth.motion.driving import drive
from dmsynth.steering import FaceSpec, SteerableFace, open_renderer
from dmsynth.steering.edited_features import paint_features
from dmsynth.trackers import Face, Tracker, face_columns
from dmsynth.validation.rendering import why_not
from dmsynth.validation.scenario_files import find_scenarios
from dmsynth.video import Image, to_rgb
from dmsynth.video.pictures import read_image

DRIVER = CONTROL_SPACES["driver"]
RAISES = (-1.0, -0.4, 0.4, 1.0)


def _read(tracker: Tracker, image: Image) -> dict[str, float]:
    (seen,) = tracker(np.ascontiguousarray(to_rgb(image)))
    return face_columns(seen)


def _follows(table: pd.DataFrame) -> None:
    slope, _ = np.polyfit(RAISES, table["brow_raise"], 1)
    assert 0.75 < slope < 1.3 and np.corrcoef(RAISES, table["brow_raise"])[0, 1] > 0.95
    assert np.ptp(table["mouth_opening"]) < 0.1 and np.ptp(table["yaw"]) < 2


@pytest.fixture(scope="module")
def starter() -> SteerableFace:
    return open_renderer(FaceSpec("starter"))


@pytest.fixture(scope="module")
def seen(tracker: Tracker, portrait: Image) -> Face:
    (face,) = tracker(portrait)
    return face


@pytest.fixture(scope="module")
def brows(portrait: Image, seen: Face) -> PosedBrows:
    return PosedBrows(portrait, seen.landmarks, seen.rotation)


@pytest.mark.parametrize("yaw", [-20.0, 0.0, 20.0])
def test_a_trained_head_moves_its_brows(starter: SteerableFace, tracker: Tracker, yaw: float) -> None:
    rows = np.array([starter.trained.space.row({"yaw": yaw, "brow_raise": raised}) for raised in RAISES])
    _follows(pd.DataFrame([_read(tracker, frame) for frame in starter.frames(rows, moving=False)]))


def test_a_photo_moves_its_brows_and_nothing_else(posed: PosedPhoto, tracker: Tracker) -> None:
    rest, *frames = (posed.pose(0, 12, 0, brows=raised) for raised in (0.0, *RAISES))
    _follows(pd.DataFrame([_read(tracker, cv2.resize(to_rgb(frame), None, fx=2, fy=2)) for frame in frames]))
    changed = np.argwhere(np.abs(frames[-1].astype(int) - rest) > 3)
    assert 0 < len(changed) < 0.06 * rest.size and np.ptp(changed[:, 0]) < 0.25 * rest.shape[0]


def test_lids_go_along(portrait: Image, seen: Face, brows: PosedBrows) -> None:
    """What was drawn in the picture before is what is moved."""
    grey, plain = np.full_like(portrait, 90), np.array(portrait)
    brows.paint(grey, 0.8)
    assert (grey == 90).all()
    brows.paint(plain, 1.0)
    iris = seen.landmarks[[468, 473], :2].round().astype(int)
    for x, y in iris:
        around = np.s_[y - 2 : y + 3, x - 2 : x + 3]
        assert (plain[around] == portrait[around]).all(), "eyes stay"
    assert (plain != portrait).any()


@settings(max_examples=40, deadline=None)
@given(raised=st.floats(-3, 3))
def test_skin_is_never_folded(brows: PosedBrows, raised: float) -> None:
    across, down = brows.fetched(raised)
    assert np.diff(across, axis=1).min() > -1 and np.diff(down, axis=0).min() > -1
    edges = [*down[[0, -1]], *down[:, [0, -1]].T]
    assert max(float(np.abs(edge).max()) for edge in edges) < 0.3, "the picture around stays"


def test_glasses_stay(tracker: Tracker) -> None:
    file = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    picture = read_image(file)
    (seen,) = tracker(picture)
    hopper, raised = PosedBrows(picture, seen.landmarks, seen.rotation), np.array(picture)
    assert hopper.frame is not None
    hopper.paint(raised, 1.0)
    share, _ = hopper.frame
    off = np.abs(raised.astype(int) - picture)[hopper.box]
    assert off[share[..., 0] > 0.99].max() <= 1, "the frame's pixels are its own"
    assert off[share[..., 0] < 0.01].max() > 30, "skin and brows above it move"


def test_a_face_without_glasses_has_none(brows: PosedBrows) -> None:
    assert brows.frame is None


def test_brows_out_of_the_picture_stay(portrait: Image, seen: Face) -> None:
    for landmarks in (seen.landmarks + np.float32(5000), np.full_like(seen.landmarks, 100)):
        image = np.array(portrait)
        away = PosedBrows(portrait, landmarks, seen.rotation)
        away.paint(image, 1.0)
        assert away.boxes == [] and (image == portrait).all() and not away.reach(portrait.shape).any()


def test_a_recording_raises_its_brows(portrait: Image, seen: Face, tracker: Tracker) -> None:
    yuv = cv2.cvtColor(portrait, cv2.COLOR_RGB2YUV)
    planes: list[NDArray[np.float32]] = [yuv[..., 0].astype(np.float32)]
    planes += [yuv[::2, ::2, number].astype(np.float32) for number in (1, 2)]
    luma = planes[0].copy()
    now = paint_features(planes, seen, {"brow_raise": 0.9}, 1.0, 1.0, "drive")
    assert now["brow_raise"] == pytest.approx(0.9)
    drawn = np.dstack([planes[0].astype(np.uint8)] * 3)
    was = np.dstack([luma.astype(np.uint8)] * 3)
    assert _read(tracker, drawn)["brow_raise"] - _read(tracker, was)["brow_raise"] > 0.4
    assert 0 < (np.abs(planes[0] - luma) > 2).mean() < 0.1


def test_a_driver_moves_them_from_rest() -> None:
    times = np.arange(50) / 25
    raised = -1.5 + 0.8 * (np.abs(times - 1) < 0.2) - 3 * (times > 1.9)
    table = pd.DataFrame({"found": True, "time": times, "pitch": 0.0, "yaw": 0.0, "roll": 0.0, "brow_raise": raised})
    brow = drive(table, DRIVER, "video")["brow_raise"]
    assert np.median(brow) == 0 and brow.max() == pytest.approx(0.8) and brow.min() == -1


def test_datasets_and_faces_from_before() -> None:
    """Eyes and mouth commanded, but no brows: those of a dataset are at rest, a learned face cannot move them."""
    names = [name for name in DRIVER.names if name != "brow_raise"]
    labels = pd.DataFrame({f"commanded_{name}": [1.0, np.nan] for name in names})
    assert shown_by(labels.columns) is None
    whole = with_brows(labels)
    assert shown_by(whole.columns) is DRIVER and whole["commanded_brow_raise"].tolist()[0] == 0
    assert np.isnan(whole["commanded_brow_raise"].iloc[1]) and whole.equals(with_brows(whole))
    SpaceRecord(name="driver", controls=[ControlRecord(**vars(each)) for each in DRIVER.only(names).controls])
    with pytest.raises(ValueError, match="has the controls"):
        SpaceRecord(name="driver", controls=[ControlRecord(**vars(each)) for each in DRIVER.only(names[:-1]).controls])


def test_a_scenario_that_moves_brows_needs_a_face_that_does(starter: SteerableFace) -> None:
    (scenario,) = find_scenarios(["nominal-surprise"])
    assert scenario.moves_brows and not scenario.warnings
    command = scenario.trajectory()["brow_raise"]
    assert command.min() == -1 and command.max() == pytest.approx(1)
    assert why_not(scenario, starter) is None
    space = starter.trained.space
    before: Any = replace(starter, trained=replace(starter.trained, space=space.only(space.names[:-1])))
    assert "before brows could be moved" in str(why_not(scenario, before))
