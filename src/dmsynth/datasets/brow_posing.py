"""The brows of a photo, raised or lowered as told.

The skin moves: above the brows it is squeezed or stretched, less and less up to the hair, below them down to the upper
lids. Lowered brows are drawn together. Eyes, hair and temples stay.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter1d, minimum_filter1d

from dmsynth.datasets.glasses_frame import frame_of_glasses
from dmsynth.trackers.gaze import EYE_OUTLINES
from dmsynth.trackers.mouth import seen_eye_distance

# lengths are shares of the distance between the outer corners of the eyes
_PROFILE = (0.7, 0.95, 1.15, 1.2, 1.0)  # of the mean way, from the outer end of a brow to the inner one: as measured
_WAY = 0.06  # of the mean brow at 1: of that, Face Landmarker reads about ``trackers.brows.BROW_WAY``
_DRAWN = 0.01  # how far lowered brows are drawn together, each
_TOGETHER = (0.0, 0.1, 0.4, 0.8, 1.0)  # of that, along a brow
_FADES = 1.3  # of the brow's outer part, beyond its outer end: there the temple stays
_THICK = 0.065  # from a brow's lower edge to its upper one
_LID = 0.02  # above the lid's edge, lashes stay with it
_FOREHEAD = (0.1, 0.38)  # how far above a brow the skin moves along, least and most
_MARGIN = 0.02  # of skin below the hair that stays with it
_HAIR = 0.72  # of the skin's lightness: what is darker is hair, or a hat
_ABOVE = 0.1  # above a brow's lower edge, a frame of glasses is looked for
_FINE = 64  # columns in which the hair is looked for
_SMALLEST = 12.0  # pixels between the outer corners of the eyes: of smaller faces nothing is moved
_MOST = 2.0  # of the way: from lowered to raised
_LATE = 1.4  # the skin next to the lid moves less than in proportion
_SQUEEZED = 0.65  # of the bare forehead, or of the lid's skin: brows squeeze it by no more

Float = NDArray[np.floating[Any]]
Line = Callable[[Any], Any]


class PosedBrows:
    """Both brows in a picture of a head.

    image: (H, W, 3 or more) uint8, of which the first three count.
    landmarks: (478, 2 or 3) Face Landmarker's points in pixels; those of ``gaze.EYE_POINTS`` are needed.
    rotation: (3, 3) the head's rotation in the picture, frame x right, y up, z towards the camera.
    colours: of the image, ``rgb`` or ``yuv``.
    """

    def __init__(self, image: NDArray[np.uint8], landmarks: Float, rotation: Float, colours: str = "rgb") -> None:
        points = np.asarray(landmarks, np.float64)[:, :2]
        self._lay_out(points, rotation)
        self.box = self._region(image.shape)
        rows, columns = self.box
        self.seen = self._width >= _SMALLEST and rows.start < rows.stop and columns.start < columns.stop
        if not self.seen:
            return
        grey = (image[..., 0] if colours == "yuv" else image[..., :3].mean(axis=2)).astype(np.float32)
        forehead = self._bare_forehead(grey)
        x, y = np.meshgrid(*(np.arange(part.start, part.stop, dtype=np.float32) for part in (columns, rows)))
        s, t = self._coordinates(x, y)
        self._s, self._t = s.astype(np.float32), t.astype(np.float32)
        lid, low = self._lid(s) - _LID * self._unit, self._low(s)
        self._low_at, self._lid_at = (each.astype(np.float32) for each in (low, np.maximum(lid, low + 1)))
        self._forehead = forehead(s).astype(np.float32)
        self.frame = self._glasses(image, grey)
        self._moves, self._drawn = (line(s).astype(np.float32) for line in (self._profile, self._together))

    def _glasses(self, image: NDArray[np.uint8], grey: NDArray[np.float32]) -> tuple[Float, Float] | None:
        """Of a frame of glasses in the box, where it is, (h, w, 1) in [0, 1], and the picture without it, (h, w, 3);
        None without glasses."""
        frame = frame_of_glasses(grey, self._eyes, self._axes * [self._width, self._unit])
        if frame is None:
            return None
        there = frame[self.box] & (self._t > self._low_at - _ABOVE * self._unit)
        part = np.ascontiguousarray(image[self.box][..., :3])
        bare = cv2.inpaint(part, there.astype(np.uint8), 3, cv2.INPAINT_TELEA)
        return cv2.GaussianBlur(there.astype(np.float32), (0, 0), 0.6)[..., None], bare.astype(np.float32)

    @property
    def boxes(self) -> list[tuple[slice, slice]]:
        """Rows and columns in which they are drawn; none for a face that is too small, or not in the picture."""
        return [self.box] if self.seen else []

    def _lay_out(self, points: Float, rotation: Float) -> None:
        """The face's own coordinates: s from -0.5 at the left to 0.5 at the right outer corner of the eyes, t in pixels
        down the head."""
        ends = points[[EYE_OUTLINES["right"]["upper"][0], EYE_OUTLINES["left"]["upper"][-1]]]
        across, down = ends[1] - ends[0], np.array([-rotation[0, 1], rotation[1, 1]])
        self._origin, self._width = ends.mean(axis=0), max(float(np.hypot(*across)), 1.0)
        shortened = max(float(np.hypot(*down)), 0.3)  # a head that nods is shorter
        self._axes = np.column_stack([across / self._width, down / np.hypot(*down)])
        if abs(np.linalg.det(self._axes)) < 0.3:  # as if the eyes lay level
            self._axes = np.column_stack([[self._axes[1, 1], -self._axes[0, 1]], self._axes[:, 1]])
        self._inverse = np.linalg.inv(self._axes)
        self._unit = seen_eye_distance(points, rotation) * shortened
        outer = [[eye["upper"][0], eye["upper"][-1]] for eye in EYE_OUTLINES.values()]
        self._eyes = points[outer].mean(axis=1)
        brows = points[[number for eye in EYE_OUTLINES.values() for number in eye["brow"]]]
        s, t = self._coordinates(*brows.T)
        far = s[[0, -1]] - _FADES * (s[[2, -3]] - s[[0, -1]])
        wide = np.array([far[0], *s, far[1]])
        self._low = _line(s, t)
        self._lid = _line(*self._coordinates(*points[[n for eye in EYE_OUTLINES.values() for n in eye["upper"]]].T))
        self._profile = _line(wide, np.array([0, *_PROFILE, *_PROFILE[::-1], 0]))
        middle = (s[4] + s[5]) / 2
        drawn = np.array([0, *_TOGETHER, 0, *(-each for each in _TOGETHER[::-1]), 0])
        self._together = _line(np.array([far[0], *s[:5], middle, *s[5:], far[1]]), drawn)
        self._ends, self._inner = (float(wide.min()), float(wide.max())), (float(s[4]), float(s[5]))

    def _coordinates(self, x: Any, y: Any) -> tuple[Any, Any]:
        x, y = x - self._origin[0], y - self._origin[1]
        (a, b), (c, d) = self._inverse
        return (a * x + b * y) / self._width, c * x + d * y

    def _place(self, s: Any, t: Any) -> tuple[Any, Any]:
        """x and y in pixels of the picture."""
        x, y = (self._origin[i] + s * self._width * self._axes[i, 0] + t * self._axes[i, 1] for i in range(2))
        return x, y

    def _region(self, shape: tuple[int, ...]) -> tuple[slice, slice]:
        across = np.linspace(*self._ends, 9)
        top = self._low(across) - (_THICK + _FOREHEAD[1]) * self._unit
        bottom = np.maximum(self._lid(across), self._low(across) + 2)
        x, y = self._place(np.tile(across, 2), np.concatenate([top, bottom]))
        low, high = np.floor([x.min(), y.min()]).astype(int), np.ceil([x.max(), y.max()]).astype(int) + 1
        (left, above), (right, below) = (np.clip(each, 0, (shape[1], shape[0])).tolist() for each in (low, high))
        return slice(above, below), slice(left, right)

    def _bare_forehead(self, grey: NDArray[np.float32]) -> Line:
        """How many pixels of forehead move above a brow, along s: up to hair or hat, which are darker than skin."""
        unit = self._unit
        across = np.linspace(*self._ends, _FINE)
        up = np.linspace(0.0, _FOREHEAD[1], _FINE)[:, None]
        upper = self._low(across) - _THICK * unit
        smooth = cv2.GaussianBlur(grey, (0, 0), max(0.015 * unit, 0.5))
        x, y = self._place(np.tile(across, (_FINE, 1)), upper - up * unit)
        at = (x.astype(np.float32), y.astype(np.float32))
        lightness = cv2.remap(smooth, *at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        between = (across > self._inner[0]) & (across < self._inner[1])
        skin = float(np.median(lightness[up[:, 0] < 0.08][:, between])) if between.any() else float(lightness.max())
        dark = lightness < _HAIR * skin
        begun = np.maximum.accumulate(~dark, axis=0)  # a thick brow is dark at first
        hair = dark & begun
        first = np.where(hair.any(axis=0), hair.argmax(axis=0), _FINE - 1)
        first[~begun.any(axis=0)] = 0
        bare = np.clip(up[first, 0] - _MARGIN, *_FOREHEAD)
        bare = gaussian_filter1d(minimum_filter1d(bare, 5), 2.0)
        return lambda s: unit * np.interp(s, across, bare)

    def fetched(self, raised: float) -> NDArray[np.float32]:
        """(2, h, w) of the box, with brows ``raised`` by so much: from how far across and down, in pixels, each is
        fetched."""
        raised, t = float(np.clip(raised, -_MOST, _MOST)), self._t
        low, lid, thick = self._low_at, self._lid_at, np.float32(_THICK * self._unit)
        falls = np.float32(-raised * _WAY * self._unit) * self._moves
        falls = np.clip(falls, -np.float32(_SQUEEZED) * self._forehead, np.float32(_SQUEEZED) * (lid - low))
        upper, reach = low - thick, self._forehead + falls
        above = np.clip(1 - (upper + falls - t) / reach, 0, 1) ** 2  # 1 below the brow's upper edge
        below = np.clip((lid - t) / np.maximum(lid - low - falls, 1e-3), 0, 1) ** _LATE  # 1 above its lower edge
        share = above * below
        along = np.float32(_DRAWN * max(-raised, 0.0) * self._width) * self._drawn * share
        axes = self._axes.astype(np.float32)
        return np.asarray(-np.stack([axes[i, 0] * along + axes[i, 1] * falls * share for i in range(2)]), np.float32)

    def reach(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """(height, width) of a picture: 1 where raised or lowered brows change it, softly down to 0 where they do
        not."""
        whole = np.zeros(shape[:2], np.float32)
        if self.seen:
            moved = np.max([np.hypot(*self.fetched(raised)) for raised in (-1.0, 1.0)], axis=0) / (_WAY * self._unit)
            whole[self.box] = np.clip(8 * moved - 0.2, 0, 1)
        return whole

    def paint(self, image: NDArray[np.uint8], raised: float) -> None:
        """Move the brows of the picture ``image`` (H, W, 3 or more) uint8, in place, by ``raised``: 1 is up, -1 down
        (``trackers.brows.BROW_WAY``). What has been drawn there before, such as lids, goes along."""
        if self.seen and abs(raised) > 1e-6:
            part = np.ascontiguousarray(image[self.box][..., :3])
            here = np.stack(np.meshgrid(*(np.arange(side, dtype=np.float32) for side in part.shape[1::-1])))
            x, y = here + self.fetched(raised)
            if self.frame is None:
                image[self.box][..., :3] = cv2.remap(part, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
                return
            share, bare = self.frame
            skin = part + share * (bare - part)
            moved = cv2.remap(skin, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
            image[self.box][..., :3] = np.clip(np.rint(moved + share * (part - moved)), 0, 255).astype(np.uint8)


def _line(s: Float, values: Float) -> Line:
    """A smooth line through values (n,) at s (n,), beyond its ends as there."""
    order = np.argsort(s)
    s, values = s[order], values[order]
    kept = np.concatenate([[True], np.diff(s) > 1e-3])
    if kept.sum() < 2:
        return lambda at: np.full(np.shape(at), float(values.mean()))
    curve, ends = PchipInterpolator(s[kept], values[kept]), (s[kept][0], s[kept][-1])
    return lambda at: curve(np.clip(at, *ends))
