"""The mouth of a photo, opened as told: training data and pictures whose mouth is known exactly.

The jaw drops: lower lip and chin go down, cheeks and neck follow smoothly, the corners of the mouth a little, and the
mouth gets narrower. What the photo shows between the lips (teeth) stays with the upper lip; below is darkness, with a
tongue.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from dmsynth.trackers.mouth import CHIN, JAW, LOWER_LIP, LOWER_RIM, MOUTH_POINTS, NOSE, UPPER_LIP, WIDE_OPEN

_WIDEST = 1.2
_FINE = 90  # pixels from corner to corner: smaller mouths are drawn enlarged
_SMALLEST = 6.0  # pixels from corner to corner: of smaller mouths nothing can be moved
_SIDE = 1.4  # of the mouth's width, from its middle: from here on the cheek stays
_CORNERS = 0.3  # of the jaw's way: how far the corners of the mouth go along
_RAISES = 0.08  # of the jaw's way: how far the upper lip goes up
_NARROWS = 0.2  # of its width when wide open
_NECK = 1.2  # of a wide opening, below the chin: from here on the neck stays
_DARK = np.array([0.2, 0.12, 0.12])  # of the skin's colour: inside
_TONGUE = 0.55  # of the lips' colour
_TEETH = np.array([1.0, 0.96, 0.88])  # of the skin's lightness
_TOOTH = 0.1  # of the mouth's width: what is seen of the upper teeth

Float = NDArray[np.floating[Any]]
Line = Callable[[Any], Any]


class PosedMouth:
    """A mouth in a picture of a head.

    image: (H, W, 3 or more) uint8.
    landmarks: (n, 2 or 3) those of ``MOUTH_POINTS`` in pixels.
    rotation: (3, 3) the head's rotation in the picture, frame x right, y up, z towards the camera.
    eye_distance: between the outer corners of the eyes, in pixels, as seen from ahead.
    colours: of the image, ``rgb`` or ``yuv``.
    """

    def __init__(
        self,
        image: NDArray[np.uint8],
        landmarks: Float,
        rotation: Float,
        eye_distance: float,
        colours: str = "rgb",
    ) -> None:
        points = dict(zip(MOUTH_POINTS, np.asarray(landmarks, np.float64)[:, :2], strict=True))
        down = np.array([-rotation[0, 1], rotation[1, 1]])  # the head's, in the image
        self._lay_out(points, down, eye_distance)
        self.box = self._region(image.shape)
        rows, columns = self.box
        self._photo = image[rows, columns, :3].astype(np.float32)
        self.seen = self._photo.size > 0 and self._width >= _SMALLEST
        if not self.seen:
            return
        self._scale = max(1, math.ceil(_FINE / self._width))
        corner = np.array([columns.start, rows.start])
        finer = {name: (point - corner + 0.5) * self._scale - 0.5 for name, point in points.items()}
        self._lay_out(finer, down, eye_distance * self._scale)
        size = (self._scale * self._photo.shape[1], self._scale * self._photo.shape[0])
        self._image = cv2.resize(self._photo, size, interpolation=cv2.INTER_CUBIC)
        x, y = np.meshgrid(*(np.arange(side, dtype=np.float32) for side in size))
        self._s, self._t = (np.asarray(each, np.float32) for each in self._coordinates(x, y))
        middle = np.abs(self._s - 0.5)
        rim = self._lower_rim(0.5)
        skin = self._image[(middle < 0.4) & (self._t > rim) & (self._t < self._jaw(0.5))]
        lips = self._image[(middle < 0.3) & (self._t > self._lower(0.5)) & (self._t < rim)]
        tone = np.median(skin, axis=0) if len(skin) else np.median(self._image, axis=(0, 1))
        red = np.median(lips, axis=0) if len(lips) else tone
        if colours == "yuv":
            tone, red = (_converted(each, cv2.COLOR_YUV2RGB) for each in (tone, red))
        inside = (_DARK * tone, _TONGUE * red, min(float(tone.mean()), 235.0) * _TEETH)
        self._dark, self._tongue, self._teeth = (
            _converted(each, cv2.COLOR_RGB2YUV) if colours == "yuv" else each for each in inside
        )
        self._black = np.array([0, 128, 128] if colours == "yuv" else [0, 0, 0], np.float32)

    @property
    def boxes(self) -> list[tuple[slice, slice]]:
        """Rows and columns in which it is drawn; none for a mouth that is too small, or not in the picture."""
        return [self.box] if self.seen else []

    def _lay_out(self, points: dict[int, Float], down: Float, eye_distance: float) -> None:
        """The mouth's own coordinates: s from 0 at its left to 1 at its right corner, t in pixels down the head."""
        self._corner = points[UPPER_LIP[0]]
        across = points[UPPER_LIP[-1]] - self._corner
        self._width = max(float(np.hypot(*across)), 1.0)
        self._shortened = max(float(np.hypot(*down)), 0.3)  # a head that nods is shorter
        self._axes = np.column_stack([across / self._width, down / np.hypot(*down)])
        if abs(np.linalg.det(self._axes)) < 0.3:  # a mouth drawn aside: as if it were straight
            self._axes = np.column_stack([[self._axes[1, 1], -self._axes[0, 1]], self._axes[:, 1]])
        self._inverse = np.linalg.inv(self._axes)
        self._upper, self._lower, self._lower_rim, self._jaw = (
            self._line(np.array([points[number] for number in part])) for part in (UPPER_LIP, LOWER_LIP, LOWER_RIM, JAW)
        )
        self._nose, self._chin = (float(self._coordinates(*points[number])[1]) for number in (NOSE, CHIN))
        self._most = WIDE_OPEN * eye_distance * self._shortened
        self._chin = max(self._chin, self._nose + 1)
        self._end = self._chin + _NECK * self._most

    def _coordinates(self, x: Any, y: Any) -> tuple[Any, Any]:
        x, y = x - self._corner[0], y - self._corner[1]
        (a, b), (c, d) = self._inverse
        return (a * x + b * y) / self._width, c * x + d * y

    def _line(self, points: Float) -> Line:
        s, t = self._coordinates(*points.T)
        order = np.argsort(s)
        s, t = s[order], t[order]
        kept = np.concatenate([[True], np.diff(s) > 1e-3])
        if kept.sum() < 2:
            return lambda at: np.full(np.shape(at), float(t.mean()))
        curve, ends = PchipInterpolator(s[kept], t[kept]), (s[kept][0], s[kept][-1])
        return lambda at: curve(np.clip(at, *ends))

    def _region(self, shape: tuple[int, ...]) -> tuple[slice, slice]:
        ends = [
            self._corner + s * self._width * self._axes[:, 0] + t * self._axes[:, 1]
            for s in (0.5 - _SIDE, 0.5 + _SIDE)
            for t in (self._nose, self._end)
        ]
        low, high = np.floor(np.min(ends, axis=0)).astype(int), np.ceil(np.max(ends, axis=0)).astype(int) + 1
        (left, top), (right, bottom) = (np.clip(each, 0, (shape[1], shape[0])).tolist() for each in (low, high))
        return slice(top, bottom), slice(left, right)

    def paint(self, image: NDArray[np.uint8], opening: float) -> None:
        """Draw the mouth into the picture ``image`` (H, W, 3 or more) uint8, in place, opened further than it is by
        ``opening``: 1 is wide open. Only what moves is changed: in a head that is rolled, an eye reaches into the
        box."""
        if self.seen and opening > 0:
            part = image[self.box][..., :3]
            drawn = part + self._draw(min(opening, _WIDEST)) - self._photo
            part[...] = np.clip(np.rint(drawn), 0, 255).astype(np.uint8)

    def _draw(self, opening: float) -> Float:
        """The region of the mouth, (h, w, 3), about 0 … 255."""
        jaw, t = np.float32(opening * self._most), self._t
        away = np.abs(self._s - 0.5)
        stays = np.clip(1 - (away / _SIDE) ** 2, 0, 1) ** 2 * self._fading()
        s = self._s + np.float32(_NARROWS * opening) * (self._s - 0.5) * stays
        away = np.abs(s - 0.5)
        bulge = np.sqrt(np.clip(1 - (2 * away) ** 2, 0, 1))  # lips open as an ellipse
        corners = _CORNERS * np.exp(-((np.maximum(away - 0.5, 0) / 0.4) ** 2)) * (1 - bulge)
        upper_moves, lower_moves = jaw * (corners - _RAISES * bulge), jaw * (corners + (1 - _RAISES) * bulge)

        # the lines that move, from above: upper lip, lower lip, its rim, jaw
        upper = self._upper(s)
        lower = np.maximum(self._lower(s), upper)
        rim = np.maximum(self._lower_rim(s), lower)
        jawline = np.maximum(self._jaw(s), rim + 1)
        turns = np.clip((self._jaw(s) - self._nose) / (self._chin - self._nose), 0, 1)  # about a hinge by the ears
        chin_moves = jaw * (1 - _RAISES) * np.clip(1 - (away / _SIDE) ** 4, 0, 1) ** 2 * turns
        top, end = np.minimum(self._nose, upper - 1), np.maximum(self._end, jawline + 1)
        above = np.where(t < upper + upper_moves, _mapped(t, top, upper + upper_moves, top, upper), t - upper_moves)
        down = np.where(
            t < rim + lower_moves,
            t - lower_moves,
            np.where(
                t < jawline + chin_moves,
                _mapped(t, rim + lower_moves, jawline + chin_moves, rim, jawline),
                _mapped(t, jawline + chin_moves, end, jawline, end),
            ),
        )
        roof, floor = lower + upper_moves, lower + lower_moves
        below = np.clip(t - (roof + floor) / 2 + 0.5, 0, 1)[..., None]
        drawn = self._sampled(s, np.minimum(above, lower)) * (1 - below)
        drawn += self._sampled(s, np.maximum(down, lower)) * below
        soft = np.float32(0.8 * self._scale)
        inside = np.clip((t - roof) / soft + 0.5, 0, 1) * np.clip((floor - t) / soft + 0.5, 0, 1) * (away < 0.5)
        drawn += inside[..., None] * (self._inside(s, t - roof, floor - roof, lower - upper) - drawn)
        if self._scale == 1:
            return np.asarray(drawn)
        # only what has changed: the picture keeps its own pixels
        sides = self._photo.shape[1::-1]
        changed = cv2.resize((drawn - self._image).astype(np.float32), sides, interpolation=cv2.INTER_AREA)
        return np.asarray(self._photo + changed)

    def _fading(self) -> Float:
        """(h, w): 1 at the mouth, 0 at the upper and lower end of the region."""
        middle = float(self._lower(0.5))
        up, down = max(middle - self._nose, 1.0), max(self._end - middle, 1.0)
        away = np.where(self._t < middle, (middle - self._t) / up, (self._t - middle) / down)
        return np.asarray(np.clip(1 - away**2, 0, 1) ** 2)

    def _inside(self, s: Float, depth: Float, gap: Float, seen: Float) -> Float:
        """What shows between the lips: ``depth`` pixels below the upper edge, of a ``gap``; ``seen``: how much the
        photo shows already."""
        across = np.clip(1 - (2 * (s - 0.5)) ** 2 / 0.55, 0, 1)
        share = np.clip((depth / np.maximum(gap, 1) - 0.45) / 0.5, 0, 1) * across
        colour = self._dark + share[..., None] * (self._tongue - self._dark)
        high = np.minimum(_TOOTH * self._width, 0.3 * gap) * np.sqrt(across)
        teeth = np.clip((high - depth) / (0.8 * self._scale) + 0.5, 0, 1)
        teeth = teeth * np.clip(1 - seen / (0.06 * self._width), 0, 1)
        white = self._black + (0.6 + 0.25 * across)[..., None] * (self._teeth - self._black)
        return np.asarray(colour + teeth[..., None] * (white - colour), np.float32)

    def _sampled(self, s: Float, t: Float) -> Float:
        """The picture at the mouth's coordinates."""
        x, y = (self._corner[i] + s * self._width * self._axes[i, 0] + t * self._axes[i, 1] for i in range(2))
        at = (x.astype(np.float32), y.astype(np.float32))
        return np.asarray(cv2.remap(self._image, *at, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE))


def _converted(colour: Float, how: int) -> Float:
    """One colour (3,), 0 to 255, in another space."""
    pixel = np.clip(np.rint(colour), 0, 255).astype(np.uint8).reshape(1, 1, 3)
    return cv2.cvtColor(pixel, how)[0, 0].astype(np.float32)


def _mapped(t: Float, low: Any, high: Any, from_low: Any, from_high: Any) -> Float:
    """Where between ``from_low`` and ``from_high`` lies what is drawn at t between low and high; beyond, it is only
    shifted."""
    share = (t - low) / np.maximum(high - low, 1e-3)
    between = from_low + share * (from_high - from_low)
    return np.where(share <= 0, t - low + from_low, np.where(share >= 1, t - high + from_high, between))
