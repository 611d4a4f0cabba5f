"""Things on faces, in 3-D: geometry that is fixed to the head, to the camera, or moves on a path of its own.

``THINGS`` has every thing by its name. To add one: a class with ``draw(scene, presence)`` and an entry there
(``docs/things.md``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from dmsynth.camera.things.canvas import Scene
from dmsynth.camera.things.cap import Cap
from dmsynth.camera.things.glasses import Glasses
from dmsynth.camera.things.hand import Hand
from dmsynth.camera.things.head import Head
from dmsynth.camera.things.mask import Mask
from dmsynth.camera.things.phone import Phone
from dmsynth.camera.things.scarf import Scarf
from dmsynth.camera.things.wheel import Wheel
from dmsynth.support.errors import DmsynthError
from dmsynth.trackers.gaze import EYE_OUTLINES
from dmsynth.trackers.mouth import LOWER_RIM
from dmsynth.video import Image


class Thing(Protocol):
    """Something that can be on or before a face.

    Attributes:
        comes: seconds that it takes to come, and to go; 0: it is there at once.
    """

    @property
    def comes(self) -> float: ...

    def draw(self, scene: Scene, presence: float) -> None:
        """Draw it into a scene, in place. ``presence`` is 1 where it belongs, and less on its way, above 0."""
        ...


_MOUTH = Hand(13, (-1.6, 12.2, -2.2), (0.0, 0.0, 68.0), (14.0, 18.0, 10.0), spread=-1.0)
_CHEEK = Hand(147, (0.5, 12.4, -1.6), (0.0, -38.0, 10.0), (30.0, 40.0, 20.0), beside=True)
_EYE = Hand(468, (-0.2, 10.6, -1.8), (0.0, 0.0, 14.0), (10.0, 14.0, 8.0), spread=-2.0)

THINGS: Mapping[str, Thing] = {
    "scarf": Scarf(),
    "mask": Mask(),
    "glasses": Glasses(),
    "sunglasses": Glasses(tint=0.96, infrared_tint=0.95, mirror=0.07),
    "sunglasses-ir": Glasses(tint=0.96, infrared_tint=0.12, mirror=0.07),
    "cap": Cap(),
    "phone": Phone(),
    "phone-left": Phone(left=True),
    "hand-mouth": _MOUTH,
    "hand-cheek": _CHEEK,
    "hand-cheek-left": replace(_CHEEK, at=376, left=True),
    "hand-eye": _EYE,
    "hand-eye-left": replace(_EYE, at=473, left=True),
    "wheel": Wheel(),
}
"""Every thing by its name; each lies over those before it. ``sunglasses-ir`` are dark to a driver and clear in the near
infrared. A hand and a phone are on the person's right, or on the ``left``."""

_TIMES = re.compile(r"(\d+(?:\.\d*)?)?:(\d+(?:\.\d*)?)?")
_ALWAYS = float("inf")


@dataclass(frozen=True)
class Worn:
    """A thing that is there from ``since`` until ``until``, in seconds: then it has come, and then it goes."""

    name: str
    since: float = 0.0
    until: float = _ALWAYS

    def __str__(self) -> str:
        """As ``parse_things`` reads it."""
        if (self.since, self.until) == (0.0, _ALWAYS):
            return self.name
        return f"{self.name}={self.since:g}:" + ("" if self.until == _ALWAYS else f"{self.until:g}")

    def presence(self, time: float) -> float:
        """How much of it is there at a ``time`` in seconds: 0 nothing, 1 where it belongs. It moves smoothly."""
        comes = THINGS[self.name].comes
        if comes == 0:
            return float(self.since <= time < self.until)
        come = 1.0 if self.since == 0 else np.clip((time - self.since) / comes + 1.0, 0.0, 1.0)
        share = float(min(come, np.clip(1.0 - (time - self.until) / comes, 0.0, 1.0)))
        return share * share * (3.0 - 2.0 * share)


class Visible(NamedTuple):
    """Shares, 0 to 1, that no thing hides. Left and right are the person's own."""

    left_eye: float
    right_eye: float
    mouth: float


@dataclass(frozen=True)
class Drawn:
    """A frame with things.

    Attributes:
        image: (h, w) or (h, w, 3) uint8.
        visible: what of the face no thing hides.
        cover: (h, w) uint8, how opaque the things are, 255 is wholly.
    """

    image: Image
    visible: Visible
    cover: NDArray[np.uint8]


def parse_things(texts: Sequence[str]) -> tuple[Worn, ...]:
    """``NAME``, or ``NAME=SINCE:UNTIL`` in seconds, either of which may be left out.

    Raises ``DmsynthError`` for a name that is none of ``THINGS``, and for other times.
    """
    worn = []
    for text in texts:
        name, equals, times = text.partition("=")
        if name not in THINGS:
            raise DmsynthError(f"{text}: no such thing; choose {', '.join(THINGS)}, with =SINCE:UNTIL or without")
        found = _TIMES.fullmatch(times) if equals else None
        since, until = (float(each) if each else None for each in found.groups()) if found else (None, None)
        if (equals and not found) or (since is not None and until is not None and since >= until):
            raise DmsynthError(f"{text}: give the seconds from when until when it is there, such as {name}=2:5.5")
        worn.append(Worn(name, since or 0.0, _ALWAYS if until is None else until))
    return tuple(worn)


def draw_things(
    image: Image,
    worn: Sequence[Worn],
    landmarks: NDArray[np.float32],
    rotation: NDArray[np.float64],
    time: float,
    infrared: bool,
) -> Drawn:
    """A frame with things on the face, in the order of ``THINGS``.

    Args:
        image: (h, w) or (h, w, 3) uint8, not changed.
        landmarks: (478, 3) float32 in pixels, with depth, of the face in it (``steering.anchors``).
        rotation: (3, 3) of the head.
        time: seconds.
        infrared: the frame is one of the near infrared, in which things reflect other shares of the light.
    """
    order = list(THINGS)
    there = [
        (THINGS[each.name], presence)
        for each in sorted(worn, key=lambda each: order.index(each.name))
        if (presence := each.presence(time)) > 0
    ]
    cover = np.zeros(image.shape[:2], np.uint8)
    if not there:
        return Drawn(image, Visible(1.0, 1.0, 1.0), cover)
    head = Head.of(landmarks, rotation)
    scene = Scene(image, image.copy(), cover, head, head.light(image), infrared)
    for thing, presence in there:
        thing.draw(scene, presence)
    return Drawn(scene.image, _visible(cover, landmarks), cover)


_UPPER_RIM = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)  # of the lips, from the image's left to its right
_PARTS = {
    "left_eye": [*EYE_OUTLINES["left"]["upper"], *EYE_OUTLINES["left"]["lower"][::-1]],
    "right_eye": [*EYE_OUTLINES["right"]["upper"], *EYE_OUTLINES["right"]["lower"][::-1]],
    "mouth": [*_UPPER_RIM, *LOWER_RIM[::-1]],
}


def _visible(cover: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> Visible:
    """What a cover (h, w) leaves of eyes and mouth; of what lies outside of the frame, nothing is seen."""
    shares = {}
    for name, points in _PARTS.items():
        outline = np.rint(landmarks[points, :2]).astype(np.int32)
        left, top, wide, high = cv2.boundingRect(outline)
        inside = np.zeros((high, wide), np.uint8)
        cv2.fillPoly(inside, [outline - [left, top]], 1)
        whole = np.full((high, wide), 255, np.uint8)
        rows, columns = (slice(max(at, 0), max(at + size, 0)) for at, size in ((top, high), (left, wide)))
        part = cover[rows, columns]
        whole[max(-top, 0) :, max(-left, 0) :][: part.shape[0], : part.shape[1]] = part
        shares[name] = 1.0 - cv2.mean(whole, inside)[0] / 255.0
    return Visible(**shares)
