"""The convolutional autoencoder of the thesis, Figure 3.1."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dmsynth.support.errors import DmsynthError

LAYERS = 4  # each halves the image's sides


class Autoencoder(nn.Module):
    """Four convolutions that halve the image and double the feature maps, a linear layer to the latent vector,
    and the same backwards with transposed convolutions (thesis, Fig. 3.1: 64-128-256-512).

    The thesis does not name kernel size or activations: kernel 4 with stride 2 halves exactly, ReLU between the
    layers, and a sigmoid at the end keeps the image in [0, 1].

    Args:
        width, height: of the images in pixels, each divisible by 16.
        channels: 1 for grey, 3 for RGB.
        latent: entries of the latent vector, the control code's included.
        base_channels: feature maps after the first layer.
        given: how many of the latent's first entries are always given from outside, so that the encoder need not
            make them (Swap-Direct, 3.1.6). Where all are given, there is no encoder.
    """

    def __init__(
        self, width: int, height: int, channels: int = 1, latent: int = 8, base_channels: int = 64, given: int = 0
    ) -> None:
        super().__init__()
        self.given = given
        if width % 2**LAYERS or height % 2**LAYERS or min(width, height) <= 0:
            raise DmsynthError(f"image size {width}×{height}: width and height must be divisible by {2**LAYERS}")
        maps = [channels, *(base_channels * 2**layer for layer in range(LAYERS))]
        small = (maps[-1], height // 2**LAYERS, width // 2**LAYERS)
        flat = small[0] * small[1] * small[2]

        encoder: list[nn.Module] = []
        for before, after in pairwise(maps):
            encoder += [nn.Conv2d(before, after, kernel_size=4, stride=2, padding=1), nn.ReLU()]
        to_latent = nn.Linear(flat, latent - given) if latent > given else None
        self.encoder = nn.Sequential(*encoder, nn.Flatten(), to_latent) if to_latent else None

        decoder: list[nn.Module] = [nn.Linear(latent, flat), nn.Unflatten(1, small)]
        for before, after in pairwise(reversed(maps)):
            decoder += [nn.ReLU(), nn.ConvTranspose2d(before, after, kernel_size=4, stride=2, padding=1)]
        self.decoder = nn.Sequential(*decoder, nn.Sigmoid())

    def encode(self, images: Tensor, code: Tensor | None = None) -> Tensor:
        """(n, channels, height, width) in [0, 1] → (n, latent); entries that are given stay 0.

        ``code``, the images' own controls, is what other models want to know; the thesis's does not.
        """
        if self.encoder is None:
            return images.new_zeros(len(images), self.given)
        latent: Tensor = self.encoder(images)
        return F.pad(latent, (self.given, 0)) if self.given else latent

    def decode(self, latent: Tensor) -> Tensor:
        """(n, latent) → (n, channels, height, width) in [0, 1]."""
        images: Tensor = self.decoder(latent)
        return images

    def steer(self, latent: Tensor, code: Tensor) -> Tensor:
        """Images (n, …) of ``latent`` (1 or n, d) with its first entries replaced by ``code`` (n, k) (thesis 4.2)."""
        appearance = latent[:, code.shape[1] :].expand(len(code), -1)
        return self.decode(torch.cat([code, appearance], dim=1))

    def controls(self, latent: Tensor) -> Tensor:
        """(n, latent) → (n, latent): the control code comes first, as encoded."""
        return latent


def init_decoder(network: Autoencoder) -> None:
    """Give a new network's decoder weights that keep the signal's size from layer to layer (He et al. 2015).

    The thesis names no initialization; with PyTorch's own the signal shrinks on its way to the image. The encoder
    keeps PyTorch's: there the larger weights only make the control code noisier (docs/stable-training.md).
    """
    for layer in network.decoder:
        if isinstance(layer, nn.ConvTranspose2d):
            # each output pixel sums (kernel / stride)² = 4 weights of every input map
            nn.init.normal_(layer.weight, std=math.sqrt(2 / (4 * layer.in_channels)))
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
    # The decoder's first layer has few inputs, between 0 and 1: its ReLUs bend at points spread over that cube, so
    # that what it draws can depend on the controls from the first step on.
    to_maps = network.decoder[0]
    assert isinstance(to_maps, nn.Linear)
    nn.init.normal_(to_maps.weight, std=min(1.0, math.sqrt(8 / to_maps.in_features)))  # many inputs must not add up
    with torch.no_grad():
        to_maps.bias.copy_(-(to_maps.weight * torch.rand_like(to_maps.weight)).sum(dim=1))


def begin_as_bright(network: Autoencoder, brightness: float) -> None:
    """Let a new network draw images about as bright as its dataset's, whose mean is ``brightness`` (0 to 1).

    With PyTorch's bias they are grey. Before a bright wall all first steps then go one way and far beyond it, until
    everything is as bright as the wall. There the sigmoid is flat, and decoders stay (docs/reproduction-position.md).
    """
    last = network.decoder[-2]
    assert isinstance(last, nn.ConvTranspose2d) and last.bias is not None
    bounded = min(max(brightness, 0.01), 0.99)  # images that are all black or white have no finite bias
    nn.init.constant_(last.bias, math.log(bounded / (1 - bounded)))


Network = TypeVar("Network", bound=nn.Module)


def channels_last(network: Network) -> Network:
    """The network with its weights laid out channels last: faster convolutions on every device measured."""
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
