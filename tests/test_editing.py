"""Editing a recorded drive: identical outside the window, the command followed inside, no jump between."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from commands import dmsynth, fails
from dmsynth.datasets.photo import PoseRange, pose_photo, prepare
from dmsynth.learning.training import train
from dmsynth.motion.trajectory import Trajectory, parse_motions
from dmsynth.steering import load_face
from dmsynth.steering.editing import edit_video
from dmsynth.steering.provenance import read_provenance
from dmsynth.support.errors import DmsynthError
from dmsynth.support.table_files import read_table
from dmsynth.trackers import Tracker, face_columns
from dmsynth.video import Image, VideoWriter

BEGIN, END = 0.6, 3.4
MOTION = "hold 0.1; move yaw=-22 0.4; hold 0.3; move yaw=0 0.4"


@dataclass(frozen=True)
class Edit:
    drive: Path
    out: Path
    table: pd.DataFrame
    before: list[Any]
    after: list[Any]


def frames(path: Path) -> list[Any]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def planes(frame: Any) -> list[bytes]:
    return [bytes(plane) for plane in frame.planes]


def luma(frame: Any) -> NDArray[np.float64]:
    return np.asarray(frame.to_ndarray(format="gray"), dtype=float)


def motion() -> Trajectory:
    return parse_motions(MOTION, ("pitch", "yaw", "roll"), 25)


@pytest.fixture(scope="module")
def edit(tmp_path_factory: pytest.TempPathFactory, tracker: Tracker, portrait: Image) -> Edit:
    """The portrait of the starter face, driving in colour for four seconds with a little sway; then edited."""
    folder = tmp_path_factory.mktemp("edit")
    posed = prepare(portrait, tracker, (320, 240), "astronaut")
    with VideoWriter(folder / "drive.mp4", 320, 240, 25) as video:
        for time in np.arange(100) / 25:
            video.write(posed.pose(pitch=3 * np.sin(time), yaw=4 * np.sin(0.7 * time + 1), roll=2 * np.sin(1.1 * time)))
    face = load_face(Path("starter"))
    table = edit_video(folder / "drive.mp4", face, motion(), BEGIN, END, folder / "edited.mp4", tracker)
    drive, out = folder / "drive.mp4", folder / "edited.mp4"
    return Edit(drive, out, table, frames(drive), frames(out))


def test_outside_the_window_every_frame_is_the_same(edit: Edit) -> None:
    assert len(edit.before) == len(edit.after) == len(edit.table) == 100
    for before, after, edited in zip(edit.before, edit.after, edit.table["edited"], strict=True):
        assert edited == (BEGIN <= float(before.time) <= END)
        assert float(before.time) == pytest.approx(float(after.time), abs=1e-4)
        if not edited:
            assert planes(before) == planes(after)


def test_inside_it_the_head_follows_and_the_cabin_stays(edit: Edit, tracker: Tracker) -> None:
    inside = edit.table[edit.table["edited"]]
    errors = []
    for number, row in zip(inside["frame"], inside.to_dict("records"), strict=True):
        faces = tracker(edit.after[number].to_ndarray(format="rgb24"))
        assert len(faces) == 1
        errors.append([faces[0].pose[name] - row[name] for name in ("pitch", "yaw", "roll")])
        before, after = luma(edit.before[number]), luma(edit.after[number])
        corners = np.s_[-40:, :40], np.s_[-40:, -40:]
        assert all(np.array_equal(before[corner], after[corner]) for corner in corners)
    assert (np.abs(errors).mean(axis=0) < 1).all() and np.quantile(np.abs(errors), 0.9) < 2
    assert inside["yaw"].min() == pytest.approx(-22, abs=0.1) and inside["covered"].all()
    assert inside["recorded_yaw"].abs().max() < 7


@pytest.mark.slow
def test_a_phone_held_upright_is_edited_upright(edit: Edit, tracker: Tracker, tmp_path: Path) -> None:
    """Stored lying on its side, with a note to turn it: the new file needs no note, and outside the window it is the
    same, turned."""
    lying = tmp_path / "phone.mp4"
    with VideoWriter(lying, 240, 320, 25) as video:
        for frame in edit.before:
            video.write(np.rot90(frame.to_ndarray(format="rgb24")))
    content = bytearray(lying.read_bytes())
    start = content.index(b"tkhd") + 4 + 40
    content[start : start + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    lying.write_bytes(content)
    out = tmp_path / "edited.mp4"
    table = edit_video(lying, load_face(Path("starter")), motion(), BEGIN, END, out, tracker)
    after = frames(out)
    assert (after[0].width, after[0].height) == (320, 240) and not after[0].side_data.get("DISPLAYMATRIX")
    for before, now in zip(frames(lying)[:10], after, strict=False):
        assert np.array_equal(np.rot90(before.to_ndarray(format="gray"), -1), now.to_ndarray(format="gray"))
    middle = table.to_dict("records")[int(np.nanargmin(table["yaw"].to_numpy(dtype=float)))]
    face = tracker(after[int(middle["frame"])].to_ndarray(format="rgb24"))[0]
    assert face.pose["yaw"] == pytest.approx(middle["yaw"], abs=3) and abs(face.pose["roll"]) < 5


def test_nothing_jumps_where_the_edit_begins_and_ends(edit: Edit) -> None:
    changes = {
        name: np.array([np.abs(luma(b) - luma(a)).mean() for a, b in pairwise(shown)])
        for name, shown in (("before", edit.before), ("after", edit.after))
    }
    numbers = np.flatnonzero(edit.table["edited"])
    for edge in (numbers[0], numbers[-1] + 1):
        near = np.s_[edge - 4 : edge + 4]
        assert changes["after"][near].max() < 1.5 * changes["before"][near].max() + 0.1
    bright = np.array([luma(frame).mean() for frame in edit.after])
    assert np.abs(np.diff(bright)).max() < 1.5  # grey levels of the whole frame, even while the head turns quickest
    poses = edit.table.loc[numbers, ["pitch", "yaw", "roll"]].to_numpy(dtype=float)
    recorded = edit.table.loc[numbers, ["recorded_pitch", "recorded_yaw", "recorded_roll"]].to_numpy(dtype=float)
    assert np.array_equal(poses[0], recorded[0]) and np.abs(poses[-1] - recorded[-1]).max() < 0.1
    assert np.abs(np.diff(poses, axis=0)).max() < 5


def test_it_says_that_it_was_edited(edit: Edit) -> None:
    found = read_provenance(edit.out)
    assert found.provenance.kind == "edited" and not found.doubts
    assert read_table(edit.out.with_suffix(".parquet"))["edited"].sum() == edit.table["edited"].sum()


@pytest.mark.slow
def test_a_colour_face_of_another_size_and_shape_edits_too(edit: Edit, tracker: Tracker, tmp_path: Path) -> None:
    """One that learned for a moment: what matters is what is touched, not how it looks."""
    poses = PoseRange(pitch=5, yaw=10, roll=5)
    dataset = pose_photo(tmp_path / "data", None, tracker, 40, (96, 96), poses, colour=True)
    face = load_face(train(dataset, tmp_path / "run", base_channels=4, steps=3))
    table = edit_video(edit.drive, face, motion(), BEGIN, END, tmp_path / "edited.mp4", tracker)
    touched = np.zeros((240, 320), dtype=bool)
    for before, after, edited in zip(edit.before, frames(tmp_path / "edited.mp4"), table["edited"], strict=True):
        assert edited or planes(before) == planes(after)
        touched |= luma(before) != luma(after)
    assert touched[:, 40:280].any() and not touched[:, :40].any() and not touched[:, 280:].any()  # the middle square


def test_eyes_are_closed_without_a_face_and_nothing_else_changes(edit: Edit, tracker: Tracker, tmp_path: Path) -> None:
    out = tmp_path / "asleep.mp4"
    asleep = ("--trajectory", "move eye_opening=0 0.2; hold 1; move eye_opening=1 0.2", "--from", BEGIN, "--to", END)
    done = dmsynth("edit", edit.drive, *asleep, "--out", out)
    assert done.returncode == 0, done.stderr
    table, after = read_table(out.with_suffix(".parquet")), frames(out)
    for before, now, edited in zip(edit.before, after, table["edited"], strict=True):
        assert edited or planes(before) == planes(now)
    middle = 50  # in the middle of the hold
    was, now = (tracker(frame.to_ndarray(format="rgb24"))[0] for frame in (edit.before[middle], after[middle]))
    read = face_columns(now)
    assert (
        table["eye_opening_left"][middle] == 0
        and read["eye_opening_left"] < 0.5 < face_columns(was)["eye_opening_left"]
    )
    assert abs(read["yaw"] - face_columns(was)["yaw"]) < 1.5
    touched = luma(edit.before[middle]) != luma(after[middle])
    eyes = was.landmarks[[33, 263], :2]
    assert touched.mean() < 0.05 and np.abs(np.argwhere(touched)[:, 0].mean() - eyes[:, 1].mean()) < 10
    assert "eyes of drive.mp4" in read_provenance(out).provenance.face

    out.unlink()
    turning = ("edit", edit.drive, "--trajectory", "move yaw=20 0.5", "--from", BEGIN, "--to", END, "--out", out)
    assert "without --face only eyes, mouth and brows can be moved" in fails(dmsynth(*turning))
    wild = ("edit", edit.drive, "--trajectory", "move gaze_yaw=200 0.5", "--from", BEGIN, "--to", END, "--out", out)
    assert "it must lie between -50 and 50" in fails(dmsynth(*wild)) and not out.exists()
    assert "give --scenario or --trajectory" in fails(dmsynth(*turning[:2], *turning[4:]))


def test_mistakes_are_told(edit: Edit, tmp_path: Path, tracker: Tracker) -> None:
    starter, out = load_face(Path("starter")), tmp_path / "out.mp4"
    for begin, end, said in ((1.0, 2.0, "too short for 1.2 s of scenario"), (1.0, 9.0, "drive.mp4 ends at 4.00 s")):
        with pytest.raises(DmsynthError, match=said):
            edit_video(edit.drive, starter, motion(), begin, end, out, tracker)
    empty = tmp_path / "empty.mp4"
    with VideoWriter(empty, 320, 240, 25) as video:
        for _ in range(100):
            video.write(np.full((240, 320), 128, dtype=np.uint8))
    with pytest.raises(DmsynthError, match=r"empty\.mp4, frame 15: no face; choose a window"):
        edit_video(empty, starter, motion(), BEGIN, END, out, tracker)
    with pytest.raises(DmsynthError, match="no such video"):
        edit_video(tmp_path / "absent.mp4", starter, motion(), BEGIN, END, out, tracker)
    with pytest.raises(DmsynthError, match=r"written as \.mp4"):
        edit_video(edit.drive, starter, motion(), BEGIN, END, tmp_path / "out.avi", tracker)
    assert not list(tmp_path.glob("*out*"))


def test_a_damaged_drive_is_not_edited(edit: Edit, tracker: Tracker, tmp_path: Path) -> None:
    """No frame outside the window is "the same" if the recording lacks it."""
    content = edit.drive.read_bytes()
    hole = len(content) * 95 // 100
    for name, damaged in (
        ("zeros", content[:hole] + bytes(400) + content[hole + 400 :]),
        ("cut", content[: len(content) * 95 // 100]),
    ):
        (tmp_path / f"{name}.mp4").write_bytes(damaged)
        hold = parse_motions("hold 0.1", ("pitch", "yaw", "roll"), 25)
        with pytest.raises(DmsynthError, match=rf"{name}\.mp4: (damaged|ends after frame)"):
            edit_video(
                tmp_path / f"{name}.mp4", load_face(Path("starter")), hold, 0.0, 1.6, tmp_path / "out.mp4", tracker
            )
    assert not list(tmp_path.glob("*out*"))


def test_a_mouth_opens_without_a_face(edit: Edit, tracker: Tracker, tmp_path: Path) -> None:
    out = tmp_path / "says.mp4"
    says = ("--trajectory", "move mouth_opening=0.4 0.2; hold 1", "--from", BEGIN, "--to", END)
    done = dmsynth("edit", edit.drive, *says, "--out", out)
    assert done.returncode == 0, done.stderr
    before, after = edit.before[50], frames(out)[50]
    was, now = (tracker(frame.to_ndarray(format="rgb24"))[0] for frame in (before, after))
    assert face_columns(now)["mouth_opening"] - face_columns(was)["mouth_opening"] > 0.2
    eyes = slice(0, int(was.landmarks[[33, 263], 1].max()) + 3)
    assert (luma(before)[eyes] == luma(after)[eyes]).all(), "the eyes stay, pixel by pixel"
