"""Learned small, drawn large: a network that learned from small grey frames draws its source frames in full.

Flow, light and mask are smooth, so a small network's serve at any size; detail and colour are the source's own. The
large source frame is fetched along the enlarged flow, and what the network changes besides is added to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dmsynth.learning.swapwarp import REACH, Appearance, Drawing, SwapWarp, correction, resized, warp
from dmsynth.video import Image, to_grey


@dataclass(frozen=True)
class Detailed:
    """A source frame as it is, grey or RGB uint8, and encoded as the network sees it."""

    picture: Image
    appearance: Appearance


class DetailedNetwork(nn.Module):
    """A SwapWarp network in the shape of a model (``learning.models``) whose pictures have a ``size`` (width, height)
    of their own. Other shapes than the source frames' are cut out of the middle."""

    def __init__(self, network: SwapWarp, learned: tuple[int, int], size: tuple[int, int]) -> None:
        super().__init__()
        self.network, self.learned, self.size = network, learned, size

    def encode(self, images: Tensor, code: Tensor | None = None) -> Detailed:
        """A source frame (1, channels, h, w) in [0, 1] of any size."""
        pixels = (images[0] * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        picture = np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
        seen = torch.from_numpy(self.small(picture))[None, None].float() / 255
        return Detailed(picture, self.network.encode(seen.to(images.device), code))

    def small(self, picture: Image) -> Image:
        """A source frame as the network sees it."""
        return np.asarray(cv2.resize(to_grey(picture), self.learned, interpolation=cv2.INTER_AREA), np.uint8)

    def steer(self, source: Detailed, code: Tensor) -> Tensor:
        """Pictures (n, channels, h, w) uint8 of that source at control codes (n, k)."""
        return self.enlarged(self.draw(source, code), [source.picture] * len(code))

    def draw(self, source: Detailed, code: Tensor) -> Drawing:
        """What the network makes of it, small and step by step."""
        return self.network.draw(source.appearance.expand(len(code)), code)

    def decode(self, source: Detailed) -> Tensor:
        """The source at its own controls."""
        return self.steer(source, source.appearance.code)

    def controls(self, source: Detailed) -> Tensor:
        """The encoder's estimate of the source's controls, (1, k)."""
        return self.network.controls(source.appearance)

    def enlarged(self, drawing: Drawing, pictures: list[Image], counts: NDArray[np.float32] | None = None) -> Tensor:
        """What the network draws (n) from source frames as ``pictures`` (n), in full: (n, channels, h, w) uint8.
        ``counts`` (n, h, w) in [0, 1]: of a source's own size, where only the flow moves it, with no change of the
        network's."""
        change, flow = correction(drawing), drawing.flow.float()
        if counts is not None:
            there = resized(torch.from_numpy(counts)[:, None], change.shape[-2:]).to(change.device)
            change = change * (1 - warp(there, resized(flow, change.shape[-2:])))
        parts = zip(pictures, _in_numpy(flow), _in_numpy(change), strict=True)
        drawn = np.stack([self._picture(picture, *maps) for picture, *maps in parts])
        return torch.from_numpy(drawn if drawn.ndim == 4 else drawn[..., None]).permute(0, 3, 1, 2)

    def _picture(self, picture: Image, flow: NDArray[np.float32], change: NDArray[np.float32]) -> Image:
        """One picture from its source, a flow (h / 4, w / 4, 2) and a change of light (h, w)."""
        high, wide = picture.shape[:2]
        steps = self._placed(flow, (wide, high)) * np.array([REACH * wide, REACH * high], np.float32)
        (begin, step), (top, down) = self._axes((wide, high))
        x = steps[..., 0] + np.float32(begin) + np.float32(step) * np.arange(self.size[0], dtype=np.float32)
        y = steps[..., 1] + np.float32(top) + np.float32(down) * np.arange(self.size[1], dtype=np.float32)[:, None]
        moved = cv2.remap(picture, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        light = (self._placed(change, (wide, high)) * 255).round().astype(np.int16)
        light = light if picture.ndim == 2 else cv2.merge([light] * 3)
        return np.asarray(cv2.add(moved, light, dtype=cv2.CV_8U), np.uint8)

    def _axes(self, source: tuple[int, int]) -> list[tuple[float, float]]:
        """Of x and y: where the first pixel of a picture lies in a source frame of that (width, height) that does not
        move, and the step from one to the next, in its pixels."""
        scale = max(own / theirs for own, theirs in zip(self.size, source, strict=True))
        return [
            ((theirs - 1 - (own - 1) / scale) / 2, 1 / scale) for own, theirs in zip(self.size, source, strict=True)
        ]

    def _placed(self, maps: NDArray[np.float32], source: tuple[int, int]) -> NDArray[np.float32]:
        """Maps (h, w) or (h, w, c) of a whole source frame of that (width, height) at the pixels of the picture."""
        matrix = np.zeros((2, 3))
        axes = zip(self._axes(source), maps.shape[1::-1], source, strict=True)
        for axis, ((begin, step), own, theirs) in enumerate(axes):
            matrix[axis, axis], matrix[axis, 2] = step * own / theirs, (begin + 0.5) * own / theirs - 0.5
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return np.asarray(cv2.warpAffine(maps, matrix, self.size, flags=flags, borderMode=cv2.BORDER_REPLICATE))


def _in_numpy(maps: Tensor) -> NDArray[np.float32]:
    """(n, c, h, w) → (n, h, w, c), or (n, h, w) of one channel."""
    found: Any = maps.permute(0, 2, 3, 1).cpu().numpy()
    return np.ascontiguousarray(found[..., 0] if found.shape[-1] == 1 else found)
