"""LivePortrait as published: a source picture moved by a driving video."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dmsynth.learning.face_file import TrainedFace
from dmsynth.motion.driving import track_video
from dmsynth.motion.trajectory import Trajectory
from dmsynth.steering.face import SteerableFace
from dmsynth.steering.liveportrait import (
    DRIVING_CROP,
    SEEN,
    SPACE,
    Appearance,
    Crop,
    Motion,
    Steered,
    open_liveportrait,
    square,
)
from dmsynth.steering.renderer import FaceSpec
from dmsynth.support.errors import DmsynthError
from dmsynth.trackers import Face, Tracker, why_unusable
from dmsynth.video import Image, fit, probe_video, read_video, to_rgb


class Driven:
    """A source that moves as a driver does, with LivePortrait's defaults: since the first frame rotation, expression,
    size and place change by as much as the driver's. A ``VideoFollower``; row n is driving frame n.

    Its multiplier for expressions is left out: with a source picture and relative motion it is 1.

    Attributes:
        face: LivePortrait with its source.
        table: what the tracker saw the driver do, frame by frame, as ``dmsynth track`` writes it.
    """

    def __init__(self, face: SteerableFace, driving: Path, tracker: Tracker) -> None:
        """
        Args:
            face: LivePortrait with its source (``liveportrait.steerable``).
            driving: a video of one person. As in the official code, a square one is taken whole, any other cropped to
                where the face is on average.

        Raises:
            DmsynthError: a driving video in whose first frame the face is not found.
        """
        info = probe_video(driving)
        watching = _Watching(tracker)
        self.table = track_video(driving, watching)
        if not self.table["found"].iloc[0]:
            raise DmsynthError(
                f"{driving}: frame 0: {self.table['reason'].iloc[0]}; LivePortrait moves the source by what changes "
                "since the first frame: cut the video so that it begins with one whole face"
            )
        self.face, self._driving, self.frame_rate = face, driving, info.frame_rate
        self._network: Steered = face.trained.network  # type: ignore[assignment]
        centres, sides = zip(*watching.squares, strict=True)
        whole = info.width == info.height
        self._crop = None if whole else Crop.level(np.mean(centres, axis=0), float(np.mean(sides)))

    @property
    def trained(self) -> TrainedFace:
        """LivePortrait with its source."""
        return self.face.trained

    @property
    def path(self) -> Path:
        """The checkout."""
        return self.face.path

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the frames in pixels."""
        return self.face.size

    def rows(self, seconds: float | None = None) -> NDArray[np.float64]:
        """(n, 3), for ``frames``: a row a driving frame, of the first ``seconds`` or all. ``DmsynthError`` if there are
        not so many seconds."""
        motion = Trajectory(SPACE.names, self.table["time"].to_numpy(float), np.zeros((len(self.table), SPACE.size)))
        return (motion.first(seconds, str(self._driving)) if seconds else motion).values

    def frames(self, values: NDArray[np.float64], source: Image | None = None) -> Iterator[Image]:
        """One frame for each of the first ``len(values)`` driving frames; what the rows hold, the video knows best.

        Raises ``DmsynthError`` if the driving video is shorter.
        """
        if len(values) > len(self.table):
            raise DmsynthError(
                f"{self._driving}: has {len(self.table)} frames, but {len(values)} are asked for; ask for fewer, "
                "or give a longer driving video"
            )
        appearance, _ = self.face.appearance(source)
        first: Motion | None = None
        for frame, _ in zip(read_video(self._driving), values, strict=False):
            motion = self._motion(frame.image)
            first = first or motion
            yield self._draw(appearance, motion.after(first, appearance.motion))

    @torch.inference_mode()
    def _motion(self, frame: Image) -> Motion:
        return self._network.motion(self._crop.cut(frame) if self._crop else fit(to_rgb(frame), SEEN, SEEN))

    @torch.inference_mode()
    def _draw(self, appearance: Appearance, motion: Motion) -> Image:
        picture = self._network.picture(appearance, motion.keypoints())
        pixels: Image = (picture[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        return pixels


class _Watching:
    """A tracker that also keeps where its one face was: centres and sides of LivePortrait's squares."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker, self.name = tracker, tracker.name
        self.squares: list[tuple[NDArray[np.float64], float]] = []

    def __call__(self, image: Image) -> list[Face]:
        faces = self._tracker(image)
        if why_unusable(faces, image) is None:
            self.squares.append(square(faces[0], *DRIVING_CROP)[:2])
        return faces


def open_driven(spec: FaceSpec, size: tuple[int, int] | None = None) -> Driven:
    """LivePortrait with the source and the driving video that a spec names; ``size`` as in ``liveportrait.steerable``.

    Raises ``DmsynthError`` as ``open_liveportrait`` and ``Driven``.
    """
    assert spec.driving is not None
    return Driven(open_liveportrait(spec, size), Path(spec.driving), spec.open_tracker())
