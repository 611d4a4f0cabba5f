"""Casts: several people in one face file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dmsynth.cli.app import FACES, Json, app, output, print_json

cast_app = typer.Typer(help="Several people in one face file.", no_args_is_help=True)
app.add_typer(cast_app, name="cast", rich_help_panel=FACES)

CastFile = Annotated[Path, typer.Argument(help="face.safetensors of a cast.")]


@cast_app.command("list")
def cast_list(cast: CastFile, as_json: Json = False) -> None:
    """Who is in a cast, and on what consent."""
    from dmsynth.learning.face_file import read_people
    from dmsynth.steering.provenance import consent_of

    people = read_people(cast)
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
