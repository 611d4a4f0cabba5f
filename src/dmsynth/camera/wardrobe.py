"""Things on a head, in every frame of a video, and what they leave to be seen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dmsynth.camera.eyes import opening_areas
from dmsynth.camera.things import Drawn, Worn, draw_things
from dmsynth.support.parallel import map_ordered
from dmsynth.video import Image

Float = NDArray[np.float32]
Double = NDArray[np.float64]


class Wardrobe:
    """What a driver wears, at ``times`` (n,) in seconds; nothing if ``worn`` is empty.

    landmarks: (n, 478, 3) float32 in drawn pixels with the eyes as commanded, and ``rest``, the same with eyes at rest.
    rotation: (n, 3, 3) of the head.
    """

    def __init__(self, worn: Sequence[Worn], landmarks: Float, rest: Float, rotation: Double, times: Double) -> None:
        self.worn = tuple(worn)
        self._landmarks, self._rotation, self._times = landmarks, rotation, times
        self._opening = opening_areas(landmarks) / np.maximum(opening_areas(rest), 1e-6)
        self._left = np.ones((len(times), 3))  # what no thing hides, as far as frames are drawn

    def put_on(self, number: int, image: Image, infrared: bool) -> Drawn:
        """The drawn frame of that number, with the things."""
        drawn = draw_things(
            image, self.worn, self._landmarks[number], self._rotation[number], float(self._times[number]), infrared
        )
        self._left[number] = drawn.visible
        return drawn

    def frames(self, images: Iterable[Image]) -> Iterator[Image]:
        """Drawn frames with the things, taken by no camera."""
        return map_ordered(lambda item: self.put_on(item[0], item[1], infrared=False).image, enumerate(images))

    def truth(self) -> pd.DataFrame:
        """One row per frame, when all are drawn. ``worn``: the things that are there. ``visible_left``,
        ``visible_right``: of each eye, what is seen between the lids, 1 as at rest; ``visible_mouth`` likewise."""
        there = [" ".join(w.name for w in self.worn if w.presence(float(time)) > 0) for time in self._times]
        seen = np.round(np.column_stack([self._left[:, :2] * self._opening, self._left[:, 2]]), 3)
        return pd.DataFrame(
            {"worn": there, "visible_left": seen[:, 0], "visible_right": seen[:, 1], "visible_mouth": seen[:, 2]}
        )
