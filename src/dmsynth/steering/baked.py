"""Drawn eyes and mouth as tables of pictures, brows as a table of flows, for programs without Python (``export``)."""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dmsynth.controls import EYES, EYES_RANGE, FEATURES, HEAD, ControlSpace
from dmsynth.datasets.brow_posing import PosedBrows
from dmsynth.datasets.eye_posing import WIDEST
from dmsynth.learning.swapwarp import REACH, Appearance, SwapWarp, warp
from dmsynth.steering.painted import WHOLLY_DRAWN, Seen, feature_codes, with_painted, without_features
from dmsynth.support.parallel import map_ordered
from dmsynth.video import to_rgb

_STEP = 5.0  # degrees: half a pixel of an iris's way at 320×240; between two pictures it is nearly linear
_SAME = 1e-4  # of a code's range: another program's sums may differ
_JAWS = (0.0, 0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_OPENINGS = (0.0, 0.06, 0.12, 0.18, 0.25, 0.32, 0.4, 0.5, 0.6, 0.75, 0.9, 1.0, WIDEST)
_RAISES = (-2.0, -1.5, -1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)  # of brows, from the source's


class BakedFeatures(nn.Module):
    """What ``Seen.drawn`` draws, mixed from tables."""

    own: Tensor
    wholly: Tensor
    source: Tensor
    regions: Tensor

    def __init__(self, seen: Seen) -> None:
        super().__init__()
        features = seen.features
        pitches, yaws = (np.arange(-most, most + 1, _STEP) for most in EYES_RANGE)
        grids = {"pitches": pitches, "yaws": yaws, "openings": np.array(_OPENINGS), "jaws": np.array(_JAWS)}
        grids["raises"] = np.array(_RAISES)
        for name, grid in grids.items():
            self.register_buffer(name, torch.from_numpy(grid).float())
        image = to_rgb(seen.image) if seen.image.ndim == 3 else seen.image[..., None]
        self.channels = image.shape[2]
        self.register_buffer("source", torch.from_numpy(image.transpose(2, 0, 1) / np.float32(255))[None])
        self.register_buffer("regions", torch.from_numpy(seen.regions)[None])
        self.register_buffer("own", torch.from_numpy(features.own).float()[None])
        self.register_buffer("wholly", torch.from_numpy(WHOLLY_DRAWN).float())
        self.sides = features.eyes.sides
        boxes = [*features.eyes.boxes, *features.mouth.boxes]
        self.boxes = [(rows.start, rows.stop, columns.start, columns.stop) for rows, columns in boxes]

        def draw(wanted: tuple[float, ...]) -> list[NDArray[np.uint8]]:
            frame = np.array(to_rgb(seen.image))
            if len(wanted) == 1:
                features.mouth.paint(frame, wanted[0] - jaw)
            else:
                features.paint(frame, np.array([*wanted, jaw, features.own[5]]))
            parts = (frame[top:bottom, left:right, : self.channels] for top, bottom, left, right in self.boxes)
            return [part.transpose(2, 0, 1).ravel() for part in parts]

        jaw = float(features.own[4])
        of_eyes = ((pitch, yaw, lid, lid) for pitch, yaw, lid in product(pitches, yaws, _OPENINGS))
        eyes, mouths = list(map_ordered(draw, of_eyes)), list(map_ordered(draw, ((drop,) for drop in _JAWS)))
        for number in range(len(self.boxes)):
            drawn = mouths if number == len(self.sides) else eyes
            self.register_buffer(f"table{number}", torch.from_numpy(np.stack([each[number] for each in drawn])))
        self.brows = features.brows.boxes
        if self.brows:
            sides = np.array(seen.image.shape[1::-1], np.float32)[:, None, None]
            flows = np.stack([features.brows.fetched(raised) / sides / REACH for raised in _RAISES])
            self.register_buffer("flows", torch.from_numpy(flows))
            self.register_buffer("skin", torch.from_numpy(self._behind_glasses(features.brows))[None])

    def forward(self, wanted: Tensor) -> Tensor:
        """Features (1, 6) in the order of ``controls.FEATURES`` → (1, channels + 1, h, w), as ``Seen.drawn``."""
        pitch, yaw = (_shares(wanted[:, [i]], self.get_buffer(grid)) for i, grid in enumerate(("pitches", "yaws")))
        gaze = (pitch[:, :, None] * yaw[:, None]).flatten(1)
        pixels = self.source
        for number, box in enumerate(self.boxes[: len(self.sides)]):
            lid = _shares(wanted[:, [EYES.index(f"eye_opening_{self.sides[number]}")]], self.get_buffer("openings"))
            pixels = self._pasted(pixels, number, box, (gaze[:, :, None] * lid[:, None]).flatten(1))
        jaw = _shares(wanted[:, 4:5], self.get_buffer("jaws"))
        if len(self.boxes) > len(self.sides):
            pixels = self._pasted(pixels, len(self.sides), self.boxes[-1], jaw, only_changes=True)
        raised = _shares(wanted[:, 5:] - self.own[:, 5:], self.get_buffer("raises"))
        for forehead in self.brows:
            flow = (raised[:, :, None, None, None] * self.get_buffer("flows")[None]).sum(dim=1)
            own = pixels[:, :, forehead[0], forehead[1]]
            frame, bare = self.get_buffer("skin").split((1, self.channels), dim=1)
            skin = _with_part(pixels, forehead, own + frame * (bare - own))
            moved = warp(skin, flow, "bicubic", forehead).clamp(0, 1)
            pixels = _with_part(pixels, forehead, moved + frame * (own - moved))
        share = (wanted - self.own) / self.wholly
        eyes = share[:, :4].abs().amax(dim=1, keepdim=True)
        shares = torch.cat([eyes, share[:, 4:5], share[:, 5:].abs()], dim=1).clamp(0, 1)  # a mouth only opens further
        return torch.cat([pixels, (shares[:, :, None, None] * self.regions).amax(dim=1, keepdim=True)], dim=1)

    def _behind_glasses(self, brows: PosedBrows) -> NDArray[np.float32]:
        """(1 + channels, h, w) of the brows' box: where a frame of glasses stays, and the picture without it."""
        rows, columns = brows.boxes[0]
        if brows.frame is None:
            return np.zeros((1 + self.channels, rows.stop - rows.start, columns.stop - columns.start), np.float32)
        share, bare = brows.frame
        return np.concatenate([share, bare[..., : self.channels] / 255], axis=2, dtype=np.float32).transpose(2, 0, 1)

    def _pasted(
        self,
        pixels: Tensor,
        number: int,
        box: tuple[int, int, int, int],
        shares: Tensor,
        only_changes: bool = False,
    ) -> Tensor:
        top, bottom, left, right = box
        part = shares @ (self.get_buffer(f"table{number}").float() / 255)
        part = part.unflatten(1, (self.channels, bottom - top, right - left))
        if only_changes:  # an eye that reaches into the box stays as it was drawn
            part = part - self.source[:, :, top:bottom, left:right] + pixels[:, :, top:bottom, left:right]
        return _with_part(pixels, (slice(top, bottom), slice(left, right)), part)


class BakedNetwork(nn.Module):
    """A ``PaintedNetwork`` whose features are baked, of one source frame, which is known by its code; those of
    others stay as they are."""

    code: Tensor
    low: Tensor
    span: Tensor

    def __init__(self, network: SwapWarp, space: ControlSpace, seen: Seen) -> None:
        super().__init__()
        self.network, self.features = network, BakedFeatures(seen)
        low, span = feature_codes(space)
        self.register_buffer("code", seen.appearance.code.clone())
        self.register_buffer("low", low)
        self.register_buffer("span", span)

    def encode(self, images: Tensor, code: Tensor | None = None) -> Appearance:
        return self.network.encode(images, code if code is None else without_features(code))

    def steer(self, appearance: Appearance, code: Tensor) -> Tensor:
        drawing = self.network.draw(appearance.expand(len(code)), without_features(code))
        wanted: Tensor = code[:, len(HEAD) : len(HEAD) + len(FEATURES)] * self.span + self.low
        frames = self.features(wanted)
        is_it = ((appearance.code - self.code).abs().amax(dim=1) < _SAME).float()[:, None, None, None]
        return with_painted(drawing, torch.cat([frames[:, :-1], is_it * frames[:, -1:]], dim=1))


def _with_part(pixels: Tensor, box: tuple[slice, slice], part: Tensor) -> Tensor:
    """Pictures (1, c, h, w) with a part (1, c, …) in the rows and columns of the box."""
    rows, columns = box
    between = torch.cat([pixels[:, :, rows, : columns.start], part, pixels[:, :, rows, columns.stop :]], dim=3)
    return torch.cat([pixels[:, :, : rows.start], between, pixels[:, :, rows.stop :]], dim=2)


def _shares(value: Tensor, grid: Tensor) -> Tensor:
    """(1, 1) → (1, n): the shares of a ``grid``'s (n) points in a value between two of them; beyond the ends, all."""
    value = value.clamp(grid[0], grid[-1])
    gaps = grid[1:] - grid[:-1]
    up = ((value - grid[:-1]) / gaps).clamp(0, 1)  # how far past each point towards the next
    one = torch.ones_like(value)
    return torch.cat([one, up], dim=1) - torch.cat([up, 0 * one], dim=1)
