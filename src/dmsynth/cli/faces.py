"""Train a face, steer it, measure it, take it elsewhere."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dmsynth.cli.app import (
    LivePortraitFolder,
    OneSource,
    RendererName,
    Seed,
    TrackerModel,
    TrackerName,
    app,
    duration_of,
    one_of,
    output,
    print_metrics,
)
from dmsynth.errors import DmsynthError

if TYPE_CHECKING:
    from dmsynth.steering import SteerableFace
    from dmsynth.trackers import TrackerPool

RENDERERS = ("face", "liveportrait", "liveportrait-driven")


def _check_renderer(renderer: str, face: Path | None, liveportrait: Path | None, source: str | None) -> None:
    """Raise ``DmsynthError`` unless there is exactly what the renderer needs."""
    if renderer not in RENDERERS:
        raise DmsynthError(f"--renderer {renderer}: choose {', '.join(RENDERERS[:-1])} or {RENDERERS[-1]}")
    if renderer == "face":
        if face is None:
            raise DmsynthError("name a face: face.safetensors of a training, or starter")
        if liveportrait is not None:
            raise DmsynthError("--liveportrait goes with --renderer liveportrait or liveportrait-driven")
    elif face is not None:
        raise DmsynthError(f"{face}: --renderer {renderer} takes no face; give it a picture with --source")
    elif liveportrait is None or source is None:
        lacks = "--source PICTURE" if liveportrait is not None else "--liveportrait DIR, its official checkout"
        raise DmsynthError(f"--renderer {renderer} needs {lacks}")


def _liveportrait(folder: Path, source: str, pool: TrackerPool, size: tuple[int, int] | None = None) -> SteerableFace:
    from dmsynth.baselines.liveportrait import steerable
    from dmsynth.baselines.liveportrait_checkout import open_networks
    from dmsynth.steering import read_source

    return steerable(open_networks(folder), folder, read_source(source), pool, source, size)


@app.command()
def track(
    video: Annotated[Path, typer.Argument(help="Any video.")],
    out: Annotated[Path, typer.Option(help="Table to write: .parquet or .csv.")],
    tracker: TrackerName = "auto",
    tracker_model: TrackerModel = None,
) -> None:
    """Measure head pose in every frame of a video."""
    from dmsynth.driving import track_video
    from dmsynth.trackers import open_tracker
    from dmsynth.trajectory import check_table_name, write_table

    check_table_name(out)
    pool = open_tracker(tracker, tracker_model)
    table = track_video(video, pool)
    write_table(out, table)
    found = int(table["found"].sum())
    reasons = ", ".join(f"{reason}: {count}" for reason, count in table["reason"].value_counts().items() if reason)
    output.print(f"{out}: {found} of {len(table)} frames with one usable face" + (f" ({reasons})" if reasons else ""))
    output.print(f"tracker: {pool.name}")


@app.command("train")
def train_command(
    dataset: Annotated[Path, typer.Argument(help="A dataset folder.")],
    out: Annotated[Path, typer.Option(help="Run folder; an interrupted run in it goes on.")],
    model: Annotated[
        str, typer.Option(help="swapwarp, or a model of the thesis: rotation, position-spe, …")
    ] = "swapwarp",
    optimization: Annotated[
        str | None, typer.Option(help="warp, stable, or thesis: Adam, fixed step size; default: the model's own.")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="tracked or commanded (posed photos); default: the model's own.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the data (default 1000, as the thesis).")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimizer steps.")] = None,
    max_time: Annotated[str | None, typer.Option(help="Stop after this long: 90s, 5m, 2h.")] = None,
    seed: Seed = 0,
    latent: Annotated[
        int | None, typer.Option(min=2, help="Entries of the latent vector; default: the model's own.")
    ] = None,
    base_channels: Annotated[
        int | None, typer.Option(min=1, help="Maps of the first layer; default: the model's.")
    ] = None,
    precision: Annotated[str | None, typer.Option(help="32-true or bf16-mixed (default: what is faster here).")] = None,
) -> None:
    """Learn to steer a face."""
    from dmsynth.dataset import open_dataset
    from dmsynth.training import train

    duration = duration_of(max_time)
    face = train(
        open_dataset(dataset), out, model, optimization=optimization, labels=labels, epochs=epochs, steps=steps,
        max_time=duration, seed=seed, latent=latent, base_channels=base_channels, precision=precision,
    )  # fmt: skip
    output.print(f"face: {face}")


@app.command()
def steer(
    trajectory: Annotated[
        str,
        typer.Option(help="Motions ('move yaw=20 1; hold 1'), a .csv or .parquet table, or a driving video."),
    ],
    out: Annotated[Path, typer.Option(help="Video to write, .mp4; its table goes beside it.")],
    face: Annotated[Path | None, typer.Argument(help="face.safetensors of a training, or starter.")] = None,
    source: Annotated[
        str | None, typer.Option(help="Picture, VIDEO@N or DATASET@N; default: the face's own source frame.")
    ] = None,
    one_source: OneSource = False,
    frame_rate: Annotated[float, typer.Option(min=1, max=240, help="Frames a second.")] = 25,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse poses outside the training coverage.")] = False,
    clip: Annotated[bool, typer.Option("--clip", help="Draw poses outside the coverage to its edge.")] = False,
    renderer: RendererName = "face",
    liveportrait: LivePortraitFolder = None,
    tracker: TrackerName = "auto",
    tracker_model: TrackerModel = None,
) -> None:
    """Render a face along a trajectory."""
    from dmsynth.driving import read_trajectory
    from dmsynth.steering import keep_inputs, load_face, read_source, steer_to_video
    from dmsynth.trackers import open_tracker

    if strict and clip:
        raise DmsynthError("--strict and --clip: choose one")
    if renderer == "liveportrait-driven" and (strict or clip):
        raise DmsynthError(
            "--strict and --clip go with commanded poses; --renderer liveportrait-driven follows a video"
        )
    one_of(source, one_source)
    _check_renderer(renderer, face, liveportrait, source)
    keep_inputs(out, [trajectory, source])
    if face is not None:
        steerable = load_face(face).from_one_source() if one_source else load_face(face)
    else:
        assert liveportrait is not None and source is not None
        pool = open_tracker(tracker, tracker_model)
        steerable, source = _liveportrait(liveportrait, source, pool), None  # the picture is its own source now
        if renderer == "liveportrait-driven":
            from dmsynth.baselines.liveportrait_driven import Driven, drive_to_video

            output.print(f"video: {out}\ntable: {drive_to_video(Driven(steerable, Path(trajectory), pool), out)}")
            return
    space = steerable.trained.space
    motion = read_trajectory(trajectory, space, frame_rate, lambda: open_tracker(tracker, tracker_model))
    frame = read_source(source) if source else None
    table = steer_to_video(
        steerable, motion, out, frame_rate, frame, "strict" if strict else "clip" if clip else "warn"
    )
    output.print(f"video: {out}\ntable: {table}")


@app.command("evaluate")
def evaluate_command(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="[FACE] DATASET",
            help="face.safetensors of a training, or starter; and the dataset whose test frames are the targets.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for metrics.json, table.parquet and report.html.")],
    source: Annotated[str | None, typer.Option(help="Picture, VIDEO@N or DATASET@N.")] = None,
    one_source: OneSource = False,
    frames: Annotated[int, typer.Option(min=1, help="At most this many test frames.")] = 500,
    renderer: RendererName = "face",
    liveportrait: LivePortraitFolder = None,
    tracker: TrackerName = "auto",
    tracker_model: TrackerModel = None,
) -> None:
    """Steer to held-out poses, track the result, and say how far it lies from the target."""
    from dmsynth.dataset import open_dataset
    from dmsynth.evaluation import evaluate
    from dmsynth.files import write_json
    from dmsynth.report.html import write_report
    from dmsynth.steering import load_face, read_source
    from dmsynth.trackers import open_tracker
    from dmsynth.trajectory import write_table

    one_of(source, one_source)
    *faces, data = inputs
    if len(faces) > 1:
        raise DmsynthError(f"{' '.join(map(str, inputs))}: give one face and one dataset")
    if renderer == "liveportrait-driven":
        raise DmsynthError("--renderer liveportrait-driven follows a video, not commanded poses; judge liveportrait")
    _check_renderer(renderer, faces[0] if faces else None, liveportrait, source)
    pool = open_tracker(tracker, tracker_model)
    command = ["dmsynth", "evaluate", *map(str, inputs), "--out", str(out), "--frames", str(frames)]
    command += ["--tracker", tracker] + (["--source", source] if source else [])
    command += ["--one-source"] if one_source else []
    if faces:
        steerable = load_face(faces[0]).from_one_source() if one_source else load_face(faces[0])
        dataset = open_dataset(data)
    else:
        assert liveportrait is not None and source is not None
        command += ["--renderer", renderer, "--liveportrait", str(liveportrait)]
        dataset = open_dataset(data)
        steerable, source = _liveportrait(liveportrait, source, pool, dataset.size), None
    result = evaluate(steerable, dataset, pool, read_source(source) if source else None, frames)
    write_json(out / "metrics.json", result.metrics)
    write_table(out / "table.parquet", result.table)
    write_report(out / "report.html", steerable, result, [shlex.join(command)])
    print_metrics(result.metrics)
    output.print(f"report: {out / 'report.html'}")


@app.command("export")
def export_command(
    face: Annotated[Path, typer.Argument(help="face.safetensors of a training, or starter.")],
    out: Annotated[Path, typer.Option(help="File to write, .onnx.")],
    source: Annotated[
        str | None, typer.Option(help="Picture, VIDEO@N or DATASET@N; default: the face's most typical source frame.")
    ] = None,
) -> None:
    """Write a face as ONNX: controls in, picture out, for programs without PyTorch."""
    from dmsynth.export import export_onnx
    from dmsynth.steering import load_face, read_source

    output.print(f"model: {export_onnx(load_face(face), out, read_source(source) if source else None)}")
