"""Datasets on disk: whole, repeatable, resumable, and split without leakage."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import shared
from dmsynth.controls import CONTROL_SPACES
from dmsynth.datasets.dataset import (
    Dataset,
    DatasetWriter,
    on_scale,
    open_dataset,
    partial_path,
    split_at_random,
    split_by_time,
)
from dmsynth.datasets.photo import PoseRange, pose_photo
from dmsynth.datasets.photo_posing import PosedPhoto
from dmsynth.datasets.recording import import_recordings
from dmsynth.datasets.widening import EACH
from dmsynth.report.figures import contact_sheet, coverage_in_text, coverage_map, marginals
from dmsynth.support.errors import DmsynthError
from dmsynth.trackers import Face, Tracker
from dmsynth.video import Image, VideoWriter, write_image
from dmsynth.video.pictures import read_image


@settings(max_examples=40, deadline=None)
@given(
    seconds=st.floats(3, 60),
    rate=st.sampled_from([15, 25, 30]),
    dropped=st.floats(0, 0.5),
    seed=st.integers(0, 99),
)
def test_neighbouring_frames_never_sit_on_both_sides(seconds: float, rate: int, dropped: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    times = np.arange(int(seconds * rate)) / rate
    times = times[random.uniform(size=len(times)) >= dropped]
    splits = split_by_time(np.full(len(times), "a"), times)
    guard = min(0.25, (times[-1] - times[0]) / 18 / 4)
    for name, others in (("train", ("validation", "test")), ("validation", ("test",))):
        own, other = times[splits == name], times[np.isin(splits, others)]
        if own.size and other.size:
            assert np.abs(own[:, None] - other[None]).min() >= min(guard, 1 / rate) - 1e-9
    assert (splits == "train").mean() > 0.4 and (splits == "test").any()


def test_two_recordings_are_split_each_by_its_own_time() -> None:
    times = np.tile(np.arange(180) / 30, 2)
    splits = split_by_time(np.repeat(["a", "b"], 180), times)
    assert (splits[:180] == splits[180:]).all()


def test_random_splits_have_all_parts() -> None:
    splits = split_at_random(900, seed=1)
    assert {name: int((splits == name).sum()) for name in set(splits)} == {
        "train": 700,
        "test": 150,
        "validation": 50,
    }


def test_a_photo_dataset_holds_both_labels(photo_dataset: Dataset) -> None:
    assert len(photo_dataset) == 72 and photo_dataset.size == (96, 80)
    assert isinstance(photo_dataset.frames, np.memmap)
    space = CONTROL_SPACES["rotation"]
    commanded, tracked = photo_dataset.controls(space, "commanded"), photo_dataset.controls(space, "tracked")
    for column in range(3):
        assert np.corrcoef(commanded[:, column], tracked[:, column])[0, 1] > 0.85
    assert np.abs(commanded).max(axis=0) == pytest.approx([10, 20, 10], abs=2)
    assert photo_dataset.manifest["recipe"]["seed"] == 3


def test_the_same_recipe_gives_the_same_bytes(tmp_path: Path, tracker: Tracker, photo_dataset: Dataset) -> None:
    again = pose_photo(tmp_path / "again", None, tracker, 72, (96, 80), PoseRange(10, 20, 10), seed=3, colour=False)
    assert again.sha256 == photo_dataset.sha256


class _Dies:
    """A tracker that stops the process's work after some frames, as a kill would."""

    def __init__(self, tracker: Tracker, after: int) -> None:
        self.tracker, self.name, self.left = tracker, tracker.name, after

    def __call__(self, image: Image) -> list[Face]:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return self.tracker(image)


def test_an_interrupted_import_goes_on_and_ends_the_same(tmp_path: Path, tracker: Tracker, face_video: Path) -> None:
    whole = import_recordings(tmp_path / "whole", [face_video], tracker, widened=False)
    out = tmp_path / "broken"
    with pytest.raises(KeyboardInterrupt):
        import_recordings(out, [face_video], _Dies(tracker, 25), widened=False)
    assert not out.exists()
    with pytest.raises(DmsynthError, match="unfinished; run the command that makes it again"):
        open_dataset(out)
    journal = partial_path(out) / "records.jsonl"
    done = len(journal.read_text().splitlines())
    assert 0 < done < 60
    journal.write_bytes(journal.read_bytes() + b'{"frame": 9')  # a line that the kill cut in two
    with (partial_path(out) / "frames.npy").open("ab") as frames:
        frames.write(b"half a frame")

    counting = _Dies(tracker, 10_000)
    resumed = import_recordings(out, [face_video], counting, widened=False)
    assert 10_000 - counting.left == 60 - done  # measured only what was missing
    assert resumed.sha256 == whole.sha256
    assert not partial_path(out).exists()


@pytest.mark.slow
def test_a_recording_is_widened_by_its_own_frames_posed(tmp_path: Path, tracker: Tracker, face_video: Path) -> None:
    """More rotations to learn from, and not one more to be tested on; interrupted while posing, it ends the same."""
    filmed = import_recordings(tmp_path / "filmed", [face_video], tracker, widened=False)
    whole = import_recordings(tmp_path / "whole", [face_video], tracker)
    posed = whole.labels["posed"].to_numpy()
    groups = (filmed.labels["split"] == "train").sum() // EACH
    assert posed.sum() == groups * EACH > 0 and not posed[: len(filmed)].any()
    assert np.array_equal(whole.frames[: len(filmed)], filmed.frames)
    assert set(whole.labels["split"][posed]) == {"train"}
    assert set(whole.labels["frame"][posed]) <= set(filmed.labels["frame"][filmed.labels["split"] == "train"])
    pitch = whole.labels["tracked_pitch"].to_numpy()
    assert np.ptp(pitch[posed]) > 1.5 * np.ptp(pitch[~posed])  # the recording hardly nods

    measured = len(filmed) + 1 + EACH // 2
    with pytest.raises(KeyboardInterrupt):
        import_recordings(tmp_path / "broken", [face_video], _Dies(tracker, measured))
    assert import_recordings(tmp_path / "broken", [face_video], tracker).sha256 == whole.sha256


def test_calibrated_labels_have_the_trackers_scale_without_its_noise() -> None:
    random = np.random.default_rng(0)
    commanded = random.uniform(-30, 30, (600, 3))
    bent = 4 + 0.8 * commanded + 0.003 * commanded[:, [1, 2, 0]] ** 2 + 0.002 * commanded * commanded[:, [2, 0, 1]]
    tracked = bent + random.normal(0, 0.7, bent.shape)
    fitted = np.arange(600) < 450
    calibrated = on_scale(commanded, tracked, fitted)
    assert np.abs(calibrated - bent)[~fitted].mean() < 0.3 < 0.5 < np.abs(tracked - bent)[~fitted].mean()
    few = on_scale(commanded, tracked, np.arange(600) < 45)  # too few for curves: still a line, never a wild one
    assert np.abs(few - bent).max() < 12


def test_which_labels_are_the_most_exact(photo_dataset: Dataset, tmp_path: Path, tracker: Tracker) -> None:
    space = CONTROL_SPACES["rotation"]
    assert photo_dataset.most_exact_labels == "calibrated"
    calibrated, tracked = (photo_dataset.controls(space, labels) for labels in ("calibrated", "tracked"))
    assert 0 < np.abs(calibrated - tracked).mean() < 2
    unposed = replace(photo_dataset, labels=photo_dataset.labels.drop(columns="commanded_yaw"))
    assert np.array_equal(unposed.controls(space, "calibrated"), tracked)
    only_test = replace(photo_dataset, labels=photo_dataset.labels.assign(split="test"))
    assert np.abs(only_test.controls(space, "calibrated") - tracked).mean() < 2


@pytest.mark.slow
def test_killed_while_it_finishes_nothing_is_lost(
    tmp_path: Path, tracker: Tracker, face_video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = import_recordings(tmp_path / "whole", [face_video], tracker)

    def die(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("dmsynth.datasets.dataset.sha256_of", die)
        with pytest.raises(KeyboardInterrupt):
            import_recordings(tmp_path / "broken", [face_video], tracker)
    counting = _Dies(tracker, 10_000)
    assert import_recordings(tmp_path / "broken", [face_video], counting).sha256 == whole.sha256
    assert counting.left == 10_000


def test_two_imports_do_not_share_a_folder_and_strangers_are_left_alone(
    tmp_path: Path, tracker: Tracker, face_video: Path
) -> None:
    writer = DatasetWriter(tmp_path / "dataset", {"kind": "test"}, (4, 4))
    with pytest.raises(DmsynthError, match="another process is working on it"):
        DatasetWriter(tmp_path / "dataset", {"kind": "test"}, (4, 4))
    writer.abandon()
    (tmp_path / "me.partial").mkdir()
    (tmp_path / "me.partial" / "thesis.doc").write_text("three years")
    with pytest.raises(DmsynthError, match="no dataset of ours"):
        import_recordings(tmp_path / "me", [face_video], tracker)
    assert (tmp_path / "me.partial" / "thesis.doc").exists()


def test_another_recipe_starts_anew(tmp_path: Path, tracker: Tracker, face_video: Path) -> None:
    out = tmp_path / "dataset"
    with pytest.raises(KeyboardInterrupt):
        import_recordings(out, [face_video], _Dies(tracker, 25), size=(160, 128))
    assert import_recordings(out, [face_video], tracker, size=(96, 80)).size == (96, 80)


def test_a_recording_is_labelled_in_time(tmp_path: Path, tracker: Tracker, face_video: Path) -> None:
    dataset = import_recordings(tmp_path / "dataset", [face_video], tracker, widened=False)
    assert dataset.size == (320, 240) and len(dataset) == 60
    assert dataset.labels["time"].to_numpy() == pytest.approx(np.arange(60) / 30, abs=1e-3)
    yaw = dataset.labels["tracked_yaw"].to_numpy()
    assert np.corrcoef(yaw, np.sin(np.linspace(0, 2 * np.pi, 60, endpoint=False)))[0, 1] > 0.97
    with pytest.raises(DmsynthError, match="no commanded labels"):
        dataset.controls(CONTROL_SPACES["rotation"], "commanded")


def test_frames_without_exactly_one_face_are_counted_by_reason(
    tmp_path: Path, tracker: Tracker, posed: PosedPhoto
) -> None:
    video_path = tmp_path / "mixed.mp4"
    face = posed.pose(0, 0, 0)
    twins = np.hstack([face[:, 40:200], face[:, 40:200]])
    cut = np.roll(face, 120, axis=1)
    cut[:, :120] = 128
    with VideoWriter(video_path, 320, 240, 30) as video:
        for number in range(60):
            video.write(face)
            if number % 10 == 0:
                video.write(np.full_like(face, 128))
                video.write(twins)
                video.write(np.vstack([face[100:], np.full((100, 320), 128, np.uint8)]))  # eyes and forehead gone
    dataset = import_recordings(tmp_path / "dataset", [video_path], tracker, widened=False)
    counts = dataset.manifest["left_out"]
    assert counts["no face"] >= 6 and counts["several faces"] == 6
    assert len(dataset) + sum(counts.values()) == 78


def test_crop_and_several_recordings(tmp_path: Path, tracker: Tracker, face_video: Path) -> None:
    dataset = import_recordings(tmp_path / "two", [face_video, face_video], tracker, (160, 160), (40, 0, 240, 240))
    assert (~dataset.posed).sum() == 120 and dataset.size == (160, 160)
    with pytest.raises(DmsynthError, match=r"turning.mp4: the crop 200,0,240,240 leaves the frame of 320×240"):
        import_recordings(tmp_path / "off", [face_video], tracker, crop=(200, 0, 240, 240))


def test_no_face_at_all_leaves_nothing(tmp_path: Path, tracker: Tracker) -> None:
    grey = tmp_path / "grey.mp4"
    with VideoWriter(grey, 160, 128, 25) as video:
        for _ in range(40):
            video.write(np.full((128, 160), 128, dtype=np.uint8))
    with pytest.raises(DmsynthError, match=r"grey.mp4: no face is found in any of 40 frames \(100 % without one\)"):
        import_recordings(tmp_path / "dataset", [grey], tracker)
    assert [path.name for path in tmp_path.iterdir()] == ["grey.mp4"]


def test_portraits_that_cannot_be_posed(tmp_path: Path, tracker: Tracker, portrait: Image) -> None:
    head = portrait[0:255, 60:400]
    pictures = {
        "nobody": np.full((200, 200, 3), 128, dtype=np.uint8),
        "twins": np.hstack([head, head]),
        "cut": portrait[100:300, 100:400],
    }
    for name, picture in pictures.items():
        path = tmp_path / f"{name}.png"
        write_image(path, picture)
        with pytest.raises(DmsynthError, match=rf"{name}.png: .*one person") as error:
            pose_photo(tmp_path / "out", path, tracker, frames=4)
        assert {"nobody": "no face", "twins": "several faces", "cut": "face"}[name] in str(error.value)
    assert not (tmp_path / "out").exists() and not partial_path(tmp_path / "out").exists()


def test_opening_what_is_no_dataset(tmp_path: Path, photo_dataset: Dataset) -> None:
    with pytest.raises(DmsynthError, match="not a dataset"):
        open_dataset(tmp_path)
    manifest = json.loads((photo_dataset.path / "manifest.json").read_text())
    other = tmp_path / "other"
    other.mkdir()
    (other / "manifest.json").write_text(json.dumps(manifest | {"format": 99}))
    with pytest.raises(DmsynthError, match="dataset format 99, but this version reads 1 and 2"):
        open_dataset(other)


def test_pictures_of_a_dataset(tmp_path: Path, photo_dataset: Dataset) -> None:
    for draw in (contact_sheet, marginals, coverage_map):
        path = tmp_path / f"{draw.__name__}.png"
        draw(photo_dataset, path)
        assert min(read_image(path).shape[:2]) > 200
    lines = coverage_in_text(np.array([-10.0, 0, 0, 10]), np.array([-5.0, 0, 0, 5]), 5.0)
    assert lines[0].startswith("    +5°") and "█" in lines[1] and lines[-1].endswith("yaw")


@pytest.mark.shared
@pytest.mark.slow
def test_real_recordings(tmp_path: Path, tracker: Tracker) -> None:
    for name, frames in (("d3", 354), ("d12", 183), ("d6", 1008)):
        dataset = import_recordings(tmp_path / name, [shared(f"data/videos/{name}.mp4")], tracker)
        assert (~dataset.posed).sum() > 0.98 * frames
