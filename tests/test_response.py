"""A head that is commanded alone is read as commanded (``controls.response``)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dmsynth.controls import CONTROL_SPACES, HEAD
from dmsynth.controls.response import Response
from dmsynth.datasets.dataset import Dataset
from dmsynth.evaluation.response import keep_response, measure_response
from dmsynth.learning.face_file import read_face, save_face
from dmsynth.steering import SteerableFace, load_face
from dmsynth.steering.export import export_onnx
from dmsynth.steering.live import LiveFace
from dmsynth.support.errors import DmsynthError
from dmsynth.trackers import Tracker

_SHORT = Response(np.array([1.0, 0.0, -0.5]), np.array([[-0.25, 0.0, 0.02], [0.0, -0.1, 0.0], [0.0, 0.03, 0.0]]))
_SPACE = CONTROL_SPACES["rotation"]


@settings(max_examples=30, deadline=None)
@given(
    offset=arrays(float, 3, elements=st.floats(-5, 5)),
    slope=arrays(float, (3, 3), elements=st.floats(-0.2, 0.2)),
)
def test_what_is_read_is_what_was_wanted(offset: np.ndarray, slope: np.ndarray) -> None:
    commanded = np.random.default_rng(0).uniform(-20, 20, (60, 3))
    response = Response.fitted(commanded, commanded + offset + commanded @ slope.T)
    undone = response.undone(commanded, _SPACE)
    np.testing.assert_allclose(undone + offset + undone @ slope.T, commanded, atol=0.15)


def test_a_tracker_s_noise_is_not_corrected() -> None:
    random = np.random.default_rng(0)
    commanded = random.uniform(-20, 20, (60, 3))
    response = Response.fitted(commanded, commanded + random.normal(0, 0.5, (60, 3)))
    assert not response.offset.any() and not response.slope.any()


def test_frames_that_are_misread_or_lost_count_for_nothing() -> None:
    commanded = np.random.default_rng(0).uniform(-20, 20, (60, 3))
    read = commanded + _SHORT.offset + commanded @ _SHORT.slope.T
    read[::10] += 30
    read[5::10] = np.nan
    response = Response.fitted(commanded, read)
    np.testing.assert_allclose(response.slope, _SHORT.slope, atol=0.02)
    assert not Response.fitted(commanded[:20], read[:20]).slope.any()  # too few to say anything


def test_a_command_in_the_learned_range_stays_in_it() -> None:
    space = _SPACE.fitted(np.array([[-10.0, -10, -10], [10, 10, 10]]))
    undone = _SHORT.undone(np.array([[9.0, 0, 0], [0.0, 0, 0], [14.0, 0, 0]]), space)
    assert undone[0, 0] == 10 and undone[2, 0] == 14  # beyond the range as before
    assert undone[1, 0] == pytest.approx(-1 / 0.75, abs=0.05)


def _misled(path: Path, small_face: Path) -> SteerableFace:
    """A face whose labels say 4/3 of the pitch that it draws, as those of somebody who lowers the lids."""
    face = read_face(small_face)
    pitch, *others = face.space.controls
    wider = replace(pitch, low=pitch.low * 4 / 3, high=pitch.high * 4 / 3)
    save_face(path, replace(face, space=replace(face.space, controls=(wider, *others))))
    return load_face(path)


def test_the_tracker_reads_what_is_commanded(
    tmp_path: Path, small_face: Path, photo_dataset: Dataset, tracker: Tracker
) -> None:
    path = tmp_path / "face.safetensors"
    misled = _misled(path, small_face)
    response = measure_response(misled, photo_dataset, tracker)
    assert response.slope[0, 0] == pytest.approx(-0.25, abs=0.1)
    save_face(path, replace(read_face(path), response=response))
    commanded = np.array([[pitch, yaw, 0.0] for pitch in (-9, 9) for yaw in (-15, 0, 15)])

    def error(face: SteerableFace) -> float:
        faces = [tracker(image)[0].pose for image in face.frames(commanded, moving=False)]
        read = np.array([[each[name] for name in HEAD] for each in faces])
        return float(np.abs(read - commanded)[:, 0].mean())

    assert error(load_face(path)) < 0.6 * error(misled)


def test_only_a_command_alone_is_corrected(tmp_path: Path, small_face: Path) -> None:
    trained = read_face(small_face)
    path = tmp_path / "face.safetensors"
    save_face(path, replace(trained, response=_SHORT))
    face, plain = load_face(path), load_face(small_face)
    assert face.trained.response is not None
    np.testing.assert_array_equal(face.trained.response.slope, _SHORT.slope)
    wanted = np.array([[6.0, 10.0, 0.0]])
    undone = _SHORT.undone(wanted, trained.space)
    corrected = next(face.frames(wanted, moving=False))
    np.testing.assert_array_equal(corrected, next(plain.frames(undone, moving=False)))
    assert np.any(corrected != next(plain.frames(wanted, moving=False)))
    given = plain.trained.source
    np.testing.assert_array_equal(next(face.frames(wanted, given)), next(plain.frames(wanted, given)))
    live = LiveFace(face).draw(wanted[0].tolist(), source=0).image
    np.testing.assert_array_equal(live, LiveFace(plain).draw(undone[0].tolist(), source=0).image)


def test_a_response_that_cannot_be_undone_is_refused(tmp_path: Path, face_file: Path) -> None:
    path = tmp_path / "face.safetensors"
    save_face(path, replace(read_face(face_file), response=Response(np.zeros(3), -np.eye(3))))
    with pytest.raises(DmsynthError, match="no command gives what is wanted"):
        read_face(path)


@pytest.mark.slow
def test_onnx_commands_the_same(tmp_path: Path, face_file: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    path = tmp_path / "face.safetensors"
    save_face(path, replace(read_face(face_file), response=_SHORT))
    face = load_face(path).from_one_source()
    session = onnxruntime.InferenceSession(str(export_onnx(face, tmp_path / "face.onnx")))
    wanted = np.array([[4.0, 8.0, 2.0]])
    image = session.run(None, {"controls": wanted.astype(np.float32)})[0][0, 0]
    np.testing.assert_allclose(image * 255, next(face.frames(wanted)), atol=1.5)


def test_a_photo_s_labels_hold_no_expression(photo_dataset: Dataset, face_file: Path, tracker: Tracker) -> None:
    keep_response(face_file, [photo_dataset], tracker)
    assert read_face(face_file).response is None
