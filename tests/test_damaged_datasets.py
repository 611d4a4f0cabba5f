"""A dataset that a kill, a power cut or a disk spoilt: made whole again, or refused by name."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from commands import dmsynth as command
from commands import fails
from dmsynth.datasets.cutout import make_position_dataset
from dmsynth.datasets.dataset import Dataset, DatasetWriter, open_dataset, partial_path
from dmsynth.evaluation import evaluate
from dmsynth.learning.training import train
from dmsynth.steering import load_face
from dmsynth.steering.source import read_source
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import sha256_of
from dmsynth.trackers import Tracker

_LABELS = {"recording": "a.mp4", "recording_index": 0, "commanded_x": 1.0, "commanded_y": 2.0}


def _begun(path: Path, frames: NDArray[np.uint8]) -> tuple[Path, Path]:
    """An import that was killed: its journal and its frames."""
    writer = DatasetWriter(path, {"kind": "test"}, (4, 4))
    for number, frame in enumerate(frames):
        writer.keep(frame, _LABELS | {"frame": number})
    writer._journal.close()
    writer._frames.close()
    return partial_path(path) / "records.jsonl", partial_path(path) / "frames.npy"


@pytest.mark.parametrize("harm", ["torn line", "line", "text", "number", "pixel", "zeros", "no UTF-8", "job"])
def test_what_a_disk_damages_costs_the_frames_after_it_and_not_the_import(tmp_path: Path, harm: str) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (6, 4, 4), dtype=np.uint8)
    path, left = tmp_path / "dataset", 3
    journal, pixels = _begun(path, frames)
    lines = journal.read_bytes().splitlines(keepends=True)
    if harm == "torn line":
        journal.write_bytes(b"".join(lines)[:-4])
        left = 5
    elif harm in ("pixel", "zeros"):
        content = bytearray(pixels.read_bytes())
        at = 128 + 3 * 16
        content[at : at + 16] = bytes(16) if harm == "zeros" else bytes([content[at] ^ 1]) + content[at + 1 : at + 16]
        pixels.write_bytes(content)
    elif harm == "job":
        (journal.parent / "job.json").write_text('{"format": ')
        left = 0
    else:
        changed = {
            "line": b"[" * 100_000 + b"\n",
            "text": b"nonsense\n",
            "number": lines[3].replace(b"1.0", b"1.5"),
            "no UTF-8": lines[3].replace(b"a.mp4", b"\xff.mp4"),
        }
        journal.write_bytes(b"".join([*lines[:3], changed[harm], *lines[4:]]))
    again = DatasetWriter(path, {"kind": "test"}, (4, 4))
    assert again.done == left
    for number in range(left, 6):
        again.keep(frames[number], _LABELS | {"frame": number})
    assert np.array_equal(again.finish(np.array(["train"] * 6)).check_frames().frames, frames)
    assert not partial_path(path).exists()


def test_killed_before_it_is_begun_or_while_it_is_removed_nothing_is_in_the_way(tmp_path: Path) -> None:
    path = tmp_path / "dataset"
    frames = np.zeros((6, 4, 4), np.uint8)
    for left in (("records.jsonl",), ("records.jsonl", "frames.npy"), ("records.jsonl", "frames.npy", ".job.9.x")):
        partial_path(path).mkdir()
        for name in left:
            (partial_path(path) / name).touch()
        DatasetWriter(path, {"kind": "test"}, (4, 4)).abandon()
        assert not partial_path(path).exists()
    _begun(path, frames)
    stray = partial_path(path) / f".job.{os.getpid()}-00000000.partial.json"
    stray.touch()
    again = DatasetWriter(path, {"kind": "test"}, (4, 4))
    again.finish(np.array(["train"] * 6))
    assert {file.name for file in path.iterdir()} == {"frames.npy", "labels.parquet", "manifest.json"}


def test_made_already_is_no_error_and_its_end_is_tidied(tmp_path: Path, tracker: Tracker) -> None:
    out = tmp_path / "dataset"
    make = partial(make_position_dataset, out, None, tracker, 12, (128, 96))
    made = make()
    (out / "records.jsonl").touch()  # killed at the very end
    assert make().sha256 == made.sha256
    assert not (out / "records.jsonl").exists()
    with pytest.raises(DmsynthError, match="exists already, and is not what was asked for; give another name"):
        make(seed=9)
    (tmp_path / "file").touch()
    with pytest.raises(DmsynthError, match="file: is a file; the first name is that of the dataset's folder"):
        make_position_dataset(tmp_path / "file", None, tracker, 12, (128, 96))
    with pytest.raises(DmsynthError, match="has no name that a folder can get"):
        make_position_dataset(Path(), None, tracker, 12, (128, 96))


def test_a_damaged_dataset_is_named(tmp_path: Path, photo_dataset: Dataset, tracker: Tracker, face_file: Path) -> None:
    def damaged(name: str, change: Callable[[bytes], bytes]) -> Path:
        shutil.rmtree(tmp_path / "d", ignore_errors=True)
        shutil.copytree(photo_dataset.path, tmp_path / "d")
        file = tmp_path / "d" / name
        file.write_bytes(change(file.read_bytes()))
        return tmp_path / "d"

    def manifest(**changes: Any) -> Callable[[bytes], bytes]:
        return lambda content: json.dumps(json.loads(content) | changes).encode()

    for name, change, said in (
        ("manifest.json", lambda c: c[:-9], "not valid JSON"),
        ("manifest.json", lambda c: b"[" * 10**5, "not valid JSON"),
        ("manifest.json", lambda c: b"7", "dataset format None"),
        ("manifest.json", manifest(recipe=[]), "recipe: input should be"),
        ("manifest.json", manifest(frames=10**30), "frames: input should be"),
        ("manifest.json", manifest(shape=[96, 80, 5]), "shape"),
        ("manifest.json", manifest(left_out={"x": "y"}), "left_out.x: input should be"),
        ("manifest.json", manifest(frames_sha256=3), "frames_sha256: input should be"),
        ("labels.parquet", lambda c: c[:-9], "damaged: its SHA-256"),
        ("labels.parquet", lambda c: b"", "damaged: its SHA-256"),
        ("frames.npy", lambda c: c[:-9], "damaged: not the 553088 bytes that were written for 72 frames"),
        ("frames.npy", lambda c: c[:20] + b"9" + c[21:], "damaged: not the"),
        ("frames.npy", lambda c: b"", "damaged: not the"),
    ):
        path = damaged(name, change)
        with pytest.raises(DmsynthError, match=said) as error:
            open_dataset(path)
        assert str(path) in str(error.value) and "again" in str(error.value)
    zeroed = damaged("frames.npy", lambda c: c[:200_000] + bytes(100_000) + c[300_000:])
    dataset = open_dataset(zeroed)  # fast; whoever uses the frames looks at all of them
    for use in (
        lambda: train(dataset, tmp_path / "run", base_channels=4, steps=3),
        lambda: evaluate(load_face(face_file), dataset, tracker),
        lambda: read_source(f"{zeroed}@3"),
    ):
        with pytest.raises(DmsynthError, match=r"frames\.npy: damaged: its SHA-256 is not the one in the manifest"):
            use()
    assert not (tmp_path / "run").exists()
    assert "its SHA-256" in fails(command("dataset", "info", zeroed))


def test_labels_that_were_made_up_are_refused(tmp_path: Path, photo_dataset: Dataset) -> None:
    shutil.copytree(photo_dataset.path, tmp_path / "d")
    labels, file = photo_dataset.labels, tmp_path / "d" / "labels.parquet"
    uneven = pd.Series([[1.0] * (n % 3) for n in range(72)])
    for changed, said in (
        (labels.drop(columns="split"), "has no column 'split'"),
        (labels.assign(split="x"), "holds what is no split"),
        (labels.assign(tracked_yaw="x"), "column 'tracked_yaw' holds what is no number"),
        (labels.assign(tracked_yaw=np.nan), "column 'tracked_yaw' holds what is no number"),
        (labels.drop(columns=["tracked_yaw"]), "says neither where"),
        (labels.assign(landmarks=uneven), "rows of different lengths"),
        (labels[:5], "72 frames but 5 labels"),
    ):
        changed.to_parquet(file)
        manifest = json.loads((photo_dataset.path / "manifest.json").read_text())
        (tmp_path / "d" / "manifest.json").write_text(json.dumps(manifest | {"labels_sha256": sha256_of(file)}))
        with pytest.raises(DmsynthError, match=said):
            open_dataset(tmp_path / "d")


def test_frames_that_the_disk_lost_are_made_again(tmp_path: Path) -> None:
    frames = np.arange(5 * 16, dtype=np.uint8).reshape(5, 4, 4)
    writer = DatasetWriter(tmp_path / "dataset", {"kind": "test"}, (4, 4))
    for number, frame in enumerate(frames):
        writer.keep(frame, _LABELS | {"frame": number})
    writer._journal.close()
    file = partial_path(tmp_path / "dataset") / "frames.npy"
    file.write_bytes(file.read_bytes()[:-20])  # a power cut: labels of five frames, pixels of three and a bit
    again = DatasetWriter(tmp_path / "dataset", {"kind": "test"}, (4, 4))
    assert again.done == 3
    for number in range(again.done, 5):
        again.keep(frames[number], _LABELS | {"frame": number})
    dataset = again.finish(np.array(["train"] * 5))
    assert np.array_equal(dataset.frames, frames)
