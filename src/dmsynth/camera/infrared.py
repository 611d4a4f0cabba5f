"""What a picture in visible light looks like at 940 nm.

Melanin and haemoglobin absorb little there: skin is bright and even, whatever its colour; lips, blemishes and brows
fade; the iris is pale and the pupil, which sends no light back beside the lamp's axis, is dark. The lamp's mirror image
on the cornea is the glint.

Pictures are the reflectance, coded as sRGB: what they look like in even light.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dmsynth.camera.surface import OVAL
from dmsynth.controls.pose import rotation_matrix
from dmsynth.datasets.eye_posing import IRIS_RADIUS
from dmsynth.trackers.gaze import EYE_OUTLINES
from dmsynth.trackers.mouth import LOWER_RIM
from dmsynth.video import Image

Float = NDArray[np.float32]
Double = NDArray[np.float64]

SKIN = 0.62  # reflectance at 940 nm; ours, after two photographs in infrared (docs/camera.md)
_SCLERA, _IRIS, _PUPIL = 0.66, 0.43, 0.015  # of the skin's: ours, after the same
_LIMBUS = 0.75  # of the iris's reflectance, at its rim
_LIFT = 0.1  # of the way to white: dark hair and cloth reflect more in infrared; ours
_EVEN = 0.75  # share of the skin's own light and shade that is divided out
_LIPS, _BROWS = 0.75, 0.35  # share of their contrast that fades; ours
_BLEMISH = 0.014  # of reflectance: a contrast that fades by half
_TEXTURE = 0.35  # of the iris's own contrast
_LARGE = 120.0  # pixels: the skin's light and shade of a higher face are found in a picture of half the size
_WIDE = 0.16  # of the face's height: over which the skin's light and shade are taken
_FINE = 0.012  # likewise: blemishes are smaller
_CORNEA = 7.8  # millimetres, radius (Gullstrand)
_PUPIL_BEFORE_CENTRE = 4.2  # millimetres from the cornea's centre to the pupil (Guestrin and Eizenman 2006)
_GLINT = 0.06  # of the iris's radius: the glint's standard deviation, and no less than
_SMALLEST_GLINT = 0.4  # pixels
_UPPER_LIP = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
_UPPER_BROWS = {"right": (70, 63, 105, 66, 107), "left": (300, 293, 334, 296, 336)}

_LINEAR = np.where(
    np.arange(256) <= 10, np.arange(256) / 255 / 12.92, ((np.arange(256) / 255 + 0.055) / 1.055) ** 2.4
).astype(np.float32)
_CODES = 4096


@dataclass(frozen=True)
class Look:
    """What the eyes do in a frame, and where the lamp stands.

    Attributes:
        gaze: pitch and yaw in the head, degrees.
        lamp: direction to the lamp from the eyes (3,), the camera's axes; (0, 0, 1) is the lens's.
        pupil: diameter in millimetres.
    """

    gaze: tuple[float, float]
    lamp: Double
    pupil: float


def to_linear(image: Image) -> Float:
    """sRGB codes, uint8, as light, 0 to 1."""
    return np.asarray(cv2.LUT(image, _LINEAR), np.float32)


def to_codes(light: Float, factor: float = 1.0) -> Image:
    """Light times a ``factor`` as sRGB codes, uint8; the inverse of ``to_linear``. More than 1 is white."""
    return np.asarray(np.take(_CODE_OF, cv2.multiply(light, factor * (_CODES - 1), dtype=cv2.CV_16U), mode="clip"))


def _codes() -> Image:
    light = np.minimum(np.arange(1 << 16) / (_CODES - 1), 1)
    coded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.rint(255 * coded).astype(np.uint8)


_CODE_OF = _codes()
_LIFTED = _LINEAR + np.float32(_LIFT) * (1 - _LINEAR)
_LIFTED_CODES = to_codes(_LIFTED)


def infrared(image: Image, landmarks: Float, rotation: Double, look: Look) -> Image:
    """The reflectance at 940 nm of a frame, (h, w) uint8, from what it shows in visible light.

    Args:
        image: grey (h, w) or RGB (h, w, 3) uint8, with a face.
        landmarks: (478, 3) of that face in pixels.
        rotation: (3, 3) of the head.
    """
    red = cv2.extractChannel(image, 0) if image.ndim == 3 else image
    coded = np.asarray(cv2.LUT(red, _LIFTED_CODES), np.uint8)
    height = float(np.hypot(*(landmarks[152, :2] - landmarks[10, :2])))
    box = _box(landmarks, image.shape, 0.35 * height)
    if box is not None:
        corner = np.array([box[1].start, box[0].start], np.float32)
        near = landmarks - np.append(corner, np.float32(0))
        part = _even_skin(np.asarray(cv2.LUT(np.ascontiguousarray(red[box]), _LIFTED), np.float32), near, height)
        line = (rotation @ rotation_matrix(look.gaze[0], look.gaze[1], 0.0))[:, 2]
        for side in EYE_OUTLINES:
            _draw_eye(part, near, side, line, look)
        coded[box] = to_codes(part)
    return coded


def _box(landmarks: Float, shape: tuple[int, ...], margin: float) -> tuple[slice, slice] | None:
    """Rows and columns of the face with a margin; None if it lies outside of the picture."""
    low = np.floor(landmarks[:, :2].min(axis=0) - margin).astype(int)
    high = np.ceil(landmarks[:, :2].max(axis=0) + margin).astype(int) + 1
    left, top = max(0, low[0]), max(0, low[1])
    right, bottom = min(shape[1], high[0]), min(shape[0], high[1])
    return (slice(top, bottom), slice(left, right)) if right - left > 8 and bottom - top > 8 else None


def _even_skin(light: Float, landmarks: Float, height: float) -> Float:
    """Skin as bright and even as it is in infrared, with faded lips and brows."""
    step = 2 if height > _LARGE else 1
    rows, columns = light.shape
    size = (-(-columns // step), -(-rows // step))
    small = cv2.resize(light, size, interpolation=cv2.INTER_AREA)
    shrunk = (landmarks[:, :2] + np.float32(0.5)) * (np.array(size, np.float32) / (columns, rows)) - np.float32(0.5)
    inner, factor = _skin_factors(small, shrunk.astype(np.float32), height / step)
    if step > 1:
        inner, factor = (cv2.resize(each, (columns, rows), interpolation=cv2.INTER_LINEAR) for each in (inner, factor))
    smooth = _without_blemishes(light, max(1, round(_FINE * height)))
    return np.asarray((light + inner * (smooth - light)) * factor, np.float32)


def _skin_factors(light: Float, points: Float, height: float) -> tuple[Float, Float]:
    """Maps (h, w) of a picture in which the face's points are (478, 2): where blemishes fade, and what evens out the
    skin's light and fades lips and brows."""
    shape = light.shape
    soft = max(0.6, 0.012 * height)
    face = _filled(shape, points[list(OVAL)])
    brows = [
        _filled(shape, np.concatenate([points[list(lower["brow"])], points[list(_UPPER_BROWS[side])][::-1]]))
        for side, lower in EYE_OUTLINES.items()
    ]
    lips = _filled(shape, np.concatenate([points[list(_UPPER_LIP)], points[list(LOWER_RIM)][::-1]]))
    eyes = [_filled(shape, _opening(points, side)) for side in EYE_OUTLINES]
    both_brows = np.maximum(*brows)
    bare = face - cv2.dilate(np.maximum(np.maximum(both_brows, lips), np.maximum(*eyes)), np.ones((3, 3)))
    skin = np.asarray(np.clip(bare, 0, 1), np.float32)

    reach = _soft(face, 0.05 * height)
    factor = 1 + reach * (_evening(light, skin, _WIDE * height) - 1)
    level = float((light * factor * skin).sum() / max(float(skin.sum()), 1.0))
    factor *= 1 + reach * np.float32(SKIN / max(level, 0.02) - 1)
    for mask, share in ((lips, _LIPS), (both_brows, _BROWS)):
        if mask.any():
            own = float((light * factor * mask).sum() / mask.sum())
            wide = _soft(mask, 1.5 * soft)
            factor *= 1 + wide * np.float32(max(SKIN / max(own, 0.02), 1.0) ** share - 1)
    return _soft(face, 2 * soft), np.asarray(factor, np.float32)


def _soft(mask: Float, sigma: float) -> Float:
    """A mask with a soft edge: two box filters, which take the same time for any width."""
    width = 2 * round(0.5 * np.sqrt(6 * sigma**2 + 1) - 0.5) + 1
    return np.asarray(cv2.blur(cv2.blur(mask, (width, width)), (width, width)), np.float32)


def _without_blemishes(light: Float, radius: int) -> Float:
    """Low contrasts smoothed, high ones kept: the guided filter with itself as guide (He et al. 2010)."""

    def mean(values: Float) -> Any:
        return cv2.blur(values, (2 * radius + 1, 2 * radius + 1))

    level = mean(light)
    spread = mean(light * light) - level * level
    slope = spread / (spread + np.float32(_BLEMISH**2))
    return np.asarray(mean(slope) * light + mean(level * (1 - slope)), np.float32)


def _evening(light: Float, weight: Float, sigma: float) -> Float:
    """Factors (h, w) that even out the light of what has weight; computed at a quarter of the size."""
    size = (max(2, light.shape[1] // 4), max(2, light.shape[0] // 4))
    pair = cv2.resize(cv2.merge([light * weight, weight]), size, interpolation=cv2.INTER_AREA)
    pair = cv2.GaussianBlur(pair, (0, 0), sigma / 4) + np.float32(1e-4) * pair.mean(axis=(0, 1))
    mean = pair[..., 0] / np.maximum(pair[..., 1], np.float32(1e-9))
    factors = (np.float32(SKIN) / np.maximum(mean, np.float32(0.02))) ** np.float32(_EVEN)
    return np.asarray(cv2.resize(factors, light.shape[1::-1], interpolation=cv2.INTER_LINEAR))


def _draw_eye(light: Float, landmarks: Float, side: str, line: Double, look: Look) -> None:
    """Sclera, iris, pupil and glint of an eye that looks along ``line`` (3,), in place, where its lids are open."""
    ring = landmarks[list(EYE_OUTLINES[side]["iris"]), :2].astype(np.float64)
    outline = _opening(landmarks[:, :2], side)
    radius = float(np.hypot(*(ring[1:] - ring[0]).T).max())
    box = _box(landmarks[list(EYE_OUTLINES[side]["upper"] + EYE_OUTLINES[side]["lower"])], light.shape, 3.0)
    if box is None or radius < 1.0:
        return
    part = light[box]
    corner = np.array([box[1].start, box[0].start])
    opening = cv2.GaussianBlur(_filled(part.shape, outline - corner), (0, 0), max(0.5, 0.12 * radius))
    x, y = np.meshgrid(*(np.arange(length, dtype=np.float32) for length in part.shape[::-1]))
    centre = ring[0] - corner
    away = _on_disc(x - centre[0], y - centre[1], line) / radius
    soft = 0.75 / radius
    iris, pupil = (np.clip(0.5 + (edge - away) / soft, 0, 1) for edge in (1.0, look.pupil / 2 / IRIS_RADIUS))
    own = np.clip(part / max(float((part * iris * opening).sum() / max((iris * opening).sum(), 1e-3)), 1e-3), 0.6, 1.3)
    disc = SKIN * _IRIS * (1 + _TEXTURE * (own - 1)) * np.where(away > 0.8, 1 - (1 - _LIMBUS) * (away - 0.8) / 0.2, 1)
    white = part * np.clip(SKIN * _SCLERA / max(_bright(part, opening * (1 - iris)), 0.05), 0.7, 2.5)
    drawn = white + iris * (disc - white)
    drawn = drawn + pupil * (SKIN * _PUPIL - drawn)
    glint = _glint(centre, radius, line, look.lamp)
    size = max(_SMALLEST_GLINT, _GLINT * radius)
    spark = np.exp(-((x - glint[0]) ** 2 + (y - glint[1]) ** 2) / (2 * size**2))
    on_cornea = np.clip((1.1 - np.hypot(*(glint - centre)) / radius) / 0.2, 0, 1)
    drawn = drawn + np.float32(on_cornea) * spark * (1 - drawn)
    part += opening * (drawn.astype(np.float32) - part)


def _opening(points: Float, side: str) -> Float:
    """(m, 2): the outline of an eye between its lids."""
    return np.concatenate([points[list(EYE_OUTLINES[side]["upper"])], points[list(EYE_OUTLINES[side]["lower"])][::-1]])


def _on_disc(x: Float, y: Float, line: Double) -> Float:
    """The distance from the middle of a disc that faces along ``line`` (3,), in pixels of the disc."""
    across = np.hypot(line[0], line[1])
    if across < 1e-3:
        return np.hypot(x, y)
    along = (x * line[0] - y * line[1]) / across  # foreshortened
    aside = (x * line[1] + y * line[0]) / across
    return np.hypot(along / max(float(line[2]), 0.3), aside)


def _glint(iris: Double, radius: float, line: Double, lamp: Double) -> Double:
    """Where the lamp is mirrored on the cornea, (2,) in pixels.

    The cornea's centre lies behind the pupil on the line of sight; the mirror's normal halves the angle between the
    directions to lamp and lens.
    """
    pixels = radius / IRIS_RADIUS
    half = lamp / np.linalg.norm(lamp) + [0.0, 0.0, 1.0]
    half = half / np.linalg.norm(half)
    aside = _CORNEA * half[:2] - _PUPIL_BEFORE_CENTRE * line[:2]
    return np.asarray(iris + pixels * aside * [1.0, -1.0])


def _bright(light: Float, weight: Float) -> float:
    """The brighter half's level of what has weight."""
    values = light[weight > 0.5]
    return float(np.quantile(values, 0.75)) if values.size else 0.0


def _filled(shape: tuple[int, ...], outline: Float) -> Float:
    """A mask (h, w) float32 of an outline (m, 2), its edge a pixel wide."""
    mask = np.zeros(shape[:2], np.uint8)
    cv2.fillPoly(mask, [np.rint(np.asarray(outline) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return mask.astype(np.float32) / np.float32(255)
