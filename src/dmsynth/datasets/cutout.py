"""A cut-out face at known positions on a white wall: the thesis's position dataset (3.1.1, Fig. 3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dmsynth.datasets.dataset import Dataset, DatasetWriter, finished_dataset, split_at_random
from dmsynth.datasets.photo import consent_for, identity
from dmsynth.support.errors import DmsynthError
from dmsynth.support.progress import progress
from dmsynth.trackers import Tracker, check_landmarks, why_unusable
from dmsynth.video import Image, to_grey
from dmsynth.video.pictures import read_image
from dmsynth.video.portrait import default_portrait

WALL = (640, 480)  # width, height in pixels (3.1.1)
FACE = (152, 200)
REACH = 50  # pixels from the wall's centre, in each direction
_WHITE = 230  # grey level of a white wall in a camera image; at 255 the network's sigmoid is flat (docs/datasets.md)
_SOFT_EDGE = 5.0  # pixels: the standard deviation of the edge's blur


@dataclass(frozen=True)
class Layout:
    """Geometry of a wall of ``width`` × ``height`` pixels; everything scales with the width.

    Positions are of the face's centre in pixels, x right, y down, and (0, 0) is the wall's top left corner: the
    corner of the first pixel, not its middle, so that positions scale with the image.
    """

    width: int
    height: int

    def __post_init__(self) -> None:
        if self.width * WALL[1] != self.height * WALL[0]:
            raise DmsynthError(
                f"--size {self.width}x{self.height}: the wall is 4 wide to 3 high; give 640x480, 320x240 or 128x96"
            )

    @property
    def scale(self) -> float:
        """Pixels of this wall per pixel of the thesis's 640×480."""
        return self.width / WALL[0]

    @property
    def face(self) -> tuple[float, float]:
        """Width and height of the face in pixels."""
        return FACE[0] * self.scale, FACE[1] * self.scale

    @property
    def low(self) -> tuple[float, float]:
        """The smallest x and y of the face's centre."""
        return self.width / 2 - REACH * self.scale, self.height / 2 - REACH * self.scale

    @property
    def high(self) -> tuple[float, float]:
        """The largest x and y of the face's centre."""
        return self.width / 2 + REACH * self.scale, self.height / 2 + REACH * self.scale

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom of the rectangle in which the face moves (the black box of Fig. 3.2)."""
        (low_x, low_y), (high_x, high_y), (width, height) = self.low, self.high, self.face
        return low_x - width / 2, low_y - height / 2, high_x + width / 2, high_y + height / 2


@dataclass(frozen=True)
class Cutout:
    """A face of 152×200 pixels with its alpha mask.

    Attributes:
        face: (200, 152) float32, grey, 0 to 255.
        cover: (200, 152) float32, 0 (wall) to 1 (face).
    """

    face: NDArray[np.float32]
    cover: NDArray[np.float32]

    def on_wall(self, layout: Layout, x: float, y: float) -> Image:
        """The wall, (height, width) uint8, with the face's centre at ``x``, ``y`` in the layout's pixels.

        Drawn at 640×480, at the nearest whole pixel, then scaled down: on a small wall the face has sub-pixel
        positions.
        """
        wall = np.full((WALL[1], WALL[0]), _WHITE, dtype=np.float32)
        left = round(x / layout.scale - FACE[0] / 2)
        top = round(y / layout.scale - FACE[1] / 2)
        place = wall[top : top + FACE[1], left : left + FACE[0]]
        place += self.cover * (self.face - place)
        size = (layout.width, layout.height)
        scaled = wall if size == WALL else cv2.resize(wall, size, interpolation=cv2.INTER_AREA)
        return np.asarray(np.clip(scaled.round(), 0, 255), dtype=np.uint8)


def cut_out(picture: Image, tracker: Tracker, name: str) -> Cutout:
    """Cut the one face of a picture out, along the outline of its landmarks, with a soft edge.

    Raises ``DmsynthError`` naming the picture if it does not show exactly one whole face.
    """
    faces = tracker(picture)
    reason = why_unusable(faces, picture)
    if reason:
        raise DmsynthError(f"{name}: {reason}; give a portrait of one person looking at the camera")
    check_landmarks(tracker, faces[0])
    points = np.ascontiguousarray(faces[0].landmarks[:, :2], dtype=np.float32)
    outline = cv2.convexHull(points)[:, 0].astype(np.float64)
    low, high = outline.min(axis=0), outline.max(axis=0)
    # The outline's box fills the 152×200 pixels up to the soft edge. Faces differ in their proportions, so the picture
    # is slightly stretched.
    edge = 2.5 * _SOFT_EDGE
    scale = (np.array(FACE) - 2 * edge) / (high - low)
    shift = edge - low * scale
    warp = np.array([[scale[0], 0, shift[0]], [0, scale[1], shift[1]]])
    smaller = float(scale.min())
    grey = to_grey(picture)
    if smaller < 0.5:  # warpAffine does not average: blur first against aliasing
        grey = cv2.GaussianBlur(grey, (0, 0), 0.4 / smaller)
    face = cv2.warpAffine(grey, warp, FACE, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    cover = np.zeros(FACE[::-1], dtype=np.float32)
    cv2.fillConvexPoly(cover, np.round(outline * scale + shift).astype(np.int32), 1.0, cv2.LINE_AA)
    return Cutout(face.astype(np.float32), cv2.GaussianBlur(cover, (0, 0), _SOFT_EDGE))


def make_position_dataset(
    out: Path,
    photo: Path | None,
    tracker: Tracker,
    frames: int = 1000,
    size: tuple[int, int] = WALL,
    seed: int = 0,
) -> Dataset:
    """Make the position dataset (3.1.1): a face at uniformly drawn positions, labelled with its centre.

    The labels ``commanded_x`` and ``commanded_y`` are exact, in pixels of the stored frames. After an interruption the
    same call resumes.

    Args:
        out: the dataset's folder; if it exists and was made with the same arguments, it is opened.
        photo: a portrait of one person; by default ``default_portrait``.
        tracker: finds the outline of the face, once.
        frames: how many positions to draw.
        size: width, height of the frames; 4 to 3, each divisible by 16. Face and range scale with it.
        seed: of the positions and of the default split.

    Raises:
        DmsynthError: a picture that cannot be read or does not show exactly one whole face; another shape.
    """
    layout = Layout(*size)
    recipe, consent = position_recipe(photo, tracker, frames, size, seed), consent_for(photo)
    made = finished_dataset(out, recipe, consent)
    if made is not None:
        return made
    picture = read_image(photo) if photo else default_portrait()
    name = photo.name if photo else "astronaut"
    cutout = cut_out(picture, tracker, str(photo or name))
    writer = DatasetWriter(out, recipe, (size[1], size[0]), consent)
    with progress(f"placing {name}", frames, writer.done) as advance:
        for number in range(writer.done, frames):
            # whole pixels of the thesis's wall: "a total of 10,000 possible image variations"
            step = np.random.default_rng((seed, number)).integers(-REACH, REACH + 1, size=2)
            x, y = (float(side / 2 + offset * layout.scale) for side, offset in zip(size, step, strict=True))
            labels: dict[str, float | int | str] = {"recording": name, "recording_index": 0, "frame": number}
            writer.keep(cutout.on_wall(layout, x, y), labels | {"commanded_x": x, "commanded_y": y})
            advance()
    return writer.finish(split_at_random(writer.kept, seed))


def position_recipe(
    photo: Path | None, tracker: Tracker, frames: int, size: tuple[int, int], seed: int
) -> dict[str, Any]:
    """The arguments that determine a position dataset's content, as stored in its manifest."""
    return {
        "kind": "position",
        "photo": identity(photo),
        "frames": frames,
        "size": list(size),
        "seed": seed,
        "tracker": tracker.name,
    }
