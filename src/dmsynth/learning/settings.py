"""What is decided before a training: by its model's recipe, unless the user says otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TypedDict, TypeVar

import torch

from dmsynth.controls import CONTROL_SPACES
from dmsynth.datasets.dataset import Dataset
from dmsynth.learning.face_file import located, read_people
from dmsynth.learning.models import RECIPES, Recipe
from dmsynth.learning.optimization import OPTIMIZATIONS, Optimization
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import sha256_of
from dmsynth.support.machine import best_precision

PRECISIONS = ("32-true", "bf16-mixed")
T = TypeVar("T")
ADAPTING = 500  # steps of a training that begins from a trained face: 30 s on two cores
_GPU_BATCH = 8  # times the batch of a CPU


class Options(TypedDict, total=False):
    """What a user may say of a training. What is left out, or None, is decided by the model's recipe.

    Attributes:
        optimization: a name in ``OPTIMIZATIONS``, such as ``thesis`` for Adam with a fixed step size (3.1.2).
        controls: a name in ``CONTROL_SPACES``: what is learned to be steered; by default what the dataset shows.
        labels: which labels are the controls: ``tracked`` (as in the thesis, 4.1) or, for posed photos, ``commanded``
            or ``calibrated`` (``Dataset.controls``).
        epochs, steps: the bound. Without one SwapWarp ends when held-out frames are steered no better than before
            (``callbacks.Plateau``), the thesis's models after 1000 epochs (4.2).
        max_time: training time, earlier parts of an interrupted run included.
        seed: of weights and batches.
        latent, base_channels: size of the network.
        precision: Lightning's name, ``32-true`` or ``bf16-mixed``; by default the faster one on this machine.
        begin: a face file, or one of a cast, whose network is the beginning (``learning.warm_start``); the training is
            then short: ``ADAPTING`` steps unless there is another bound.
        transfer: of a cast: people are also drawn with each other's controls (``swapping.swap_warp_transfer``).
        batch: images per step; by default the optimization's own, and for SwapWarp on a GPU eight times as many.
        devices: GPUs (or, without any, processes) that train together, each on batches of its own.
        checkpoint_every: how much work a kill may cost; by default 30 s.
        every_pass: validate after every pass over the data, however short, for loss curves by epoch.
        quiet: no progress, no TensorBoard files: for one of many trainings at once.
    """

    optimization: str | None
    controls: str | None
    labels: str | None
    epochs: int | None
    steps: int | None
    max_time: timedelta | None
    seed: int
    latent: int | None
    base_channels: int | None
    precision: str | None
    begin: Path | None
    transfer: bool
    batch: int | None
    devices: int
    checkpoint_every: timedelta
    every_pass: bool
    quiet: bool


@dataclass(frozen=True)
class Settings:
    """What decides a training's outcome; equal settings and an equal bound (steps, epochs) give equal weights on the
    same machine. The bound is not a part, so that a training can be made longer. ``begin`` is the SHA-256 of the face
    file that it begins from, ``transfer`` is of a cast (``swapping.swap_warp_transfer``)."""

    model: str
    control_space: str
    labels: str
    dataset_sha256: str
    seed: int
    optimization: Optimization
    latent: int | None
    base_channels: int
    precision: str
    begin: str | None = None
    transfer: bool = False

    @property
    def recipe(self) -> Recipe:
        return RECIPES[self.model]


def choose_settings(dataset: Dataset, model: str, options: Options) -> Settings:
    """The settings of a training. ``DmsynthError`` for a name or number that there is not, or that does not fit."""
    recipe = _named(model, RECIPES, "model")
    precision, latent, begin = options.get("precision"), options.get("latent"), options.get("begin")
    settings = Settings(
        model=model,
        control_space=_control_space(dataset, model, recipe, options.get("controls")),
        labels=options.get("labels") or recipe.labels or dataset.most_exact_labels,
        dataset_sha256=dataset.sha256,
        seed=options.get("seed", 0),
        optimization=_optimization(recipe, options),
        latent=(latent or recipe.latent) if recipe.latent else None,
        base_channels=_width(begin, options.get("base_channels")) or recipe.base_channels,
        precision=precision or best_precision(),
        begin=_identified(begin) if begin else None,
        transfer=options.get("transfer", False),
    )
    if begin and not recipe.carries:
        raise DmsynthError(f"--from {begin}: {model} begins from nothing; leave the option out")
    if settings.precision not in PRECISIONS:
        raise DmsynthError(f"--precision {precision}: give {' or '.join(PRECISIONS)}")
    space = CONTROL_SPACES[settings.control_space]
    if latent is not None and recipe.latent is None:
        raise DmsynthError(f"--latent {latent}: {model} has no latent vector; leave the option out")
    if settings.latent is not None and settings.latent < space.size:
        raise DmsynthError(f"--latent {settings.latent}: must hold the {space.size} controls {', '.join(space.names)}")
    return settings


def _width(begin: Path | None, wanted: int | None) -> int | None:
    """The base channels that are given: by the face that a training begins from, or by the user."""
    if begin is None:
        return wanted
    widths = {face.shape["base_channels"] for face in read_people(begin).values()}
    if len(widths) > 1:
        raise DmsynthError(f"--from {begin}: its networks have different base channels; name one: {begin}#PERSON")
    width = widths.pop()
    if wanted not in (None, width):
        raise DmsynthError(f"--base-channels {wanted}: {begin} has {width}, which stays; leave the option out")
    return width


def _identified(face: Path) -> str:
    """The SHA-256 of a face's file, and who of a cast it is."""
    file, person = located(face)
    return sha256_of(file) + (f"#{person}" if person else "")


def _control_space(dataset: Dataset, model: str, recipe: Recipe, controls: str | None) -> str:
    if controls is None:
        return recipe.control_space or dataset.about[0].name
    if recipe.control_space not in (None, controls):
        raise DmsynthError(f"--controls {controls}: {model} is trained on {recipe.control_space}; choose another model")
    return _named(controls, CONTROL_SPACES, "control space").name


def _optimization(recipe: Recipe, options: Options) -> Optimization:
    optimization = _named(options.get("optimization") or recipe.optimization, OPTIMIZATIONS, "optimization")
    batch = options.get("batch")
    if batch is None and recipe.carries and torch.cuda.is_available():
        batch = _GPU_BATCH * optimization.batch
    if batch is None:
        return optimization
    if batch % 2 or batch < 2:
        raise DmsynthError(f"--batch {batch}: neighbours in a batch are swapped; give an even number")
    return replace(optimization, batch=batch)


def _named(name: str, known: Mapping[str, T], what: str) -> T:
    if name not in known:
        raise DmsynthError(f"no {what} named {name!r}; there is {', '.join(known)}")
    return known[name]
