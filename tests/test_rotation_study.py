"""Chapter 4 by one command, and whose face it is."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from commands import dmsynth, fails
from conftest import shared
from dmsynth.experiments.rotation import Judges, LivePortraitGiven, reproduce
from dmsynth.support.errors import DmsynthError
from dmsynth.trackers import Tracker
from dmsynth.trackers.identity import Likeness
from dmsynth.video import Image, VideoWriter, fit, read_video, to_grey


def frames_of(name: str, count: int = 40) -> list[Image]:
    """Every third frame of a recording of a real person."""
    frames = islice(read_video(shared(f"data/videos/{name}.mp4")), 0, 3 * count, 3)
    return [to_grey(fit(frame.image, 272, 272)) for frame in frames]


@pytest.mark.slow
@pytest.mark.shared
def test_identity_tells_people_apart_and_forgives_blur(tracker: Tracker) -> None:
    person, driver, stranger = frames_of("d6"), frames_of("d3"), frames_of("d12")
    likeness = Likeness.learn(person, driver, tracker)
    assert likeness is not None

    def identity(images: list[Image]) -> float:
        value = likeness.kept(images, tracker)["identity"]
        assert value is not None
        return value

    assert identity(person[1::2]) == pytest.approx(1, abs=0.1)
    assert identity(driver[1::2]) == pytest.approx(0, abs=0.1)
    assert 0.2 < identity(stranger) < 0.8, "nobody of the two"
    assert identity([cv2.GaussianBlur(image, (0, 0), 2) for image in person]) > 0.8
    assert identity([cv2.flip(image, 1) for image in person]) > 0.6, "mirrored it is still the same person"
    assert likeness.kept([np.zeros((64, 64), np.uint8)], tracker) == {"identity": None, "nearer": None}


def test_the_same_person_twice_has_no_identity_to_keep(tracker: Tracker, face_video: Path) -> None:
    frames = [frame.image for frame in islice(read_video(face_video), 12)]
    same = Likeness.learn(frames, frames, tracker)
    assert same is None
    assert Likeness.learn(frames[:2], frames, tracker) is None, "too few"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, face_video: Path) -> Path:
    """The smallest study. What "LivePortrait made elsewhere" is the driving video itself: the best there can be."""
    out = tmp_path_factory.mktemp("rotation") / "study"
    done = dmsynth(
        "reproduce", "rotation", "--driving", face_video, "--liveportrait-video", face_video, "--preset", "smoke",
        "--second-tracker", "none", "--out", out,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.slow
def test_chapter_4_by_one_command(study: Path) -> None:
    report = (study / "report.md").read_text()
    for figure in ("4.1", "4.2", "4.3, turning", "4.4, turning"):
        assert f"**Figure {figure}.**" in report
    assert (study / "report.html").read_text().count("data:video/mp4") == 1
    folder = study / "driving-turning"
    beside = list(read_video(folder / "beside.mp4"))
    assert len(beside) == 30
    assert beside[0].image.shape[1] == 5 * 96, "driver, three of ours, and LivePortrait"
    for video in ("rotation-model", "swapwarp", "swapwarp-own-sources"):
        assert (folder / f"{video}.provenance.json").is_file()
    tracks = pd.read_parquet(folder / "tracks.parquet")
    driver, ideal = (tracks[f"{title}: yaw"].to_numpy() for title in ("driver", "LivePortrait"))
    assert np.nanmean(np.abs(driver - ideal)) < 2, "the same video, made smaller"
    assert np.corrcoef(driver, tracks["SwapWarp, own sources: yaw"].fillna(0))[0, 1] > 0.5


@pytest.mark.slow
def test_claims_are_judged_and_what_did_not_run_is_not(study: Path) -> None:
    findings = pd.read_csv(study / "findings.csv").set_index("claim")
    pitch, yaw, _ = str(findings["measured"]["LivePortrait follows the driving rotation closely"]).split(" / ")
    assert float(pitch) > 0.9 and float(yaw) > 0.99, "the driving video follows itself; it does not roll"
    holds = findings["holds"]
    noise = holds["rotation model follows the driving rotation closely"]
    assert str(noise) == "False", "after 60 steps it draws noise"
    assert pd.isna(holds["Seconds for the rotation model, minutes for LivePortrait"]), "its time is not known"
    measured = findings["measured"]
    alike = measured["The rotation model and LivePortrait are close to each other in rotation"]
    assert alike == "no face found", "LivePortrait's video is there; no face is in the noise"
    assert measured["The rotation model is a lot leaner than LivePortrait"].endswith("was made elsewhere")
    costs = (study / "report.md").read_text().partition("## What it costs")[2]
    assert "| LivePortrait | – | – | – | – | – |" in costs
    assert "rotation model" in costs and "MiB" in costs


@pytest.mark.slow
@pytest.mark.slow
def test_one_more_driver_trains_nothing_anew(study: Path, face_video: Path, tmp_path: Path) -> None:
    face = study / "rotation" / "face.safetensors"
    before = face.stat().st_mtime_ns
    short = tmp_path / "short.mp4"
    with VideoWriter(short, 320, 240, 30) as video:
        for frame in islice(read_video(face_video), 20):
            video.write(frame.image)
    done = dmsynth(
        "reproduce", "rotation", "--driving", short, "--preset", "smoke", "--second-tracker", "none", "--out", study
    )
    assert done.returncode == 0, done.stderr
    assert "has 20 frames, not 30; all of them drive" in " ".join(done.stderr.split())
    assert face.stat().st_mtime_ns == before
    report = (study / "report.md").read_text()
    assert "LivePortrait (did not run)" in report and "did not run: its columns are empty" in report
    other = dmsynth("reproduce", "rotation", "--driving", short, "--preset", "smoke", "--seed", 1, "--out", study)
    assert "holds another study" in fails(other)


def test_what_cannot_drive_is_refused_before_anything_is_trained(face_video: Path, tmp_path: Path) -> None:
    face = [frame.image for frame in islice(read_video(face_video), 40)]
    videos = {
        "nobody": [np.full((240, 320), 90, np.uint8)] * 8,
        "two": [np.hstack([image, image]) for image in face[:8]],
        "gap": [image if number < 5 or number > 30 else np.zeros_like(image) for number, image in enumerate(face)],
    }
    paths = {}
    for name, images in videos.items():
        paths[name] = tmp_path / f"{name}.mp4"
        with VideoWriter(paths[name], images[0].shape[1], 240, 30) as video:
            for image in images:
                video.write(image)
    out = tmp_path / "study"

    def refused(driving: list[Path], given: LivePortraitGiven | None = None, preset: str = "smoke") -> str:
        with pytest.raises(DmsynthError) as error:
            reproduce(out, preset, [], driving, judges=Judges(second="none"), liveportrait=given)
        assert not (out / "dataset").exists()
        return str(error.value)

    assert "nobody.mp4: no usable face in any of its 8 frames (no face: 8)" in refused([paths["nobody"]])
    assert "two.mp4: no usable face in any of its 8 frames (several faces: 8)" in refused([paths["two"]])
    assert "gap.mp4: no usable face in frames 5 to" in refused([paths["gap"]])
    assert "give files of different names" in refused([paths["gap"], paths["gap"]])
    assert "--preset huge: there is thesis, laptop, smoke" in refused([face_video], preset="huge")
    elsewhere = LivePortraitGiven(video=face_video)
    assert "give that one --driving alone" in refused([face_video, paths["gap"]], elsewhere)
    assert "no.mp4" in refused([face_video], LivePortraitGiven(video=tmp_path / "no.mp4"))
    assert "no LivePortrait checkout" in refused([face_video], LivePortraitGiven(folder=tmp_path))
    assert "two.mp4: no usable face" in fails(
        dmsynth("reproduce", "rotation", "--driving", paths["two"], "--preset", "smoke", "--out", out)
    )
