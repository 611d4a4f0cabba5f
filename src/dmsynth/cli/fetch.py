"""Fetch what dmsynth uses and does not contain."""

from __future__ import annotations

import typer

from dmsynth.cli.app import FACES, app, output
from dmsynth.support.errors import DmsynthError


@app.command("fetch", rich_help_panel=FACES)
def fetch_command() -> None:
    """Fetch what dmsynth uses and does not contain, so that later work needs no network: the tracker's model, the
    network that cuts out people, the browser's runtime. Each is fetched at its first use otherwise.
    """
    from dmsynth.datasets.matting import SEGMENTER
    from dmsynth.trackers.face_model import MODEL
    from dmsynth.web.runtime import runtime_files

    missing = False
    for title, find in (
        (MODEL.title, MODEL.find),
        (SEGMENTER.title, SEGMENTER.find),
        ("the browser's runtime", runtime_files),
    ):
        try:
            find()
            output.print(f"{title}: at hand")
        except DmsynthError as error:
            missing = True
            output.print(f"{title}: missing. {error}", style="yellow")
    if missing:
        raise typer.Exit(3)
