"""Eyes of a trained face: geometry inside the model.

The network turns the head. What gaze and lids do is drawn into its source frame, exactly (``datasets.eye_posing``), and
comes into the picture by the network's own flow. So every face that turns its head moves its eyes, too, without having
seen such frames. A network that has to learn eyes hardly does: ``docs/eyes.md`` has the figures.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmsynth.controls import CONTROL_SPACES, EYES, EYES_RANGE, HEAD, ControlSpace
from dmsynth.controls.coverage import Coverage
from dmsynth.controls.pose import rotation_matrix
from dmsynth.datasets.eye_posing import Eyes, PosedEyes
from dmsynth.learning.face_file import SourceEyes
from dmsynth.learning.swapwarp import Appearance, Drawing, SwapWarp, resized, warp
from dmsynth.steering.face import SteerableFace, to_pixels
from dmsynth.support.errors import DmsynthError
from dmsynth.video import Image, to_rgb

WHOLLY_DRAWN = np.array([2.0, 2.0, 0.08, 0.08])  # from here on away from the source's own eyes; nearer, they blend
_EYE_COLUMNS = np.arange(len(HEAD), len(HEAD) + len(EYES))
_REST = (0.0, 0.0, 1.0, 1.0)
_STEEP = 6.0  # of a box's side, its edge takes a sixth
_ALIKE = 3  # decimals: eyes that are drawn once for several frames


@dataclass(frozen=True)
class Seen:
    """An encoded source frame with its eyes taken apart.

    Attributes:
        appearance: of the network.
        image: (h, w) or (h, w, 3) uint8.
        eyes: of the frame.
        own: (4,) what they do in it, in the order of ``EYES``.
        region: (h, w) in [0, 1], 1 around the eyes: where the picture is the flow's alone. What the network adds to
            the flow it has learned from these eyes at rest.
    """

    appearance: Any
    image: Image
    eyes: PosedEyes
    own: NDArray[np.float64]
    region: NDArray[np.float32]

    def drawn(self, wanted: NDArray[np.float64]) -> NDArray[np.float32]:
        """(channels + 1, h, w) in [0, 1]: the frame with its eyes as ``wanted`` (4,), and where they count."""
        colour = np.array(to_rgb(self.image))
        self.eyes.paint(colour, Eyes(*map(float, wanted)).posed_from(*map(float, self.own[2:])))
        pixels = colour if self.image.ndim == 3 else colour[..., :1]
        share = float(np.clip(np.abs(wanted - self.own) / WHOLLY_DRAWN, 0, 1).max())
        return np.concatenate([pixels.transpose(2, 0, 1) / np.float32(255), share * self.region[None]])


class EyedNetwork:
    """A network for a head, and eyes drawn into its source: in the shape of a model (``steering.face``)."""

    def __init__(self, network: SwapWarp, space: ControlSpace) -> None:
        self.network, self.space = network, space

    def encode(self, images: Tensor, code: Tensor | None = None) -> Appearance:
        """A source frame of whose eyes nothing is known: they stay as they are."""
        return self.network.encode(images, code if code is None else without_eyes(code))

    def steer(self, seen: Seen | Appearance, code: Tensor) -> Tensor:
        """Frames (n, channels, h, w) in [0, 1] of that source at control codes (n, k)."""
        if isinstance(seen, Appearance):
            return self.network.steer(seen, without_eyes(code))
        drawing = self.network.draw(seen.appearance.expand(len(code)), without_eyes(code))
        wanted = self.space.decode(code[:, : self.space.size].cpu().numpy())[:, len(HEAD) :]
        distinct, which = np.unique(wanted.round(_ALIKE), axis=0, return_inverse=True)
        if len(distinct) == 1 and np.allclose(distinct[0], seen.own, atol=10**-_ALIKE):
            return drawing.image.clamp(0, 1)
        frames = torch.from_numpy(np.stack([seen.drawn(row) for row in distinct])[which]).to(code.device)
        return with_moved_eyes(drawing, frames)

    def decode(self, seen: Seen | Appearance) -> Tensor:
        """The source as it is."""
        return self.network.decode(seen if isinstance(seen, Appearance) else seen.appearance)

    def controls(self, seen: Seen | Appearance) -> Tensor:
        """(1, k): the control code of the source; the head's as the encoder reads it."""
        appearance, own = (seen, np.array(_REST)) if isinstance(seen, Appearance) else (seen.appearance, seen.own)
        head = self.network.controls(appearance)
        values = np.concatenate([np.zeros(len(HEAD)), own])[None]
        eyes = torch.from_numpy(self.space.encode(values)[:, _EYE_COLUMNS]).to(head)
        return torch.cat([head[:, : len(HEAD)], eyes, head[:, len(HEAD) :]], dim=1)


class EyedFace(SteerableFace):
    """A trained face with eyes drawn into its own source frames."""

    def frames(
        self,
        values: NDArray[np.float64],
        source: Image | None = None,
        carried: NDArray[np.float32] | None = None,
        moving: bool = True,
        at: NDArray[np.float64] | None = None,
    ) -> Iterator[Image]:
        values = self.trained.space.whole(values)
        if source is None:
            return super().frames(values, None, carried, moving, at)
        if not np.allclose(values[:, _EYE_COLUMNS], _REST):
            raise DmsynthError(
                "where the eyes of a given source frame are is not known; take "
                "face.from_source(*steering.source.as_source(image, name, face.head_only, tracker))"
            )
        at = None if at is None else at[: len(HEAD)]
        return self.head_only.frames(np.delete(values, _EYE_COLUMNS, axis=1), source, carried, moving, at)

    def own_appearance(self, source: int) -> Seen:
        head, eyes = self.head_only, self.trained.eyes
        assert eyes is not None
        at = head.trained.space.decode(head.trained.source_codes[source, : len(HEAD)])
        appearance = head.own_appearance(source)
        frame = to_pixels(self.to_network(self.trained.sources[source]))[0]  # grey or colour as the face draws
        return _seen(appearance, frame, at, eyes.landmarks[source], eyes.values[source])

    def appearance(
        self, source: Image | None = None, at: NDArray[np.float64] | None = None, eyes: SourceEyes | None = None
    ) -> tuple[Any, NDArray[np.float32]]:
        if source is None:
            return super().appearance()
        at = None if at is None else at[: len(HEAD)]
        appearance, carried = self.head_only.appearance(source, at)
        if eyes is None or at is None:
            return appearance, carried
        frame = to_pixels(self.to_network(source))[0]
        return _seen(appearance, frame, at, eyes.landmarks[0], eyes.values[0]), carried

    def from_source(
        self, source: Image, at: NDArray[np.float64] | None = None, eyes: SourceEyes | None = None
    ) -> SteerableFace:
        return with_eyes(self.head_only.from_source(source, None if at is None else at[: len(HEAD)], eyes))

    @property
    def head_only(self) -> SteerableFace:
        trained, network = self.trained, self._network
        space = replace(CONTROL_SPACES["rotation"], controls=trained.space.controls[: len(HEAD)])
        coverage = replace(trained.coverage, codes=trained.coverage.codes[:, : len(HEAD)], joint=space.joint)
        codes = np.delete(trained.source_codes, _EYE_COLUMNS, axis=1)
        return SteerableFace(
            replace(trained, network=network.network, space=space, coverage=coverage, source_codes=codes),
            self.path,
            self.device,
        )


def with_eyes(face: SteerableFace) -> SteerableFace:
    """The same face with eyes that can be commanded, if it knows where they are in its source frames."""
    trained = face.trained
    if trained.eyes is None or trained.space.name != "rotation" or not isinstance(trained.network, SwapWarp):
        return face
    space = _space(trained.space)
    at_rest = space.encode(np.array([[*np.zeros(len(HEAD)), *_REST]]))[:, _EYE_COLUMNS]
    limits = np.array([(-EYES_RANGE[0], -EYES_RANGE[1], 0, 0), (*EYES_RANGE, *space.high[-2:])])
    ends = space.encode(np.concatenate([np.zeros((2, len(HEAD))), limits], axis=1))[:, _EYE_COLUMNS]
    seen = trained.coverage.codes
    if len(seen) < 2:
        seen = seen.repeat(2, axis=0)
    coverage = Coverage(
        np.concatenate([seen, ends[np.arange(len(seen)) % 2]], axis=1),
        trained.coverage.tolerance,
        trained.coverage.carried.repeat(len(seen) // max(1, len(trained.coverage.codes)), axis=0),
        space.joint,
    )
    codes = np.insert(trained.source_codes, [len(HEAD)] * len(EYES), at_rest, axis=1)
    network: Any = EyedNetwork(trained.network, space)
    eyed = replace(trained, network=network, space=space, coverage=coverage, source_codes=codes)
    return EyedFace(eyed, face.path, face.device)


def _space(head: ControlSpace) -> ControlSpace:
    """The controls of a driver. A degree of gaze counts as one of the head; the gaze's range is no larger, so that
    distances between heads stay what they are."""
    most = float((head.high - head.low).max()) / 2
    eyes = CONTROL_SPACES["driver"].controls[len(HEAD) :]
    eyes = tuple(replace(each, low=-most, high=most) if each.unit == "°" else each for each in eyes)
    return replace(CONTROL_SPACES["driver"], controls=(*head.controls, *eyes))


def _seen(
    appearance: Any,
    frame: Image,
    at: NDArray[np.float64],
    landmarks: NDArray[np.float32],
    own: NDArray[np.float32],
) -> Seen:
    """An encoded source frame of the face's size, at a pose ``at`` (3 or more), with its eyes taken apart."""
    rotation = rotation_matrix(*(float(angle) for angle in at[: len(HEAD)]))
    eyes = PosedEyes(to_rgb(frame), landmarks, rotation, (float(own[0]), float(own[1])))
    return Seen(appearance, frame, eyes, own.astype(np.float64), _around(eyes, frame.shape[:2]))


def _around(eyes: PosedEyes, size: tuple[int, int]) -> NDArray[np.float32]:
    """(height, width): 1 around the eyes, falling to 0 at the edges of their boxes."""
    region = np.zeros(size, np.float32)
    for rows, columns in eyes.boxes:
        down, across = (
            np.clip(_STEEP * np.minimum(inner, 1 - inner), 0, 1)
            for inner in ((np.arange(n) + 0.5) / n for n in (rows.stop - rows.start, columns.stop - columns.start))
        )
        region[rows, columns] = np.maximum(region[rows, columns], np.outer(down, across))
    return region


def with_moved_eyes(drawing: Drawing, frames: Tensor) -> Tensor:
    """What the network draws (n, channels, h, w), with the eyes out of source frames (n, channels + 1, h, w), the last
    of which says where they count (``Seen.drawn``)."""
    image = drawing.image.clamp(0, 1)
    moved = warp(frames, resized(drawing.flow, frames.shape[-2:]), "bicubic").clamp(0, 1)  # bilinear: too soft
    return image + moved[:, -1:] * (moved[:, :-1] - image)


def eye_codes(space: ControlSpace) -> tuple[Tensor, Tensor]:
    """Low end and span of the eyes' controls, (1, 4) each."""
    low, high = (torch.from_numpy(ends[None, _EYE_COLUMNS]).float() for ends in (space.low, space.high))
    return low, high - low


def without_eyes(code: Tensor) -> Tensor:
    """Control codes (n, k) of a driver, without the eyes': as the network of the head takes them."""
    return torch.cat([code[:, : len(HEAD)], code[:, len(HEAD) + len(EYES) :]], dim=1)
