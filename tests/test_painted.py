"""Eyes of trained faces, drawn into their source frames."""

from __future__ import annotations

import json
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

import dmsynth as library
from commands import dmsynth, fails
from dmsynth.controls import CONTROL_SPACES, EYES
from dmsynth.datasets.eye_posing import Eyes
from dmsynth.datasets.photo import prepare
from dmsynth.evaluation.eyes import eye_commands, summarize_eyes
from dmsynth.learning.face_file import SourceFeatures, read_face, save_face
from dmsynth.motion.driving import Driving, drive
from dmsynth.steering import FaceSpec, SteerableFace, load_face, open_renderer, with_features
from dmsynth.steering.source import as_source
from dmsynth.support.errors import DmsynthError
from dmsynth.trackers import Tracker, face_columns
from dmsynth.video import Image, to_rgb

DRIVER = CONTROL_SPACES["driver"]


@pytest.fixture(scope="module")
def starter() -> SteerableFace:
    return open_renderer(FaceSpec("starter"))


def read(tracker: Tracker, image: Image) -> dict[str, float]:
    (seen,) = tracker(np.kron(to_rgb(image), np.ones((2, 2, 1), np.uint8)))
    return face_columns(seen)


def poses(face: SteerableFace, *told: dict[str, float]) -> np.ndarray[Any, Any]:
    return np.array([face.trained.space.row(each) for each in told])


@pytest.mark.parametrize("yaw", [-18.0, 0.0, 18.0])
def test_a_trained_head_moves_its_eyes(starter: SteerableFace, tracker: Tracker, yaw: float) -> None:
    gaze = np.linspace(-24, 24, 7)
    frames = starter.frames(poses(starter, *({"yaw": yaw, "gaze_yaw": float(each)} for each in gaze)))
    seen = pd.DataFrame([read(tracker, frame) for frame in frames])
    slope, _ = np.polyfit(gaze, seen["gaze_yaw"], 1)
    assert slope > 0.4 and np.corrcoef(gaze, seen["gaze_yaw"])[0, 1] > 0.95
    assert np.ptp(seen["yaw"]) < 2.5 and abs(seen["yaw"].mean() - yaw) < 4, "the head stays"


def test_each_lid_closes_for_itself(starter: SteerableFace, tracker: Tracker) -> None:
    lids: tuple[dict[str, float], ...] = (
        {},
        {"eye_opening": 0.0},
        {"eye_opening_left": 0.0},
        {"eye_opening_right": 0.0},
    )
    rest, both, left, right = (
        np.array([read(tracker, frame)[name] for name in EYES[2:]]) for frame in starter.frames(poses(starter, *lids))
    )
    assert (both < 0.4 * rest).all()
    assert left[0] < 0.6 * rest[0] and left[1] > 0.8 * rest[1]
    assert right[1] < 0.6 * rest[1] and right[0] > 0.8 * rest[0]


def test_eyes_at_rest_change_nothing(starter: SteerableFace) -> None:
    """To the bit; and rows of the head alone are heads with eyes at rest."""
    heads = np.array([[0.0, 0.0, 0.0], [5.0, -14.0, 3.0], [-8.0, 22.0, -4.0]])
    plain = list(load_face(Path("starter")).frames(heads, moving=False))
    for face in (starter, starter.head_only):
        assert all((a == b).all() for a, b in zip(plain, face.frames(heads, moving=False), strict=True))
    assert starter.head_only.trained.space.name == "rotation"
    assert np.array_equal(starter.head_only.trained.source_codes, load_face(Path("starter")).trained.source_codes)


def test_eyes_change_the_eyes_only(starter: SteerableFace) -> None:
    still, moved = starter.frames(poses(starter, {}, {"gaze_yaw": 15.0, "eye_opening": 0.6}), moving=False)
    changed = np.argwhere(np.abs(still.astype(int) - moved) > 3)
    assert 0 < len(changed) < 0.06 * still.size
    assert np.ptp(changed[:, 0]) < 0.25 * still.shape[0], "a band as high as eyes and lids"


def test_head_and_eyes_have_coverage_of_their_own(starter: SteerableFace) -> None:
    told = poses(starter, {"gaze_yaw": 28.0}, {"gaze_yaw": 40.0}, {"gaze_pitch": -19.0}, {"yaw": 60.0}, {})
    assert starter.outside_coverage(told).tolist() == [1, 3]


def test_the_library_loads_them(starter: SteerableFace) -> None:
    face = library.load("starter", features=True)
    (same,) = starter.frames(poses(starter, {"yaw": 5.0, "gaze_yaw": 10.0}), moving=False)
    assert (face.steer(yaw=5, gaze_yaw=10) == same).all()
    with pytest.raises(DmsynthError, match="no control named gaze_yaw"):
        library.load("starter").steer(gaze_yaw=10)


def test_a_brought_picture_moves_its_eyes(starter: SteerableFace, tracker: Tracker, portrait: Image) -> None:
    framed, at, eyes = as_source(portrait, "portrait", starter.head_only, tracker)
    assert eyes is not None
    brought = starter.from_source(framed, at, eyes)
    (open_,) = brought.frames(poses(brought, {}))
    (shut,) = brought.frames(poses(brought, {"eye_opening": 0.0}))
    assert all(read(tracker, shut)[name] < 0.5 * read(tracker, open_)[name] for name in EYES[2:])
    with pytest.raises(DmsynthError, match="is not known"):
        next(starter.frames(poses(starter, {"gaze_yaw": 9.0}), framed))
    (unknown,) = starter.frames(poses(starter, {"yaw": 4.0}), framed)
    assert unknown.shape == open_.shape


def test_a_picture_moves_the_eyes_of_a_face(
    starter: SteerableFace, tracker: Tracker, tmp_path: Path, portrait: Image
) -> None:
    assert portrait.ndim == 3
    cv2.imwrite(str(tmp_path / "driver.png"), portrait[..., ::-1])
    brought = open_renderer(FaceSpec("starter", source=str(tmp_path / "driver.png")))
    rest, aside = brought.frames(poses(brought, {}, {"gaze_yaw": 18.0}))
    assert rest.shape == (*starter.size[::-1], 3)
    assert read(tracker, aside)["gaze_yaw"] - read(tracker, rest)["gaze_yaw"] > 5
    assert np.abs(rest.astype(float) - aside).mean() < 3, "the rest of the picture stays"


def test_a_source_that_does_not_fit_its_eyes_is_refused(
    starter: SteerableFace, tracker: Tracker, portrait: Image
) -> None:
    framed, at, eyes = as_source(portrait, "portrait", starter.head_only, tracker)
    with pytest.raises(DmsynthError, match=r"1280×960 with eyes.*640×480"):
        starter.from_source(np.kron(framed, np.ones((2, 2) + (1,) * (framed.ndim - 2), np.uint8)), at, eyes)


@pytest.mark.parametrize("own", [Eyes(gaze_yaw=18), Eyes(opening_left=0.55, opening_right=0.55)])
def test_eyes_at_rest_are_the_persons_rest(
    starter: SteerableFace, tracker: Tracker, portrait: Image, own: Eyes
) -> None:
    """Whatever the source frame's eyes do: those that look aside look ahead, lids that hang open."""
    posed = prepare(portrait, tracker, starter.size, "portrait")

    def at_rest(eyes: Eyes) -> tuple[dict[str, float], dict[str, float]]:
        framed, at, seen = as_source(posed.pose(0, 0, 0, eyes=eyes), "posed", starter.head_only, tracker)
        assert seen is not None
        seen = SourceFeatures(seen.landmarks, np.array([[*astuple(eyes), 0.0, 0.0]], np.float32))
        brought = starter.from_source(framed, at, seen)
        (frame,) = brought.frames(poses(brought, {}))
        return read(tracker, framed), read(tracker, frame)

    _, usual = at_rest(Eyes())
    shown, drawn = at_rest(own)
    for name, near in (("gaze_yaw", 4.0), ("eye_opening_left", 0.12)):
        told = abs(shown[name] - usual[name])
        assert abs(drawn[name] - usual[name]) < max(near, told / 2), name
    moved = abs(shown["gaze_yaw"] - usual["gaze_yaw"]), usual["eye_opening_left"] - shown["eye_opening_left"]
    assert moved[0] > 8 or moved[1] > 0.15, "the source frame's eyes are off their rest"


def test_a_face_file_keeps_them(head_file: Path, tmp_path: Path) -> None:
    face = read_face(head_file)
    assert face.features is None
    eyes = load_face(Path("starter")).trained.features
    assert eyes is not None and len(eyes.landmarks) == len(face.sources)
    for wrong in (
        replace(eyes, landmarks=eyes.landmarks[:-1].copy()),
        replace(eyes, values=eyes.values[:, :3].copy()),
        replace(eyes, landmarks=np.full_like(eyes.landmarks, np.nan)),
    ):
        save_face(tmp_path / "face.safetensors", replace(face, features=wrong))
        with pytest.raises(DmsynthError, match=r"features\."):
            read_face(tmp_path / "face.safetensors")
    save_face(tmp_path / "face.safetensors", replace(face, features=eyes))
    again = read_face(tmp_path / "face.safetensors").features
    assert isinstance(again, SourceFeatures) and np.array_equal(again.landmarks, eyes.landmarks)
    before = replace(eyes, values=eyes.values[:, :5].copy())
    save_face(tmp_path / "face.safetensors", replace(face, features=before))
    again = read_face(tmp_path / "face.safetensors").features
    assert again is not None and (again.values[:, 5] == 0).all(), "a file from before brows: they are at rest"


def test_an_eye_out_of_the_picture_stays_as_it_is() -> None:
    """Landmarks beyond the frame, or all in one place: nothing breaks, the other eye moves."""
    face = load_face(Path("starter")).from_one_source()
    eyes = face.trained.features
    assert eyes is not None
    width = float(np.ptp(eyes.landmarks[0, :, 0]))
    half = face.size[0] - eyes.landmarks[0, :, 0].max() + 0.4 * width
    for moved, changes in (((half, 0.0), True), ((5000.0, 0.0), False), (None, False)):
        landmarks = eyes.landmarks + np.array(moved, np.float32) if moved else np.full_like(eyes.landmarks, 100)
        there = with_features(
            replace(face, trained=replace(face.trained, features=SourceFeatures(landmarks, eyes.values)))
        )
        still, shut = there.frames(poses(there, {}, {"eye_opening": 0.0}))
        assert (still != shut).any() == changes


def test_a_driver_in_a_video_moves_them_from_rest() -> None:
    """Whatever that driver's eyes are at rest; a blink stays one."""
    count = 100
    table = pd.DataFrame({"found": True, "time": np.arange(count) / 25, "pitch": 2.0, "yaw": 5.0, "roll": 0.0})
    table["gaze_yaw"], table["gaze_pitch"] = np.where(np.arange(count) < 70, 6.0, 18.0), 4.0
    table["eye_opening_left"] = table["eye_opening_right"] = np.where(np.abs(np.arange(count) - 30) < 6, 0.2, 1.6)
    for mode in ("absolute", "relative"):
        command = drive(table, DRIVER, "video", Driving(mode=mode))
        values = pd.DataFrame(command.values, columns=list(command.names))
        DRIVER.check(command.in_space(DRIVER).values)
        assert values["gaze_yaw"].iloc[5] == pytest.approx(0, abs=0.5)
        assert values["gaze_yaw"].iloc[90] == pytest.approx(12, abs=0.5)
        assert values["eye_opening_left"].iloc[60] == pytest.approx(1, abs=0.02)
        assert values["eye_opening_left"].iloc[30] < 0.2


def test_a_driver_of_whom_some_eye_columns_are_known_moves_those() -> None:
    table = pd.DataFrame({"found": True, "time": np.arange(60) / 25, "pitch": 0.0, "yaw": 0.0, "roll": 0.0})
    table["gaze_yaw"] = np.where(np.arange(60) < 40, 5.0, 20.0)
    command = drive(table, DRIVER, "video", Driving(mode="absolute"))
    assert set(command.names) == {"pitch", "yaw", "roll", "gaze_yaw"}
    gaze = command.values[:, command.names.index("gaze_yaw")]
    assert gaze[3] == pytest.approx(0, abs=0.5) and gaze[55] == pytest.approx(15, abs=0.5)


@pytest.mark.slow
def test_how_well_eyes_follow_on_the_command_line(head_file: Path, tracker: Tracker, tmp_path: Path) -> None:
    done = dmsynth("evaluate-eyes", "starter", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "gaze_yaw at yaw 20°" in done.stdout and "left lid" in done.stdout
    found = json.loads((tmp_path / "out" / "eyes.json").read_text())
    assert found["lost"] == 0 and found["frames"] == len(eye_commands())
    ahead = found["sweeps"]["gaze_yaw at yaw 0°"]["landmarks"]
    assert ahead["correlation"] > 0.95 and 0.5 < ahead["gain"] < 1.3
    assert found["sweeps"]["both lids"]["left"]["closed"] < 0.4
    table = pd.read_parquet(tmp_path / "out" / "eyes.parquet")
    against_itself = summarize_eyes(table, table)
    assert against_itself["sharpness"] == 1 and against_itself["sweeps"]["gaze_pitch"]["landmarks"]["error"] == 0
    assert (tmp_path / "out" / "eyes.png").stat().st_size > 50_000
    said = fails(dmsynth("evaluate-eyes", head_file, "--out", tmp_path / "none"))
    assert "does not know where its eyes are" in said


@pytest.mark.slow
def test_eyes_beside_the_exact_truth_on_the_command_line(tmp_path: Path) -> None:
    done = dmsynth("evaluate-eyes", "starter", "--truth", "portrait", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out" / "eyes.json").read_text())
    assert found["sharpness"] > 0.7
    ahead = found["sweeps"]["gaze_yaw at yaw 0°"]["landmarks"]
    assert 0.8 < ahead["gain_of_truth"] < 1.15 and ahead["error"] < 4


@pytest.mark.parametrize("yaw", [-18.0, 0.0, 18.0])
def test_a_trained_head_opens_its_mouth(starter: SteerableFace, tracker: Tracker, yaw: float) -> None:
    told = np.linspace(0, 0.9, 7)
    frames = list(starter.frames(poses(starter, *({"yaw": yaw, "mouth_opening": float(each)} for each in told))))
    seen = pd.DataFrame([read(tracker, frame) for frame in frames])
    slope, _ = np.polyfit(told, seen["mouth_opening"], 1)
    assert 0.5 < slope < 1.3 and np.corrcoef(told, seen["mouth_opening"])[0, 1] > 0.96
    assert np.ptp(seen["yaw"]) < 4 and seen["eye_opening_left"].std() < 0.1, "head and eyes stay"
    above = int(0.4 * starter.size[1])  # of the frame: the mouth is lower
    assert all((frame[:above] == frames[0][:above]).all() for frame in frames)


@pytest.mark.slow
def test_eyes_and_mouth_of_a_steered_video(tmp_path: Path) -> None:
    """Talking, and the expression that a command leaves alone."""
    course = "move yaw=8 mouth_opening=0.5 gaze_yaw=10 0.2; hold 0.4"

    def steered(name: str, trajectory: str, *options: Any) -> pd.DataFrame:
        done = dmsynth("steer", "starter", "--trajectory", trajectory, "--out", tmp_path / f"{name}.mp4", *options)
        assert done.returncode == 0, done.stderr
        return pd.read_parquet(tmp_path / f"{name}.parquet")

    talks = steered("talk", "hold 2", "--talking", 5)["mouth_opening"]
    yawning = steered("yawn", "hold 2; move mouth_opening=0.8 0.4; hold 0.6", "--talking", 5)["mouth_opening"]
    assert yawning.max() > 0.75 and yawning[:50].max() > 0.05, "the wider opening counts"
    assert talks.max() > 0.05 and talks.equals(steered("again", "hold 2", "--talking", 5)["mouth_opening"])
    assert steered("driving", course)["mouth_opening"].iloc[-1] == pytest.approx(0.5)
    neutral = steered("neutral", course, "--expression", "neutral")
    assert (neutral["mouth_opening"] == 0).all() and (neutral["gaze_yaw"] == 0).all() and neutral["yaw"].iloc[-1] == 8
    assert "mouth_opening" not in steered("source", course, "--expression", "source")
    refused = ("steer", "starter", "--trajectory", "hold 1", "--out", tmp_path / "no.mp4", "--expression")
    assert "choose driving, neutral, source" in fails(dmsynth(*refused, "sad"))
    for option in ("--talking", "--natural-eyes"):
        done = dmsynth("steer", "starter", "--trajectory", "hold 1", "--out", tmp_path / "no.mp4", option, -3)
        assert done.returncode == 2 and option in done.stderr
    assert "leave out --natural-eyes and --talking" in fails(dmsynth(*refused, "neutral", "--talking", 1))


def test_a_mouth_leaves_the_eyes_of_a_rolled_head_as_they_were_drawn(starter: SteerableFace) -> None:
    """There the mouth's box reaches into an eye."""
    rolls = starter.trained.space.decode(starter.trained.source_codes[:, : len(DRIVER.names)])[:, 2]
    features = starter.own_appearance(int(np.abs(rolls).argmax())).features
    shut, both = np.zeros((2, starter.size[1], starter.size[0], 3), np.uint8)
    for image, mouth in ((shut, 0.0), (both, 0.9)):
        image[...] = to_rgb(starter.trained.sources[int(np.abs(rolls).argmax())])
        features.paint(image, np.array([0, 0, 0, 0, mouth, 0]))
    for rows, columns in features.eyes.boxes:
        middle = slice(rows.start, rows.start + 2 * (rows.stop - rows.start) // 3)
        assert np.abs(shut[middle, columns].astype(int) - both[middle, columns]).max() < 12
    assert (shut != both).any()


def test_a_mouth_that_is_not_in_the_picture_stays() -> None:
    face = load_face(Path("starter")).from_one_source()
    known = face.trained.features
    assert known is not None
    for shift in ((0.0, 340.0), (5000.0, 0.0), (0.0, 120.0)):
        moved = SourceFeatures(known.landmarks + np.array(shift, np.float32), known.values)
        there = with_features(replace(face, trained=replace(face.trained, features=moved)))
        still, open_ = there.frames(poses(there, {}, {"mouth_opening": 0.8}))
        assert (still != open_).any() == (shift == (0.0, 120.0))


def test_what_a_command_leaves_alone(tmp_path: Path) -> None:
    """An expression that stays, where the trajectory says nothing else; and of a photo's own eyes."""
    out = tmp_path / "still.mp4"
    for name in ("starter", "portrait"):
        for kept in ("neutral", "source"):
            size = ("--size", "320x240") if name == "portrait" else ()
            course = ("--trajectory", "move gaze_yaw=20 0.2", "--expression", kept, *size)
            done = dmsynth("steer", name, *course, "--out", out)
            assert done.returncode == 0, done.stderr
            table = pd.read_parquet(out.with_suffix(".parquet"))
            assert (table["yaw"] == 0).all() and ("gaze_yaw" in table) == (kept == "neutral")


def test_a_mouth_that_the_source_shows_open_is_left_to_the_network() -> None:
    """Rest closes no mouth, so it changes nothing there; only what opens further is drawn."""
    face = load_face(Path("starter")).from_one_source()
    known = face.trained.features
    assert known is not None
    usual, *_ = with_features(face).frames(poses(with_features(face), *[{"yaw": 5.0}] * 3))  # as many as below
    talks = SourceFeatures(known.landmarks, np.array([[0, 0, 1, 1, 0.3, 0]], np.float32))
    there = with_features(replace(face, trained=replace(face.trained, features=talks)))
    rest, less, more = there.frames(
        poses(there, {"yaw": 5.0}, {"yaw": 5.0, "mouth_opening": 0.2}, {"yaw": 5.0, "mouth_opening": 0.6})
    )
    assert (rest == usual).all() and (less == usual).all() and (more != usual).any()
