"""What is behind the driver: who is cut out of the drawn frame, and a soft cabin in its place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from dmsynth.camera import Camera
from dmsynth.camera.surface import Surface
from dmsynth.datasets.matting import person_mask
from dmsynth.video import Image, to_rgb

Float = NDArray[np.float32]
Double = NDArray[np.float64]

_WORKED = (160, 320)  # pixels: the outline is found in a picture of half the width, no less and no more than this
_COLOURS = 32  # steps of red, of green and of blue that are told apart
_NUMBERS = [(np.arange(256) * _COLOURS // 256 * step).astype(np.uint16) for step in (_COLOURS**2, _COLOURS, 1)]
_SPREAD, _RARE = 1.2, 1e-6  # steps to which a colour's neighbours count; share of a colour that was never seen
SIMILAR = 3.0  # degrees of turn within which an outline hardly moves:
_MOVES = 1.5  # pixels, of the small picture
_MOST = 3.0  # a colour's voice, as the logarithm of odds
_CERTAIN = 64  # part of the width from a likely outline where it is certain what is inside and what outside
_RADIUS, _SMOOTH = 3, 4e-4  # of the filter that aligns an outline with the picture
_INSIDE, _OUTSIDE = 0.95, 0.5  # of the outline's softness: a little of the old background's fringe is cut off, too
_SEAT, _ROOF, _PILLAR = 0.09, 0.3, 0.12  # reflectance; ours
_DARKER = 0.3  # of it, at 940 nm; ours
_SOFT = 3.0  # centimetres: the cabin is out of focus
_SHIFT = 0.55  # centimetres that what is behind shifts for each degree of the camera to the side


class Cutter:
    """Cuts the driver out of drawn frames. The colours on both sides of the outline are learned from the first one."""

    def __init__(self, image: Image, surface: Surface) -> None:
        """From a drawn ``image`` and the ``surface`` in it."""
        small = _small(image)
        self._without = cv2.resize(_by_face(surface), small.shape[1::-1], interpolation=cv2.INTER_AREA)
        inside = _by_colours(small, self._found(small)) > 0.5
        numbers = _colour_numbers(small)
        counts = [np.bincount(numbers[part], minlength=_COLOURS**3) for part in (inside, ~inside)]
        shares = [
            gaussian_filter(count.reshape([_COLOURS] * 3) / max(count.sum(), 1), _SPREAD) + _RARE for count in counts
        ]
        ratio = np.log(shares[0] / shares[1])
        self._speaks_for = np.clip(ratio, -_MOST, _MOST).astype(np.float32).ravel()

    def likely(self, image: Image) -> Float:
        """Where the driver is in a drawn frame, and in those in which the head has hardly turned: log odds (h, w)."""
        found = np.clip(cv2.GaussianBlur(self._found(_small(image)), (0, 0), _MOVES), 0.02, 0.98)
        return np.asarray(np.log(found / (1 - found)), np.float32)

    def cut_out(self, image: Image, likely: Float) -> Image:
        """(h, w) uint8, 0 to 255: where the driver is in a drawn frame, given ``likely`` of this or a similar one."""
        small = _small(image)
        colour = cv2.blur(np.take(self._speaks_for, _colour_numbers(small)), (3, 3))
        inside = 1 / (1 + np.exp(np.float32(-2) * (likely + colour)))
        grey = np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY) / np.float32(255), np.float32)
        aligned = _aligned(inside, grey)
        matte = (aligned - np.float32(_OUTSIDE)) * np.float32(255 / (_INSIDE - _OUTSIDE))
        large = cv2.resize(matte, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        return np.asarray(cv2.add(large, 0.0, dtype=cv2.CV_8U))

    def _found(self, small: Image) -> Float:
        """Probability (h, w) of the driver, 0 to 1: by a network, or without one by where the face was at first."""
        found = person_mask(small)
        return np.asarray(self._without if found is None else found, np.float32)


def _small(image: Image) -> Image:
    height, width = image.shape[:2]
    worked = min(width, int(np.clip(width / 2, *_WORKED)))
    size = (worked, max(2, round(height * worked / width)))
    return np.ascontiguousarray(cv2.resize(to_rgb(image), size, interpolation=cv2.INTER_AREA))


def _colour_numbers(image: Image) -> NDArray[np.uint16]:
    """(h, w): one number for each of ``_COLOURS``³ colours."""
    red, green, blue = map(cv2.LUT, cv2.split(image), _NUMBERS)
    return np.asarray(red + green + blue, np.uint16)


def _aligned(values: Float, guide: Float) -> Float:
    """Values (h, w) with their edges where the guide (h, w) has some: the guided filter, He et al. 2010."""

    def mean(maps: Float) -> Float:
        return np.asarray(cv2.blur(maps, (2 * _RADIUS + 1, 2 * _RADIUS + 1)), np.float32)

    level, own = mean(guide), mean(values)
    slope: Any = (mean(guide * values) - level * own) / (mean(guide * guide) - level * level + np.float32(_SMOOTH))
    return np.asarray(mean(slope) * guide + mean(own - slope * level), np.float32)


def _by_colours(image: Image, found: Float) -> Float:
    """The outline (h, w) float32 0 or 1 by the colours on both sides of a likely one, 0 to 1."""
    labels = np.where(found > 0.5, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    width = 2 * (image.shape[1] // _CERTAIN) + 1
    labels[cv2.erode((found > 0.9).astype(np.uint8), np.ones((width, width))) > 0] = cv2.GC_FGD
    labels[cv2.dilate((found > 0.1).astype(np.uint8), np.ones((width, width))) == 0] = cv2.GC_BGD
    if not all((labels == each).any() for each in (cv2.GC_FGD, cv2.GC_BGD)):
        return found
    cv2.setRNGSeed(0)
    cv2.grabCut(image, labels, None, np.zeros((1, 65)), np.zeros((1, 65)), 3, cv2.GC_INIT_WITH_MASK)
    return np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.float32)


def _by_face(surface: Surface) -> Float:
    """An outline by the face alone: hair around it, shoulders below."""
    width, height = surface.size
    mask = np.zeros((height, width), np.uint8)
    middle, size = surface.centre, surface.height
    head = (round(0.62 * size), round(0.85 * size))
    cv2.ellipse(mask, tuple(map(round, middle - np.array([0, 0.12 * size]))), head, 0, 0, 360, 255, -1)
    shoulders = (round(1.5 * size), round(0.9 * size))
    cv2.ellipse(mask, tuple(map(round, middle + np.array([0, 1.35 * size]))), shoulders, 0, 180, 360, 255, -1)
    mask[min(height - 1, max(0, round(middle[1] + 1.35 * size))) :] = 255
    return cv2.GaussianBlur(mask, (0, 0), 0.05 * size).astype(np.float32) / np.float32(255)


@dataclass(frozen=True)
class Cabin:
    """What is behind the driver.

    Attributes:
        reflects: (h, w) of the light on it.
        glows: (h, w) share of the windows' light that is seen.
    """

    reflects: Float
    glows: Float

    @staticmethod
    def of(camera: Camera, surface: Surface) -> Cabin:
        """A head rest and a seat, a side window and a rear window, pillar and roof; soft, and as seen from the camera's
        place. ``surface``: of the resting driver."""
        width, height = (max(8, length // 4) for length in surface.size)
        cm = surface.cm / 4 * 0.65  # farther away than the face
        middle = surface.centre / 4 + [_SHIFT * camera.place.yaw * cm, _SHIFT * camera.place.pitch * cm]
        x, y = (np.arange(width) - middle[0]) / cm, (np.arange(height) - middle[1]) / cm
        across, down = np.meshgrid(x, y)
        reflects = np.full((height, width), _PILLAR)
        reflects[down < -24] = _ROOF
        seat = (np.abs(across) < 27) & (down > 14)
        rest = (np.abs(across) / 15) ** 4 + (np.abs(down + 1) / 12) ** 4 < 1
        reflects[seat | rest] = _SEAT
        glows = np.zeros((height, width))
        glows[(across > 38) & (across < 95) & (down > -22) & (down < 9)] = 1.3  # the driver's own window
        glows[(across < -30) & (across > -80) & (down > -18) & (down < 2)] = 0.8  # the rear window and far ones
        glows[seat | rest] = 0
        if camera.spectrum == "infrared":
            reflects, glows = reflects * _DARKER, glows
        soft = [cv2.GaussianBlur(each.astype(np.float32), (0, 0), _SOFT * cm) for each in (reflects, glows)]
        return Cabin(*(cv2.resize(each, surface.size, interpolation=cv2.INTER_LINEAR) for each in soft))
