"""Faces as a tracker finds them, and why a frame has no usable one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dmsynth.controls import HEAD
from dmsynth.controls.pose import angles_from_matrix
from dmsynth.support.errors import DmsynthError
from dmsynth.video import Image


@dataclass(frozen=True)
class Face:
    """One face found in an image.

    Attributes:
        rotation: (3, 3) float, the head's rotation in the frame of ``dmsynth.controls.pose``.
        box: left, top, right, bottom of the landmarks in pixels; may reach outside the image.
        landmarks: (n, 3) float32 in pixels: x right, y down, z negative towards the camera, in the scale of x.
            Empty for trackers that have none.
        expression: facial expression and gaze by name (blink_left, gaze_x, jaw, …), in any scale. Empty for trackers
            that do not measure it.
        reports: the tracker's own confidence outputs (face and eye probabilities, standard deviations of its angles,
            …), with its names and scales. Kept in tracked tables; unlike the expression, never steered.
    """

    rotation: NDArray[np.float64]
    box: tuple[float, float, float, float]
    landmarks: NDArray[np.float32]
    expression: dict[str, float] = field(default_factory=dict)
    reports: dict[str, float] = field(default_factory=dict)

    @property
    def pose(self) -> dict[str, float]:
        """pitch, yaw, roll in degrees."""
        return dict(zip(HEAD, map(float, angles_from_matrix(self.rotation)), strict=True))

    def scaled(self, factor: float) -> Face:
        """The same face in an image enlarged by ``factor``."""
        left, top, right, bottom = (edge * factor for edge in self.box)
        return replace(self, box=(left, top, right, bottom), landmarks=self.landmarks * np.float32(factor))

    def moved(self, x: float, y: float) -> Face:
        """The same face ``x`` pixels to the right and ``y`` down."""
        left, top, right, bottom = self.box
        landmarks = self.landmarks + np.array([x, y, 0], dtype=np.float32)
        return replace(self, box=(left + x, top + y, right + x, bottom + y), landmarks=landmarks)

    @property
    def centre(self) -> tuple[float, float]:
        """x, y of the box's centre in pixels."""
        left, top, right, bottom = self.box
        return (left + right) / 2, (top + bottom) / 2

    def is_cut_off(self, image: Image) -> bool:
        """Whether more than a twentieth of the face's width or height lies outside the image."""
        height, width = image.shape[:2]
        left, top, right, bottom = self.box
        across, down = (right - left) / 20, (bottom - top) / 20
        return left < -across or top < -down or right > width + across or bottom > height + down


class Tracker(Protocol):
    """Software that measures head pose in a frame. Each frame is measured independently, so results do not depend on
    where a recording starts."""

    name: str

    def __call__(self, image: Image) -> list[Face]:
        """Faces in a grey (h, w) or RGB (h, w, 3) uint8 image, at most the two clearest."""
        ...


def why_unusable(faces: list[Face], image: Image) -> str | None:
    """Why a frame has not exactly one usable face, or None if it has."""
    if not faces:
        return "no face"
    if len(faces) > 1:
        return "several faces"
    return "face at the border" if faces[0].is_cut_off(image) else None


def how_to_crop(reasons: Iterable[str]) -> str:
    """Advice to append to a message if the reason (``why_unusable``) is several faces or no face."""
    if "several faces" in reasons:
        return "; several people in view: --crop LEFT,TOP,WIDTH,HEIGHT around one"
    if "no face" in reasons:
        return (
            "; a face is found from a twentieth of the picture's height on, in a small picture from an eighth of its "
            "width: --crop LEFT,TOP,WIDTH,HEIGHT around a smaller one"
        )
    return ""


def check_landmarks(tracker: Tracker, face: Face) -> None:
    """Raise ``DmsynthError`` if the tracker gives no landmarks: they are needed to cut out or pose a picture."""
    if not len(face.landmarks):
        raise DmsynthError(f"the tracker {tracker.name} gives no landmarks to pose a picture by; use --tracker auto")
