"""The other door: a web page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dmsynth.cli.app import FACES, Checkout, app, given_renderers
from dmsynth.support.errors import DmsynthError

Root = Annotated[Path, typer.Option("--workspace", help="The one folder that the page reads and writes.")]
Port = Annotated[int | None, typer.Option(min=0, max=65535, help="Default: the first free one from 7860.")]
Browser = Annotated[bool, typer.Option(help="Open the page in the browser.")]


@app.command("cockpit", rich_help_panel=FACES)
def cockpit_command(
    face: Annotated[
        list[Path] | None, typer.Option(help="A face to begin with, beside starter; may be given again.")
    ] = None,
    workspace: Root = Path("cockpit"),
    port: Port = None,
    browser: Browser = True,
    dms: Annotated[
        list[str] | None, typer.Option(help="A DMS to validate, NAME=COMMAND with {video} in it; may be given again.")
    ] = None,
    renderer: Annotated[
        list[str] | None,
        typer.Option(
            help="What moves a brought picture beside the face, such as liveportrait:DIR; may be given again."
        ),
    ] = None,
    checkout: Checkout = None,
) -> None:
    """Steer a face live, draw what it shall do, train and validate, in a page on this machine alone."""
    from dmsynth.cockpit.serving import open_cockpit
    from dmsynth.steering.face import face_name

    brought = {face_name(path): path for path in face or [] if str(path) != "starter"}
    if len(brought) < len({path for path in face or [] if str(path) != "starter"}):
        raise DmsynthError("--face: two of these have the same name; give files of different names")
    commands = {}
    for text in dms or []:
        name, equals, command = text.partition("=")
        if not (name.strip() and equals and "{video}" in command):
            raise DmsynthError(f"--dms {text}: give NAME=COMMAND with {{video}} in the command")
        commands[name.strip()] = command.strip()
    open_cockpit(workspace, brought, port, browser, given_renderers(renderer, checkout), commands)


@app.command("record", rich_help_panel=FACES)
def record_command(workspace: Root = Path("cockpit"), port: Port = None, browser: Browser = True) -> None:
    """Record yourself with the browser's camera, guided by arrows: a face of you, in about three minutes. A page of the
    cockpit."""
    from dmsynth.cockpit.serving import open_cockpit

    open_cockpit(workspace, None, port, browser, page="record")
