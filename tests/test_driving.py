"""A tracked head becomes a command: without delay, over gaps, from the right pose, and inside the coverage."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from conftest import shared
from dmsynth.controls import CONTROL_SPACES
from dmsynth.datasets.photo_posing import PosedPhoto
from dmsynth.motion.covered import fitted
from dmsynth.motion.driving import Driving, drive, lag, read_trajectory, smoothed, track_video
from dmsynth.motion.trajectory import Trajectory, parse_motions
from dmsynth.steering import load_face, steer_to_video
from dmsynth.steering.source import as_source, source_pose
from dmsynth.support.errors import DmsynthError
from dmsynth.trackers import Tracker
from dmsynth.video import Image, VideoWriter

ROTATION = CONTROL_SPACES["rotation"]
UNSMOOTHED = Driving(smooth=0)


def tracked(yaw: NDArray[np.float64], lost: slice | None = None, reason: str = "no face") -> pd.DataFrame:
    """A driver at 25 frames a second who turns the head and is not seen in the frames ``lost``."""
    count = len(yaw)
    table = pd.DataFrame({"frame": np.arange(count), "time": np.arange(count) / 25, "found": True, "reason": ""})
    table = table.assign(pitch=-8.0, yaw=yaw, roll=2.0)
    if lost is not None:
        table.loc[table.index[lost], "found"] = False
        table.loc[table.index[lost], "reason"] = reason
        table.loc[table.index[lost], ["pitch", "yaw", "roll"]] = np.nan
    return table


def turning(count: int = 200) -> NDArray[np.float64]:
    return np.asarray(20 * np.sin(2 * np.pi * np.arange(count) / 50) + 3 * np.sin(2 * np.pi * np.arange(count) / 17))


def test_the_lag_is_measured_right() -> None:
    motion = turning()
    assert lag(motion, np.roll(motion, 3)) == pytest.approx(3, abs=0.05)
    assert lag(np.roll(motion, 2), motion) == pytest.approx(-2, abs=0.05)
    assert np.isnan(lag(motion, np.zeros(200)))


def test_smoothing_removes_noise_and_does_not_lag() -> None:
    motion = turning()
    noisy = motion + np.random.default_rng(0).normal(0, 1, 200)
    smooth = smoothed(noisy[:, None], 0.3 * 25)[:, 0]
    assert np.abs(smooth - motion).mean() < 0.7 * np.abs(noisy - motion).mean()
    assert abs(lag(motion, smooth)) < 0.2
    causal = np.convolve(noisy, np.ones(7) / 7)[:200]  # what a filter of past frames alone would do
    assert lag(motion, causal) > 2
    assert np.array_equal(smoothed(noisy[:4, None], 7)[:, 0], noisy[:4])


@pytest.mark.shared
@pytest.mark.parametrize("video", ["d3", "d12"])
def test_smoothing_does_not_lag_behind_real_drivers(video: str, tracker: Tracker) -> None:
    table = track_video(shared(f"data/videos/{video}.mp4"), tracker)
    raw, smooth = drive(table, ROTATION, video, UNSMOOTHED), drive(table, ROTATION, video)
    for axis in ROTATION.names:
        assert abs(lag(raw[axis], smooth[axis])) < 0.2
        jitter = [np.abs(np.diff(motion[axis], 2)).mean() for motion in (raw, smooth)]
        assert jitter[1] < 0.5 * jitter[0]


@pytest.mark.shared
@pytest.mark.slow
def test_a_steered_face_follows_without_lag(tmp_path: Path, tracker: Tracker) -> None:
    """From the driver's own frames to the tracker's answer on the steered video: at most one frame."""
    table = track_video(shared("data/videos/d3.mp4"), tracker)[:150]
    command = drive(table, ROTATION, "d3").first(4.5, "d3")
    steer_to_video(load_face(Path("starter")), command, tmp_path / "out.mp4", 30, outside="clip")
    answer = track_video(tmp_path / "out.mp4", tracker)
    driver = drive(table, ROTATION, "d3", UNSMOOTHED)["yaw"][: len(answer)]
    assert answer["found"].all() and abs(lag(driver, answer["yaw"].to_numpy(dtype=float))) <= 1


def test_absolute_and_relative() -> None:
    table = tracked(turning() + 12)
    absolute = drive(table, ROTATION, "d", UNSMOOTHED)
    assert absolute["yaw"] == pytest.approx(turning() + 12) and absolute["pitch"][0] == -8
    begin = np.array([5.0, -3.0, 1.0])
    first = drive(table, ROTATION, "d", Driving("relative", smooth=0), begin)
    assert first.values[0] == pytest.approx(begin) and np.ptp(first["yaw"]) == pytest.approx(np.ptp(absolute["yaw"]))
    typical = drive(table, ROTATION, "d", Driving("relative", "typical", smooth=0), begin)
    assert np.median(typical.values, axis=0) == pytest.approx(begin)
    assert drive(table, ROTATION, "d", Driving("relative", smooth=0)).values[0] == pytest.approx([0, 0, 0])
    for mode, neutral in (("sideways", "first"), ("relative", "last")):
        with pytest.raises(DmsynthError, match="choose"):
            Driving(mode, neutral)


def test_short_gaps_are_bridged_and_long_ones_refused() -> None:
    ramp = np.linspace(0, 20, 100)
    bridged = drive(tracked(ramp, slice(40, 50)), ROTATION, "driver.mp4", UNSMOOTHED)
    assert bridged["yaw"] == pytest.approx(ramp)
    held = drive(tracked(ramp, slice(0, 10)), ROTATION, "driver.mp4", UNSMOOTHED)
    assert len(held) == 100 and held["yaw"][:10] == pytest.approx(np.full(10, ramp[10]))
    for lost, said in (
        (slice(40, 60), r"driver\.mp4: no usable face in frames 40 to 59, 0\.80 s \(several faces: 20\); up to 0\.5 s"),
        (slice(80, 100), r"no usable face in frames 80 to 99, 0\.80 s"),
        (slice(0, 100), r"no usable face in any of its 100 frames \(several faces: 100\); film one person"),
    ):
        with pytest.raises(DmsynthError, match=said):
            drive(tracked(ramp, lost, "several faces"), ROTATION, "driver.mp4")
    assert len(drive(tracked(ramp, slice(40, 60)), ROTATION, "driver.mp4", Driving(longest_gap=1))) == 100


def test_drivers_that_cannot_drive(tmp_path: Path, tracker: Tracker, posed: PosedPhoto) -> None:
    """A video without a face, with two people, and one shorter than asked."""
    face = posed.pose(0, 0, 0)
    for name, frame, said in (
        ("empty.mp4", np.full_like(face, 120), "no usable face in any of its 8 frames .no face: 8"),
        ("two.mp4", np.hstack([face, face]), "no usable face in any of its 8 frames .several faces: 8"),
    ):
        with VideoWriter(tmp_path / name, frame.shape[1], frame.shape[0], 25) as video:
            for _ in range(8):
                video.write(frame)
        with pytest.raises(DmsynthError, match=said):
            read_trajectory(str(tmp_path / name), ROTATION, 25, lambda: tracker)
    with pytest.raises(DmsynthError, match=r"d\.mp4: lasts 7\.96 s, but 10 s were asked for"):
        drive(tracked(turning()), ROTATION, "d.mp4").first(10, "d.mp4")
    assert drive(tracked(turning()), ROTATION, "d.mp4").first(2, "d.mp4").seconds == pytest.approx(2)
    with pytest.raises(DmsynthError, match="has no driver"):
        read_trajectory("move yaw=3 1", ROTATION, 25, lambda: tracker, Driving("relative"))


def test_a_motion_is_fitted_into_the_coverage() -> None:
    trained = load_face(Path("starter")).trained
    motion = parse_motions("hold 0.5; sweep yaw=-70:70 2", ROTATION.names, 25)
    small, share = fitted(motion, trained.space, trained.coverage)
    assert 0.2 < share < 0.8 and not trained.coverage.outside(trained.space.encode(small.values)).any()
    assert np.corrcoef(small["yaw"], motion["yaw"])[0, 1] > 0.999
    inside = parse_motions("sweep yaw=-10:10 2", ROTATION.names, 25)
    assert fitted(inside, trained.space, trained.coverage)[1] == 1
    away = Trajectory(ROTATION.names, np.arange(3.0), np.full((3, 3), 60.0))  # a driver who sits askew
    moved, _ = fitted(away, trained.space, trained.coverage)
    assert not trained.coverage.outside(trained.space.encode(moved.values)).any()


def test_sources_that_cannot_be_used(tracker: Tracker, posed: PosedPhoto) -> None:
    trained = load_face(Path("starter")).trained
    measured = source_pose(posed.pose(0, 15, 0), "me.png", trained.space, trained.coverage, tracker)
    assert 8 < measured[1] < 22
    small = cv2.resize(posed.pose(0, 0, 0), (96, 72), interpolation=cv2.INTER_AREA)
    assert np.abs(source_pose(small, "small.png", trained.space, trained.coverage, tracker)).max() < 8
    for image, said in (
        (np.full((240, 320), 128, np.uint8), r"me\.png: no face found"),
        (np.hstack([posed.pose(0, 0, 0)] * 2), r"me\.png: several faces"),
        (posed.pose(0, 54, 0), r"me\.png: the face is turned to .* never trained; choose a source frame"),
    ):
        with pytest.raises(DmsynthError, match=said):
            source_pose(image, "me.png", trained.space, trained.coverage, tracker)


def test_a_portrait_from_elsewhere_is_framed_as_the_training_frames_are(tracker: Tracker, portrait: Image) -> None:
    """Another crop of the person, twice as large and off to a side: steered from it, the face goes where it is told."""
    face = load_face(Path("starter"))
    shifted = portrait[20:460, 30:490]
    framed, at, _ = as_source(shifted, "me.png", face, tracker)
    assert framed.shape[:2] == (480, 640)
    (seen,) = tracker(framed)
    reference = tracker(face.trained.source)[0]
    assert abs(np.log(np.ptp(seen.landmarks[:, 0]) / np.ptp(reference.landmarks[:, 0]))) < 0.15
    commands = np.array([[0.0, 0.0, 0.0], [0.0, 15.0, 0.0], [5.0, -15.0, 5.0]])
    for command, frame in zip(commands, face.frames(commands, framed, at=at), strict=True):
        (seen,) = tracker(frame)
        assert np.abs(np.array([seen.pose[n] for n in ("pitch", "yaw", "roll")]) - command).max() < 4
    own = face.trained.sources[5]
    kept, *_ = as_source(own, "own", face, tracker)
    assert np.array_equal(kept, own), "what lies where it should is left as it is"


@pytest.mark.parametrize("rate", [25, 60])
def test_a_fast_video_drives_heads_with_and_without_features(rate: int) -> None:
    times = np.arange(2 * rate) / rate
    table = pd.DataFrame({"found": True, "time": times, "pitch": 0.0, "yaw": 10 * np.sin(times), "roll": 0.0})
    for mode in ("absolute", "relative"):
        head = drive(table, CONTROL_SPACES["rotation"], "video", Driving(mode=mode))
        assert np.abs(head["yaw"] - table["yaw"]).max() < 0.2
        talks = table.assign(mouth_opening=0.05 + 0.2 * (np.sin(25 * times) > 0.9))
        whole = drive(talks, CONTROL_SPACES["driver"], "video", Driving(mode=mode))
        assert 0.15 < whole["mouth_opening"].max() < 0.25 and whole["mouth_opening"].min() < 0.02
