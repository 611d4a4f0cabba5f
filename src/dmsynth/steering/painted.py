"""Eyes, mouth and brows of a trained face: geometry inside the model.

The network turns the head. What gaze, lids, mouth and brows do is drawn into its source frame, exactly
(``datasets.feature_posing``), and comes into the picture by the network's own flow. So every face that turns its head
moves them, too, without having seen such frames. A network that has to learn eyes hardly does: ``docs/eyes.md`` has the
figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmsynth.controls import CONTROL_SPACES, EYES_RANGE, FEATURES, FEATURES_AT_REST, HEAD, ControlSpace
from dmsynth.controls.coverage import Coverage
from dmsynth.controls.pose import rotation_matrix
from dmsynth.datasets.feature_posing import PosedFeatures
from dmsynth.learning.face_file import SourceFeatures
from dmsynth.learning.swapwarp import Appearance, Drawing, SwapWarp, resized, shown, warp
from dmsynth.steering.detailed import Detailed, DetailedNetwork
from dmsynth.steering.face import SteerableFace, to_pixels
from dmsynth.support.errors import DmsynthError
from dmsynth.video import Image, to_rgb

# how far from the source's own features they are wholly drawn; nearer, they blend
WHOLLY_DRAWN = np.array([2.0, 2.0, 0.08, 0.08, 0.03, 0.1])
_COLUMNS = np.arange(len(HEAD), len(HEAD) + len(FEATURES))
_STEEP = 6.0  # of the box of an eye, its edge takes a sixth
_STEEP_MOUTH = 20.0  # … of the mouth: a cheek that moves must not shine through where it was
_ALIKE = 3  # decimals: features that are drawn once for several frames


@dataclass(frozen=True)
class Seen:
    """An encoded source frame with its facial features taken apart.

    Attributes:
        appearance: of the network (``Appearance``, or ``detailed.Detailed``).
        image: (h, w) or (h, w, 3) uint8, in the size of the source frames.
        features: of the frame.
        regions: (3, h, w) in [0, 1], 1 around the eyes, the mouth, and the brows: where the picture is the flow's alone
            if they move. What the network adds to the flow it has learned from these features at rest.
    """

    appearance: Any
    image: Image
    features: PosedFeatures
    regions: NDArray[np.float32]

    def painted(self, wanted: NDArray[np.float64]) -> tuple[Image, NDArray[np.float32]]:
        """The frame with its features as ``wanted`` (6,), and where they count: (h, w) in [0, 1]."""
        colour = np.array(to_rgb(self.image))
        self.features.paint(colour, wanted)
        share = np.minimum(np.abs(self.features.moved(wanted)) / WHOLLY_DRAWN, 1).astype(np.float32)
        shares = np.array([share[:4].max(), share[4], share[5]])
        counts = (shares[:, None, None] * self.regions).max(axis=0)
        return np.ascontiguousarray(colour if self.image.ndim == 3 else colour[..., 0]), counts

    def blended(self, wanted: NDArray[np.float64]) -> tuple[Image, NDArray[np.float32]]:
        """The frame with what is ``painted`` where it counts, and where that is."""
        picture, counts = self.painted(wanted)
        left, top, wide, high = cv2.boundingRect((counts > 0).astype(np.uint8))
        box = np.s_[top : top + high, left : left + wide]
        whole = self.image.copy()
        if wide:
            parts = (np.ascontiguousarray(each[box]) for each in (picture, self.image, counts, 1 - counts))
            whole[box] = cv2.blendLinear(*parts)
        return whole, counts

    def drawn(self, wanted: NDArray[np.float64]) -> NDArray[np.float32]:
        """(channels + 1, h, w) in [0, 1]: what is ``painted``, and last, where it counts."""
        picture, counts = self.painted(wanted)
        channels = picture[None] if picture.ndim == 2 else picture.transpose(2, 0, 1)
        return np.concatenate([channels / np.float32(255), counts[None]])


class PaintedNetwork:
    """A network for a head, and features drawn into its source: in the shape of a model (``steering.face``)."""

    def __init__(self, network: SwapWarp | DetailedNetwork, space: ControlSpace) -> None:
        self.network, self.space = network, space

    def encode(self, images: Tensor, code: Tensor | None = None) -> Appearance | Detailed:
        """A source frame of whose features nothing is known: they stay as they are."""
        return self.network.encode(images, code if code is None else without_features(code))

    def steer(self, seen: Seen | Appearance | Detailed, code: Tensor) -> Tensor:
        """Frames (n, channels, h, w), in [0, 1] or uint8, of that source at control codes (n, k)."""
        network: Any = self.network
        if not isinstance(seen, Seen):
            return cast(Tensor, network.steer(seen, without_features(code)))
        wanted = self.space.decode(code[:, : self.space.size].cpu().numpy())[:, len(HEAD) :]
        distinct, which = np.unique(wanted.round(_ALIKE), axis=0, return_inverse=True)
        if len(distinct) == 1 and np.allclose(seen.features.moved(distinct[0]), 0, atol=10**-_ALIKE):
            return cast(Tensor, network.steer(seen.appearance, without_features(code)))
        if isinstance(network, DetailedNetwork):
            drawing = network.draw(seen.appearance, without_features(code))
            pictures, counts = zip(*(seen.blended(row) for row in distinct), strict=True)
            return network.enlarged(drawing, [pictures[each] for each in which], np.stack(counts)[which])
        drawing = network.draw(seen.appearance.expand(len(code)), without_features(code))
        frames = torch.from_numpy(np.stack([seen.drawn(row) for row in distinct])[which]).to(code.device)
        return with_painted(drawing, frames)

    def decode(self, seen: Seen | Appearance | Detailed) -> Tensor:
        """The source as it is."""
        network: Any = self.network
        return cast(Tensor, network.decode(seen.appearance if isinstance(seen, Seen) else seen))

    def controls(self, seen: Seen | Appearance | Detailed) -> Tensor:
        """(1, k): the control code of the source; the head's as the encoder reads it."""
        appearance: Any
        appearance, own = (
            (seen.appearance, seen.features.own) if isinstance(seen, Seen) else (seen, np.array(FEATURES_AT_REST))
        )
        head = self.network.controls(appearance)
        values = np.concatenate([np.zeros(len(HEAD)), own])[None]
        eyes = torch.from_numpy(self.space.encode(values)[:, _COLUMNS]).to(head)
        return torch.cat([head[:, : len(HEAD)], eyes, head[:, len(HEAD) :]], dim=1)


class PaintedFace(SteerableFace):
    """A trained face with eyes, mouth and brows drawn into its own source frames."""

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
        if not np.allclose(values[:, _COLUMNS], FEATURES_AT_REST):
            raise DmsynthError(
                "where the eyes of a given source frame are is not known; take "
                "face.from_source(*steering.source.as_source(image, name, face.head_only, tracker))"
            )
        at = None if at is None else at[: len(HEAD)]
        return self.head_only.frames(np.delete(values, _COLUMNS, axis=1), source, carried, moving, at)

    def own_appearance(self, source: int) -> Seen:
        head, features = self.head_only, self.trained.features
        assert features is not None
        at = head.trained.space.decode(head.trained.source_codes[source, : len(HEAD)])
        appearance = head.own_appearance(source)
        frame = to_pixels(self.to_network(self.trained.sources[source]))[0]  # grey or colour as the face draws
        return _seen(appearance, frame, at, features.landmarks[source], features.values[source])

    def appearance(
        self, source: Image | None = None, at: NDArray[np.float64] | None = None, features: SourceFeatures | None = None
    ) -> tuple[Any, NDArray[np.float32]]:
        if source is None:
            return super().appearance()
        at = None if at is None else at[: len(HEAD)]
        appearance, carried = self.head_only.appearance(source, at)
        if features is None or at is None:
            return appearance, carried
        frame = to_pixels(self.to_network(source))[0]
        return _seen(appearance, frame, at, features.landmarks[0], features.values[0]), carried

    def from_source(
        self, source: Image, at: NDArray[np.float64] | None = None, features: SourceFeatures | None = None
    ) -> SteerableFace:
        return with_features(self.head_only.from_source(source, None if at is None else at[: len(HEAD)], features))

    @property
    def size(self) -> tuple[int, int]:
        return self.head_only.size

    def drawn_at(self, size: tuple[int, int]) -> SteerableFace:
        return with_features(self.head_only.drawn_at(size))

    def as_learned(self) -> SteerableFace:
        return with_features(self.head_only.as_learned())

    @property
    def head_only(self) -> SteerableFace:
        trained, network = self.trained, self._network
        space = replace(CONTROL_SPACES["rotation"], controls=trained.space.controls[: len(HEAD)])
        coverage = replace(trained.coverage, codes=trained.coverage.codes[:, : len(HEAD)], joint=space.joint)
        codes = np.delete(trained.source_codes, _COLUMNS, axis=1)
        return SteerableFace(
            replace(trained, network=network.network, space=space, coverage=coverage, source_codes=codes),
            self.path,
            self.device,
        )


def with_features(face: SteerableFace) -> SteerableFace:
    """The same face with eyes, mouth and brows that can be commanded, if it knows where they are in its sources."""
    trained = face.trained
    if (
        trained.features is None
        or trained.space.name != "rotation"
        or not isinstance(trained.network, SwapWarp | DetailedNetwork)
    ):
        return face
    space = _space(trained.space)
    at_rest = space.encode(np.array([[*np.zeros(len(HEAD)), *FEATURES_AT_REST]]))[:, _COLUMNS]
    limits = np.array([(-EYES_RANGE[0], -EYES_RANGE[1], *space.low[-4:]), (*EYES_RANGE, *space.high[-4:])])
    ends = space.encode(np.concatenate([np.zeros((2, len(HEAD))), limits], axis=1))[:, _COLUMNS]
    seen = trained.coverage.codes
    if len(seen) < 2:
        seen = seen.repeat(2, axis=0)
    coverage = Coverage(
        np.concatenate([seen, ends[np.arange(len(seen)) % 2]], axis=1),
        trained.coverage.tolerance,
        trained.coverage.carried.repeat(len(seen) // max(1, len(trained.coverage.codes)), axis=0),
        space.joint,
    )
    codes = np.insert(trained.source_codes, [len(HEAD)] * len(FEATURES), at_rest, axis=1)
    network: Any = PaintedNetwork(trained.network, space)
    eyed = replace(trained, network=network, space=space, coverage=coverage, source_codes=codes)
    return PaintedFace(eyed, face.path, face.device)


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
    """An encoded source frame of the face's size, at a pose ``at`` (3 or more), with its features taken apart."""
    rotation = rotation_matrix(*(float(angle) for angle in at[: len(HEAD)]))
    features = PosedFeatures(to_rgb(frame), landmarks, rotation, own)
    size = frame.shape[:2]
    boxes = _around(features.eyes.boxes, size, _STEEP), _around(features.mouth.boxes, size, _STEEP_MOUTH)
    regions = np.stack([*boxes, features.brows.reach(size)])
    return Seen(appearance, frame, features, regions)


def _around(boxes: Sequence[tuple[slice, slice]], size: tuple[int, int], steep: float) -> NDArray[np.float32]:
    """(height, width): 1 in the boxes, falling to 0 at their edges but for those of the picture."""
    region = np.zeros(size, np.float32)
    for rows, columns in boxes:
        ramps = []
        for part, end in zip((rows, columns), size, strict=True):
            inner = (np.arange(part.stop - part.start) + 0.5) / (part.stop - part.start)
            below, above = (1.0 if part.start == 0 else inner), (1.0 if part.stop == end else 1 - inner)
            ramps.append(np.clip(steep * np.minimum(below, above) * np.ones(len(inner)), 0, 1))
        down, across = ramps
        region[rows, columns] = np.maximum(region[rows, columns], np.outer(down, across))
    return region


def with_painted(drawing: Drawing, frames: Tensor) -> Tensor:
    """What the network draws (n, channels, h, w), with the features out of source frames (n, channels + 1, h, w), the
    last of which says where they count (``Seen.drawn``)."""
    image = shown(drawing)
    moved = warp(frames, resized(drawing.flow, frames.shape[-2:]), "bicubic").clamp(0, 1)  # bilinear: too soft
    return image + moved[:, -1:] * (moved[:, :-1] - image)


def feature_codes(space: ControlSpace) -> tuple[Tensor, Tensor]:
    """Low end and span of the features' controls, (1, 6) each."""
    low, high = (torch.from_numpy(ends[None, _COLUMNS]).float() for ends in (space.low, space.high))
    return low, high - low


def without_features(code: Tensor) -> Tensor:
    """Control codes (n, k) of a driver, without the features': as the network of the head takes them."""
    return torch.cat([code[:, : len(HEAD)], code[:, len(HEAD) + len(FEATURES) :]], dim=1)
