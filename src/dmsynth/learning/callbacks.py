"""What happens around the steps of a training: when it ends, its curves, checkpoints, previews and progress."""

from __future__ import annotations

import io
import math
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, Timer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor

from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import replacing
from dmsynth.support.progress import console, is_watched, report
from dmsynth.video import write_image


@dataclass
class Bound:
    """When a training ends: after so many steps, or after a time, whichever comes first; or ``Plateau`` says it.

    Attributes:
        steps: how many at most; None: no bound.
        hold: without a bound on the steps, the share of the training that is over while nobody has said that it ends.
        expected: and how many steps that share takes, about.
        cooling_from: at which step it was said; the rest of the training is half as long as what came before.
    """

    steps: int | None
    timer: Timer
    hold: float = 0.0
    expected: int = 1
    cooling_from: int | None = None

    def done(self, step: int) -> float:
        """The share of the training that is over, 0 to 1."""
        by_steps = 0.0
        if self.steps:
            by_steps = step / self.steps
        elif self.cooling_from is not None:
            by_steps = self.hold + (1 - self.hold) * self._cooled(step)
        elif self.hold:
            by_steps = self.hold * min(1.0, step / self.expected)
        elapsed, left = self.timer.time_elapsed("train"), self.timer.time_remaining("train")
        by_time = elapsed / (elapsed + left) if left is not None and elapsed + left > 0 else 0.0
        return min(1.0, max(by_steps, by_time))

    def is_over(self, step: int) -> bool:
        """Whether the rest that ``Plateau`` allowed is done. By steps alone: several processes' clocks differ, and one
        that stopped before the others would leave them waiting."""
        return self._cooled(step) >= 1

    def _cooled(self, step: int) -> float:
        return 2 * (step - self.cooling_from) / self.cooling_from if self.cooling_from else 0.0


class Plateau(Callback):
    """Ends a training when held-out frames are steered no better than before: neither nearer to their controls, as
    the encoder reads them, nor sharper. The step size then falls to 0, and the training stops.

    ``history`` has a row a validation: mean distance of the controls read from those commanded, and sharpness as the
    variance of the Laplacian of the steered frames over that of the real ones.

    Args:
        images, codes: held-out frames (n, channels, h, w) and their codes (n, k or more).
        controls: k, how many of a code are commanded.
    """

    PATIENCE = 4  # validations that are compared with as many before them
    GAIN = 0.02  # what counts as better: a share of the distance, or of the sharpness

    def __init__(self, bound: Bound, images: Tensor, codes: Tensor, controls: int) -> None:
        self.bound, self.images, self.codes, self.controls = bound, images, codes, controls
        self.history: list[tuple[float, float]] = []

    def on_validation_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        if self.bound.cooling_from is None:
            self.history.append(self._measure(module))
            if trainer.global_step >= self.bound.expected and self.is_flat(self.history):
                self.bound.cooling_from = trainer.global_step

    def on_train_batch_end(self, trainer: lightning.Trainer, *arguments: Any, **named: Any) -> None:
        if self.bound.is_over(trainer.global_step):
            trainer.should_stop = True

    @classmethod
    def is_flat(cls, history: list[tuple[float, float]]) -> bool:
        """Whether the last validations are no better than those before: neither nearer nor sharper."""
        if len(history) < 2 * cls.PATIENCE:
            return False
        distance, sharpness = torch.tensor(history[-2 * cls.PATIENCE :]).unflatten(0, (2, -1)).mean(dim=1).T
        nearer = distance[1] < (1 - cls.GAIN) * distance[0]
        sharper = sharpness[1] > (1 + cls.GAIN) * sharpness[0]
        return not bool(nearer or sharper)

    @torch.no_grad()
    def _measure(self, module: lightning.LightningModule) -> tuple[float, float]:
        images, codes = self.images.to(module.device), self.codes.to(module.device)
        network, wanted = module.result, codes.roll(1, 0)
        steered = network.steer(network.encode(images, codes), wanted).float()
        off = (network.controls(network.encode(steered)) - wanted)[:, : self.controls]
        return float(off.abs().mean()), float(_detail(steered) / _detail(images).clamp_min(1e-9))

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["plateau"] = {"history": self.history, "cooling_from": self.bound.cooling_from}

    def on_load_checkpoint(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        kept = checkpoint.get("plateau", {"history": [], "cooling_from": None})
        self.history = [(float(distance), float(sharpness)) for distance, sharpness in kept["history"]]
        self.bound.cooling_from = kept["cooling_from"]


def _detail(images: Tensor) -> Tensor:
    """Variance of the Laplacian of images (n, channels, h, w)."""
    kernel = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]], device=images.device)
    grey = images.mean(dim=1, keepdim=True)
    return torch.nn.functional.conv2d(grey, kernel[None, None]).var()


class AtomicCheckpoints(TorchCheckpointIO):
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


class Curves(Callback):
    """Keeps ``curves.csv``: the losses at every validation, and through an interruption."""

    def __init__(self, path: Path, steps_per_pass: int) -> None:
        self.path, self.steps_per_pass = path, steps_per_pass
        self.rows: list[dict[str, float]] = []
        self.begun = 0  # the step at which the running sums began

    def on_validation_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        step = trainer.global_step
        if step <= self.begun:  # validated once more at the end of training
            return
        row: dict[str, float] = {"step": step, "epoch": step / self.steps_per_pass}
        row |= {f"train/{name}": float(total) / (step - self.begun) for name, total in module.sums.items()}
        validated = trainer.callback_metrics
        row |= {f"validation/{name}": float(validated[f"validation/{name}"]) for name in module.sums}
        self.rows.append(row)
        self.begun = step
        module.sums.clear()
        with replacing(self.path, lasting=False) as temporary:
            pd.DataFrame(self.rows).to_csv(temporary, index=False)

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["curves"] = {"rows": self.rows, "begun": self.begun, "sums": dict(module.sums)}

    def on_load_checkpoint(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        kept = checkpoint["curves"]
        self.rows, self.begun = list(kept["rows"]), int(kept["begun"])
        module.sums = {name: value.to(module.device) for name, value in kept["sums"].items()}


class LiveLosses(Callback):
    """Keeps ``live.csv`` where somebody watches: the training losses every few seconds, for minutes may pass until
    something is validated. To be called before ``Curves``, which begins the sums anew."""

    EVERY = 3.0  # seconds

    def __init__(self, path: Path) -> None:
        self.path = path
        self.before: dict[str, Tensor] = {}
        self.begun, self.noted = 0, time.monotonic()

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self.begun, self.before = trainer.global_step, dict(module.sums)
        if is_watched() and self.path.is_file():  # what was done after the last checkpoint is done again
            rows = pd.read_csv(self.path)
            with replacing(self.path, lasting=False) as temporary:
                rows[rows["step"] <= self.begun].to_csv(temporary, index=False)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, *arguments: Any, **named: Any
    ) -> None:
        if is_watched() and time.monotonic() - self.noted > self.EVERY:
            self._note(trainer.global_step, module.sums)

    def on_validation_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        if is_watched():
            self._note(trainer.global_step, module.sums)
        self.begun, self.before = trainer.global_step, {}

    def _note(self, step: int, sums: dict[str, Tensor]) -> None:
        if step > self.begun and sums:
            means = {
                name: float(total - self.before.get(name, 0)) / (step - self.begun) for name, total in sums.items()
            }
            row = pd.DataFrame([{"step": step} | {f"train/{name}": value for name, value in means.items()}])
            row.to_csv(self.path, mode="a", header=not self.path.is_file(), index=False)
        self.begun, self.before = step, dict(sums)
        self.noted = time.monotonic()


class LastCheckpoint(ModelCheckpoint):
    """``last.ckpt`` now and then, but never between a step and the validation that is due after it: resumed there,
    Lightning would leave the validation out."""

    def on_train_batch_end(self, trainer: lightning.Trainer, *arguments: Any, **named: Any) -> None:
        validate_every = trainer.val_check_batch
        if not validate_every or trainer.global_step % validate_every:
            super().on_train_batch_end(trainer, *arguments, **named)


class Preview(Callback):
    """Pictures at every validation: sources, targets, and the sources steered to the targets; for TensorBoard, and as
    ``preview.png`` in the run folder ``out``. Where somebody watches (``is_watched``), now and then in between, too.
    """

    EVERY = 10.0  # seconds

    def __init__(self, batch: tuple[Tensor, ...], out: Path) -> None:
        self.batch, self.out = batch, out
        self.drawn = -math.inf

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, *arguments: Any, **named: Any
    ) -> None:
        if is_watched() and time.monotonic() - self.drawn > self.EVERY:
            self._draw(module)

    def on_validation_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        grid = self._draw(module)
        if isinstance(trainer.logger, TensorBoardLogger):
            trainer.logger.experiment.add_image("source, target, steered", grid, trainer.global_step)

    @torch.no_grad()
    def _draw(self, module: lightning.LightningModule) -> Tensor:
        """(channels, h, w) in 0…1, which is ``preview.png`` then, too."""
        batch = tuple(part.to(module.device) for part in self.batch)
        network, (images, codes, *_) = module.of_batch(module.result, batch)
        steered = network.steer(network.encode(images, codes), codes.roll(1, 0))
        rows = [images, images.roll(1, 0), steered.float()]
        grid = torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1).clamp(0, 1)
        pixels = (grid * 255).round().to(torch.uint8).cpu().permute(1, 2, 0).numpy()
        with replacing(self.out / "preview.png", lasting=False) as temporary:  # somebody may be reading it
            write_image(temporary, pixels[..., 0] if pixels.shape[2] == 1 else pixels)
        self.drawn = time.monotonic()
        return grid


class Bar(Callback):
    """Progress by steps or by time, whichever bound is nearer, with rate, time left and the losses."""

    def __init__(self, bound: Bound) -> None:
        self.bound = bound

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self.first, self.begun = trainer.global_step, time.monotonic()
        self.first_share = self.bound.done(self.first)
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
        share, seconds = self.bound.done(trainer.global_step), time.monotonic() - self.begun
        left = seconds * (1 - share) / max(share - self.first_share, 1e-9)
        rate = (trainer.global_step - self.first) / max(seconds, 1e-9)
        shown = ("train/loss", "validation/loss")
        losses = "  ".join(
            f"{n} {float(trainer.callback_metrics[n]):.5f}" for n in shown if n in trainer.callback_metrics
        )
        report(f"training, step {trainer.global_step}", round(100 * share, 1), 100, rate, left)
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
