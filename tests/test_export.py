"""A face outside PyTorch draws the same pixels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from dmsynth.datasets.dataset import Dataset
from dmsynth.learning.training import train
from dmsynth.steering import load_face, with_features
from dmsynth.steering.export import export_onnx
from dmsynth.support.errors import DmsynthError


@pytest.mark.parametrize("model", ["swapwarp", "rotation"])
def test_onnx_runtime_draws_the_same_pixels(tmp_path: Path, photo_dataset: Dataset, model: str) -> None:
    face = load_face(train(photo_dataset, tmp_path / "run", model, base_channels=4, steps=20))
    path = export_onnx(face, tmp_path / "face.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    about = json.loads(onnx.load(path).metadata_props[0].value)
    assert [control["name"] for control in about["controls"]] == ["pitch", "yaw", "roll"]
    for pose in ([0, 0, 0], [5, 15, -4], [-8, -18, 9]):
        values = np.array([pose], dtype=np.float32)
        (image,) = session.run(["image"], {"controls": values})
        ours = next(face.from_one_source().frames(values.astype(float)))
        assert np.abs(np.round(image[0, 0] * 255) - ours).max() <= 2


@pytest.mark.slow
def test_eyes_move_in_onnx_runtime(tmp_path: Path) -> None:
    face = with_features(load_face(Path("starter"))).from_one_source()
    small = face.as_learned()
    session = onnxruntime.InferenceSession(export_onnx(face, tmp_path / "face.onnx"))
    for eyes in ({}, {"gaze_yaw": 22.0}, {"gaze_pitch": -13.0, "eye_opening_right": 0.2}, {"eye_opening": 0.0}):
        row = np.array([face.trained.space.row({"yaw": 8.0, **eyes})])
        (image,) = session.run(["image"], {"controls": row.astype(np.float32)})
        off = np.abs(np.round(image[0, 0] * 255) - next(small.frames(row)))
        assert off.mean() < 0.5 and np.quantile(off, 0.999) < 8, eyes


def test_other_names_are_refused(tmp_path: Path, face_file: Path) -> None:
    with pytest.raises(DmsynthError, match=r"\.onnx"):
        export_onnx(load_face(face_file), tmp_path / "face.bin")
