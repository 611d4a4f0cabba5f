"""What covers the head of a synthetic person who does not wear a donor's hair: hair styles, a scarf, a knitted cap."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from dmsynth.datasets.people_donors import HEIGHT, WIDTH, Double, Float
from dmsynth.datasets.people_face import OVAL, by, filled
from dmsynth.datasets.people_hair import Dome, Hairs
from dmsynth.datasets.people_traits import Traits

_SIDEBURNS = (93, 323)


def covered(picture: Float, places: Double, dome: Dome, traits: Traits) -> Float:
    """The picture with hair or cloth on the head."""
    return _KINDS[traits.hair](picture, places, dome, traits)


def _region(dome: Dome, places: Double, grown: float, down: float) -> Double:
    """Between hairline and outline, with sideburns ``down`` (0 to 1) from the eyes to the ear lobes."""
    left, right = places[[127, 356]] + down * (places[list(_SIDEBURNS)] - places[[127, 356]])
    inner = dome.hairline[::-1]
    return np.concatenate(
        [dome.outline(grown), [right + by(3, 0), right - by(5, 0)], inner, [left + by(5, 0), left - by(3, 0)]]
    )


def _sheen(dome: Dome, points: Double) -> Double:
    """(n,) brightness of hair at places, with a bright band across."""
    height = (dome.middle[1] - points[..., 1]) / dome.up
    side = (points[..., 0] - dome.middle[0]) / dome.across
    return np.asarray(0.66 + 0.5 * np.exp(-(((height - 0.62) / 0.2) ** 2)) * (1 - 0.45 * np.abs(side + 0.25)))


def _crop(picture: Float, places: Double, dome: Dome, traits: Traits) -> Float:
    """Short hair, combed from a parting."""
    random = np.random.default_rng((*traits.random, 4))
    volume = random.uniform(4, 13)
    layer, region = Hairs(traits.hair_colour), _region(dome, places, volume, 0.45)
    soft = filled(region, 1.2)
    layer.cover[:] = cv2.resize((soft * 235).astype(np.uint8), layer.cover.shape[::-1], interpolation=cv2.INTER_LINEAR)
    roots = np.argwhere(random.uniform(0, 1, soft.shape) < soft * 0.75)[:, ::-1] + random.uniform(-0.5, 0.5, 2)
    roots = roots[np.argsort(roots[:, 1] + random.normal(0, 12, len(roots)))]
    part = dome.middle[0] + random.choice((-0.35, 0.35)) * dome.across
    side = np.tanh((roots[:, 0] - part) / 14)
    high = np.clip((dome.middle[1] - roots[:, 1]) / dome.up, 0, 1)
    lean = np.column_stack([side * (0.35 + 0.9 * high), 0.9 - 1.1 * high + 0.35 * np.abs(side)])
    lean += random.normal(0, 0.22, lean.shape)
    lean /= np.linalg.norm(lean, axis=1, keepdims=True)
    length = (3 + 13 * high**0.8)[:, None] * random.uniform(0.6, 1.2, (len(roots), 1))
    bend = np.column_stack([np.zeros(len(roots)), 0.16 * length[:, 0]])
    paths = np.stack([roots, roots + 0.5 * lean * length, roots + lean * length + bend], axis=1)
    bright = _sheen(dome, (paths[:, 1:] + paths[:, :-1]) / 2) * random.uniform(0.6, 1.4, (len(roots), 1))
    layer.draw(paths, bright, 1)
    return layer.over(picture)


def _bob(picture: Float, places: Double, dome: Dome, traits: Traits) -> Float:
    """Hair that falls from a parting over the ears, to the jaw."""
    random = np.random.default_rng((*traits.random, 5))
    layer = Hairs(traits.hair_colour)
    part = dome.middle[0] + random.uniform(-0.3, 0.3) * dome.across
    end = places[58, 1] + random.uniform(-22, 26)
    wide = random.uniform(14, 26)
    count = 7000
    depth = np.clip(random.permutation(np.linspace(0, 1, count)) ** 0.8, 0, 1)
    depth = depth[np.argsort(-depth + random.normal(0, 0.25, count))]
    side = random.choice((-1.0, 1.0), count)
    steps = np.linspace(0, 1, 26)
    low, high = dome.hairline[:, 1].min() + 3, dome.middle[1] - dome.up - 12
    top = low + depth * (high - low)
    inner = np.where(side < 0, dome.middle[0] - places[127, 0], places[356, 0] - dome.middle[0]) - 6
    outer = dome.middle[0] + side * (inner + depth * (wide + 9)) - part
    turn = np.pi / 2 * np.clip(steps / 0.6, 0, 1)
    x = part + outer[:, None] * np.sin(turn) ** 0.85
    y = top[:, None] + (dome.middle[1] - top)[:, None] * (1 - np.cos(turn))
    fall = np.clip((steps - 0.6) / 0.4, 0, 1)
    y += fall * (end + 6 * np.sin(9 * depth) + random.uniform(-16, 5, count) - dome.middle[1])[:, None]
    lock = np.sin(2 * np.pi * (11 * depth + side * 0.2))[:, None]  # hairs of one lock go together
    x += side[:, None] * (7 * np.sin(np.pi * fall) - 5 * fall**2) + 1.6 * lock * steps * np.sin(7 * steps + 3 * lock)
    x += random.normal(0, 1.6, (count, 1)) + random.normal(0, 2.2, (count, 1)) * steps
    y += random.normal(0, 2.5, (count, 1)) + random.normal(0, 5.0, (count, 1)) * np.sin(
        np.pi * np.clip(steps / 0.7, 0, 1)
    )
    paths = np.stack([x, y], axis=2)
    bright = _sheen(dome, (paths[:, 1:] + paths[:, :-1]) / 2) * random.uniform(0.6, 1.4, (count, 1))
    bright *= (1 + 0.08 * lock) * (1 - 0.3 * fall[1:] ** 2)
    layer.draw(paths, bright, 2)
    return layer.over(picture)


def _curls(picture: Float, places: Double, dome: Dome, traits: Traits) -> Float:
    """A full head of small curls."""
    random = np.random.default_rng((*traits.random, 6))
    layer, grown = Hairs(traits.hair_colour), float(random.uniform(14, 34))
    region = filled(_region(dome, places, grown, 0.4), 1.0)
    middles = np.argwhere(random.uniform(0, 1, region.shape) < (region > 0.5) * 0.16)[:, ::-1].astype(float)
    middles = random.permutation(middles)
    turn = np.linspace(0, 2 * np.pi, 9)
    size = random.uniform(1.0, 3.0, (len(middles), 1))
    start = random.uniform(0, 2 * np.pi, (len(middles), 1))
    paths = middles[:, None] + np.stack([size * np.cos(turn + start), size * np.sin(turn + start)], axis=2)
    lit = 0.75 - 0.35 * np.sin(turn[:-1] + start + 0.4)
    inner = 0.7 + 0.5 * dome.light()[tuple(np.clip(np.rint(middles), 0, (WIDTH - 1, HEIGHT - 1)).astype(int).T[::-1])]
    layer.ground(_region(dome, places, grown - 3, 0.4))
    layer.draw(paths, lit * inner[:, None] * random.uniform(0.6, 1.35, (len(middles), 1)), 4)
    return layer.over(picture)


def _buzz(picture: Float, places: Double, dome: Dome, traits: Traits) -> Float:
    """Hair of some millimetres: skin that is darker, with a grain."""
    random = np.random.default_rng((*traits.random, 7))
    region = filled(_region(dome, places, 1, 0.3), 3.0) * filled(_region(dome, places, 2, 0.3) + by(0, 0), 0.8, 2)
    grain = cv2.GaussianBlur(random.normal(0, 1, region.shape).astype(np.float32), (0, 0), 0.8)
    shade = np.array(traits.hair_colour, np.float32) * (dome.light() * (1.0 + 0.28 * grain))[..., None]
    return np.asarray(picture + (0.72 * region)[..., None] * (np.clip(shade, 0, 255) - picture), np.float32)


def _bald(picture: Float, places: Double, dome: Dome, traits: Traits) -> Float:
    """No hair; a highlight."""
    random = np.random.default_rng((*traits.random, 8))
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    x, y = dome.middle + by(random.uniform(-0.3, 0.3) * dome.across, -0.72 * dome.up)
    shine = np.exp(-(((columns - x) / 34) ** 2) - ((rows - y) / 16) ** 2)
    return np.asarray(picture + 26 * shine[..., None] * (picture / 255 + 0.35), np.float32)


def _scarf(picture: Float, places: Double, dome: Dome, traits: Traits) -> Float:
    """A cloth around head and neck, the face's opening inside the oval."""
    random = np.random.default_rng((*traits.random, 9))
    chin, wide = places[152], dome.across
    outer = np.concatenate(
        [
            dome.outline(19),
            dome.middle
            + np.array(
                [
                    (wide + 21, 70),
                    (wide + 16, 130),
                    (wide + 26, 190),
                    (wide + 40, 260),
                    (-wide - 40, 260),
                    (-wide - 26, 190),
                    (-wide - 16, 130),
                    (-wide - 21, 70),
                ]
            ),
        ]
    )
    oval = places[list(OVAL)]
    middle = oval.mean(axis=0)
    opening = middle + 0.94 * (oval - middle)
    opening[np.argsort(oval[:, 1])[:9], 1] += 9
    cloth = filled(outer, 1.0) * (1 - filled(opening, 1.1))
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    away = np.hypot((columns - middle[0]) / wide, (rows - middle[1]) / (0.62 * (chin[1] - dome.middle[1] + dome.up)))
    turn = np.arctan2(columns - middle[0], middle[1] + 30 - rows)
    soft = cv2.GaussianBlur(random.normal(0, 1, (HEIGHT, WIDTH)).astype(np.float32), (0, 0), 30)
    soft /= soft.std()
    folds = np.sin(17 * away + 2.2 * soft + 1.6 * np.abs(turn)) * np.clip(away - 0.82, 0, 0.6)
    deep = np.clip((rows - chin[1]) / 40 + 0.5, 0, 1)
    light = 0.9 + 0.26 * folds * (1 + deep) - 0.5 * np.clip(away - 1.2, 0, 0.8) + 0.04 * soft
    rim = cv2.GaussianBlur(filled(opening), (0, 0), 6)
    light *= 1 - 0.35 * rim
    weave = cv2.GaussianBlur(random.normal(0, 1, (HEIGHT, WIDTH)).astype(np.float32), (0, 0), 0.8)
    painted = np.array(traits.hat, np.float32) * (light * (1 + 0.05 * weave))[..., None]
    shadow = 1 - 0.35 * cv2.GaussianBlur(cloth, (0, 0), 7)[..., None]
    return np.asarray(picture * shadow + cloth[..., None] * (np.clip(painted, 0, 255) - picture * shadow), np.float32)


def _beanie(picture: Float, places: Double, dome: Dome, traits: Traits) -> Float:
    """A knitted cap with a folded rim above the brows."""
    random = np.random.default_rng((*traits.random, 10))
    hair = _crop(picture, places, dome, traits)
    temples = places[[54, 284], 1].mean()  # above them hair is under the cap
    below = filled(np.array([(0, temples), (WIDTH, temples), (WIDTH, HEIGHT), (0, HEIGHT)]))
    picture = picture + below[..., None] * (hair - picture)
    rim = places[[109, 10, 338], 1].mean() + 4
    left, right = dome.middle[0] - dome.across - 8, dome.middle[0] + dome.across + 8
    bow = np.array(
        [(x, rim + 30 * ((x - dome.middle[0]) / dome.across) ** 2 - 6) for x in np.linspace(right, left, 24)]
    )
    crown = filled(np.concatenate([dome.outline(15)[(dome.outline(15)[:, 1] < rim + 34)], bow]), 1.0)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    angle = np.arcsin(np.clip((columns - dome.middle[0]) / (dome.across + 16), -1, 1))
    low = rim + 30 * ((columns - dome.middle[0]) / dome.across) ** 2 - 6
    fold = np.clip((rows - (low - 36)) / 2, 0, 1)
    knit = np.sin(angle * 62) * 0.13 + 0.05 * np.sin(rows * 2.1 + 2 * np.sin(angle * 62))
    edge = np.exp(-(((rows - (low - 37)) / 3) ** 2))
    light = (dome.light() + 0.08) * (1 + knit * (0.75 + 0.5 * fold)) * (1 + 0.1 * fold - 0.35 * edge)
    light *= 1 + 0.05 * random.normal(0, 1, light.shape)
    painted = np.clip(np.array(traits.hat, np.float32) * light[..., None], 0, 255)
    shadow = 1 - 0.4 * cv2.GaussianBlur(crown, (0, 0), 6)[..., None]
    return np.asarray(picture * shadow + crown[..., None] * (painted - picture * shadow), np.float32)


_KINDS: dict[str, Callable[[Float, Double, Dome, Traits], Float]] = {
    "crop": _crop,
    "bob": _bob,
    "curls": _curls,
    "buzz": _buzz,
    "bald": _bald,
    "scarf": _scarf,
    "beanie": _beanie,
}
