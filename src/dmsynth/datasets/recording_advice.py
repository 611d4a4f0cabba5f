"""How more of a recording becomes usable: said in plain sentences, with the ``--crop`` that helps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SMALL = 1 / 8  # of a frame's width: a smaller face has too few pixels to be learned well
_AROUND = 0.9  # of the face's size: what a crop leaves free on every side, for hair, neck and movement


@dataclass(frozen=True)
class View:
    """The part of a video that a dataset's frames show: ``left``, ``top``, ``width``, ``height`` in the video's pixels;
    ``frame`` is the video's own width and height."""

    left: int
    top: int
    width: int
    height: int
    frame: tuple[int, int]

    @property
    def is_whole(self) -> bool:
        """Whether next to nothing of the video is cut away."""
        return self.width > 0.97 * self.frame[0] and self.height > 0.97 * self.frame[1]


def advice(left_out: Mapping[str, int], boxes: NDArray[np.float64], view: View, width: int) -> list[str]:
    """What to do about the frames that were left out, by reason, and about a face that is small.

    Args:
        left_out: how many frames, by reason.
        boxes: (n, 4) left, top, right, bottom of the faces that were kept, in pixels of the dataset's frames.
        view: what those frames show.
        width: of those frames in pixels.
    """
    crop = _crop(boxes * (view.width / width) + (view.left, view.top) * 2, view) if len(boxes) else None
    named = f"--crop {crop}" if crop else "--crop LEFT,TOP,WIDTH,HEIGHT"
    said = []
    if "several faces" in left_out:
        said.append(f"several people in view: {named} around one")
    if "face at the border" in left_out:
        said.append(
            "a face is cut off by the edge of what was filmed: turn the camera so that the whole head is in view"
            if view.is_whole
            else f"a face is cut off: only {view.left},{view.top},{view.width},{view.height} of the video is used; "
            "move or widen --crop, or leave --size to the video's shape"
        )
    if "no face" in left_out:
        said.append(f"a face that turns far away or is hidden is not found; one that is small: {named} around it")
    faces = float(np.median(boxes[:, 2] - boxes[:, 0])) if len(boxes) else np.inf
    if faces < _SMALL * width and crop:
        said.append(f"the face is only {faces:.0f} of {width} pixels wide; larger and sharper: {named}")
    return said


def _crop(boxes: NDArray[np.float64], view: View) -> str | None:
    """``LEFT,TOP,WIDTH,HEIGHT`` in the video's pixels around nearly all ``boxes``; None if that is most of the view."""
    left, top = np.percentile(boxes[:, :2], 2, axis=0)
    right, bottom = np.percentile(boxes[:, 2:], 98, axis=0)
    free = _AROUND * float(np.median(boxes[:, 3] - boxes[:, 1]))
    x, y = max(0, round(left - free)), max(0, round(top - free))
    across, down = min(view.frame[0], round(right + free)) - x, min(view.frame[1], round(bottom + free)) - y
    return None if across > 0.7 * view.width and down > 0.7 * view.height else f"{x},{y},{across},{down}"
