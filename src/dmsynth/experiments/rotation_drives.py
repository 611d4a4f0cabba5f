"""One driving video of chapter 4: its tracked poses are the command, which every model renders."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dmsynth.controls import CONTROL_SPACES
from dmsynth.datasets.dataset import Dataset
from dmsynth.steering import SteerableFace, load_face, read_source
from dmsynth.steering.driving import drive
from dmsynth.steering.provenance import Provenance
from dmsynth.steering.recorded import open_recorded
from dmsynth.support.files import read_json, replacing, sha256_of, write_json
from dmsynth.support.parallel import in_own_process
from dmsynth.support.progress import console, progress
from dmsynth.trackers import Tracker, open_tracker, track_to_table
from dmsynth.video import Frame, Image, VideoWriter, fit, probe_video, read_video

SPACE = CONTROL_SPACES["rotation"]
FRAME_RATE = 25.0


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
    def columns(self) -> list[tuple[str, str, str | None]]:
        """Title, kind of rendering and recipe of each model; LivePortrait has an entry even if it did not run."""
        ours: list[tuple[str, str, str | None]] = [
            ("rotation model", "one source", "rotation"),
            ("SwapWarp", "one source", "swapwarp"),
            ("SwapWarp, own sources", "own sources", "swapwarp"),
        ]
        theirs: list[tuple[str, str, str | None]] = []
        if self.liveportrait:
            theirs += [("LivePortrait, driven", "driven", None), ("LivePortrait, steered", "steered", None)]
        if self.liveportrait_video:
            title = "LivePortrait, made elsewhere" if self.liveportrait else "LivePortrait"
            theirs.append((title, "recorded", None))
        return [*ours, *(theirs or [("LivePortrait", "none", None)])]


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
    for title, kind, model in material.columns:
        if kind == "none":
            result[title] = None
            continue
        path = folder / title.lower().replace(",", "").replace(" ", "-")
        arguments: dict[str, Any] = {
            "kind": kind,
            "values": driver.values.round(6).tolist(),
            "size": list(material.dataset.size),
            "source": f"{material.dataset.path}@{material.source}",
            "source_pose": material.source_pose.tolist(),
            "face": str(material.models[model].path) if model else None,
            "driving": str(driver.path),
            "liveportrait": str(material.liveportrait) if material.liveportrait else None,
            "video": str(material.liveportrait_video) if material.liveportrait_video else None,
            "tracker": material.tracker,
            "tracker_model": str(material.tracker_model) if material.tracker_model else None,
            "out": str(path.with_suffix(".npy")),
        }
        made_of = [Path(arguments[name]) for name in ("face", "video") if arguments[name]]
        wanted = arguments | {"sha256": [sha256_of(each) for each in (*made_of, driver.path)]}
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
    frames_of, parameters = _open(arguments)
    size = arguments["size"]
    with progress("drawing", len(values)) as advance:
        begun = time.perf_counter()
        frames = []
        for frame in frames_of(values):
            frames.append(frame)
            advance()
        seconds = time.perf_counter() - begun
    if arguments["kind"] == "recorded":
        frames = [fit(frame, *size) for frame in frames]
    with replacing(Path(arguments["out"])) as temporary:
        np.save(temporary, np.stack(frames), allow_pickle=False)
    return {"seconds": None if arguments["kind"] == "recorded" else seconds, "parameters": parameters}


def _open(arguments: dict[str, Any]) -> tuple[Callable[[NDArray[np.float64]], Iterator[Image]], int | None]:
    """A function from commands (n, 3) to frames, and its number of parameters."""
    kind = arguments["kind"]
    if kind == "recorded":
        return open_recorded(Path(arguments["video"])).frames, None
    if kind in ("one source", "own sources"):
        face = load_face(Path(arguments["face"]))
        parameters = sum(value.numel() for value in face.trained.network.parameters())
        if kind == "own sources":
            return face.frames, parameters
        source, at = read_source(arguments["source"]), np.array(arguments["source_pose"])
        return partial(face.frames, source=source, at=at), parameters
    from dmsynth.steering.liveportrait import open_liveportrait
    from dmsynth.steering.liveportrait_driven import Driven

    model = arguments["tracker_model"]
    tracker = open_tracker(arguments["tracker"], Path(model) if model else None)
    size = (int(arguments["size"][0]), int(arguments["size"][1]))
    face = open_liveportrait(Path(arguments["liveportrait"]), arguments["source"], tracker, size)
    network: Any = face.trained.network
    count = int(network.networks.parameters)
    return (face if kind == "steered" else Driven(face, Path(arguments["driving"]), tracker)).frames, count
