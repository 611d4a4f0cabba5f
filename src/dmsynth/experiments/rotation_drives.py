"""One driving video of chapter 4: its tracked poses are the command, which every model renders."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dmsynth.controls import CONTROL_SPACES
from dmsynth.datasets.dataset import Dataset
from dmsynth.motion.driving import drive
from dmsynth.steering import FaceSpec, Renderer, SteerableFace, open_follower, open_renderer
from dmsynth.steering.provenance import Provenance
from dmsynth.steering.source import read_source
from dmsynth.support.files import read_json, replacing, sha256_of, write_json
from dmsynth.support.parallel import in_own_process
from dmsynth.support.progress import console, progress
from dmsynth.trackers import Tracker, track_to_table
from dmsynth.video import Frame, Image, VideoWriter, probe_video, read_video

SPACE = CONTROL_SPACES["rotation"]
FRAME_RATE = 25.0
ONE_SOURCE = {"rotation model": "rotation", "SwapWarp": "swapwarp"}
"""Columns that are drawn from the study's source frame, and the recipe of each."""


@dataclass(frozen=True)
class Driver:
    """A driving video, tracked.

    Attributes:
        frames: its images.
        table: the first judge's measurements, as ``track_to_table``.
        raw: (n, 3) its tracked pose; NaN where no face was found.
        values: (n, 3) the command: gaps interpolated, smoothed.
    """

    name: str
    path: Path
    frames: list[Image]
    table: pd.DataFrame
    raw: NDArray[np.float64]
    values: NDArray[np.float64]


def read_driver(video: Path, most: int, tracker: Tracker) -> Driver:
    """The first ``most`` frames of a driving video, or all if there are fewer (with a note).

    Raises ``DmsynthError`` as ``driving.drive``: no face, two people, a gap too long to interpolate.
    """
    info = probe_video(video)
    frames: list[Image] = []

    def watched() -> Iterator[Frame]:
        with progress(f"tracking {video.name}", min(most, info.frames)) as advance:
            for frame in islice(read_video(video), most):
                frames.append(frame.image)
                yield frame
                advance()

    table = track_to_table(tracker, watched())
    if len(frames) < most:
        console.print(f"{video}: has {len(frames)} frames, not {most}; all of them drive", style="yellow")
    motion = drive(table, SPACE, str(video))
    return Driver(video.stem, video, frames, table, table[list(SPACE.names)].to_numpy(float), motion.values)


@dataclass(frozen=True)
class Material:
    """The dataset, source frame, models and trackers of a study.

    Attributes:
        source: index of the dataset's frame that every model draws from.
        models: trained on the dataset, by recipe.
        liveportrait, liveportrait_video: its checkout, or its result for a single driving video, if given.
        tracker, tracker_model: name and file, for subprocesses.
    """

    dataset: Dataset
    source: int
    models: dict[str, SteerableFace]
    liveportrait: Path | None
    liveportrait_video: Path | None
    tracker: str
    tracker_model: Path | None

    @property
    def source_frame(self) -> Image:
        return np.array(self.dataset.frames[self.source])

    @property
    def source_pose(self) -> NDArray[np.float64]:
        """(3,) the source frame's label."""
        return np.asarray(self.dataset.controls(SPACE)[self.source])

    @property
    def columns(self) -> list[tuple[str, str | None, str | None]]:
        """Title, renderer and recipe of each model; LivePortrait has an entry even if it did not run."""
        ours: list[tuple[str, str | None, str | None]] = [
            (title, str(self.models[recipe].path), recipe)
            for title, recipe in (*ONE_SOURCE.items(), ("SwapWarp, own sources", "swapwarp"))
        ]
        theirs: list[tuple[str, str | None, str | None]] = []
        if self.liveportrait:
            theirs.append(("LivePortrait, driven", f"liveportrait-driven:{self.liveportrait}", None))
            theirs.append(("LivePortrait, steered", f"liveportrait:{self.liveportrait}", None))
        if self.liveportrait_video:
            title = "LivePortrait, made elsewhere" if self.liveportrait else "LivePortrait"
            theirs.append((title, f"recorded:{self.liveportrait_video}", None))
        return [*ours, *(theirs or [("LivePortrait", None, None)])]


@dataclass(frozen=True)
class Drawn:
    """One model's rendering of the command.

    Attributes:
        frames: grey or RGB, of the dataset's size.
        seconds: rendering time of all frames, including encoding the source, without tracking and video; None: made
            elsewhere.
        memory: peak memory of the rendering process in MiB.
        parameters: number of its networks' parameters.
        model: its recipe, if it was trained here.
    """

    frames: NDArray[np.uint8]
    seconds: float | None
    memory: float | None
    parameters: int | None
    model: str | None


def draw(folder: Path, driver: Driver, material: Material) -> dict[str, Drawn | None]:
    """Every model's frames, each rendered in a separate process, stored in ``folder`` as an array and as a video.

    Results of an earlier call with the same command and faces are reused. None if a model did not run.
    """
    result: dict[str, Drawn | None] = {}
    source = f"{material.dataset.path}@{material.source}"
    for title, renderer, model in material.columns:
        if renderer is None:
            result[title] = None
            continue
        one_source = title in ONE_SOURCE
        moves = model is None and not renderer.startswith("recorded:")
        spec = FaceSpec(
            renderer,
            source if moves else None,
            material.tracker,
            str(material.tracker_model) if material.tracker_model else None,
            driving=str(driver.path) if renderer.startswith("liveportrait-driven:") else None,
        )
        path = folder / title.lower().replace(",", "").replace(" ", "-")
        arguments: dict[str, Any] = {
            "renderer": asdict(spec),
            "values": driver.values.round(6).tolist(),
            "size": list(material.dataset.size),
            # a trained face is told where the source looks, as its label says; others measure it
            "source": source if one_source else None,
            "source_pose": material.source_pose.tolist() if one_source else None,
            "out": str(path.with_suffix(".npy")),
        }
        made_of = [each for each in (spec.where, driver.path) if each.is_file()]
        wanted = arguments | {"sha256": [sha256_of(each) for each in made_of]}
        note = path.with_suffix(".json")
        there = note.is_file() and path.with_suffix(".npy").is_file()
        if not there or read_json(note)["made_from"] != wanted:
            console.print(f"{folder.name}: {title} draws {len(driver.values)} frames")
            figures, memory = in_own_process(_draw, arguments)
            figures |= {"memory": memory} if figures["seconds"] is not None else {"memory": None}
            write_json(note, figures | {"made_from": wanted})
        made = read_json(note)
        frames = np.load(path.with_suffix(".npy"), mmap_mode="r", allow_pickle=False)
        result[title] = Drawn(frames, made["seconds"], made["memory"], made["parameters"], model)
        if model:
            origin = Provenance.of(material.models[model].path, material.models[model].trained, "rendered")
            with VideoWriter(path.with_suffix(".mp4"), *material.dataset.size, FRAME_RATE, origin.metadata()) as video:
                for frame in frames:
                    video.write(np.asarray(frame))
            origin.write_beside(path.with_suffix(".mp4"))
    return result


def _draw(arguments: dict[str, Any]) -> dict[str, Any]:
    """Render one model's frames into a file; returns the time it took, and the number of parameters."""
    values = np.array(arguments["values"])
    renderer, parameters = _open(arguments)
    with progress("drawing", len(values)) as advance:
        begun = time.perf_counter()
        frames = []
        for frame in renderer.frames(values):
            frames.append(frame)
            advance()
        seconds = time.perf_counter() - begun
    with replacing(Path(arguments["out"])) as temporary:
        np.save(temporary, np.stack(frames), allow_pickle=False)
    return {"seconds": None if parameters is None else seconds, "parameters": parameters}


def _open(arguments: dict[str, Any]) -> tuple[Renderer, int | None]:
    """The renderer, and its number of parameters; None: a video made elsewhere."""
    spec, (width, height) = FaceSpec(**arguments["renderer"]), arguments["size"]
    renderer: Renderer
    if spec.driving is not None:
        renderer = open_follower(spec, (width, height))
    else:
        renderer = face = open_renderer(spec, (width, height)).head_only
        if arguments["source"] is not None:
            renderer = face.from_source(read_source(arguments["source"]), np.array(arguments["source_pose"]))
    network: Any = renderer.trained.network
    return renderer, sum(value.numel() for value in network.parameters()) if network else None
