"""Several small autoencoders of one shape, trained at once on a CPU (thesis 3.1): the same weights as one by one.

A step of one of chapter 3's networks is short: much of it is PyTorch's own work on sixty small operations, whatever
their size. Stacked, the networks' convolutions are the groups of one convolution, so that this work is done once for
all of them. In bfloat16, where the processor multiplies it, the rest takes less time, too. What was measured:
docs/reproduction-position.md.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Unpack

import lightning
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dmsynth.datasets.dataset import Dataset
from dmsynth.learning.autoencoder import LAYERS, Autoencoder, channels_last
from dmsynth.learning.batches import Numbered
from dmsynth.learning.callbacks import AtomicCheckpoints
from dmsynth.learning.data import TrainingData, prepare
from dmsynth.learning.face_file import save_face
from dmsynth.learning.settings import Options, Settings, choose_settings
from dmsynth.learning.swapping import ENCODED, OBJECTIVES, Network
from dmsynth.learning.training import begin_run, first_network, shape_of, trained_face
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import replacing

_VALIDATED = 20  # images of each network at once: enough to use the processor well, few enough for its cache


class _Convolution(torch.autograd.Function):
    """A convolution (or a transposed one) of kernel 4, stride 2 and padding 1 in groups, and ReLU.

    PyTorch's own sums the gradient of a bfloat16 bias slower than it convolves; this is all that differs.
    """

    @staticmethod
    def forward(
        context: Any, x: Tensor, weight: Tensor, bias: Tensor, transposed: bool, groups: int, rectify: bool
    ) -> Tensor:
        """``x`` (n, groups · in, h, w), channels last; master weights float32; computed and given in the dtype of x."""
        weight = weight.to(x.dtype)
        y = torch.convolution(x, weight, bias.to(x.dtype), [2, 2], [1, 1], [1, 1], transposed, [0, 0], groups)
        if rectify:
            y.relu_()
        context.save_for_backward(x, weight, y if rectify else None)
        context.transposed, context.groups = transposed, groups
        return y

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None, None, None]:
        x, weight, y = context.saved_tensors
        if y is not None:
            gradient = torch.ops.aten.threshold_backward(gradient, y, 0)
        of_bias = gradient.sum((0, 2, 3))
        of_x, of_weight, _ = torch.ops.aten.convolution_backward(
            gradient, x, weight, None, [2, 2], [1, 1], [1, 1], context.transposed, [0, 0], context.groups,
            [context.needs_input_grad[0], True, False],
        )  # fmt: skip
        return of_x, of_weight.float(), of_bias.float(), None, None, None


class StackedAutoencoder(nn.Module):
    """``count`` autoencoders of one shape as one network. A batch holds ``n`` images of the first, ``n`` of the second
    and so on, so that objectives take it as a batch of one network.

    Args:
        networks: whose weights to begin with; channels last.
        encodes_in, decodes_in: dtype of the convolutions. The weights, what leads to the latents and from them, and the
            images are float32.
    """

    def __init__(self, networks: Sequence[Autoencoder], encodes_in: torch.dtype, decodes_in: torch.dtype) -> None:
        super().__init__()
        self.encodes_in, self.decodes_in = encodes_in, decodes_in
        self.count, self.given = len(networks), networks[0].given
        self.encodes = networks[0].encoder is not None
        self.small: tuple[int, int, int] = networks[0].decoder[1].unflattened_size  # type: ignore[assignment]
        each = [dict(network.named_parameters()) for network in networks]
        for name in each[0]:
            weights = torch.stack([of_one[name].detach() for of_one in each])
            if weights.ndim == 5:  # the layout in memory of a convolution's weights, channels last
                weights = weights.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
            self.register_parameter(name.replace(".", "_"), nn.Parameter(weights))

    def encode(self, images: Tensor) -> Tensor:
        """(count · n, channels, height, width) in [0, 1] → (count · n, latent); entries that are given stay 0."""
        if not self.encodes:
            return images.new_zeros(len(images), self.given)
        # networks side by side as channels, channels last in memory
        side_by_side = images.unflatten(0, (self.count, -1)).permute(1, 3, 4, 0, 2).flatten(3, 4)
        maps = side_by_side.to(self.encodes_in).contiguous().permute(0, 3, 1, 2)
        for layer in range(LAYERS):
            maps = self._convolve(maps, f"encoder_{2 * layer}", False, True)
        flat = maps.unflatten(1, (self.count, -1)).transpose(0, 1).flatten(2).float()
        latent = self._multiply(flat, f"encoder_{2 * LAYERS + 1}")
        return F.pad(latent, (self.given, 0)) if self.given else latent

    def decode(self, latent: Tensor) -> Tensor:
        """(count · n, latent) → (count · n, channels, height, width) in [0, 1]."""
        flat = self._multiply(latent.unflatten(0, (self.count, -1)), "decoder_0").relu()
        side_by_side = flat.view(self.count, -1, *self.small).permute(1, 3, 4, 0, 2).flatten(3, 4)
        maps = side_by_side.to(self.decodes_in).contiguous().permute(0, 3, 1, 2)
        for layer in range(LAYERS):
            maps = self._convolve(maps, f"decoder_{3 + 2 * layer}", True, layer < LAYERS - 1)
        images = maps.unflatten(1, (self.count, -1)).transpose(0, 1).float()
        return torch.sigmoid(images).flatten(0, 1)

    def _convolve(self, maps: Tensor, name: str, transposed: bool, rectify: bool) -> Tensor:
        weight, bias = (self.get_parameter(f"{name}_{part}").flatten(0, 1) for part in ("weight", "bias"))
        convolved: Tensor = _Convolution.apply(maps, weight, bias, transposed, self.count, rectify)  # type: ignore[no-untyped-call]
        return convolved

    def _multiply(self, rows: Tensor, name: str) -> Tensor:
        """A linear layer each: (count, n, in) → (count · n, out)."""
        weight, bias = self.get_parameter(f"{name}_weight"), self.get_parameter(f"{name}_bias")
        # the weights first: so their gradient comes in their layout, and half of the time at 256 dimensions is saved
        return torch.baddbmm(bias.unsqueeze(2), weight, rows.transpose(1, 2)).transpose(1, 2).flatten(0, 1)

    @torch.no_grad()
    def unstack(self, number: int, into: Autoencoder) -> None:
        """Copy the weights of one network."""
        for name, parameter in into.named_parameters():
            parameter.copy_(self.get_parameter(name.replace(".", "_"))[number])


class _Seen:
    """What one of stacked networks has just made of a batch, as a network: for its own losses."""

    def __init__(self, latent: Tensor | None, images: Tensor | None) -> None:
        self.latent, self.images = latent, images

    def encode(self, images: Tensor) -> Tensor:
        assert self.latent is not None
        return self.latent

    def decode(self, latent: Tensor) -> Tensor:
        assert self.images is not None
        return self.images


class _Watched:
    """A stacked network that keeps what it made."""

    def __init__(self, network: StackedAutoencoder) -> None:
        self.network = network
        self.latent: Tensor | None = None
        self.images: Tensor | None = None

    def encode(self, images: Tensor) -> Tensor:
        self.latent = self.network.encode(images)
        return self.latent

    def decode(self, latent: Tensor) -> Tensor:
        self.images = self.network.decode(latent)
        return self.images

    def each(self) -> list[Network]:
        """What was made, of each network."""
        count = self.network.count
        parts = [[None] * count if it is None else it.detach().chunk(count) for it in (self.latent, self.images)]
        return [_Seen(latent, images) for latent, images in zip(*parts, strict=True)]


@dataclass
class _Member:
    """One training among the stacked ones. ``sums`` are of the training losses since the last validation, ``rows``
    those of ``curves.csv``, ``best`` the weights with the lowest validation loss and ``lowest`` that loss."""

    out: Path
    data: TrainingData
    settings: Settings
    network: Autoencoder
    sums: dict[str, float] = field(default_factory=dict)
    rows: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    lowest: float = float("inf")

    STATE = ("sums", "rows", "best", "lowest")  # what a checkpoint holds


def train_stacked(
    members: Sequence[tuple[Dataset, Path, int]], out: Path, model: str, **options: Unpack[Options]
) -> None:
    """Train autoencoders that differ in dataset, run folder and seed; ``training.train`` gives the same of each,
    but for rounding. Every run folder gets ``run.json``, ``curves.csv`` and ``face.safetensors``.

    Called again it goes on from the checkpoint in ``out``. Always with the thesis's optimization, and validated after
    every pass.

    Args:
        members: dataset, run folder and seed of each.
        out: folder of the checkpoint.
        model: a name in ``RECIPES`` that is an autoencoder's.
        options: see ``Options``; of them ``epochs``, ``latent``, ``base_channels``, ``precision`` and
            ``checkpoint_every`` count.

    Raises:
        DmsynthError: unsuitable dataset, a run folder that holds something else, or a loss that is not a number.
    """
    options["optimization"] = "thesis"
    group = []
    for dataset, folder, seed in members:
        settings = choose_settings(dataset, model, options | {"seed": seed})
        data = prepare(dataset, settings)
        lightning.seed_everything(seed, verbose=False)
        network = channels_last(first_network(data, settings))
        assert isinstance(network, Autoencoder)
        group.append(_Member(folder, data, settings, network))
    with ExitStack() as held:
        for member in group:
            held.enter_context(begin_run(member.out, member.data.dataset.path, member.settings))
        training = _StackedTraining(group, out / "last.ckpt")
        training.fit(options["epochs"] or 0, options.get("checkpoint_every", timedelta(seconds=30)))
        for member in group:
            training.finish(member)


class _StackedTraining:
    """Steps, validations and checkpoints of stacked networks."""

    def __init__(self, group: list[_Member], checkpoint: Path) -> None:
        self.group, self.checkpoint = group, checkpoint
        settings = group[0].settings
        dtype = torch.bfloat16 if settings.precision == "bf16-mixed" else torch.float32
        # a position loss of a hundred thousandth is that of an encoder whose rounding is far below it
        reads = settings.recipe.objective in ENCODED
        self.network = StackedAutoencoder(
            [member.network for member in group], torch.float32 if reads else dtype, dtype
        )
        self.objective = OBJECTIVES[settings.recipe.objective]
        # as ``training.Training`` does; one tensor a layer for all networks
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=settings.optimization.learning_rate, fused=True)
        self.per_pass = group[0].data.training.batches.per_pass
        self.step, self.seconds = 0, 0.0
        if checkpoint.is_file():
            self._load()

    def fit(self, epochs: int, checkpoint_every: timedelta) -> None:
        """Train to the end of so many passes, and validate after each."""
        begun = saved = time.monotonic()
        before = self.seconds
        while self.step < epochs * self.per_pass:
            for number in range(self.step, self.step + self.per_pass):
                self._train(number)
            self.step += self.per_pass
            self._validate()
            self.seconds = before + time.monotonic() - begun
            if time.monotonic() - saved > checkpoint_every.total_seconds():
                saved = time.monotonic()
                self._save()
        self._save()

    def _batch(self, batches: Sequence[Numbered], numbers: range) -> tuple[Tensor, Tensor]:
        """Batches of every network, the first one's first: images and codes."""
        each = [of_one(number) for of_one in batches for number in numbers]
        return torch.cat([batch[0] for batch in each]), torch.cat([batch[1] for batch in each])

    def _train(self, number: int) -> None:
        images, codes = self._batch([member.data.training.batches for member in self.group], range(number, number + 1))
        seen = _Watched(self.network)
        losses = self.objective(seen, images, codes)
        self.optimizer.zero_grad()
        # a mean over all networks' images: times their number it is the sum of their losses, and each has its gradient
        (len(self.group) * torch.stack(list(losses.values())).sum()).backward()
        self.optimizer.step()
        for member, own in zip(self.group, self._each(seen, images, codes), strict=True):
            for name, value in own.items():
                member.sums[name] = member.sums.get(name, 0.0) + value

    @torch.no_grad()
    def _each(self, seen: _Watched, images: Tensor, codes: Tensor) -> list[dict[str, float]]:
        """The losses of every network in a batch that was just seen."""
        count = len(self.group)
        parts = zip(seen.each(), images.chunk(count), codes.chunk(count), strict=True)
        return [{name: float(value) for name, value in self.objective(*part).items()} for part in parts]

    @torch.no_grad()
    def _validate(self) -> None:
        """A row of every network's curves, and its best weights so far."""
        batches = [member.data.validation.batches for member in self.group]
        totals: list[dict[str, float]] = [{} for _ in self.group]
        each = max(1, _VALIDATED // self.group[0].settings.optimization.batch)
        for first in range(0, batches[0].per_pass, each):
            numbers = range(first, min(first + each, batches[0].per_pass))
            seen = _Watched(self.network)
            images, codes = self._batch(batches, numbers)
            self.objective(seen, images, codes)
            for total, own in zip(totals, self._each(seen, images, codes), strict=True):
                for name, value in own.items():
                    total[name] = total.get(name, 0.0) + value * len(numbers) / batches[0].per_pass
        for number, (member, total) in enumerate(zip(self.group, totals, strict=True)):
            self._note(member, total)
            loss = sum(total.values())
            if loss < member.lowest:
                member.lowest = loss
                self.network.unstack(number, member.network)
                member.best = {name: weights.clone() for name, weights in member.network.state_dict().items()}

    def _note(self, member: _Member, validated: dict[str, float]) -> None:
        row: dict[str, float] = {"step": self.step, "epoch": self.step / self.per_pass}
        row |= {f"train/{name}": total / self.per_pass for name, total in member.sums.items()}
        row |= {f"validation/{name}": value for name, value in validated.items()}
        if not all(map(math.isfinite, row.values())):
            raise DmsynthError(
                f"{member.out}: training diverged: a loss is not a number at step {self.step}; try --precision 32-true"
            )
        member.rows.append(row)
        member.sums.clear()
        with replacing(member.out / "curves.csv", lasting=False) as temporary:
            pd.DataFrame(member.rows).to_csv(temporary, index=False)

    def _save(self) -> None:
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "members": [{name: getattr(member, name) for name in _Member.STATE} for member in self.group],
        }
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        AtomicCheckpoints().save_checkpoint(state, self.checkpoint)

    def _load(self) -> None:
        state = AtomicCheckpoints().load_checkpoint(self.checkpoint)
        self.step, self.seconds = int(state["step"]), float(state["seconds"])
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        for member, kept in zip(self.group, state["members"], strict=True):
            for name in _Member.STATE:
                setattr(member, name, kept[name])

    def finish(self, member: _Member) -> None:
        """The network with its best weights, as a face; its seconds are its share of the group's."""
        member.network.load_state_dict(member.best)
        shape = shape_of(member.data, member.settings)
        seconds = self.seconds / len(self.group)
        face = trained_face(member.network, member.data, shape, member.settings, self.step, seconds)
        save_face(member.out / "face.safetensors", face)
