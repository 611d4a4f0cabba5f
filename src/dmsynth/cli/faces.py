"""Train a face, steer it, measure it, take it elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dmsynth.cli.app import (
    FACES,
    CameraName,
    Checkout,
    Crop,
    Device,
    Json,
    OneSource,
    RendererName,
    SecondTracker,
    SecondTrackerModel,
    Seed,
    TrackerModel,
    TrackerName,
    Wear,
    app,
    crop_of,
    duration_of,
    face_spec,
    given_command,
    one_of,
    output,
    print_eyes,
    print_json,
    print_metrics,
    size_of,
)
from dmsynth.support.errors import DmsynthError


@app.command("track", rich_help_panel=FACES)
def track(
    video: Annotated[Path, typer.Argument(help="Any video.")],
    out: Annotated[Path, typer.Option(help="Table to write: .parquet or .csv.")],
    crop: Crop = None,
    tracker: TrackerName = "auto",
    tracker_model: TrackerModel = None,
) -> None:
    """Measure head pose in every frame of a video."""
    from dmsynth.motion.driving import track_video
    from dmsynth.steering.writing import check_not_input
    from dmsynth.support.files import check_output
    from dmsynth.support.table_files import check_table_name, write_table
    from dmsynth.trackers import open_tracker

    check_table_name(out)
    check_not_input(out, [video])
    check_output(out)
    pool = open_tracker(tracker, tracker_model)
    table = track_video(video, pool, crop_of(crop))
    write_table(out, table)
    found = int(table["found"].sum())
    reasons = ", ".join(f"{reason}: {count}" for reason, count in table["reason"].value_counts().items() if reason)
    output.print(f"{out}: {found} of {len(table)} frames with one usable face" + (f" ({reasons})" if reasons else ""))
    output.print(f"tracker: {pool.name}")


@app.command("train", rich_help_panel=FACES)
def train_command(
    datasets: Annotated[list[Path], typer.Argument(help="A dataset folder; several: a cast, a person in each.")],
    out: Annotated[Path, typer.Option(help="Run folder; an interrupted run in it goes on.")],
    begin: Annotated[
        Path | None, typer.Option("--from", help="Begin from a trained face or a cast: half a minute is enough then.")
    ] = None,
    transfer: Annotated[
        bool, typer.Option("--transfer", help="Of a cast: draw people with each other's controls, too; slower.")
    ] = False,
    model: Annotated[
        str, typer.Option(help="swapwarp, or a model of the thesis: rotation, position-spe, …")
    ] = "swapwarp",
    optimization: Annotated[
        str | None, typer.Option(help="warp, stable, or thesis: Adam, fixed step size; default: the model's own.")
    ] = None,
    controls: Annotated[
        str | None, typer.Option(help="What is learned to be steered: rotation, position, …; default: what it shows.")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="tracked, commanded or calibrated (posed photos); default: the model's own.")
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
    batch: Annotated[int | None, typer.Option(min=2, help="Images a step; default: the model's own.")] = None,
    devices: Annotated[int, typer.Option(min=1, help="GPUs that train together.")] = 1,
    precision: Annotated[str | None, typer.Option(help="32-true or bf16-mixed (default: what is faster here).")] = None,
) -> None:
    """Learn to steer a face."""
    from dmsynth.datasets.dataset import open_dataset
    from dmsynth.evaluation.response import keep_response
    from dmsynth.learning.cast import train_cast
    from dmsynth.learning.face_file import people_of
    from dmsynth.learning.settings import Options
    from dmsynth.learning.training import train

    duration = duration_of(max_time)
    options = Options(
        optimization=optimization, controls=controls, labels=labels, epochs=epochs, steps=steps, max_time=duration,
        seed=seed, latent=latent, base_channels=base_channels, precision=precision, begin=begin, batch=batch,
        devices=devices, transfer=transfer,
    )  # fmt: skip
    opened = [open_dataset(path) for path in datasets]
    if transfer and len(opened) == 1:
        raise DmsynthError("--transfer: needs several people; give several datasets")
    if len(opened) == 1:
        trained = train(opened[0], out, model, **options)
        keep_response(trained, opened)
        output.print(f"face: {trained}")
        return
    if model != "swapwarp":
        raise DmsynthError(f"--model {model}: several datasets make a cast, which is a swapwarp; give one dataset")
    cast = train_cast(opened, out, **options)
    keep_response(cast, opened)
    output.print("\n".join(f"face: {cast}#{name}" for name in people_of(cast)))


@app.command("steer", rich_help_panel=FACES)
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
    person: Annotated[str | None, typer.Option(help="Who of a cast; the same as FACE#PERSON.")] = None,
    one_source: OneSource = False,
    frame_rate: Annotated[
        float | None, typer.Option(min=1, max=240, help="Frames a second; default: 25, or the camera's.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse poses outside the training coverage.")] = False,
    clip: Annotated[bool, typer.Option("--clip", help="Draw poses outside the coverage to its edge.")] = False,
    fit: Annotated[bool, typer.Option("--fit", help="Shrink the whole motion until the coverage holds it.")] = False,
    seconds: Annotated[float | None, typer.Option(min=0.04, help="Only the first so many seconds.")] = None,
    driving: Annotated[
        str,
        typer.Option(
            help="A driver's pose is the command (absolute), or its movement is added to the source's (relative)."
        ),
    ] = "absolute",
    neutral: Annotated[
        str, typer.Option(help="The driver's pose that is no movement: in the first frame, or the typical one.")
    ] = "first",
    smooth: Annotated[
        float, typer.Option(min=0, max=2, help="Seconds over which a driver is smoothed, without delay; 0: not at all.")
    ] = 0.3,
    longest_gap: Annotated[
        float, typer.Option(min=0, help="Seconds without a usable face that are bridged; longer ones are refused.")
    ] = 0.5,
    crop: Crop = None,
    columns: Annotated[
        str | None,
        typer.Option(
            help="What a table's columns are: time=NAME,yaw=NAME,…; a minus before a NAME changes its sign. "
            "Default: what is certain by their names."
        ),
    ] = None,
    unit: Annotated[
        str | None, typer.Option(help="What a table's numbers are: rad or deg, and s or ms, such as rad,ms.")
    ] = None,
    effect: Annotated[
        list[str] | None,
        typer.Option(help="What the camera does: exposure, blur or noise, with =STRENGTH or without; may be repeated."),
    ] = None,
    natural_eyes: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="SEED", help="Blinks, saccades and counter-rotation, where the trajectory says nothing."
        ),
    ] = None,
    talking: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="SEED", help="A mouth that talks; where the trajectory opens it wider, that counts."
        ),
    ] = None,
    expression: Annotated[
        str,
        typer.Option(help="Eyes, mouth, brows: as the trajectory says (driving), at rest (neutral), or of the source."),
    ] = "driving",
    size: Annotated[
        str | None, typer.Option(help="WIDTHxHEIGHT, of a photo that is steered; default: 640x480.")
    ] = None,
    camera: CameraName = None,
    wear: Wear = None,
    renderer: RendererName = "face",
    checkout: Checkout = None,
    tracker: TrackerName = "auto",
    tracker_model: TrackerModel = None,
    device: Device = "auto",
) -> None:
    """Render a face along a trajectory."""
    from dmsynth import steering
    from dmsynth.camera import read_camera
    from dmsynth.camera.things import parse_things
    from dmsynth.motion.driving import Driving
    from dmsynth.motion.tables import Columns
    from dmsynth.steering.writing import check_not_input
    from dmsynth.support.files import check_output
    from dmsynth.video.effects import parse_effects

    if strict + clip + fit > 1:
        raise DmsynthError("--strict, --clip and --fit: choose one")
    if camera and frame_rate:
        raise DmsynthError(f"--frame-rate {frame_rate:g}: the camera {camera} has its own; leave it out")
    one_of(source, one_source)
    face = face if face is None or person is None else Path(f"{face}#{person}")
    spec = face_spec(renderer, face, checkout, source, tracker, tracker_model, device, one_source)
    command = steering.Command(
        trajectory, frame_rate or 25.0, seconds, "strict" if strict else "clip" if clip else "fit" if fit else "warn",
        Driving(driving, neutral, smooth, longest_gap, crop_of(crop)), Columns.parse(columns, unit),
        parse_effects(effect or []), natural_eyes, talking, expression, size_of(size),
        read_camera(camera) if camera else None, parse_things(wear or []),
    )  # fmt: skip
    check_not_input(out, [trajectory, source, face, camera])
    check_output(out)
    steered = steering.steer(spec, command, out)
    if fit:
        output.print(f"fitted: {steered.share:.0%} of the motion")
    output.print(f"video: {steered.video}\ntable: {steered.table}")


@app.command("evaluate", rich_help_panel=FACES)
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
    rival: Annotated[
        bool,
        typer.Option("--rival/--no-rival", help="Compare with the recording's own frames, posed without learning."),
    ] = True,
    renderer: RendererName = "face",
    checkout: Checkout = None,
    tracker: TrackerName = "auto",
    tracker_model: TrackerModel = None,
    second_tracker: SecondTracker = "auto",
    second_tracker_model: SecondTrackerModel = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Steer to held-out poses, track the result, and say how far it lies from the target."""
    from dmsynth.datasets.dataset import open_dataset
    from dmsynth.evaluation import evaluate
    from dmsynth.evaluation.judges import with_second_judge
    from dmsynth.evaluation.rival import with_rival
    from dmsynth.report.html import write_report
    from dmsynth.steering import open_renderer
    from dmsynth.support.files import check_output, write_json
    from dmsynth.support.table_files import write_table
    from dmsynth.trackers import open_second_tracker, open_tracker

    check_output(out / "metrics.json")
    one_of(source, one_source)
    *faces, data = inputs
    if len(faces) > 1:
        raise DmsynthError(f"{' '.join(map(str, inputs))}: give one face and one dataset")
    face = faces[0] if faces else None
    spec = face_spec(renderer, face, checkout, source, tracker, tracker_model, device, one_source)
    pool = open_tracker(tracker, tracker_model)
    second = open_second_tracker(pool, second_tracker, second_tracker_model)
    targets = open_dataset(data)
    steerable = open_renderer(spec, targets.size)
    steerable = steerable if targets.moves_eyes else steerable.head_only
    result = evaluate(steerable, targets, pool, most=frames)
    result = with_second_judge(result, steerable.trained.space, targets, second)
    result = with_rival(result, steerable.trained.space, targets, pool) if rival else result
    write_json(out / "metrics.json", result.metrics)
    write_table(out / "table.parquet", result.table)
    write_report(out / "report.html", steerable, result, [given_command()])
    if as_json:
        print_json(result.metrics)
        return
    print_metrics(result.metrics)
    output.print(f"report: {out / 'report.html'}")


@app.command("evaluate-eyes", rich_help_panel=FACES)
def evaluate_eyes_command(
    face: Annotated[str, typer.Argument(help="face.safetensors of a training, starter, portrait, or a photo.")],
    out: Annotated[Path, typer.Option(help="Folder for eyes.json, eyes.parquet and eyes.png.")],
    truth: Annotated[
        str | None, typer.Option(help="A face whose eyes are exact, to compare with: portrait, a photo, posed:DATASET.")
    ] = None,
    gaze_model: Annotated[
        Path | None, typer.Option(help="gaze-estimation-adas-0002.xml or its folder; default: where it is at hand.")
    ] = None,
    tracker: TrackerName = "auto",
    tracker_model: TrackerModel = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Move head, eyes, mouth and brows through sweeps, and say how well they follow."""
    from dmsynth.evaluation.eyes import eye_strip, gaze_judge, measure_eyes, summarize_eyes
    from dmsynth.steering import open_renderer
    from dmsynth.support.files import check_output, write_json
    from dmsynth.support.table_files import write_table
    from dmsynth.trackers import open_tracker
    from dmsynth.video import write_image

    check_output(out / "eyes.json")
    pool, network = open_tracker(tracker, tracker_model), gaze_judge(gaze_model)
    steerable, exact = (
        None
        if name is None
        else open_renderer(face_spec("face", Path(name), None, None, tracker, tracker_model, device))
        for name in (face, truth)
    )
    assert steerable is not None
    table, frames = measure_eyes(steerable, pool, network)
    grey = not steerable.trained.in_colour
    known = None if exact is None else measure_eyes(exact, pool, network, steerable.size, grey)[0]
    found = summarize_eyes(table, known)
    write_json(out / "eyes.json", found)
    write_table(out / "eyes.parquet", table)
    write_image(out / "eyes.png", eye_strip(frames, pool))
    if as_json:
        print_json(found)
        return
    print_eyes(found)
    output.print(f"picture: {out / 'eyes.png'}")


@app.command("export", rich_help_panel=FACES)
def export_command(
    face: Annotated[Path, typer.Argument(help="face.safetensors of a training, or starter.")],
    out: Annotated[Path | None, typer.Option(help="File to write, .onnx: controls in, picture out.")] = None,
    web: Annotated[
        Path | None, typer.Option(help="Folder to write: a page in which the face is steered, with no server.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Picture, VIDEO@N or DATASET@N; default: the face's most typical source frame.")
    ] = None,
) -> None:
    """Take a face elsewhere: as ONNX, for programs without PyTorch, or as a page that needs no server."""
    from dmsynth.steering import load_face, with_features
    from dmsynth.steering.export import export_onnx
    from dmsynth.steering.face import face_name
    from dmsynth.steering.source import read_source
    from dmsynth.web.static import export_web

    if (out is None) == (web is None):
        raise DmsynthError("give either --out FILE.onnx or --web DIR")
    if out is not None:
        eyed = with_features(load_face(face))
        output.print(f"model: {export_onnx(eyed, out, read_source(source) if source else None)}")
        return
    assert web is not None
    if source:
        raise DmsynthError("--source goes with --out; a page has all of the face's own source frames")
    output.print(f"page: {export_web(with_features(load_face(face)), web, face_name(face))}")
