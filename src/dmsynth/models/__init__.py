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
from dmsynth.swapping import OBJECTIVES


@dataclass(frozen=True)
class Recipe:
    """A named model: the network, its objective and the figures of the thesis it was published with.

    Attributes:
        objective: its name in ``OBJECTIVES``.
        labels: which labels are its controls unless the user says otherwise: tracked or commanded.
        latent, base_channels: of the network.
        gives_code: the controls are put into the latent and never encoded (Swap-Direct).
    """

    description: str
    network: Callable[..., Autoencoder]
    control_space: str
    objective: str
    labels: str
    latent: int
    base_channels: int
    gives_code: bool = False


RECIPES: dict[str, Recipe] = {
    "rotation": Recipe(
        description="the thesis's rotation model (4.2): Fig. 3.1's autoencoder, swap position encoding",
        network=Autoencoder,
        control_space="rotation",
        objective="SPE",
        labels="tracked",
        latent=8,
        base_channels=64,
    ),
} | {
    f"position-{name.lower().replace(' ', '-')}": Recipe(
        description=f"a position model of the thesis (3.1): Fig. 3.1's autoencoder, {name}",
        network=Autoencoder,
        control_space="position",
        objective=name,
        labels="commanded",
        latent=32,
        base_channels=64,
        gives_code=name == "SD",
    )
    for name in OBJECTIVES
}
