"""openpilot's network as a tracker: signs and sizes on posed faces, what it reports, files that are none."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from conftest import shared
from dmsynth import trackers
from dmsynth.datasets.cutout import cut_out
from dmsynth.datasets.photo import prepare
from dmsynth.datasets.photo_posing import PosedPhoto
from dmsynth.support.errors import DmsynthError
from dmsynth.trackers import Face, Tracker, open_tracker, openpilot, track_to_table, why_unusable
from dmsynth.video import Frame, Image, fit

AXES = ("pitch", "yaw", "roll")


@pytest.fixture(scope="module", params=["0.8.5", "0.8.9"])
def network(request: pytest.FixtureRequest) -> Tracker:
    return open_tracker("openpilot", shared(f"models/openpilot_dmonitoring_{request.param}.onnx"))


@pytest.mark.shared
@pytest.mark.parametrize("control", AXES)
def test_it_answers_posed_faces_with_the_right_sign_and_size(control: str, network: Tracker, posed: PosedPhoto) -> None:
    angles = np.array([-15.0, 0.0, 15.0])
    answers = [only(network, posed.pose(**(dict.fromkeys(AXES, 0.0) | {control: angle}))) for angle in angles]
    assert 0.6 < np.polyfit(angles, [answer[control] for answer in answers], 1)[0] < 1.4
    for other in set(AXES) - {control}:
        assert abs(answers[2][other] - answers[0][other]) < 9  # of 30°: the axes are not mixed up
    assert max(abs(value) for value in answers[1].values()) < 4  # its neutral pose is taken off


@pytest.mark.shared
@pytest.mark.parametrize(("width", "height"), [(256, 256), (640, 480), (96, 80)])
def test_the_size_of_the_frame_does_not_matter(width: int, height: int, network: Tracker, posed: PosedPhoto) -> None:
    frame = posed.pose(pitch=5, yaw=18, roll=-6)
    expected, answer = only(network, frame), only(network, fit(frame, width, height))
    assert max(abs(answer[axis] - expected[axis]) for axis in AXES) < 4


@pytest.mark.shared
@pytest.mark.parametrize("face_width", [80, 120, 210])
def test_a_driver_is_found_in_a_wide_cabin(face_width: int, network: Tracker, posed: PosedPhoto) -> None:
    cabin = np.full((720, 1280), 90, np.uint8)
    cabin[:, :400], cabin[500:] = 40, 60
    scale = face_width / 93  # of the posed face's own width
    driver = cv2.resize(posed.pose(pitch=0, yaw=20, roll=0), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    height, width = driver.shape
    cabin[100 : 100 + height, 1260 - width : 1260] = driver
    faces = network(cabin)
    assert len(faces) == 1 and 12 < faces[0].pose["yaw"] < 28
    x, y = faces[0].centre
    assert abs(x - (1260 - width / 2)) < face_width / 2 and abs(y - (100 + height / 2)) < face_width / 2


@pytest.mark.shared
def test_colour_and_usable_faces(network: Tracker, posed: PosedPhoto) -> None:
    face = posed.pose(0, 0, 0)
    grey, coloured = only(network, face), only(network, np.dstack([face] * 3))
    assert max(abs(grey[axis] - coloured[axis]) for axis in AXES) < 1
    twice, blank = np.hstack([face, face]), np.full_like(face, 128)
    assert why_unusable(network(twice), twice) == "several faces"
    assert why_unusable(network(blank), blank) == "no face"


@pytest.mark.shared
def test_what_it_reports_is_kept(network: Tracker, posed: PosedPhoto) -> None:
    table = track_to_table(network, [Frame(0, 0.0, posed.pose(0, 0, 0)), Frame(1, 0.04, posed.pose(0, 20, 0))])
    assert table["face_probability"].min() > 0.9 and table["sunglasses"].max() < 0.3
    assert table[["pitch_spread", "yaw_spread", "roll_spread"]].to_numpy().max() < 6
    face = network(posed.pose(0, 0, 0))[0]
    assert set(face.expression) == {"blink_left", "blink_right"} and max(face.expression.values()) < 0.2


@pytest.mark.shared
def test_left_and_right_eye_are_the_persons_own(posed: PosedPhoto, tracker: Tracker) -> None:
    network = open_tracker("openpilot", shared("models/openpilot_dmonitoring_0.8.9.onnx"))
    frame = posed.pose(0, 0, 0)
    landmarks = tracker(frame)[0].landmarks
    skin = frame[tuple(landmarks[50, [1, 0]].astype(int))]

    def eyes(corners: list[int]) -> tuple[float, float]:
        x, y = landmarks[corners, :2].mean(axis=0).astype(int)
        covered = frame.copy()
        covered[y - 7 : y + 8, x - 11 : x + 12] = skin
        reports = network(covered)[0].reports
        return reports["eye_left"], reports["eye_right"]

    covered_left, covered_right = eyes([362, 263]), eyes([33, 133])  # the person's left eye is on the image's right
    assert covered_left[0] < covered_left[1] and covered_right[1] < covered_right[0]


@pytest.mark.shared
def test_a_version_nobody_knows_runs_with_a_note(
    posed: PosedPhoto, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    onnx = pytest.importorskip("onnx")
    known = shared("models/openpilot_dmonitoring_0.8.9.onnx")
    model = onnx.load(str(known))
    model.doc_string = "retrained"
    onnx.save(model, str(tmp_path / "retrained.onnx"))
    network = open_tracker("openpilot", tmp_path / "retrained.onnx")
    assert "none of the releases that were measured" in " ".join(capfd.readouterr().err.split())
    assert "unknown" in network.name
    frame = posed.pose(0, 15, 0)
    off = only(network, frame)["pitch"] - only(open_tracker("openpilot", known), frame)["pitch"]
    assert off == pytest.approx(openpilot.RELEASES[0].neutral[0], abs=0.1)


def test_files_that_are_no_such_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    text = tmp_path / "text.onnx"
    text.write_text("hello")
    other = tmp_path / "other.onnx"
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 3, 8, 8]) for name in ("x", "y")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "other", ends[:1], ends[1:])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 11)], ir_version=8), str(other))
    for path, complaint in (
        (tmp_path / "absent.onnx", "absent.onnx: no such tracker model; correct the path"),
        (text, "text.onnx: not a readable ONNX model"),
        (other, "takes x 1×3×8×8 and gives y 1×3×8×8, but .* takes input_img 1×6×320×160 and gives outputs 1×38"),
    ):
        with pytest.raises(DmsynthError, match=complaint) as error:
            open_tracker("openpilot", path)
        assert "\n" not in str(error.value)
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / name)
    monkeypatch.delenv("DMSYNTH_OPENPILOT", raising=False)
    assert not openpilot.is_at_hand()
    with pytest.raises(DmsynthError, match=r"not at hand: get dmonitoring_model\.onnx of comma.ai's openpilot"):
        open_tracker("openpilot")
    monkeypatch.setenv("DMSYNTH_OPENPILOT", str(tmp_path / "gone.onnx"))
    with pytest.raises(DmsynthError, match="correct or unset DMSYNTH_OPENPILOT"):
        open_tracker("openpilot")
    monkeypatch.setitem(trackers.BUILT_IN, "plain", "test_openpilot:Plain")
    with pytest.raises(DmsynthError, match="the tracker plain takes no model file"):
        open_tracker("plain", other)


class Plain:
    """A tracker that has no file of its own."""

    name = "plain"

    def __call__(self, image: Image) -> list[Face]:
        return []


def test_without_onnx_runtime_and_without_installed_metadata(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name == "onnxruntime":
            raise ModuleNotFoundError(name=name)
        return real(name, *rest)

    (tmp_path / "any.onnx").touch()
    monkeypatch.setattr(builtins, "__import__", missing)
    monkeypatch.setattr("dmsynth.trackers.entry_points", lambda group: ())
    with pytest.raises(DmsynthError, match=r"needs ONNX Runtime; pip install onnxruntime"):
        open_tracker("openpilot", tmp_path / "any.onnx")
    assert not openpilot.is_at_hand()


def only(tracker: Tracker, image: Image) -> dict[str, float]:
    faces = tracker(image)
    assert len(faces) == 1
    return faces[0].pose


@pytest.mark.shared
def test_pictures_are_not_posed_without_landmarks(tmp_path: Path, portrait: Image) -> None:
    network = open_tracker("openpilot", shared("models/openpilot_dmonitoring_0.8.9.onnx"))
    with pytest.raises(DmsynthError, match="gives no landmarks to pose a picture by; use --tracker auto"):
        prepare(portrait, network, (320, 240), "astronaut")
    with pytest.raises(DmsynthError, match="gives no landmarks"):
        cut_out(portrait, network, "astronaut")
