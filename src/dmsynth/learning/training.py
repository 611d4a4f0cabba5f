"""One way to train any of the models, on Lightning, with exact resume.

A run is a folder:

    run.json             what is trained on what, and how: enough to repeat it
    curves.csv           the losses, a row a validation: training means since the last one, validation means
    live.csv             the training losses every few seconds, where somebody watches
    preview.png          the same few frames, steered by what is learned so far
    last.ckpt            where to go on after an interruption
    best.ckpt            the lowest validation loss so far
    events…              curves and previews for TensorBoard, where it is installed
    face.safetensors     the result, when the run is finished
"""

from __future__ import annotations

import copy
import logging
import os
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, Timer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from numpy.typing import NDArray
from torch import Tensor

from dmsynth.controls import CONTROL_SPACES, ControlSpace
from dmsynth.controls.carried import Carried
from dmsynth.controls.coverage import Coverage, typical
from dmsynth.datasets.dataset import Dataset, nearest_to_neutral
from dmsynth.learning.autoencoder import Autoencoder, channels_last, start_evenly
from dmsynth.learning.batches import Batch, Batches, Stream, to_network
from dmsynth.learning.callbacks import (
    Bar,
    Bound,
    Curves,
    LastCheckpoint,
    LiveLosses,
    Plateau,
    Preview,
    WholeCheckpoints,
)
from dmsynth.learning.face_file import TrainedFace, save_face
from dmsynth.learning.models import RECIPES, Model
from dmsynth.learning.optimization import OPTIMIZATIONS, Optimization
from dmsynth.learning.swapping import OBJECTIVES
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import is_begun, lock, write_json
from dmsynth.support.machine import best_precision, describe_machine
from dmsynth.support.processes import end_with
from dmsynth.support.progress import console
from dmsynth.support.records import Record, read_record
from dmsynth.support.version import __version__

PRECISIONS = ("32-true", "bf16-mixed")
_LOG_EVERY = 25  # steps
_SMALLEST = 32  # pixels to which images are shrunk; on maps of a pixel oneDNN's bfloat16 gradients are not numbers
_ON_A_GPU = 8  # times the batch of a CPU
_JUDGED = 32  # held-out frames that say whether a training still gets better
_SOURCES = 96  # frames kept to steer from, by models that take several
_VALIDATE_EVERY = 200  # steps, at least: validating a small dataset after every pass would cost more than training


@dataclass(frozen=True)
class Settings:
    """What decides a training's outcome; equal settings and an equal bound (steps, epochs) give equal weights on the
    same machine. The bound is not a part, so that a training can be made longer."""

    model: str
    control_space: str
    labels: str
    dataset_sha256: str
    seed: int
    optimization: Optimization
    latent: int | None
    base_channels: int
    precision: str


class Training(lightning.LightningModule):
    """A network under its objective. Losses are logged by name; their sum is minimized (thesis 3.1.4, 3.1.5).

    ``network`` is what the steps change, ``result`` what training is for: the same, or the running mean of it.
    """

    def __init__(self, network: Model, settings: Settings, stream: Stream, bound: Bound) -> None:
        super().__init__()
        self.network = channels_last(network)
        averaged = settings.optimization.average is not None
        self.result = copy.deepcopy(self.network).requires_grad_(False) if averaged else self.network
        self.settings, self.stream, self.bound = settings, stream, bound
        self.objective = OBJECTIVES[RECIPES[settings.model].objective]
        self.done = 0.0  # the share of the training that is over
        self.sums: dict[str, Tensor] = {}  # of the training losses since the last validation

    def training_step(self, batch: Batch, number: int) -> Tensor:
        images, *known = batch
        at_quarter_until, at_half_until = RECIPES[self.settings.model].coarse_until
        shrink = 4 if self.done < at_quarter_until else 2 if self.done < at_half_until else 1
        while min(images.shape[-2:]) < shrink * _SMALLEST:
            shrink //= 2
        if shrink > 1:
            images = F.avg_pool2d(images, shrink)
        losses = self.objective(self.network, images, *known)
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0) + value.detach()
        total = torch.stack(list(losses.values())).sum()
        if (total.is_cpu or self.global_step % _LOG_EVERY == 0) and not torch.isfinite(total):
            # PyTorch's grid_sample crashes the process on the way back through coordinates that are not numbers
            raise DmsynthError(
                f"training diverged: the loss is not a number at step {self.global_step}; try --precision 32-true"
            )
        if self.global_step % _LOG_EVERY == 0:  # a log entry costs a tenth of a small step
            self._log("train", losses, len(batch[0]))
        return total

    def validation_step(self, batch: Batch, number: int) -> None:
        self._log("validation", self.objective(self.result, *batch), len(batch[0]))

    def _log(self, split: str, losses: dict[str, Tensor], images: int) -> None:
        named = losses | {"loss": torch.stack(list(losses.values())).sum()}
        self.log_dict({f"{split}/{name}": value.detach() for name, value in named.items()}, batch_size=images)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.network.parameters(), lr=self.settings.optimization.learning_rate, fused=True)

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        # Lightning's own refuses fused optimizers under bfloat16, whose gradients need no unscaling
        if gradient_clip_val is not None:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), gradient_clip_val)

    def on_train_batch_start(self, batch: Batch, number: int) -> None:
        self.done = self.bound.done(self.global_step)
        if self.trainer.world_size > 1:  # their clocks differ, their weights must not
            self.done = self.trainer.strategy.broadcast(self.done)
        step_size = self.settings.optimization.step_size(self.done)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = step_size

    def optimizer_step(self, *arguments: Any, **named: Any) -> None:
        super().optimizer_step(*arguments, **named)
        average = self.settings.optimization.average  # here and not later, so that a checkpoint holds this step's too
        if average is not None:
            keep = min(average, self.global_step / (self.global_step + 10))  # early weights are forgotten sooner
            torch._foreach_lerp_(list(self.result.parameters()), list(self.network.parameters()), 1 - keep)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.stream.start = int(checkpoint["global_step"])  # one optimizer step a batch


def train(
    dataset: Dataset,
    out: Path,
    model: str = "swapwarp",
    *,
    optimization: str | None = None,
    labels: str | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    max_time: timedelta | None = None,
    seed: int = 0,
    latent: int | None = None,
    base_channels: int | None = None,
    precision: str | None = None,
    batch: int | None = None,
    devices: int = 1,
    checkpoint_every: timedelta = timedelta(seconds=30),
    every_pass: bool = False,
    quiet: bool = False,
) -> Path:
    """Train a model on a dataset; returns the path of ``face.safetensors`` in the run folder ``out``.

    Called again on the same folder it goes on where it stopped: same optimizer state, same order of the data, so a
    run bounded by ``epochs`` or ``steps`` ends with the weights of an unbroken one. A finished run given a larger bound
    goes on too, with the step sizes that the larger bound has at that point. Without a bound on steps or
    epochs SwapWarp ends when held-out frames are steered no better than before (``callbacks.Plateau``), the
    thesis's models after 1000 epochs (4.2).

    Args:
        optimization: a name in ``OPTIMIZATIONS``, such as ``thesis`` for Adam with a fixed step size (3.1.2); by
            default the model's own.
        labels: which labels are the controls: ``tracked`` (as in the thesis, 4.1) or, for posed photos, ``commanded``
            or ``calibrated`` (``Dataset.controls``); by default the model's own.
        max_time: training time, earlier parts of an interrupted run counted in.
        latent, base_channels: of the network; by default the model's own (``RECIPES``).
        precision: Lightning's name, ``32-true`` or ``bf16-mixed``; by default what the machine does fastest.
        batch: images a step; by default the optimization's own, and for SwapWarp on a GPU, which small batches leave
            idle, eight times as many.
        devices: GPUs (or, without any, processes) that train together, each on batches of its own.
        checkpoint_every: how much work a kill may cost.
        every_pass: validate after every pass over the data, however short, for loss curves by epoch.
        quiet: no progress, no TensorBoard files: for one of many trainings at once.

    Raises:
        DmsynthError: unknown model, unsuitable dataset, or a run folder that holds something else.
    """
    if model not in RECIPES:
        raise DmsynthError(f"no model named {model!r}; there is {', '.join(RECIPES)}")
    recipe = RECIPES[model]
    optimization = optimization or recipe.optimization
    if optimization not in OPTIMIZATIONS:
        raise DmsynthError(f"no optimization named {optimization!r}; there is {', '.join(OPTIMIZATIONS)}")
    way, (shown, _) = OPTIMIZATIONS[optimization], dataset.about
    if batch is None and recipe.carries and torch.cuda.is_available():
        batch = _ON_A_GPU * way.batch
    if batch is not None:
        if batch % 2 or batch < 2:
            raise DmsynthError(f"--batch {batch}: neighbours in a batch are swapped; give an even number")
        way = replace(way, batch=batch)
    settings = Settings(
        model=model,
        control_space=recipe.control_space or shown.name,
        labels=labels or recipe.labels or dataset.most_exact_labels,
        dataset_sha256=dataset.sha256,
        seed=seed,
        optimization=way,
        latent=(latent or recipe.latent) if recipe.latent else None,
        base_channels=base_channels or recipe.base_channels,
        precision=precision or best_precision(),
    )
    if settings.precision not in PRECISIONS:
        raise DmsynthError(f"--precision {precision}: give {' or '.join(PRECISIONS)}")
    values = dataset.controls(CONTROL_SPACES[settings.control_space], settings.labels)
    frames = dataset.split("train")
    if len(frames) < 2 * way.batch or not len(dataset.split("test")) + len(dataset.split("validation")):
        raise DmsynthError(f"{dataset.path}: {len(frames)} training frames are too few; make it from more material")
    space = CONTROL_SPACES[settings.control_space].fitted(values[frames])
    if latent is not None and recipe.latent is None:
        raise DmsynthError(f"--latent {latent}: {model} has no latent vector; leave the option out")
    if settings.latent is not None and settings.latent < space.size:
        raise DmsynthError(f"--latent {settings.latent}: must hold the {space.size} controls {', '.join(space.names)}")
    dataset.check_frames()
    codes = space.encode(values)
    carried, sources = Carried(), np.array([nearest_to_neutral(values, frames)])
    if recipe.carries:
        names, quantities = dataset.carried()
        carried = Carried.fitted(names, codes[frames], quantities[frames])
        codes = np.concatenate([codes, carried.encode(names, codes, quantities)], axis=1)
        sources = _steer_from(dataset, codes, carried, space)
    landmarks = dataset.landmarks() if recipe.carries else None
    stream = Stream(
        Batches(dataset, codes, frames, way.batch, seed, sources if recipe.carries else None, landmarks), endless=True
    )
    held_out = dataset.split("validation")
    at_once = max(2, min(way.batch, len(held_out) // 2 * 2))
    validation = Stream(Batches(dataset, codes, held_out, at_once, 0, landmarks=landmarks), endless=False)
    by_itself = way.hold > 0 and steps is None and epochs is None and held_out.size >= 2
    if steps is None and not by_itself and (epochs is not None or max_time is None):
        steps = (epochs or 1000) * stream.batches.per_pass

    lightning.seed_everything(seed, verbose=False)
    width, height = dataset.size
    shape = {
        "width": width,
        "height": height,
        "channels": 1 if dataset.frames.ndim == 3 else 3,
        "base_channels": settings.base_channels,
    }
    if settings.latent is None:
        shape |= {"controls": codes.shape[1]}
    else:
        shape |= {"latent": settings.latent, "given": space.size if recipe.gives_code else 0}
    bound = Bound(steps, Timer(max_time, interval="step"))
    plateau = None
    if by_itself:
        bound.hold, bound.expected = way.hold, recipe.steps or 1
        some = held_out[np.linspace(0, len(held_out) - 1, min(len(held_out), _JUDGED)).round().astype(int)]
        plateau = Plateau(bound, to_network(dataset.frames[some]), torch.from_numpy(codes[some]), space.size)
    network = recipe.network(**shape)
    if way.even_start and isinstance(network, Autoencoder):
        start_evenly(network)
    training = Training(network, settings, stream, bound)
    helper = rank_zero_only.rank != 0  # one of several devices' processes, which Lightning starts
    if helper:
        end_with(os.getppid())
    quiet = quiet or helper
    with _quiet_lightning(), nullcontext() if helper else begin_run(out, dataset, settings):
        trainer = _trainer(out, training, validation, plateau, devices, checkpoint_every, every_pass, quiet)
        parameters = sum(p.numel() for p in training.network.parameters()) / 1e6
        device = trainer.accelerator.__class__.__name__.removesuffix("Accelerator")
        if not quiet:
            console.print(
                f"training {model}: {parameters:.1f} M parameters, {len(frames)} frames of {width}×{height}, "
                f"{device}, {settings.precision}, {optimization} optimization"
            )
        resume = out / "last.ckpt"
        try:
            trainer.fit(
                training,
                stream,
                validation if validation.batches.per_pass else None,
                ckpt_path=resume if resume.is_file() else None,
            )
        except SystemExit:  # what Lightning makes of Ctrl-C
            raise DmsynthError(f"{out}: training interrupted; run the same command again to go on") from None
        trainer.save_checkpoint(resume)
        seconds = bound.timer.time_elapsed("train")
        if validation.batches.per_pass:
            _restore_best(trainer, training, validation, out / "best.ckpt")
        if helper:
            raise SystemExit(0)
        steer_from = (
            Coverage.of(codes[frames], space.size),
            carried,
            np.array(dataset.frames[sources]),
            codes[sources],
        )
        return _finish(out, training, dataset, shape, space, steer_from, trainer.global_step, seconds)


def _steer_from(
    dataset: Dataset, codes: NDArray[np.float32], carried: Carried, space: ControlSpace
) -> NDArray[np.int64]:
    """Which frames to keep to steer from. First the most typical filmed one, both eyes rather open than closed; the
    others are of its recording, so that no steered video goes from one place or light to another."""
    frames, recordings = dataset.split("train"), dataset.labels["recording_index"].to_numpy()
    awake = frames[~dataset.posed[frames]]
    lids = [space.size + number for number, name in enumerate(carried.names) if name.startswith("blink")]
    if lids:
        blink = codes[awake][:, lids].max(axis=1)  # of the eye that is closed further: no winks either
        awake = awake[blink <= np.quantile(blink, 0.3)]
    first = nearest_to_neutral(codes.astype(float), awake)
    same = frames[recordings[frames] == recordings[first]]
    return same[typical(space.comparable(codes[same]), _SOURCES, int(np.flatnonzero(same == first)[0]))]


def _trainer(
    out: Path,
    training: Training,
    validation: Stream,
    plateau: Plateau | None,
    devices: int,
    checkpoint_every: timedelta,
    every_pass: bool,
    quiet: bool,
) -> lightning.Trainer:
    """Lightning's trainer: one endless epoch bounded by steps or time, validated about once a pass."""
    stream, settings, bound = training.stream, training.settings, training.bound
    steps_per_pass = stream.batches.per_pass
    callbacks: list[Callback] = [
        bound.timer,
        LastCheckpoint(out, "last", train_time_interval=checkpoint_every, enable_version_counter=False),
        LiveLosses(out / "live.csv"),
        Curves(out / "curves.csv", steps_per_pass),
    ]
    if plateau is not None:
        callbacks.append(plateau)
    if not quiet:
        shown, codes = stream.batches(0)[:2]
        callbacks += [Preview(shown, codes, out), Bar(bound)]
    validating = validation.batches.per_pass > 0
    if validating:
        best = ModelCheckpoint(
            out, "best", monitor="validation/loss", save_weights_only=True, enable_version_counter=False
        )
        callbacks.append(best)
    elif not quiet:
        console.print("too few validation frames: the last weights are kept instead of the best ones")
    return lightning.Trainer(
        default_root_dir=out,
        accelerator="auto",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        precision=settings.precision,
        max_epochs=-1,
        max_steps=bound.steps or -1,
        gradient_clip_val=settings.optimization.clip,
        val_check_interval=max(1 if every_pass else _VALIDATE_EVERY, steps_per_pass) if validating else None,
        limit_val_batches=None if validating else 0,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        logger=TensorBoardLogger(out, name="", version="") if not quiet and find_spec("tensorboard") else False,
        callbacks=callbacks,
        plugins=[WholeCheckpoints()],
        log_every_n_steps=_LOG_EVERY,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


class _Run(Record):
    """``run.json``, as far as it is read again."""

    settings: dict[str, Any]


@contextmanager
def begin_run(out: Path, dataset: Dataset, settings: Settings) -> Iterator[None]:
    """Make the run folder, or recognize it as this same run, and hold it for the length of the block.

    ``DmsynthError`` if it holds another training or another process is working on it.
    """
    note = out / "run.json"
    if note.is_file():
        before = read_record(note, _Run, "choose another folder or remove it").settings
        different = [name for name, value in asdict(settings).items() if before.get(name) != value]
        if different:
            changes = ", ".join(f"{n} {before.get(n)!r:.200} → {getattr(settings, n)!r:.200}" for n in different)
            raise DmsynthError(f"{out}: holds another training ({changes}); choose another folder or remove it")
    elif out.is_dir() and is_begun(out):
        raise DmsynthError(f"{out}: is not empty and holds no training; choose another folder")
    else:
        out.mkdir(parents=True, exist_ok=True)
        content = {
            "made_by": f"dmsynth {__version__}",
            "dataset": str(dataset.path),
            "settings": asdict(settings),
            "machine": describe_machine(),
        }
        write_json(note, content)
    with note.open("rb") as file:
        lock(file, out)
        yield


def _restore_best(trainer: lightning.Trainer, training: Training, validation: Stream, best: Path) -> None:
    """Put the weights with the lowest validation loss, the last ones included, into ``training``."""
    trainer.logger = None  # the curves end with the training
    monitor = next(c for c in trainer.checkpoint_callbacks if c.monitor == "validation/loss")
    final = float(trainer.validate(training, validation, verbose=False)[0]["validation/loss"])
    if monitor.best_model_score is not None and float(monitor.best_model_score) < final:
        training.load_state_dict(WholeCheckpoints().load_checkpoint(best)["state_dict"])


def _finish(
    out: Path,
    training: Training,
    dataset: Dataset,
    shape: dict[str, int],
    space: ControlSpace,
    steer_from: tuple[Coverage, Carried, NDArray[np.uint8], NDArray[np.float32]],
    steps: int,
    seconds: float,
) -> Path:
    """Write the trained face and its place in the world."""
    settings, (coverage, carried, sources, source_codes) = training.settings, steer_from
    face = TrainedFace(
        network=training.result.cpu().eval(),
        shape=shape,
        model=settings.model,
        space=space,
        coverage=coverage,
        carried=carried,
        sources=sources,
        source_codes=source_codes,
        about={
            "dataset": dataset.path.name,
            "dataset_sha256": dataset.sha256,
            "tracker": dataset.manifest["recipe"].get("tracker"),
            "consent": dataset.manifest.get("consent"),
            "settings": asdict(settings),
            "steps": steps,
            "train_seconds": round(seconds, 1),
            "machine": describe_machine(),
        },
    )
    path = out / "face.safetensors"
    save_face(path, face)
    return path


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep Lightning's advice to developers off the user's terminal, and its hands off a native library's signal.

    At its end Lightning sets every signal's handler to the one that Python knows of. It knows of none for SIGPROF,
    whose handler is MediaPipe's own, and the next tick of MediaPipe's timer would end the process.
    """
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGPROF) == signal.SIG_DFL:
        signal.signal(signal.SIGPROF, signal.SIG_IGN)
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
