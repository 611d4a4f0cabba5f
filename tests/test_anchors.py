"""Where a head is in the frames of a renderer: held against the tracker in poses that were not measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from dmsynth.controls import CONTROL_SPACES
from dmsynth.controls.coverage import Coverage
from dmsynth.controls.pose import angles_from_matrix
from dmsynth.datasets.head_shape import CHIN, EYE_CORNERS, LEFT_EAR, RIGHT_EAR
from dmsynth.steering import FaceSpec, open_renderer
from dmsynth.steering.anchors import Anchors
from dmsynth.steering.face import SteerableFace
from dmsynth.support.errors import DmsynthError
from dmsynth.support.parallel import cores
from dmsynth.trackers import Face, Tracker
from dmsynth.video import Image


@pytest.fixture(scope="module")
def face() -> SteerableFace:
    return open_renderer(FaceSpec("posed:portrait"), (256, 192))


@pytest.fixture(scope="module")
def anchors(face: SteerableFace, tracker: Tracker) -> Anchors:
    return Anchors.measure(face, tracker)


def test_they_are_the_same_on_any_number_of_cores(face: SteerableFace, anchors: Anchors, tracker: Tracker) -> None:
    """Generated frames have the same bytes from any number of workers, and so these have the same bits."""
    with threadpool_limits(1 if cores() > 1 else 2, "blas"):
        again = Anchors.measure(face, tracker)
    for name in ("place", "rest", "shape"):
        np.testing.assert_array_equal(getattr(again, name), getattr(anchors, name))


def _errors(face: SteerableFace, anchors: Anchors, tracker: Tracker, values: np.ndarray) -> list[float]:
    """How far landmarks are from the tracker's, in % of the distance of the eyes' outer corners."""
    errors = []
    landmarks, _ = anchors.at(values)
    for image, points in zip(face.frames(values), landmarks, strict=True):
        found = tracker(np.kron(image, np.ones((2, 2, 1), np.uint8)))[0].scaled(0.5).landmarks
        away = np.linalg.norm(points[:, :2] - found[:, :2], axis=1).mean()
        errors.append(100 * float(away / np.linalg.norm(np.diff(points[EYE_CORNERS], axis=0))))
    return errors


def test_landmarks_follow_a_sweep(face: SteerableFace, anchors: Anchors, tracker: Tracker) -> None:
    sweep = np.array([[2.0, yaw, 1.0] for yaw in np.linspace(-29, 29, 11)])
    errors = _errors(face, anchors, tracker, sweep)
    assert np.mean(errors) < 1.3 and max(errors) < 3


def test_the_rotation_is_nearly_the_commanded_one(anchors: Anchors) -> None:
    commands = np.array([[0.0, yaw, 0.0] for yaw in (-30, -15, 0, 15, 30)])
    landmarks, rotation = anchors.at(commands)
    assert landmarks.shape == (5, 478, 3) and landmarks.dtype == np.float32
    turned = np.diff(angles_from_matrix(rotation)[:, 1])
    np.testing.assert_allclose(turned, 15, atol=2.5)


def test_a_jaw_drops_on_command(anchors: Anchors) -> None:
    commands = np.tile(anchors.space.row({}), (2, 1))
    commands[1, anchors.space.names.index("mouth_opening")] = 1.0
    shut, opened = anchors.at(commands)[0]
    eyes = np.linalg.norm(np.diff(shut[EYE_CORNERS], axis=0))
    moved = np.linalg.norm(opened - shut, axis=1) / eyes
    assert opened[CHIN, 1] - shut[CHIN, 1] > 0.2 * eyes
    assert moved[[*EYE_CORNERS, LEFT_EAR, RIGHT_EAR]].max() < 1e-3


def test_neighbouring_commands_have_neighbouring_places(anchors: Anchors) -> None:
    """No jitter: second differences over a fine sweep are a hundredth of a pixel."""
    sweep = np.array([[0.0, yaw, 0.0] for yaw in np.linspace(-40, 40, 401)])
    landmarks, _ = anchors.at(sweep)
    assert np.abs(np.diff(landmarks[..., :2].astype(np.float64), n=2, axis=0)).max() < 0.02


def test_what_was_measured_is_known_the_next_time(
    face: SteerableFace, anchors: Anchors, tracker: Tracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dmsynth.steering.anchors.cache_folder", lambda: tmp_path)
    times = []

    def measured(_face: SteerableFace, _tracker: Tracker) -> Anchors:
        times.append(1)
        return anchors

    monkeypatch.setattr(Anchors, "measure", staticmethod(measured))
    commands = np.array([[3.0, -12.0, 2.0]])
    for expected in (1, 1):
        again = Anchors.known(face, tracker)
        np.testing.assert_array_equal(again.at(commands)[0], anchors.at(commands)[0])
        assert len(times) == expected
    (kept,) = (tmp_path / "anchors").iterdir()
    kept.write_bytes(kept.read_bytes()[:1000])
    Anchors.known(face, tracker)
    assert len(times) == 2, "damaged, it is measured anew"
    Anchors.known(face.from_source(face.trained.sources[0][:, ::-1].copy()), tracker)
    assert len(times) == 3, "another source frame is another head"


class Moved:
    """The portrait, moved in its frame: a face that is commanded by its place (thesis, chapter 3)."""

    path = Path("moved")

    def __init__(self, face: SteerableFace) -> None:
        space = CONTROL_SPACES["position"]
        self.size = face.size
        self._image = face.trained.sources[0]
        places = np.array(list(product(np.linspace(300, 340, 9), np.linspace(220, 260, 9))))
        coverage = Coverage.of(space.encode(places))
        self.trained = replace(face.trained, space=space, coverage=coverage)

    def frames(self, values: np.ndarray, source: Image | None = None) -> Iterator[Image]:
        for x, y in values:
            yield np.roll(self._image, (round(y - 240), round(x - 320)), axis=(0, 1))


def test_a_face_that_is_moved_and_not_turned(face: SteerableFace, tracker: Tracker) -> None:
    moved = Anchors.measure(Moved(face), tracker)
    landmarks, rotation = moved.at(np.array([[310.0, 230.0], [330.0, 250.0]]))
    np.testing.assert_allclose(np.diff(landmarks[:, 1, :2], axis=0), [[20, 20]], atol=0.7)
    np.testing.assert_allclose(
        angles_from_matrix(rotation)[0],
        [*tracker(np.kron(face.trained.sources[0], np.ones((2, 2, 1), np.uint8)))[0].pose.values()],
        atol=8,  # the shape takes a part of it
    )


def test_without_a_mesh_there_are_no_anchors(face: SteerableFace) -> None:
    class Blind:
        name = "blind 1.0"

        def __call__(self, image: Image) -> list[Face]:
            return []

    with pytest.raises(DmsynthError, match=r"moved: blind 1\.0 finds the face's mesh in 0 of .* take --tracker auto"):
        Anchors.measure(Moved(face), Blind())
