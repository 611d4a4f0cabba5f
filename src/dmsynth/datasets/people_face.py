"""The face of a synthetic person: shape, features, skin and its lines, irises; from the warped pictures of two donors.

Large structures come whole from one donor each, eyes, nose, mouth and skin, so that nothing shows double. Places are
in pixels of the canvas, pictures (HEIGHT, WIDTH, 3) float32 RGB, 0 to 255, masks (HEIGHT, WIDTH) float32, 0 to 1.
"""

from __future__ import annotations

import cv2
import numpy as np

from dmsynth.datasets.people_donors import HEIGHT, WIDTH, Donor, Double, Float
from dmsynth.datasets.people_traits import Traits
from dmsynth.trackers.gaze import EYE_OUTLINES

OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149,
    150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
TEETH = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)
BROWS = ((70, 63, 105, 66, 107, 55, 65, 52, 53, 46), (336, 296, 334, 293, 300, 276, 283, 282, 295, 285))
NOSE_TIP, NOSE_BASE, NOSE_TOP, NOSTRILS = 4, 2, 168, (129, 358)
_CHEEKS = (50, 280)
_PROBES = ((117, 50, 205, 207, 187, 123), (346, 280, 425, 427, 411, 352))  # of the skin's colour
_LEVELS = 5  # of the pyramids that two pictures are joined by


def shape_of(donors: tuple[Donor, Donor], traits: Traits) -> Double:
    """The person's frontal shape (478, 2): between the donors or beyond, the mouth of its donor, then as the traits
    say. Every change is smooth, so that hair and neck follow."""
    first, second = donors[0].shape, donors[1].shape
    middle, apart = (first + second) / 2, (second - first) / 2
    shape = middle + 0.6 * traits.shape["mix"] * apart
    mouth = middle[list(LIPS)].mean(axis=0)
    near = np.exp(-(np.hypot(*((middle - mouth) / (0.66, 0.54)).T) ** 4))[:, None]
    shape = shape + near * (middle + (2 * traits.mouth - 1) * apart - shape)
    return _with_features(_with_outline(shape, traits.shape), traits.shape)


def _with_outline(shape: Double, by: dict[str, float]) -> Double:
    x, y = shape.T.copy()
    below, chin, above = (np.clip(part, 0, 1) ** 1.5 for part in (-y / 1.2 - 0.1, -y / 0.7 - 1.1, y / 0.7 - 0.9))
    x *= 1 + 0.07 * by["width"] + 0.13 * by["jaw"] * below + 0.06 * by["cheek"] * np.exp(-(((y + 0.1) / 0.45) ** 2))
    y *= 1 + 0.07 * by["length"]
    y += -0.2 * by["chin"] * chin + 0.12 * by["forehead"] * above
    return np.stack([x, y], axis=1)


def _with_features(shape: Double, by: dict[str, float]) -> Double:
    shape = shape.copy()
    for side, name in ((-1, "right"), (1, "left")):
        lids, brow = (
            shape[list(points)].mean(axis=0)
            for points in (EYE_OUTLINES[name]["upper"] + EYE_OUTLINES[name]["lower"], EYE_OUTLINES[name]["brow"])
        )
        near = _near(shape, lids, 0.36, 0.26)
        turn = np.radians(7) * by["eye_tilt"] * side
        away = shape - lids
        shape += near * (0.2 * by["eye_size"] * away + turn * np.stack([-away[:, 1], away[:, 0]], axis=1))
        shape[:, 0] += (0.09 * side * by["eye_gap"] * _near(shape, lids, 0.42, 0.5))[:, 0]
        near = _near(shape, brow, 0.45, 0.16)
        away = shape - brow
        shape[:, 1] += (near[:, 0]) * (0.07 * by["brow_height"] + 0.14 * by["brow_tilt"] * away[:, 0] * side)
    tip = shape[NOSE_TIP] * (0, 1)
    shape[:, 0] *= 1 + (0.26 * by["nose_width"] * _near(shape, tip, 0.45, 0.36))[:, 0]
    shape[:, 1] -= (0.1 * by["nose_length"] * _near(shape, tip, 0.5, 0.4))[:, 0]
    mouth = shape[list(LIPS)].mean(axis=0)
    away, near = shape - mouth, _near(shape, mouth, 0.62, 0.36)
    shape += near * away * (0.2 * by["mouth_width"], 0.34 * by["lips"])
    shape[:, 1] += (0.06 * by["mouth_height"] * near)[:, 0]
    return shape


def _near(shape: Double, middle: Double, across: float, down: float) -> Double:
    """(n, 1): 1 at a place, falling off to 0."""
    return np.asarray(np.exp(-(np.square((shape - middle) / (across, down)).sum(axis=1) ** 1.5)))[:, None]


def by(x: float, y: float) -> Double:
    """A step (2,) in pixels."""
    return np.array((x, y))


def filled(points: Double, soft: float = 0.0, grow: int = 0) -> Float:
    """The mask of a polygon (n, 2), grown by pixels, with a soft edge."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.fillPoly(mask, [np.rint(points * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    if grow:
        element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * abs(grow) + 1, 2 * abs(grow) + 1))
        mask = cv2.dilate(mask, element) if grow > 0 else cv2.erode(mask, element)
    cover = mask.astype(np.float32) / 255
    return np.asarray(cv2.GaussianBlur(cover, (0, 0), soft) if soft else cover)


def ellipse(middle: Double, across: float, down: float, soft: float) -> Float:
    """The mask of an ellipse with a soft edge."""
    turn = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    return filled(middle + np.column_stack([across * np.cos(turn), down * np.sin(turn)]), soft)


def joined(one: Float, other: Float, mask: Float) -> Float:
    """``other`` where the mask is, ``one`` elsewhere, joined at each scale over a width of that scale."""
    parts = [one, other, mask]
    levels = [parts]
    for _ in range(_LEVELS):
        parts = [cv2.pyrDown(part) for part in parts]
        levels.append(parts)
    share = levels[-1][2][..., None]
    result = levels[-1][0] * (1 - share) + levels[-1][1] * share
    for fine, coarse in zip(levels[-2::-1], levels[:0:-1], strict=True):
        size = fine[0].shape[1::-1]
        first, second = (fine[k] - cv2.pyrUp(coarse[k], dstsize=size) for k in (0, 1))
        result = cv2.pyrUp(result, dstsize=size) + first + fine[2][..., None] * (second - first)
    return np.asarray(result)


def lab(picture: Float) -> Float:
    """L*, a*, b* of RGB, 0 to 255."""
    return np.asarray(cv2.cvtColor(np.clip(picture / 255, 0, 1).astype(np.float32), cv2.COLOR_RGB2LAB))


def rgb(values: Float) -> Float:
    """RGB, 0 to 255, of L*, a*, b*."""
    return np.asarray(cv2.cvtColor(values.astype(np.float32), cv2.COLOR_LAB2RGB) * 255)


def cheeks(picture: Float, places: Double) -> Double:
    """Median and spread (2, 3) of L*, a*, b* of the cheeks."""
    probe = filled(places[list(_PROBES[0])]) + filled(places[list(_PROBES[1])]) > 0.5
    values = lab(picture)[probe]
    return np.stack([np.median(values, axis=0), values.std(axis=0)])


def composed(donors: tuple[Donor, Donor], places: Double, traits: Traits, head: int) -> Float:
    """The face with the parts that the traits say, its surroundings (hair, ears) from the donor ``head``; colours are
    the first donor's."""
    pictures = [donor.warped(donor.picture, places) for donor in donors]
    target, own = (cheeks(picture, places) for picture in pictures)
    contrast = np.clip(target[1] / own[1], 0.7, 1.0)
    pictures[1] = rgb(((lab(pictures[1]) - own[0]) * contrast + target[0]).astype(np.float32))
    pictures[1] = _smoothed(pictures[1], places, traits.smooth)
    skin = traits.nose * traits.mouth
    face = pictures[head]
    if skin != head:
        inside = filled(places[list(OVAL)], 2.0, -4)
        above = np.clip((np.mgrid[:HEIGHT, :WIDTH][0] - _forehead(places)) / 10 + 0.5, 0, 1)
        # Hair hangs into the first donor's forehead, and the second one's goes up to the cap.
        inside = inside * above if skin == 0 else inside * (1 - 0.999 * (1 - above) * _fringe(pictures[0], places))
        face = joined(face, pictures[skin], inside.astype(np.float32))
    eyes, nose, mouth = _parts(places)
    for number, mask in ((0, eyes), (traits.nose, nose), (traits.mouth, mouth)):  # one donor wears glasses
        if number != skin:
            face = joined(face, pictures[number], mask)
    return face


def _forehead(places: Double) -> float:
    """The row just above the brows."""
    return float(places[[70, 63, 105, 66, 107, 336, 296, 334, 293, 300], 1].min()) - 6


def _fringe(picture: Float, places: Double) -> Float:
    """The mask of what is darker and yellower than skin, above the brows."""
    off = lab(picture) - cheeks(picture, places)[0]
    return cv2.GaussianBlur(np.clip((-off[..., 0] - 0.5 * off[..., 1]) / 12 - 0.4, 0, 1), (0, 0), 2.0)


def _parts(places: Double) -> tuple[Float, Float, Float]:
    """The masks of eyes with brows and glasses, of nose, and of mouth."""
    rows = np.mgrid[:HEIGHT, :WIDTH][0].astype(np.float32)
    brow = _forehead(places)
    cheek = places[[*_CHEEKS], 1].mean() + 4
    band = np.clip((rows - brow) / 8 + 0.5, 0, 1) * np.clip((cheek - rows) / 8 + 0.5, 0, 1)
    eyes = cv2.GaussianBlur(filled(places[list(OVAL)], 0, -2) * band, (0, 0), 1.0)
    wide = abs(places[NOSTRILS[1], 0] - places[NOSTRILS[0], 0])
    high = float(np.linalg.norm(places[NOSE_TOP] - places[NOSE_BASE]))
    nose = ellipse(places[[NOSE_TIP, NOSE_BASE, 195]].mean(axis=0), 0.74 * wide, 0.62 * high, 3.0)
    nose *= np.clip((rows - cheek) / 8 + 1, 0, 1)
    lips = places[list(LIPS)]
    across, down = np.ptp(lips, axis=0)
    return eyes, nose, ellipse(lips.mean(axis=0), 0.66 * across, 0.7 * down + 11, 4.0)


def _features(places: Double, lips: float = 1.0) -> Float:
    """The mask of what is not skin inside a face: eyes, nostrils and, so much, lips."""
    eyes = [
        filled(places[list(EYE_OUTLINES[name]["upper"] + EYE_OUTLINES[name]["lower"][::-1])], 0, 4)
        for name in EYE_OUTLINES
    ]
    nostrils = ellipse(places[NOSE_BASE] - (0, 3), 16, 7, 0)
    mouth = filled(places[list(LIPS)], 0, 1) * lips
    return cv2.GaussianBlur(np.max([*eyes, nostrils, mouth], axis=0), (0, 0), 1.5)


def _smoothed(picture: Float, places: Double, share: float) -> Float:
    """The skin with its lines smoothed; shading and features stay."""
    if not share:
        return picture
    skin = filled(places[list(OVAL)], 3, 10) * (1 - _features(places, lips=0.7))
    flat = lab(picture)
    for _ in range(3):
        flat = cv2.bilateralFilter(flat, 15, 11, 5)
    values = lab(picture)
    pores = values - cv2.GaussianBlur(values, (0, 0), 1.0)
    flat = cv2.GaussianBlur(flat, (0, 0), 1.6) + 0.7 * pores
    return rgb(values + (share * skin)[..., None] * (flat - values))


def toned(face: Float, places: Double, skin: Float, traits: Traits) -> Float:
    """The skin, where the mask ``skin`` says, in the person's colour: shading scales with its lightness, highlights
    keep theirs, lips keep their redness, eyes and teeth stay."""
    values, middle = lab(face), cheeks(face, places)[0]
    wanted = np.array(traits.skin)
    scale = (wanted[0] + 16) / (middle[0] + 16)
    off = values - middle
    light = wanted[0] + off[..., 0] * scale + 0.5 * (1 - min(scale, 1)) * np.maximum(off[..., 0] - 6, 0)
    inner = 0.4 + 0.6 * filled(places[list(OVAL)], 3, -4)[..., None]  # ears are redder
    colour = wanted[1:] + 7 * np.tanh(off[..., 1:] / 7) * min(scale, 1) * inner
    changed = np.dstack([np.clip(light, 1, 99), colour])
    eyes = [
        filled(places[list(EYE_OUTLINES[name]["upper"] + EYE_OUTLINES[name]["lower"][::-1])], 1.0)
        for name in EYE_OUTLINES
    ]
    white = np.max([*eyes, filled(places[list(TEETH)], 0.8)], axis=0)
    shaded = values * (1 - 0.12 * white * (1 - min(scale, 1)) / 0.5)[..., None]  # by darker skin around them
    return rgb(shaded + (skin * (1 - white))[..., None] * (changed - shaded))


def with_irises(face: Float, places: Double, traits: Traits) -> Float:
    """The irises in the person's colour; pupil and highlight stay."""
    face = face.copy()
    for name in EYE_OUTLINES:
        ring = places[list(EYE_OUTLINES[name]["iris"])]
        radius = float(np.linalg.norm(ring[1:] - ring[0], axis=1).mean())
        lids = filled(places[list(EYE_OUTLINES[name]["upper"] + EYE_OUTLINES[name]["lower"][::-1])], 0.7)
        mask = ellipse(ring[0], 0.95 * radius, 0.95 * radius, 0.8) * lids
        mask *= 1 - ellipse(ring[0], 0.4 * radius, 0.4 * radius, 0.8)
        grey = face.mean(axis=2, keepdims=True)
        tint = np.array(traits.iris, np.float32)
        painted = np.clip(tint * (0.45 + grey / 150), 0, 255)
        face += (0.75 * mask * np.clip((150 - grey[..., 0]) / 60, 0, 1))[..., None] * (painted - face)
    return face


def with_moles(face: Float, places: Double, traits: Traits) -> Float:
    """Small dark spots on cheeks, chin and forehead."""
    random = np.random.default_rng((*traits.random, 1))
    spots = random.choice((50, 280, 205, 425, 187, 411, 151, 199, 118, 347), traits.moles, replace=False)
    for spot in spots:
        middle = places[spot] + random.uniform(-8, 8, 2)
        size = float(random.uniform(1.1, 2.0))
        face = face * (1 - random.uniform(0.35, 0.6) * ellipse(middle, size, size, 0.7)[..., None] * (1.0, 1.1, 1.15))
    return np.asarray(face, np.float32)
