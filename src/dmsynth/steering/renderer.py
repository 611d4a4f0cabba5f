"""What draws a commanded head, and how it is named.

A renderer has one name that every command and the cockpit understand:

    starter, FILE.safetensors        a trained face
    liveportrait:DIR                 LivePortrait, from its official checkout, moving a ``source`` picture
    liveportrait-driven:DIR          the same as published: it follows a driving video, not commanded poses
    recorded:VIDEO                   a video that was made elsewhere

``dmsynth.steering.open_renderer`` opens them. One more is one file and one entry there (``docs/architecture.md``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dmsynth.learning.face_file import TrainedFace
from dmsynth.trackers import TrackerPool, open_tracker
from dmsynth.video import Image

FACE = "face"


class Renderer(Protocol):
    """Draws one frame for each row of controls. ``SteerableFace`` is one."""

    @property
    def trained(self) -> TrainedFace:
        """What it is: its controls, which of them it covers, its source frames, and where it comes from."""
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
    """A renderer that takes no commands: it was opened with a driving video, and draws what happens there."""

    table: pd.DataFrame
    frame_rate: float

    def rows(self, seconds: float | None = None) -> NDArray[np.float64]:
        """(n, k), for ``frames``: a row a frame of the video's first ``seconds``, or of all of it; ``table`` says what
        happens in each. ``DmsynthError`` if there are not so many seconds."""
        ...


@dataclass(frozen=True)
class FaceSpec:
    """Which renderer plays the driver, as data: another process opens the same.

    Attributes:
        face: its name (see above).
        source: the picture that it moves: a picture, VIDEO@N or DATASET@N; a trained face has frames of its own.
        tracker, tracker_model: who finds the face in that picture.
        device: where a trained face is drawn (``machine.device_of``); LivePortrait takes a GPU where there is one.
        one_source: whether a trained face keeps only the most typical of its own source frames.
        driving: the video that a renderer follows which takes no commands.
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
        """Of a face's file, or of ``starter``; wherever it is opened."""
        return FaceSpec(str(face.resolve()) if face.is_file() else str(face), device=device)

    @property
    def kind(self) -> str:
        """Which kind of renderer its name says: what stands before the colon, or a trained face."""
        kind, colon, _ = self.face.partition(":")
        return kind if colon and not Path(self.face).exists() else FACE

    @property
    def where(self) -> Path:
        """The file or folder that its name says."""
        return Path(self.face if self.kind == FACE else self.face.partition(":")[2])

    def open_tracker(self) -> TrackerPool:
        """Who finds the face in the source."""
        return open_tracker(self.tracker, Path(self.tracker_model) if self.tracker_model else None)
