"""A trained face + a source + commanded controls → frames (thesis 4.2, "in the inference stage")."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dmsynth.controls import CONTROL_SPACES
from dmsynth.controls.coverage import clip
from dmsynth.learning.face_file import SourceFeatures, TrainedFace, located, read_face
from dmsynth.learning.swapwarp import SwapWarp
from dmsynth.steering.detailed import DetailedNetwork
from dmsynth.steering.renderer import FACE, FaceSpec
from dmsynth.support.errors import DmsynthError
from dmsynth.support.machine import device_of
from dmsynth.support.parallel import map_ordered
from dmsynth.video import Image, fit, to_grey, to_rgb

_AT_ONCE = 8  # frames decoded together: enough to keep the cores busy, little memory
_KEPT = 32  # encoded source frames
CHANGE = 0.05  # what changing the source must gain, in squared code distance summed over frames
_BLEND = 6  # frames over which one source gives way to the next

_Part = tuple[torch.Tensor, list[tuple[Any, torch.Tensor]]]
"""Control codes (n, k) of some frames, and the encoded sources that they are drawn from, with their shares (n,)."""


@dataclass(frozen=True)
class SteerableFace:
    """A trained face, ready to be steered, drawn on ``device``: ``cpu`` or ``cuda``."""

    trained: TrainedFace
    path: Path
    device: str = "cpu"

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the frames in pixels."""
        network = self._network
        return network.size if isinstance(network, DetailedNetwork) else self.trained.size

    def drawn_at(self, size: tuple[int, int]) -> SteerableFace:
        """The same face with frames of that (width, height); detail is that of its source frames. Of another shape than
        theirs, the middle is drawn. ``DmsynthError`` for a model that draws its own size only."""
        network = self._network
        if size == self.size:
            return self
        if isinstance(network, DetailedNetwork):
            network = network.network
        if not isinstance(network, SwapWarp):
            raise DmsynthError(f"{self.path}: draws {self.size[0]}x{self.size[1]} only; leave --size out")
        return replace(self, trained=_drawn_in_detail(self.trained, network, size))

    def as_learned(self) -> SteerableFace:
        """The same face as its network sees it: its source frames small and in grey where it learned them so."""
        network: Any = self._network
        if not isinstance(network, DetailedNetwork):
            return self
        trained = self.trained
        sources = np.stack([network.small(frame) for frame in trained.sources])
        features = trained.features
        if features is not None:
            shrink = np.array(network.learned, np.float32) / trained.size
            features = replace(features, landmarks=features.landmarks * shrink.astype(np.float32))
        return replace(self, trained=replace(trained, network=network.network, sources=sources, features=features))

    def steer(self, source: Image | None = None, **pose: float) -> Image:
        """One frame: the ``source``'s appearance at the commanded pose.

        Args:
            source: grey or RGB uint8 of any size; by default the face's own source frame.
            pose: the controls by name in their units, for rotation ``pitch``, ``yaw``, ``roll`` in degrees;
                one that is not named is at rest (a rotation at 0). Outside the training coverage the picture comes
                with a warning.

        Returns:
            (height, width) uint8, or (height, width, 3) for a face trained in colour.
        """
        values = np.array([self.trained.space.row(pose)])
        CONTROL_SPACES[self.trained.space.name].check(values)
        if self.outside_coverage(values).size:
            warnings.warn(f"{pose} lies outside {self.trusted}", stacklevel=2)
        return next(self.frames(values, source))

    def frames(
        self,
        values: NDArray[np.float64],
        source: Image | None = None,
        carried: NDArray[np.float32] | None = None,
        moving: bool = True,
        at: NDArray[np.float64] | None = None,
    ) -> Iterator[Image]:
        """One frame for each row of ``values`` (n, k), in the order and units of the face's control space
        (``ControlSpace.whole``).

        Without a ``source``, each frame is steered from the one of the face's own source frames that suits it best.

        The head is commanded so that the tracker reads it as wanted, where that was measured (``controls.response``):
        of the face's own source frames, at their expression. With ``carried`` codes, or from another source, a command
        is a label of the training's.

        Args:
            carried: (n, c) carried codes of the frames; by default they stay the source's.
            moving: the rows are a motion: change the source seldom, and blend over when it changes.
            at: (k,) the ``source``'s own controls, where they are known; by default the encoder reads them.
        """
        values = self.trained.space.whole(values)
        CONTROL_SPACES[self.trained.space.name].check(values)
        network, own = self._network, source is None
        with torch.inference_mode():
            if own:
                sources, source_codes = self.trained.sources, self.trained.source_codes
            else:
                sources = np.asarray(source)[None]
            k = self.trained.space.size
            encoded = lru_cache(maxsize=_KEPT)(lambda s: self.own_appearance(s) if own else self._encoded(source, at))
            codes = self.commanded_codes(values) if own and carried is None else self.trained.space.encode(values)
            if self.trained.carried.size:
                at_source = source_codes[0, k:] if own else network.controls(encoded(0))[0, k:].cpu().numpy()
                codes = np.concatenate(
                    [codes, np.broadcast_to(at_source, (len(codes), len(at_source))) if carried is None else carried],
                    axis=1,
                ).astype(np.float32)
            shares = np.ones((len(codes), 1))
            if len(sources) > 1:
                alike = self.trained.space.comparable
                chosen = choose_sources(alike(codes), alike(source_codes), CHANGE if moving else 0.0)
                shares = blended(chosen, len(sources), _BLEND if moving else 0)

            def parts() -> Iterator[_Part]:
                for chunk in _alike(shares):
                    used = np.flatnonzero(shares[chunk].any(axis=0))
                    yield (
                        torch.from_numpy(codes[chunk]).to(self.device),
                        [(encoded(int(s)), torch.from_numpy(shares[chunk, s]).float().to(self.device)) for s in used],
                    )

            threads = torch.get_num_threads() if self.device == "cpu" and len(codes) > _AT_ONCE else 1
            yield from self._drawn(parts(), threads)

    def _drawn(self, parts: Iterable[_Part], threads: int) -> Iterator[Image]:
        """Draw the parts of a video in their order, as many at once as PyTorch may use ``threads``: a core each. All
        threads on one part wait for each other at every layer, the longer the more other programs run."""

        def draw(part: _Part) -> list[Image]:
            code, sources = part
            with torch.inference_mode():
                drawn = [to_pixels(self._network.steer(appearance, code)) for appearance, _ in sources]
            if len(drawn) == 1:
                return drawn[0]
            shares = np.stack([share.cpu().numpy() for _, share in sources])
            return [_mixed(pictures, each) for *pictures, each in zip(*drawn, shares.T, strict=True)]

        if threads == 1:
            for part in parts:
                yield from draw(part)
            return
        try:
            for images in map_ordered(draw, parts, threads, initializer=lambda: torch.set_num_threads(1)):
                yield from images
        finally:
            torch.set_num_threads(threads)  # MKL's are the whole process's

    def commanded_codes(self, values: NDArray[np.float64]) -> NDArray[np.float32]:
        """Control codes (n, k) at which the face's own source frames show ``values`` (n, k)."""
        space, response = self.trained.space, self.trained.response
        return space.encode(values if response is None else response.undone(values, space))

    def own_appearance(self, source: int) -> Any:
        """The face's own source frame of that number, encoded."""
        code = torch.from_numpy(np.array(self.trained.source_codes[source : source + 1])).to(self.device)
        return self._network.encode(self.to_network(self.trained.sources[source]), code)

    def _encoded(self, source: Image | None, at: NDArray[np.float64] | None) -> Any:
        """A given source frame, encoded, with its own controls ``at`` in place of those that the encoder reads."""
        assert source is not None
        images, k = self.to_network(source), self.trained.space.size
        appearance = self._network.encode(images)
        if at is None:
            return appearance
        code = self._network.controls(appearance)[:, : k + self.trained.carried.size].clone()
        code[0, :k] = torch.from_numpy(self.trained.space.encode(at))
        return self._network.encode(images, code)

    def appearance(
        self, source: Image | None = None, at: NDArray[np.float64] | None = None, features: SourceFeatures | None = None
    ) -> tuple[Any, NDArray[np.float32]]:
        """A source frame, encoded, and its carried codes (c,); by default the face's most typical one. ``at`` as in
        ``frames``; ``features``: of a given one (``steering.source.as_source``)."""
        with torch.inference_mode():
            if source is None:
                code, appearance = self.trained.source_codes[0], self.own_appearance(0)
            else:
                appearance = self._encoded(source, at)
                code = self._network.controls(appearance)[0].cpu().numpy()
            return appearance, code[self.trained.space.size :][: self.trained.carried.size]

    @property
    def head_only(self) -> SteerableFace:
        """The same face without controls that are no part of its network: drawn features (``steering.painted``)."""
        return self

    def from_one_source(self) -> SteerableFace:
        """The same face with its most typical source frame only."""
        trained = self.trained
        features = trained.features and trained.features.first
        codes = trained.source_codes[:1]
        return replace(
            self, trained=replace(trained, sources=trained.sources[:1], source_codes=codes, features=features)
        )

    def from_source(
        self, source: Image, at: NDArray[np.float64] | None = None, features: SourceFeatures | None = None
    ) -> SteerableFace:
        """The same face with this one source frame, grey or RGB uint8 of any size. ``at`` as in ``frames``;
        ``features``: of the frame (``steering.source.as_source``), which then has the face's size. Raises
        ``DmsynthError`` if not."""
        if features is not None and source.shape[1::-1] != self.trained.size:
            wide, high = self.trained.size
            raise DmsynthError(
                f"a source frame of {source.shape[1]}×{source.shape[0]} with eyes, but those of {self.path} have "
                f"{wide}×{high}; steering.source.as_source makes it so"
            )
        k = self.trained.space.size
        with torch.inference_mode():
            code = self._network.controls(self._encoded(source, at))[:, : k + self.trained.carried.size].cpu().numpy()
        if at is not None:
            code[0, :k] = self.trained.space.encode(at)
        sources = to_pixels(self.to_network(source))[0][None]
        trained = replace(self.trained, sources=sources, source_codes=code, features=features, response=None)
        return replace(self, trained=trained)

    def reconstruct(self, image: Image) -> Image:
        """What the decoder makes of the image's own latent (thesis Fig. 3.3), nothing replaced in it."""
        with torch.inference_mode():
            return to_pixels(self._network.decode(self._network.encode(self.to_network(image))))[0]

    def encoded_controls(self, image: Image) -> NDArray[np.float64]:
        """What the encoder takes the image's controls for: (k,) in the order and units of the control space."""
        with torch.inference_mode():
            code = self._network.controls(self._network.encode(self.to_network(image)))
        return self.trained.space.decode(code[0, : self.trained.space.size].cpu().numpy())

    @property
    def _network(self) -> Any:  # what it encodes to differs from model to model
        return self.trained.network

    @property
    def trusted(self) -> str:
        """What the coverage is, in words."""
        return str(self.trained.about.get("trusted") or f"what {self.path} was trained on")

    def outside_coverage(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        """Numbers of the rows of ``values`` (n, k) whose pose lies outside the training coverage."""
        codes = self.trained.space.encode(self.trained.space.whole(values))
        return np.flatnonzero(self.trained.coverage.outside(codes))

    def clipped(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """``values`` (n, k) with poses outside the training coverage drawn to its edge."""
        return clip(values, self.trained.space, self.trained.coverage)

    def to_network(self, image: Image) -> torch.Tensor:
        """Grey or RGB uint8 of any size as the network sees it: (1, channels, height, width) in [0, 1]."""
        image = to_rgb(image) if self.trained.in_colour else to_grey(image)
        image = fit(image, *self.trained.size)
        pixels = torch.from_numpy(np.ascontiguousarray(image)).float().to(self.device) / 255
        return pixels[None, None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)[None]


def to_pixels(images: torch.Tensor) -> list[Image]:
    """(n, channels, height, width) in [0, 1], or uint8 → n images (height, width) or (height, width, 3) uint8."""
    images = images if images.dtype == torch.uint8 else (images * 255).round().to(torch.uint8)
    pixels = images.permute(0, 2, 3, 1).cpu().numpy()
    return [image[..., 0] if image.shape[2] == 1 else image for image in pixels]


def _mixed(pictures: Sequence[Image], shares: NDArray[np.float32]) -> Image:
    """Pictures of one size, each with its share; the shares' sum is 1."""
    total = sum(picture * np.float32(share) for picture, share in zip(pictures, shares, strict=True))
    return np.asarray(np.round(total), np.uint8)


def choose_sources(codes: NDArray[np.float32], source_codes: NDArray[np.float32], change: float) -> NDArray[np.int64]:
    """Which source frame each row of ``codes`` (n, k) is steered from: (n,) rows of ``source_codes`` (s, k).

    The choice with the least sum of squared distances between the codes plus ``change`` for each change of source
    from one row to the next (Viterbi 1967), so that a source is not left for a small gain.
    """
    costs = np.stack([np.square(codes - code).sum(axis=1, dtype=float) for code in source_codes], axis=1)
    best, came_from = costs[0], np.zeros(costs.shape, dtype=np.int64)
    for row in range(1, len(costs)):
        cheapest = int(best.argmin())
        stays = best <= best[cheapest] + change
        came_from[row] = np.where(stays, np.arange(len(best)), cheapest)
        best = np.where(stays, best, best[cheapest] + change) + costs[row]
    chosen = np.empty(len(costs), dtype=np.int64)
    chosen[-1] = best.argmin()
    for row in range(len(costs) - 1, 0, -1):
        chosen[row - 1] = came_from[row, chosen[row]]
    return chosen


def blended(chosen: NDArray[np.int64], sources: int, rows: int) -> NDArray[np.float64]:
    """The share (n, sources) that each source has in each row: 1 for the ``chosen`` (n,) one, and around a change
    evenly from the one to the next over about ``rows`` rows."""
    shares = np.eye(sources)[chosen]
    if rows < 2 or len(chosen) < 2:
        return shares
    padded = np.concatenate([shares[:1].repeat(rows, 0), shares, shares[-1:].repeat(rows, 0)])
    sums = np.cumsum(padded, axis=0)
    width = rows // 2 * 2 + 1
    middle = rows + np.arange(len(chosen))
    return np.asarray((sums[middle + width // 2] - sums[middle - width // 2 - 1]) / width)


def _alike(shares: NDArray[np.float64]) -> Iterator[NDArray[np.int64]]:
    """Neighbouring rows of ``shares`` (n, s) that are drawn from the same sources, a few at a time."""
    used = shares > 0
    ends = np.flatnonzero((used[1:] != used[:-1]).any(axis=1)) + 1
    for run in np.split(np.arange(len(shares)), ends):
        yield from (run[begin : begin + _AT_ONCE] for begin in range(0, len(run), _AT_ONCE))


def face_name(path: Path) -> str:
    """What people call the face in a file: its run's folder, or where the file has a name of its own, that."""
    file, person = located(path)
    name = file.resolve().parent.name if file.name == "face.safetensors" else file.stem
    return f"{name}#{person}" if person else name


def _drawn_in_detail(trained: TrainedFace, network: SwapWarp, size: tuple[int, int]) -> TrainedFace:
    detailed: Any = DetailedNetwork(network, (trained.shape["width"], trained.shape["height"]), size)
    return replace(trained, network=detailed)


def load_face(path: Path, device: str = "cpu") -> SteerableFace:
    """Load ``face.safetensors``, or the face that comes with dmsynth by the name ``starter``. See ``dmsynth.load``.

    It is drawn on ``device``: ``cpu``, ``cuda``, or ``auto`` (``machine.device_of``).
    """
    device = device_of(device)
    if not located(path)[0].is_file() and FaceSpec(str(path)).kind != FACE:
        raise DmsynthError(
            f"{path}: this takes a trained face (face.safetensors, or starter); other renderers can be steered, "
            "evaluated and validated with"
        )
    file, person = located(path)
    face = read_face(path)
    network: Any = face.network.to(device)
    if face.is_detailed and isinstance(network, SwapWarp):
        face = _drawn_in_detail(face, network, face.size)
    return SteerableFace(face, file if person is None else path, device)
