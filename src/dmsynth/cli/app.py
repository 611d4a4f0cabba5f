"""What the commands share: the application they belong to, their common options, and how results are shown."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dmsynth.support.errors import DmsynthError
from dmsynth.support.progress import console
from dmsynth.support.terminal import Terminal
from dmsynth.support.version import __version__

if TYPE_CHECKING:
    from dmsynth.steering import FaceSpec

# The rooms are imported inside the commands, so that each starts with what it needs and `--help` at once.

app = typer.Typer(
    help="Steerable synthetic drivers for validating driver monitoring systems.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
output = Terminal()
"""Results go here, progress and notes to ``progress.console``."""

# What the help lists commands under.
FACES, VALIDATION, RESEARCH, MAINTAINERS = "Faces", "Validation", "Research", "For maintainers"


def _version(wanted: bool) -> None:
    if wanted:
        output.print(__version__)
        raise typer.Exit


@app.callback()
def common(
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes; results and errors.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Steerable synthetic drivers for validating driver monitoring systems."""
    console.quiet = quiet


def print_json(content: Any) -> None:
    """The one thing on standard output where ``--json`` was given."""
    typer.echo(json.dumps(content, indent=2, ensure_ascii=False, default=str))


def given_command() -> str:
    """The command as it was given, every option included, to be repeated."""
    return shlex.join(["dmsynth", *sys.argv[1:]])


def one_of(source: str | None, one_source: bool) -> None:
    if source and one_source:
        raise DmsynthError("--source and --one-source: choose one")


LONGEST_SIDE = 4096  # pixels, as of frames in a face file


def size_of(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    width, _, height = text.lower().partition("x")
    if (
        not (width.isdigit() and height.isdigit())
        or int(width) % 16
        or int(height) % 16
        or not int(width) * int(height)
        or max(int(width), int(height)) > LONGEST_SIDE
    ):
        raise DmsynthError(
            f"--size {text}: give WIDTHxHEIGHT, each divisible by 16 and at most {LONGEST_SIDE}, such as 640x480"
        )
    return int(width), int(height)


def crop_of(text: str | None) -> tuple[int, int, int, int] | None:
    if text is None:
        return None
    parts = text.split(",")
    if len(parts) != 4 or not all(part.strip().isdigit() for part in parts):
        raise DmsynthError(f"--crop {text}: give LEFT,TOP,WIDTH,HEIGHT in pixels, such as 200,0,640,480")
    left, top, width, height = (int(part) for part in parts)
    return left, top, width, height


def duration_of(text: str | None) -> timedelta | None:
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


TrackerName = Annotated[
    str, typer.Option("--tracker", help="auto (face-landmarker), openpilot, adas, or one of your own.")
]
TrackerModel = Annotated[
    Path | None,
    typer.Option(
        "--tracker-model",
        help="The tracker's model file: Face Landmarker's face_landmarker.task, openpilot's dmonitoring_model.onnx, "
        "adas' head-pose-estimation-adas-0001.xml.",
    ),
]
SecondTracker = Annotated[
    str,
    typer.Option(help="A second judge: a tracker's name, none, or auto: openpilot where its model is at hand."),
]
SecondTrackerModel = Annotated[Path | None, typer.Option(help="The second judge's model file.")]
OneSource = Annotated[
    bool, typer.Option("--one-source", help="Steer from the face's first source frame only, not from whichever suits.")
]
CameraName = Annotated[
    str | None,
    typer.Option("--camera", help="The cabin camera: a name of `dmsynth camera list`, or a .yaml file."),
]
Wear = Annotated[
    list[str] | None,
    typer.Option("--wear", help="A thing on the face, such as sunglasses, or mask=2:5 (seconds); may be repeated."),
]
RendererName = Annotated[
    str,
    typer.Option(
        "--renderer",
        help="face; posed or recorded (FACE: dataset, video); with --source: liveportrait, liveportrait-driven.",
    ),
]
Checkout = Annotated[
    Path | None, typer.Option("--liveportrait", help="LivePortrait's official checkout, with its pretrained_weights.")
]
Consent = Annotated[
    str | None,
    typer.Option("--consent", help="Who may be shown, and on what consent; it stands in every result from then on."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON document instead.")]
Device = Annotated[str, typer.Option("--device", help="Where the face is drawn: cpu, cuda, or auto: a GPU if any.")]
Seed = Annotated[int, typer.Option(help="Same seed, same result.")]
Crop = Annotated[str | None, typer.Option(help="LEFT,TOP,WIDTH,HEIGHT: look at this part of the video only.")]
Colour = Annotated[bool, typer.Option("--colour/--grey", help="Store RGB, or grey.")]


def face_spec(
    renderer: str,
    face: Path | None,
    checkout: Path | None,
    source: str | None,
    tracker: str = "auto",
    tracker_model: Path | None = None,
    device: str = "auto",
    one_source: bool = False,
) -> FaceSpec:
    """What is steered; ``DmsynthError`` unless there is exactly what the renderer needs."""
    from dmsynth.steering import FaceSpec, is_portrait, kinds

    known = kinds()
    if renderer not in known:
        raise DmsynthError(f"--renderer {renderer}: choose {_either(known)}")
    folder = known[renderer].folder
    if folder is None:
        if face is None:
            raise DmsynthError("name a face: face.safetensors of a training, or starter")
        if checkout is not None:
            raise DmsynthError(f"--liveportrait goes with --renderer {_either(k for k in known if known[k].folder)}")
        if renderer == "face" and is_portrait(face):
            renderer = "posed"  # a picture is steered without training
        name = str(face) if renderer == "face" else f"{renderer}:{face}"
    else:
        if face is not None:
            raise DmsynthError(f"{face}: --renderer {renderer} takes no face; give it a picture with --source")
        if checkout is None or source is None:
            lacks = "--source PICTURE" if checkout is not None else f"--liveportrait DIR, {folder}"
            raise DmsynthError(f"--renderer {renderer} needs {lacks}")
        name = f"{renderer}:{checkout}"
    return FaceSpec(name, source, tracker, str(tracker_model) if tracker_model else None, device, one_source)


def cast_specs(
    cast: Path, tracker: str = "auto", tracker_model: Path | None = None, device: str = "auto"
) -> dict[str, FaceSpec]:
    """The persons of a cast's file, as they are steered. ``DmsynthError`` as ``read_cast``."""
    from dmsynth.steering import FaceSpec
    from dmsynth.steering.cast import read_cast

    model = str(tracker_model) if tracker_model else None
    return {name: FaceSpec(face, None, tracker, model, device) for name, face in read_cast(cast).items()}


def given_renderers(names: list[str] | None, checkout: Path | None) -> list[str]:
    """Renderers by their names; ``--liveportrait`` is the older way to name that one."""
    return [*(names or []), *([f"liveportrait:{checkout}"] if checkout else [])]


def _either(names: Iterable[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}"


def print_metrics(metrics: dict[str, Any]) -> None:
    rows: list[tuple[str, ...]] = []

    def add(title: str, figures: dict[str, float | None]) -> None:
        shown = (figures.get(name) for name in metrics["mae"])
        rows.append((title, *("–" if value is None else f"{value:.2f}" for value in shown)))

    for key, title in (
        ("mae", "mean error"), ("tracker_floor", "tracker's floor"), ("bias", "bias"), ("gain", "gain"),
        ("correlation", "correlation"),
    ):  # fmt: skip
        add(title, metrics[key])
    if "command_only" in metrics:
        add("mean error, nothing carried", metrics["command_only"]["mae"])
    if "trajectory" in metrics:
        add("mean error, video", metrics["trajectory"]["mae"])
    judges = metrics.get("judges")
    if judges:
        add("mean error, second judge", judges["second_alone"]["mae"])
        add("judges' correlation, steered", judges["steered"]["correlation"])
    rival = metrics.get("rival")
    if rival:
        add(f"the same, {rival['frames']} frames", rival["face"]["mae"])
        add("posed rival, same frames", rival["mae"])
    output.table(("held-out poses", *metrics["mae"]), rows)
    if metrics.get("geometry"):
        sides = {"face": metrics["geometry"]} | (
            {"same frames": rival["face"]["geometry"], "rival": rival["geometry"]} if rival else {}
        )
        told = "; ".join(
            f"{who} {g['mean']:.1f} / {g['p95']:.1f} / {g['worst_tenth']:.1f} %" for who, g in sides.items() if g
        )
        output.print(f"geometry error, mean / 95th percentile / worst tenth of frames: {told}")
    if judges:
        output.print(f"second judge: {judges['second']}")
    trained = "" if metrics["train_seconds"] is None else f"trained {metrics['train_seconds']:.0f} s; "
    output.print(
        f"{metrics['lost']} of {metrics['frames']} frames lost, PSNR {metrics['psnr']:.1f} dB, sharpness "
        f"{metrics['sharpness']:.2f}, {metrics['steer_fps']:.{0 if metrics['steer_fps'] >= 10 else 1}f} frames/s, "
        f"{trained}tracker: {metrics['tracker']}"
    )


def print_eyes(found: dict[str, Any]) -> None:
    """What ``evaluation.eyes.summarize_eyes`` found."""
    gaze: list[tuple[str, ...]] = []
    lids: list[tuple[str, ...]] = []
    moves: list[tuple[str, ...]] = []

    def figures(about: dict[str, float], *names: str) -> tuple[str, ...]:
        return tuple("–" if about.get(name) is None else f"{about[name]:.2f}" for name in names)

    for name, about in found["sweeps"].items():
        for part, value in about.items():
            if part in ("landmarks", "network", "mouth", "brows"):
                gaze.append((name, part, *figures(value, "gain", "gain_of_truth", "correlation", "error")))
            elif part in ("left", "right"):
                lids.append((name, part, *figures(value, "correlation", "closed", "lowest")))
            elif part in ("head_moves", "gaze_moves"):
                whose = "head's " if part == "head_moves" else ""
                moves += [(name, f"{whose}{axis}", *figures(moved, "of", "of_truth")) for axis, moved in value.items()]
    output.table(("sweep", "judge", "gain", "of the truth's", "correlation", "error, °"), gaze)
    output.table(("lids", "eye", "correlation", "closed", "lowest"), lids)
    output.table(("what moves along, °", "", "here", "in the truth"), moves)
    sharp = f", eyes' sharpness {figures(found, 'sharpness')[0]} of the truth's" if "sharpness" in found else ""
    output.print(f"{found['lost']} of {found['frames']} frames lost{sharp}")
