"""The command line: a door. It turns words into calls of the library and errors into one line."""

from __future__ import annotations

import atexit
import contextlib
import os
import shlex
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

import dmsynth
from dmsynth.errors import DmsynthError, explain_os_error

if TYPE_CHECKING:
    from dmsynth.dataset import Dataset
    from dmsynth.report.study import StudyReport

# The rooms are imported inside the commands, so that each starts with what it needs and `--help` at once.

app = typer.Typer(
    help="Steerable synthetic drivers for validating driver monitoring systems.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
dataset_app = typer.Typer(help="Make and look at face datasets.", no_args_is_help=True)
app.add_typer(dataset_app, name="dataset")
reproduce_app = typer.Typer(help="Repeat the thesis's experiments.", no_args_is_help=True)
app.add_typer(reproduce_app, name="reproduce")
output = Console()


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    width, _, height = text.lower().partition("x")
    if (
        not (width.isdigit() and height.isdigit())
        or int(width) % 16
        or int(height) % 16
        or not int(width) * int(height)
    ):
        raise DmsynthError(f"--size {text}: give WIDTHxHEIGHT, each divisible by 16, such as 320x240")
    return int(width), int(height)


def _crop(text: str | None) -> tuple[int, int, int, int] | None:
    if text is None:
        return None
    parts = text.split(",")
    if len(parts) != 4 or not all(part.strip().isdigit() for part in parts):
        raise DmsynthError(f"--crop {text}: give LEFT,TOP,WIDTH,HEIGHT in pixels, such as 200,0,640,480")
    left, top, width, height = (int(part) for part in parts)
    return left, top, width, height


def _seconds(text: str | None) -> timedelta | None:
    """``90``, ``90s``, ``5m`` or ``2h``."""
    if text is None:
        return None
    unit = {"s": 1, "m": 60, "h": 3600}.get(text[-1:].lower())
    number = text[:-1] if unit else text
    try:
        seconds = float(number) * (unit or 1)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e7:
        raise DmsynthError(f"--max-time {text}: give a duration such as 90s, 5m or 2h")
    return timedelta(seconds=seconds)


TrackerName = Annotated[str, typer.Option("--tracker", help="auto, face-landmarker, face-mesh, or one of your own.")]
TrackerModel = Annotated[
    Path | None, typer.Option("--tracker-model", help="Face Landmarker's model file (face_landmarker.task).")
]
OneSource = Annotated[
    bool, typer.Option("--one-source", help="Steer from the face's first source frame only, not from whichever suits.")
]
Seed = Annotated[int, typer.Option(help="Same seed, same result.")]
Colour = Annotated[bool, typer.Option("--colour", help="Store RGB instead of grey.")]


@dataset_app.command("photo")
def dataset_photo(
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    image: Annotated[Path | None, typer.Argument(help="A portrait; default: a public-domain one.")] = None,
    frames: Annotated[int, typer.Option(min=1, help="How many poses.")] = 1000,
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT of the frames.")] = "320x240",
    yaw: Annotated[float, typer.Option(help="Poses within ± this many degrees.")] = 35,
    pitch: Annotated[float, typer.Option(help="Poses within ± this many degrees.")] = 20,
    roll: Annotated[float, typer.Option(help="Poses within ± this many degrees.")] = 20,
    seed: Seed = 0,
    colour: Colour = False,
    tracker: TrackerName = "auto",
    tracker_model: TrackerModel = None,
) -> None:
    """Pose one portrait photo in 2.5-D: a dataset with known and with tracked head rotations."""
    from dmsynth.sources.photo import PoseRange, pose_photo
    from dmsynth.trackers import open_tracker

    shape = _size(size)
    assert shape is not None
    poses = PoseRange(pitch=pitch, yaw=yaw, roll=roll)
    pool = open_tracker(tracker, tracker_model)
    dataset = pose_photo(out, image, pool, frames, shape, poses, seed, colour)
    _print_dataset(dataset)


@dataset_app.command("recording")
def dataset_recording(
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    videos: Annotated[list[Path], typer.Argument(help="Recordings of one person.")],
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT; default: the video's shape at about 320x240.")] = None,
    crop: Annotated[str | None, typer.Option(help="LEFT,TOP,WIDTH,HEIGHT: use only this part of the video.")] = None,
    colour: Colour = False,
    tracker: TrackerName = "auto",
    tracker_model: TrackerModel = None,
) -> None:
    """Import real video: frames with the tracker's labels, split by blocks of time."""
    from dmsynth.sources.recording import import_recordings
    from dmsynth.trackers import open_tracker

    shape, part = _size(size), _crop(crop)
    pool = open_tracker(tracker, tracker_model)
    _print_dataset(import_recordings(out, videos, pool, shape, part, colour))


@dataset_app.command("position")
def dataset_position(
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    image: Annotated[Path | None, typer.Argument(help="A portrait; default: a public-domain one.")] = None,
    frames: Annotated[int, typer.Option(min=12, help="How many positions.")] = 1000,
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT of the frames, 4 to 3; the face scales along.")] = "640x480",
    seed: Seed = 0,
    tracker: TrackerName = "auto",
    tracker_model: TrackerModel = None,
) -> None:
    """Put a cut-out face at random places of a white wall: the thesis's position dataset (3.1.1)."""
    from dmsynth.sources.cutout import make_position_dataset
    from dmsynth.trackers import open_tracker

    shape = _size(size)
    assert shape is not None
    pool = open_tracker(tracker, tracker_model)
    _print_dataset(make_position_dataset(out, image, pool, frames, shape, seed))


@dataset_app.command("info")
def dataset_info(
    path: Annotated[Path, typer.Argument(help="A dataset folder.")],
    out: Annotated[Path | None, typer.Option(help="Where the pictures go; default: DATASET/info.")] = None,
) -> None:
    """Contact sheet, marginal distributions and coverage map (thesis Figs. 4.1, 4.2), as PNG and in the terminal."""
    import numpy as np

    from dmsynth.dataset import open_dataset
    from dmsynth.report import figures

    dataset = open_dataset(path)
    _print_dataset(dataset)
    space, labels = dataset.about
    if space.name == "rotation":
        yaw, pitch = (dataset.labels[f"{labels}_{name}"].to_numpy(dtype=float) for name in ("yaw", "pitch"))
        step = 5.0 if max(np.ptp(yaw), np.ptp(pitch)) > 40 else 2.0
        output.print(f"\nyaw-pitch coverage, {step:g}° a cell, darker is more frames (pitch up, yaw to the right)")
        for line in figures.coverage_in_text(yaw, pitch, step):
            output.print(line, highlight=False)
    folder = out or path / "info"
    for name, draw in (
        ("contact-sheet", figures.contact_sheet),
        ("marginals", figures.marginals),
        ("coverage", figures.coverage_map),
    ):
        draw(dataset, folder / f"{name}.png")
    output.print(f"\npictures: {folder}")


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

    duration = _seconds(max_time)
    face = train(
        open_dataset(dataset), out, model, optimization=optimization, labels=labels, epochs=epochs, steps=steps,
        max_time=duration, seed=seed, latent=latent, base_channels=base_channels, precision=precision,
    )  # fmt: skip
    output.print(f"face: {face}")


@app.command()
def steer(
    face: Annotated[Path, typer.Argument(help="face.safetensors of a training, or starter.")],
    trajectory: Annotated[
        str,
        typer.Option(help="Motions ('move yaw=20 1; hold 1'), a .csv or .parquet table, or a driving video."),
    ],
    out: Annotated[Path, typer.Option(help="Video to write, .mp4; its table goes beside it.")],
    source: Annotated[
        str | None, typer.Option(help="Picture, VIDEO@N or DATASET@N; default: the face's own source frame.")
    ] = None,
    one_source: OneSource = False,
    frame_rate: Annotated[float, typer.Option(min=1, max=240, help="Frames a second.")] = 25,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse poses outside the training coverage.")] = False,
    clip: Annotated[bool, typer.Option("--clip", help="Draw poses outside the coverage to its edge.")] = False,
    tracker: TrackerName = "auto",
    tracker_model: TrackerModel = None,
) -> None:
    """Render a face along a trajectory."""
    from dmsynth.driving import read_trajectory
    from dmsynth.steering import keep_inputs, load_face, read_source, steer_to_video
    from dmsynth.trackers import open_tracker

    if strict and clip:
        raise DmsynthError("--strict and --clip: choose one")
    steerable = load_face(face).from_one_source() if one_source else load_face(face)
    space = steerable.trained.space
    motion = read_trajectory(trajectory, space, frame_rate, lambda: open_tracker(tracker, tracker_model))
    frame = read_source(source) if source else None
    keep_inputs(out, [trajectory, source])
    table = steer_to_video(
        steerable, motion, out, frame_rate, frame, "strict" if strict else "clip" if clip else "warn"
    )
    output.print(f"video: {out}\ntable: {table}")


@app.command("evaluate")
def evaluate_command(
    face: Annotated[Path, typer.Argument(help="face.safetensors of a training, or starter.")],
    dataset: Annotated[Path, typer.Argument(help="Dataset whose test frames are the targets.")],
    out: Annotated[Path, typer.Option(help="Folder for metrics.json, table.parquet and report.html.")],
    source: Annotated[str | None, typer.Option(help="Picture, VIDEO@N or DATASET@N.")] = None,
    one_source: OneSource = False,
    frames: Annotated[int, typer.Option(min=1, help="At most this many test frames.")] = 500,
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

    pool = open_tracker(tracker, tracker_model)
    steerable = load_face(face).from_one_source() if one_source else load_face(face)
    result = evaluate(steerable, open_dataset(dataset), pool, read_source(source) if source else None, frames)
    write_json(out / "metrics.json", result.metrics)
    write_table(out / "table.parquet", result.table)
    command = ["dmsynth", "evaluate", str(face), str(dataset), "--out", str(out), "--frames", str(frames)]
    command += ["--tracker", tracker] + (["--source", source] if source else [])
    command += ["--one-source"] if one_source else []
    write_report(out / "report.html", steerable, result, [shlex.join(command)])
    _print_metrics(result.metrics)
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


@app.command("demo")
def demo_command(
    out: Annotated[Path, typer.Option(help="Folder for everything.")] = Path("runs/demo"),
    photo: Annotated[Path | None, typer.Option(help="A portrait; default: a public-domain one.")] = None,
    frames: Annotated[int, typer.Option(min=36, help="How many poses to train and test on.")] = 900,
    train_time: Annotated[str, typer.Option(help="How long to train.")] = "180s",
    seed: Seed = 0,
    tracker: TrackerName = "auto",
    tracker_model: TrackerModel = None,
) -> None:
    """From one portrait to a steered, tracked video with a report, in about five minutes on two cores."""
    from dmsynth.experiments.demo import DemoSize, demo
    from dmsynth.trackers import open_tracker

    duration = _seconds(train_time)
    assert duration is not None
    pool = open_tracker(tracker, tracker_model)
    metrics = demo(out, pool, photo, DemoSize(frames=frames, train_seconds=duration.total_seconds()), seed)
    _print_metrics(metrics)
    output.print(f"report: {out / 'report.html'}\nvideo:  {out / 'steered.mp4'}")


@app.command("starter")
def starter_command(
    out: Annotated[Path, typer.Option(help="File to write, .safetensors.")],
    folder: Annotated[Path, typer.Option(help="Where to work; an interrupted training in it goes on.")],
    tracker: TrackerName = "auto",
    tracker_model: TrackerModel = None,
) -> None:
    """Train the face that dmsynth comes with anew, from its portrait."""
    from dmsynth.experiments.starter import make_starter
    from dmsynth.trackers import open_tracker

    output.print(f"face: {make_starter(out, folder, open_tracker(tracker, tracker_model))}")


@app.command("bench")
def bench_command(
    out: Annotated[Path, typer.Option(help="Folder for bench.json.")] = Path("runs/bench"),
    race: Annotated[bool, typer.Option(help="Train the thesis's model and SwapWarp for the same times, too.")] = True,
    tracker: TrackerName = "auto",
    tracker_model: TrackerModel = None,
) -> None:
    """Measure the speed of each stage on this machine, and how long learning takes, in one run: half an hour."""
    from dmsynth.experiments.bench import RACE, bench
    from dmsynth.files import write_json
    from dmsynth.trackers import open_tracker

    result = bench(open_tracker(tracker, tracker_model), out, RACE if race else ())
    write_json(out / "bench.json", result)
    table = Table(f"at {result['size'][0]}×{result['size'][1]}", "a second", "ms each")
    for name, rate in result["images_per_second"].items():
        table.add_row(name, f"{rate:.1f}", f"{1000 / rate:.1f}")
    output.print(table)
    if "race" in result:
        table = Table("trained for", "by", "mean error (°)", "lost", "PSNR", "sharpness")
        for name, racer in result["race"].items():
            for run in racer["runs"]:
                error = " / ".join("–" if value is None else f"{value:.2f}" for value in run["mae"].values())
                table.add_row(
                    f"{run['seconds']:g} s", name, error, f"{run['lost']} of {run['frames']}",
                    f"{run['psnr']:.1f} dB", "–" if run["sharpness"] is None else f"{run['sharpness']:.2f}",
                )  # fmt: skip
        output.print(table)
    output.print(f"precision chosen here: {result['precision_chosen']}; written to {out / 'bench.json'}")


EngineName = Annotated[str, typer.Option("--engine", help="local processes, or ray.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Trainings at once; default: one a core, or 8 on a GPU.")]
Address = Annotated[str | None, typer.Option(help="A running Ray cluster; default: a Ray of this machine's own.")]


@reproduce_app.command("position")
def reproduce_position(
    out: Annotated[Path, typer.Option(help="Folder for everything; an interrupted study in it goes on.")],
    preset: Annotated[str, typer.Option(help="thesis (days), laptop (hours) or smoke (a minute).")] = "laptop",
    photo: Annotated[Path | None, typer.Option(help="A portrait; default: a public-domain one.")] = None,
    engine: EngineName = "local",
    workers: Workers = None,
    address: Address = None,
    seed: Seed = 0,
    tracker: TrackerName = "auto",
    tracker_model: TrackerModel = None,
) -> None:
    """Chapter 3: four models, eight latent sizes, every figure and every finding."""
    from dmsynth.experiments.grid import Engine
    from dmsynth.experiments.position import reproduce
    from dmsynth.trackers import open_tracker

    runs = Engine(engine, workers, address)
    report = reproduce(out, preset, open_tracker(tracker, tracker_model), photo, runs, seed)
    _print_study(report, out)


@reproduce_app.command("stability")
def reproduce_stability(
    out: Annotated[Path, typer.Option(help="Folder for everything; an interrupted study in it goes on.")],
    photo: Annotated[Path | None, typer.Option(help="A portrait; default: a public-domain one.")] = None,
    engine: EngineName = "local",
    workers: Workers = None,
    address: Address = None,
    seed: Seed = 0,
    tracker: TrackerName = "auto",
    tracker_model: TrackerModel = None,
) -> None:
    """The thesis's open problem, unstable training: its optimization against ours, same seeds, same data."""
    from dmsynth.experiments.grid import Engine
    from dmsynth.experiments.stable_training import compare
    from dmsynth.trackers import open_tracker

    runs = Engine(engine, workers, address)
    report = compare(out, open_tracker(tracker, tracker_model), photo, runs, seed)
    _print_study(report, out)


@app.command("version")
def version_command() -> None:
    """Print the version."""
    output.print(dmsynth.__version__)


def _print_dataset(dataset: Dataset) -> None:
    width, height = dataset.size
    manifest = dataset.manifest
    output.print(
        f"{dataset.path}: {len(dataset)} frames of {width}×{height}, face found by {manifest['recipe']['tracker']}"
    )
    output.print("splits: " + ", ".join(f"{name} {count}" for name, count in manifest["splits"].items() if count))
    left_out = ", ".join(f"{reason}: {count}" for reason, count in manifest["left_out"].items())
    output.print(f"left out: {left_out or 'none'}")
    space, labels = dataset.about
    table = Table(labels, "lowest", "median", "highest")
    for control in space.controls:
        values = dataset.labels[f"{labels}_{control.name}"]
        table.add_row(
            f"{control.name} ({control.unit})",
            *(f"{value:+.1f}" for value in (values.min(), values.median(), values.max())),
        )
    output.print(table)


def _print_study(report: StudyReport, out: Path) -> None:
    """The findings, or where there are none the first table; everything else is in the report."""
    title, rows = next(iter(report.tables.items()))
    table = Table("the thesis says", "measured", "") if report.findings else Table(*rows.columns, title=title)
    for finding in report.findings:
        table.add_row(finding.claim, finding.measured, finding.verdict)
    for row in [] if report.findings else rows.itertuples(index=False):
        table.add_row(*row)
    output.print(table)
    output.print(f"report: {out / 'report.html'}")


def _print_metrics(metrics: dict[str, Any]) -> None:
    table = Table("held-out poses", *metrics["mae"])
    for key, title in (
        ("mae", "mean error"), ("tracker_floor", "tracker's floor"), ("bias", "bias"), ("gain", "gain"),
        ("correlation", "correlation"),
    ):  # fmt: skip
        table.add_row(title, *("–" if value is None else f"{value:.2f}" for value in metrics[key].values()))
    if "command_only" in metrics:
        errors = metrics["command_only"]["mae"].values()
        table.add_row("mean error, nothing carried", *("–" if value is None else f"{value:.2f}" for value in errors))
    if "trajectory" in metrics:
        errors = metrics["trajectory"]["mae"].values()
        table.add_row("mean error, video", *("–" if value is None else f"{value:.2f}" for value in errors))
    output.print(table)
    output.print(
        f"{metrics['lost']} of {metrics['frames']} frames lost, PSNR {metrics['psnr']:.1f} dB, sharpness "
        f"{metrics['sharpness']:.2f}, {metrics['steer_fps']:.0f} frames/s, trained {metrics['train_seconds']:.0f} s; "
        f"tracker: {metrics['tracker']}"
    )


def main() -> None:
    """Run the command line. A user's mistake is one line on standard error and exit code 1."""
    status = 1  # until we know better: an error of ours

    def leave() -> None:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)

    # Threads of native libraries (seen with MediaPipe) now and then abort the process while Python is taken down
    # around them, when all work is done. Registered first, so called last: after everybody's own farewell.
    atexit.register(leave)
    try:
        _run()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        raise
    status = 0


def _run() -> None:
    try:
        app()
    except SystemExit as end:  # how typer says that Ctrl-C was pressed
        if end.code == 130:
            _fail("interrupted; run the same command again to go on", code=130)
        raise
    except DmsynthError as error:
        _fail(str(error))
    except OSError as error:
        _fail(explain_os_error(error))


def _fail(message: str, code: int = 1) -> None:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)  # noqa: T201
    sys.exit(code)


if __name__ == "__main__":
    main()
