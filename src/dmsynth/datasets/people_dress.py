"""What is around the face of a synthetic person: background, neck, clothes, glasses."""

from __future__ import annotations

import cv2
import numpy as np

from dmsynth.datasets.people_donors import HEIGHT, WIDTH, Double, Float
from dmsynth.datasets.people_face import by, filled, rgb
from dmsynth.datasets.people_traits import Traits
from dmsynth.trackers.gaze import EYE_OUTLINES

_FINE = 4  # glasses are drawn in a picture that many times as large


def _cloud(random: np.random.Generator, size: float) -> Float:
    """Noise (HEIGHT, WIDTH) of mean 0 and deviation 1, of structures of a size in pixels."""
    noise = cv2.GaussianBlur(random.normal(0, 1, (HEIGHT, WIDTH)).astype(np.float32), (0, 0), size)
    return np.asarray((noise - noise.mean()) / noise.std())


def background(traits: Traits) -> Float:
    """A wall out of focus, with light from one side."""
    random = np.random.default_rng((*traits.random, 11))
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    colour = random.uniform(60, 200) + random.uniform(-15, 15, 3)
    side = random.uniform(-0.3, 0.3)
    light = 1 + side * (columns / WIDTH - 0.5) - 0.22 * (rows / HEIGHT - 0.5) + 0.05 * _cloud(random, 55)
    light = light + 0.012 * _cloud(random, 0.9)
    wall = colour.astype(np.float32) * light[..., None]
    other = _cloud(random, 80)[..., None] * random.uniform(-5, 5, 3).astype(np.float32)
    return np.clip(wall + other, 6, 250)


def with_neck_and_clothes(picture: Float, places: Double, traits: Traits) -> Float:
    """Neck, shoulders and clothes below the face."""
    random = np.random.default_rng((*traits.random, 12))
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    chin, jaw = places[152], places[[172, 397]]
    half = 0.46 * float(jaw[1, 0] - jaw[0, 0]) + (6 if traits.beard != "none" else 0)
    middle = float(jaw[:, 0].mean())
    top, base = float(jaw[:, 1].mean()) - 26, float(chin[1]) + 24
    neck = filled(
        np.array(
            [
                (middle - half, top),
                (middle + half, top),
                (middle + half, base - 18),
                (middle + half + 26, base + 18),
                (middle + half + 60, HEIGHT),
                (middle - half - 60, HEIGHT),
                (middle - half - 26, base + 18),
                (middle - half, base - 18),
            ]
        ),
        1.2,
    )
    across = np.abs(columns - middle) / half
    shadow = np.clip((float(chin[1]) + 26 - rows) / 40, 0, 1) * np.clip(1.4 - across, 0, 1)
    cords = 0.05 * np.exp(-(((across - 0.45 + (rows - base) * 0.006) / 0.16) ** 2))
    light = (1 - 0.3 * np.clip(across, 0, 1.3) ** 2) * (1 - 0.42 * shadow) + cords + 0.012 * _cloud(random, 1.1)
    skin = rgb(np.array([[traits.skin]], np.float32))[0, 0]
    shade = skin * (light * 0.9)[..., None]
    picture = picture + neck[..., None] * (np.clip(shade, 0, 255) - picture)
    cover = _cloth(places, half, middle, base, traits)
    folds = 0.05 * _cloud(random, 22) + 0.03 * _cloud(random, 9) + 0.018 * _cloud(random, 0.8)
    light = 1.0 - 0.3 * np.clip((np.abs(columns - middle) - 90) / 200, 0, 1) + folds
    light -= 0.4 * np.exp(-np.clip(rows - base, 0, None) / 16) * np.clip(1.5 - across, 0, 1)
    if traits.dress == "turtleneck":
        light += 0.05 * np.sin(columns * 1.35) * (rows < base + 26)
    cloth = np.array(traits.cloth, np.float32) * light[..., None]
    edge = 1 - 0.35 * (cv2.GaussianBlur(cover, (0, 0), 5) * (1 - cover))[..., None]
    picture = picture * edge
    picture = picture + cover[..., None] * (np.clip(cloth, 0, 255) - picture)
    return _collar(picture, half, middle, base, traits) if traits.dress == "collar" else np.asarray(picture, np.float32)


def _cloth(places: Double, half: float, middle: float, base: float, traits: Traits) -> Float:
    """The mask of the clothes: shoulders, with the neckline cut out."""
    low = {"crew": 16.0, "turtleneck": -12.0, "collar": 22.0, "v-neck": 20.0}[traits.dress]
    shoulders = np.array(
        [
            (middle - half - 14, base + min(low, 10) - 6),
            (middle - half - 74, base + 24),
            (middle - 205, base + 52),
            (middle - 258, HEIGHT),
            (middle + 258, HEIGHT),
            (middle + 205, base + 52),
            (middle + half + 74, base + 24),
            (middle + half + 14, base + min(low, 10) - 6),
        ]
    )
    body = cv2.GaussianBlur(filled(shoulders), (0, 0), 7)
    body = np.clip((body - 0.5) * 6 + 0.5, 0, 1)
    turn = np.linspace(0, np.pi, 30)
    if traits.dress == "turtleneck":
        tube = filled(
            np.array(
                [
                    (middle - half - 5, base + low),
                    *((middle - (half + 5) * np.cos(t), base + low + 9 * np.sin(t)) for t in turn),
                    (middle + half + 7, base + 40),
                    (middle - half - 7, base + 40),
                ]
            ),
            0.9,
        )
        return np.maximum(body, tube)
    deep = {"crew": 20.0, "collar": 46.0, "v-neck": 74.0}[traits.dress]
    sharp = 1.0 if traits.dress == "crew" else 0.75
    line = [(middle - (half + 15) * np.cos(t), base - 14 + (deep + 14) * np.sin(t) ** (1 / sharp)) for t in turn]
    if traits.dress != "crew":
        line = [(middle - half - 15, base - 14), (middle, base + deep), (middle + half + 15, base - 14)]
    hole = filled(np.array([(middle - half - 16, base - 80), *line, (middle + half + 16, base - 80)]), 0.9)
    return np.asarray(body * (1 - hole), np.float32)


def _collar(picture: Float, half: float, middle: float, base: float, traits: Traits) -> Float:
    """The two leaves of a shirt's collar."""
    for side in (-1, 1):
        leaf = np.array(
            [
                (middle + side * (half + 4), base - 26),
                (middle + side * (half + 18), base - 8),
                (middle + side * 46, base + 66),
                (middle + side * 4, base + 34),
            ]
        )
        cover = filled(leaf, 0.8)
        shadow = 1 - 0.4 * (cv2.GaussianBlur(filled(leaf + by(0, 3)), (0, 0), 3) * (1 - cover))[..., None]
        rows = np.mgrid[:HEIGHT, :WIDTH][0].astype(np.float32)
        light = 1.12 - 0.0025 * (rows - base)
        colour = np.clip(np.array(traits.cloth, np.float32) * light[..., None] + 6, 0, 255)
        picture = picture * shadow + cover[..., None] * (colour - picture * shadow)
    return np.asarray(picture, np.float32)


def with_glasses(picture: Float, places: Double, traits: Traits) -> Float:
    """Drawn glasses, with the frame's shadow and a reflection."""
    if traits.glasses not in ("round", "square"):
        return picture
    random = np.random.default_rng((*traits.random, 13))
    eyes = [
        places[list(EYE_OUTLINES[name]["upper"] + EYE_OUTLINES[name]["lower"])].mean(axis=0)
        for name in ("right", "left")
    ]
    apart = float(np.linalg.norm(eyes[1] - eyes[0]))
    power, across, down = (2.0, 0.37, 0.35) if traits.glasses == "round" else (4.0, 0.42, 0.29)
    turn = np.linspace(0, 2 * np.pi, 80, endpoint=False)
    cosine, sine = np.cos(turn), np.sin(turn)
    unit = np.column_stack(
        [np.sign(cosine) * np.abs(cosine) ** (2 / power), np.sign(sine) * np.abs(sine) ** (2 / power)]
    )
    lenses = [eye + (0, 0.05 * apart) + apart * np.array((across, down)) * unit for eye in eyes]
    frame = np.zeros((HEIGHT * _FINE, WIDTH * _FINE), np.uint8)
    thick = round(_FINE * (random.uniform(1.3, 2.0) if traits.glasses == "round" else random.uniform(2.4, 3.6)))

    def line(points: Double, closed: bool, width: int) -> None:
        cv2.polylines(frame, [np.rint(points * _FINE * 16).astype(np.int32)], closed, 255, width, cv2.LINE_AA, 4)

    for lens in lenses:
        line(lens, True, thick)
    bridge = np.linspace(lenses[0][:, 0].max(), lenses[1][:, 0].min(), 12)
    bow = (bridge - bridge.mean()) / np.ptp(bridge) * 2
    line(np.column_stack([bridge, eyes[0][1] - 0.06 * apart + 5 * bow**2]), False, thick)
    for lens, ear, reach in (
        (lenses[0], places[127], lenses[0][:, 0].min()),
        (lenses[1], places[356], lenses[1][:, 0].max()),
    ):
        outward = np.sign(ear[0] - places[168, 0])
        line(
            np.array(
                [(reach, lens[:, 1].mean() - 0.12 * apart), (ear[0] + 4 * outward, lens[:, 1].mean() - 0.08 * apart)]
            ),
            False,
            thick,
        )
    cover = cv2.resize(frame, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    inside = np.maximum(filled(lenses[0], 0.8), filled(lenses[1], 0.8))
    shadow = cv2.GaussianBlur(np.roll(cover, (4, 1), axis=(0, 1)), (0, 0), 2.0) * 0.4
    colour = ((28, 24, 24), (84, 52, 30), (120, 116, 112), (46, 34, 60))[int(random.integers(4))]
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    glint = np.clip(np.sin((columns + rows) / 46 + random.uniform(0, 6)) - 0.8, 0, 1) * 130 * inside
    shiny = np.array(colour, np.float32) + 60 * np.clip(np.roll(cover, 1, axis=0) - cover, 0, 1)[..., None]
    picture = picture * (1 - shadow[..., None]) + glint[..., None] * 0.35
    return np.asarray(picture + cover[..., None] * (shiny - picture), np.float32)
