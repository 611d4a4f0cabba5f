"""Writing a steered video, its table of commands, and its provenance file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dmsynth.camera.capture import Capture
from dmsynth.camera.wardrobe import Wardrobe
from dmsynth.steering.provenance import Provenance, sidecar_of
from dmsynth.steering.renderer import Renderer
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import is_file, is_folder
from dmsynth.support.parallel import prefetch
from dmsynth.support.progress import progress
from dmsynth.support.table_files import write_table
from dmsynth.video import COMPRESSION, Image, VideoWriter
from dmsynth.video.effects import with_effects


@dataclass(frozen=True)
class Shot:
    """A renderer, the ``values`` (n, k) that it draws, one row per frame, and the ``table`` written beside the video.

    ``share``: factor by which the motion was shrunk to fit the coverage; 1: not at all. ``effects``: camera effects
    (``video.effects``). ``capture``: the camera that takes the frames, if there is one. ``wardrobe``: things that
    are worn where there is none.
    """

    renderer: Renderer
    values: NDArray[np.float64]
    table: pd.DataFrame
    frame_rate: float
    share: float = 1.0
    effects: tuple[tuple[str, float], ...] = ()
    capture: Capture | None = None
    wardrobe: Wardrobe | None = None

    @property
    def provenance(self) -> Provenance:
        """Where its frames come from."""
        dressed = self.capture.wardrobe if self.capture else self.wardrobe
        return replace(
            Provenance.of(self.renderer.path, self.renderer.trained, "rendered", self.effects),
            camera=self.capture.camera.identity if self.capture else "",
            worn=", ".join(map(str, dressed.worn)) if dressed else "",
        )

    def frames(self) -> Iterator[Image]:
        """Its frames, (h, w) or (h, w, 3) uint8."""
        drawn = self.renderer.frames(self.values)
        if self.capture:
            drawn = self.capture.frames(drawn)
        elif self.wardrobe:
            drawn = self.wardrobe.frames(drawn)
        return with_effects(drawn, self.effects)

    def labels(self) -> pd.DataFrame:
        """One row per frame: the table, and what camera and things say when all frames are drawn."""
        truth = [each.truth() for each in (self.capture or self.wardrobe,) if each]
        return pd.concat([self.table, *truth], axis=1)


def write_video(shot: Shot, out: Path, quiet: bool = False, repeatable: bool = False) -> Path:
    """Render a shot to the video ``out``, with its table, ``OUT.parquet``, and ``OUT.provenance.json`` beside it.

    Returns the table's path. ``quiet``: no progress bar, for work in parallel. ``repeatable``: see ``VideoWriter``.
    """
    origin, size, compression = shot.provenance, shot.renderer.size, COMPRESSION
    if shot.capture:
        size, compression = shot.capture.camera.size, shot.capture.camera.sensor.compression
    with (
        VideoWriter(
            out, *size, shot.frame_rate, origin.metadata(), compression, repeatable, bool(shot.capture)
        ) as video,
        nullcontext(_nothing) if quiet else progress("steering", len(shot.values)) as advance,
        closing(prefetch(shot.frames())) as images,  # one thread draws, the other encodes
    ):
        for image in images:
            video.write(image)
            advance()
    origin.write_beside(out)
    table = out.with_suffix(".parquet")
    write_table(table, shot.labels())
    return table


def _nothing() -> None:
    """Stands in for a progress bar."""


def check_not_input(out: Path, inputs: Sequence[str | Path | None]) -> None:
    """Raise ``DmsynthError`` if writing ``out`` and what goes beside it would overwrite one of the inputs.

    Args:
        inputs: as the user names them: files, ``VIDEO@N``, ``DATASET@N``; what names no file (motions in words) and
            None count for nothing. An ``@`` may as well be part of a file's name, so either reading is protected.
            Of an input folder every file in it is.
    """
    if not out.name:
        raise DmsynthError(f"{out}: is a folder; give the output a name")
    written = [path for path in (out, out.with_suffix(".parquet"), sidecar_of(out)) if path.name]
    named = [str(name) for name in inputs if name]
    read = [Path(each) for name in named for each in (name, name.rpartition("@")[0]) if each]
    for path in written:
        if any(_is_same(path, each) for each in read):
            raise DmsynthError(f"{path}: is an input of this command; give the output another name")
        folders = (each for each in read if is_folder(each))
        if is_file(path) and any(path.resolve().is_relative_to(folder.resolve()) for folder in folders):
            raise DmsynthError(f"{path}: is part of an input of this command; give the output another name")


def _is_same(a: Path, b: Path) -> bool:
    """Whether two names are one file, be it through links or another spelling; or would be one."""
    try:
        return a.resolve() == b.resolve() or a.samefile(b)
    except (OSError, ValueError, RuntimeError):  # no such file, no name that a file can have, links in a circle
        return False
