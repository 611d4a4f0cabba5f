"""The two portraits that synthetic people are made from, brought to one frontal frame, and warped to a shape.

A shape is the face mesh seen from the front, (478, 2), x right, y up, in units in which the mesh's mean distance from
its centre (root mean square) is 1; a face is about 3 units high. The canvas is in pixels, x right, y down.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RBFInterpolator

from dmsynth.datasets.head_shape import FACE_POINTS, HeadShape
from dmsynth.datasets.photo_layers import head_mask, refine_matte
from dmsynth.support.errors import DmsynthError
from dmsynth.trackers import Tracker, why_unusable
from dmsynth.trackers.gaze import MESH_POINTS
from dmsynth.video import Image
from dmsynth.video.pictures import read_image
from dmsynth.video.portrait import PORTRAIT_CONSENT, default_portrait

Float = NDArray[np.float32]
Double = NDArray[np.float64]
Points = tuple[tuple[float, float], ...]

WIDTH, HEIGHT = 640, 512  # of the canvas
UNIT = 70.0  # pixels: a face has the size that a posed photo is cut to
CENTRE = (WIDTH / 2, 272.0)
_STEP = 4  # pixels between the places where a warp is computed
_RINGS = (1.45, 2.0)  # times the head: from there on a picture is only moved, turned and scaled
_TRAGI = (234, 454)
_DRAWN_IN = 0.45  # of an ear's width
_HEAD = (135.0, 160.0)  # pixels: half the width and height of a head
EARS: tuple[Points, Points] = (  # outlines in the second donor's picture
    ((196, 178), (180, 174), (166, 178), (157, 182), (153, 195), (155, 212), (161, 225), (164, 240), (168, 255),
     (174, 266), (181, 270), (188, 267), (200, 262)),
    ((324, 178), (345, 174), (363, 181), (371, 186), (376, 196), (375, 212), (371, 228), (366, 245), (361, 258),
     (357, 265), (350, 268), (343, 266), (330, 262)),
)  # fmt: skip
GRACE_CONSENT = "public domain: Grace Hopper, photographed by the US Navy"


@dataclass(frozen=True)
class Donor:
    """A portrait to take skin, features and hair from.

    Attributes:
        picture: (h, w, 3) float32 RGB, 0 to 255.
        landmarks: (478, 2) in its pixels.
        shape: (478, 2) from the front.
        matte: (h, w) float32, 0 to 1: the head, with its hair and the top of its neck.
        ears: (n, 2) points on the ears' outer rims in its pixels; they are drawn in, because ears that stand off
            break in turned heads. Empty where hair hides them.
    """

    picture: Float
    landmarks: Double
    shape: Double
    matte: Float
    ears: Double

    @staticmethod
    def of(picture: Image, tracker: Tracker, name: str, enlarged: float = 1.0, ears: Points = ()) -> Donor:
        """Of a portrait with one whole face; raises ``DmsynthError`` if there is none, or the tracker has no mesh."""
        large = cv2.resize(picture, None, fx=enlarged, fy=enlarged, interpolation=cv2.INTER_LANCZOS4)
        faces = tracker(large)
        reason = why_unusable(faces, large)
        if reason or len(faces[0].landmarks) != MESH_POINTS:
            raise DmsynthError(f"{name}: {reason or 'no mesh of 478 landmarks'}; make people with --tracker auto")
        points = faces[0].landmarks.astype(float)
        frontal = (points * (1, -1, -1) @ faces[0].rotation)[:, :2]
        frontal -= frontal[:FACE_POINTS].mean(axis=0)
        frontal /= np.sqrt(np.square(frontal[:FACE_POINTS]).sum(axis=1).mean())
        small = cv2.resize(large, None, fx=1 / enlarged, fy=1 / enlarged, interpolation=cv2.INTER_AREA)
        shape = HeadShape(points / enlarged, faces[0].rotation, (small.shape[1], small.shape[0]))
        matte = refine_matte(head_mask(small, shape), large)
        return Donor(large.astype(np.float32), points[:, :2], frontal, matte, np.array(ears, float).reshape(-1, 2))

    def warped(self, values: Float, places: Double) -> Float:
        """``values`` (h, w, ...) of this picture's pixels on the canvas, its landmarks at ``places`` (478, 2)."""
        sources = self._sources(places)
        scaled = cv2.remap(values, sources, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(scaled, np.float32)

    def _sources(self, places: Double) -> Float:
        """(HEIGHT, WIDTH, 2): where each pixel of the canvas comes from. Around the head it is a similarity, so that
        hair stays whole."""
        similar = _similarity(places, self.landmarks)
        turn = np.linspace(0, 2 * np.pi, 32, endpoint=False)
        circle = np.column_stack([_HEAD[0] * np.cos(turn), _HEAD[1] * np.sin(turn)])
        rings = np.concatenate([CENTRE + ring * circle for ring in _RINGS])
        back = _similarity(self.landmarks, places)
        ears = back(self.ears)
        ears[:, 0] -= _DRAWN_IN * (ears[:, 0] - np.where(ears[:, 0] < CENTRE[0], *places[list(_TRAGI), 0]))
        known = np.concatenate([places, ears, rings])
        shift = np.concatenate([self.landmarks - similar(places), self.ears - similar(ears), np.zeros_like(rings)])
        across, down = np.meshgrid(np.arange(0, WIDTH + _STEP, _STEP), np.arange(0, HEIGHT + _STEP, _STEP))
        grid = np.stack([across, down], axis=-1).astype(float).reshape(-1, 2)
        found = similar(grid) + RBFInterpolator(known, shift, kernel="linear", smoothing=2.0)(grid)
        coarse = found.reshape(*across.shape, 2).astype(np.float32)
        x, y = np.meshgrid(np.arange(WIDTH, dtype=np.float32), np.arange(HEIGHT, dtype=np.float32))
        return np.asarray(cv2.remap(coarse, x / _STEP, y / _STEP, cv2.INTER_LINEAR))


def _similarity(start: Double, end: Double) -> Any:
    """The move, turn and scaling that brings points (n, 2) nearest to others, as a function of points."""
    first, second = start.mean(axis=0), end.mean(axis=0)
    one, other = ((points - middle) @ (1, 1j) for points, middle in ((start, first), (end, second)))
    factor = (other @ one.conj()) / np.square(np.abs(one)).sum()

    def moved(points: Double) -> Double:
        turned = (points - first) @ (1, 1j) * factor
        return np.stack([turned.real, turned.imag], axis=-1) + second

    return moved


def on_canvas(shape: Double) -> Double:
    """(478, 2) pixels of a frontal shape."""
    return np.asarray(shape * (UNIT, -UNIT) + CENTRE)


def grace_hopper() -> Image:
    """Grace Hopper, (600, 512, 3) uint8 RGB, from matplotlib's sample data: US Navy, public domain."""
    from matplotlib.cbook import get_sample_data

    return read_image(Path(get_sample_data("grace_hopper.jpg", asfileobj=False)))


def load_donors(tracker: Tracker) -> tuple[Donor, Donor]:
    """The included portrait, enlarged to the canvas' scale, and Grace Hopper."""
    return (
        Donor.of(default_portrait(), tracker, PORTRAIT_CONSENT, 2.0),
        Donor.of(grace_hopper(), tracker, GRACE_CONSENT, ears=(*EARS[0][3:9], *EARS[1][3:9])),
    )
