"""The swap, and the objectives built on it: those of the thesis's third chapter, one below the other (3.1.3 to 3.1.6),
and SwapWarp's.

An objective takes the network, a batch of images (n, channels, height, width) in [0, 1] and their true control code
(n, k) in [0, 1], and returns named losses whose sum is minimized. The latent's first k entries are the control code,
the rest is the appearance code. ``n`` is even where neighbours are swapped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class Network(Protocol):
    """What an objective needs of a model."""

    def encode(self, images: Tensor) -> Tensor: ...

    def decode(self, latent: Tensor) -> Tensor: ...


class WarpingNetwork(Protocol):
    """What SwapWarp's objective needs of a model (``dmsynth.learning.swapwarp``)."""

    def encode(self, images: Tensor, code: Tensor | None = None) -> Any: ...

    def draw(self, appearance: Any, code: Tensor, window: Window | None = None) -> Any: ...

    def follow(self, points: Tensor, code: Tensor, into: Tensor) -> Tensor: ...

    def on_common(self, appearance: Any) -> Tensor: ...


Window = tuple[slice, slice]  # rows and columns of an image, in pixels

Objective = Callable[..., dict[str, Tensor]]


def swap(batch: Tensor) -> Tensor:
    """Exchange neighbours along the batch: 1 ↔ 2, 3 ↔ 4, … (n, …) → (n, …). ``n`` must be even."""
    return batch.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)


def reconstruction(network: Network, images: Tensor, code: Tensor) -> dict[str, Tensor]:
    """R (Fig. 3.3): decode what was encoded. Nothing says what the latent's entries mean."""
    output = network.decode(network.encode(images))
    return {"reconstruction": F.mse_loss(output, images)}


def reconstruction_position_encoding(network: Network, images: Tensor, code: Tensor) -> dict[str, Tensor]:
    """RPE (Fig. 3.4): R, and the encoder learns the control code. Nothing makes the decoder listen to it."""
    latent = network.encode(images)
    encoded = latent[:, : code.shape[1]]
    output = network.decode(latent)
    return {"reconstruction": F.mse_loss(output, images), "control": F.mse_loss(encoded, code)}


def swap_position_encoding(network: Network, images: Tensor, code: Tensor) -> dict[str, Tensor]:
    """SPE (Fig. 3.5): the encoder learns the control code, and decoding with the neighbour's code must give the
    image that the neighbour's code belongs to. Of one person in one place, that is the neighbour's image."""
    latent = network.encode(images)
    encoded, appearance = latent[:, : code.shape[1]], latent[:, code.shape[1] :]
    output = network.decode(torch.cat([swap(encoded), appearance], dim=1))
    return {"swap": F.mse_loss(output, swap(images)), "control": F.mse_loss(encoded, code)}


def swap_direct(network: Network, images: Tensor, code: Tensor) -> dict[str, Tensor]:
    """SD (Fig. 3.6): SPE with the true code put in place of the encoded one. There is no code left to learn."""
    appearance = network.encode(images)[:, code.shape[1] :]
    output = network.decode(torch.cat([swap(code), appearance], dim=1))
    return {"swap": F.mse_loss(output, swap(images))}


def position_only(network: Network, images: Tensor, code: Tensor) -> dict[str, Tensor]:
    """The control experiment (Fig. 3.13): the encoder learns the control code and nothing else."""
    encoded = network.encode(images)[:, : code.shape[1]]
    return {"control": F.mse_loss(encoded, code)}


def swap_warp(
    network: WarpingNetwork,
    images: Tensor,
    code: Tensor,
    landmarks: Tensor | None = None,
    window: Window | None = None,
) -> dict[str, Tensor]:
    """SwapWarp: SD with the source frame itself as its appearance, moved until it is the neighbour's image.

    The warped source alone must already match the neighbour; otherwise the last layers would paint what should be
    warped. The encoder learns to estimate the code, for source frames without a tracked pose. With ``landmarks``
    (n, points, 2; shares of the image) the maps must carry each frame's landmarks onto every other's: this teaches
    large movements, for which pixels give no gradient until they nearly overlap. With a ``window`` only that part of
    the images is drawn and compared.
    """
    appearance = network.encode(images, code)
    drawing = network.draw(appearance, swap(code), window)
    wanted_images = swap(images) if window is None else swap(images)[..., window[0], window[1]]
    losses = {
        "swap": pyramid_loss(drawing.image, wanted_images),
        "detail": 0.5 * local_contrast_loss(drawing.image, wanted_images),
        "warp": 0.5 * pyramid_loss(drawing.warped, wanted_images),
        "control": F.mse_loss(appearance.estimate, code),
    }
    if landmarks is not None:
        others = len(code) - 1
        into, wanted = (torch.cat([each.roll(n, 0) for n in range(1, others + 1)]) for each in (code, landmarks))
        followed = network.follow(landmarks.repeat(others, 1, 1), code.repeat(others, 1), into)
        losses["landmarks"] = 0.3 * (followed - wanted).abs().mean()
    return losses


def swap_warp_transfer(
    network: WarpingNetwork,
    images: Tensor,
    code: Tensor,
    landmarks: Tensor | None,
    driving: Tensor,
    window: Window | None = None,
) -> dict[str, Tensor]:
    """SwapWarp for several people, with VASA-1's transfer of motion (Xu et al. 2024, 3.1; thesis 2.1): drawn with other
    people's controls ``driving`` (n, k), a person must show these controls and stay the same person.

    No frame shows that, so the network judges itself: its encoder must read the controls, and two such fakes of one
    source frame under the controls of two others must look alike where they show the same part of the common face.
    """
    losses = swap_warp(network, images, code, landmarks, window)
    half = len(images) // 2
    source = network.encode(images[:half], code[:half])
    fakes = [network.draw(source, controls).image for controls in driving.split(half)[:2]]
    seen = [network.encode(fake, controls) for fake, controls in zip(fakes, driving.split(half), strict=False)]
    read = [F.mse_loss(one.estimate, controls) for one, controls in zip(seen, driving.split(half), strict=False)]
    one, other = (network.on_common(each) for each in seen)
    return losses | {"transfer": torch.stack(read).mean(), "identity": 0.1 * F.l1_loss(one, other)}


def pyramid_loss(one: Tensor, other: Tensor, scales: int = 4) -> Tensor:
    """L1 loss between images (n, c, h, w) and their gradients on a pyramid of sizes, from full to an eighth: coarse
    levels give a gradient where the images are still far apart."""
    differences = [one - other]
    while len(differences) < scales and min(differences[-1].shape[-2:]) >= 4:
        differences.append(F.avg_pool2d(differences[-1], 2))
    each = [d.abs().mean() + d.diff(dim=-1).abs().mean() + d.diff(dim=-2).abs().mean() for d in differences]
    return torch.stack(each).mean()


def local_contrast_loss(one: Tensor, other: Tensor, patch: int = 8) -> Tensor:
    """L1 loss between the local contrast of images (n, c, h, w): the standard deviation of fine detail in each patch,
    wherever exactly the detail lies. A pixel loss alone rewards blur where a hair may lie half a pixel off."""

    def strength(images: Tensor) -> Tensor:
        fine = images - F.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
        return (F.avg_pool2d(fine.square(), patch) + 1e-6).sqrt()

    return (strength(one) - strength(other)).abs().mean()


OBJECTIVES: dict[str, Objective] = {
    "R": reconstruction,
    "RPE": reconstruction_position_encoding,
    "SPE": swap_position_encoding,
    "SD": swap_direct,
    "position only": position_only,
    "SwapWarp": swap_warp,
    "SwapWarp, transfer": swap_warp_transfer,
}
"""By the thesis's names. Another objective is a function above and an entry here."""

ENCODED = ("RPE", "SPE", "position only")
"""Those of chapter 3 whose encoder learns the control code."""
