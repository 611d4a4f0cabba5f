"""Eyes, posed: a photo whose gaze and lids can be commanded.

The eye behind the lids is taken apart into layers, as the head is (``photo_posing``): a sclera, whose shade is smooth;
an iris, a disc on a sphere of 12 mm radius, with its own texture; the light's reflection on it (the glint); and the
skin with its two lids and lashes. An iris that looks down takes the upper lid along: lids are half of vertical gaze.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from dmsynth.controls.pose import rotation_matrix
from dmsynth.trackers.gaze import EYE_OUTLINES, EYE_POINTS, EYEBALL_RADIUS, MESH_POINTS

Float = NDArray[np.floating[Any]]

IRIS_RADIUS = 5.9  # mm; like the eyeball's the same in nearly all adults (Rüfer et al. 2005; Bekerman et al. 2014)
_DEEP = float(np.sqrt(EYEBALL_RADIUS**2 - IRIS_RADIUS**2)) / IRIS_RADIUS  # of the iris before the eyeball's centre
LID_FOLLOWS = 0.7  # of the iris's way up or down, the upper lid goes along (Becker and Fuchs 1988); the lower one less
LOWER_FOLLOWS = 0.3
MEET = 0.85  # of the opening at rest: how far down the lids meet; the upper one does nearly all the way
WIDEST = 1.3  # times the opening at rest
_LASHES, _RIM = 0.12, 0.03  # of the eye's width: bands that move with the upper and lower lid, not stretched
_BROW, _CHEEK = 0.5, 0.45  # of the eye's width: from here on the skin stays, where the brow does not say
_EDGE = 0.03  # of the eye's width: from how far beside its line a lid's edge is taken when it closes
_EVEN = 0.12  # of the eye's width: how widely the lid's skin is evened out along the eye
_BELOW = 0.75  # of the light that falls below the eye: what a closed lid of a deep-set eye shows
_SHADOW = 0.85  # of that: darker is no lid's skin
_TEXTURE = 48  # pixels of the iris's texture, either way
_GLINT = 0.25  # of the range of grey above the iris around it
_SOFT = 1.6  # pixels: the iris's edge
_LIMBUS = 1.12  # of the iris's radius: how far its soft edge reaches
_SMALLEST = 3.0  # pixels from corner to corner: of smaller eyes, or of none, nothing can be moved
_MOST_SHUT = 0.4  # of rest: an eye that the photo shows closed further cannot be opened wholly
_FINE = 60  # pixels from corner to corner: smaller eyes are taken apart and drawn enlarged


@dataclass(frozen=True)
class Eyes:
    """What eyes do.

    Attributes:
        gaze_pitch, gaze_yaw: degrees from this person's look at rest, in the head: + up, + to the image's right.
        opening_left, opening_right: of the person's own left and right eye; 0 closed, 1 as in the photo.
    """

    gaze_pitch: float = 0.0
    gaze_yaw: float = 0.0
    opening_left: float = 1.0
    opening_right: float = 1.0

    def posed_from(self, left: float, right: float) -> Eyes:
        """These eyes with lids from this person's rest as the poser takes them, for a photo that shows them at ``left``
        and ``right`` of it."""
        return replace(
            self,
            opening_left=self.opening_left / max(left, _MOST_SHUT),
            opening_right=self.opening_right / max(right, _MOST_SHUT),
        )


class PosedEyes:
    """The two eyes of a photo, or the one that is in the picture.

    image: (H, W, 3) uint8.
    landmarks: (478, 2 or 3) Face Landmarker's points in pixels, or those of ``EYE_POINTS`` alone.
    rotation: (3, 3) the head's rotation in the photo, frame x right, y up, z towards the camera.
    gaze: pitch and yaw of the eyes in the head, in degrees from this person's look at rest, that the photo shows.
    """

    def __init__(
        self,
        image: NDArray[np.uint8],
        landmarks: NDArray[Any],
        rotation: NDArray[np.floating[Any]],
        gaze: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        points = np.full((MESH_POINTS, 2), np.nan)
        where = list(EYE_POINTS) if len(landmarks) == len(EYE_POINTS) else slice(None)
        points[where] = np.asarray(landmarks)[:, :2]
        self._eyes = {
            side: _Eye(image, points, side, np.asarray(rotation, np.float64), gaze)
            for side in EYE_OUTLINES
            if _is_seen(points, side, image.shape)
        }

    @property
    def sides(self) -> list[str]:
        """Which of the person's own eyes they are, ``left`` or ``right``, in the order of ``boxes``."""
        return list(self._eyes)

    @property
    def boxes(self) -> list[tuple[slice, slice]]:
        """Rows and columns of the photo in which the eyes are drawn."""
        return [eye.box for eye in self._eyes.values()]

    def paint(self, image: NDArray[np.uint8], eyes: Eyes) -> None:
        """Draw the eyes as told into the photo ``image`` (H, W, 3 or more channels) uint8, in place."""
        for side, eye in self._eyes.items():
            opening = eyes.opening_left if side == "left" else eyes.opening_right
            rows, columns = eye.box
            drawn = eye.draw(eyes.gaze_pitch, eyes.gaze_yaw, opening)
            image[rows, columns, :3] = np.clip(np.rint(drawn), 0, 255).astype(np.uint8)


def _is_seen(points: Float, side: str, shape: tuple[int, ...]) -> bool:
    """Whether an eye is large enough to be taken apart, and within the picture from corner to corner."""
    corners = points[[EYE_OUTLINES[side]["upper"][0], EYE_OUTLINES[side]["upper"][-1]]]
    within = (corners >= 0) & (corners < (shape[1], shape[0]))
    return bool(within.all() and np.hypot(*(corners[1] - corners[0])) >= _SMALLEST)


class _Eye:
    """One eye, enlarged if it is small. Coordinates: s from 0 at the left to 1 at the right corner, t in pixels down
    from the line between them."""

    def __init__(
        self, image: NDArray[np.uint8], points: Float, side: str, rotation: Float, gaze: tuple[float, float]
    ) -> None:
        parts = {name: points[list(numbers)] for name, numbers in EYE_OUTLINES[side].items()}
        self._lay_out(parts)
        self.box = self._region(image.shape)
        rows, columns = self.box
        self._photo = image[rows, columns, :3].astype(np.float32)
        self._scale = max(1, math.ceil(_FINE / self._width))
        self._lay_out(
            {name: (each - (columns.start, rows.start) + 0.5) * self._scale - 0.5 for name, each in parts.items()}
        )

        # the iris and, behind it, the centre about which it turns
        self._rotation, self._rest = rotation, gaze
        ring = self._parts["iris"]
        self._radius = float(np.hypot(*(ring[1:] - ring[0]).T).mean())
        away = self._facing(*gaze)[:, 2] * np.array([1, -1, 1]) * _DEEP * self._radius
        self._centre = ring[0] - away[:2]

        height, width = self._photo.shape[:2]
        size = (self._scale * width, self._scale * height)
        self._image = cv2.resize(self._photo, size, interpolation=cv2.INTER_CUBIC)
        self._x, self._y = np.meshgrid(*(np.arange(side, dtype=np.float32) for side in size))
        self._s, self._t = (np.asarray(each, np.float32) for each in self._eye_coordinates(self._x, self._y))
        between = np.clip(self._s, 0, 1)
        self._upper_rest, self._lower_rest = (
            np.nan_to_num(np.asarray(self._lid(self._parts[name])(between), np.float32)) for name in ("upper", "lower")
        )
        self._between_corners = ((self._s > 0) & (self._s < 1)).astype(np.float32)
        self._bulge = (4 * between * (1 - between)) ** np.float32(0.7)  # a lid moves most in its middle
        self._take_apart()

    def _lay_out(self, parts: dict[str, Float]) -> None:
        """The eye's own coordinates, from its points in pixels."""
        self._parts = parts
        self._corner, end = parts["upper"][0], parts["upper"][-1]
        self._width = max(float(np.hypot(*(end - self._corner))), 1.0)
        self._along = (end - self._corner) / self._width
        self._down = np.array([-self._along[1], self._along[0]])
        brow = float(np.median((parts["brow"] - self._corner) @ self._down))
        self._brow = float(np.clip(0.9 * brow, -0.8 * self._width, -_BROW * self._width * 0.7))
        self._cheek = self._width * _CHEEK

    def _lid(self, points: Float) -> PchipInterpolator:
        s, t = self._eye_coordinates(*points.T)
        order = np.argsort(s)
        s, t = s[order], t[order]
        kept = np.concatenate([[True], np.diff(s) > 1e-3])
        return PchipInterpolator(s[kept], t[kept], extrapolate=False)

    def _eye_coordinates(self, x: Float, y: Float) -> tuple[Float, Float]:
        x, y = x - self._corner[0], y - self._corner[1]
        return (
            (x * self._along[0] + y * self._along[1]) / self._width,
            x * self._down[0] + y * self._down[1],
        )

    def _region(self, shape: tuple[int, ...]) -> tuple[slice, slice]:
        ends = [
            self._corner + s * self._width * self._along + t * self._down
            for s in (-0.1, 1.1)
            for t in (self._brow, self._cheek + 0.15 * self._width)
        ]
        low, high = np.floor(np.min(ends, axis=0)).astype(int), np.ceil(np.max(ends, axis=0)).astype(int) + 1
        return (
            slice(max(0, low[1]), min(shape[0], high[1])),
            slice(max(0, low[0]), min(shape[1], high[0])),
        )

    def _facing(self, pitch: float, yaw: float) -> Float:
        """(3, 3): the eyeball's rotation in the photo."""
        return self._rotation @ rotation_matrix(pitch, yaw, 0.0)

    def _on_iris(self, pitch: float, yaw: float, at: tuple[slice, slice] = np.s_[:, :]) -> tuple[Float, Float]:
        """Where each pixel lies on the iris's disc, in its radii from its middle: right and up."""
        facing = self._facing(pitch, yaw)
        middle = facing[:2, 2] * _DEEP * self._radius
        inverse = (np.linalg.inv(facing[:2, :2]) / self._radius).astype(np.float32)
        x = self._x[at] - np.float32(self._centre[0] + middle[0])
        y = np.float32(self._centre[1] - middle[1]) - self._y[at]
        return inverse[0, 0] * x + inverse[0, 1] * y, inverse[1, 0] * x + inverse[1, 1] * y

    def _take_apart(self) -> None:
        """Sclera, iris and glint of the photo, and the skin of the upper lid without brow and lashes."""
        bare = (self._t > self._brow) & (self._t < self._upper_rest - 1.2 * _LASHES * self._width)
        share = bare.astype(np.float32)[..., None] + np.float32(1e-4)
        wide = _EVEN * self._width
        amount = cv2.GaussianBlur(share, (0, 0), wide, sigmaY=wide / 3)[..., None]
        self._lid_skin = cv2.GaussianBlur(self._image * share, (0, 0), wide, sigmaY=wide / 3) / amount
        upper, lower = self._upper_rest, self._lower_rest
        self._lid_skin = self._lit(self._lid_skin, bare)
        depth = np.minimum(self._t - upper, lower - self._t)  # behind the lids
        share = np.clip((self._t - upper) / np.maximum(lower - upper, 1e-3), 0, 1)
        u, v = self._on_iris(*self._rest)
        distance = np.hypot(u, v)
        grey = self._image.mean(axis=2)
        seen = depth > 0.5

        # sclera: a smooth shade, brighter in the middle; near the corners and the upper lid it is darker
        white = seen & (distance > _LIMBUS)
        self._shade = _fitted(_terms(self._s, share)[white], self._image[white])
        self._range = (
            (np.quantile(self._image[white], 0.1, axis=0), np.quantile(self._image[white], 0.95, axis=0))
            if white.sum() >= 8
            else (np.full(3, np.quantile(grey, 0.6)), np.full(3, np.quantile(grey, 0.9)))
        )
        if white.sum() < 8:
            self._shade = np.zeros((6, 3))
            self._shade[0] = self._range[1]
        # of the photo's own sclera, what is not smooth: veins, the corner of the eye
        certain = cv2.GaussianBlur((seen & (distance > _LIMBUS + 0.1)).astype(np.float32), (0, 0), 0.7)
        self._grain = (self._image - self._sclera(share)) * certain[..., None]

        # iris: the texture where it is seen, the same on the other side, or the mean of its ring
        side = (np.arange(_TEXTURE) + 0.5) / _TEXTURE * 2 - 1
        across, up = np.meshgrid(side, -side)
        ring = np.hypot(across, up)
        facing = self._facing(*self._rest)
        shrunk = np.where(ring > 0.88, 0.88 / np.maximum(ring, 1e-6), 1.0)  # its edge is mixed with the sclera
        spots = np.stack([across * shrunk, up * shrunk], axis=-1) @ facing[:2, :2].T * self._radius
        x = self._centre[0] + facing[0, 2] * _DEEP * self._radius + spots[..., 0]
        y = self._centre[1] - facing[1, 2] * _DEEP * self._radius - spots[..., 1]
        left, top = self._x[0, 0], self._y[0, 0]
        at = ((x - left).astype(np.float32), (y - top).astype(np.float32))
        texture = cv2.remap(self._image, *at, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        known = cv2.remap((depth > 1.0).astype(np.float32), *at, cv2.INTER_LINEAR) > 0.99
        known &= ring < 1
        bands = np.minimum((ring * 8).astype(int), 7)
        lightness = texture.mean(axis=2)
        dark = np.array([np.median(lightness[known & (bands == b)]) if (known & (bands == b)).any() else np.nan
                         for b in range(8)])  # fmt: skip
        if np.isnan(dark).all():
            dark[:] = np.quantile(grey, 0.05)
        dark = np.interp(np.arange(8), np.flatnonzero(~np.isnan(dark)), dark[~np.isnan(dark)])
        smooth = np.interp(ring * 8 - 0.5, np.arange(8), dark)
        spread = max(float(np.ptp(grey)), 1.0)
        glint = known & (lightness - smooth > _GLINT * spread)
        glint = cv2.dilate(glint.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
        colour = np.median(texture[known & ~glint], axis=0) if (known & ~glint).any() else np.full(3, dark.mean())
        plain = smooth[..., None] * (colour / max(float(colour.mean()), 1.0))
        mirrored = texture[::-1]
        good, good_mirrored = known & ~glint, (known & ~glint)[::-1]
        filled = np.where(good[..., None], texture, np.where(good_mirrored[..., None], mirrored, plain))
        soft = cv2.GaussianBlur(good.astype(np.float32), (0, 0), 1.5)[..., None] * good[..., None]
        self._iris = (soft * texture + (1 - soft) * cv2.GaussianBlur(filled, (0, 0), 1.0)).astype(np.float32)
        extra = np.where(glint[..., None], np.maximum(texture - filled, 0), 0).astype(np.float32)
        self._reflection = cv2.GaussianBlur(extra, (0, 0), 0.7)

    def _lit(self, skin: Float, bare: NDArray[np.bool_]) -> Float:
        """The lid's skin. Deep-set eyes have none to show: between lid and brow there is shadow, and the skin below the
        eye stands in."""
        below = (self._t > self._lower_rest + 3 * _RIM * self._width) & (self._t < self._lower_rest + self._cheek)
        between = (self._s > 0.1) & (self._s < 0.9)
        if not (below & between).any() or not (bare & between).any():
            return skin
        share = below.astype(np.float32)[..., None] + np.float32(1e-4)
        wide = _EVEN * self._width
        amount = cv2.GaussianBlur(share, (0, 0), wide)[..., None]
        under = cv2.GaussianBlur(self._image * share, (0, 0), wide) / amount
        under = _BELOW * self._sampled(under, self._lower_rest + np.float32(0.6 * self._cheek))
        dark = float(self._image[bare & between].mean() / max(float(under[between & bare].mean()), 1.0))
        down = (self._t - self._brow) / np.maximum(self._upper_rest - _LASHES * self._width - self._brow, 1)
        mixed = np.clip((_SHADOW - dark) / 0.25, 0, 1) * np.clip(down, 0, 1) * self._bulge
        return np.asarray(skin + mixed[..., None] * (under - skin), np.float32)

    def _sclera(self, share: Float, at: tuple[slice, slice] = np.s_[:, :]) -> Float:
        shade = _terms(self._s[at], share) @ self._shade
        return np.asarray(np.clip(shade, *self._range), np.float32)

    def draw(self, pitch: float, yaw: float, opening: float) -> Float:
        """The region of the eye, (h, w, 3), about 0 … 255."""
        facing, rest = self._facing(pitch, yaw), self._facing(*self._rest)
        moved = (facing[:2, 2] - rest[:2, 2]) * _DEEP * self._radius * np.array([1, -1])
        falls = np.float32(moved @ self._down)  # pixels: the iris's way down along the eye's own axis
        upper = self._upper_rest + LID_FOLLOWS * falls * self._bulge
        lower = np.maximum(self._lower_rest + LOWER_FOLLOWS * falls * self._bulge, upper)
        meet = upper + MEET * (lower - upper)
        opening = float(np.clip(opening, 0, WIDEST))  # of what the photo shows: lids drawn further up break the brow
        upper, lower = meet + opening * (upper - meet), meet + opening * (lower - meet)

        # the two lids; where they meet, the line is a pixel soft
        t, width = self._t, self._width
        lashes, rim = np.float32(_LASHES * width), np.float32(_RIM * width)
        from_above = np.where(
            t > upper - lashes,
            t - upper + self._upper_rest,
            _stretched(t, self._brow, upper - lashes, self._upper_rest - lashes),
        )
        from_below = np.where(
            t < lower + rim,
            t - lower + self._lower_rest,
            _stretched(t, self._cheek + self._lower_rest, lower + rim, self._lower_rest + rim),
        )
        low = np.clip(t - (upper + lower) / 2 + 0.5, 0, 1)[..., None]
        # landmarks are a pixel or two off: lids that close must not show a line of the eye
        edge = np.float32(_EDGE * width * max(0.0, 1 - opening))
        lid = self._sampled(self._image, np.minimum(from_above, self._upper_rest - edge))
        # what a photo shows of the lid is a narrow strip with lashes over it; stretched, they would be stripes
        stretch = (upper - lashes - self._brow) / np.maximum(self._upper_rest - lashes - self._brow, 1)
        drawn_out = np.clip(1.5 * (stretch - 1), 0, 0.85) * np.clip((upper - lashes - t) / lashes, 0, 1)
        drawn_out *= np.clip((t - self._brow) / lashes, 0, 1)
        plain = self._sampled(self._lid_skin, from_above)
        drawn = (lid + drawn_out[..., None] * (plain - lid)) * (1 - low)
        drawn += self._sampled(self._image, np.maximum(from_below, self._lower_rest + edge)) * low

        inside = np.clip(t - upper + 0.5, 0, 1) * np.clip(lower - t + 0.5, 0, 1)
        inside *= np.clip(lower - upper, 0, 1) * self._between_corners
        left, top, wide, high = cv2.boundingRect((inside > 0).astype(np.uint8))
        if wide:
            at = np.s_[top : top + high, left : left + wide]
            share = np.clip((t[at] - upper[at]) / np.maximum(lower[at] - upper[at], 1e-3), 0, 1)
            part = inside[at][..., None]
            drawn[at] = drawn[at] * (1 - part) + self._eyeball(share, pitch, yaw, moved, at) * part
        if self._scale == 1:
            return drawn
        size = self._photo.shape[1::-1]
        return np.asarray(self._photo + cv2.resize(drawn - self._image, size, interpolation=cv2.INTER_AREA), np.float32)

    def _eyeball(self, share: Float, pitch: float, yaw: float, moved: Float, at: tuple[slice, slice]) -> Float:
        """What is behind the lids in a part of the region: sclera, iris, glint."""
        eye = self._sclera(share, at) + self._grain[at]
        u, v = self._on_iris(pitch, yaw, at)
        cover = np.clip((1.0 - np.hypot(u, v)) * max(self._radius, 1.0) / _SOFT + 0.5, 0, 1)[..., None]
        eye = eye * (1 - cover) + _textured(self._iris, u, v) * cover
        # a reflection on the cornea goes half the iris's way
        across, up = np.linalg.inv(self._facing(*self._rest)[:2, :2]) @ (0.5 * moved * [1, -1] / self._radius)
        u, v = self._on_iris(*self._rest, at)
        return np.asarray(eye + _textured(self._reflection, u - across, v - up), np.float32)

    def _sampled(self, image: Float, t: Float) -> Float:
        """The photo (or another image of its region) at the same s, but another t."""
        x, y = (
            (own - own[0, 0] + (t - self._t) * down).astype(np.float32)
            for own, down in zip((self._x, self._y), self._down, strict=True)
        )
        sampled = cv2.remap(image, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(sampled, np.float32)


def _stretched(t: Float, fixed: Float | float, edge: Float, edge_in_source: Float) -> Float:
    """``t`` between a line that stays and an edge that has moved, evenly; beyond the line that stays, as it is."""
    span = edge - fixed
    share = np.clip((t - fixed) / np.where(np.abs(span) < 1e-3, 1e-3, span), 0, None)
    return np.where((t - fixed) * np.sign(span) <= 0, t, fixed + share * (edge_in_source - fixed))


def _terms(s: Float, share: Float) -> Float:
    """(..., 6): of a shade that is quadratic along the eye and from lid to lid."""
    s, t = s - np.float32(0.5), share - np.float32(0.5)
    return np.stack([np.ones_like(s), s, s**2, t, t**2, s * t], axis=-1)


def _textured(texture: Float, u: Float, v: Float) -> Float:
    x, y = ((u + 1) / 2 * _TEXTURE - 0.5).astype(np.float32), ((1 - v) / 2 * _TEXTURE - 0.5).astype(np.float32)
    return np.asarray(cv2.remap(texture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)


def _fitted(terms: Float, values: Float) -> Float:
    """Least squares, held towards a constant, so that few pixels give no wild shade."""
    hold = 0.05 * len(terms) * np.diag([0.0, 1, 1, 1, 1, 1]) * 0.05
    return np.asarray(np.linalg.solve(terms.T @ terms + hold + 1e-9 * np.eye(6), terms.T @ values), np.float64)
