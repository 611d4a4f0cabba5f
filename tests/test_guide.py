"""What a person who is being recorded is told, by the real tracker on the portrait, posed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from dmsynth.datasets.eye_posing import Eyes
from dmsynth.datasets.guide import (
    LONGEST,
    MAPS,
    WRONG,
    Guidance,
    Guide,
    consent_in_words,
    sharpness,
)
from dmsynth.datasets.photo_posing import PosedPhoto
from dmsynth.trackers import Face, Tracker
from dmsynth.video import Image, to_grey

Pose = tuple[float, ...]  # yaw, pitch, roll, gaze yaw, gaze pitch
AHEAD: Pose = (0.0, 0.0, 0.0, 0.0, 0.0)
STEP = 0.125  # seconds from frame to frame
EYES = 2.2, 4.5  # landmarks understate a gaze: how far eyes turn for a degree that is read, across and up


class Remembering:
    """The real tracker, which looks at each frame once."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker, self.name = tracker, tracker.name
        self.seen: dict[bytes, list[Face]] = {}

    def __call__(self, image: Image) -> list[Face]:
        key = image.tobytes()
        if key not in self.seen:
            self.seen[key] = self.tracker(image)
        return self.seen[key]


@pytest.fixture(scope="module")
def remembering(tracker: Tracker) -> Remembering:
    return Remembering(tracker)


@pytest.fixture(scope="module")
def shown(posed: PosedPhoto) -> Callable[[Pose], Image]:
    """The portrait in a pose, drawn once."""
    drawn: dict[Pose, Image] = {}

    def show(pose: Pose) -> Image:
        if pose not in drawn:
            yaw, pitch, roll, gaze_yaw, gaze_pitch = pose
            eyes = Eyes(EYES[1] * gaze_pitch, EYES[0] * gaze_yaw)
            drawn[pose] = posed.pose(pitch, yaw, roll, eyes=eyes if gaze_yaw or gaze_pitch else None)
        return drawn[pose]

    return show


def filmed(guide: Guide, images: list[Image], since: float = 0.0) -> Guidance:
    """What is said after the last of these frames."""
    return [guide.look(image, since + STEP * number) for number, image in enumerate(images)][-1]


def followed(told: Guidance) -> Pose:
    """Where a person is who does at once what the arrow says."""
    if told.target is None or not told.angles:
        return AHEAD
    name = told.target[0] if told.target[0] in told.angles else "head"
    (across, up), to = told.angles[name], told.arrow or (0.0, 0.0)
    there = MAPS[name].middle(MAPS[name].cell(across + to[0], up + to[1]))
    return {
        "head": (*there, 0.0, 0.0, 0.0),
        "tilt": (0.0, 0.0, there[0], 0.0, 0.0),
        "gaze": (0.0, 0.0, 0.0, *there),
    }[name]


def test_whoever_follows_the_arrow_fills_the_maps(remembering: Remembering, shown: Callable[[Pose], Image]) -> None:
    guide, now = Guide(remembering), 0.0
    told = filmed(guide, [shown(AHEAD)])
    assert told.say == "Look into the camera" and told.arrow is None and not told.enough
    while not told.done and now < 2 * LONGEST:
        now += STEP
        told = guide.look(shown(followed(told)), now)
        assert not told.wrong
        if told.say == "Hold it there":
            name, *cell = told.target or ("", 0, 0)
            assert told.arrow is None and MAPS[name].cell(*told.angles[name]) == tuple(cell)
    assert told.share == 1 and now < LONGEST / 2 and guide.well_covered
    for name in ("head", "tilt"):
        counts = np.array(told.counts[name])
        assert (counts[MAPS[name].wanted] == told.most).all() and not counts[~MAPS[name].wanted].any()
    assert np.sum(told.given_up["gaze"]) <= 2, "the portrait's eyes are read to all sides but one or two"
    assert told.frames < 600, "none is asked for without need"


def test_each_place_is_asked_for_twice_some_time_apart(
    remembering: Remembering, shown: Callable[[Pose], Image]
) -> None:
    guide = Guide(remembering)
    told = filmed(guide, [shown(AHEAD)] * 30)
    middle = MAPS["head"].cell(0, 0)
    assert told.counts["head"][middle[0]][middle[1]] == told.most / 2, "more of the same is not counted"
    assert told.target is not None and told.target[0] == "head" and told.target[1:] != middle


def test_what_is_not_reached_is_given_up_and_asked_for_again_when_it_is(
    remembering: Remembering, shown: Callable[[Pose], Image]
) -> None:
    guide = Guide(remembering)
    first = filmed(guide, [shown(AHEAD)] * 10)
    later = filmed(guide, [shown(AHEAD)] * 60, since=10 * STEP)
    assert first.target is not None and later.target not in (first.target, None)
    name, row, column = first.target
    assert later.given_up[name][row][column] == 1 and later.share > first.share
    reached = guide.look(shown((*MAPS[name].middle((row, column)), 0.0, 0.0, 0.0)), 9.5)
    assert reached.given_up[name][row][column] == 0 and reached.counts[name][row][column] == 1


def test_it_ends_by_itself_and_absence_does_not_count(remembering: Remembering, shown: Callable[[Pose], Image]) -> None:
    guide, now = Guide(remembering), 0.0
    wall = np.full_like(shown(AHEAD), 90)
    for _ in range(10):
        away = guide.look(wall, now := now + 60)
    assert not away.done and away.wrong == WRONG["no face"] and away.say == "" and away.arrow is None
    told = away
    while not told.done and now < 10 * 60 + 2 * LONGEST:
        told = guide.look(shown(AHEAD), now := now + 0.4)
    assert told.done and told.share < 1 and not guide.well_covered
    assert now - 10 * 60 == pytest.approx(LONGEST, abs=1)


def test_of_frames_that_follow_too_soon_few_are_kept(remembering: Remembering, shown: Callable[[Pose], Image]) -> None:
    guide = Guide(remembering)
    kept = [guide.look(shown(AHEAD), 0.04 * number).kept for number in range(50)]
    assert kept[0] and 12 <= sum(kept) <= 17, "two seconds"


def test_left_is_where_a_mirror_shows_it(remembering: Remembering, shown: Callable[[Pose], Image]) -> None:
    """yaw > 0 is towards the image's right, which is the person's left."""
    ahead = [shown(AHEAD)] * 12
    guide = Guide(remembering)
    filmed(guide, ahead)
    for pose, away in (((20.0, 0.0, 0.0, 0.0, 0.0), "right"), ((-20.0, 0.0, 0.0, 0.0, 0.0), "left")):
        told = guide.look(shown(pose), 2.0)
        assert told.arrow is not None and told.arrow[0] * pose[0] < 0
        assert told.say.startswith(f"Turn your head to the {away}")
    assert told.angles["head"][0] == pytest.approx(-20, abs=4) and "gaze" not in told.angles


@pytest.mark.parametrize(
    ("reason", "spoil"),
    [
        ("no face", lambda image: np.full_like(image, 120)),
        ("several faces", lambda image: np.hstack([image, image])),
        ("face at the border", lambda image: image[:, 210:]),
        ("dark", lambda image: (0.2 * image).astype(np.uint8)),
        ("blurred", lambda image: cv2.GaussianBlur(image, (0, 0), 3.5)),
        ("far", lambda image: cv2.copyMakeBorder(image, 300, 300, 500, 500, cv2.BORDER_REPLICATE)),
    ],
)
def test_what_is_wrong_with_a_frame_is_said(reason: str, spoil: Any, tracker: Tracker, portrait: Image) -> None:
    guide = Guide(tracker)
    told = guide.look(np.ascontiguousarray(spoil(portrait)), 0.0)
    assert told.wrong == WRONG[reason] and not told.kept and told.frames == 0


def test_ordinary_light_and_a_little_blur_are_not_wrong(tracker: Tracker, portrait: Image) -> None:
    guide = Guide(tracker)
    for image in (portrait, (0.5 * portrait).astype(np.uint8), cv2.GaussianBlur(portrait, (0, 0), 0.7)):
        assert guide.look(image, 0.0).wrong == ""


def test_sharpness_knows_neither_light_nor_size(portrait: Image) -> None:
    face = to_grey(portrait)[60:200, 160:290]
    sharp = sharpness(face)
    assert sharpness((0.5 * face).astype(np.uint8)) == pytest.approx(sharp, rel=0.05)
    blurs = [sharpness(cv2.GaussianBlur(face, (0, 0), sigma)) for sigma in (1, 2, 4)]
    assert sharp > blurs[0] > blurs[1] > blurs[2]
    large = cv2.resize(face, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    assert sharpness(large) == pytest.approx(sharp, rel=0.2)


def test_the_consent_names_who_and_when() -> None:
    words = consent_in_words("Anna", "2026-11-29")
    assert words.startswith("Anna, before the camera on 2026-11-29: “I agree that this recording")
