"""Casts: several people in one face file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dmsynth.cli.app import FACES, Json, TrackerModel, TrackerName, app, output, print_json

cast_app = typer.Typer(help="Several people in one face file.", no_args_is_help=True)
app.add_typer(cast_app, name="cast", rich_help_panel=FACES)

CastFile = Annotated[Path, typer.Argument(help="The run folder of a cast, or its file.")]


@cast_app.command("list")
def cast_list(cast: CastFile, as_json: Json = False) -> None:
    """Who is in a cast, and on what consent."""
    from dmsynth.learning.face_file import cast_file, read_people
    from dmsynth.steering.provenance import consent_of

    people = read_people(cast_file(cast))
    if as_json:
        print_json([{"person": name, **face.about} for name, face in people.items()])
        return
    rows = [
        (name, str(face.about["dataset"]), f"{face.shape['width']}×{face.shape['height']}", consent_of(face.about))
        for name, face in people.items()
    ]
    output.table(("person", "dataset", "size", "consent"), rows)


@cast_app.command("join")
def cast_join(
    faces: Annotated[list[str], typer.Argument(metavar="NAME=FACE...", help="anna=anna-run/face.safetensors ...")],
    out: Annotated[Path, typer.Option(help="The cast's file to write, .safetensors.")],
) -> None:
    """Put trained faces into one file, as they are; one network is not made of them (train DATASET DATASET ...)."""
    from dmsynth.learning.cast import join

    names = join(faces, out)
    output.print("\n".join(f"face: {out}#{name}" for name in names))


@cast_app.command("split")
def cast_split(
    cast: CastFile, out: Annotated[Path, typer.Option(help="Folder for a file a person, NAME.safetensors.")]
) -> None:
    """Write every person of a cast to a face file of their own."""
    from dmsynth.learning.cast import split

    output.print("\n".join(f"face: {path}" for path in split(cast, out)))


@cast_app.command("evaluate")
def cast_evaluate(
    cast: CastFile,
    datasets: Annotated[list[Path], typer.Argument(help="The datasets that it was trained on.")],
    out: Annotated[Path, typer.Option(help="File to write, .json.")],
    frames: Annotated[int, typer.Option(min=8, help="How many test frames of each driver.")] = 40,
    tracker: TrackerName = "auto",
    tracker_model: TrackerModel = None,
    as_json: Json = False,
) -> None:
    """Drive everybody with everybody else: errors, identity, and whether the driver shows."""
    from dmsynth.datasets.dataset import open_dataset
    from dmsynth.evaluation.cast import measure_cast
    from dmsynth.learning.face_file import cast_file
    from dmsynth.support.files import check_output, write_json
    from dmsynth.trackers import open_tracker

    check_output(out)
    named = {path.resolve().name: open_dataset(path) for path in datasets}
    found = measure_cast(cast_file(cast), named, open_tracker(tracker, tracker_model), frames)
    write_json(out, found)
    if as_json:
        print_json(found)
        return
    rows = [
        (
            each["person"], each["driver"], each["frames"], each["lost"],
            " / ".join("–" if value is None else f"{value:.2f}" for value in each["error"].values()),
            "–" if each["identity"] is None else f"{each['identity']:.2f}",
            "–" if each["recognized"] is None else f"{each['recognized']:.0%}",
        )
        for each in found["pairs"]
    ]  # fmt: skip
    output.table(("person", "driven by", "frames", "lost", "mean error (°)", "identity", "recognized"), rows)
    for name, told in found["leakage"].items():
        shares = ["–" if told[key] is None else f"{told[key]:.0%}" for key in ("told", "from_controls", "chance")]
        output.print(f"{name}: who drives is told from {shares[0]} of the faces, {shares[1]} of the controls; "
                     f"by chance {shares[2]}")  # fmt: skip


@app.command("forget", rich_help_panel=FACES)
def forget_command(
    name: Annotated[str, typer.Argument(help="Who is to be forgotten.")],
    cast: Annotated[Path, typer.Argument(help="The run folder of a cast, or its file.")],
) -> None:
    """Remove a person from a cast: their frames, their weights, and what names them."""
    from dmsynth.learning.forgetting import forget

    forgotten = forget(name, cast)
    for path in forgotten.removed:
        output.print(f"removed: {path}")
    output.print(f"{forgotten.cast}: holds {', '.join(forgotten.left)} now")
    for what in forgotten.remains:
        output.print(f"not undone: {what}")
