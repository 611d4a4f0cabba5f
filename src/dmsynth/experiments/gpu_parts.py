"""What is measured on a GPU, part by part (docs/gpu.md). Each part works in a folder of its own, and keeps there what
it has found so far: whoever ends it loses the rest of that part only."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from dmsynth.datasets.cutout import WALL, make_position_dataset
from dmsynth.datasets.dataset import Dataset, open_dataset
from dmsynth.datasets.photo import PoseRange, pose_photo
from dmsynth.evaluation import evaluate
from dmsynth.experiments.gpu_sharing import LATENT, Sharing, Stepping, best_count
from dmsynth.experiments.grid import Engine, Job, run_grid
from dmsynth.experiments.in_turn import Part
from dmsynth.experiments.position import STUDIES, Cell, Study, as_json, train_cell, with_split
from dmsynth.learning.training import train
from dmsynth.report.figures import STYLE, faces, save
from dmsynth.report.position_figures import FIGURES, StudyResults
from dmsynth.steering import SteerableFace, load_face
from dmsynth.support.files import write_json
from dmsynth.support.parallel import prefetch
from dmsynth.support.progress import console
from dmsynth.trackers import open_tracker
from dmsynth.video import Image, VideoWriter, fit, write_image

FOUND = "figures.json"
"""What a part has found so far, in its folder."""

TIME = "time.json"
"""Of a cell of chapter 3: its steps, and the seconds that they took."""

STEERED = ("3.18", "A.3", "A.4", "A.5")  # figures that show faces steered
_TRAINING = 0.6  # of a part's time; the rest is for starting, measuring and drawing
_JUDGED = 100  # held-out poses
_YAW = 25.0  # degrees to either side, of the sweep whose frames are counted


@dataclass(frozen=True)
class Size:
    """How large everything is.

    Attributes:
        study: what is trained of chapter 3, as many epochs as fit.
        whole: the study that is extrapolated.
        posed: width and height of the posed portrait's frames, ``poses`` of them.
        channels, batch, steps: of its networks and trainings; None: as usual, and as many steps as fit.
        drawn: sizes at which SwapWarp is steered, ``frames`` each.
        at_once: how many trainings share the device.
        seconds: for which each rate is measured.
    """

    study: Study
    whole: Study
    posed: tuple[int, int]
    poses: int
    channels: int | None
    batch: int | None
    steps: int | None
    drawn: tuple[tuple[int, int], ...]
    frames: int
    at_once: tuple[int, ...]
    seconds: float


_SMALL = Study((64, 48), 60, 12, 4, (2, 8), 1, {"SPE": 2, "SD": 2})
SIZES: dict[str, Size] = {
    "full": Size(
        study=Study(WALL, 1000, 200, 64, (2, 8, 32, 256), 1, {"SPE": 250, "SD": 250}),
        whole=STUDIES["thesis"],
        posed=(640, 480),
        poses=1000,
        channels=None,
        batch=None,
        steps=None,
        drawn=((512, 512), (1280, 800)),
        frames=200,
        at_once=(1, 2, 4, 8),
        seconds=3.0,
    ),
    "smoke": Size(
        study=_SMALL,
        whole=STUDIES["smoke"],
        posed=(96, 80),
        poses=48,
        channels=4,
        batch=4,  # SwapWarp's on a GPU is larger than this dataset
        steps=8,
        drawn=((80, 80), (128, 96)),
        frames=8,
        at_once=(1, 2),
        seconds=0.1,
    ),
}


@dataclass(frozen=True)
class Given:
    """What a part gets: ``out``, the folder of all; its own ``name``; its ``seconds``."""

    out: Path
    name: str
    size: Size
    seed: int
    seconds: float

    @property
    def folder(self) -> Path:
        """The part's own."""
        return self.out / self.name

    @property
    def training_time(self) -> timedelta:
        return timedelta(seconds=_TRAINING * self.seconds)


def wall(given: Given) -> Dataset:
    """The position dataset, made if it is not there."""
    study = given.size.study
    return make_position_dataset(_wall_folder(given), None, open_tracker(), study.frames, study.size, given.seed)


def _wall_folder(given: Given) -> Path:
    return given.out / "datasets" / "wall"


def portrait(given: Given, colour: bool) -> Dataset:
    """The embedded portrait, posed; made if it is not there."""
    path, size = given.out / "datasets" / ("colour" if colour else "grey"), given.size
    return pose_photo(path, None, open_tracker(), size.poses, size.posed, PoseRange(), given.seed, colour)


def make_datasets(given: Given) -> None:
    """The datasets of all parts, each in a process, and the frames of a portrait on every core."""
    jobs = [Job(name, 1, {"given": given}) for name in ("wall", "grey", "colour")]
    run_grid("datasets", _make_dataset, jobs, given.folder / "made", Engine(workers=len(jobs)), _unknown, "datasets")


def _make_dataset(folder: Path, arguments: dict[str, Any]) -> None:
    given, console.quiet = arguments["given"], True
    dataset = wall(given) if folder.name == "wall" else portrait(given, folder.name == "colour")
    write_json(folder / "result.json", {"frames": len(dataset)})


def _unknown(folder: Path, job: Job) -> float:
    """A grid's share of an unfinished job: here nobody asks, what is shown is the time."""
    return 0.0


def share_the_device(given: Given) -> None:
    """How many trainings at once make the most steps a second in all, and then the rate of every latent size."""
    size, rows = given.size, list[dict[str, Any]]()
    dataset = wall(given).path
    sharing = Sharing(size.at_once)

    def measure(count: int, latent: int) -> None:
        rows.append(sharing.measure(count, Stepping(dataset, size.study, latent, size.seconds, given.seed)))
        write_json(given.folder / FOUND, {"rows": rows})

    with sharing.pool:
        latent = LATENT if LATENT in size.whole.latents else size.whole.latents[-1]
        for count in size.at_once:
            measure(count, latent)
        best = best_count(rows)
        for other in size.whole.latents:
            if other != latent:
                at_once = best
                measure(at_once, other)
                while "why" in rows[-1] and at_once > 1:  # the largest may need more memory than there is
                    at_once //= 2
                    measure(at_once, other)


def train_positions(given: Given) -> None:
    """Chapter 3: SPE and SD in some latent sizes, all at once, each as many epochs as fit; measured and drawn."""
    study, dataset = given.size.study, wall(given)
    cells = list(study.cells())
    same = {"dataset": str(dataset.path.resolve()), "study": as_json(asdict(study)), "seed": given.seed}
    same["seconds"] = given.training_time.total_seconds()
    jobs = [Job(cell.name, 1, same | {"cell": asdict(cell)}) for cell in cells]
    run_grid("chapter 3", _train_cell, jobs, given.folder / "cells", Engine(), _unknown)
    draw_positions(given, STEERED)


def _train_cell(folder: Path, arguments: dict[str, Any]) -> None:
    console.quiet = True
    train_cell(folder, arguments)
    about = load_face(folder / "face.safetensors").trained.about
    write_json(folder / TIME, {"steps": about["steps"], "seconds": about["train_seconds"]})


def draw_positions(given: Given, numbers: Sequence[str]) -> list[Path]:
    """Draw figures of chapter 3 by their numbers, from the cells that there are, into the part's folder."""
    study, cells = given.size.study, given.folder / "cells"

    @lru_cache(maxsize=1)  # one of 256 dimensions takes a gigabyte
    def face(objective: str, latent: int) -> SteerableFace:
        return load_face(cells / Cell(objective, latent, 0).name / "face.safetensors", "auto")

    there = [cell for cell in study.cells() if (cells / cell.name / "curves.csv").is_file()]
    curves = pd.concat([pd.read_csv(cells / cell.name / "curves.csv").assign(**asdict(cell)) for cell in there])
    curves["epoch"] = curves["epoch"].round().astype(int)
    table = pd.DataFrame([asdict(cell) for cell in there])
    dataset = open_dataset(_wall_folder(given))
    results = StudyResults(with_split(dataset, study.validation, given.seed), table, curves, face)
    paths = [picture_of(given.folder, number) for number in numbers]
    for number, path in zip(numbers, paths, strict=True):
        with plt.rc_context(STYLE):
            save(FIGURES[number](results), path)
    return paths


def picture_of(folder: Path, number: str) -> Path:
    """Where a figure of chapter 3 lies in the part's folder."""
    return folder / f"figure-{number.lower().replace('.', '-')}.png"


def train_rotation(given: Given) -> None:
    """The thesis's rotation model on the posed portrait in grey, judged by the tracker."""
    face = _trained(given, "rotation", portrait(given, colour=False))
    _judge(given, face, portrait(given, colour=False))


def train_swapwarp(given: Given) -> None:
    """SwapWarp on the posed portrait in colour, judged by the tracker; and how fast it is steered."""
    dataset = portrait(given, colour=True)
    face = _trained(given, "swapwarp", dataset)
    speed = [_speed(given, face.drawn_at(size)) for size in given.size.drawn]
    write_json(given.folder / FOUND, {"speed": speed})
    _judge(given, face, dataset, {"speed": speed})


def _trained(given: Given, model: str, dataset: Dataset) -> SteerableFace:
    path = train(
        dataset,
        given.folder / "training",
        model,
        max_time=given.training_time,
        steps=given.size.steps,
        base_channels=given.size.channels,
        batch=given.size.batch,
        seed=given.seed,
        quiet=True,
    )
    return load_face(path, "auto")


def _judge(given: Given, face: SteerableFace, dataset: Dataset, found: dict[str, Any] | None = None) -> None:
    """Write the part's figures, and a picture of held-out poses, real above and steered below."""
    evaluation = evaluate(face, dataset, open_tracker(), _JUDGED)
    settings = face.trained.about["settings"]
    how = {"steps": face.trained.about["steps"], "precision": settings["precision"]}
    how |= {"batch": settings["optimization"]["batch"]}
    write_json(given.folder / FOUND, evaluation.metrics | how | (found or {}))
    faces(evaluation, face.trained.space.names, given.folder / "faces.png")


def _speed(given: Given, face: SteerableFace) -> dict[str, Any]:
    """Frames a second of a sweep of yaw, drawn alone, and drawn and encoded; some of them go into a picture."""
    width, height = face.size
    values = np.array([face.trained.space.row({"yaw": yaw}) for yaw in np.linspace(-_YAW, _YAW, given.size.frames)])
    list(face.frames(values[:8]))  # the first calls are slow for reasons of their own
    shown = {0, len(values) // 2, len(values) - 1}
    pictures: list[Image] = []

    def drawn() -> Iterator[Image]:
        for number, image in enumerate(face.frames(values)):
            if number in shown:
                pictures.append(fit(image, width // 2, height // 2))
            yield image

    begun = time.perf_counter()
    alone = sum(1 for _ in drawn()) / (time.perf_counter() - begun)
    begun = time.perf_counter()
    with VideoWriter(given.folder / f"{width}x{height}.mp4", width, height, 25) as video:
        for image in prefetch(face.frames(values)):
            video.write(image)
    encoded = len(values) / (time.perf_counter() - begun)
    write_image(given.folder / f"{width}x{height}.png", np.hstack(pictures))
    return {"size": [width, height], "drawn": round(alone, 1), "drawn_and_encoded": round(encoded, 1)}


# Shares are generous: what a part leaves over, the later ones have.
PARTS: dict[str, Part[Given]] = {
    "datasets": Part("datasets, on the CPU", make_datasets, 0.20),
    "sharing": Part("trainings at once", share_the_device, 0.20),
    "position": Part("chapter 3", train_positions, 0.32),
    "rotation": Part("rotation model", train_rotation, 0.16),
    "swapwarp": Part("SwapWarp", train_swapwarp, 0.12),
}
