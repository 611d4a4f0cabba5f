"""What is learned: the networks, by name.

A model is a ``torch.nn.Module`` with these methods,

    encode(images (n, channels, height, width), code (n, k) or None) → appearance
    steer(appearance (1 or n), code (n, k)) → images of that appearance at those controls, in [0, 1]
    decode(appearance)                      → the images themselves
    controls(appearance)                    → (n, k or more): what the encoder takes their controls for

and an objective that trains it (``dmsynth.learning.swapping``). Adding one is one entry here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dmsynth.learning.autoencoder import Autoencoder
from dmsynth.learning.swapping import OBJECTIVES
from dmsynth.learning.swapwarp import SwapWarp

Model = Autoencoder | SwapWarp


@dataclass(frozen=True)
class Recipe:
    """A named model: the network, its objective and the figures it was published with.

    Attributes:
        objective: its name in ``OBJECTIVES``.
        control_space: what it steers; None: what the dataset shows.
        labels: which labels are its controls unless the user says otherwise: tracked or commanded; None: the dataset's.
        base_channels: of the network.
        latent: length of the latent vector; None for a model that has none.
        gives_code: the controls are put into the latent and never encoded (Swap-Direct).
        optimization: the one it is trained with unless the user says otherwise (``OPTIMIZATIONS``).
        carries: whether it is taught with all that a dataset knows: carried controls (``controls.carried``),
            landmarks, and which frames will be steered from.
        steps: how long it is trained at least unless the user says otherwise; then it ends by itself
            (``Optimization.hold``). None: the thesis's 1000 epochs.
        coarse_until: for networks that take images of any size: which share of the training sees them at a quarter of
            their size, and which share is over when they are first seen in full. Small images are quick to learn
            large movements from.
        window: for the same networks: the share of width and height, about the head, that a step at full size draws
            and compares. Every step sees another part; it saves a third of the time and costs no quality
            (docs/swapwarp.md).
    """

    description: str
    network: Callable[..., Model]
    objective: str
    base_channels: int
    control_space: str | None = None
    labels: str | None = None
    latent: int | None = None
    gives_code: bool = False
    optimization: str = "stable"
    carries: bool = False
    steps: int | None = None
    coarse_until: tuple[float, float] = (0.0, 0.0)
    window: float = 1.0


RECIPES: dict[str, Recipe] = {
    "swapwarp": Recipe(
        description="the source frame, warped: sharp and fast, learned in minutes",
        network=SwapWarp,
        objective="SwapWarp",
        base_channels=16,
        optimization="warp",
        carries=True,
        steps=3000,
        coarse_until=(0.15, 0.45),
        window=0.6,
    ),
    "rotation": Recipe(
        description="the thesis's rotation model (4.2): Fig. 3.1's autoencoder, swap position encoding",
        network=Autoencoder,
        objective="SPE",
        control_space="rotation",
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
    if not name.startswith("SwapWarp")
}
