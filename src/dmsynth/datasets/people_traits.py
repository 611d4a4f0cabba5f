"""What makes one synthetic person differ from another, drawn from a seed and a number."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SHAPES = (
    "mix", "width", "length", "jaw", "chin", "cheek", "forehead", "eye_gap", "eye_size", "eye_tilt", "brow_height",
    "brow_tilt", "nose_width", "nose_length", "mouth_width", "mouth_height", "lips",
)  # fmt: skip
_IRISES = ((62, 40, 24), (88, 60, 34), (92, 96, 62), (96, 122, 142), (110, 120, 118))
_CLOTHS = (
    (40, 46, 60), (92, 30, 34), (44, 74, 58), (150, 140, 122), (196, 194, 188), (34, 34, 36), (58, 84, 124), (128,
    92, 60), (96, 70, 110), (176, 120, 60), (70, 70, 74), (110, 128, 120),
)  # fmt: skip
Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Traits:
    """One person.

    Attributes:
        shape: −1 to 1 by name (``SHAPES``), 0 a face between the two donors.
        nose, mouth: 0 or 1, the donor that each is taken from, and the skin: the second one's if both are. Eyes are
            the first donor's.
        smooth: 0 to 1, how far the lines of the second donor's skin are smoothed.
        skin: L*, a*, b* of the cheeks. hair_colour, iris, cloth, hat: RGB, 0 to 255.
        hair: donor, crop, bob, buzz, curls, bald, scarf or beanie. beard: none, stubble, moustache, goatee or full.
        glasses: none, round or square. dress: crew, turtleneck, collar or v-neck.
        brows: 0 (as they are) to 1, how heavy.
        moles: how many.
        mirrored: whether the picture is.
        random: the seed of what is drawn hair by hair.
    """

    shape: dict[str, float]
    nose: int
    mouth: int
    smooth: float
    skin: Colour
    hair: str
    hair_colour: Colour
    beard: str
    brows: float
    glasses: str
    iris: Colour
    dress: str
    cloth: Colour
    hat: Colour
    moles: int
    mirrored: bool
    random: tuple[int, int]


@dataclass(frozen=True)
class Role:
    """What is fixed of a person of the cast, so that the cast is mixed; the rest is drawn.

    Attributes:
        name: a given name.
        looks: how the person is perceived, for lists: sex, age in years.
        others as in ``Traits``; ``parts`` are nose and mouth.
    """

    name: str
    looks: tuple[str, int]
    hair: str
    hair_colour: Colour
    skin: Colour
    parts: tuple[int, int]
    dress: str
    smooth: float = 0.9
    beard: str = "none"
    brows: float = 0.2
    glasses: str = "none"


_BLACK, _DARK, _BROWN, _FAIR, _GREY = (26, 22, 20), (44, 32, 24), (84, 56, 36), (156, 124, 84), (158, 153, 148)
ROLES = (
    Role("alex", ("man", 35), "crop", _BROWN, (72, 12, 16), (1, 1), "collar", 0.9, "full", 0.9),
    Role("bo", ("woman", 30), "donor", _BLACK, (62, 13, 21), (1, 0), "turtleneck"),
    Role("charlie", ("man", 25), "curls", _BLACK, (41, 13, 18), (1, 1), "crew", 1.0, "goatee", 0.8),
    Role("dana", ("woman", 30), "bob", _FAIR, (78, 10, 13), (0, 0), "v-neck", glasses="round"),
    Role("eli", ("man", 50), "bald", _DARK, (66, 13, 19), (1, 1), "crew", 0.6, "goatee", 0.9, "square"),
    Role("fran", ("woman", 75), "donor", _GREY, (73, 13, 15), (1, 1), "collar", 0.1, glasses="round"),
    Role("gil", ("man", 30), "beanie", _DARK, (75, 12, 14), (0, 1), "turtleneck", 0.9, "moustache", 0.8),
    Role("indy", ("woman", 30), "scarf", _BLACK, (58, 14, 21), (0, 0), "turtleneck", brows=0.45),
    Role("jo", ("man", 40), "buzz", _BLACK, (33, 10, 13), (1, 1), "crew", 0.9, "stubble", 0.8),
    Role("kim", ("woman", 25), "bob", _BLACK, (70, 10, 20), (0, 1), "crew", 1.0, brows=0.3),
    Role("lou", ("man", 65), "crop", _GREY, (68, 15, 17), (1, 1), "v-neck", 0.15, "moustache", 0.5),
    Role("noa", ("woman", 25), "curls", _DARK, (47, 14, 20), (0, 0), "v-neck", brows=0.3),
)
"""The cast. Ages are as they are perceived."""


def drawn(role: Role, seed: int, number: int) -> Traits:
    """A role's person: what the role leaves open, drawn from a seed and a number."""
    random = np.random.default_rng((seed, number))
    values = random.uniform(0.25, 1.0, len(SHAPES)) * random.choice((-1.0, 1.0), len(SHAPES))
    shape = dict(zip(SHAPES, map(float, values), strict=True))
    cloth, hat = (_CLOTHS[int(each)] for each in random.choice(len(_CLOTHS), 2, replace=False))
    skin = tuple(float(value) for value in np.array(role.skin) + random.normal(0, (1.2, 0.8, 1.0)))
    iris = _IRISES[int(random.integers(len(_IRISES) if role.skin[0] > 65 else 2))]
    return Traits(
        shape=shape,
        nose=role.parts[0],
        mouth=role.parts[1],
        smooth=role.smooth,
        skin=(skin[0], skin[1], skin[2]),
        hair=role.hair,
        hair_colour=role.hair_colour,
        beard=role.beard,
        brows=role.brows,
        glasses=role.glasses,
        iris=iris,
        dress=role.dress,
        cloth=cloth,
        hat=hat,
        moles=int(random.integers(3)),
        mirrored=bool(random.integers(2)),
        random=(seed, number),
    )
