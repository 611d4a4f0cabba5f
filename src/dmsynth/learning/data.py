"""What a network is shown (thesis 3.1.1, 3.1.2): frames, their control codes, and the order in which they come."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dmsynth.controls import CONTROL_SPACES, ControlSpace
from dmsynth.controls.carried import Carried
from dmsynth.controls.coverage import Coverage, typical
from dmsynth.datasets.dataset import Dataset, nearest_to_neutral
from dmsynth.learning.batches import Batches, Stream
from dmsynth.learning.settings import Settings
from dmsynth.support.errors import DmsynthError
from dmsynth.support.parallel import map_ordered
from dmsynth.video import to_grey

_SOURCES = 96  # frames kept to steer from, by models that take several
_AREA = 320 * 240  # pixels that are learned from, where the detail is the source's
_LARGE = 1.5 * _AREA  # larger frames are made so small


@dataclass(frozen=True)
class TrainingData:
    """A dataset as a model learns from it.

    Attributes:
        space: the controls, their range fitted to the training frames.
        frames: (n, h, w) or (n, h, w, 3) uint8, as they are learned from (``learned``).
        codes: (n, k + c) float32, the control codes of all frames; the last c are carried controls.
        carried: what these hold.
        sources: (s,) numbers of the training frames that are kept to steer from.
        training: endless batches of training frames.
        validation: batches of held-out frames, one pass.
    """

    dataset: Dataset
    space: ControlSpace
    frames: NDArray[np.uint8]
    codes: NDArray[np.float32]
    carried: Carried
    sources: NDArray[np.int64]
    training: Stream
    validation: Stream

    @property
    def held_out(self) -> NDArray[np.int64]:
        """Numbers of the frames that are validated on."""
        return self.dataset.split("validation")

    @property
    def coverage(self) -> Coverage:
        """The training poses."""
        return Coverage.of(self.codes[self.dataset.split("train")], self.space.size, self.space.joint)


def prepare(dataset: Dataset, settings: Settings) -> TrainingData:
    """A dataset, ready to be learned from. ``DmsynthError`` if it has no such labels, too few frames, or is damaged."""
    recipe, batch = settings.recipe, settings.optimization.batch
    space = CONTROL_SPACES[settings.control_space]
    values, frames = dataset.controls(space, settings.labels), dataset.split("train")
    held_out = dataset.split("validation")
    if len(frames) < 2 * batch or not len(dataset.split("test")) + len(held_out):
        raise DmsynthError(f"{dataset.path}: {len(frames)} training frames are too few; make it from more material")
    dataset.check_frames()
    space = space.fitted(values[frames])
    codes, carried = space.encode(values), Carried()
    sources = np.array([nearest_to_neutral(values, frames)])
    if recipe.carries:
        names, quantities = dataset.carried(space)
        carried = Carried.fitted(names, codes[frames], quantities[frames])
        codes = np.concatenate([codes, carried.encode(names, codes, quantities)], axis=1)
        sources = steer_from(dataset, codes, carried, space)
    landmarks = dataset.landmarks() if recipe.carries else None
    begins_at = sources if recipe.carries else None
    seen = learned(dataset) if recipe.carries else dataset.frames
    at_once = max(2, min(batch, len(held_out) // 2 * 2))
    return TrainingData(
        dataset, space, seen, codes, carried, sources,
        Stream(Batches(dataset, seen, codes, frames, batch, settings.seed, begins_at, landmarks), endless=True),
        Stream(Batches(dataset, seen, codes, held_out, at_once, 0, landmarks=landmarks), endless=False),
    )  # fmt: skip


def learned(dataset: Dataset) -> NDArray[np.uint8]:
    """The frames (n, h, w) uint8 of a dataset as a network sees them that takes detail and colour from the source: in
    grey, and large ones at the area of 320×240, so that they are learned as fast as small ones. What is learned, flow,
    light and mask, is smooth."""
    width, height = size = dataset.size
    if width * height > _LARGE:
        shrink = (_AREA / (width * height)) ** 0.5
        size = max(16, round(width * shrink / 16) * 16), max(16, round(height * shrink / 16) * 16)
    elif dataset.frames.ndim == 3:
        return dataset.frames

    def small(number: int) -> NDArray[np.uint8]:
        return np.asarray(cv2.resize(to_grey(np.array(dataset.frames[number])), size, interpolation=cv2.INTER_AREA))

    return np.stack(list(map_ordered(small, range(len(dataset)))))


def steer_from(
    dataset: Dataset, codes: NDArray[np.float32], carried: Carried, space: ControlSpace
) -> NDArray[np.int64]:
    """Which frames to keep to steer from. First the most typical filmed one, both eyes rather open than closed; the
    others are of its recording, so that no steered video goes from one place or light to another."""
    frames, recordings = dataset.split("train"), dataset.labels["recording_index"].to_numpy()
    awake = frames[~dataset.posed[frames]]
    lids = [space.size + number for number, name in enumerate(carried.names) if name.startswith("blink")]
    if lids:
        blink = codes[awake][:, lids].max(axis=1)  # of the eye that is closed further: no winks either
        awake = awake[blink <= np.quantile(blink, 0.3)]
    first = nearest_to_neutral(codes.astype(float), awake)
    same = frames[recordings[frames] == recordings[first]]
    return same[typical(space.comparable(codes[same]), _SOURCES, int(np.flatnonzero(same == first)[0]))]
