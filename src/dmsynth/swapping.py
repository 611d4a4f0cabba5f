"""The swap, and the objectives built on it (thesis 3.1.5).

An objective takes the network, a batch of images (n, channels, height, width) in [0, 1] and their true control code
(n, k) in [0, 1], and returns named losses whose sum is minimized. The latent's first k entries are the control code,
the rest is the appearance code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class Network(Protocol):
    """What an objective needs of a model."""

    def encode(self, images: Tensor) -> Tensor: ...

    def decode(self, latent: Tensor) -> Tensor: ...


Objective = Callable[[Network, Tensor, Tensor], dict[str, Tensor]]


def swap(batch: Tensor) -> Tensor:
    """Exchange neighbours along the batch: 1 ↔ 2, 3 ↔ 4, … (n, …) → (n, …). ``n`` must be even."""
    return batch.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)


def swap_position_encoding(network: Network, images: Tensor, code: Tensor) -> dict[str, Tensor]:
    """SPE (Fig. 3.5): the encoder learns the control code, and decoding with the neighbour's code must give the
    image that the neighbour's code belongs to. Of one person in one place, that is the neighbour's image."""
    latent = network.encode(images)
    encoded, appearance = latent[:, : code.shape[1]], latent[:, code.shape[1] :]
    output = network.decode(torch.cat([swap(encoded), appearance], dim=1))
    return {"swap": F.mse_loss(output, swap(images)), "control": F.mse_loss(encoded, code)}
