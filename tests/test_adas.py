"""Intel's networks for cars as judges: signs and sizes of the head's pose, of gaze and lids; files that are none."""

from __future__ import annotations

import builtins
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from conftest import shared
from dmsynth.controls.pose import rotation_matrix
from dmsynth.datasets.photo import prepare
from dmsynth.datasets.photo_posing import PosedPhoto
from dmsynth.support.errors import DmsynthError
from dmsynth.trackers import Face, Tracker, open_tracker, why_unusable
from dmsynth.trackers.adas import HEAD_POSE
from dmsynth.trackers.gaze import (
    GAZE,
    Gaze,
    GazeNetwork,
    eye_aspects,
    eye_openings,
    gaze_by_landmarks,
    resting_aspects,
)
from dmsynth.trackers.open_model_zoo import Network, cut_square
from dmsynth.video import Image, read_video, to_rgb

AXES = ("pitch", "yaw", "roll")


def model(network: Network) -> Path:
    """Its file beside the checkout; the test is skipped without it, or without OpenVINO."""
    path = shared(f"models/{network.name}.xml")
    pytest.importorskip("openvino", reason="needs OpenVINO (pip install openvino), which is optional")
    return path


@pytest.fixture(scope="module")
def adas() -> Tracker:
    return open_tracker("adas", model(HEAD_POSE))


@pytest.fixture(scope="module")
def network() -> GazeNetwork:
    return GazeNetwork(model(GAZE))


@pytest.fixture(scope="module")
def large(tracker: Tracker, portrait: Image) -> PosedPhoto:
    """The portrait in colour, at a size that shows the eyes."""
    return prepare(portrait, tracker, (640, 480), "astronaut", colour=True)


@pytest.fixture(scope="module")
def glances(tracker: Tracker) -> list[tuple[Image, Face]]:
    """Every third frame of a person who looks to both sides."""
    frames = [frame.image for frame in read_video(shared("data/videos/d0.mp4")) if frame.index % 3 == 0]
    return [(image, tracker(image)[0]) for image in frames]


@pytest.mark.shared
@pytest.mark.parametrize("control", AXES)
def test_it_answers_posed_faces_with_the_right_sign_and_size(control: str, adas: Tracker, posed: PosedPhoto) -> None:
    angles = np.array([-15.0, 0.0, 15.0])
    answers = [only(adas, posed.pose(**(dict.fromkeys(AXES, 0.0) | {control: angle}))) for angle in angles]
    # its pitch is steep near 0, and flat far from it
    assert 0.6 < np.polyfit(angles, [answer[control] for answer in answers], 1)[0] < 1.7
    for other in set(AXES) - {control}:
        assert abs(answers[2][other] - answers[0][other]) < 9  # of 30°: the axes are not mixed up
    assert max(abs(value) for value in answers[1].values()) < 8  # its neutral pose is taken off


@pytest.mark.shared
def test_a_mirrored_head_turns_the_other_way(adas: Tracker, posed: PosedPhoto) -> None:
    frame = posed.pose(pitch=5, yaw=18, roll=-8)
    answer, mirrored = only(adas, frame), only(adas, np.ascontiguousarray(frame[:, ::-1]))
    assert answer["yaw"] > 10 and mirrored["yaw"] < -10
    assert answer["roll"] < -4 and mirrored["roll"] > 4
    assert mirrored["pitch"] == pytest.approx(answer["pitch"], abs=4)


@pytest.mark.shared
def test_colour_and_usable_faces(adas: Tracker, posed: PosedPhoto) -> None:
    face = posed.pose(0, 0, 0)
    grey, coloured = only(adas, face), only(adas, np.dstack([face] * 3))
    assert max(abs(grey[axis] - coloured[axis]) for axis in AXES) < 0.01
    twice, blank = np.hstack([face, face]), np.full_like(face, 128)
    assert why_unusable(adas(twice), twice) == "several faces"
    assert why_unusable(adas(blank), blank) == "no face"


@pytest.mark.shared
def test_both_judges_see_the_same_glances(network: GazeNetwork, glances: list[tuple[Image, Face]]) -> None:
    geometry = [gaze_by_landmarks(face) for _, face in glances]
    seen = [network(image, face) for image, face in glances]
    across = np.array([[one.gaze_yaw, other.gaze_yaw] for one, other in zip(geometry, seen, strict=True)])
    down = np.array([[one.gaze_pitch, other.gaze_pitch] for one, other in zip(geometry, seen, strict=True)])
    assert np.ptp(across[:, 0]) > 50
    assert np.corrcoef(across.T)[0, 1] > 0.97 and 0.8 < np.polyfit(across[:, 0], across[:, 1], 1)[0] < 1.3
    assert np.corrcoef(down.T)[0, 1] > 0.6
    gaze_x = [face.expression["gaze_x"] for _, face in glances]  # MediaPipe's own, > 0 to the image's right
    assert np.corrcoef(gaze_x, across[:, 1])[0, 1] > 0.9


@pytest.mark.shared
def test_mirrored_eyes_look_the_other_way(
    network: GazeNetwork, tracker: Tracker, glances: list[tuple[Image, Face]]
) -> None:
    image, face = max(glances, key=lambda glance: gaze_by_landmarks(glance[1]).gaze_yaw)
    mirrored = np.ascontiguousarray(image[:, ::-1])
    other = tracker(mirrored)[0]
    for one, flipped in (
        (gaze_by_landmarks(face), gaze_by_landmarks(other)),
        (network(image, face), network(mirrored, other)),
    ):
        assert one.gaze_yaw > 20 and flipped.gaze_yaw == pytest.approx(-one.gaze_yaw, abs=12)
        assert flipped.gaze_pitch == pytest.approx(one.gaze_pitch, abs=8)


@pytest.mark.shared
@pytest.mark.parametrize("control", ["yaw", "roll"])
def test_eyes_that_stay_still_in_a_turning_head(
    control: str, network: GazeNetwork, tracker: Tracker, large: PosedPhoto
) -> None:
    angles = np.array([-15.0, 0.0, 15.0])
    frames = [large.pose(**(dict.fromkeys(AXES, 0.0) | {control: angle})) for angle in angles]
    faces = [tracker(frame)[0] for frame in frames]
    for gazes in (
        [gaze_by_landmarks(face) for face in faces],
        [network(frame, face) for frame, face in zip(frames, faces, strict=True)],
    ):
        assert np.ptp([gaze.gaze_yaw for gaze in gazes]) < 10 and np.ptp([gaze.gaze_pitch for gaze in gazes]) < 10
        if control == "yaw":
            assert 0.7 < np.polyfit(angles, [gaze.camera_yaw for gaze in gazes], 1)[0] < 1.4


@pytest.mark.shared
def test_lids_that_close(glances: list[tuple[Image, Face]]) -> None:
    faces = [face for _, face in glances]
    resting = resting_aspects(faces)
    opening = np.array([list(eye_openings(face, resting).values()) for face in faces])
    blink = [[face.expression["blink_left"], face.expression["blink_right"]] for face in faces]
    assert np.median(opening) == pytest.approx(1, abs=0.05)
    for eye in (0, 1):
        assert np.corrcoef(opening[:, eye], np.array(blink)[:, eye])[0, 1] < -0.7


def test_geometry_of_a_made_up_face() -> None:
    """Eyeballs of 12 mm, turned by known angles, in a head that is turned as well."""
    for head, yaw, pitch in (((0, 0, 0), 20, 0), ((0, 0, 0), 0, 15), ((-10, 25, 12), -15, 8), ((5, -30, 0), 0, 0)):
        gaze = gaze_by_landmarks(made_up(rotation_matrix(*head), yaw, pitch))
        assert (gaze.gaze_yaw, gaze.gaze_pitch) == pytest.approx((yaw, pitch), abs=0.1)
        assert np.linalg.norm(gaze.camera) == pytest.approx(1)
    straight = gaze_by_landmarks(made_up(rotation_matrix(0, 25, 0), 0, 0))
    assert (straight.camera_yaw, straight.camera_pitch) == pytest.approx((25, 0), abs=0.1)
    far = gaze_by_landmarks(made_up(np.eye(3), 0, 0, shift=30))  # landmarks gone astray
    assert far.gaze_yaw == pytest.approx(90, abs=0.1)


def test_an_opening_is_over_the_persons_own() -> None:
    open_eyes, winking = made_up(np.eye(3), 0, 0), made_up(rotation_matrix(0, 30, 0), 0, 0, left_lid=1)
    resting = resting_aspects([open_eyes, open_eyes, winking])
    assert resting == pytest.approx(eye_aspects(open_eyes)) and resting == pytest.approx([8 / 30] * 2)
    assert eye_openings(winking, resting) == pytest.approx({"eye_opening_left": 0.25, "eye_opening_right": 1.0})
    with pytest.raises(DmsynthError, match="no face to take the eyes' resting opening from"):
        resting_aspects([])
    with pytest.raises(DmsynthError, match=r"gaze needs MediaPipe's 478 landmarks, .*this face has 0; use --tracker"):
        eye_aspects(replace(open_eyes, landmarks=np.empty((0, 3), np.float32)))


def test_angles_of_a_direction() -> None:
    up_right = Gaze(np.array([0.0, 0.0, 1.0]), np.array([0.5, np.sqrt(0.5), 0.5]))
    assert (up_right.gaze_yaw, up_right.gaze_pitch) == pytest.approx((45, 45))
    assert (up_right.camera_yaw, up_right.camera_pitch) == (0, 0)


def test_a_square_is_cut_upright_and_blue_first() -> None:
    image = np.zeros((200, 200, 3), np.uint8)
    image[60:140, 100:, 0] = 200  # red, right of the centre
    centre = np.array([100.0, 100.0])
    cut = cut_square(image, centre, 60)
    assert cut.shape == (1, 3, 60, 60) and cut.dtype == np.float32
    assert cut[0, 2, :, 35:].min() == 200 and cut[0, :2].max() == 0 and cut[0, 2, :, :25].max() == 0
    # what points to the right in the image points up in a head that is tilted clockwise by 90°
    assert cut_square(image, centre, 60, roll=90)[0, 2, :25].min() == 200
    assert np.array_equal(cut_square(to_rgb(image[..., 0]), centre, 60), cut_square(image[..., 0], centre, 60))


@pytest.mark.parametrize("network", [HEAD_POSE, GAZE])
def test_files_that_are_absent(network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / name)
    monkeypatch.delenv("DMSYNTH_ADAS", raising=False)
    with pytest.raises(DmsynthError, match=rf"{network.name} is not at hand: get .*, and name their folder with DMS"):
        network.find()
    with pytest.raises(DmsynthError, match=r"gone\.xml: no such tracker model; correct the path"):
        network.find(tmp_path / "gone.xml")
    monkeypatch.setenv("DMSYNTH_ADAS", str(tmp_path))
    with pytest.raises(DmsynthError, match=rf"{network.name}\.xml: no such tracker model; correct or unset DMSYNTH_A"):
        network.find()
    path = tmp_path / f"{network.name}.xml"
    path.touch()
    with pytest.raises(DmsynthError, match=rf"{network.name}\.bin: missing; the network's weights belong beside its"):
        network.find()
    path.with_suffix(".bin").touch()
    assert network.find() == network.find(tmp_path) == network.find(path) == path


@pytest.mark.shared
def test_files_that_are_another_network(tmp_path: Path) -> None:
    with pytest.raises(DmsynthError, match=r"takes left_eye_image 1×3×60×60, .* but head-pose-.* takes data 1×3×60×60"):
        open_tracker("adas", model(GAZE))
    with pytest.raises(DmsynthError, match=r"takes data 1×3×60×60 .* it should be gaze-estimation-adas-0002.xml and"):
        GazeNetwork(model(HEAD_POSE))
    text = tmp_path / "text.xml"
    text.write_text("hello")
    text.with_suffix(".bin").touch()
    with pytest.raises(DmsynthError, match=r"text\.xml: not a readable OpenVINO model") as error:
        open_tracker("adas", text)
    assert "\n" not in str(error.value)
    cut_short = tmp_path / "short.xml"
    cut_short.write_bytes(model(HEAD_POSE).read_bytes())
    cut_short.with_suffix(".bin").write_bytes(model(HEAD_POSE).with_suffix(".bin").read_bytes()[:1000])
    with pytest.raises(DmsynthError, match=r"short\.xml: not a readable OpenVINO model"):
        open_tracker("adas", cut_short)


def test_without_openvino(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name == "openvino":
            raise ModuleNotFoundError(name=name)
        return real(name, *rest)

    for ending in ("xml", "bin"):
        (tmp_path / f"any.{ending}").touch()
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(DmsynthError, match=r"needs OpenVINO; pip install openvino"):
        open_tracker("adas", tmp_path / "any.xml")


def only(tracker: Tracker, image: Image) -> dict[str, float]:
    faces = tracker(image)
    assert len(faces) == 1
    return faces[0].pose


def made_up(rotation: NDArray[np.float64], yaw: float, pitch: float, shift: float = 0.0, left_lid: float = 4.0) -> Face:
    """A face of eyes alone, 2 pixels a millimetre: corners 30 mm apart, lids 4 mm from the middle, irises of 11.7 mm
    that stand where eyeballs of 12 mm radius, turned by ``yaw`` and ``pitch``, carry them."""
    points = np.zeros((478, 3))
    direction = rotation_matrix(pitch, yaw, 0) @ (0, 0, 1)
    sine = 12 * np.array([direction[0] + shift, direction[1], 0])
    for middle, corners, upper, lower, iris, lid in (
        (32.0, (362, 263), (385, 387), (380, 373), 473, left_lid),
        (-32.0, (33, 133), (160, 158), (144, 153), 468, 4.0),
    ):
        for place, offset in zip(corners, (-15, 15), strict=True):
            points[place] = middle + offset, 0, 0
        for top, bottom, x in zip(upper, lower, (-5, 5), strict=True):
            points[top], points[bottom] = (middle + x, lid, 0), (middle + x, -lid, 0)
        points[iris] = np.array([middle, 0, 0]) + sine
        for edge, (x, y) in enumerate(((1, 0), (0, 1), (-1, 0), (0, -1)), start=iris + 1):
            points[edge] = points[iris] + np.array([x, y, 0]) * 11.7 / 2
    pixels = points @ rotation.T * (2, -2, -2) + (200, 200, 0)
    return Face(rotation, (0, 0, 400, 400), pixels.astype(np.float32))
