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
import math
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import MISSING, asdict, dataclass, fields
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Unpack

import lightning
import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, Timer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from dmsynth.datasets.dataset import Dataset
from dmsynth.learning.autoencoder import Autoencoder, begin_as_bright, channels_last, init_decoder
from dmsynth.learning.batches import Batch, Stream, to_network
from dmsynth.learning.callbacks import (
    AtomicCheckpoints,
    Bar,
    Bound,
    Curves,
    LastCheckpoint,
    LiveLosses,
    Plateau,
    Preview,
)
from dmsynth.learning.data import TrainingData, prepare
from dmsynth.learning.face_file import SourceFeatures, TrainedFace, save_face
from dmsynth.learning.models import Model
from dmsynth.learning.settings import ADAPTING, Options, Settings, choose_settings
from dmsynth.learning.swapping import OBJECTIVES, Window
from dmsynth.learning.warm_start import begun_from
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import is_begun, lock, write_json
from dmsynth.support.machine import describe_machine
from dmsynth.support.processes import end_with
from dmsynth.support.progress import console
from dmsynth.support.records import Record, read_record
from dmsynth.support.version import __version__

_LOG_EVERY = 25  # steps
_SMALLEST = 32  # pixels to which images are shrunk; on maps of a pixel oneDNN's bfloat16 gradients are not numbers
_ALIGNED = 8  # pixels: windows begin and end at multiples of it
_ANYWHERE = 0.2  # of the windows, so that the picture's edges are learned, too
_STARVED = 1 / 3  # of a model's usual steps: too few to be looked at
_BRIGHTNESS = 100  # training frames whose mean brightness an autoencoder begins with
_JUDGED = 32  # held-out frames that say whether a training still gets better
_VALIDATE_EVERY = 200  # steps, at least: validating a small dataset after every pass would cost more than training


class Training(lightning.LightningModule):
    """A network under its objective. Losses are logged by name; their sum is minimized (thesis 3.1.4, 3.1.5).

    ``network`` is what the steps change, ``result`` what training is for: the same, or the running mean of it.
    """

    def __init__(self, network: Any, settings: Settings, stream: Stream, bound: Bound) -> None:
        super().__init__()
        self.network = channels_last(network)
        averaged = settings.optimization.average is not None
        self.result = copy.deepcopy(self.network).requires_grad_(False) if averaged else self.network
        self.settings, self.stream, self.bound = settings, stream, bound
        self.objective = OBJECTIVES[settings.recipe.objective]
        self.done = 0.0  # the share of the training that is over
        self.seconds = 0.0  # that it took
        self.sums: dict[str, Tensor] = {}  # of the training losses since the last validation

    def of_batch(self, network: Any, batch: Batch) -> tuple[Any, Batch]:
        """The network that draws a batch, and what the objective takes of it."""
        return network, batch

    def training_step(self, batch: Batch, number: int) -> Tensor:
        network, (images, *known) = self.of_batch(self.network, batch)
        begun = self.settings.begin is not None  # large movements are known
        at_quarter_until, at_half_until = (0.0, 0.0) if begun else self.settings.recipe.coarse_until
        shrink = 4 if self.done < at_quarter_until else 2 if self.done < at_half_until else 1
        while min(images.shape[-2:]) < shrink * _SMALLEST:
            shrink //= 2
        if shrink > 1:
            images = F.avg_pool2d(images, shrink)
        if self.settings.recipe.window < 1 and shrink == 1:
            landmarks = known[1] if len(known) > 1 else None
            losses = self.objective(network, images, *known, window=self._window(images, landmarks))
        else:
            losses = self.objective(network, images, *known)
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0) + value.detach()
        total = torch.stack(list(losses.values())).sum()
        if (total.is_cpu or self.global_step % _LOG_EVERY == 0) and not torch.isfinite(total):
            # PyTorch's grid_sample crashes the process on the way back through coordinates that are not numbers
            raise DmsynthError(
                f"training diverged: the loss is not a number at step {self.global_step}; try --precision 32-true"
            )
        if self.global_step % _LOG_EVERY == 0:  # a log entry costs a tenth of a small step
            self._log("train", losses, len(images))
        return total

    def _window(self, images: Tensor, landmarks: Tensor | None) -> Window:
        """A part of the images, mostly about the head, at a random place that the seed and the step decide."""
        random = np.random.default_rng((self.settings.seed, self.global_step))
        anywhere = landmarks is None or random.random() < _ANYWHERE
        head = None if anywhere else landmarks[random.integers(len(images))].mean(0).flip(0).tolist()  # type: ignore[index]
        window = []
        for axis, size in enumerate(images.shape[-2:]):
            length = math.ceil(self.settings.recipe.window * size / _ALIGNED) * _ALIGNED
            begin = random.uniform(0, size - length)
            if head is not None:
                begin = min(max(head[axis] * size + random.uniform(-0.75, -0.25) * length, 0), size - length)
            at = round(begin / _ALIGNED) * _ALIGNED
            window.append(slice(at, at + length))
        return window[0], window[1]

    def validation_step(self, batch: Batch, number: int) -> None:
        network, content = self.of_batch(self.result, batch)
        self._log("validation", self.objective(network, *content), len(content[0]))

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


def train(dataset: Dataset, out: Path, model: str = "swapwarp", **options: Unpack[Options]) -> Path:
    """Train a model on a dataset; returns the path of ``face.safetensors`` in the run folder ``out``.

    Called again on the same folder it goes on where it stopped: same optimizer state, same order of the data, so a
    run bounded by ``epochs`` or ``steps`` ends with the weights of an unbroken one. A finished run given a larger bound
    goes on too, with the step sizes that the larger bound has at that point.

    Args:
        model: a name in ``RECIPES``.
        options: see ``Options``.

    Raises:
        DmsynthError: unknown model, unsuitable dataset, or a run folder that holds something else.
    """
    settings = choose_settings(dataset, model, options)
    data = prepare(dataset, settings)
    lightning.seed_everything(settings.seed, verbose=False)
    shape = shape_of(data, settings)
    begin = options.get("begin")
    network = first_network(data, settings) if begin is None else begun_from(begin, data)
    bound, plateau = _bound(data, settings, options)
    training = Training(network, settings, data.training, bound)
    frames, (width, height) = len(dataset.split("train")), dataset.size
    material = Material(dataset.path, f"{frames} frames of {width}×{height}", data.validation)

    def finish(steps: int) -> Path:
        path = out / "face.safetensors"
        save_face(path, trained_face(training.result, data, shape, settings, steps, training.seconds))
        return path

    return fit(training, out, material, finish, options, plateau)


@dataclass(frozen=True)
class Material:
    """What a training learns from, for its run folder and its user: where it lies (of a cast, for each person), how
    much it is, and held-out batches."""

    path: Path | dict[str, str]
    extent: str
    validation: Stream


def fit(
    training: Training,
    out: Path,
    material: Material,
    finish: Callable[[int], Path],
    options: Options,
    plateau: Plateau | None = None,
) -> Path:
    """Train, or go on, in the run folder ``out``; then ``finish`` writes the result, of so many steps, and says
    where."""
    settings = training.settings
    helper = rank_zero_only.rank != 0  # one of several devices' processes, which Lightning starts
    if helper:
        end_with(os.getppid())
        options["quiet"] = True
    with _quiet_lightning(), nullcontext() if helper else begin_run(out, material.path, settings):
        trainer = _trainer(out, training, material.validation, plateau, options)
        if not options.get("quiet"):
            optimization = options.get("optimization") or settings.recipe.optimization
            _announce(trainer, training, material, optimization)
        _run(trainer, training, material.validation, out)
        if helper:
            raise SystemExit(0)
        if not options.get("quiet"):
            _warn_if_starved(trainer.global_step, settings)
        return finish(trainer.global_step)


def shape_of(data: TrainingData, settings: Settings) -> dict[str, int]:
    """The arguments of the network."""
    height, width = data.frames.shape[1:3]
    channels = 1 if data.frames.ndim == 3 else 3
    shape = {"width": width, "height": height, "channels": channels, "base_channels": settings.base_channels}
    if settings.latent is None:
        return shape | {"controls": data.codes.shape[1]}
    return shape | {"latent": settings.latent, "given": data.space.size if settings.recipe.gives_code else 0}


def first_network(data: TrainingData, settings: Settings) -> Model:
    """The network with its first weights (thesis 3.1.3)."""
    network = settings.recipe.network(**shape_of(data, settings))
    if settings.optimization.even_start and isinstance(network, Autoencoder):
        init_decoder(network)
    if settings.optimization.mean_start and isinstance(network, Autoencoder):
        chosen = data.dataset.split("train")
        shown = chosen[np.linspace(0, len(chosen) - 1, min(len(chosen), _BRIGHTNESS)).round().astype(int)]
        begin_as_bright(network, float(np.mean(data.frames[shown]) / 255))
    return network


def _bound(data: TrainingData, settings: Settings, options: Options) -> tuple[Bound, Plateau | None]:
    """When training ends: after so many steps or so much time, or by itself, when it gets no better."""
    epochs, steps, max_time = options.get("epochs"), options.get("steps"), options.get("max_time")
    hold = settings.optimization.hold
    if settings.begin is not None and (steps, epochs, max_time) == (None, None, None):
        steps = ADAPTING
    by_itself = hold > 0 and steps is None and epochs is None and settings.begin is None and data.held_out.size >= 2
    if steps is None and not by_itself and (epochs is not None or max_time is None):
        steps = (epochs or 1000) * data.training.batches.per_pass
    bound = Bound(steps, Timer(max_time, interval="step"))
    if not by_itself:
        return bound, None
    bound.hold, bound.expected = hold, settings.recipe.steps or 1
    judged = np.linspace(0, len(data.held_out) - 1, min(len(data.held_out), _JUDGED)).round().astype(int)
    frames = data.held_out[judged]
    images, codes = to_network(data.frames[frames]), torch.from_numpy(data.codes[frames])
    return bound, Plateau(bound, images, codes, data.space.size)


def _announce(trainer: lightning.Trainer, training: Training, material: Material, optimization: str) -> None:
    settings = training.settings
    parameters = sum(p.numel() for p in training.network.parameters()) / 1e6
    device = trainer.accelerator.__class__.__name__.removesuffix("Accelerator")
    console.print(
        f"training {settings.model}: {parameters:.1f} M parameters, {material.extent}, {device}, "
        f"{settings.precision}, {optimization} optimization"
    )


def _warn_if_starved(steps: int, settings: Settings) -> None:
    """A training bounded by time learns almost nothing where other programs use the processor, and looks finished."""
    usual = settings.recipe.steps
    usual = usual if settings.begin is None else ADAPTING
    if usual is not None and steps < _STARVED * usual:
        console.print(
            f"warning: only {steps} steps, where {usual} are usual: this face may be distorted; run the same command "
            "with a larger --max-time or --steps to go on, and let nothing else use the processor meanwhile",
            style="yellow",
        )


def _run(trainer: lightning.Trainer, training: Training, validation: Stream, out: Path) -> None:
    """Train, or go on; then put the best weights into ``training``."""
    resume, validates = out / "last.ckpt", validation.batches.per_pass > 0
    try:
        trainer.fit(
            training,
            training.stream,
            validation if validates else None,
            ckpt_path=resume if resume.is_file() else None,
        )
    except SystemExit:  # what Lightning makes of Ctrl-C
        raise DmsynthError(f"{out}: training interrupted; run the same command again to go on") from None
    trainer.save_checkpoint(resume)
    training.seconds = training.bound.timer.time_elapsed("train")
    if validates:
        _restore_best(trainer, training, validation, out / "best.ckpt")


def _trainer(
    out: Path, training: Training, validation: Stream, plateau: Plateau | None, options: Options
) -> lightning.Trainer:
    """Lightning's trainer: one endless epoch bounded by steps or time, validated about once a pass."""
    stream, settings, bound = training.stream, training.settings, training.bound
    quiet, devices = options.get("quiet", False), options.get("devices", 1)
    steps_per_pass = stream.batches.per_pass
    callbacks: list[Callback] = [
        bound.timer,
        LastCheckpoint(
            out,
            "last",
            train_time_interval=options.get("checkpoint_every", timedelta(seconds=30)),
            enable_version_counter=False,
        ),
        LiveLosses(out / "live.csv"),
        Curves(out / "curves.csv", steps_per_pass),
    ]
    if plateau is not None:
        callbacks.append(plateau)
    if not quiet:
        callbacks += [Preview(stream.batches(0), out), Bar(bound)]
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
        val_check_interval=max(1 if options.get("every_pass") else _VALIDATE_EVERY, steps_per_pass)
        if validating
        else None,
        limit_val_batches=None if validating else 0,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        logger=TensorBoardLogger(out, name="", version="") if not quiet and find_spec("tensorboard") else False,
        callbacks=callbacks,
        plugins=[AtomicCheckpoints()],
        log_every_n_steps=_LOG_EVERY,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


class _Run(Record):
    """``run.json``, as far as it is read again."""

    settings: dict[str, Any]
    forgot: str | None = None


@contextmanager
def begin_run(out: Path, dataset: Path | dict[str, str], settings: Settings) -> Iterator[None]:
    """Make the run folder, or recognize it as this same run, and hold it for the length of the block.

    ``DmsynthError`` if it holds another training or another process is working on it.
    """
    note = out / "run.json"
    if note.is_file():
        run = read_record(note, _Run, "choose another folder or remove it")
        if run.forgot:
            raise DmsynthError(f"{out}: a person of this cast was forgotten; train the others in another folder")
        usual = {field.name: field.default for field in fields(settings) if field.default is not MISSING}
        before = usual | run.settings  # of earlier versions, which had not all of them
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
            **({"people": dataset} if isinstance(dataset, dict) else {"dataset": str(dataset)}),
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
        training.load_state_dict(AtomicCheckpoints().load_checkpoint(best)["state_dict"])


def trained_face(
    network: Any, data: TrainingData, shape: dict[str, int], settings: Settings, steps: int, seconds: float
) -> TrainedFace:
    """A trained network with all that it needs to be steered, and how it was made."""
    dataset = data.dataset
    return TrainedFace(
        network=network.cpu().eval(),
        shape=shape,
        model=settings.model,
        space=data.space,
        coverage=data.coverage,
        carried=data.carried,
        sources=np.array(dataset.frames[data.sources]),
        source_codes=data.codes[data.sources],
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
        features=_source_features(data, settings),
    )


def _source_features(data: TrainingData, settings: Settings) -> SourceFeatures | None:
    """Where the facial features of the source frames are, if the head alone was learned and the dataset knows."""
    landmarks = data.dataset.feature_landmarks()
    if landmarks is None or data.space.name != "rotation" or not settings.recipe.carries:
        return None
    return SourceFeatures(landmarks[data.sources], data.dataset.features[data.sources].astype(np.float32))


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
