"""Hair, brows, beards and covered heads of synthetic people: drawn hair by hair, or a donor's hair in another colour.

Everything is placed by the landmarks. Pictures are (HEIGHT, WIDTH, 3) float32 RGB, 0 to 255, masks (HEIGHT, WIDTH)
float32, 0 to 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from dmsynth.datasets.people_donors import EARS, HEIGHT, WIDTH, Donor, Double, Float
from dmsynth.datasets.people_face import BROWS, LIPS, OVAL, by, filled, joined, lab, rgb
from dmsynth.datasets.people_traits import Traits

_SOFT = 0.55  # pixels: hairs are as sharp as the donors' pictures
_FINE = 3  # hairs are drawn in a picture that many times as large
_SIDES = (127, 356)  # at the height of the eyes
_HAIRLINE = (21, 54, 103, 67, 109, 10, 338, 297, 332, 284, 251)
JAW = (132, 58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288, 361)
_FOREHEAD = (151, 108, 337, 9)


@dataclass(frozen=True)
class Dome:
    """The upper half of the head.

    Attributes:
        middle: (2,) between the ears, at the height of the eyes, in pixels.
        across, up: half the width, and the height above the middle.
        hairline: (n, 2) from the left temple to the right one.
    """

    middle: Double
    across: float
    up: float
    hairline: Double

    @classmethod
    def of(cls, places: Double) -> Self:
        """Of the landmarks (478, 2)."""
        left, right = places[list(_SIDES)]
        middle = (left + right) / 2
        high = float(places[152, 1] - places[10, 1])
        line = places[list(_HAIRLINE)].copy()
        line[1:-1, 1] -= 0.05 * high
        return cls(middle, float(right[0] - left[0]) / 2 + 4, float(middle[1] - places[10, 1]) + 0.27 * high, line)

    def outline(self, grown: float = 0.0) -> Double:
        """(n, 2): the half from left to right, grown by pixels: a little squarer than an ellipse."""
        turn = np.linspace(np.pi, 0, 60)
        cosine, sine = np.cos(turn), np.sin(turn)
        return self.middle + np.column_stack(
            [
                (self.across + grown) * np.sign(cosine) * np.abs(cosine) ** 0.8,
                -(self.up + grown) * sine**0.84,
            ]
        )

    def light(self) -> Float:
        """How bright a matt dome is, about 1: from above and in front, darker to the rims."""
        rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
        x, y = (columns - self.middle[0]) / (self.across + 12), (self.middle[1] - rows) / (self.up + 12)
        depth = np.sqrt(np.clip(1 - x * x - y * y, 0.03, 1))
        return np.asarray(0.42 + 0.55 * depth + 0.12 * y - 0.1 * x, np.float32)


class Hairs:
    """A layer that hairs are drawn into, one after the other."""

    def __init__(self, colour: Iterable[float]) -> None:
        self.colour = np.array(tuple(colour), np.float64)
        self.picture = np.empty((HEIGHT * _FINE, WIDTH * _FINE, 3), np.uint8)
        self.picture[:] = np.clip(self.colour * 0.55, 0, 255)
        self.cover = np.zeros((HEIGHT * _FINE, WIDTH * _FINE), np.uint8)

    def ground(self, outline: Double) -> None:
        """Fill a region (n, 2), so that no gaps show."""
        cv2.fillPoly(self.cover, [np.rint(outline * _FINE * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)

    def draw(self, paths: NDArray[np.floating], light: NDArray[np.floating], width: int = 2, cover: int = 255) -> None:
        """Hairs (n, points, 2) in pixels, in this order, each piece as bright as ``light`` (n, points − 1) says."""
        whole = np.rint(paths * _FINE * 16).astype(np.int32)
        cv2.polylines(self.cover, list(whole), False, cover, width, cv2.LINE_AA, 4)
        starts, ends = (part.reshape(-1, 2).tolist() for part in (whole[:, :-1], whole[:, 1:]))
        colours = np.clip(light.reshape(-1, 1) * self.colour, 0, 255).tolist()
        for start, end, colour in zip(starts, ends, colours, strict=True):
            cv2.line(self.picture, start, end, colour, width, cv2.LINE_AA, 4)

    def over(self, picture: Float, share: float = 1.0) -> Float:
        """The picture with these hairs on it."""
        colour, cover = (
            cv2.GaussianBlur(cv2.resize(layer, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA), (0, 0), _SOFT).astype(
                np.float32
            )
            for layer in (self.picture, self.cover)
        )
        return np.asarray(picture + share * (cover / 255)[..., None] * (colour - picture), np.float32)


def ears(donor: Donor, places: Double) -> Float:
    """The mask of the second donor's ears on the canvas."""
    mask = np.zeros(donor.picture.shape[:2], np.uint8)
    for ear in EARS:
        cv2.fillPoly(mask, [np.array(ear) * 16], 255, cv2.LINE_AA, 4)
    return np.clip(
        cv2.GaussianBlur(donor.warped(np.asarray(mask, np.float32) / np.float32(255), places), (0, 0), 0.8), 0, 1
    )


def donor_hair(face: Float, places: Double, head: Float) -> Float:
    """The mask of the hair in a picture of the first donor, by the colours of hair and skin."""
    values, oval = lab(face), filled(places[list(OVAL)])
    known_hair = (head > 0.95) & (filled(places[list(OVAL)], 0, 14) < 0.01)
    rows = np.mgrid[:HEIGHT, :WIDTH][0]
    low = places[[105, 334], 1].min() - 4
    known_hair &= rows < places[1, 1]
    known_skin = (filled(places[list(OVAL)], 0, -14) > 0.99) & (rows > low)
    distance = []
    for known in (known_hair, known_skin):
        sample = values[known]
        inverse = np.linalg.inv(np.cov(sample.T) + np.eye(3))
        off = values - sample.mean(axis=0)
        distance.append(np.einsum("hwi,ij,hwj->hw", off, inverse, off))
    share = 1 / (1 + np.exp(np.clip((distance[0] - distance[1]) / 2 - 1, -30, 30)))
    share = cv2.morphologyEx(cv2.medianBlur(share.astype(np.float32), 5), cv2.MORPH_CLOSE, np.ones((7, 5)))
    share = cv2.GaussianBlur(share, (0, 0), 1.0)
    inside = cv2.GaussianBlur((oval * (rows > low)).astype(np.float32), (0, 0), 2)
    away = 1 - filled(places[list(OVAL)], 5, 12)
    away *= np.clip((places[1, 1] - rows) / 12, 0, 1)
    return np.asarray(np.maximum(np.clip(1.5 * share, 0, 1) * (1 - inside), away), np.float32)


def recoloured(picture: Float, hair: Float, head: Float, traits: Traits) -> Float:
    """The picture with its hair in the person's colour."""
    light = lab(picture)[..., :1]
    middle = float(np.average(light[..., 0], weights=hair + 1e-6))
    tint = np.array(traits.hair_colour, np.float32)
    rim = cv2.GaussianBlur((head < 0.9).astype(np.float32), (0, 0), 3)[..., None]
    # without the light of the wall behind loose hair
    solid = (head > 0.98).astype(np.float32)
    inner = cv2.GaussianBlur(light[..., 0] * solid, (0, 0), 6) / cv2.GaussianBlur(solid, (0, 0), 6).clip(1e-3)
    light = light + np.clip(2.5 * rim, 0, 1) * (np.minimum(light, 0.95 * inner[..., None]) - light)
    painted = tint * np.clip(light / middle, 0, 2.2) ** (1.35 - 1.25 * tint.mean() / 255)
    return np.asarray(picture + hair[..., None] * (np.clip(painted, 0, 255) - picture), np.float32)


def scalp(face: Float, head: Float, places: Double, dome: Dome, random: np.random.Generator) -> Float:
    """The face with the skin going on above the forehead, where the donor wears a cap."""
    forehead = np.median(face[tuple(np.rint(places[list(_FOREHEAD)]).astype(int).T[::-1])], axis=0)
    grain = cv2.GaussianBlur(random.normal(0, 1, (HEIGHT, WIDTH)).astype(np.float32), (0, 0), 0.9)
    light = dome.light()
    light = light / light[round(places[151, 1]), round(places[151, 0])]
    skin = forehead.astype(np.float32) * (light * (1 + 0.035 * grain))[..., None]
    below = filled(np.concatenate([places[list(_HAIRLINE)] + (0, 12), [(WIDTH, HEIGHT), (0, HEIGHT)]]), 4)
    return joined(skin, skin + head[..., None] * (face - skin), below)


def brows(picture: Float, places: Double, traits: Traits) -> Float:
    """Brows as heavy as the traits say: those that are there, darker, and from a half on hairs drawn over them."""
    values = lab(picture)
    own = np.maximum(*(filled(places[list(points)], 2.0, 3) for points in BROWS))
    dark = np.minimum(values[..., 0] - cv2.GaussianBlur(values[..., 0], (0, 0), 8), 0)
    values[..., 0] += (0.5 + traits.brows) * own * dark
    picture = rgb(values)
    if traits.brows < 0.5:
        return picture
    random = np.random.default_rng((*traits.random, 2))
    layer = Hairs(np.array(traits.hair_colour) * 0.6 + 8)
    count = round(70 + 230 * traits.brows)
    for side, points in ((-1, BROWS[0]), (1, BROWS[1])):
        upper, lower = places[list(points[:5])], places[list(points[5:])]
        if side < 0:
            upper, lower = upper[::-1], lower
        else:
            upper, lower = upper, lower[::-1]
        along, across = random.beta(1.3, 1.3, count), random.uniform(0.05, 0.4 + 0.6 * traits.brows, count)
        start, end = (
            np.stack([np.interp(along, np.linspace(0, 1, 5), line[:, k]) for k in (0, 1)], axis=1)
            for line in (upper, lower)
        )
        across = 0.5 + (across - 0.5) * np.where(along < 0.6, 1, 1 - (along - 0.6) * 2.2)
        roots = start + across[:, None] * (end - start)
        lean = np.column_stack([np.full(count, side * 1.0), np.where(across > 0.5, -0.65, 0.1) - 0.5 * (1 - along)])
        ends = roots + lean * random.uniform(3, 6.5, (count, 1))
        layer.draw(np.stack([roots, ends], axis=1), random.uniform(0.7, 1.25, (count, 1)), 1, 255)
    return layer.over(picture, 0.92)


def beard(picture: Float, places: Double, traits: Traits) -> Float:
    """Stubble, a moustache or a beard, hair by hair, along the jaw."""
    if traits.beard == "none":
        return picture
    random = np.random.default_rng((*traits.random, 3))
    mask = _beard_mask(places, traits.beard)
    is_stubble = traits.beard == "stubble"
    colour = np.array(traits.hair_colour) * 0.75 + 6
    shadow = cv2.GaussianBlur(mask, (0, 0), 5) * (0.28 if is_stubble else 0.62)
    picture = picture + shadow[..., None] * (colour * 0.8 + 0.25 * picture - picture)
    where = np.argwhere(random.uniform(0, 1, mask.shape) < mask * (0.25 if is_stubble else 0.9))[:, ::-1].astype(float)
    roots = random.permutation(where + random.uniform(-0.5, 0.5, where.shape))
    away = roots - places[NOSE_POINT]
    lean = np.column_stack([away[:, 0] * 0.006, np.ones(len(roots))]) + random.normal(0, 0.3, (len(roots), 2))
    length = random.uniform(1.0, 2.2, (len(roots), 1)) if is_stubble else random.uniform(2.0, 5.5, (len(roots), 1))
    layer = Hairs(colour)
    bright = random.uniform(0.55, 1.45, (len(roots), 1)) * (1.0 - 0.25 * (np.abs(away[:, :1]) / 110) ** 2)
    layer.draw(np.stack([roots, roots + lean * length], axis=1), bright, 1, 170 if is_stubble else 230)
    return np.asarray(layer.over(picture.astype(np.float32), 0.6 if is_stubble else 0.9))


NOSE_POINT = 2


def _beard_mask(places: Double, kind: str) -> Float:
    """Where hair grows, 0 to 1."""
    mouth = filled(places[list(LIPS)], 0.8, 1)
    corner_left, corner_right = places[61], places[291]
    lip, nose = places[0], places[NOSE_POINT]
    wide = float(corner_right[0] - corner_left[0])
    moustache = filled(
        np.array(
            [
                corner_left + by(-5, 6),
                corner_left + by(-4, -5),
                nose + by(-0.3 * wide, 3),
                nose + by(0, 5),
                nose + by(0.3 * wide, 3),
                corner_right + by(4, -5),
                corner_right + by(5, 6),
                corner_right + by(-5, 1),
                lip + by(0, 2),
                corner_left + by(5, 1),
            ]
        ),
        2.0,
    )
    if kind == "moustache":
        return np.asarray(moustache * (1 - mouth), np.float32)
    chin = places[152]
    low = places[17]
    goatee = filled(
        np.array(
            [
                corner_left + by(-7, 2),
                corner_left + by(3, 4),
                low + by(-0.28 * wide, 5),
                low + by(0.28 * wide, 5),
                corner_right + by(-3, 4),
                corner_right + by(7, 2),
                chin + by(0.42 * wide, -6),
                chin + by(0.25 * wide, 7),
                chin + by(-0.25 * wide, 7),
                chin + by(-0.42 * wide, -6),
            ]
        ),
        3.0,
    )
    if kind == "goatee":
        return np.asarray(np.maximum(moustache, goatee) * (1 - mouth), np.float32)
    grown = 2 if kind == "stubble" else 5
    jaw = places[list(JAW)]
    out = jaw + grown * (jaw - places[NOSE_POINT]) / np.linalg.norm(jaw - places[NOSE_POINT], axis=1, keepdims=True)
    cheek = [places[k] for k in (361, 435, 410, 287)], [places[k] for k in (57, 186, 215, 132)]
    whole = filled(np.array([*out, *cheek[0], corner_right, corner_left, *cheek[1]]), 3.0)
    return np.asarray(np.maximum(np.maximum(whole, moustache), goatee) * (1 - mouth), np.float32)
