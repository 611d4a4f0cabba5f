"""Whatever draws a person along a trajectory, seen alike: a trained face, LivePortrait, a video made elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dmsynth.support.errors import DmsynthError
from dmsynth.video import Image, probe_video, read_video

_SIDE_BY_SIDE = 2.5  # width over height: no camera's frame is so wide, three pictures beside each other are


class Renderer(Protocol):
    """Draws one frame for each row of controls. ``dmsynth.steering.SteerableFace`` is one."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the frames in pixels."""
        ...

    def frames(self, values: NDArray[np.float64], source: Image | None = None) -> Iterator[Image]:
        """One frame for each row of ``values`` (n, k), from ``source`` or one of the renderer's own."""
        ...


@dataclass(frozen=True)
class Recorded:
    """A result that was made elsewhere, say by LivePortrait on another machine (``--liveportrait-video``).

    Its frames belong to the rows of a trajectory by their number, not by time: LivePortrait cuts frame rates down to
    whole numbers.
    """

    path: Path
    size: tuple[int, int]

    def frames(self, values: NDArray[np.float64], source: Image | None = None) -> Iterator[Image]:
        """The first frames of the video, one for each row of ``values``; what the rows hold, the video knows best.

        Raises ``DmsynthError`` if there are fewer frames than rows.
        """
        done = 0
        for frame, _ in zip(read_video(self.path), values, strict=False):
            yield frame.image
            done += 1
        if done < len(values):
            raise DmsynthError(
                f"{self.path}: has {done} frames, but {len(values)} are commanded; make it anew with the whole "
                "driving video, or command less"
            )


def open_recorded(path: Path) -> Recorded:
    """A result made elsewhere. ``DmsynthError`` if it is no video, or shows several pictures side by side."""
    info = probe_video(path)
    if info.width > _SIDE_BY_SIDE * info.height:
        raise DmsynthError(
            f"{path}: is {info.width}×{info.height}, several pictures side by side; give the video of the result alone "
            "(LivePortrait writes it beside the one named _concat)"
        )
    return Recorded(path, (info.width, info.height))
