"""Drawn eyes as a table of pictures, for programs that run a face without Python (``steering.export``)."""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dmsynth.controls import EYES, EYES_RANGE, HEAD, ControlSpace
from dmsynth.datasets.eye_posing import WIDEST, Eyes
from dmsynth.learning.swapwarp import Appearance, SwapWarp
from dmsynth.steering.painted_eyes import WHOLLY_DRAWN, Seen, eye_codes, with_moved_eyes, without_eyes
from dmsynth.support.parallel import map_ordered
from dmsynth.video import to_rgb

_STEP = 5.0  # degrees: half a pixel of an iris's way at 320×240; between two pictures it is nearly linear
_SAME = 1e-4  # of a code's range: another program's sums may differ
_OPENINGS = (0.0, 0.06, 0.12, 0.18, 0.25, 0.32, 0.4, 0.5, 0.6, 0.75, 0.9, 1.0, WIDEST)


class BakedEyes(nn.Module):
    """The eyes of one source frame, drawn beforehand in all gazes and openings; between them linear."""

    pitches: Tensor
    yaws: Tensor
    openings: Tensor
    source: Tensor
    own: Tensor
    wholly: Tensor

    def __init__(self, seen: Seen) -> None:
        super().__init__()
        pitches, yaws = (np.arange(-most, most + 1, _STEP) for most in EYES_RANGE)
        grids = [pitches, yaws, np.array(_OPENINGS)]
        for name, grid in zip(("pitches", "yaws", "openings"), grids, strict=True):
            self.register_buffer(name, torch.from_numpy(grid).float())
        image = to_rgb(seen.image) if seen.image.ndim == 3 else seen.image[..., None]
        source = np.concatenate([image.transpose(2, 0, 1) / np.float32(255), seen.region[None]])
        self.register_buffer("source", torch.from_numpy(source.astype(np.float32))[None])
        self.register_buffer("own", torch.from_numpy(seen.own).float()[None])
        self.register_buffer("wholly", torch.from_numpy(WHOLLY_DRAWN).float())
        self.sides = seen.eyes.sides
        self.boxes = [(rows.start, rows.stop, columns.start, columns.stop) for rows, columns in seen.eyes.boxes]

        def draw(told: tuple[float, float, float]) -> list[NDArray[np.uint8]]:
            pitch, yaw, opening = told
            frame = np.array(to_rgb(seen.image))
            seen.eyes.paint(frame, Eyes(pitch, yaw, opening, opening).posed_from(*map(float, seen.own[2:])))
            parts = (frame[top:bottom, left:right, : source.shape[0] - 1] for top, bottom, left, right in self.boxes)
            return [part.transpose(2, 0, 1).ravel() for part in parts]

        drawn = list(map_ordered(draw, product(*(grid.tolist() for grid in grids))))
        for number in range(len(self.boxes)):
            self.register_buffer(f"table{number}", torch.from_numpy(np.stack([each[number] for each in drawn])))

    def forward(self, wanted: Tensor) -> Tensor:
        """Eyes (1, 4) in the order of ``controls.EYES`` → (1, channels + 1, h, w), as ``Seen.drawn``."""
        pixels, region = self.source[:, :-1], self.source[:, -1:]
        pitch, yaw = (_shares(wanted[:, [i]], grid) for i, grid in enumerate((self.pitches, self.yaws)))
        gaze = (pitch[:, :, None] * yaw[:, None]).flatten(1)
        for number, (top, bottom, left, right) in enumerate(self.boxes):
            lid = _shares(wanted[:, [EYES.index(f"eye_opening_{self.sides[number]}")]], self.openings)
            shares = (gaze[:, :, None] * lid[:, None]).flatten(1)
            part = shares @ (getattr(self, f"table{number}").float() / 255)
            part = part.unflatten(1, (pixels.shape[1], bottom - top, right - left))
            above = torch.cat([pixels[:, :, top:bottom, :left], part, pixels[:, :, top:bottom, right:]], dim=3)
            pixels = torch.cat([pixels[:, :, :top], above, pixels[:, :, bottom:]], dim=2)
        share = ((wanted - self.own).abs() / self.wholly).clamp(0, 1).amax(dim=1)[:, None, None, None]
        return torch.cat([pixels, share * region], dim=1)


class BakedNetwork(nn.Module):
    """An ``EyedNetwork`` whose eyes are baked, of one source frame, which is known by its code; of others the eyes stay
    as they are."""

    code: Tensor
    low: Tensor
    span: Tensor

    def __init__(self, network: SwapWarp, space: ControlSpace, seen: Seen) -> None:
        super().__init__()
        self.network, self.eyes = network, BakedEyes(seen)
        low, span = eye_codes(space)
        self.register_buffer("code", seen.appearance.code.clone())
        self.register_buffer("low", low)
        self.register_buffer("span", span)

    def encode(self, images: Tensor, code: Tensor | None = None) -> Appearance:
        return self.network.encode(images, code if code is None else without_eyes(code))

    def steer(self, appearance: Appearance, code: Tensor) -> Tensor:
        drawing = self.network.draw(appearance.expand(len(code)), without_eyes(code))
        wanted: Tensor = code[:, len(HEAD) : len(HEAD) + len(EYES)] * self.span + self.low
        frames = self.eyes(wanted)
        is_it = ((appearance.code - self.code).abs().amax(dim=1) < _SAME).float()[:, None, None, None]
        return with_moved_eyes(drawing, torch.cat([frames[:, :-1], is_it * frames[:, -1:]], dim=1))


def _shares(value: Tensor, grid: Tensor) -> Tensor:
    """(1, 1) → (1, n): the shares of a ``grid``'s (n) points in a value between two of them; beyond the ends, all."""
    value = value.clamp(grid[0], grid[-1])
    gaps = grid[1:] - grid[:-1]
    up = ((value - grid[:-1]) / gaps).clamp(0, 1)  # how far past each point towards the next
    one = torch.ones_like(value)
    return torch.cat([one, up], dim=1) - torch.cat([up, 0 * one], dim=1)
