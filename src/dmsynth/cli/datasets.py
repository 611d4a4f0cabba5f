"""Make and look at face datasets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dmsynth.cli.app import (
    FACES,
    Colour,
    Consent,
    Crop,
    Json,
    Seed,
    TrackerModel,
    TrackerName,
    app,
    crop_of,
    output,
    print_json,
    size_of,
)  # fmt: skip

if TYPE_CHECKING:
    from dmsynth.datasets.dataset import Dataset

dataset_app = typer.Typer(help="Make and look at face datasets.", no_args_is_help=True)
app.add_typer(dataset_app, name="dataset", rich_help_panel=FACES)


@dataset_app.command("photo")
def dataset_photo(
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    image: Annotated[Path | None, typer.Argument(help="A portrait; default: a public-domain one.")] = None,
    frames: Annotated[int, typer.Option(min=1, help="How many poses.")] = 1000,
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT of the frames.")] = "640x480",
    yaw: Annotated[float, typer.Option(help="Poses within ± this many degrees.")] = 35,
    pitch: Annotated[float, typer.Option(help="Poses within ± this many degrees.")] = 20,
    roll: Annotated[float, typer.Option(help="Poses within ± this many degrees.")] = 20,
    eyes: Annotated[
        bool, typer.Option(help="Gaze, lids, mouth and brows vary, too: controls of the face that is trained.")
    ] = False,
    seed: Seed = 0,
    colour: Colour = True,
    consent: Consent = None,
    tracker: TrackerName = "auto",
    tracker_model: TrackerModel = None,
) -> None:
    """Pose one portrait photo in 2.5-D: a dataset with known and with tracked head rotations."""
    from dmsynth.controls import EYES_RANGE
    from dmsynth.datasets.photo import PoseRange, pose_photo
    from dmsynth.trackers import open_tracker

    shape = size_of(size)
    assert shape is not None
    poses = PoseRange(pitch, yaw, roll, *(EYES_RANGE if eyes else ()))
    pool = open_tracker(tracker, tracker_model)
    dataset = pose_photo(out, image, pool, frames, shape, poses, seed, colour, consent)
    print_dataset(dataset)


@dataset_app.command("recording")
def dataset_recording(
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    videos: Annotated[
        list[Path], typer.Argument(help="Recordings of one person: videos, or folders of numbered pictures.")
    ],
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT; default: the video's shape at about 640x480.")] = None,
    crop: Crop = None,
    frame_rate: Annotated[float, typer.Option(min=1, max=1000, help="Pictures a second in a folder of them.")] = 30.0,
    widen: Annotated[bool, typer.Option(help="Add frames of the recording, posed, to learn from.")] = True,
    colour: Colour = True,
    consent: Consent = None,
    tracker: TrackerName = "auto",
    tracker_model: TrackerModel = None,
) -> None:
    """Import real video: frames with the tracker's labels, split by blocks of time."""
    from dmsynth.datasets.recording import import_recordings
    from dmsynth.trackers import open_tracker

    shape, part = size_of(size), crop_of(crop)
    pool = open_tracker(tracker, tracker_model)
    print_dataset(import_recordings(out, videos, pool, shape, part, colour, consent, widen, frame_rate))


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
    from dmsynth.datasets.cutout import make_position_dataset
    from dmsynth.trackers import open_tracker

    shape = size_of(size)
    assert shape is not None
    pool = open_tracker(tracker, tracker_model)
    print_dataset(make_position_dataset(out, image, pool, frames, shape, seed))


@dataset_app.command("info")
def dataset_info(
    path: Annotated[Path, typer.Argument(help="A dataset folder.")],
    out: Annotated[Path | None, typer.Option(help="Where the pictures go; default: DATASET/info.")] = None,
    as_json: Json = False,
) -> None:
    """Contact sheet, marginal distributions and coverage map (thesis Figs. 4.1, 4.2), as PNG and in the terminal."""
    import numpy as np

    from dmsynth.datasets.dataset import open_dataset
    from dmsynth.report import figures

    dataset = open_dataset(path).check_frames()
    space, labels = dataset.about
    if as_json:
        print_json(dataset_facts(dataset))
    else:
        print_dataset(dataset)
    if space.turns_head and not as_json:
        yaw, pitch = (dataset.labels[f"{labels}_{name}"].to_numpy(dtype=float) for name in ("yaw", "pitch"))
        step = 5.0 if max(np.ptp(yaw), np.ptp(pitch)) > 40 else 2.0
        output.print(f"\nyaw-pitch coverage, {step:g}° a cell, darker is more frames (pitch up, yaw to the right)")
        for line in figures.coverage_in_text(yaw, pitch, step):
            output.print(line)
    folder = out or path / "info"
    for name, draw in (
        ("contact-sheet", figures.contact_sheet),
        ("marginals", figures.marginals),
        ("coverage", figures.coverage_map),
    ):
        draw(dataset, folder / f"{name}.png")
    if not as_json:
        output.print(f"\npictures: {folder}")


def dataset_facts(dataset: Dataset) -> dict[str, Any]:
    """What ``dataset info`` says, as data."""
    from dmsynth.datasets.eye_labels import eye_facts
    from dmsynth.steering.provenance import consent_of

    space, labels = dataset.about
    values = {control.name: dataset.labels[f"{labels}_{control.name}"] for control in space.controls}
    return {
        "path": str(dataset.path),
        "frames": len(dataset),
        "posed": int(dataset.posed.sum()),
        "size": list(dataset.size),
        "tracker": dataset.manifest["recipe"].get("tracker"),
        "splits": dataset.manifest["splits"],
        "left_out": dataset.manifest["left_out"],
        "consent": consent_of(dataset.manifest),
        "labels": labels,
        "eyes": eye_facts(dataset),
        "controls": {
            name: {"lowest": float(v.min()), "median": float(v.median()), "highest": float(v.max())}
            for name, v in values.items()
        },
    }


def print_dataset(dataset: Dataset) -> None:
    from dmsynth.datasets.eye_labels import eye_facts
    from dmsynth.steering.provenance import consent_of

    width, height = dataset.size
    manifest = dataset.manifest
    posed = int(dataset.posed.sum())
    output.print(
        f"{dataset.path}: {len(dataset) - posed} frames of {width}×{height}"
        + (f" and {posed} of them posed once more" if posed else "")
        + f", face found by {manifest['recipe'].get('tracker')}"
    )
    output.print("splits: " + ", ".join(f"{name} {count}" for name, count in manifest["splits"].items() if count))
    left_out = ", ".join(f"{reason}: {count}" for reason, count in manifest["left_out"].items())
    output.print(f"left out: {left_out or 'none'}")
    output.print(f"consent: {consent_of(manifest)}")
    space, labels = dataset.about
    rows = []
    for control in space.controls:
        values = dataset.labels[f"{labels}_{control.name}"]
        of_interest = values.min(), values.median(), values.max()
        rows.append((f"{control.name} ({control.unit})", *(f"{value:+.1f}" for value in of_interest)))
    output.table((labels, "lowest", "median", "highest"), rows)
    eyes = eye_facts(dataset)
    if eyes is not None:
        known = {name: value for name, value in eyes["noise"].items() if value is not None}
        noise = ", ".join(f"{name} {value:.2f}" for name, value in known.items()) or "unknown"
        rate = eyes["blinks_a_minute"]
        output.print(
            f"eyes: {len(eyes['blinks'])} blinks" + (f" ({rate:.0f} a minute)" if rate else "") + f"; noise: {noise}"
        )
