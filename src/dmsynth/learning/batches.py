"""What training is fed with: pairs of frames from a memory map, in an order that survives an interruption."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import KDTree
from torch import Tensor

from dmsynth.datasets.dataset import Dataset

Batch = tuple[Tensor, ...]  # images (n, channels, h, w), codes (n, k) and, where there are any, landmarks (n, p, 2)


class Batches:
    """Batches of frames from a memory map. Which frames batch number ``n`` holds is decided by the seed and ``n``
    alone, so a run that starts at batch ``n`` sees what an unbroken one would have seen.

    The neighbours that the swap exchanges come from one recording: the appearance they share, place and light
    included, is what makes one's code with the other's appearance code the one's image.

    Args:
        frames: those of the dataset, as they are learned from (``data.learned``).
        sources: frames that will be steered from. Half of all pairs begin at one: the first, or the nearest by code.
        landmarks: as ``Dataset.landmarks`` gives them, for objectives that use them.
    """

    def __init__(
        self,
        dataset: Dataset,
        frames: NDArray[np.uint8],
        codes: NDArray[np.float32],
        indices: NDArray[np.int64],
        batch: int,
        seed: int,
        sources: NDArray[np.int64] | None = None,
        landmarks: NDArray[np.float32] | None = None,
    ) -> None:
        self._frames, self._codes, self._batch, self._seed = frames, codes, batch, seed
        self._landmarks = landmarks
        recording = dataset.labels["recording_index"].to_numpy()
        self._recordings = [indices[recording[indices] == which] for which in np.unique(recording[indices])]
        self._first = None if sources is None else sources[0]
        if sources is not None:
            self._nearest = sources[KDTree(codes[sources]).query(codes)[1]]
            self._has_sources = recording == recording[sources[0]]
        self._order = lru_cache(maxsize=1)(self._shuffled)

    @property
    def per_pass(self) -> int:
        """Batches in one pass over the frames; a remainder smaller than a batch sits out the pass."""
        return sum(len(recording) // 2 for recording in self._recordings) * 2 // self._batch

    def _shuffled(self, past: int) -> NDArray[np.int64]:
        """The frames in the order of pass number ``past``."""
        random = np.random.default_rng((self._seed, past))
        pairs = np.concatenate(
            [random.permutation(frames)[: len(frames) // 2 * 2].reshape(-1, 2) for frames in self._recordings]
        )
        if self._first is not None:
            kind = np.where(self._has_sources[pairs[:, 1]], random.integers(0, 4, len(pairs)), 3)
            pairs[kind == 0, 0] = self._first
            pairs[kind == 1, 0] = self._nearest[pairs[kind == 1, 1]]
        return random.permutation(pairs).ravel()

    def codes(self, number: int) -> Tensor:
        """The codes of batch ``number``."""
        return torch.from_numpy(self._codes[self._chosen(number)])

    def _chosen(self, number: int) -> NDArray[np.int64]:
        past, position = divmod(number, self.per_pass)
        return self._order(past)[position * self._batch : (position + 1) * self._batch]

    def __call__(self, number: int) -> Batch:
        """Batch ``number``: images in [0, 1] and codes, and landmarks in shares of the image."""
        chosen = self._chosen(number)
        batch = to_network(self._frames[chosen]), torch.from_numpy(self._codes[chosen])
        return batch if self._landmarks is None else (*batch, torch.from_numpy(self._landmarks[chosen]))


class Numbered(Protocol):
    """Batches by number."""

    @property
    def per_pass(self) -> int: ...

    def __call__(self, number: int) -> Batch: ...


class Stream:
    """Batches one after the other for Lightning, from ``start`` on: endless, or one pass. Where several processes train
    together, an endless stream deals its batches out among them."""

    def __init__(self, batches: Numbered, endless: bool) -> None:
        self.batches, self.endless, self.start = batches, endless, 0

    def __iter__(self) -> Iterator[Batch]:
        together = self.endless and torch.distributed.is_available() and torch.distributed.is_initialized()
        mine, all_of_us = (torch.distributed.get_rank(), torch.distributed.get_world_size()) if together else (0, 1)
        number = self.start
        while self.endless or number < self.batches.per_pass:
            yield self.batches(number * all_of_us + mine)
            number += 1


def to_network(frames: NDArray[np.uint8]) -> Tensor:
    """(n, h, w) or (n, h, w, 3) uint8 → (n, channels, h, w) float32 in [0, 1], channels last in memory."""
    images = torch.from_numpy(np.ascontiguousarray(frames, np.float32)).div_(255)
    images = images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2)
    return images.contiguous(memory_format=torch.channels_last)
