"""Things on a real face: where they are, what they hide, when they are there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dmsynth.camera.things import THINGS, Drawn, Worn, draw_things, parse_things
from dmsynth.camera.things.head import Head, triangles
from dmsynth.datasets.head_shape import EYE_CORNERS, LEFT_EAR, RIGHT_EAR
from dmsynth.datasets.photo import framed_face
from dmsynth.datasets.photo_posing import PosedPhoto
from dmsynth.support.errors import DmsynthError
from dmsynth.trackers import Face, Tracker
from dmsynth.video import Image

Wear = Callable[..., Drawn]


@pytest.fixture(scope="module")
def seen(tracker: Tracker, portrait: Image) -> tuple[Image, Face]:
    """The portrait at 320×240 and the face in it."""
    return framed_face(portrait, tracker, (320, 240), "astronaut")


@pytest.fixture(scope="module")
def wear(seen: tuple[Image, Face]) -> Wear:
    def worn(*names: str, time: float = 1.0, infrared: bool = False, grey: bool = False) -> Drawn:
        image, face = seen
        image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if grey or infrared else image
        return draw_things(image, parse_things(names), face.landmarks, face.rotation, time, infrared)

    return worn


@pytest.mark.parametrize("name", THINGS)
def test_each_thing_is_drawn_in_colour_in_grey_and_in_infrared(name: str, wear: Wear, seen: tuple[Image, Face]) -> None:
    before = seen[0].copy()
    in_colour, in_grey, in_infrared = wear(name), wear(name, grey=True), wear(name, infrared=True)
    assert (seen[0] == before).all(), "the frame that was given is changed"
    assert in_colour.image.shape == before.shape and in_grey.image.shape == before.shape[:2]
    assert (in_colour.cover > 127).mean() > (0.003 if "glasses" in name else 0.03)
    assert (in_colour.cover != in_grey.cover).mean() < 0.005  # where a band goes under hair is seen in colour
    untouched = cv2.dilate(in_colour.cover, np.ones((25, 25))) == 0
    assert (in_colour.image[untouched] == before[untouched]).all()
    covered = in_colour.cover > 250
    changed = np.abs(in_colour.image[covered].astype(int) - before[covered]).max(axis=-1) > 8
    assert changed.mean() > 0.6
    assert in_infrared.image.std() > 10


@pytest.mark.parametrize(
    ("name", "eyes", "mouth"),
    [("glasses", 0.9, 0.99), ("mask", 0.95, 0.05), ("hand-mouth", 0.5, 0.1), ("cap", 0.95, 1.0), ("wheel", 1.0, 1.0)],
)
def test_what_is_hidden(name: str, eyes: float, mouth: float, wear: Wear) -> None:
    visible = wear(name).visible
    shown = min(visible.left_eye, visible.right_eye)
    assert shown >= eyes
    assert visible.mouth <= mouth if mouth < 0.5 else visible.mouth >= mouth


def test_sunglasses_are_dark_and_some_are_clear_in_the_near_infrared(wear: Wear) -> None:
    assert max(wear("sunglasses").visible[:2]) < 0.15
    assert max(wear("sunglasses", infrared=True).visible[:2]) < 0.15
    assert max(wear("sunglasses-ir").visible[:2]) < 0.15
    assert min(wear("sunglasses-ir", infrared=True).visible[:2]) > 0.75


def test_a_hand_hides_the_eye_of_its_side(wear: Wear) -> None:
    right, left = wear("hand-eye").visible, wear("hand-eye-left").visible
    assert right.right_eye < 0.05 and right.left_eye > 0.9
    assert left.left_eye < 0.05 and left.right_eye > 0.9


def test_several_things_lie_one_over_the_other(wear: Wear) -> None:
    both = wear("sunglasses", "mask")
    assert max(both.visible) < 0.15
    assert (both.image == wear("mask", "sunglasses").image).all(), "glasses lie on a mask, whatever is named first"


def test_a_hand_comes_and_goes_and_glasses_are_there_at_once(wear: Wear, seen: tuple[Image, Face]) -> None:
    share = {time: wear("hand-mouth=2:4", time=time).visible.mouth for time in (0.0, 1.75, 2.0, 3.9, 4.2, 5.0)}
    assert share[0.0] == share[5.0] == 1.0 and share[2.0] == share[3.9] < 0.1
    moving = wear("hand-mouth=2:4", time=1.9)
    assert 0 < (moving.cover > 0).mean() < (wear("hand-mouth").cover > 0).mean()
    assert (wear("glasses=2:4", time=1.9).image == seen[0]).all()
    assert (wear("glasses=2:4", time=2.0).image != seen[0]).any()
    assert (wear("glasses=2:4", time=4.0).image == seen[0]).all()


@given(st.floats(0.1, 50), st.floats(0.1, 50), st.floats(0, 120))
def test_presence_is_whole_inside_its_time_and_none_far_outside(since: float, lasts: float, time: float) -> None:
    worn = Worn("hand-eye", since, since + lasts)
    presence, comes = worn.presence(time), THINGS["hand-eye"].comes
    assert 0 <= presence <= 1
    if since <= time <= since + lasts:
        assert presence == 1
    if time < since - comes or time > since + lasts + comes:
        assert presence == 0


def test_times_are_read() -> None:
    assert parse_things(["glasses", "mask=2:5.5", "cap=:3", "phone=1:"]) == (
        Worn("glasses"), Worn("mask", 2.0, 5.5), Worn("cap", 0.0, 3.0), Worn("phone", 1.0),
    )  # fmt: skip


@pytest.mark.parametrize("text", ["monocle", "glasses=now", "mask=5:2", "mask=", "cap=-1:2"])
def test_what_is_no_thing_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(DmsynthError, match=r"choose scarf|give the seconds .* such as (glasses|mask|cap)=2:5.5") as no:
        parse_things([text])
    assert "\n" not in str(no.value)


def test_a_head_keeps_its_landmarks(seen: tuple[Image, Face]) -> None:
    """From pixels to centimetres in perspective and back; and the ears are where they belong."""
    face = seen[1]
    head = Head.of(face.landmarks, face.rotation)
    back = head.seen(head.points)
    np.testing.assert_allclose(back[:, :2], face.landmarks[:, :2], atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(head.points[LEFT_EAR] - head.points[RIGHT_EAR]), 14.5, rtol=1e-3)
    np.testing.assert_allclose((head.points[LEFT_EAR] + head.points[RIGHT_EAR]) / 2, 0, atol=1e-3)


def test_the_mesh_faces_the_camera(seen: tuple[Image, Face]) -> None:
    points = seen[1].landmarks[:, :2].astype(float)
    a, b, c = (points[triangles()[:, corner]] for corner in range(3))
    turns = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    assert len(turns) > 800 and (turns < 0).mean() > 0.97


def _bridge(image: Image, face: Face) -> NDArray[np.float64]:
    """Where the bridge of drawn glasses is, in eye distances from the root of the nose: the dark centre around it."""
    eyes = float(np.linalg.norm(np.diff(face.landmarks[EYE_CORNERS], axis=0)))
    x, y = face.landmarks[168, :2]
    half = 0.16 * eyes
    part = image[round(y - half) : round(y + half) + 1, round(x - half) : round(x + half) + 1].astype(float)
    dark = np.clip(90 - part, 0, None)
    rows, columns = np.indices(part.shape)
    place = np.array([(dark * columns).sum(), (dark * rows).sum()]) / dark.sum() + [round(x - half), round(y - half)]
    return np.asarray((place - face.landmarks[168, :2]) / eyes)


def test_glasses_turn_with_the_head(posed: PosedPhoto, tracker: Tracker) -> None:
    """Where their bridge is drawn stays beside the root of the nose as the tracker finds it in the bare frame."""
    away = []
    for yaw in (-24, -12, 0, 12, 24):
        bare = posed.pose(0, yaw, 0)
        face = tracker(np.repeat(np.repeat(bare, 2, axis=0), 2, axis=1))[0].scaled(0.5)
        drawn = draw_things(bare, parse_things(["glasses"]), face.landmarks, face.rotation, 0.0, False)
        away.append(_bridge(drawn.image, face))
    assert np.ptp(np.array(away)[:, 1]) < 0.04, "the bridge goes up or down the nose"
    assert np.abs(np.array(away)[:, 0]).max() < 0.12


def test_far_parts_vanish_behind_the_face(posed: PosedPhoto, tracker: Tracker) -> None:
    """A phone at the far ear of a head that is turned away shows less than one at the near ear."""
    bare = posed.pose(0, 30, 0)
    face = tracker(np.repeat(np.repeat(bare, 2, axis=0), 2, axis=1))[0].scaled(0.5)

    def shown(name: str) -> Any:
        cover = draw_things(bare, parse_things([name]), face.landmarks, face.rotation, 0.0, False).cover
        outline = cv2.convexHull(face.landmarks[:468, :2].round().astype(np.int32))
        inside = np.zeros_like(cover)
        cv2.fillConvexPoly(inside, outline, 1)
        return (cover[inside > 0] > 127).mean()

    assert shown("phone-left") < 0.02 < 0.05 < shown("phone")


def test_a_face_at_the_border_can_wear_everything(seen: tuple[Image, Face]) -> None:
    image, face = seen
    for shift in ([-150, -60, 0], [170, 130, 0], [0, 300, 0]):
        moved = (face.landmarks + np.array(shift)).astype(np.float32)
        drawn = draw_things(image, parse_things(list(THINGS)), moved, face.rotation, 0.0, False)
        assert drawn.image.shape == image.shape and all(0 <= share <= 1 for share in drawn.visible)
