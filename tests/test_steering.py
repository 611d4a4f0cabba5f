"""A trained face + a source + a trajectory → frames."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

import dmsynth
from dmsynth.datasets.dataset import Dataset
from dmsynth.motion.trajectory import parse_motions
from dmsynth.steering import load_face, steer_to_video
from dmsynth.steering.source import read_source
from dmsynth.steering.writing import check_not_input
from dmsynth.support.errors import DmsynthError
from dmsynth.support.table_files import read_table
from dmsynth.video import read_video, write_image


def test_one_frame_from_python(face_file: Path) -> None:
    face = dmsynth.load(face_file)
    image = face.steer(yaw=10, pitch=-5)
    assert image.shape == (80, 96) and image.dtype == np.uint8
    assert np.array_equal(image, face.steer(yaw=10, pitch=-5, roll=0))
    assert not np.array_equal(image, face.steer(yaw=-10, pitch=-5))
    with pytest.raises(DmsynthError, match="no control named jaw"):
        face.steer(jaw=3)
    for nonsense in (400.0, float("nan")):
        with pytest.raises(DmsynthError, match="it must lie between -90 and 90 °"):
            face.steer(yaw=nonsense)
    with pytest.warns(UserWarning, match="lies outside what .*face.safetensors was trained on"):
        face.steer(yaw=80)


def test_inputs_are_never_overwritten(tmp_path: Path) -> None:
    for name in ("motion.parquet", "motion.mp4"):
        with pytest.raises(DmsynthError, match="is an input of this command"):
            check_not_input(tmp_path / "motion.mp4", [str(tmp_path / name), None])
    check_not_input(tmp_path / "other.mp4", [str(tmp_path / "motion.mp4@3"), "move yaw=3 1"])


def test_an_input_is_kept_however_it_is_named(workdir: Path) -> None:
    """With an @ in its name, through a link, by another spelling, or as a part of a folder."""
    recording, folder = workdir / "me@work.mp4", workdir / "data@home"
    folder.mkdir()
    (folder / "labels.parquet").touch()
    recording.touch()
    (workdir / "link.mp4").symlink_to(recording)
    (workdir / "hard.mp4").hardlink_to(recording)
    (workdir / "loop.mp4").symlink_to(workdir / "loop.mp4")
    for out, source in (
        ("me@work.mp4", "me@work.mp4"),
        ("me@work.mp4", "me@work.mp4@3"),
        ("./data@home/../me@work.mp4", str(recording)),
        ("link.mp4", "me@work.mp4"),
        ("me@work.mp4", "link.mp4@2"),
        ("hard.mp4", "me@work.mp4"),
        ("data@home/labels.mp4", "data@home@3"),
    ):
        with pytest.raises(DmsynthError, match=r"is (part of )?an input of this command; give the output another name"):
            check_not_input(Path(out), [source])
    check_not_input(folder / "new.mp4", ["data@home@3", "loop.mp4", "move yaw=3 1; " * 100, "nul\0", folder / "x.csv"])


def test_any_source_size_and_colour_will_do(face_file: Path) -> None:
    face = dmsynth.load(face_file)
    source = np.random.default_rng(0).integers(0, 255, size=(300, 200, 3), dtype=np.uint8)
    assert face.steer(source, yaw=5).shape == (80, 96)


def test_frames_are_the_same_one_by_one_and_together(face_file: Path) -> None:
    face = dmsynth.load(face_file).from_one_source()
    values = parse_motions("sweep yaw=-10:10 1", ("pitch", "yaw", "roll"), 20).values
    together = list(face.frames(values))
    assert len(together) == 21
    for row, image in zip(values[:3], together, strict=False):
        alone = face.steer(pitch=row[0], yaw=row[1], roll=row[2])
        assert np.abs(alone.astype(int) - image).max() <= 1


def test_video_and_table_agree(face_file: Path, tmp_path: Path) -> None:
    face = dmsynth.load(face_file)
    motion = parse_motions("sweep yaw=-8:8 2", ("pitch", "yaw", "roll"), 100)
    table = read_table(steer_to_video(face, motion, tmp_path / "out.mp4", frame_rate=25))
    frames = list(read_video(tmp_path / "out.mp4"))
    assert len(frames) == len(table) == 51
    assert list(table.columns) == ["frame", "time", "pitch", "yaw", "roll", "covered", "confidence"]
    assert table["yaw"].iloc[[0, -1]].tolist() == [-8, 8]
    assert table["time"].to_numpy() == pytest.approx([frame.time for frame in frames], abs=1e-3)


def test_leaving_the_coverage(face_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    face = dmsynth.load(face_file)
    motion = parse_motions("hold 1; sweep yaw=0:80 1", ("pitch", "yaw", "roll"), 10)
    table = read_table(steer_to_video(face, motion, tmp_path / "warned.mp4", 10))
    said = " ".join(capfd.readouterr().err.split())
    first = int(table.index[~table["covered"]][0])
    assert 10 < first < 18 and f"frames {first}-20 of 21 command poses outside" in said
    with pytest.raises(DmsynthError, match=f"frames {first}-20 of 21 command poses outside"):
        steer_to_video(face, motion, tmp_path / "refused.mp4", 10, outside="strict")
    assert not (tmp_path / "refused.mp4").exists()
    clipped = read_table(steer_to_video(face, motion, tmp_path / "clipped.mp4", 10, outside="clip"))
    assert clipped["yaw"].max() < 45 and clipped["yaw"].iloc[:11].abs().max() == 0
    assert not face.outside_coverage(clipped[["pitch", "yaw", "roll"]].to_numpy()).size


def test_sources(photo_dataset: Dataset, face_video: Path, tmp_path: Path) -> None:
    assert np.array_equal(read_source(f"{photo_dataset.path}@5"), photo_dataset.frames[5])
    assert read_source(str(photo_dataset.path)).shape == (80, 96)
    assert read_source(f"{face_video}@12").shape == (240, 320, 3)
    picture = tmp_path / "me@home.png"
    write_image(picture, np.zeros((20, 20), dtype=np.uint8))
    assert read_source(str(picture)).shape == (20, 20, 3)
    for source, complaint in (
        (f"{photo_dataset.path}@72", "has frames 0 to 71, not 72"),
        (f"{face_video}@60", "has frames 0 to 59, not 60"),
        (f"{face_video}@-1", "must be a whole number"),
        (str(tmp_path / "absent.png"), "no such picture"),
    ):
        with pytest.raises(DmsynthError, match=complaint):
            read_source(source)


def test_a_long_video_is_what_its_short_parts_are() -> None:
    """A long one is drawn in parts, several at once, a core each."""
    face, threads = load_face(Path("starter")), torch.get_num_threads()
    motion = np.column_stack([np.linspace(-8, 8, 40), np.linspace(-25, 25, 40), np.zeros(40)])
    values = np.concatenate([motion, motion[::-1]])
    one = face.from_one_source()
    whole = list(one.frames(values))
    parts = [image for begin in range(0, len(values), 8) for image in one.frames(values[begin : begin + 8])]
    assert len(whole) == len(values)
    assert all(np.array_equal(image, part) for image, part in zip(whole, parts, strict=True))
    with closing(one.frames(values)) as frames:  # type: ignore[type-var]
        next(frames)  # and the viewer leaves
    assert torch.get_num_threads() == threads
