"""A video that was made elsewhere, for example by LivePortrait on another machine, as a renderer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dmsynth.controls import CONTROL_SPACES
from dmsynth.controls.carried import Carried
from dmsynth.controls.coverage import Coverage
from dmsynth.learning.face_file import TrainedFace
from dmsynth.steering.face import SteerableFace
from dmsynth.steering.renderer import FaceSpec
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import sha256_of
from dmsynth.video import Image, fit, probe_video, read_video, to_rgb

_SIDE_BY_SIDE = 2.5  # width over height: no camera's frame is so wide, three pictures beside each other are


class Recorded(SteerableFace):
    """A video that was made elsewhere (``recorded:VIDEO``). Nothing is drawn: its frames are used as they are, and
    every pose counts as covered.

    Frames are assigned to the rows of a trajectory by number, not by time, because LivePortrait rounds rates down.
    """

    def frames(self, values: NDArray[np.float64], *_: Any, **__: Any) -> Iterator[Image]:
        """The first frames of the video, one for each row of ``values``; the values in the rows are ignored.

        Raises ``DmsynthError`` if there are fewer frames than rows.
        """
        done = 0
        for frame, _row in zip(read_video(self.path), values, strict=False):
            yield fit(to_rgb(frame.image), *self.size)
            done += 1
        if done < len(values):
            raise DmsynthError(
                f"{self.path}: has {done} frames, but {len(values)} are commanded; make it anew with the whole "
                "driving video, or command less"
            )


def open_recorded(spec: FaceSpec, size: tuple[int, int] | None = None) -> Recorded:
    """Open a video made elsewhere; ``size`` (width, height) of its frames, by default the video's.

    Raises ``DmsynthError`` if it is no video, or shows several pictures side by side.
    """
    path, space = spec.where, CONTROL_SPACES["rotation"]
    info = probe_video(path)
    if info.width > _SIDE_BY_SIDE * info.height:
        raise DmsynthError(
            f"{path}: is {info.width}×{info.height}, several pictures side by side; give the video of the result alone "
            "(LivePortrait writes it beside the one named _concat)"
        )
    width, height = size or (info.width, info.height)
    at_rest = space.encode([space.row({})])
    nothing: Any = None
    trained = TrainedFace(
        network=nothing,
        shape={"width": width, "height": height, "channels": 3},
        model="recorded",
        space=space,
        coverage=Coverage(at_rest, float("inf"), np.zeros((1, 0), np.float32)),
        carried=Carried(),
        sources=fit(to_rgb(next(iter(read_video(path))).image), width, height)[None],
        source_codes=at_rest,
        about={
            "sha256": sha256_of(path),
            "trusted": "the video",
            "tracker": None,
            "dataset": "–",
            "steps": "–",
            "train_seconds": None,
            "settings": {"dataset_sha256": None, "labels": "tracked", "seed": "–", "precision": "–"},
        },
    )
    return Recorded(trained, path)
