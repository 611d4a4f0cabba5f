"""Start a training from faces that are trained already: what they know of heads in general holds for the next person,
too.

A trained network is refitted to the new dataset: to the range of its controls, to the quantities that it carries, to
where the head lies in its frames, to grey or colour. All of that is linear in single layers of SwapWarp, so nothing is
lost by it but the appearance of the person.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dmsynth.controls import ControlSpace
from dmsynth.controls.carried import CODES_PER_SPREAD, Carried
from dmsynth.learning.batches import to_network
from dmsynth.learning.data import TrainingData
from dmsynth.learning.face_file import read_people
from dmsynth.learning.swapping import pyramid_loss, swap
from dmsynth.learning.swapwarp import GRID, PATCH, Place, SwapWarp, resized
from dmsynth.support.errors import DmsynthError

_TRIED = 3  # batches, to choose a beginning


@dataclass(frozen=True)
class Codes:
    """What the entries of a network's control code mean.

    Attributes:
        names: of the controls, then of the carried quantities.
        low, high: the value at a code of 0 and of 1; carried quantities in standard deviations, so that one unit is
            the same quantity for everyone who carries it with the same ``spread``.
    """

    names: tuple[str, ...]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


@dataclass(frozen=True)
class Head:
    """Where the head lies in frames: the middle of its facial landmarks, and their extent, in shares of width and
    height."""

    centre: NDArray[np.float64]
    extent: NDArray[np.float64]

    @staticmethod
    def of(landmarks: NDArray[np.float32], size: tuple[int, int]) -> Head:
        """From landmarks (n, points, 2) in pixels of frames of ``size``."""
        points = np.median(landmarks, axis=0)
        extent = np.sqrt(np.prod(np.ptp(points, axis=0)))  # the same in both directions: a face is not stretched
        return Head(points.mean(axis=0) / size, extent / np.array(size))

    def to(self, other: Head) -> Place:
        """Where this head's surroundings lie in frames that have the head where ``other`` is."""
        scale = other.extent / self.extent
        shift = other.centre - scale * self.centre
        return Place((float(scale[0]), float(scale[1])), (float(shift[0]), float(shift[1])))


def refitted(network: SwapWarp, before: Codes, after: Codes) -> SwapWarp:
    """The same network for other codes: it draws at a pose what it drew at that pose before. What ``before`` does not
    have has no effect, what ``after`` does not have stays as it is on average (a code of 0.5)."""
    column = [before.names.index(name) if name in before.names else None for name in after.names]
    rows = [None if c is None else (before.low[c], before.high[c]) for c in column]
    scale, shift = np.ones(len(column)), np.zeros(len(column))
    for i, old in enumerate(rows):
        if old is not None:
            scale[i] = (after.high[i] - after.low[i]) / (old[1] - old[0])
            shift[i] = (after.low[i] - old[0]) / (old[1] - old[0])
    s, t = (torch.tensor(each, dtype=torch.float32) for each in (scale, shift))
    there = torch.tensor([c is not None for c in column])
    chosen = torch.tensor([c or 0 for c in column])

    def taken(weight: Tensor) -> Tensor:
        return torch.where(there, weight[:, chosen] * s, torch.zeros(()))

    result = copy.deepcopy(network)
    with torch.no_grad():
        for layer in (result.to_common.points[0], result.scene.points[0], result.command[0]):
            assert isinstance(layer, nn.Linear)
            halves = [taken(half) for half in layer.weight.split(len(before.names), dim=1)]
            # the input is 2 code - 1, and that of the command's second half a difference of codes
            kept = torch.where(there, layer.weight[:, chosen], torch.zeros(()))
            layer.bias.add_(kept @ (s + 2 * t - 1))
            layer.weight = nn.Parameter(torch.cat(halves, dim=1))
            layer.in_features = layer.weight.shape[1]
        read = result.head[-1]
        assert isinstance(read, nn.Linear)
        weight, bias = read.weight[chosen] / s[:, None], (read.bias[chosen] - t) / s
        read.weight = nn.Parameter(torch.where(there[:, None], weight, torch.zeros(())))
        read.bias = nn.Parameter(torch.where(there, bias, torch.full((), 0.5)))
        read.out_features = len(column)
    return result


def placed(network: SwapWarp, place: Place) -> SwapWarp:
    """The same network for frames in which heads lie elsewhere, or are larger or smaller."""
    result = copy.deepcopy(network)
    with torch.no_grad():
        for decoder, displaces in ((result.to_common, True), (result.scene, False)):
            decoder.place = None
            layer = decoder.points[-1]
            assert isinstance(layer, nn.Linear)
            for values in (layer.weight, layer.bias):
                maps = values.view(len(values) // (GRID[0] * GRID[1]), *GRID, -1).permute(3, 0, 1, 2)
                moved = place.moved(maps)
                if displaces:
                    moved = moved * torch.tensor(place.scale)[:, None, None]
                values.copy_(moved.permute(1, 2, 3, 0).reshape(values.shape))
    return result


def in_channels(network: SwapWarp, channels: int) -> SwapWarp:
    """The same network for grey frames (1) or for colour (3)."""
    before = network.common_image.shape[1]
    if before == channels:
        return network
    result, patch = copy.deepcopy(network), PATCH**2
    with torch.no_grad():
        stem, heads, first, last = result.stem[0], result.heads, result.refine[0], result.refine[-1]
        assert isinstance(stem, nn.Conv2d) and isinstance(first, nn.Conv2d) and isinstance(last, nn.Conv2d)

        def inputs(weight: Tensor) -> Tensor:
            """Each channel's share of what all saw."""
            return weight.unflatten(1, (before, patch)).sum(1).repeat(1, channels, 1, 1) / channels

        def outputs(values: Tensor) -> Tensor:
            mean = values.unflatten(0, (before, patch)).mean(0)
            return mean.repeat(channels, *([1] * (values.ndim - 1)))

        few = first.weight.shape[1] - before * patch
        stem.weight = nn.Parameter(inputs(stem.weight))
        first.weight = nn.Parameter(torch.cat([first.weight[:, :few], inputs(first.weight[:, few:])], dim=1))
        for layer, kept in ((heads, 4), (last, 0)):
            layer.weight = nn.Parameter(torch.cat([layer.weight[:kept], outputs(layer.weight[kept:])]))
            assert layer.bias is not None
            layer.bias = nn.Parameter(torch.cat([layer.bias[:kept], outputs(layer.bias[kept:])]))
        mean = result.common_image.mean(1, keepdim=True)
        result.common_image = nn.Parameter(mean.repeat(1, channels, 1, 1))
        stem.in_channels, first.in_channels = channels * patch, few + channels * patch
        heads.out_channels, last.out_channels = 4 + channels * patch, channels * patch
    return result


def of_size(network: SwapWarp, size: tuple[int, int]) -> SwapWarp:
    """The same network with its common face for frames of ``size`` (width, height)."""
    width, height = size
    result = copy.deepcopy(network)
    result.common_image = nn.Parameter(resized(network.common_image.detach(), (height, width)))
    features = resized(network.common_features.detach(), (height // PATCH, width // PATCH))
    result.common_features = nn.Parameter(features)
    return result


def averaged(networks: Sequence[SwapWarp]) -> SwapWarp:
    """The mean of networks of one shape."""
    result = copy.deepcopy(networks[0])
    with torch.no_grad():
        for each in zip(result.parameters(), *(network.parameters() for network in networks), strict=True):
            each[0].copy_(torch.stack(list(each[1:])).mean(0))
    return result


def show(network: SwapWarp, image: Tensor, code: Tensor) -> None:
    """Make a frame (1, channels, h, w) at its code (1, k) the network's common face, in place."""
    with torch.no_grad():
        height, width = image.shape[-2:]
        y, x = (torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width
        points = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).view(1, -1, 2)
        where = network.from_common(points, code).view(1, height, width, 2)
        shown = nn.functional.grid_sample(image, 2 * where - 1, padding_mode="border", align_corners=False)
        network.common_image.copy_(shown - 0.5)


def codes_of(space: ControlSpace, carried: Carried) -> Codes:
    """The meaning of a trained face's or a dataset's control codes."""
    spread = np.zeros(0) if carried.spread is None else carried.spread / CODES_PER_SPREAD / 2
    return Codes(
        (*space.names, *(f"carried {name}" for name in carried.names)),
        np.concatenate([space.low, -spread]),
        np.concatenate([space.high, spread]),
    )


def begun_from(begin: Path, data: TrainingData) -> SwapWarp:
    """The network to begin with: of the faces in a file (``face_file.read_people``) the one that draws the dataset's
    frames best, or the mean of all, refitted to it; its common face is the dataset's typical frame.

    Raises:
        DmsynthError: faces of another model, or with other controls.
    """
    dataset = data.dataset
    channels = 1 if data.frames.ndim == 3 else 3
    found = dataset.feature_landmarks()
    head = None if found is None else Head.of(found[dataset.split("train")], dataset.size)
    candidates = []
    for face in read_people(begin).values():
        network = face.network
        if not isinstance(network, SwapWarp) or face.space.names != data.space.names:
            raise DmsynthError(
                f"--from {begin}: is a {face.model} that steers {', '.join(face.space.names)}; begin from a face "
                f"of the model swapwarp that steers {', '.join(data.space.names)}"
            )
        network = in_channels(network, channels)
        network = refitted(network, codes_of(face.space, face.carried), codes_of(data.space, data.carried))
        if head is not None and face.features is not None:
            place = Head.of(face.features.landmarks, face.size).to(head)
            network = placed(network, place)
            with torch.no_grad():
                network.common_features.copy_(place.moved(network.common_features))
        candidates.append(of_size(network, (data.frames.shape[2], data.frames.shape[1])))
    if len(candidates) > 1:
        candidates.append(averaged(candidates))
    first = data.sources[:1]
    for network in candidates:
        show(network, to_network(data.frames[first]), torch.from_numpy(data.codes[first]))
    return min(candidates, key=lambda network: _loss(network, data))


def _loss(network: SwapWarp, data: TrainingData) -> float:
    """How well a network draws the first batches."""
    total = 0.0
    with torch.inference_mode():
        for number in range(_TRIED):
            images, code, *_ = data.training.batches(number)
            total += float(pyramid_loss(network.draw(network.encode(images, code), swap(code)).image, swap(images)))
    return total
