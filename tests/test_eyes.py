"""Eyes on command: gaze in degrees and lids, posed in a photo and read back by the tracker."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commands import dmsynth, fails
from dmsynth.controls import CONTROL_SPACES, EYES, EYES_RANGE
from dmsynth.controls.coverage import Coverage
from dmsynth.datasets.dataset import open_dataset
from dmsynth.datasets.eye_posing import Eyes
from dmsynth.datasets.photo import PoseRange
from dmsynth.datasets.photo_posing import PosedPhoto
from dmsynth.evaluation import evaluate
from dmsynth.learning.training import train
from dmsynth.motion.driving import from_motions
from dmsynth.steering import FaceSpec, load_face, open_renderer
from dmsynth.trackers import Tracker, face_columns
from dmsynth.trackers.gaze import from_rest
from dmsynth.video import Image, read_video

DRIVER = CONTROL_SPACES["driver"]


def read(tracker: Tracker, image: Image) -> dict[str, float]:
    """What the tracker reads of the one face in an image."""
    (face,) = tracker(image)
    return face_columns(face)


def test_gaze_is_read_as_told_and_the_head_stays(posed: PosedPhoto, tracker: Tracker) -> None:
    told = np.arange(-24, 25, 8.0)
    for head_yaw in (-15.0, 0.0, 15.0):
        seen = pd.DataFrame([read(tracker, posed.pose(0.0, head_yaw, 0.0, eyes=Eyes(gaze_yaw=yaw))) for yaw in told])
        assert np.corrcoef(told, seen["gaze_yaw"])[0, 1] > 0.95
        assert 0.5 < np.polyfit(told, seen["gaze_yaw"], 1)[0] < 1.3, "towards the image's right, in degrees"
        assert np.ptp(seen["yaw"]) < 2 and np.ptp(seen["roll"]) < 2
    up, down = (read(tracker, posed.pose(0.0, 0.0, 0.0, eyes=Eyes(gaze_pitch=pitch))) for pitch in (15.0, -15.0))
    assert up["gaze_pitch"] - down["gaze_pitch"] > 3
    assert up["eye_opening_left"] > down["eye_opening_left"], "the upper lid follows the iris"


def test_lids_close_each_for_itself(posed: PosedPhoto, tracker: Tracker) -> None:
    def openings(left: float, right: float) -> tuple[float, float]:
        seen = read(tracker, posed.pose(0.0, 0.0, 0.0, eyes=Eyes(opening_left=left, opening_right=right)))
        return seen["eye_opening_left"], seen["eye_opening_right"]

    course = np.array([openings(opening, opening) for opening in (1.0, 0.75, 0.5, 0.25, 0.0)])
    assert (np.diff(course, axis=0) < 0).all() and (course[-1] < 0.4 * course[0]).all()
    left, right = openings(0.0, 1.0)
    assert left < 0.75 * right, "the person's own left"
    left, right = openings(1.0, 0.0)
    assert right < 0.75 * left


def test_eyes_at_rest_are_the_photo_and_nothing_else_moves(posed: PosedPhoto, tracker: Tracker) -> None:
    photo = posed.pose(0.0, 0.0, 0.0)
    (face,) = tracker(photo)
    at_rest = np.abs(posed.pose(0.0, 0.0, 0.0, eyes=Eyes()).astype(int) - photo)
    assert at_rest.mean() < 0.1 and np.quantile(at_rest, 0.999) < 12, "taken apart and put together again"
    moved = np.abs(posed.pose(0.0, 0.0, 0.0, eyes=Eyes(10.0, -20.0, 0.3, 1.2)).astype(int) - photo)
    rows, columns = np.nonzero(moved > 2)
    eyes = face.landmarks[[33, 133, 362, 263], :2]
    width = float(np.ptp(eyes[:, 0]))
    assert rows.min() > eyes[:, 1].min() - 0.35 * width and rows.max() < eyes[:, 1].max() + 0.3 * width
    assert columns.min() > eyes[:, 0].min() - 0.15 * width and columns.max() < eyes[:, 0].max() + 0.15 * width


def test_a_turned_head_takes_its_eyes_along(posed: PosedPhoto, tracker: Tracker) -> None:
    gaze = [read(tracker, posed.pose(0.0, yaw, 0.0, eyes=Eyes(gaze_yaw=10.0)))["gaze_yaw"] for yaw in (-12.0, 12.0)]
    assert abs(gaze[0] - gaze[1]) < 7, "the gaze in the head stays, within the tracker's own error"


@settings(max_examples=25, deadline=None)
@given(
    st.floats(-40, 40), st.floats(-50, 50), st.floats(0, 1.3), st.floats(0, 1.3), st.sampled_from([0.0, 30.0, -30.0])
)
def test_any_command_draws_a_picture(
    posed: PosedPhoto, pitch: float, yaw: float, left: float, right: float, head: float
) -> None:
    drawn = posed.pose(0.0, head, 0.0, eyes=Eyes(pitch, yaw, left, right))
    without = posed.pose(0.0, head, 0.0)
    assert drawn.dtype == np.uint8 and drawn.shape == without.shape
    assert (drawn != without).mean() < 0.1, "the eyes only"


def test_a_photo_is_steered_without_training(tracker: Tracker, tmp_path: Path) -> None:
    face = open_renderer(FaceSpec("posed:portrait"), (320, 240))
    assert face.size == (320, 240) and face.trained.space.names == DRIVER.names
    frames = [face.steer(yaw=20.0, gaze_yaw=-20.0), face.steer(yaw=20.0, gaze_yaw=20.0), face.steer(eye_opening=0.0)]
    seen = [read(tracker, frame) for frame in frames]
    assert all(abs(each["yaw"] - told) < 3 for each, told in zip(seen, (20, 20, 0), strict=True))
    assert seen[1]["gaze_yaw"] - seen[0]["gaze_yaw"] > 15
    assert seen[2]["eye_opening_left"] < 0.5
    outside = np.array(
        [face.trained.space.row(pose) for pose in ({"gaze_yaw": 20.0}, {"gaze_yaw": 40.0}, {"yaw": 60.0})]
    )
    assert face.outside_coverage(outside).tolist() == [1, 2], "eyes and head each by their own range"


def test_photos_looks_and_natural_eyes_on_the_command_line(head_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    look = "hold 0.2; move look_yaw=20 head_share=0.25 0.4; hold 0.6"
    done = dmsynth("steer", "portrait", "--trajectory", look, "--size", "320x240", "--natural-eyes", 4, "--out", out)
    assert done.returncode == 0, done.stderr
    table = pd.read_parquet(out.with_suffix(".parquet"))
    assert len(list(read_video(out))) == len(table) == 31
    last = table.iloc[-1]
    assert last["yaw"] == pytest.approx(5) and last["gaze_yaw"] == pytest.approx(15)
    assert table["covered"].all()

    again = dmsynth("steer", "portrait", "--trajectory", out.with_suffix(".parquet"), "--out", tmp_path / "again.mp4")
    assert again.returncode == 0, again.stderr
    copied = pd.read_parquet(tmp_path / "again.parquet")
    assert np.allclose(copied[list(DRIVER.names)], table[list(DRIVER.names)])

    starter = ("steer", head_file, "--out", tmp_path / "x.mp4", "--trajectory")
    assert "natural eyes and talking need a face that moves its eyes and mouth" in fails(
        dmsynth(*starter, "hold 1", "--natural-eyes", 1)
    )
    assert "no control 'gaze_yaw'" in fails(dmsynth(*starter, "move gaze_yaw=10 1"))


def test_motions_of_eyes_begin_at_rest() -> None:
    course = from_motions("hold 0.1; move eye_opening=0 0.1; move eye_opening_left=0.5 0.1", DRIVER, 100)
    values = pd.DataFrame(course.in_space(DRIVER).values, columns=list(DRIVER.names))
    assert values.iloc[0].tolist() == [0, 0, 0, 0, 0, 1, 1, 0, 0]
    assert (values.iloc[-1][["eye_opening_left", "eye_opening_right"]] == 0).all(), "a factor for both"
    assert DRIVER.row({"eye_opening": 0.5, "eye_opening_left": 0.5})[5:7] == [0.25, 0.5]


@pytest.mark.slow
def test_a_dataset_of_moving_eyes_trains_a_face(tracker: Tracker, tmp_path: Path) -> None:
    made = dmsynth("dataset", "photo", tmp_path / "eyes", "--frames", 64, "--eyes", "--size", "320x240")
    assert made.returncode == 0, made.stderr
    dataset = open_dataset(tmp_path / "eyes")
    space = dataset.about[0]
    assert space.name == "driver" and dataset.most_exact_labels == "calibrated"
    values = pd.DataFrame(dataset.controls(space, "calibrated"), columns=list(space.names))
    exact = dataset.labels[[f"commanded_{name}" for name in EYES]].to_numpy()
    assert np.array_equal(values[list(EYES)], exact), "eyes as commanded; only the head is on the tracker's scale"
    still = PoseRange()
    assert still.draw_eyes(0, 3) is None and PoseRange(20, 35, 20, *EYES_RANGE).draw(0, 3) == still.draw(0, 3)

    face = load_face(train(dataset, tmp_path / "run", steps=2, base_channels=4, quiet=True))
    assert face.trained.space.names == DRIVER.names and face.trained.coverage.joint == 3
    frames = list(face.frames(np.array([face.trained.space.row(pose) for pose in ({}, {"gaze_yaw": 20.0})])))
    assert frames[0].shape == (240, 320, 3) and (frames[0] != frames[1]).any()
    told = np.array([face.trained.space.row(pose) for pose in ({"gaze_yaw": 5.0}, {"gaze_yaw": 45.0})])
    assert face.outside_coverage(told).tolist() == [1], (
        "saved and loaded, the eyes are still covered by their own range"
    )
    measured = evaluate(face, dataset, tracker, most=2).metrics["mae"]
    assert set(measured) == set(DRIVER.names)


def test_head_and_eyes_are_covered_each_for_itself() -> None:
    random = np.random.default_rng(0)
    codes = random.uniform(0, 1, (400, 7)).astype(np.float32)
    coverage = Coverage.of(codes, joint=DRIVER.joint)
    corner = codes[:3].copy()
    corner[:, 3:] = [[0.98, 0.02, 0.98, 0.02], [1.4, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, -0.5]]
    assert coverage.outside(corner).tolist() == [False, True, True]
    assert not coverage.outside(coverage.clipped(corner)).any()


@given(st.floats(-8, 8), st.floats(-8, 8), st.floats(0.6, 1.4), st.integers(0, 1000))
def test_a_persons_rest_is_found_between_blinks(pitch: float, yaw: float, opening: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    eyes = np.tile([0.0, 0.0, 1.0, 1.0], (200, 1)) + random.normal(0, [1, 1, 0.02, 0.02], (200, 4))
    blinks = random.permutation(200)[:30]
    eyes[blinks, 2:] *= 0.2
    measured = eyes * [1, 1, opening, opening] + [pitch, yaw, 0, 0]
    found = from_rest(measured, np.arange(200))
    assert np.abs(np.median(found, axis=0) - [0, 0, 1, 1]).max() < 0.5
    assert (found[blinks, 2:] < 0.3).all()
