"""What is behind the driver: who is cut out of the drawn frame, and a soft cabin in its place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dmsynth.camera import Camera
from dmsynth.camera.surface import Surface
from dmsynth.datasets.matting import guided_filter, person_mask
from dmsynth.video import Image, to_rgb

Float = NDArray[np.float32]
Double = NDArray[np.float64]

_WORKED_WIDTH = 320  # pixels: the outline is found in a picture of this width
_NEW_EVERY = 8.0  # degrees that the head turns before its outline is found anew
_CERTAIN = 64  # part of the width from a likely outline where it is certain what is inside and what outside
_RADIUS, _SMOOTH = 3, 1e-3  # of the filter that aligns an outline with the picture
_INSIDE, _OUTSIDE = 0.98, 0.55  # of the outline's softness: a little of the old background's fringe is cut off, too
_SEAT, _ROOF, _PILLAR = 0.09, 0.3, 0.12  # reflectance; ours
_DARKER = 0.3  # of it, at 940 nm; ours
_SOFT = 3.0  # centimetres: the cabin is out of focus
_SHIFT = 0.55  # centimetres that what is behind shifts for each degree of the camera to the side


@dataclass(frozen=True)
class Outline:
    """The driver cut out of one frame: ``matte`` (h, w) float32, 0 to 1, and the ``surface`` of that frame."""

    matte: Float
    surface: Surface
    rotation: Double

    def moved(self, surface: Surface) -> Float:
        """The matte of another frame, in which the head has moved to ``surface``."""
        way = (surface.points - self.surface.points) * surface.moves[:, None]
        if float(np.abs(way).max()) < 0.5:
            return self.matte
        flow = surface.spread(way)
        height, width = self.matte.shape
        x, y = np.arange(width, dtype=np.float32)[None], np.arange(height, dtype=np.float32)[:, None]
        return np.asarray(
            cv2.remap(self.matte, x - flow[..., 0], y - flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        )


class Outlines:
    """Outlines of a video, found anew whenever the head has turned by some degrees, and moved with it in between.

    ``place``: puts a drawn image on the canvas.
    """

    def __init__(self, place: Callable[[Image], Image]) -> None:
        self._known: list[Outline] = []
        self._place = place

    def of(self, image: Image, drawn: Surface, surface: Surface, rotation: Double) -> Outline:
        """The outline to be used for the next frame, an ``image`` as it was ``drawn``; ``surface``: on the canvas."""
        turned = [np.trace(rotation.T @ each.rotation) for each in self._known]
        if turned and np.degrees(np.arccos(np.clip((max(turned) - 1) / 2, -1, 1))) < _NEW_EVERY:
            return self._known[int(np.argmax(turned))]
        matte = self._place(_cut_out(image, drawn)).astype(np.float32) / np.float32(255)
        self._known.append(Outline(matte, surface, rotation))
        return self._known[-1]


def _cut_out(image: Image, surface: Surface) -> Image:
    """(h, w) uint8, 0 to 255: where the driver is in a drawn frame of which ``surface`` is."""
    height, width = image.shape[:2]
    small_size = (min(width, _WORKED_WIDTH), max(2, round(height * min(1.0, _WORKED_WIDTH / width))))
    small = np.ascontiguousarray(cv2.resize(to_rgb(image), small_size, interpolation=cv2.INTER_AREA))
    found = person_mask(small)
    if found is None:
        found = cv2.resize(_by_face(surface), small_size, interpolation=cv2.INTER_AREA)
    found = guided_filter(small.astype(np.float32) / np.float32(255), _by_colours(small, found), _RADIUS, _SMOOTH)
    matte = cv2.resize(found.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    return np.rint(255 * np.clip((matte - _OUTSIDE) / (_INSIDE - _OUTSIDE), 0, 1)).astype(np.uint8)


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
