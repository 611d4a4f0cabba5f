"""openpilot's warning policy: its timers to the frame, and the whole DMS on a steered video."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from conftest import shared
from dmsynth.controls.pose import rotation_matrix
from dmsynth.motion.trajectory import parse_motions
from dmsynth.steering import load_face, steer_to_video
from dmsynth.support.errors import DmsynthError
from dmsynth.trackers import Face
from dmsynth.validation.dms import DmsSpec, open_dms, run_dms
from dmsynth.validation.openpilot_dms import LEVELS, POLICIES, Seen, warn

RATE = 20
REPORTS = {"eye_left": 1.0, "eye_right": 1.0, "sunglasses": 0.0, "pitch_spread": 2.0, "yaw_spread": 2.0}


def face(pitch: float = 0.0, yaw: float = 0.0, blink: float = 0.0, spread: float = 2.0) -> Face:
    return Face(
        rotation_matrix(pitch, yaw, 0), (0, 0, 10, 10), np.empty((0, 3), np.float32),
        {"blink_left": blink, "blink_right": blink}, REPORTS | {"pitch_spread": spread, "yaw_spread": spread},
    )  # fmt: skip


def stretch(*parts: tuple[float, Face | None]) -> list[Seen]:
    faces = [what for seconds, what in parts for _ in range(round(seconds * RATE))]
    return [Seen(number / RATE, what) for number, what in enumerate(faces)]


def first_warning(seen: list[Seen], release: str = "0.8.9", level: str = "first", **how: object) -> float | None:
    answers = warn(seen, 100, POLICIES[release], level, **how)  # type: ignore[arg-type]
    return next((answer.time for answer in answers if answer.warning), None)


@pytest.mark.parametrize("release", ["0.8.5", "0.8.9"])
@pytest.mark.parametrize(("level", "after"), list(zip(LEVELS, (3, 5, 11), strict=True)))
def test_the_alerts_come_when_they_should(release: str, level: str, after: float) -> None:
    """11 s in all, the first alert 8 s and the prompt 6 s before the end, a quarter of a second for the filter."""
    warned = first_warning(stretch((2, face()), (15, face(yaw=45))), release, level)
    assert warned is not None and warned - 2 == pytest.approx(after + 0.25, abs=0.15)


def test_who_is_not_warned() -> None:
    assert first_warning(stretch((30, face()))) is None
    assert first_warning(stretch(*[(1.5, face(yaw=45)), (4, face())] * 6)) is None  # short glances: attention returns
    assert first_warning(stretch((20, face(yaw=20)))) is None
    assert first_warning(stretch((20, face(yaw=45, spread=30)))) is None  # it does not trust itself
    assert first_warning(stretch((20, face(pitch=25)))) is None  # looking up is free in 0.8.9 …
    assert first_warning(stretch((20, face(pitch=40))), "0.8.5") is not None  # … and was not


def test_eyes_and_absence() -> None:
    assert first_warning(stretch((2, face()), (10, face(blink=0.95)))) == pytest.approx(5.2, abs=0.3)
    assert first_warning(stretch((2, face()), (40, None))) == pytest.approx(2 + 35 - 12, abs=0.2)


def test_the_neutral_pose_is_the_drivers_own() -> None:
    askew = face(pitch=-12, yaw=20)
    turned = stretch((20, face(pitch=-12, yaw=38)))
    assert first_warning(turned) is not None
    assert first_warning(turned, neutral=(-12.0, 20.0)) is None
    assert first_warning(stretch((300, askew), (8, face(pitch=-12, yaw=38)))) is None  # learned while driving


@pytest.mark.shared
def test_a_steered_driver_who_looks_away_is_warned(tmp_path: Path) -> None:
    model = shared("models/openpilot_dmonitoring_0.8.9.onnx")
    dms = open_dms(DmsSpec("openpilot", options={"model": str(model)}), "away")
    motion = parse_motions("hold 1; move yaw=36 0.5; hold 5", ("pitch", "yaw", "roll"), 25)
    steer_to_video(load_face(Path("starter")), motion, tmp_path / "away.mp4", 25)
    run = run_dms(dms, tmp_path / "away.mp4", 100, motion.seconds)
    assert run.problem is None and len(run.answers) == len(motion)
    assert (run.answers[-1].yaw or 0) > 28
    warned = next(answer.time for answer in run.answers if answer.warning)
    assert 4 < warned < 5.5
    for options, said in (
        ({"level": "loud"}, "give first or prompt or last"),
        ({"volume": "3"}, "openpilot has model, policy, level and neutral"),
        ({"neutral": "up"}, "give PITCH,YAW"),
        ({"policy": "1.0"}, "give 0.8.5 or 0.8.9"),
    ):
        with pytest.raises(DmsynthError, match=said):
            open_dms(DmsSpec("openpilot", options={"model": str(model)} | options), "away")
