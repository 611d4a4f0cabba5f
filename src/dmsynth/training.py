"""One way to train any of the models, on Lightning, with exact resume.

A run is a folder:

    run.json             what is trained on what, and how: enough to repeat it
    last.ckpt            where to go on after an interruption
    best.ckpt            the lowest validation loss so far
    events…              curves and previews for TensorBoard
    face.safetensors     the result, when the run is finished
"""

from __future__ import annotations

import io
import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, Timer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from numpy.typing import NDArray
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor

import dmsynth
from dmsynth.controls import CONTROL_SPACES, ControlSpace
from dmsynth.coverage import Coverage
from dmsynth.dataset import Dataset, nearest_to_neutral
from dmsynth.errors import DmsynthError
from dmsynth.files import lock, read_json, replacing, write_json
from dmsynth.machine import best_precision, describe_machine
from dmsynth.models import RECIPES
from dmsynth.models.autoencoder import Autoencoder, channels_last
from dmsynth.models.face_file import TrainedFace, save_face
from dmsynth.progress import console

PRECISIONS = ("32-true", "bf16-mixed")
_LOG_EVERY = 25  # steps
_VALIDATE_EVERY = 250  # steps, at least: validating a small dataset after every pass would cost more than training


@dataclass(frozen=True)
class Settings:
    """What decides a training's outcome; equal settings give equal weights on the same machine."""

    model: str
    control_space: str
    labels: str
    dataset_sha256: str
    seed: int
    batch: int
    learning_rate: float
    latent: int
    base_channels: int
    precision: str


class Batches:
    """Batches of frames from a memory map. Which frames batch number ``n`` holds is decided by the seed and ``n``
    alone, so a run that starts at batch ``n`` sees what an unbroken one would have seen.

    The neighbours that the swap exchanges come from one recording: the appearance they share, place and light
    included, is what makes one's code with the other's appearance code the one's image.
    """

    def __init__(
        self, dataset: Dataset, codes: NDArray[np.float32], indices: NDArray[np.int64], batch: int, seed: int
    ) -> None:
        self._frames, self._codes, self._batch, self._seed = dataset.frames, codes, batch, seed
        recordings = dataset.labels["recording_index"].to_numpy()[indices]
        self._recordings = [indices[recordings == recording] for recording in np.unique(recordings)]
        self._order = lru_cache(maxsize=1)(self._shuffled)

    @property
    def per_pass(self) -> int:
        """Batches in one pass over the frames; a remainder smaller than a batch sits out the pass."""
        return sum(len(recording) // 2 for recording in self._recordings) * 2 // self._batch

    def _shuffled(self, past: int) -> NDArray[np.int64]:
        """The frames in the order of pass number ``past``."""
        random = np.random.default_rng((self._seed, past))
        pairs = [random.permutation(r)[: len(r) // 2 * 2].reshape(-1, 2) for r in self._recordings]
        return random.permutation(np.concatenate(pairs)).ravel()

    def __call__(self, number: int) -> tuple[Tensor, Tensor]:
        """Batch ``number``: images (batch, channels, h, w) in [0, 1] and codes (batch, k)."""
        past, position = divmod(number, self.per_pass)
        chosen = self._order(past)[position * self._batch : (position + 1) * self._batch]
        return to_network(self._frames[chosen]), torch.from_numpy(self._codes[chosen])


class Stream:
    """Batches one after the other for Lightning, from ``start`` on: endless, or one pass."""

    def __init__(self, batches: Batches, endless: bool) -> None:
        self.batches, self.endless, self.start = batches, endless, 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        number = self.start
        while self.endless or number < self.batches.per_pass:
            yield self.batches(number)
            number += 1


def to_network(frames: NDArray[np.uint8]) -> Tensor:
    """(n, h, w) or (n, h, w, 3) uint8 → (n, channels, h, w) float32 in [0, 1], channels last in memory."""
    images = torch.from_numpy(np.ascontiguousarray(frames)).float().div_(255)
    images = images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2)
    return images.contiguous(memory_format=torch.channels_last)


class Training(lightning.LightningModule):
    """A network under its objective. Losses are logged by name; their sum is minimized (thesis 3.1.4, 3.1.5)."""

    def __init__(self, network: Autoencoder, settings: Settings, stream: Stream) -> None:
        super().__init__()
        self.network = channels_last(network)
        self.settings, self.stream = settings, stream
        self.objective = RECIPES[settings.model].objective

    def training_step(self, batch: tuple[Tensor, Tensor], number: int) -> Tensor:
        return self._losses(batch, "train")

    def validation_step(self, batch: tuple[Tensor, Tensor], number: int) -> Tensor:
        return self._losses(batch, "validation")

    def _losses(self, batch: tuple[Tensor, Tensor], split: str) -> Tensor:
        losses = self.objective(self.network, *batch)
        total = torch.stack(list(losses.values())).sum()
        if split == "validation" or self.global_step % _LOG_EVERY == 0:  # a log entry costs a tenth of a small step
            named = losses | {"loss": total}
            self.log_dict({f"{split}/{name}": value for name, value in named.items()}, batch_size=len(batch[0]))
        return total

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.network.parameters(), lr=self.settings.learning_rate, fused=True)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.stream.start = int(checkpoint["global_step"])  # one optimizer step a batch


class _WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints are whole or absent, whenever the process is killed, and hold no code when they are read."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        content = io.BytesIO()  # torch would hide the reason of a failed write
        torch.save(checkpoint, content)
        with replacing(Path(path)) as temporary:
            temporary.write_bytes(content.getbuffer())

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        try:
            return dict(torch.load(path, map_location=map_location or "cpu", weights_only=True))
        except Exception as error:
            reason = str(error).splitlines()[0]
            raise DmsynthError(f"{path}: damaged checkpoint ({reason}); remove it to train anew") from None


class _Preview(Callback):
    """Pictures for TensorBoard at every validation: sources, targets, and the sources steered to the targets."""

    def __init__(self, images: Tensor, codes: Tensor) -> None:
        self.images, self.codes = images, codes

    def on_validation_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        if not isinstance(trainer.logger, TensorBoardLogger) or trainer.sanity_checking:
            return
        with torch.no_grad():
            images, codes = self.images.to(module.device), self.codes.to(module.device)
            steered = module.network.steer(module.network.encode(images), codes.roll(1, 0))
        rows = [images, images.roll(1, 0), steered.float()]
        grid = torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1)
        trainer.logger.experiment.add_image("source, target, steered", grid.clamp(0, 1), trainer.global_step)


class _Bar(Callback):
    """Progress by steps or by time, whichever bound is nearer, with rate, time left and the losses."""

    def __init__(self, steps: int, timer: Timer | None) -> None:
        self.steps, self.timer = steps, timer

    def _share(self, trainer: lightning.Trainer) -> float:
        by_steps = trainer.global_step / self.steps if self.steps > 0 else 0.0
        elapsed = self.timer.time_elapsed("train") if self.timer else 0.0
        left = self.timer.time_remaining("train") if self.timer else None
        by_time = elapsed / (elapsed + left) if left is not None and elapsed + left > 0 else 0.0
        return min(1.0, max(by_steps, by_time))

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self.first, self.first_share, self.begun = trainer.global_step, self._share(trainer), time.monotonic()
        columns = (
            TextColumn("training"),
            BarColumn(),
            TextColumn("{task.percentage:.0f} %"),
            TimeElapsedColumn(),
        )
        self.progress = Progress(
            *columns, TextColumn("{task.description}"), console=console, disable=not console.is_terminal
        )
        self.task = self.progress.add_task("", total=1.0)
        self.progress.update(self.task, completed=self.first_share)
        self.progress.start()

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        number: int,
    ) -> None:
        if trainer.global_step % 10 and trainer.global_step > self.first + 1:
            return
        share, seconds = self._share(trainer), time.monotonic() - self.begun
        left = seconds * (1 - share) / max(share - self.first_share, 1e-9)
        rate = (trainer.global_step - self.first) / max(seconds, 1e-9)
        shown = ("train/swap", "validation/swap")
        losses = "  ".join(
            f"{n} {float(trainer.callback_metrics[n]):.5f}" for n in shown if n in trainer.callback_metrics
        )
        text = f"left {timedelta(seconds=round(left))}  step {trainer.global_step}  {rate:.1f}/s  {losses}"
        self.progress.update(self.task, completed=share, description=text)

    def _stop(self) -> None:
        self.progress.stop()

    def on_train_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self._stop()
        steps, seconds = trainer.global_step - self.first, time.monotonic() - self.begun
        console.print(f"trained {steps} steps in {seconds:.0f} s, {trainer.global_step} in all")

    def on_exception(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, exception: BaseException
    ) -> None:
        if hasattr(self, "progress"):
            self._stop()


def train(
    dataset: Dataset,
    out: Path,
    model: str = "rotation",
    *,
    labels: str = "tracked",
    epochs: int | None = None,
    steps: int | None = None,
    max_time: timedelta | None = None,
    seed: int = 0,
    latent: int | None = None,
    base_channels: int | None = None,
    precision: str | None = None,
    checkpoint_every: timedelta = timedelta(seconds=30),
) -> Path:
    """Train a model on a dataset; returns the path of ``face.safetensors`` in the run folder ``out``.

    Called again on the same folder it goes on where it stopped: same optimizer state, same order of the data, so a
    run bounded by ``epochs`` or ``steps`` ends with the weights of an unbroken one. Without any bound it runs the
    thesis's 1000 epochs (4.2).

    Args:
        labels: which labels are the controls: ``tracked`` (as in the thesis, 4.1) or, for posed photos,
            ``commanded``.
        max_time: training time, earlier parts of an interrupted run counted in.
        latent, base_channels: of the network; by default the model's own (8 and 64).
        precision: Lightning's name, ``32-true`` or ``bf16-mixed``; by default what the machine does fastest.
        checkpoint_every: how much work a kill may cost.

    Raises:
        DmsynthError: unknown model, unsuitable dataset, or a run folder that holds something else.
    """
    if model not in RECIPES:
        raise DmsynthError(f"no model named {model!r}; there is {', '.join(RECIPES)}")
    recipe = RECIPES[model]
    settings = Settings(
        model=model,
        control_space=recipe.control_space,
        labels=labels,
        dataset_sha256=dataset.sha256,
        seed=seed,
        batch=recipe.batch,
        learning_rate=recipe.learning_rate,
        latent=latent or recipe.latent,
        base_channels=base_channels or recipe.base_channels,
        precision=precision or best_precision(),
    )
    if settings.precision not in PRECISIONS:
        raise DmsynthError(f"--precision {precision}: give {' or '.join(PRECISIONS)}")
    values = dataset.controls(CONTROL_SPACES[settings.control_space], labels)
    frames = dataset.split("train")
    if len(frames) < 2 * recipe.batch or not len(dataset.split("test")):
        raise DmsynthError(f"{dataset.path}: {len(frames)} training frames are too few; make it from more material")
    space = CONTROL_SPACES[settings.control_space].fitted(values[frames])
    codes = space.encode(values)
    stream = Stream(Batches(dataset, codes, frames, recipe.batch, seed), endless=True)
    validation = Stream(Batches(dataset, codes, dataset.split("validation"), recipe.batch, 0), endless=False)
    if steps is None and (epochs is not None or max_time is None):
        steps = (epochs or 1000) * stream.batches.per_pass

    lightning.seed_everything(seed, verbose=False)
    width, height = dataset.size
    shape = {
        "width": width,
        "height": height,
        "channels": 1 if dataset.frames.ndim == 3 else 3,
        "latent": settings.latent,
        "base_channels": settings.base_channels,
    }
    training = Training(recipe.network(**shape), settings, stream)
    timer = Timer(max_time, interval="step")
    with _quiet_lightning(), begin_run(out, dataset, settings):
        trainer = _trainer(out, settings, timer, steps, stream, validation, checkpoint_every)
        parameters = sum(p.numel() for p in training.parameters()) / 1e6
        device = trainer.accelerator.__class__.__name__.removesuffix("Accelerator")
        console.print(
            f"training {model}: {parameters:.1f} M parameters, {len(frames)} frames of {width}×{height}, "
            f"{device}, {settings.precision}"
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
        seconds = timer.time_elapsed("train")
        if validation.batches.per_pass:
            _restore_best(trainer, training, validation, out / "best.ckpt")
        return _finish(out, training, dataset, shape, space, codes[frames], trainer.global_step, seconds)


def _trainer(
    out: Path,
    settings: Settings,
    timer: Timer,
    steps: int | None,
    stream: Stream,
    validation: Stream,
    checkpoint_every: timedelta,
) -> lightning.Trainer:
    """Lightning's trainer: one endless epoch bounded by steps or time, validated about once a pass."""
    callbacks: list[Callback] = [
        timer,
        ModelCheckpoint(out, "last", train_time_interval=checkpoint_every, enable_version_counter=False),
        _Preview(*stream.batches(0)),
        _Bar(steps or 0, timer if timer.time_remaining() is not None else None),
    ]
    validating = validation.batches.per_pass > 0
    if validating:
        callbacks.append(ModelCheckpoint(out, "best", monitor="validation/loss", enable_version_counter=False))
    else:
        console.print("too few validation frames: the last weights are kept instead of the best ones")
    return lightning.Trainer(
        default_root_dir=out,
        accelerator="auto",
        devices=1,
        precision=settings.precision,
        max_epochs=-1,
        max_steps=steps if steps is not None else -1,
        val_check_interval=max(_VALIDATE_EVERY, stream.batches.per_pass) if validating else None,
        limit_val_batches=None if validating else 0,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        logger=TensorBoardLogger(out, name="", version=""),
        callbacks=callbacks,
        plugins=[_WholeCheckpoints()],
        log_every_n_steps=_LOG_EVERY,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


@contextmanager
def begin_run(out: Path, dataset: Dataset, settings: Settings) -> Iterator[None]:
    """Make the run folder, or recognize it as this same run, and hold it for the length of the block.

    ``DmsynthError`` if it holds another training or another process is working on it.
    """
    note = out / "run.json"
    if note.is_file():
        before = read_json(note).get("settings", {})
        different = [name for name, value in asdict(settings).items() if before.get(name) != value]
        if different:
            changes = ", ".join(f"{name} {before.get(name)!r} → {getattr(settings, name)!r}" for name in different)
            raise DmsynthError(f"{out}: holds another training ({changes}); choose another folder or remove it")
    elif out.exists() and any(out.iterdir()):
        raise DmsynthError(f"{out}: is not empty and holds no training; choose another folder")
    else:
        out.mkdir(parents=True, exist_ok=True)
        content = {
            "made_by": f"dmsynth {dmsynth.__version__}",
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
        training.load_state_dict(_WholeCheckpoints().load_checkpoint(best)["state_dict"])


def _finish(
    out: Path,
    training: Training,
    dataset: Dataset,
    shape: dict[str, int],
    space: ControlSpace,
    codes: NDArray[np.float32],
    steps: int,
    seconds: float,
) -> Path:
    """Write the trained face and its place in the world."""
    settings = training.settings
    face = TrainedFace(
        network=training.network.cpu().eval(),
        shape=shape,
        model=settings.model,
        space=space,
        coverage=Coverage.of(codes),
        source=np.array(dataset.frames[nearest_to_neutral(dataset)]),
        about={
            "dataset": dataset.path.name,
            "dataset_sha256": dataset.sha256,
            "tracker": dataset.manifest["recipe"].get("tracker"),
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
    """Keep Lightning's advice to developers off the user's terminal."""
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
