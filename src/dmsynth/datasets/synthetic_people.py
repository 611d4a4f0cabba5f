"""Synthetic people: portraits of persons who do not exist, made from two public-domain portraits.

Shape and appearance are mixed, moved far beyond both donors, and drawn over: hair, brows, beards, glasses, clothes. The
same seed and number give the same picture. A cast is written as pictures with their provenance beside them, and a
file that ``validate --cast`` reads.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dmsynth.datasets import people_dress, people_face, people_hair, people_heads
from dmsynth.datasets.people_donors import (
    GRACE_CONSENT,
    HEIGHT,
    WIDTH,
    Donor,
    Double,
    Float,
    grace_hopper,
    load_donors,
    on_canvas,
)
from dmsynth.datasets.people_traits import ROLES, Role, Traits, drawn
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import replacing, write_json, write_text
from dmsynth.support.progress import progress
from dmsynth.support.version import __version__
from dmsynth.trackers import Tracker
from dmsynth.video import Image, write_image
from dmsynth.video.portrait import PORTRAIT_CONSENT

NAMES = (
    *(role.name for role in ROLES),
    "ash", "cleo", "drew", "eden", "flo", "glen", "jules", "kit", "lee", "max", "pat", "sam",
)  # fmt: skip
"""Of the persons of a seed, in order. From the thirteenth on, roles are played by others."""
CONSENT = "synthetic: shows no real person"
LICENCE = "public domain, as the two portraits that it is made from"
SOURCE = (
    "made by dmsynth from Eileen Collins, photographed by NASA (scikit-image's astronaut), and Grace Hopper, "
    "photographed by the US Navy (matplotlib's grace_hopper.jpg)"
)
_CANDIDATES = 100  # of seed 0 for a role, at most
_CHOSEN = (5, 30, 58, 1, 4, 20, 76, 14, 25, 21, 77, 31)
"""Of seed 0: which of the candidates for each role was chosen for being unlike the others (``docs/people.md``)."""
_REAL = (
    ("eileen", "posed:portrait", "a woman of about 35, light skin, brown hair, no glasses", PORTRAIT_CONSENT,
     "scikit-image's astronaut"),
    ("grace", "posed:grace.png", "a woman of about 75, light skin, grey hair under a cap, glasses", GRACE_CONSENT,
     "matplotlib's grace_hopper.jpg"),
)  # fmt: skip


@dataclass(frozen=True)
class Person:
    """One of a cast, as lists show them.

    Attributes:
        face: as a cast's file names it.
        looks: in words; sex and age as they are perceived.
    """

    name: str
    face: str
    looks: str
    consent: str
    licence: str
    source: str


def persons(count: int = len(ROLES)) -> list[Person]:
    """The two real persons, and the first ``count`` synthetic ones. ``DmsynthError`` for more than there are names."""
    if not 1 <= count <= len(NAMES):
        raise DmsynthError(f"--count {count}: there are names for 1 to {len(NAMES)} persons; give a number of these")
    real = [Person(name, face, looks, consent, "public domain", source) for name, face, looks, consent, source in _REAL]
    made = [
        Person(name, f"posed:{name}.png", in_words(ROLES[k % len(ROLES)]), CONSENT, LICENCE, SOURCE)
        for k, name in enumerate(NAMES[:count])
    ]
    return real + made


def in_words(role: Role) -> str:
    """How a role's person looks."""
    sex, age = role.looks
    lightness = role.skin[0]
    skin = "light" if lightness > 67 else "olive" if lightness > 55 else "brown" if lightness > 38 else "dark"
    glasses = "glasses" if role.glasses != "none" else "no glasses"
    head = {
        "donor": "full hair", "crop": "short hair", "bob": "a bob", "buzz": "cropped hair", "curls": "curls",
        "bald": "bald", "scarf": "a headscarf", "beanie": "a knitted cap",
    }[role.hair]  # fmt: skip
    beard = {
        "none": "",
        "stubble": ", stubble",
        "moustache": ", a moustache",
        "goatee": ", a goatee",
        "full": ", a beard",
    }
    return f"a {sex} of about {age}, {skin} skin, {head}{beard[role.beard]}, {glasses}"


def traits_of(seed: int, number: int) -> Traits:
    """Person ``number`` (0, 1, …) of a seed."""
    place = number % len(ROLES)
    variant = _CHOSEN[number] if seed == 0 and number < len(ROLES) else _CANDIDATES + number // len(ROLES)
    return drawn(ROLES[place], seed, place + len(ROLES) * variant)


def portrait(donors: tuple[Donor, Donor], traits: Traits) -> Image:
    """The person's picture, (512, 640, 3) uint8 RGB."""
    places = on_canvas(people_face.shape_of(donors, traits))
    dome = people_hair.Dome.of(places)
    head, cover, hair = _head(donors, places, traits)
    picture = people_dress.background(traits)
    picture = people_dress.with_neck_and_clothes(picture, places, traits)
    picture = picture + cover[..., None] * (head - picture)
    picture = people_hair.brows(picture, places, traits)
    picture = people_hair.beard(picture, places, traits)
    seen = people_dress.with_glasses(picture, places, traits)
    if traits.hair == "donor":
        picture = seen + hair[..., None] * (picture - seen)
    else:
        picture = people_heads.covered(seen, places, dome, traits)
    whole = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
    return whole[:, ::-1].copy() if traits.mirrored else whole


def _head(donors: tuple[Donor, Donor], places: Double, traits: Traits) -> tuple[Float, Float, Float]:
    """The head with skin, features and a donor's hair, its mask, and that of the hair."""
    own_hair = traits.hair == "donor"
    face = people_face.composed(donors, places, traits, 0 if own_hair else 1)
    oval = people_face.filled(places[list(people_face.OVAL)], 1.0, 0 if own_hair else -4)
    if own_hair:
        cover = np.maximum(_without_neck(donors[0], places), oval)
        hair = people_hair.donor_hair(face, places, cover)
        skin = np.clip(cover - hair, 0, 1)
    else:
        cover = np.maximum(oval, people_hair.ears(donors[1], places))
        skin = cover
    face = people_face.toned(face, places, skin, traits)
    face = people_face.with_moles(people_face.with_irises(face, places, traits), places, traits)
    if own_hair:
        return people_hair.recoloured(face, hair, cover, traits), cover, hair
    dome = people_hair.Dome.of(places)
    face = people_hair.scalp(face, cover, places, dome, np.random.default_rng((*traits.random, 0)))
    top = people_face.filled(np.concatenate([dome.outline(), places[[356, 127]]]), 1.0)
    return face, np.maximum(cover, top), np.zeros_like(cover)


def _without_neck(donor: Donor, places: Double) -> Float:
    """The first donor's head with its hair, down to the jaw; a little inside, because loose hair shows the wall."""
    matte = np.clip((donor.warped(donor.matte, places) - 0.45) / 0.5, 0, 1)
    rows = np.mgrid[:HEIGHT, :WIDTH][0]
    wall = np.clip(1.6 - people_face.lab(donor.warped(donor.picture, places))[..., 2] / 6, 0, 1)
    matte *= 1 - wall * (rows > places[1, 1])  # between ear and jaw
    jaw = places[list(people_hair.JAW)]
    below = np.array([(jaw[-1, 0] - 4, HEIGHT), (jaw[0, 0] + 4, HEIGHT)])
    return np.asarray(matte * (1 - people_face.filled(np.concatenate([jaw, below]), 1.0)), np.float32)


def make_people(out: Path, tracker: Tracker, count: int = len(ROLES), seed: int = 0) -> Path:
    """Write pictures of ``count`` persons, NAME.png, what each is made from and on what terms, NAME.json, Grace
    Hopper's picture, and the cast's file, whose path is returned.

    Args:
        out: a folder; what it holds of these names is written anew.
        tracker: finds the landmarks of the two donors; Face Landmarker.

    Raises:
        DmsynthError: too many persons; a folder that is a file; a tracker without the mesh.
    """
    cast = persons(count)
    if out.exists() and not out.is_dir():
        raise DmsynthError(f"{out}: is a file; give a folder for the pictures")
    donors = load_donors(tracker)
    _write(out, "grace", grace_hopper(), cast[1], {"synthetic": False})
    with progress("making people", count) as advance:
        for number, person in enumerate(cast[2:]):
            picture = portrait(donors, traits_of(seed, number))
            _write(out, person.name, picture, person, {"synthetic": True, "seed": seed, "number": number})
            advance()
    lines = [f"  {person.name}: {person.face}\n" for person in cast]
    write_text(out / "cast.yaml", "persons:\n" + "".join(lines))
    return out / "cast.yaml"


def _write(out: Path, name: str, picture: Image, person: Person, more: dict[str, Any]) -> None:
    with replacing(out / f"{name}.png") as temporary:
        write_image(temporary, picture)
    about = {
        "name": name,
        "consent": person.consent,
        "licence": person.licence,
        "source": person.source,
        "looks": person.looks,
        "made_by": f"dmsynth {__version__}",
        "pixels_sha256": hashlib.sha256(picture.tobytes()).hexdigest(),
    }
    write_json(out / f"{name}.json", about | more)
