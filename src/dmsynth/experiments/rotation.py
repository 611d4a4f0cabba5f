"""The thesis's fourth chapter: somebody else's head drives its rotation model, SwapWarp and LivePortrait.

One recording (or the embedded portrait) becomes the dataset of Figs. 4.1 and 4.2, from which both models learn. A
driving video's tracked pose is their command (4.2); what they draw is tracked and set beside the driver (Figs. 4.3,
4.4).
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dmsynth.datasets.dataset import Dataset, nearest_to_neutral, open_dataset
from dmsynth.datasets.photo import PoseRange, pose_photo
from dmsynth.datasets.recording import import_recordings, shape_at
from dmsynth.experiments.rotation_drives import FRAME_RATE, SPACE, Material, draw, read_driver
from dmsynth.experiments.rotation_findings import findings
from dmsynth.experiments.rotation_judging import Judged, against_command, judge, reference
from dmsynth.learning.training import train
from dmsynth.motion.driving import lag
from dmsynth.report import rotation_figures as figures
from dmsynth.report.figures import contact_sheet, marginals
from dmsynth.report.study import Picture, StudyReport, write_study_report
from dmsynth.steering import FaceSpec, SteerableFace, load_face, open_renderer
from dmsynth.steering.provenance import Provenance
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import read_json, sha256_of, write_json
from dmsynth.support.machine import describe_machine
from dmsynth.support.parallel import in_own_process
from dmsynth.support.progress import console
from dmsynth.support.table_files import write_table
from dmsynth.trackers import Tracker, open_second_tracker, open_tracker
from dmsynth.trackers.identity import Likeness
from dmsynth.video import probe_video

DRIVING_FRAMES = 250  # 4.2
_REAL = 120  # real frames of each person that identities are learned from


@dataclass(frozen=True)
class Study:
    """How large the experiment is.

    Attributes:
        size: width and height of the frames; of a recording, None: its own shape at the area of 320×240.
        posed: frames of the embedded portrait.
        widened: add posed frames to a recording's (``sources.widening``), which a driver's poses need if it was not
            filmed for this.
        driving: frames of a driving video, at most.
        trainings: by model, arguments of ``training.train``.
    """

    size: tuple[int, int] | None
    posed: int
    widened: bool
    driving: int
    trainings: dict[str, dict[str, Any]] = field(default_factory=dict)


STUDIES: dict[str, Study] = {
    "thesis": Study(
        size=(640, 480),
        posed=10_000,
        widened=False,
        driving=DRIVING_FRAMES,
        trainings={"rotation": {"epochs": 1000, "optimization": "thesis"}, "swapwarp": {}},
    ),
    "laptop": Study(
        size=None,
        posed=1200,
        widened=True,
        driving=DRIVING_FRAMES,
        trainings={"rotation": {"steps": 20_000, "base_channels": 16}, "swapwarp": {"steps": 8000}},  # about as long
    ),
    "smoke": Study(
        size=(96, 80),
        posed=90,
        widened=False,
        driving=30,
        trainings={"rotation": {"steps": 60, "base_channels": 4}, "swapwarp": {"steps": 60, "base_channels": 8}},
    ),
}
_PORTRAIT = (320, 240)  # size of its frames where a study names none


@dataclass(frozen=True)
class LivePortraitGiven:
    """What there is of LivePortrait: its official checkout, or a video that it made elsewhere, or neither."""

    folder: Path | None = None
    video: Path | None = None


@dataclass(frozen=True)
class Judges:
    """The trackers that measure, by name, and their model files; ``second``: ``none`` for a single one."""

    tracker: str = "auto"
    tracker_model: Path | None = None
    second: str = "auto"
    second_model: Path | None = None


@dataclass(frozen=True)
class _Order:
    """What was asked for."""

    preset: str
    recordings: Sequence[Path]
    drivings: Sequence[Path]
    given: LivePortraitGiven
    seed: int


def reproduce(
    out: Path,
    preset: str,
    recordings: Sequence[Path],
    drivings: Sequence[Path],
    judges: Judges | None = None,
    liveportrait: LivePortraitGiven | None = None,
    seed: int = 0,
) -> StudyReport:
    """Chapter 4 from its dataset to its findings, into ``out``: ``report.html``, ``report.md``, ``figures/``,
    ``dataset/``, a run folder a model, and a folder a driving video with every steered video and its tracks.

    Finished parts are kept: interrupted, or with one more driving video, the same call goes on.

    Args:
        recordings: of one person; none: the embedded portrait, posed.
        drivings: videos of anybody, tracked; their poses are the commands (absolute).
        liveportrait: what there is of it; without, its columns stay empty.

    Raises:
        DmsynthError: an unknown preset, a folder that holds another study, a driving video without a usable face.
    """
    given = liveportrait or LivePortraitGiven()
    study = _study(preset)
    _check(drivings, given)
    _begin(out, preset, study, recordings, seed)
    judges = judges or Judges()
    pool = open_tracker(judges.tracker, judges.tracker_model)
    second = open_second_tracker(pool, judges.second, judges.second_model)
    drivers = [read_driver(video, study.driving, pool) for video in drivings]  # first: what is wrong shall be said now
    dataset = _dataset(out / "dataset", study, recordings, pool, seed)
    models = {name: _trained(out / name, dataset, name, study, seed) for name in study.trainings}
    material = _material(dataset, models, given, judges.tracker, judges.tracker_model)
    drives = {}
    for driver in drivers:
        folder = out / f"driving-{driver.name}"
        drawn = draw(folder, driver, material)
        likeness = Likeness.learn(reference(dataset, _REAL), driver.frames[:_REAL], pool)
        drives[driver.name] = judge(driver, drawn, material, pool, second, likeness)
        write_table(folder / "tracks.parquet", drives[driver.name].table())
        _beside(folder / "beside.mp4", drives[driver.name], material)
    exact = against_command(material, pool, second)
    report = _report(out, _Order(preset, recordings, drivings, given, seed), study, material, drives, exact)
    write_study_report(out, report)
    return report


def _study(preset: str) -> Study:
    if preset not in STUDIES:
        raise DmsynthError(f"--preset {preset}: there is {', '.join(STUDIES)}")
    return STUDIES[preset]


def _check(drivings: Sequence[Path], given: LivePortraitGiven) -> None:
    """Raise ``DmsynthError`` for what can be known to be wrong before any work."""
    if not drivings:
        raise DmsynthError("--driving: give at least one video of somebody who turns the head")
    names = [video.stem for video in drivings]
    if len(set(names)) < len(names):
        raise DmsynthError(f"--driving: {', '.join(map(str, drivings))}: give files of different names")
    if given.video is not None:
        open_renderer(FaceSpec(f"recorded:{given.video}"))
        if len(drivings) > 1:
            raise DmsynthError("--liveportrait-video was made with one driving video: give that one --driving alone")
    if given.folder is not None:
        from dmsynth.steering.liveportrait_checkout import open_networks

        open_networks(given.folder)


def _begin(out: Path, preset: str, study: Study, recordings: Sequence[Path], seed: int) -> None:
    """Note what is made in ``out``; ``DmsynthError`` if that is something else."""
    about = {"preset": preset, "size": study.size, "posed": study.posed, "widened": study.widened, "seed": seed}
    content = json.loads(json.dumps(about | {"recordings": [sha256_of(video) for video in recordings]}))
    note = out / "study.json"
    if not note.is_file():
        write_json(note, content | {"machine": describe_machine()})
    elif any(read_json(note).get(key) != value for key, value in content.items()):
        raise DmsynthError(f"{out}: holds another study; give another --out or remove it")


def _dataset(path: Path, study: Study, recordings: Sequence[Path], tracker: Tracker, seed: int) -> Dataset:
    """The rotation dataset (4.1)."""
    if not recordings:
        return pose_photo(path, None, tracker, study.posed, study.size or _PORTRAIT, PoseRange(), seed, colour=False)
    info = probe_video(recordings[0])
    size = study.size or shape_at(info.width, info.height, math.prod(_PORTRAIT))
    return import_recordings(path, recordings, tracker, size, colour=False, widened=study.widened)


def _trained(folder: Path, dataset: Dataset, model: str, study: Study, seed: int) -> SteerableFace:
    """A model of the study, trained in a process of its own, whose largest memory is noted in ``memory.json``."""
    if not (folder / "memory.json").is_file():
        console.print(f"{folder}: {model}")
        arguments = {"dataset": str(dataset.path), "folder": str(folder), "model": model, "seed": seed}
        _, memory = in_own_process(_train, arguments | {"training": study.trainings[model]})
        write_json(folder / "memory.json", {"mebibytes": memory})
    return load_face(folder / "face.safetensors")


def _train(arguments: dict[str, Any]) -> None:
    train(
        open_dataset(Path(arguments["dataset"])), Path(arguments["folder"]), arguments["model"],
        seed=arguments["seed"], **arguments["training"],
    )  # fmt: skip


def _material(
    dataset: Dataset,
    models: dict[str, SteerableFace],
    given: LivePortraitGiven,
    tracker: str,
    tracker_model: Path | None,
) -> Material:
    """What every drive draws with: the source is the test frame nearest to neutral (4.2: "from the test dataset")."""
    test = dataset.split("test")
    if not len(test):
        raise DmsynthError(f"{dataset.path}: has no test frames; make it from more material")
    return Material(
        dataset=dataset,
        source=nearest_to_neutral(dataset.controls(SPACE), test),
        models=models,
        liveportrait=given.folder,
        liveportrait_video=given.video,
        tracker=tracker,
        tracker_model=tracker_model,
    )


def _report(
    out: Path,
    order: _Order,
    study: Study,
    material: Material,
    drives: dict[str, Judged],
    exact: pd.DataFrame | None,
) -> StudyReport:
    folder = out / "figures"
    pictures = _pictures(folder, material, drives)
    tables: dict[str, pd.DataFrame] = {}
    for name, judged in drives.items():
        tables[f"Driven by {name}: against the driver's tracked pose"] = judged.errors()
        if judged.second:
            tables[f"Driven by {name}: the second judge, {judged.second}"] = judged.second_table()
            tables[f"Driven by {name}: agreement of the two judges (second over first)"] = judged.agreement_table()
    if exact is not None:
        tables["Posed test frames, whose exact command is known: each judge against it"] = exact
    tables["What it costs"] = _costs(out, material, drives)
    found = findings(material, drives)
    pd.DataFrame([vars(finding) for finding in found]).to_csv(out / "findings.csv", index=False)
    person = ", ".join(video.name for video in order.recordings) or "the embedded portrait"
    return StudyReport(
        title=f"Chapter 4: {person}, driven by somebody else ({order.preset})",
        summary=_summary(material, study),
        findings=found,
        pictures=pictures,
        tables=tables,
        facts=_facts(out, material, drives, order.given, order.seed),
        videos={f"Driven by {name}": out / f"driving-{name}" / "beside.mp4" for name in drives},
        command=_command(order, out),
    )


def _pictures(folder: Path, material: Material, drives: dict[str, Judged]) -> list[Picture]:
    dataset = material.dataset
    contact_sheet(dataset, folder / "figure-4-1.png")
    marginals(dataset, folder / "figure-4-2.png")
    pictures = [
        Picture(
            "4.1", folder / "figure-4-1.png", "Frames of the rotation dataset, far apart in pose, with their labels.",
            "sample from the rotation dataset; labels, computed with MediaPipe, in green.",
        ),
        Picture(
            "4.2", folder / "figure-4-2.png", "Marginal distributions of pitch, yaw and roll.",
            "typically centred around 0°, since the subject faced the camera in more frames than any other direction.",
        ),
    ]  # fmt: skip
    for name, judged in drives.items():
        paths = [folder / f"figure-4-3-{name}.png", folder / f"figure-4-4-{name}.png", folder / f"coverage-{name}.png"]
        drawn = {title: None if one is None else one.frames for title, one in judged.drawn.items()}
        driver = judged.driver
        figures.faces(material.source_frame, driver.frames, driver.table, drawn, judged.views, paths[0])
        figures.tracks(driver.table, judged.views, judged.covered, [t for t, f in drawn.items() if f is None], paths[1])
        training = dataset.controls(SPACE)[dataset.split("train")]
        figures.coverage(training, driver.values, judged.covered, paths[2])
        pictures += [
            Picture(
                f"4.3, {name}", paths[0],
                "Source, driving frame, and what each model makes of the source at the driver's rotation.",
                "both models adapt closely to the driving rotation; the rotation model blurs details within the face, "
                "LivePortrait transfers the whole expression.",
            ),
            Picture(
                f"4.4, {name}", paths[1],
                "The tracker's answers on the driving frames and on what each model drew. Grey: outside the coverage.",
                "trajectories of the rotation model and of LivePortrait reflect the driving trajectory closely.",
            ),
            Picture(f"coverage, {name}", paths[2], "Where the driver's poses lie among the training frames.", ""),
        ]  # fmt: skip
    return pictures


def _beside(path: Path, judged: Judged, material: Material) -> None:
    """Driver and models in one video; what it shows is synthetic but for the driver."""
    face = material.models["swapwarp"]
    origin = Provenance.of(face.path, face.trained, "rendered")
    pictures: dict[str, figures.Frames] = {"driving": judged.driver.frames}
    pictures |= {title: one.frames for title, one in judged.drawn.items() if one is not None}
    figures.beside(pictures, material.dataset.size, FRAME_RATE, origin.metadata(), path)
    origin.write_beside(path)


def _summary(material: Material, study: Study) -> str:
    dataset = material.dataset
    width, height = dataset.size
    posed = int(dataset.posed.sum())
    about = f", {posed} of them posed from filmed ones" if posed else ""
    return (
        f"{len(dataset)} frames of {width}×{height}{about}. Both models learned from the same "
        f"{len(dataset.split('train'))} training frames. Every model but the one with sources of its own draws from "
        "one source, the test frame nearest to neutral. The command is the driver's tracked pose (absolute), "
        f"smoothed over 0.3 s without delay, of at most {study.driving} frames. Errors are the tracker's answer on the "
        "drawn frame less its answer on the driving frame, unsmoothed. In coverage: frames whose commanded pose the "
        "training frames cover. Sharpness: of the face, 1 is the median of the person's real test frames. Identity: 1, "
        "as alike the person as other real frames of that person, 0, as alike as the driver."
    )


def _costs(out: Path, material: Material, drives: dict[str, Judged]) -> pd.DataFrame:
    rows = []
    for title in dict.fromkeys(title for judged in drives.values() for title in judged.columns):
        drawn = [one for judged in drives.values() if (one := judged.drawn.get(title)) is not None]
        if not drawn:
            rows.append({"model": f"{title} (did not run)"} | dict.fromkeys(_COSTS, "–"))
            continue
        seconds = [250 * one.seconds / len(one.frames) for one in drawn if one.seconds is not None]
        training, memory = _training_costs(out, drawn[0].model, material)
        first = drawn[0]
        rows.append(
            {
                "model": title,
                _COSTS[0]: f"{np.median(seconds):.1f} s" if seconds else "–",
                _COSTS[1]: training,
                _COSTS[2]: "–" if first.parameters is None else f"{first.parameters / 1e6:.2f} M",
                _COSTS[3]: "–" if first.memory is None else f"{first.memory:.0f} MiB",
                _COSTS[4]: memory,
            }
        )
    return pd.DataFrame(rows)


_COSTS = ("drawing 250 frames", "training", "parameters", "memory, drawing", "memory, training")


def _training_costs(out: Path, model: str | None, material: Material) -> tuple[str, str]:
    if model is None:
        return "–", "–"
    about = material.models[model].trained.about
    memory = read_json(out / model / "memory.json")["mebibytes"]
    return f"{about['train_seconds']:.0f} s, {about['steps']} steps", f"{memory:.0f} MiB"


def _facts(
    out: Path, material: Material, drives: dict[str, Judged], given: LivePortraitGiven, seed: int
) -> dict[str, str]:
    machine = read_json(out / "study.json")["machine"]
    hardware = machine.get("accelerator") or f"{machine['cores']} cores, {machine['processor']}"
    ran = [f"its checkout {given.folder.name}"] if given.folder else []
    ran += [f"a video made elsewhere, {given.video.name}"] if given.video else []
    dataset = material.dataset
    result = {
        "machine": f"{hardware}, torch {machine['torch']}",
        "seed": str(seed),
        "tracker": next(iter(drives.values())).first,
        "second judge": next((judged.second for judged in drives.values() if judged.second), "none"),
        "LivePortrait": " and ".join(ran) or "did not run: its columns are empty",
        "dataset": dataset.sha256,
        "source": f"frame {material.source} of the dataset, of its test split",
        "memory": "the largest resident memory of a process of its own, Python and libraries included",
    }
    for name, judged in drives.items():
        late = [lag(judged.driver.raw[:, axis], judged.driver.values[:, axis]) for axis in range(SPACE.size)]
        seen = ", ".join("–" if np.isnan(value) else f"{value:+.3f}" for value in late)
        result[f"driver {name}"] = (
            f"{len(judged.driver.values)} frames, {int(judged.covered.sum())} in coverage; lag of the smoothing in "
            f"pitch, yaw, roll: {seen} frames"
        )
    return result


def _command(order: _Order, out: Path) -> str:
    command, given = ["dmsynth", "reproduce", "rotation", "--preset", order.preset], order.given
    for flag, paths in (("--recording", order.recordings), ("--driving", order.drivings)):
        for path in paths:
            command += [flag, path.name]
    command += ["--liveportrait", given.folder.name] if given.folder else []
    command += ["--liveportrait-video", given.video.name] if given.video else []
    return shlex.join([*command, "--seed", str(order.seed), "--out", out.name])
