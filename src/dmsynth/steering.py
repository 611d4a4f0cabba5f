"""A trained face + a source + a trajectory → frames (thesis 4.2, "in the inference stage")."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dmsynth.controls import CONTROL_SPACES
from dmsynth.dataset import open_dataset
from dmsynth.errors import DmsynthError
from dmsynth.models.face_file import TrainedFace, read_face
from dmsynth.progress import console, progress
from dmsynth.trajectory import Trajectory, write_table
from dmsynth.video import Image, VideoWriter, fit, read_image, read_video, to_grey, to_rgb

_AT_ONCE = 8  # frames decoded together: enough to keep the cores busy, little memory


@dataclass(frozen=True)
class SteerableFace:
    """A trained face, ready to be steered."""

    trained: TrainedFace
    path: Path

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
            warnings.warn(f"{pose} lies outside what {self.path} was trained on", stacklevel=2)
        return next(self.frames(values, source))

    def frames(self, values: NDArray[np.float64], source: Image | None = None) -> Iterator[Image]:
        """One frame for each row of ``values`` (n, k), in the order and units of the face's control space."""
        CONTROL_SPACES[self.trained.space.name].check(values)
        codes = torch.from_numpy(self.trained.space.encode(values))
        with torch.inference_mode():
            latent = self.trained.network.encode(self._to_network(source))
            for chunk in codes.split(_AT_ONCE):
                yield from _to_pixels(self.trained.network.steer(latent, chunk))

    def reconstruct(self, image: Image) -> Image:
        """What the decoder makes of the image's own latent (thesis Fig. 3.3), nothing replaced in it."""
        with torch.inference_mode():
            network = self.trained.network
            return _to_pixels(network.decode(network.encode(self._to_network(image))))[0]

    def encoded_controls(self, image: Image) -> NDArray[np.float64]:
        """What the encoder takes the image's controls for: (k,) in the order and units of the control space."""
        with torch.inference_mode():
            latent = self.trained.network.encode(self._to_network(image))
        return self.trained.space.decode(latent[0, : self.trained.space.size].numpy())

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

    def _to_network(self, source: Image | None) -> torch.Tensor:
        image = self.trained.source if source is None else source
        image = to_grey(image) if self.trained.shape["channels"] == 1 else to_rgb(image)
        image = fit(image, *self.size)
        pixels = torch.from_numpy(np.ascontiguousarray(image)).float() / 255
        return pixels[None, None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)[None]


def _to_pixels(images: torch.Tensor) -> list[Image]:
    """(n, channels, height, width) in [0, 1] → n images (height, width) or (height, width, 3) uint8."""
    pixels = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return [image[..., 0] if image.shape[2] == 1 else image for image in pixels]


def load_face(path: Path) -> SteerableFace:
    """Load ``face.safetensors``. See ``dmsynth.load``."""
    return SteerableFace(read_face(path), path)


def read_source(text: str) -> Image:
    """A source frame: a picture, ``VIDEO@N`` or ``DATASET@N`` (frame number N, from 0; first frame without @N).

    Raises ``DmsynthError`` if there is no such frame.
    """
    name, _, number = text.rpartition("@") if "@" in text and not Path(text).exists() else (text, "", "0")
    path = Path(name)
    if not number.isdigit():
        raise DmsynthError(f"{text}: the frame number after @ must be a whole number from 0")
    index = int(number)
    if path.is_dir():
        frames = open_dataset(path).frames
        if index >= len(frames):
            raise DmsynthError(f"{path}: has frames 0 to {len(frames) - 1}, not {index}")
        return np.array(frames[index])
    if path.suffix.lower() in (".png", ".jpg", ".jpeg", ".bmp", ".webp"):
        return read_image(path)
    last = -1
    for frame in read_video(path):
        if frame.index == index:
            return frame.image
        last = frame.index
    raise DmsynthError(f"{path}: has frames 0 to {last}, not {index}")


def steer_to_video(
    face: SteerableFace,
    trajectory: Trajectory,
    out: Path,
    frame_rate: float,
    source: Image | None = None,
    outside: str = "warn",
) -> Path:
    """Render a trajectory to a video and write beside it, as ``OUT.parquet``, what was commanded frame by frame.

    Args:
        outside: what to do with poses outside the training coverage: ``warn``, ``strict`` (refuse) or ``clip``.

    Returns:
        The table's path. Its columns: ``frame``, ``time``, the controls as commanded, and ``covered``.

    Raises:
        DmsynthError: poses outside the coverage under ``strict``; an unwritable name.
    """
    motion = trajectory.in_space(face.trained.space)
    motion = motion.resampled(frame_rate)
    values = motion.values
    CONTROL_SPACES[face.trained.space.name].check(values)
    beyond = face.outside_coverage(values)
    if beyond.size:
        message = (
            f"{out.name}: {_ranges(beyond)} of {len(values)} command poses outside what {face.path} was trained on"
        )
        if outside == "strict":
            raise DmsynthError(f"{message}; command less, use --clip, or train on more poses")
        console.print(f"warning: {message}" + (", clipped to its edge" if outside == "clip" else ""), style="yellow")
        if outside == "clip":
            values = face.clipped(values)
    table = Trajectory(motion.names, motion.times, values).table()
    table["covered"] = ~np.isin(np.arange(len(values)), beyond)
    with VideoWriter(out, *face.size, frame_rate) as video, progress("steering", len(values)) as advance:
        for image in face.frames(values, source):
            video.write(image)
            advance()
    table_path = out.with_suffix(".parquet")
    write_table(table_path, table)
    return table_path


def keep_inputs(out: Path, inputs: Sequence[str | None]) -> None:
    """Raise ``DmsynthError`` if writing ``out`` and the table beside it would overwrite one of the inputs."""
    for written in (out, out.with_suffix(".parquet")):
        if any(name and Path(name.partition("@")[0]).resolve() == written.resolve() for name in inputs):
            raise DmsynthError(f"{written}: is an input of this command; give the output another name")


def _ranges(numbers: NDArray[np.int64]) -> str:
    """Frame numbers as text: ``frames 3-9, 12, 40-44``."""
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    named = [f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs]
    shown = ", ".join(named[:8]) + (f" and {len(named) - 8} more stretches" if len(named) > 8 else "")
    return f"frame{'s' if len(numbers) > 1 else ''} {shown}"
