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
from dmsynth.controls.response import TERMS, UNIT, Response
from dmsynth.datasets.dataset import Dataset
from dmsynth.evaluation.response import keep_response, measure_response
from dmsynth.learning.face_file import read_face, save_face
from dmsynth.steering import SteerableFace, load_face
from dmsynth.steering.export import export_onnx
from dmsynth.steering.live import LiveFace
from dmsynth.support.errors import DmsynthError
from dmsynth.trackers import Tracker

_SPACE = CONTROL_SPACES["rotation"]
_SLOPE = np.array([[-0.25, 0.0, 0.02], [0.0, -0.1, 0.0], [0.0, 0.03, 0.0]])


def _linear(offset: np.ndarray, slope: np.ndarray) -> Response:
    """What is read is ``command + offset + slope @ command``, at ±20°."""
    weights = np.zeros((len(TERMS), 3))
    weights[0] = offset
    weights[[TERMS.index((0, 0, axis)) for axis in (1, 2, 3)]] = UNIT * slope.T
    return Response(np.full(3, -20.0), np.full(3, 20.0), weights)


_SHORT = _linear(np.array([1.0, 0.0, -0.5]), _SLOPE)


@settings(max_examples=30, deadline=None)
@given(
    offset=arrays(float, 3, elements=st.floats(0.8, 2)),
    slope=arrays(float, (3, 3), elements=st.floats(-0.08, 0.08)),
    bend=st.floats(-0.3, 0.3),
)
def test_what_is_read_is_what_was_wanted(offset: np.ndarray, slope: np.ndarray, bend: float) -> None:
    commanded = np.random.default_rng(0).uniform(-20, 20, (200, 3))

    def read(command: np.ndarray) -> np.ndarray:
        return command + offset + command @ slope.T + bend * (command[:, [1]] / UNIT) ** 2

    response = Response.fitted(commanded, read(commanded))
    assert response is not None
    middle = np.random.default_rng(1).uniform(-10, 10, (50, 3))
    np.testing.assert_allclose(read(response.undone(middle, _SPACE)), middle, atol=0.25)


def test_a_tracker_s_noise_is_not_corrected() -> None:
    random = np.random.default_rng(0)
    commanded = random.uniform(-20, 20, (100, 3))
    assert Response.fitted(commanded, commanded + random.normal(0, 0.5, (100, 3))) is None


def test_frames_that_are_misread_or_lost_count_for_nothing() -> None:
    commanded = np.random.default_rng(0).uniform(-20, 20, (200, 3))
    read = commanded + _SHORT.error(commanded)
    read[::10] += 30
    read[5::10] = np.nan
    response = Response.fitted(commanded, read)
    assert response is not None
    off = np.abs(response.error(commanded) - _SHORT.error(commanded))
    assert np.median(off, axis=0).max() < 0.1 and np.abs(_SHORT.error(commanded))[:, 0].mean() > 2
    assert Response.fitted(commanded[:50], read[:50]) is None  # too few to say anything


def test_a_command_in_the_learned_range_stays_in_it() -> None:
    space = _SPACE.fitted(np.array([[-10.0, -10, -10], [10, 10, 10]]))
    undone = _SHORT.undone(np.array([[9.0, 0, 0], [0.0, 0, 0], [14.0, 0, 0]]), space)
    assert undone[0, 0] == 10 and undone[2, 0] == 14  # beyond the range as before
    assert undone[1, 0] == pytest.approx(-1 / 0.75, abs=0.05)
    far = _SHORT.undone(np.array([[60.0, 0, 0], [80.0, 0, 0]]), _SPACE)
    assert far[1, 0] - far[0, 0] == pytest.approx(20)  # not measured there: as at the edge


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
    np.testing.assert_array_equal(face.trained.response.weights, _SHORT.weights)
    wanted = np.array([[6.0, 10.0, 0.0]])
    undone = _SHORT.undone(wanted, trained.space)
    corrected = next(face.frames(wanted, moving=False))
    np.testing.assert_array_equal(corrected, next(plain.frames(undone, moving=False)))
    assert np.any(corrected != next(plain.frames(wanted, moving=False)))
    given = plain.trained.source
    np.testing.assert_array_equal(next(face.frames(wanted, given)), next(plain.frames(wanted, given)))
    live = LiveFace(face).draw(wanted[0].tolist(), source=0).image
    np.testing.assert_array_equal(live, LiveFace(plain).draw(undone[0].tolist(), source=0).image)


def test_a_response_that_is_none_is_refused(tmp_path: Path, face_file: Path) -> None:
    path = tmp_path / "face.safetensors"
    save_face(path, replace(read_face(face_file), response=_linear(np.zeros(3), 1e4 * np.eye(3))))
    with pytest.raises(DmsynthError, match="each of its weights"):
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
