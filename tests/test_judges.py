"""Two judges: figures that are what they say, on frames and answers of known relation, and in every report."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from conftest import shared
from dmsynth.controls import CONTROL_SPACES
from dmsynth.controls.pose import rotation_matrix
from dmsynth.datasets.dataset import Dataset
from dmsynth.evaluation import evaluate
from dmsynth.evaluation.judges import agreement, with_second_judge
from dmsynth.report.html import write_report
from dmsynth.steering import load_face
from dmsynth.support.errors import DmsynthError
from dmsynth.trackers import Face, Tracker, open_second_tracker, open_tracker
from dmsynth.video import Image

ROTATION = CONTROL_SPACES["rotation"]


class _Distorts:
    """The real tracker, with a yaw of 0.8 times its own plus 3°, and blind to every third picture."""

    name = "distorted"

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker

    def __call__(self, image: Image) -> list[Face]:
        if int(image.sum()) % 3 == 0:
            return []
        turned = []
        for face in self.tracker(image):
            pose = face.pose
            turned.append(replace(face, rotation=rotation_matrix(pose["pitch"], 0.8 * pose["yaw"] + 3, pose["roll"])))
        return turned


def test_agreement_of_two_tables() -> None:
    yaw = np.linspace(-30, 30, 40)
    first = pd.DataFrame({"found": np.arange(40) != 0, "pitch": yaw / 3, "yaw": yaw, "roll": 0.0})
    second = pd.DataFrame({"found": np.arange(40) < 30, "pitch": yaw / 3, "yaw": 0.8 * yaw + 3, "roll": 1.0})
    said = agreement(ROTATION, first, second)
    assert said["frames"] == 29 and said["lost"] == 10
    assert said["gain"]["yaw"] == pytest.approx(0.8) and said["offset"]["yaw"] == pytest.approx(3)
    assert said["correlation"]["yaw"] == pytest.approx(1) and said["bias"]["roll"] == 1
    assert said["gain"]["roll"] is None and said["mae"]["pitch"] == pytest.approx(0)


def test_a_second_judge_of_known_habits(
    face_file: Path, photo_dataset: Dataset, tracker: Tracker, tmp_path: Path
) -> None:
    face = load_face(face_file)
    alone = evaluate(face, photo_dataset, tracker)
    assert with_second_judge(alone, ROTATION, photo_dataset, None).metrics["judges"] is None
    result = with_second_judge(alone, ROTATION, photo_dataset, _Distorts(tracker))
    judges = result.metrics["judges"]
    assert judges["second"] == "distorted" and judges["real"]["lost"] > 0
    assert judges["real"]["frames"] + judges["real"]["lost"] == alone.metrics["frames"]
    for axis, gain, offset in (("yaw", 0.8, 3), ("pitch", 1, 0), ("roll", 1, 0)):
        assert judges["real"]["gain"][axis] == pytest.approx(gain, abs=0.01)
        assert judges["real"]["offset"][axis] == pytest.approx(offset, abs=0.05)
    command = judges["against_command"]
    ratio = command["second"]["real"]["gain"]["yaw"] / command["first"]["real"]["gain"]["yaw"]
    assert ratio == pytest.approx(0.8, abs=0.1)
    assert {f"second_{kind}_{axis}" for kind in ("target", "tracked") for axis in ROTATION.names} <= set(result.table)
    write_report(tmp_path / "report.html", face, result, ["dmsynth evaluate"])
    write_report(tmp_path / "alone.html", face, alone, ["dmsynth evaluate"])
    page, other = (
        re.sub(r"<script.*?</script>", "", (tmp_path / name).read_text(), flags=re.DOTALL)
        for name in ("report.html", "alone.html")
    )
    assert (tmp_path / "report.html").stat().st_size < 1_000_000
    assert "second judge against the exact command" in page and (tmp_path / "judges.png").exists()
    assert "--second-tracker openpilot --second-tracker-model FILE" in other
    assert "Pictures: the posed frame above" in page and not re.search(r"\breal (frame|held-out)", page)
    json.dumps(result.metrics, allow_nan=False)


@pytest.mark.shared
def test_who_is_the_second_judge(tracker: Tracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / name)
    monkeypatch.delenv("DMSYNTH_OPENPILOT", raising=False)
    assert open_second_tracker(tracker) is None and open_second_tracker(tracker, "none") is None
    with pytest.raises(
        DmsynthError, match=r"the first judge is MediaPipe Face Landmarker .*, too; choose another, or none"
    ):
        open_second_tracker(open_tracker(), "face-landmarker")
    model = shared("models/openpilot_dmonitoring_0.8.9.onnx")
    monkeypatch.setenv("DMSYNTH_OPENPILOT", str(model))
    second = open_second_tracker(tracker)
    assert second is not None and second.name.startswith("openpilot driver monitoring 0.8.9")
    third = open_second_tracker(second)
    assert third is not None and "MediaPipe" in third.name


@pytest.mark.slow
@pytest.mark.shared
def test_a_real_second_judge_sees_the_steered_frames_as_it_sees_the_real_ones(tracker: Tracker, tmp_path: Path) -> None:
    """The shipped face, steered to poses that it was trained on: what the first judge says is not its habit alone."""
    from dmsynth.datasets.photo import PoseRange, pose_photo

    second = open_tracker("openpilot", shared("models/openpilot_dmonitoring_0.8.9.onnx"))
    dataset = pose_photo(tmp_path / "poses", None, tracker, 180, poses=PoseRange(pitch=10, yaw=25, roll=10), seed=5)
    face = load_face(Path("starter"))
    judges = with_second_judge(evaluate(face, dataset, tracker), ROTATION, dataset, second).metrics["judges"]
    assert judges["steered"]["lost"] == 0 and judges["steered"]["frames"] == 30
    assert judges["steered"]["correlation"]["yaw"] > 0.97 and judges["steered"]["correlation"]["roll"] > 0.95
    own, on_real = (judges["against_command"]["second"][kind]["mae"] for kind in ("steered", "real"))
    for axis in ROTATION.names:
        assert own[axis] < on_real[axis] + 1  # no further from the command than on the real frames of the same poses
