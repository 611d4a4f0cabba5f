"""What is learned: the networks, by name.

A model is a ``torch.nn.Module`` made from width, height, channels, latent and base_channels, with three methods,

    encode(images (n, channels, height, width)) → latent (n, d), its first entries the control code
    decode(latent (n, d))                       → images (n, channels, height, width) in [0, 1]
    steer(latent (1 or n, d), code (n, k))      → images of that appearance at those controls

and an objective that trains it (``dmsynth.swapping``). Adding one is one entry here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dmsynth.models.autoencoder import Autoencoder
from dmsynth.swapping import Objective, swap_position_encoding


@dataclass(frozen=True)
class Recipe:
    """A named model: the network, its objective and the figures of the thesis it was published with."""

    description: str
    network: Callable[..., Autoencoder]
    control_space: str
    objective: Objective
    latent: int
    base_channels: int
    batch: int
    learning_rate: float


RECIPES: dict[str, Recipe] = {
    "rotation": Recipe(
        description="the thesis's rotation model (4.2): Fig. 3.1's autoencoder, swap position encoding",
        network=Autoencoder,
        control_space="rotation",
        objective=swap_position_encoding,
        latent=8,
        base_channels=64,
        batch=4,
        learning_rate=5e-4,
    ),
}
