"""What a trained face has to beat: filmed frames posed without learning; and whether a drawn face is bent."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from commands import dmsynth, fails
from dmsynth.datasets.dataset import Dataset
from dmsynth.datasets.photo_posing import PosedPhoto
from dmsynth.datasets.recording import import_recordings
from dmsynth.evaluation import evaluate
from dmsynth.evaluation.geometry import displacement
from dmsynth.evaluation.rival import with_rival
from dmsynth.learning.training import train
from dmsynth.steering import FaceSpec, load_face, open_renderer
from dmsynth.support.files import read_json
from dmsynth.trackers import Tracker
from dmsynth.video import read_video


@pytest.fixture(scope="module")
def filmed(face_video: Path, tracker: Tracker, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The turning recording, 60 frames of 320×240."""
    return import_recordings(tmp_path_factory.mktemp("filmed") / "data", [face_video], tracker, size=(320, 240))


def test_displacement_is_how_far_pixels_moved(posed: PosedPhoto, tracker: Tracker) -> None:
    frame = posed.pose(0, 0, 0)
    landmarks = tracker(frame)[0].landmarks
    eyes = float(np.linalg.norm(landmarks[33, :2] - landmarks[263, :2]))
    moved = cv2.warpAffine(
        frame, np.array([[1, 0, 2], [0, 1, 0]], np.float32), frame.shape[1::-1], borderMode=cv2.BORDER_REFLECT
    )
    by = displacement(frame, moved, landmarks)
    assert by is not None and by.shape == frame.shape and np.isnan(by[0, 0])
    assert np.nanmean(by) == pytest.approx(100 * 2 / eyes, rel=0.1)
    for drawn, shift in ((frame, False), (moved, True)):
        still = displacement(frame, drawn, landmarks, common_shift=shift)
        assert still is not None and np.nanmean(still) < 0.3
    assert displacement(frame, moved, landmarks[:20]) is None, "no mesh, no measure"


def test_a_bent_face_is_seen_where_landmarks_see_none(posed: PosedPhoto, tracker: Tracker) -> None:
    """A face whose left half is 6 % narrower: the tracker's angles hardly change."""
    frame = posed.pose(0, 0, 0)
    face = tracker(frame)[0]
    rows, columns = np.indices(frame.shape[:2], dtype=np.float32)
    middle = face.centre[0]
    narrow = (middle + (columns - middle) * np.where(columns < middle, 1.06, 1)).astype(np.float32)
    bent = cv2.remap(frame, narrow, rows, cv2.INTER_CUBIC)
    by = displacement(frame, bent, face.landmarks)
    assert by is not None and np.nanquantile(by, 0.95) > 1.5
    now = tracker(bent)[0].pose
    assert all(abs(now[name] - face.pose[name]) < 3 for name in now)


def test_posed_frames_turn_as_told(filmed: Dataset, tracker: Tracker, tmp_path: Path) -> None:
    """No training at all, and the tracker reads the command."""
    face = open_renderer(FaceSpec(f"posed:{filmed.path}", one_source=True))
    assert face.size == (320, 240) and face.trained.about["steps"] == 0
    poses = np.array([[0.0, yaw, 0.0] for yaw in (-18, -6, 6, 18)])
    commands = np.array([face.trained.space.row({"yaw": yaw}) for _, yaw, _ in poses])
    for pose, image in zip(poses, face.frames(commands), strict=True):
        read = tracker(image)[0].pose
        assert abs(read["yaw"] - pose[1]) < 3 and abs(read["pitch"]) < 4 and abs(read["roll"]) < 3
    outside = np.array([face.trained.space.row({"yaw": yaw}) for yaw in (30.0, 50.0)])
    assert face.outside_coverage(outside).tolist() == [1]
    done = dmsynth("steer", f"posed:{filmed.path}", "--trajectory", "move yaw=8 0.32", "--out", tmp_path / "out.mp4")
    assert done.returncode == 0, done.stderr
    assert len(list(read_video(tmp_path / "out.mp4"))) == 9
    said = fails(dmsynth("steer", "posed:nothing", "--trajectory", "hold 1", "--out", tmp_path / "x.mp4"))
    assert "nothing: not a dataset" in said


def test_a_face_is_held_against_the_rival(filmed: Dataset, tracker: Tracker, tmp_path: Path) -> None:
    """A starved training is worse than no training, and says so."""
    path = train(filmed, tmp_path / "run", steps=2, base_channels=2, quiet=True)
    result = evaluate(load_face(path), filmed, tracker, most=4)
    assert result.metrics["geometry"]["mean"] > 0 and result.table["geometry"].notna().all()
    assert set(result.moved) == set(result.table["position"]), "of so few all are among the worst"
    judged = with_rival(result, load_face(path).trained.space, filmed, tracker, most=3)
    rival = judged.metrics["rival"]
    assert rival["frames"] == rival["face"]["frames"] == len(judged.rival) == 3 and rival["lost"] == 0
    assert rival["geometry"]["mean"] < 3 and max(rival["mae"].values()) < 2
    assert "rival" not in result.metrics, "the evaluation itself is unchanged"


@pytest.mark.slow
def test_the_rival_is_not_held_against_itself(filmed: Dataset, tracker: Tracker) -> None:
    face = open_renderer(FaceSpec(f"posed:{filmed.path}"))
    result = evaluate(face, filmed, tracker, most=2)
    assert "rival" not in with_rival(result, face.trained.space, filmed, tracker).metrics


@pytest.mark.slow
def test_the_report_shows_the_worst_frames_and_the_rival(filmed: Dataset, tmp_path: Path) -> None:
    face = train(filmed, tmp_path / "run", steps=2, base_channels=2, quiet=True)
    done = dmsynth("evaluate", face, filmed.path, "--frames", 4, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "posed rival, same frames" in done.stdout and "geometry error, mean" in done.stdout
    metrics = read_json(tmp_path / "out" / "metrics.json")
    worse = metrics["rival"]["worse_in"]
    assert (
        worse and f"warning: worse than its own filmed frames, posed without any learning, in {worse[0]}" in done.stderr
    )
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "The worst 4 frames, by geometry error" in page and "posed rival: filmed frames, no learning" in page
    assert page.count('alt="posed rival"') == 4 and page.count('alt="geometry error"') == 4
    plain = dmsynth("evaluate", face, filmed.path, "--frames", 4, "--no-rival", "--out", tmp_path / "plain")
    assert plain.returncode == 0 and "rival" not in read_json(tmp_path / "plain" / "metrics.json")
