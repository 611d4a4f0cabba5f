"""The thesis's third chapter: steering the position of a cut-out face, in four models and eight sizes of latent.

A study is a grid of cells: an objective, a latent size, and a random split. Each cell is trained independently, and its
measurements are in its folder. Tables, figures and findings are made from those folders.
"""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from dmsynth.datasets.cutout import WALL, Layout, make_position_dataset, position_recipe
from dmsynth.datasets.dataset import Dataset, open_dataset
from dmsynth.evaluation.movement import measure_movement
from dmsynth.experiments.grid import Engine, Job, is_finished, run_grid
from dmsynth.experiments.position_findings import findings
from dmsynth.learning.stability import WINDOW, spike_factor
from dmsynth.learning.stacked import train_stacked
from dmsynth.learning.training import train
from dmsynth.report.position_figures import NOTES, StudyResults, draw_all
from dmsynth.report.study import Picture, StudyReport, write_study_report
from dmsynth.steering import SteerableFace, load_face
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import read_json, replacing, write_json
from dmsynth.support.machine import best_precision, describe_machine
from dmsynth.trackers import Tracker
from dmsynth.trackers.template import FaceTemplate

_CHECKPOINT_EVERY = timedelta(minutes=5)  # checkpoints have gigabytes at the thesis's size
LATENTS = (2, 4, 8, 16, 32, 64, 128, 256)  # 3.1.2


@dataclass(frozen=True)
class Study:
    """The size of the experiment of 3.1.2. ``epochs`` by objective; ``splits``: number of random splits."""

    size: tuple[int, int]
    frames: int
    validation: int
    base_channels: int
    latents: tuple[int, ...]
    splits: int
    epochs: dict[str, int]
    optimization: str = "thesis"

    def cells(self) -> Iterator[Cell]:
        for objective in self.epochs:
            for latent in self.latents[:1] if objective == "position only" else self.latents:
                for split in range(self.splits):
                    yield Cell(objective, latent, split)


@dataclass(frozen=True)
class Cell:
    """One training of a study."""

    objective: str
    latent: int
    split: int

    @property
    def name(self) -> str:
        return f"{self.objective.replace(' ', '-')}-d{self.latent:03d}-split{self.split}"


_CELL = ["objective", "latent", "split"]


def _epochs(plain: int, swapped: int) -> dict[str, int]:
    return {"R": plain, "RPE": plain, "SPE": swapped, "SD": swapped, "position only": swapped}


STUDIES: dict[str, Study] = {
    "thesis": Study(WALL, 1000, 200, 64, LATENTS, 3, _epochs(100, 250)),
    "laptop": Study((128, 96), 1000, 200, 16, LATENTS, 3, _epochs(100, 250)),
    "smoke": Study((64, 48), 120, 24, 4, (2, 8), 2, _epochs(6, 8)),
}


def train_group(folder: Path, arguments: dict[str, Any]) -> None:
    """Train an objective's cells of one latent size together, and measure each; writes ``curves.csv``,
    ``face.safetensors`` and ``result.json`` to the folder of every cell, and ``result.json`` to ``folder``.

    ``arguments``: the dataset's path, the fields of a ``Study`` and those of each ``Cell``, the folder of the cells,
    and a seed.
    """
    study, seed, out = Study(**arguments["study"]), arguments["seed"], Path(arguments["cells_folder"])
    begun = folder / "cells.json"  # resumed, the same cells go on together, though some may be measured already
    if not begun.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        open_cells = [cell for cell in arguments["cells"] if not is_measured(out, Cell(**cell))]
        write_json(begun, {"cells": open_cells})
    cells = [Cell(**cell) for cell in read_json(begun)["cells"]]
    whole = open_dataset(Path(arguments["dataset"]))
    datasets = [with_split(whole, study.validation, seed + cell.split) for cell in cells]
    objective, latent = cells[0].objective, cells[0].latent
    members = [(own, out / cell.name, seed + cell.split) for own, cell in zip(datasets, cells, strict=True)]
    if not all(is_measured(out, cell) for cell in cells):
        train_stacked(
            members,
            folder,
            _model(objective),
            epochs=study.epochs[objective],
            latent=latent,
            base_channels=study.base_channels,
            precision=arguments["precision"],
            checkpoint_every=_CHECKPOINT_EVERY,
        )
        for cell, dataset in zip(cells, datasets, strict=True):
            _measure(out / cell.name, cell, dataset)
    write_json(folder / "result.json", {"cells": [cell.name for cell in cells]})
    (folder / "last.ckpt").unlink(missing_ok=True)


def train_cell(folder: Path, arguments: dict[str, Any]) -> None:
    """Train and measure one cell; writes ``curves.csv``, ``face.safetensors`` and ``result.json`` to ``folder``.

    ``arguments``: the dataset's path, the fields of a ``Study`` and those of a ``Cell``, a seed, and optionally the
    ``seconds`` after which the training ends, however few epochs it has then.
    """
    study, cell = Study(**arguments["study"]), Cell(**arguments["cell"])
    dataset = with_split(open_dataset(Path(arguments["dataset"])), study.validation, arguments["seed"] + cell.split)
    seconds = arguments.get("seconds")
    train(
        dataset,
        folder,
        _model(cell.objective),
        optimization=study.optimization,
        epochs=study.epochs[cell.objective],
        max_time=None if seconds is None else timedelta(seconds=seconds),
        seed=arguments["seed"] + cell.split,
        latent=cell.latent,
        base_channels=study.base_channels,
        precision="32-true",  # the same everywhere, so that engines and machines are comparable
        checkpoint_every=_CHECKPOINT_EVERY,
        every_pass=True,
        quiet=True,
    )
    _measure(folder, cell, dataset)
    for checkpoint in ("last.ckpt", "best.ckpt"):
        (folder / checkpoint).unlink(missing_ok=True)


def _model(objective: str) -> str:
    return f"position-{objective.lower().replace(' ', '-')}"


def is_measured(out: Path, cell: Cell) -> bool:
    return (out / cell.name / "result.json").is_file()


def _measure(folder: Path, cell: Cell, dataset: Dataset) -> None:
    """Write ``result.json`` of a trained cell."""
    curves = pd.read_csv(folder / "curves.csv")
    if curves.isna().to_numpy().any():
        raise DmsynthError(f"{folder}: the training diverged: a loss is not a number (curves.csv)")
    losses = [name for name in curves.columns if name.startswith("validation/")]
    best = curves.iloc[int(curves[losses].sum(axis=1).to_numpy().argmin())]
    result: dict[str, Any] = asdict(cell) | {
        "epochs": len(curves),
        "best_epoch": int(best["epoch"]),
        **{name: float(best[name]) for name in curves.columns if "/" in name},
    }
    if len(curves) > WINDOW:
        result |= {f"spike/{name}": spike_factor(curves[name]) for name in curves.columns if "/" in name}
    if cell.objective != "position only":  # its decoder is not trained
        result |= _movement(folder / "face.safetensors", dataset)
    write_json(folder / "result.json", result)


def with_split(dataset: Dataset, validation: int, seed: int) -> Dataset:
    """The dataset with ``validation`` frames drawn at random for validation and all others for training (3.1.2)."""
    split = np.full(len(dataset), "train", dtype="<U10")
    split[np.random.default_rng(seed).permutation(len(dataset))[:validation]] = "validation"
    return replace(dataset, labels=dataset.labels.assign(split=split))


def _movement(face_path: Path, dataset: Dataset) -> dict[str, float | None]:
    """Command every validation frame's face to a random position and measure where it is drawn."""
    layout = Layout(*dataset.size)
    chosen = dataset.split("validation")
    commands = np.random.default_rng(0).uniform(layout.low, layout.high, size=(len(chosen), 2))
    sources = [np.array(dataset.frames[index]) for index in chosen]
    face = load_face(face_path, "auto")  # of the thesis's size, a CPU would take longer to draw than a GPU to train it
    movement = measure_movement(face, sources, commands, face_template(dataset))
    figures = {
        "gain_x": movement.gain[0],
        "gain_y": movement.gain[1],
        "control_error": movement.error,
        "control_error_640": movement.error / layout.scale,
        "no_face": float((~movement.seen).sum()),
    }
    return {name: None if np.isnan(value) else value for name, value in figures.items()}


def face_template(dataset: Dataset) -> FaceTemplate:
    """The face of a position dataset, cut out of the frame in which it is nearest to the middle."""
    centres = dataset.labels[["commanded_x", "commanded_y"]].to_numpy()
    middle = int(np.argmin(np.linalg.norm(centres - np.array(dataset.size) / 2, axis=1)))
    x, y = (float(value) for value in centres[middle])
    return FaceTemplate.of(np.array(dataset.frames[middle]), (x, y), Layout(*dataset.size).face)


def run_study(
    out: Path,
    study: Study,
    tracker: Tracker,
    photo: Path | None = None,
    engine: Engine | None = None,
    seed: int = 0,
    together: bool = True,
) -> pd.DataFrame:
    """Train and measure every cell of a study into ``out``; returns one row per cell, also in ``cells.csv``.

    Where there is no GPU, the splits of one objective and latent size are trained together (``learning.stacked``), in
    the machine's fastest precision, unless ``together`` is False: then each by itself, in float32.

    Finished cells are kept, and an interrupted one resumes from its last checkpoint. ``DmsynthError`` if the folder
    holds another study.
    """
    note = out / "study.json"
    recipe = position_recipe(photo, tracker, study.frames, study.size, seed)
    content = as_json({"seed": seed, "study": asdict(study), "dataset": recipe})
    if note.is_file():
        before = read_json(note)
        if any(before.get(key) != value for key, value in content.items()):
            raise DmsynthError(f"{out}: holds another study; give another --out or remove it")
    else:
        stacked = together and study.optimization == "thesis" and not torch.cuda.is_available()
        how = {"stacked": stacked, "precision": best_precision() if stacked else "32-true"}
        write_json(note, content | how | {"machine": describe_machine()})
    path = out / "dataset"
    make_position_dataset(path, photo, tracker, study.frames, study.size, seed)
    arguments = {"dataset": str(path.resolve()), "study": content["study"], "seed": seed}
    # Networks that share a step share its cost. What stacked training lacks: a GPU, and the stable optimization.
    begun = read_json(note)  # a study goes on as it began, on whatever machine
    if begun.get("stacked"):
        _run_groups(out, study, arguments | {"precision": begun["precision"]}, engine or Engine())
    else:
        jobs = [
            Job(cell.name, study.epochs[cell.objective], arguments | {"cell": asdict(cell)}) for cell in study.cells()
        ]
        run_grid(f"{out.name}: position study", train_cell, jobs, out / "cells", engine or Engine(), _share_done)
    cells = list(study.cells())
    table = pd.DataFrame([read_json(out / "cells" / cell.name / "result.json") for cell in cells])
    with replacing(out / "cells.csv") as temporary:
        table.to_csv(temporary, index=False)
    return table


def _run_groups(out: Path, study: Study, arguments: dict[str, Any], engine: Engine) -> None:
    """Train and measure the cells, an objective's splits of one latent size together."""
    cells, groups = out / "cells", out / "groups"
    together: dict[str, list[Cell]] = {}
    for cell in study.cells():
        together.setdefault(cell.name.rpartition("-")[0], []).append(cell)
    shared = arguments | {"cells_folder": str(cells.resolve())}
    jobs = [
        Job(name, study.epochs[group[0].objective], shared | {"cells": [asdict(cell) for cell in group]})
        for name, group in together.items()
    ]
    for job in jobs:
        begun = groups / job.name / "cells.json"
        known = [Cell(**cell) for cell in read_json(begun)["cells"]] if begun.is_file() else []
        going = [] if is_finished(groups, job) else known  # these will be measured
        if known and not all(is_measured(cells, cell) or cell in going for cell in together[job.name]):
            shutil.rmtree(groups / job.name)  # somebody removed a cell, to have it trained again

    def share(folder: Path, job: Job) -> float:
        return min(_share_done(cells / cell.name, job) for cell in together[job.name])

    run_grid(f"{out.name}: position study", train_group, jobs, groups, engine, share, "groups of trainings")


def read_curves(out: Path, study: Study) -> pd.DataFrame:
    """The loss curves of every cell, one row per cell and epoch."""
    parts = []
    for cell in study.cells():
        curves = pd.read_csv(out / "cells" / cell.name / "curves.csv")
        curves["epoch"] = curves["epoch"].round().astype(int)
        parts.append(curves.assign(**asdict(cell)))
    return pd.concat(parts, ignore_index=True)


def reproduce(
    out: Path, preset: str, tracker: Tracker, photo: Path | None = None, engine: Engine | None = None, seed: int = 0
) -> StudyReport:
    """Chapter 3 from its dataset to its findings, into ``out``: ``report.html``, ``report.md``, ``figures/``,
    ``cells.csv``, ``curves.csv``, ``findings.csv``, and every trained face in ``cells/``.

    Raises:
        DmsynthError: an unknown preset, or a folder that holds another study.
    """
    if preset not in STUDIES:
        raise DmsynthError(f"--preset {preset}: there is {', '.join(STUDIES)}")
    study = STUDIES[preset]
    every_cell = run_study(out, study, tracker, photo, engine, seed)
    dataset = with_split(open_dataset(out / "dataset"), study.validation, seed)
    curves = read_curves(out, study)
    dead = learned_nothing(every_cell, dataset, study, seed)
    learned, collapsed = every_cell[~dead], every_cell[dead]
    # Show the trainings that learned, or all of an objective and latent size if none did.
    alone = dead.groupby([every_cell["objective"], every_cell["latent"]]).transform("all")
    cells = every_cell[~dead | alone]

    @lru_cache(maxsize=1)  # a face of the thesis's size and 256 dimensions takes a gigabyte
    def face(objective: str, latent: int) -> SteerableFace:
        chosen = cells[(cells["objective"] == objective) & (cells["latent"] == latent)]
        split = int(chosen["split"].min()) if len(chosen) else 0
        return load_face(out / "cells" / Cell(objective, latent, split).name / "face.safetensors")

    paths = draw_all(StudyResults(dataset, cells, curves.merge(cells[_CELL]), face), out / "figures")
    found = findings(learned, curves.merge(learned[_CELL])) if study.latents == LATENTS else []
    for name, table in (("curves", curves), ("findings", pd.DataFrame([asdict(finding) for finding in found]))):
        with replacing(out / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False)
    command = ["dmsynth", "reproduce", "position", "--preset", preset, "--seed", str(seed), "--out", str(out)]
    command += ["--photo", str(photo)] if photo else []
    report = StudyReport(
        title=f"Chapter 3: steering the position of a cut-out face ({preset})",
        summary=_summary(study),
        findings=found,
        pictures=[Picture(number, paths[number], *NOTES[number]) for number in paths],
        tables={"Measured, mean over splits": summary_table(cells, Layout(*study.size))},
        facts=facts(out, study, seed)
        | {"trainings that learned nothing, left out of means": ", ".join(_names(collapsed)) or "none"},
        command=shlex.join(command),
    )
    write_study_report(out, report)
    return report


def learned_nothing(cells: pd.DataFrame, dataset: Dataset, study: Study, seed: int) -> pd.Series[bool]:
    """Which cells are hardly better than the mean of their validation images: decoders that draw an empty wall.

    It happened to five of 99 trainings that began grey. Means over splits would hide it, so it is reported.
    """
    of_mean_image = {}
    for split in range(study.splits):
        chosen = with_split(dataset, study.validation, seed + split).split("validation")
        frames = np.asarray(dataset.frames[chosen], dtype=np.float32) / 255
        of_mean_image[split] = float(((frames - frames.mean(axis=0)) ** 2).mean())
    losses = cells[[f"validation/{name}" for name in ("reconstruction", "swap")]].min(axis=1)
    return losses >= 0.95 * cells["split"].map(of_mean_image)


def _names(cells: pd.DataFrame) -> list[str]:
    rows = zip(cells["objective"], cells["latent"], cells["split"], strict=True)
    return [Cell(str(objective), int(latent), int(split)).name for objective, latent, split in rows]


def summary_table(cells: pd.DataFrame, layout: Layout) -> pd.DataFrame:
    """One row per objective and latent size: best validation losses, movement, spikes; text, means over splits."""
    rows = []
    for (objective, latent), group in cells.groupby(["objective", "latent"], sort=False):
        mean = group.mean(numeric_only=True)
        image = next((mean[f"validation/{name}"] for name in ("reconstruction", "swap") if _has(mean, name)), None)
        moves = objective not in ("R", "position only")  # their latents do not begin with a position to command
        rows.append(
            {
                "model": objective,
                "dimensions": str(latent),
                "image loss": f"{image:.2e}" if image is not None else "–",
                "position loss": f"{mean['validation/control']:.2e}" if _has(mean, "control") else "–",
                "gain x": f"{mean['gain_x']:.3f}" if moves else "–",
                "gain y": f"{mean['gain_y']:.3f}" if moves else "–",
                "control error (px)": f"{mean['control_error']:.2f}" if moves else "–",
                f"at {WALL[0]}×{WALL[1]}": f"{mean['control_error'] / layout.scale:.1f}" if moves else "–",
                "spike factor, image": _spike_text(mean, "reconstruction", "swap"),
                "spike factor, position": _spike_text(mean, "control"),
            }
        )
    return pd.DataFrame(rows)


def _has(mean: pd.Series[float], loss: str) -> bool:
    return f"validation/{loss}" in mean and not np.isnan(mean[f"validation/{loss}"])


def _spike_text(mean: pd.Series[float], *losses: str) -> str:
    values = [mean[f"spike/validation/{loss}"] for loss in losses if _has(mean, loss)]
    return f"{values[0]:.2f}" if values else "–"


def facts(out: Path, study: Study, seed: int) -> dict[str, str]:
    """Facts needed to compare and to repeat a study."""
    machine = read_json(out / "study.json")["machine"]
    faces = [out / "cells" / cell.name / "face.safetensors" for cell in study.cells()]
    abouts = [load_face(path).trained.about for path in faces]  # not the faces: together they may not fit in memory
    hardware = machine.get("accelerator") or f"{machine['cores']} cores, {machine['processor']}"
    return {
        "machine": f"{hardware}, torch {machine['torch']}",
        "seeds": ", ".join(str(seed + split) for split in range(study.splits)),
        "trainings": f"{len(faces)}, {sum(about['steps'] for about in abouts)} steps",
        "training time": f"{sum(about['train_seconds'] for about in abouts) / 3600:.1f} core hours in all",
        "image": f"{study.size[0]}×{study.size[1]}, {study.base_channels} base channels",
        "data": f"{study.frames - study.validation} training and {study.validation} validation images a split",
        "epochs": ", ".join(f"{name} {epochs}" for name, epochs in study.epochs.items()),
        "optimization": study.optimization,
    }


def _summary(study: Study) -> str:
    width, height = study.size
    return (
        f"Four autoencoders, {len(study.latents)} latent sizes and {study.splits} random splits, on a cut-out face at "
        f"known places of a {width}×{height} wall. The measured centre of a face comes from the image alone, by "
        "template matching. Squares: green the true centre, red the encoded one, blue the commanded one."
    )


def _share_done(folder: Path, job: Job) -> float:
    """Finished share of a cell's training, from the number of rows of its curves."""
    try:
        rows = (folder / "curves.csv").read_bytes().count(b"\n") - 1
    except OSError:
        return 0.0
    return min(1.0, rows / job.cost)


def as_json(content: Any) -> Any:
    """``content`` as read back from JSON: lists instead of tuples."""
    return json.loads(json.dumps(content))
