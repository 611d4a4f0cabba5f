"""Rotation conventions: on paper (properties) and on posed faces of known sign."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dmsynth.controls.pose import angle_difference, angles_from_matrix, rotation_matrix, wrap
from dmsynth.datasets.photo_posing import PosedPhoto
from dmsynth.trackers import Tracker

angle = st.floats(-180, 180, allow_nan=False)
NOSE = np.array([0.0, 0.0, 1.0])  # towards the camera
CROWN = np.array([0.0, 1.0, 0.0])  # up


@given(pitch=st.floats(-89, 89), yaw=angle, roll=angle)
def test_angles_survive_the_matrix(pitch: float, yaw: float, roll: float) -> None:
    back = angles_from_matrix(rotation_matrix(pitch, yaw, roll))
    assert np.abs(angle_difference(back, [pitch, yaw, roll])).max() < 1e-6


@given(pitch=angle, yaw=angle, roll=angle)
def test_matrices_are_rotations(pitch: float, yaw: float, roll: float) -> None:
    matrix = rotation_matrix(pitch, yaw, roll)
    assert np.allclose(matrix @ matrix.T, np.eye(3))
    assert np.isclose(np.linalg.det(matrix), 1)


@given(a=st.floats(-1e4, 1e4), b=st.floats(-1e4, 1e4))
def test_differences_go_the_short_way(a: float, b: float) -> None:
    difference = float(angle_difference(a, b))
    assert -180 <= difference < 180
    assert np.isclose(np.cos(np.deg2rad(difference)), np.cos(np.deg2rad(a - b)), atol=1e-6)


def test_wrapping_across_the_seam() -> None:
    assert wrap([181, -181, 540]).tolist() == [-179, 179, -180]
    assert float(angle_difference(179, -179)) == -2


def test_signs_of_the_axes() -> None:
    """Frame x right, y up, z to the camera."""
    assert (rotation_matrix(0, 20, 0) @ NOSE)[0] > 0  # yaw: the nose goes right
    assert (rotation_matrix(20, 0, 0) @ NOSE)[1] > 0  # pitch: the nose goes up
    assert (rotation_matrix(0, 0, 20) @ CROWN)[0] > 0  # roll: the crown goes right, clockwise in the image


def test_shapes_broadcast() -> None:
    assert rotation_matrix(np.zeros(5), 1.0, 2.0).shape == (5, 3, 3)
    assert angles_from_matrix(rotation_matrix(np.zeros((2, 5)), 1.0, 2.0)).shape == (2, 5, 3)


@pytest.mark.parametrize("control", ["pitch", "yaw", "roll"])
def test_trackers_answer_posed_faces_with_the_right_sign_and_size(
    control: str, posed: PosedPhoto, tracker: Tracker
) -> None:
    answers = []
    angles = np.array([-15.0, 0.0, 15.0])
    for degrees in angles:
        pose = {"pitch": 0.0, "yaw": 0.0, "roll": 0.0} | {control: degrees}
        faces = tracker(posed.pose(**pose))
        assert len(faces) == 1
        answers.append(faces[0].pose)
    moved = np.polyfit(angles, [answer[control] for answer in answers], 1)[0]
    assert 0.6 < moved < 1.4
    for other in {"pitch", "yaw", "roll"} - {control}:
        assert abs(answers[2][other] - answers[0][other]) < 9  # of 30°: the axes are not mixed up


def test_posed_faces_look_where_their_landmarks_say(posed: PosedPhoto, tracker: Tracker) -> None:
    """Independent of any angle: the nose tip itself moves right for yaw, up for pitch; the forehead goes right
    for roll, relative to the face's centre."""

    def offset(landmark: int, **pose: float) -> NDArray[np.float64]:
        face = tracker(posed.pose(*({"pitch": 0.0, "yaw": 0.0, "roll": 0.0} | pose).values()))[0]
        return face.landmarks[landmark, :2] - np.array(face.centre)

    nose_tip, forehead = 1, 10
    assert offset(nose_tip, yaw=20)[0] - offset(nose_tip, yaw=-20)[0] > 5
    assert offset(nose_tip, pitch=15)[1] - offset(nose_tip, pitch=-15)[1] < -5  # y points down
    assert offset(forehead, roll=15)[0] - offset(forehead, roll=-15)[0] > 10


@pytest.mark.parametrize("yaw", [-50.0, 50.0])
def test_a_head_turned_far_has_a_back(yaw: float, posed: PosedPhoto) -> None:
    """Where the near side's outline ends, there is skull and nape: one head without holes, wider than its front."""

    def seen(yaw: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        forward, _ = posed._forward((rotation_matrix(0, yaw, 0) @ posed._photo_rotation.T).astype(np.float32))
        sources = posed._visible_sources(forward)
        return sources[..., 2] > 0, sources[..., 0] > posed._size[0] - 0.5

    head, back = seen(yaw)
    assert not seen(0.0)[1].any() and back.sum() > 0.05 * head.sum()
    columns = np.flatnonzero(back.any(0))
    near = columns.max() if yaw < 0 else columns.min()
    assert abs(near - (np.flatnonzero(head.any(0))[-1 if yaw < 0 else 0])) <= 2  # it is what ends the head
    parts, labels = cv2.connectedComponents((~head).astype(np.uint8))
    largest = np.sort(np.bincount(labels[~head], minlength=parts))[::-1]
    assert largest[1:].sum() < 0.003 * head.sum()  # all that is not head is background around it


@pytest.mark.parametrize("yaw", [-40.0, -35.0, 35.0, 40.0])
def test_the_tracker_reads_far_turns(yaw: float, posed: PosedPhoto, tracker: Tracker) -> None:
    faces = tracker(posed.pose(pitch=0, yaw=yaw, roll=0))
    assert len(faces) == 1
    assert faces[0].pose["yaw"] == pytest.approx(yaw, abs=6)
