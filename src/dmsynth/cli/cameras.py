"""The cabin cameras."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dmsynth.cli.app import VALIDATION, Json, TrackerModel, TrackerName, Wear, app, face_spec, output, print_json
from dmsynth.support.errors import DmsynthError

camera_app = typer.Typer(help="Cabin cameras: where they are, and what light and sensor do.", no_args_is_help=True)
app.add_typer(camera_app, name="camera", rich_help_panel=VALIDATION)


@camera_app.command("list")
def camera_list(as_json: Json = False) -> None:
    """The cameras that come along."""
    from dmsynth.camera import cameras, read_camera

    headers = ("name", "place", "spectrum", "size", "a second", "title")
    rows = []
    for camera in (read_camera(path.stem) for path in cameras()):
        size = f"{camera.sensor.width}x{camera.sensor.height}"
        rows.append((camera.name, camera.place.at, camera.spectrum, size, camera.sensor.frame_rate, camera.title))
    if as_json:
        print_json([dict(zip(headers, row, strict=True)) for row in rows])
        return
    output.table(headers, [(*row[:4], f"{row[4]:g}", row[5]) for row in rows])


@camera_app.command("show")
def camera_show(
    name: Annotated[str, typer.Argument(help="A name, or a .yaml file.")],
    out: Annotated[Path | None, typer.Option(help="Picture to write, .png: what it sees of a face at rest.")] = None,
    face: Annotated[str, typer.Option(help="portrait, a photo, starter, or a face.safetensors.")] = "portrait",
    at: Annotated[float, typer.Option(min=0, help="Seconds: light may change.")] = 0.0,
    wear: Wear = None,
    tracker: TrackerName = "auto",
    tracker_model: TrackerModel = None,
) -> None:
    """Print a camera's file, or draw what it sees."""
    from dmsynth.camera import camera_file, read_camera
    from dmsynth.camera.things import parse_things
    from dmsynth.steering import open_renderer
    from dmsynth.steering.taken import drawn_size, still
    from dmsynth.support.files import check_output, replacing
    from dmsynth.video import write_image

    camera, worn = read_camera(name), parse_things(wear or [])
    if out is None:
        output.print(camera_file(name).read_text(encoding="utf-8"), end="")
        return
    if out.suffix.lower() not in (".png", ".jpg"):
        raise DmsynthError(f"{out}: a picture is written as .png or .jpg; change the name's ending")
    check_output(out)
    spec = face_spec("face", Path(face), None, None, tracker, tracker_model, "cpu")
    picture = still(open_renderer(spec, drawn_size(camera)), camera, spec.open_tracker(), at, worn)
    with replacing(out) as temporary:
        write_image(temporary, picture)
    output.print(f"picture: {out}")
