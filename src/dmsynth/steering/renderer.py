"""Renderers: whatever draws a commanded head. Each has one name that every command and the cockpit accept:

    starter, FILE.safetensors        a trained face
    FILE.safetensors#NAME            a person of a cast
    liveportrait:DIR                 LivePortrait, from its official checkout, moving a ``source`` picture
    liveportrait-driven:DIR          the same as published: it follows a driving video, not commanded poses
    posed:PICTURE                    a portrait photo, posed
    posed:DATASET                    the filmed frames of a dataset, each posed like a photo
    recorded:VIDEO                   a video that was made elsewhere

``dmsynth.steering.open_renderer`` opens them. To add one: one file and one entry there (``docs/architecture.md``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dmsynth.learning.face_file import TrainedFace, located
from dmsynth.trackers import TrackerPool, open_tracker
from dmsynth.video import Image
from dmsynth.video.pictures import is_picture

FACE = "face"
PORTRAIT = "portrait"
"""In place of a picture's path: the portrait that comes with dmsynth."""


class Renderer(Protocol):
    """Draws one frame for each row of controls. ``SteerableFace`` is one."""

    @property
    def trained(self) -> TrainedFace:
        """Its control space, coverage, source frames and origin."""
        ...

    @property
    def path(self) -> Path:
        """The file or folder that it was opened from."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the frames in pixels."""
        ...

    def frames(self, values: NDArray[np.float64], source: Image | None = None) -> Iterator[Image]:
        """One frame for each row of ``values`` (n, k), from ``source`` or one of the renderer's own."""
        ...


class VideoFollower(Renderer, Protocol):
    """A renderer that takes no commands: it was opened with a driving video and reproduces its motion."""

    table: pd.DataFrame
    frame_rate: float

    def rows(self, seconds: float | None = None) -> NDArray[np.float64]:
        """(n, k), for ``frames``: one row per frame of the first ``seconds``, or of all. ``table`` has the
        tracked pose of each. ``DmsynthError`` if the video is shorter."""
        ...


def is_portrait(face: Path) -> bool:
    """Whether a face's name is that of a picture, or ``portrait``."""
    return (face.is_file() and is_picture(face)) or (str(face) == PORTRAIT and not face.exists())


@dataclass(frozen=True)
class FaceSpec:
    """Which renderer to open, as data that can be sent to another process.

    Attributes:
        face: its name (see above).
        source: the source frame: a picture, VIDEO@N or DATASET@N; a trained face has source frames of its own.
        tracker, tracker_model: the tracker that finds the face in the source.
        device: where a trained face is drawn (``machine.device_of``); LivePortrait takes a GPU where there is one.
        one_source: whether a trained face uses only the most typical of its own source frames.
        driving: the driving video, for a renderer that takes no commands.
    """

    face: str
    source: str | None = None
    tracker: str = "auto"
    tracker_model: str | None = None
    device: str = "cpu"
    one_source: bool = False
    driving: str | None = None

    @staticmethod
    def of(face: Path, device: str = "cpu") -> FaceSpec:
        """The spec of a face file or of a person in a cast's (as an absolute path), or of ``starter``."""
        file, person = located(face)
        if str(face) == "starter" or not file.is_file():
            return FaceSpec(str(face), device=device)
        return FaceSpec(f"{file.resolve()}#{person}" if person else str(file.resolve()), device=device)

    @property
    def kind(self) -> str:
        """The kind of renderer: the part of the name before the colon, or ``face``."""
        kind, colon, _ = self.face.partition(":")
        return kind if colon and not Path(self.face).exists() else FACE

    @property
    def where(self) -> Path:
        """The file or folder in the name."""
        return Path(self.face if self.kind == FACE else self.face.partition(":")[2])

    def open_tracker(self) -> TrackerPool:
        """The tracker that finds the face in the source."""
        return open_tracker(self.tracker, Path(self.tracker_model) if self.tracker_model else None)
