"""SwapWarp with one part left out at a time: what each is good for (docs/swapwarp.md)."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dmsynth.datasets.dataset import open_dataset
from dmsynth.datasets.photo import PoseRange, pose_photo
from dmsynth.evaluation import evaluate
from dmsynth.experiments.grid import Engine, Job, run_grid
from dmsynth.learning.models import RECIPES
from dmsynth.learning.swapping import OBJECTIVES
from dmsynth.learning.swapwarp import SwapWarp
from dmsynth.learning.training import train
from dmsynth.report.study import Picture, StudyReport, write_study_report
from dmsynth.steering import load_face
from dmsynth.support.files import read_json, write_json
from dmsynth.support.machine import describe_machine
from dmsynth.trackers import open_tracker
from dmsynth.video import write_image

FRAMES, SIZE, STEPS = 1200, (160, 128), 1000
_SHOWN = 5  # held-out poses in the picture of a variant


class _WithoutCommonFace(SwapWarp):
    """Nothing is remembered: what the source does not show is painted from features alone."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        for memory in (self.common_image, self.common_features):
            memory.requires_grad_(False)
            torch.nn.init.zeros_(memory)


@dataclass(frozen=True)
class Variant:
    """One thing changed. ``patches`` are names and what stands there instead, while it is trained and judged."""

    description: str
    patches: dict[str, Any] = field(default_factory=dict)
    network: Callable[..., SwapWarp] | None = None
    left_out: tuple[str, ...] = ()
    training: dict[str, Any] = field(default_factory=dict)


VARIANTS: dict[str, Variant] = {
    "everything": Variant("SwapWarp as it is"),
    "no-swap": Variant(
        "without the swap: each frame is decoded at its own controls",
        {"dmsynth.learning.swapping.swap": lambda batch: batch},
    ),
    "vector": Variant(
        "a vector instead of a spatial code: the thesis's network and its swap",
        training={"model": "rotation", "base_channels": 16},
    ),
    "no-warp": Variant(
        "without warping: frames and features stay where they are, the last layers paint",
        {
            "dmsynth.learning.swapwarp.warp": lambda images, flow, window=(slice(None), slice(None)): images[
                ..., *window
            ]
        },
    ),
    "no-mask": Variant(
        "without the mask: every pixel is the source's, moved", {"dmsynth.learning.swapwarp._OPEN": 30.0}
    ),
    "no-common-face": Variant("without a learned common face to fill in from", network=_WithoutCommonFace),
    "no-warp-loss": Variant("without the loss of the warped source alone", left_out=("warp",)),
    "no-detail": Variant("without the loss of fine detail", left_out=("detail",)),
    "no-landmarks": Variant("without the loss of the landmarks", left_out=("landmarks",)),
    "no-control-loss": Variant("without the loss of the encoder's reading", left_out=("control",)),
    "no-small-images": Variant("without small images at the beginning", patches={"coarse_until": (0.0, 0.0)}),
    "tracked-labels": Variant("with the tracker's noise in the labels", training={"labels": "tracked"}),
    "half": Variant("half as many maps", training={"base_channels": 8}),
    "twice": Variant("twice as many maps", training={"base_channels": 32}),
}


@contextmanager
def _as(variant: Variant) -> Iterator[None]:
    """The world with one thing changed."""
    recipe, objective = RECIPES["swapwarp"], OBJECTIVES["SwapWarp"]
    changed = dict(variant.patches)
    coarse = changed.pop("coarse_until", recipe.coarse_until)
    recipe = replace(recipe, network=variant.network or recipe.network, coarse_until=coarse)

    def lacking(*arguments: Any, **named: Any) -> dict[str, Tensor]:
        losses = objective(*arguments, **named)
        return {name: value for name, value in losses.items() if name not in variant.left_out}

    with ExitStack() as changes:
        changes.enter_context(patch.dict(RECIPES, {"swapwarp": recipe}))
        changes.enter_context(patch.dict(OBJECTIVES, {"SwapWarp": lacking if variant.left_out else objective}))
        for name, instead in changed.items():
            changes.enter_context(patch(name, instead))
        yield


def ablate(
    out: Path, tracker: str = "auto", tracker_model: Path | None = None, engine: Engine | None = None, seed: int = 0
) -> StudyReport:
    """Train every variant for the same number of steps on the same posed portrait, judge each on the same held-out
    poses from one source frame, and write ``report.html`` and ``report.md``. Interrupted, the same call goes on."""
    pose_photo(
        out / "dataset", None, open_tracker(tracker, tracker_model), FRAMES, SIZE, PoseRange(), seed, colour=False
    )
    given = {
        "dataset": str((out / "dataset").resolve()),
        "tracker": tracker,
        "tracker_model": str(tracker_model.resolve()) if tracker_model else None,
        "seed": seed,
    }
    jobs = [Job(name, 1.0, {"variant": name} | given) for name in VARIANTS]
    run_grid("ablations", _one, jobs, out / "variants", engine or Engine(), _share)
    results = {name: read_json(out / "variants" / name / "result.json") for name in VARIANTS}
    pictures = [
        Picture(
            str(number),
            out / "variants" / name / "faces.png",
            f"{VARIANTS[name].description}. Real above, steered below.",
            "",
        )
        for number, name in enumerate(VARIANTS, 1)
    ]
    report = StudyReport(
        title="SwapWarp, one part left out at a time",
        summary=f"The embedded portrait, yaw ±35°, pitch and roll ±20°, {SIZE[0]}×{SIZE[1]}, {STEPS} steps each, one "
        "training and one seed a variant, steered from one source frame. Mean error against the tracker's answer on "
        "the posed frame. One run cannot tell differences of a tenth of a degree.",
        findings=[],
        pictures=pictures,
        tables={"Variants": pd.DataFrame([_row(name, result) for name, result in results.items()])},
        facts={name: str(value) for name, value in describe_machine().items()} | {"seed": str(seed)},
        command=shlex.join(["dmsynth", "ablate", "--seed", str(seed), "--out", str(out)]),
    )
    write_study_report(out, report)
    return report


def _row(name: str, result: dict[str, Any]) -> dict[str, str]:
    def number(value: float | None, form: str) -> str:
        return "–" if value is None else f"{value:{form}}"

    return {
        "variant": VARIANTS[name].description,
        "mean error, pitch / yaw / roll (°)": " / ".join(number(value, ".2f") for value in result["mae"].values()),
        "gain": " / ".join(number(value, ".2f") for value in result["gain"].values()),
        "lost": f"{result['lost']} of {result['frames']}",
        "PSNR (dB)": number(result["psnr"], ".1f"),
        "sharpness": number(result["sharpness"], ".2f"),
        "training (s)": f"{result['train_seconds']:.0f}",
    }


def _one(folder: Path, arguments: dict[str, Any]) -> None:
    """Train and judge one variant."""
    variant = VARIANTS[arguments["variant"]]
    dataset = open_dataset(Path(arguments["dataset"]))
    model = arguments["tracker_model"]
    tracker = open_tracker(arguments["tracker"], Path(model) if model else None)
    with _as(variant):
        path = train(dataset, folder / "run", steps=STEPS, seed=arguments["seed"], quiet=True, **variant.training)
        judged = evaluate(load_face(path).from_one_source(), dataset, tracker)
    shown = np.linspace(0, len(judged.targets) - 1, _SHOWN).round().astype(int)
    rows = [np.concatenate([frames[i] for i in shown], axis=1) for frames in (judged.targets, judged.steered)]
    write_image(folder / "faces.png", np.concatenate(rows, axis=0))
    write_json(folder / "result.json", judged.metrics)


def _share(folder: Path, job: Job) -> float:
    curves = folder / "run" / "curves.csv"
    return float(pd.read_csv(curves)["step"].iloc[-1]) / STEPS if curves.is_file() else 0.0
