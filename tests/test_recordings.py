"""Recordings as they come: sideways, of two people, with holes, damaged, with odd names, and commands typed wrongly."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from commands import dmsynth, fails
from conftest import shared
from dmsynth.controls import CONTROL_SPACES
from dmsynth.datasets.dataset import open_dataset, partial_path
from dmsynth.datasets.photo_posing import PosedPhoto
from dmsynth.datasets.recording import import_recordings
from dmsynth.motion.driving import Driving, drive, track_video
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import check_output
from dmsynth.trackers import Tracker
from dmsynth.trackers.identity import PersonChangeDetector
from dmsynth.video import Image, VideoWriter, read_video, to_grey


def test_a_recording_that_is_stored_turned_is_refused(tmp_path: Path, posed: PosedPhoto, tracker: Tracker) -> None:
    video = tmp_path / "turned.mp4"
    with VideoWriter(video, 240, 320, 30) as written:
        for phase in np.linspace(0, 2 * np.pi, 40):
            written.write(np.rot90(posed.pose(pitch=0, yaw=12 * np.sin(phase), roll=0)))
    with pytest.raises(
        DmsynthError, match=r"turned\.mp4: the head lies on its side .* ffmpeg -i turned\.mp4 -vf trans"
    ):
        import_recordings(tmp_path / "data", [video], tracker)
    assert not (tmp_path / "data").exists() and not partial_path(tmp_path / "data").exists()


@pytest.mark.shared
def test_a_cut_to_another_person_is_noticed(tracker: Tracker) -> None:
    def some(name: str) -> list[Image]:
        frames = islice(read_video(shared(f"data/videos/{name}.mp4")), 0, 90, 6)
        return [to_grey(frame.image) for frame in frames]

    for first, second in (("d3", "d6"), ("d13", "d3")):
        watch, found = PersonChangeDetector(), []
        for number, image in enumerate([*some(first), *some(second)]):
            faces = tracker(image)
            came = watch.changed(image, faces[0], number / 5) if len(faces) == 1 else None
            found += [] if came is None else [came]
        assert found == [pytest.approx(3, abs=0.35)], (first, second)


def test_one_person_is_no_cut(tracker: Tracker, face_video: Path) -> None:
    watch = PersonChangeDetector()
    for frame in read_video(face_video):
        assert watch.changed(to_grey(frame.image), tracker(frame.image)[0], frame.time) is None


def test_frames_that_the_decoder_patched_are_left_out(tmp_path: Path, face_video: Path, tracker: Tracker) -> None:
    content = bytearray(face_video.read_bytes())
    hole = len(content) * 9 // 10
    content[hole : hole + 300] = bytes(300)
    (tmp_path / "damaged.mp4").write_bytes(content)
    dataset = import_recordings(tmp_path / "data", [tmp_path / "damaged.mp4"], tracker, widened=False)
    left_out = dataset.manifest["left_out"]["damaged"]
    assert 36 <= len(dataset) == 60 - left_out and left_out > 2
    assert dataset.labels["frame"].max() == 59 - left_out, (
        "what comes after, up to the next whole picture, is built on it"
    )
    with pytest.raises(DmsynthError, match=r"damaged\.mp4: damaged"):
        list(read_video(tmp_path / "damaged.mp4"))


def test_a_finished_import_asked_for_again_is_no_error(tmp_path: Path, face_video: Path) -> None:
    command = ("dataset", "recording", tmp_path / "data", face_video, "--no-widen")
    assert dmsynth(*command).returncode == 0
    made = open_dataset(tmp_path / "data").sha256
    again = dmsynth(*command)
    assert (
        again.returncode == 0 and "is made already" in again.stderr and open_dataset(tmp_path / "data").sha256 == made
    )
    other = fails(dmsynth(*command, "--size", "128x96"))
    assert "data: exists already, and is not what was asked for" in other
    forgotten = fails(dmsynth("dataset", "recording", face_video, face_video))
    assert (
        "turning.mp4: is a file; the first name is that of the dataset's folder" in forgotten and face_video.is_file()
    )


def test_a_name_that_is_no_text_is_imported(tmp_path: Path, face_video: Path, tracker: Tracker) -> None:
    odd = tmp_path / os.fsdecode(b"fahrer-\xfc.mp4")
    try:
        odd.symlink_to(face_video)
    except OSError:
        pytest.skip("this file system takes names of text alone")
    dataset = import_recordings(tmp_path / "data", [odd], tracker, widened=False)
    assert set(dataset.labels["recording"]) == {"fahrer-?.mp4"}


def test_a_hole_in_time_is_a_gap() -> None:
    times = np.concatenate([np.arange(30) / 30, 4 + np.arange(30) / 30])
    table = pd.DataFrame(
        {"time": times, "found": True, "reason": "", "pitch": 0.0, "yaw": np.linspace(0, 9, 60), "roll": 0.0}
    )
    rotation = CONTROL_SPACES["rotation"]
    with pytest.raises(
        DmsynthError, match=r"d\.mp4: no frames between 0\.97 and 4\.00 s, after frame 29; up to 0\.5 s"
    ):
        drive(table, rotation, "d.mp4")
    assert drive(table, rotation, "d.mp4", Driving(longest_gap=4)).seconds == pytest.approx(times[-1])


@pytest.fixture(scope="module")
def two_people(tmp_path_factory: pytest.TempPathFactory, posed: PosedPhoto) -> Path:
    path = tmp_path_factory.mktemp("two") / "cabin.mp4"
    with VideoWriter(path, 640, 240, 25) as video:
        for yaw in np.linspace(-10, 10, 12):
            video.write(np.hstack([posed.pose(0, 0, 0), posed.pose(0, yaw, 0)]))
    return path


@pytest.mark.slow
def test_of_two_people_one_is_chosen_by_a_crop(two_people: Path, tracker: Tracker, tmp_path: Path) -> None:
    steer = ("steer", "starter", "--trajectory", two_people, "--out", tmp_path / "out.mp4")
    assert "several people in view: --crop LEFT,TOP,WIDTH,HEIGHT around one" in fails(dmsynth(*steer))
    assert dmsynth(*steer, "--crop", "320,0,320,240").returncode == 0
    track = ("track", two_people, "--out", tmp_path / "t.csv", "--crop")
    assert "0 of 12" in dmsynth("track", two_people, "--out", tmp_path / "t.csv").stdout
    assert "12 of 12 frames with one usable face" in dmsynth(*track, "320,0,320,240").stdout
    table = track_video(two_people, tracker, (320, 0, 320, 240))
    assert table["yaw"].iloc[0] == pytest.approx(-10, abs=3) and (table["left"] > 320).all(), (
        "pixels of the whole frame"
    )
    assert "leaves the frame of 640×240" in fails(dmsynth(*track, "400,0,320,240"))


def test_how_small_a_face_is_too_small(portrait: Image, tracker: Tracker, tmp_path: Path) -> None:
    """As the message says of a small picture: an eighth of its width is found, a twelfth is not, but cut out."""
    head = portrait[30:280, 110:360]
    (face,) = tracker(head)

    def picture(share: float) -> Image:
        factor = share * 640 / (face.box[2] - face.box[0])
        small = cv2.resize(head, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        image = np.full((360, 640, 3), 110, np.uint8)
        image[20 : 20 + len(small), 300 : 300 + small.shape[1]] = small
        return image

    assert len(tracker(picture(1 / 7))) == 1 and not tracker(picture(1 / 12))
    path = tmp_path / "cabin.mp4"
    with VideoWriter(path, 640, 360, 25) as video:
        for _ in range(3):
            video.write(picture(1 / 12))
    steer = ("steer", "starter", "--trajectory", path, "--out", tmp_path / "out.mp4")
    assert "in a small picture from an eighth of its width: --crop" in fails(dmsynth(*steer))
    assert dmsynth(*steer, "--crop", "280,0,200,200").returncode == 0


def test_outputs_are_looked_at_before_the_work(
    tmp_path: Path, face_video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.csv").mkdir()
    monkeypatch.setattr("dmsynth.motion.driving.track_video", lambda *_: pytest.fail("the video was tracked first"))
    track = ("track", face_video, "--out")
    assert "a file stands where a folder is needed" in fails(dmsynth(*track, tmp_path / "file" / "t.csv"))
    assert "folder.csv: is a folder" in fails(dmsynth(*track, tmp_path / "folder.csv"))
    assert "no shell replaced the ~" in fails(dmsynth(*track, "~/t.csv", cwd=tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.csv"]
    check_output(tmp_path / "new" / "t.csv")
    assert not (tmp_path / "new").exists()
