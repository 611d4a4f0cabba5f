"""A trained face + a source + a trajectory → frames (thesis 4.2, "in the inference stage")."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dmsynth.controls import CONTROL_SPACES
from dmsynth.controls.trajectory import Trajectory, write_table
from dmsynth.datasets.dataset import open_dataset
from dmsynth.learning.face_file import TrainedFace, read_face
from dmsynth.steering.provenance import Provenance, sidecar_of
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import is_file, is_folder
from dmsynth.support.machine import device_of
from dmsynth.support.parallel import ahead
from dmsynth.support.progress import console, progress
from dmsynth.video import Image, VideoWriter, fit, read_video, to_grey, to_rgb
from dmsynth.video.pictures import is_picture, read_image

_AT_ONCE = 8  # frames decoded together: enough to keep the cores busy, little memory
_KEPT = 32  # encoded source frames
CHANGE = 0.05  # what changing the source must gain, in squared code distance summed over frames
_BLEND = 6  # frames over which one source gives way to the next


@dataclass(frozen=True)
class SteerableFace:
    """A trained face, ready to be steered, drawn on ``device``: ``cpu`` or ``cuda``."""

    trained: TrainedFace
    path: Path
    device: str = "cpu"

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the frames in pixels."""
        return self.trained.shape["width"], self.trained.shape["height"]

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
        """One frame for each row of ``values`` (n, k), in the order and units of the face's control space.

        Without a ``source``, each frame is steered from the one of the face's own source frames that suits it best.

        Args:
            carried: (n, c) carried codes of the frames; by default they stay the source's.
            moving: the rows are a motion: change the source seldom, and blend over when it changes.
            at: (k,) the ``source``'s own controls, where they are known; by default the encoder reads them.
        """
        CONTROL_SPACES[self.trained.space.name].check(values)
        network, own = self._network, source is None
        with torch.inference_mode():
            if own:
                sources, source_codes = self.trained.sources, self.trained.source_codes
                known = [torch.from_numpy(code[None]).to(self.device) for code in source_codes]
            else:
                sources = np.asarray(source)[None]
            k = self.trained.space.size
            encoded = lru_cache(maxsize=_KEPT)(
                lambda s: network.encode(self.to_network(sources[s]), known[s]) if own else self._encoded(source, at)
            )
            codes = self.trained.space.encode(values)
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
            for chunk in _alike(shares):
                total: Any = 0.0
                for s in np.flatnonzero(shares[chunk].any(axis=0)):
                    images = network.steer(encoded(int(s)), torch.from_numpy(codes[chunk]).to(self.device))
                    share = torch.from_numpy(shares[chunk, s]).float().to(self.device)
                    total = total + images * share[:, None, None, None]
                yield from to_pixels(total)

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
        self, source: Image | None = None, at: NDArray[np.float64] | None = None
    ) -> tuple[Any, NDArray[np.float32]]:
        """A source frame, encoded, and its carried codes (c,); by default the face's most typical one. ``at`` as in
        ``frames``."""
        with torch.inference_mode():
            if source is None:
                code = self.trained.source_codes[0]
                known = torch.from_numpy(code[None]).to(self.device)
                appearance = self._network.encode(self.to_network(self.trained.source), known)
            else:
                appearance = self._encoded(source, at)
                code = self._network.controls(appearance)[0].cpu().numpy()
            return appearance, code[self.trained.space.size :][: self.trained.carried.size]

    def from_one_source(self) -> SteerableFace:
        """The same face with its most typical source frame only."""
        trained = self.trained
        return replace(
            self, trained=replace(trained, sources=trained.sources[:1], source_codes=trained.source_codes[:1])
        )

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
        return np.flatnonzero(self.trained.coverage.outside(self.trained.space.encode(values)))

    def clipped(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """``values`` (n, k) with poses outside the training coverage drawn to its edge."""
        space, coverage = self.trained.space, self.trained.coverage
        codes = space.encode(values)
        outside = coverage.outside(codes)
        result = np.array(values, dtype=float)
        if outside.any():
            result[outside] = space.decode(coverage.clipped(codes[outside]))
        return result

    def to_network(self, image: Image) -> torch.Tensor:
        """Grey or RGB uint8 of any size as the network sees it: (1, channels, height, width) in [0, 1]."""
        image = to_grey(image) if self.trained.shape["channels"] == 1 else to_rgb(image)
        image = fit(image, *self.size)
        pixels = torch.from_numpy(np.ascontiguousarray(image)).float().to(self.device) / 255
        return pixels[None, None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)[None]


def to_pixels(images: torch.Tensor) -> list[Image]:
    """(n, channels, height, width) in [0, 1] → n images (height, width) or (height, width, 3) uint8."""
    pixels = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return [image[..., 0] if image.shape[2] == 1 else image for image in pixels]


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
    return path.resolve().parent.name if path.name == "face.safetensors" else path.stem


def load_face(path: Path, device: str = "cpu") -> SteerableFace:
    """Load ``face.safetensors``, or the face that comes with dmsynth by the name ``starter``. See ``dmsynth.load``.

    It is drawn on ``device``: ``cpu``, ``cuda``, or ``auto`` (``machine.device_of``).
    """
    device = device_of(device)
    if str(path) == "starter" and not path.is_file():
        path = Path(str(files("dmsynth").joinpath("data/starter.safetensors")))
    face = read_face(path)
    face.network.to(device)
    return SteerableFace(face, path, device)


def read_source(text: str) -> Image:
    """A source frame: a picture, ``VIDEO@N`` or ``DATASET@N`` (frame number N, from 0; first frame without @N).

    Raises ``DmsynthError`` if there is no such frame.
    """
    path, number = _source_parts(text)
    if not number.isdecimal() or len(number) > 9:
        raise DmsynthError(f"{text}: the frame number after @ must be a whole number from 0")
    index = int(number)
    if is_folder(path):
        frames = open_dataset(path).check_frames().frames
        if index >= len(frames):
            raise DmsynthError(f"{path}: has frames 0 to {len(frames) - 1}, not {index}")
        return np.array(frames[index])
    if not path.is_file():
        raise DmsynthError(f"{path}: no such picture, video or dataset; check the path")
    if is_picture(path):
        return read_image(path)
    last = -1
    for frame in read_video(path):
        if frame.index == index:
            return frame.image
        last = frame.index
    raise DmsynthError(f"{path}: has frames 0 to {last}, not {index}")


def _source_parts(text: str) -> tuple[Path, str]:
    """``NAME@N`` as path and number."""
    whole = "@" not in text or is_file(text) or is_folder(text)
    name, _, number = (text, "", "0") if whole else text.rpartition("@")
    return Path(name), number


def source_consent(text: str) -> str | None:
    """The consent recorded with the dataset of a source ``DATASET@N``; None for any other source or without one."""
    path, _ = _source_parts(text)
    consent = open_dataset(path).manifest.get("consent") if is_folder(path) else None
    return str(consent) if consent else None


def steer_to_video(
    face: SteerableFace,
    trajectory: Trajectory,
    out: Path,
    frame_rate: float,
    source: Image | None = None,
    outside: str = "warn",
    at: NDArray[np.float64] | None = None,
) -> Path:
    """Render a trajectory to a video and write beside it, as ``OUT.parquet``, what was commanded frame by frame, and
    as ``OUT.provenance.json`` where the video comes from.

    Args:
        outside: what to do with poses outside the training coverage: ``warn``, ``strict`` (refuse), ``clip``, or
            ``mark`` (say nothing and show no progress: for work beside other work; the table says it).
        at: (k,) the source's own controls, where they are known.

    Returns:
        The table's path. Its columns: ``frame``, ``time``, the controls as commanded, whether the training frames
        cover them (``covered``), and how far to trust the frame (``confidence``, 1 to 0; 0.5 where coverage ends).

    Raises:
        DmsynthError: poses outside the coverage under ``strict``; an unwritable name.
    """
    motion = trajectory.in_space(face.trained.space)
    motion = motion.resampled(frame_rate)
    values = motion.values
    CONTROL_SPACES[face.trained.space.name].check(values)
    beyond = face.outside_coverage(values)
    if beyond.size:
        message = f"{out.name}: {_ranges(beyond)} of {len(values)} command poses outside {face.trusted}"
        if outside == "strict":
            raise DmsynthError(f"{message}; command less, use --clip, or train on more poses")
        if outside != "mark":
            clipped = ", clipped to its edge" if outside == "clip" else ""
            console.print(f"warning: {message}{clipped}", style="yellow")
        if outside == "clip":
            values = face.clipped(values)
    table = Trajectory(motion.names, motion.times, values).table()
    table["covered"] = ~np.isin(np.arange(len(values)), beyond)
    space, coverage = face.trained.space, face.trained.coverage
    table["confidence"] = coverage.confidence(space.encode(values)).round(3)
    origin = Provenance.of(face.path, face.trained, "rendered")
    with (
        VideoWriter(out, *face.size, frame_rate, origin.metadata()) as video,
        nullcontext(_nothing) if outside == "mark" else progress("steering", len(values)) as advance,
        closing(ahead(face.frames(values, source, at=at))) as images,  # one thread draws, the other encodes
    ):
        for image in images:
            video.write(image)
            advance()
    table_path = out.with_suffix(".parquet")
    origin.write_beside(out)
    write_table(table_path, table)
    return table_path


def _nothing() -> None:
    """The progress that nobody sees."""


def keep_inputs(out: Path, inputs: Sequence[str | Path | None]) -> None:
    """Raise ``DmsynthError`` if writing ``out`` and what goes beside it would overwrite one of the inputs.

    Args:
        inputs: as the user names them: files, ``VIDEO@N``, ``DATASET@N``; what names no file (motions in words) and
            None count for nothing. An ``@`` may as well be part of a file's name, so either reading is protected.
            Of an input folder every file in it is.
    """
    if not out.name:
        raise DmsynthError(f"{out}: is a folder; give the output a name")
    written = [path for path in (out, out.with_suffix(".parquet"), sidecar_of(out)) if path.name]
    named = [str(name) for name in inputs if name]
    read = [Path(each) for name in named for each in (name, name.rpartition("@")[0]) if each]
    for path in written:
        if any(_is_same(path, each) for each in read):
            raise DmsynthError(f"{path}: is an input of this command; give the output another name")
        folders = (each for each in read if is_folder(each))
        if is_file(path) and any(path.resolve().is_relative_to(folder.resolve()) for folder in folders):
            raise DmsynthError(f"{path}: is part of an input of this command; give the output another name")


def _is_same(a: Path, b: Path) -> bool:
    """Whether two names are one file, be it through links or another spelling; or would be one."""
    try:
        return a.resolve() == b.resolve() or a.samefile(b)
    except (OSError, ValueError, RuntimeError):  # no such file, no name that a file can have, links in a circle
        return False


def _ranges(numbers: NDArray[np.int64]) -> str:
    """Frame numbers as text: ``frames 3-9, 12, 40-44``."""
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    named = [f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs]
    shown = ", ".join(named[:8]) + (f" and {len(named) - 8} more stretches" if len(named) > 8 else "")
    return f"frame{'s' if len(numbers) > 1 else ''} {shown}"
