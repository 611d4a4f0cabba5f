"""Synthetic people: the same on every run, found, unlike each other, and with provenance from picture to video."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from commands import dmsynth, fails
from dmsynth.datasets.people_donors import load_donors
from dmsynth.datasets.photo import consent_for, prepare
from dmsynth.datasets.synthetic_people import CONSENT, NAMES, make_people, portrait, traits_of
from dmsynth.evaluation import people as checking
from dmsynth.evaluation.people import check_people
from dmsynth.steering import FaceSpec
from dmsynth.steering.cast import read_cast
from dmsynth.steering.posed import posed_picture
from dmsynth.support.errors import DmsynthError
from dmsynth.trackers import Tracker, recognition, why_unusable
from dmsynth.trackers.identity import seem_one_person
from dmsynth.video import Image, write_image
from dmsynth.video.pictures import read_image


@pytest.fixture(scope="module")
def cast(tmp_path_factory: pytest.TempPathFactory, tracker: Tracker) -> Path:
    """The first two synthetic persons, and the two real ones."""
    return make_people(tmp_path_factory.mktemp("people"), tracker, 2)


def test_a_person_is_the_same_on_every_run(cast: Path, tracker: Tracker) -> None:
    donors = load_donors(tracker)
    assert (portrait(donors, traits_of(0, 1)) == read_image(cast.parent / "bo.png")).all()
    assert traits_of(0, 1) != traits_of(1, 1) and traits_of(1, 1) != traits_of(1, 13)


def test_two_are_found_and_unlike_but_like_themselves(cast: Path, tracker: Tracker) -> None:
    seen = {}
    for name in ("alex", "bo"):
        picture = read_image(cast.parent / f"{name}.png")
        assert picture.shape == (512, 640, 3) and why_unusable(tracker(picture), picture) is None
        posed = prepare(picture, tracker, (320, 240), name)
        frames = [posed.pose(pitch=0, yaw=yaw, roll=0) for yaw in (-15, -5, 5, 15)]
        seen[name] = [(frame, tracker(frame)[0]) for frame in frames]
    assert not seem_one_person(seen["alex"], seen["bo"])
    assert all(seem_one_person(frames[::2], frames[1::2]) for frames in seen.values())


def test_the_cast_is_one_that_every_command_reads(cast: Path) -> None:
    faces = read_cast(cast)
    assert list(faces) == ["eileen", "grace", "alex", "bo"] and faces["eileen"] == "posed:portrait"
    assert faces["bo"] == f"posed:{cast.parent.resolve() / 'bo.png'}"


def test_terms_go_from_the_picture_into_the_face(cast: Path, tracker: Tracker) -> None:
    for name, begins in (("alex", CONSENT), ("grace", "public domain: Grace Hopper")):
        consent = posed_picture(cast.parent / f"{name}.png", tracker, (320, 240)).trained.about["consent"]
        assert consent.startswith(begins) and "licence: public domain" in consent and "source: " in consent
    beside = json.loads((cast.parent / "alex.json").read_text("utf-8"))
    assert beside["synthetic"] and beside["seed"] == 0 and beside["number"] == 0


def test_what_lies_beside_a_picture_says_who_may_be_shown(tmp_path: Path, portrait: Image) -> None:
    photo = tmp_path / "me.jpg"
    write_image(photo, portrait)
    assert consent_for(photo) is None
    (tmp_path / "me.json").write_text('{"consent": "myself", "camera": 3}', "utf-8")
    assert consent_for(photo) == "myself"
    for text in ("[1, 2]", '{"consent": 3}', "no"):
        (tmp_path / "me.json").write_text(text, "utf-8")
        with pytest.raises(DmsynthError, match=r"me\.json: .* me\.jpg is shown"):
            consent_for(photo)


@pytest.mark.slow
def test_a_check_says_who_is_followed_and_who_is_alike(
    cast: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "FRAMES", 6)
    one = tmp_path / "one.yaml"
    one.write_text("persons:\n  alone: posed:portrait\n", "utf-8")
    assert "between two or more" in fails(dmsynth("people", "check", one, "--out", tmp_path / "a.json"))
    twins = tmp_path / "twins.yaml"
    (tmp_path / "twin.png").write_bytes((cast.parent / "bo.png").read_bytes())
    twins.write_text(f"persons:\n  bo: posed:{cast.parent / 'bo.png'}\n  twin: posed:twin.png\n", "utf-8")
    done = dmsynth("people", "check", twins, "--out", tmp_path / "b.json", "--second-tracker", "none")
    assert done.returncode == 0 and "not apart" in done.stdout, done.stderr
    found = json.loads((tmp_path / "b.json").read_text("utf-8"))
    (told,) = found["persons"]["bo"].values()
    assert told["frames"] == 6 and told["correlation"]["yaw"] > 0.95 and told["gain"]["yaw"] > 0.7
    assert found["likeness"]["mesh"]["others"][0]["value"] > 0.99


def test_who_there_is_and_what_cannot_be_made(tmp_path: Path) -> None:
    listed = json.loads(dmsynth("people", "list", "--count", 2, "--json").stdout)
    assert [person["name"] for person in listed] == ["eileen", "grace", "alex", "bo"]
    assert all(person["consent"] and person["licence"] and person["source"] and person["looks"] for person in listed)
    assert len(set(NAMES)) == 24 and "a beard" in dmsynth("people", "list").stdout
    for count in (0, 25):
        line = fails(dmsynth("people", "make", "--out", tmp_path / "people", "--count", count))
        assert "1 to 24" in line and not (tmp_path / "people").exists()
    (tmp_path / "file").touch()
    assert "is a file" in fails(dmsynth("people", "make", "--out", tmp_path / "file"))


@pytest.mark.slow
def test_all_twelve_are_followed_and_apart(tmp_path: Path, tracker: Tracker) -> None:
    everybody = read_cast(make_people(tmp_path, tracker))
    cast = {name: face for name, face in everybody.items() if name not in ("eileen", "grace")}
    found = check_people({name: FaceSpec(face) for name, face in cast.items()}, tracker, None)
    for name, judges in found["persons"].items():
        (told,) = judges.values()
        assert told["lost"] == 0 and min(told["correlation"].values()) > 0.9, name
    assert found["likeness"]["mesh"]["apart"]
    if recognition.is_at_hand():
        distances = [pair["value"] for pair in found["likeness"]["network"]["others"]]
        assert len(distances) == 66 and found["likeness"]["network"]["apart"]
        assert np.median(distances) > recognition.SAME
