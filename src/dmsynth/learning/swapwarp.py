"""SwapWarp: the thesis's swap, with the source frame itself as the appearance.

The thesis's decoder generates every pixel from a short vector, and blurs (5.2). Here decoding warps the source frame.
Each frame has a map, decoded from its controls alone: where every point of it lies on a common (canonical) face that
all frames share. The flow that warps the source leads through the target's map and back through the source's; between
equal controls it is zero. Features of the image correct what the map cannot know. A mask removes what the source cannot
show; the learned picture of the common face fills it in. A last layer refines.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dmsynth.support.errors import DmsynthError

PATCH = 4  # the convolutions see the image in patches of 4×4 pixels
REACH = 0.3  # of the image: the displacement that a flow of 1 stands for
GRID = (15, 20)  # rows and columns of a map's points; between them it is linear
_HIDDEN = 64
_FLOW_SCALE = 0.2  # of a convolution's output added to a flow: one optimizer step must not move it far
_ROUNDS = 4  # of the fixed-point iteration that inverts a map
_OPEN = 3.0  # the mask's initial logit: sigmoid(3) = 95 % of a pixel is the warped source's
_SHOWN = (0.5, 0.9)  # of the mask: from here on the source shows what is wanted, wholly and at all
_LIGHT = 4  # pixels: what changes from one to the next of such squares is light, and what is finer is detail
_ON_DISK = {"stem.": "look.", "downsample.": "look_wider.", "head.": "read."}
"""Modules under other names in face files and checkpoints, which keep the names of version 0.1."""


class Place(NamedTuple):
    """Where a picture's content lies in another: at ``scale`` x + ``shift``, in shares of width and height."""

    scale: tuple[float, float]
    shift: tuple[float, float]

    def moved(self, maps: Tensor) -> Tensor:
        """Maps (n, c, h, w) with their content there; beyond the edge the edge's values are continued."""
        axes = []
        for size, scale, shift in zip(maps.shape[:1:-1], self.scale, self.shift, strict=True):
            there = (torch.arange(size, device=maps.device) + 0.5) / size
            axes.append(2 * (there - shift) / scale - 1)
        where = torch.stack(torch.meshgrid(axes[0], axes[1], indexing="xy"), dim=-1)
        where = where.expand(len(maps), -1, -1, -1)
        return F.grid_sample(maps.float(), where, padding_mode="border", align_corners=False).to(maps.dtype)


class Appearance(NamedTuple):
    """A source frame, encoded."""

    image: Tensor  # (n, channels, h, w) in [0, 1]
    code: Tensor  # (n, k): the frame's own controls
    estimate: Tensor  # (n, k): the encoder's estimate of them
    place: Tensor  # (n, 2, h / 8, w / 8): the map from this frame to the common face
    fine: Tensor  # (n, maps, h / 4, w / 4)
    coarse: Tensor  # (n, 2 maps, h / 8, w / 8)

    def expand(self, n: int) -> Appearance:
        """One appearance as ``n``, without copying."""
        return Appearance(*(value.expand(n, *value.shape[1:]) for value in self))


class Drawing(NamedTuple):
    """The decoder's output, step by step."""

    flow: Tensor  # (n, 2, h / 4, w / 4), x and y in units of 0.3 of the image
    warped: Tensor  # (n, channels, h, w): the source, warped by the flow
    mask: Tensor  # (n, 1, h / 4, w / 4) in [0, 1]: the share of the warped source
    image: Tensor  # (n, channels, h, w), about [0, 1]


class SwapWarp(nn.Module):
    """The network.

    Args:
        width, height: of the images in pixels, each divisible by 16.
        channels: 1 for grey, 3 for RGB.
        controls: length of the control code, carried controls included.
        base_channels: feature maps at a quarter of the image's size; twice as many at an eighth.
    """

    def __init__(self, width: int, height: int, channels: int = 1, controls: int = 3, base_channels: int = 16) -> None:
        super().__init__()
        if width % 16 or height % 16 or min(width, height) <= 0:
            raise DmsynthError(f"image size {width}×{height}: width and height must be divisible by 16")
        few, many, patch = base_channels, 2 * base_channels, channels * PATCH**2
        self.stem = nn.Sequential(nn.Conv2d(patch, few, 3, padding=1), nn.SiLU())
        self.downsample = nn.Sequential(
            nn.Conv2d(few, many, 3, stride=2, padding=1), nn.SiLU(), nn.Conv2d(many, many, 3, padding=1), nn.SiLU()
        )
        self.head = nn.Sequential(
            *(nn.Conv2d(many, 2 * many, 3, stride=2, padding=1), nn.SiLU()),
            *(nn.Conv2d(2 * many, 2 * many, 3, stride=2, padding=1), nn.SiLU()),
            *(nn.Conv2d(2 * many, 16, 1), nn.SiLU(), nn.AdaptiveAvgPool2d((6, 8)), nn.Flatten()),
            nn.Linear(16 * 6 * 8, controls),
        )
        self.to_common = _FlowDecoder(controls)
        self.scene = _FeatureDecoder(controls, few)
        self.common_image = nn.Parameter(torch.zeros(1, channels, height, width))
        self.common_features = nn.Parameter(0.1 * torch.randn(1, few, height // PATCH, width // PATCH))
        self.command = nn.Sequential(
            nn.Linear(2 * controls, _HIDDEN), nn.SiLU(), nn.Linear(_HIDDEN, _HIDDEN), nn.SiLU()
        )
        self.correct = _ModulatedConvolution(many + few, many)
        self.correction = nn.Sequential(nn.Conv2d(many, many, 3, padding=1), nn.SiLU())
        self.coarse_flow = nn.Conv2d(many, 2, 3, padding=1)
        self.detail = _ModulatedConvolution(few + many + few, few)
        self.heads = nn.Conv2d(few, 2 + 1 + 1 + patch, 3, padding=1)  # flow, mask, memory, paint
        self.refine = nn.Sequential(
            nn.Conv2d(few + patch, many, 3, padding=1), nn.SiLU(), nn.Conv2d(many, patch, 3, padding=1)
        )
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                # keeps the signal's size (He et al. 2015): of a face before a still wall there is little to lose
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)
        begin_with_the_source_as_it_is = (
            *(self.to_common.points[-1], self.coarse_flow, self.heads, self.refine[-1]),
            *(self.correct.scale_and_shift, self.detail.scale_and_shift),
        )
        for layer in begin_with_the_source_as_it_is:
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
        self.register_state_dict_post_hook(_to_disk)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_from_disk)  # type: ignore[no-untyped-call]

    def encode(self, images: Tensor, code: Tensor | None = None) -> Appearance:
        """Images (n, channels, h, w) in [0, 1] and their control code (n, k); None: the encoder estimates it."""
        fine = self.stem(F.pixel_unshuffle(images - 0.5, PATCH))
        coarse = self.downsample(fine)
        estimate = self.head(coarse).float()
        code = estimate.detach() if code is None else code
        return Appearance(images, code, estimate, self.to_common(code, coarse.shape[-2:]), fine, coarse)

    def draw(self, appearance: Appearance, code: Tensor, window: tuple[slice, slice] | None = None) -> Drawing:
        """Appearances (n) at the controls ``code`` (n, k); all of the image, or its rows and columns in ``window``,
        which begin and end at multiples of 8 pixels."""
        here, there = 2 * code - 1, 2 * (code - appearance.code)
        command = self.command(torch.cat([here, there], dim=1))
        onto_common = self.to_common(code, appearance.place.shape[-2:])
        flow = onto_common - appearance.place
        for _ in range(_ROUNDS):
            flow = onto_common - warp(appearance.place, flow)

        scene = self.scene(code, flow.shape[-2:])
        seen = warp(appearance.coarse, flow.detach())
        state = self.correction(self.correct(torch.cat([seen, scene], dim=1), command))
        flow = flow + _FLOW_SCALE * self.coarse_flow(state)

        # what is left costs time for every pixel, so a window begins here
        eighth, quarter = _window(window, 2 * PATCH), _window(window, PATCH)
        flow, state, onto_common = (maps[..., *eighth] for maps in (flow, state, onto_common))
        whole = appearance.fine.shape[-2:]
        size = appearance.fine[..., *quarter].shape[-2:]
        flow, state, onto_common = (resized(maps, size) for maps in (flow, state, onto_common))
        seen = warp(appearance.fine, flow.detach(), window=quarter)
        known = warp(resized(self.common_features, whole).expand(len(code), -1, -1, -1), onto_common, window=quarter)
        state = self.detail(torch.cat([seen, state, known], dim=1), command)
        more_flow, mask, memory, paint = self.heads(state).split([2, 1, 1, PATCH**2 * appearance.image.shape[1]], dim=1)
        flow, mask = flow + _FLOW_SCALE * more_flow, torch.sigmoid(mask + _OPEN)

        pixels = _window(window, 1)
        full = appearance.image[..., *pixels].shape[-2:]
        warped = warp(appearance.image, resized(flow, full), window=pixels)
        common = resized(self.common_image, appearance.image.shape[-2:]).expand(len(code), -1, -1, -1)
        common = warp(common, resized(onto_common, full), window=pixels)
        filled = paint + torch.sigmoid(memory) * F.pixel_unshuffle(common, PATCH) + 0.5
        shown = mask * F.pixel_unshuffle(warped, PATCH) + (1 - mask) * filled
        refined = shown + self.refine(torch.cat([state, shown], dim=1))
        return Drawing(flow, warped, mask, F.pixel_shuffle(refined.float(), PATCH))

    def steer(self, appearance: Appearance, code: Tensor) -> Tensor:
        """Images (n, channels, h, w) in [0, 1] of an appearance (1 or n) at the controls ``code`` (n, k)."""
        return shown(self.draw(appearance.expand(len(code)), code))

    def decode(self, appearance: Appearance) -> Tensor:
        """Images (n, channels, h, w) in [0, 1] of appearances at their own controls."""
        return self.steer(appearance, appearance.code)

    def controls(self, appearance: Appearance) -> Tensor:
        """The encoder's estimate of the frames' controls, carried ones included; (n, k)."""
        return appearance.estimate

    def follow(self, points: Tensor, code: Tensor, into: Tensor) -> Tensor:
        """Where points (n, p, 2; shares of the image) of frames at ``code`` (n, k) lie in frames at ``into`` (n, k),
        by the maps alone."""
        on_common = points + REACH * _at(self.to_common(code, GRID), points)
        return self.from_common(on_common, into, first=points)

    def on_common(self, appearance: Appearance) -> Tensor:
        """The features of frames as they lie on the common face: (n, 2 maps, h / 8, w / 8)."""
        flow = -appearance.place
        for _ in range(_ROUNDS):
            flow = -warp(appearance.place, flow)
        return warp(appearance.coarse, flow.detach())

    def from_common(self, points: Tensor, code: Tensor, first: Tensor | None = None) -> Tensor:
        """Where points (n, p, 2; shares of the image) of the common face lie in frames at ``code`` (n, k); ``first``
        is a guess."""
        place, there = self.to_common(code, GRID), points if first is None else first
        for _ in range(_ROUNDS + 1):
            there = points - REACH * _at(place, there)
        return there


def correction(drawing: Drawing) -> Tensor:
    """What a drawing changes in the warped source: (n, channels, h, w). Where the source shows what is wanted, only
    light: detail stays the source's, which is sharper than what a network draws. Elsewhere all that is painted."""
    change = (drawing.image - drawing.warped).float()
    size, (none, whole) = change.shape[-2:], _SHOWN
    there = resized(((drawing.mask - none) / (whole - none)).clamp(0, 1), size)
    return change + there * (resized(F.avg_pool2d(change, _LIGHT), size) - change)


def shown(drawing: Drawing) -> Tensor:
    """The picture of a drawing: (n, channels, h, w) in [0, 1]."""
    return (drawing.warped + correction(drawing)).clamp(0, 1)


def _to_disk(module: nn.Module, state: dict[str, Tensor], prefix: str, _: object) -> None:
    for now, former in _ON_DISK.items():
        for name in [name for name in state if name.startswith(prefix + now)]:
            state[prefix + former + name.removeprefix(prefix + now)] = state.pop(name)


def _from_disk(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    for now, former in _ON_DISK.items():
        for name in [name for name in state if name.startswith(prefix + former)]:
            state[prefix + now + name.removeprefix(prefix + former)] = state.pop(name)


class _FlowDecoder(nn.Module):
    """Decodes a map from a control code, as displacements at the points of a grid."""

    def __init__(self, controls: int) -> None:
        super().__init__()
        self.points = nn.Sequential(
            *(nn.Linear(controls, _HIDDEN), nn.SiLU(), nn.Linear(_HIDDEN, _HIDDEN), nn.SiLU()),
            nn.Linear(_HIDDEN, 2 * GRID[0] * GRID[1]),
        )

        self.place: Place | None = None  # where this network's frames have the head, if it shares weights with others

    def forward(self, code: Tensor, size: Sequence[int]) -> Tensor:
        """Control code (n, k) → flow (n, 2, *size)."""
        points = self.points(2 * code - 1).unflatten(1, (2, *GRID))
        if self.place is not None:  # a map holds displacements
            points = self.place.moved(points) * torch.tensor(self.place.scale).to(points)[:, None, None]
        return resized(points, size)


class _FeatureDecoder(nn.Module):
    """Decodes feature maps from a control code: the layout of a frame, independent of the source."""

    def __init__(self, controls: int, maps: int) -> None:
        super().__init__()
        self.points = nn.Sequential(
            *(nn.Linear(controls, _HIDDEN), nn.SiLU(), nn.Linear(_HIDDEN, _HIDDEN), nn.SiLU()),
            nn.Linear(_HIDDEN, 8 * GRID[0] * GRID[1]),
        )
        self.smooth = nn.Sequential(nn.Conv2d(8, maps, 3, padding=1), nn.SiLU())

        self.place: Place | None = None

    def forward(self, code: Tensor, size: Sequence[int]) -> Tensor:
        points = self.points(2 * code - 1).unflatten(1, (8, *GRID))
        points = points if self.place is None else self.place.moved(points)
        features: Tensor = self.smooth(resized(points, size))
        return features


class _ModulatedConvolution(nn.Module):
    """A convolution whose outputs are scaled and shifted by the command (FiLM, Perez et al. 2018)."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(before, after, 3, padding=1)
        self.scale_and_shift = nn.Linear(_HIDDEN, 2 * after)

    def forward(self, features: Tensor, command: Tensor) -> Tensor:
        scale, shift = self.scale_and_shift(command)[..., None, None].chunk(2, dim=1)
        return F.silu(self.convolution(features) * (1 + scale) + shift)


def _window(window: tuple[slice, slice] | None, shrink: int) -> tuple[slice, slice]:
    """A window in an image that is so many times smaller; None: all of it."""
    if window is None:
        return slice(None), slice(None)
    rows, columns = window
    return (
        slice(rows.start // shrink, rows.stop // shrink),
        slice(columns.start // shrink, columns.stop // shrink),
    )


def warp(
    images: Tensor,
    flow: Tensor,
    mode: str = "bilinear",
    window: tuple[slice, slice] = (slice(None), slice(None)),
) -> Tensor:
    """Images (n, c, h, w) sampled where ``flow`` (n, 2, h, w) points, in units of 0.3 of the image; with a ``window``
    the flow is that of its rows and columns, and so is the result."""
    height, width = images.shape[-2:]
    y = torch.linspace(-1 + 1 / height, 1 - 1 / height, height, device=flow.device)
    x = torch.linspace(-1 + 1 / width, 1 - 1 / width, width, device=flow.device)
    here = torch.stack(torch.meshgrid(x[window[1]], y[window[0]], indexing="xy"))
    there = (here + 2 * REACH * flow.float()).permute(0, 2, 3, 1)
    return F.grid_sample(images.float(), there, mode, padding_mode="border", align_corners=False).to(images.dtype)


def resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Maps (n, c, h, w) at another size; bilinear, in full precision."""
    if maps.shape[-2:] == tuple(size):
        return maps.float()
    return F.interpolate(maps.float(), list(size), mode="bilinear", align_corners=False)


def _at(maps: Tensor, points: Tensor) -> Tensor:
    """Maps (n, c, h, w) sampled at points (n, p, 2) in shares of the image: (n, p, c)."""
    sampled = F.grid_sample(maps, 2 * points[:, :, None] - 1, padding_mode="border", align_corners=False)
    return sampled[..., 0].transpose(1, 2)
