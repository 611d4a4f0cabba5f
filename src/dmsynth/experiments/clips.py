"""What can be played to a DMS in a box: scenarios, rendered where they are not yet, a matrix of them, and videos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from dmsynth.experiments.drivers import open_drivers
from dmsynth.experiments.planning import Part, planned, size_in_words
from dmsynth.playing.player import Clip, full_name
from dmsynth.steering import FaceSpec
from dmsynth.support.files import is_file
from dmsynth.support.progress import console, progress
from dmsynth.support.table_files import read_table
from dmsynth.validation.matrix import Matrix, file_name
from dmsynth.validation.rendering import read_pins, render, video_path
from dmsynth.validation.scenarios import Scenario
from dmsynth.validation.verdicts import AXES, commands

_NO_VIDEO = (".yaml", ".yml")


def videos_and_scenarios(names: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Which of ``names`` are files of videos, and which name scenarios."""
    videos = [Path(name) for name in names if is_file(name) and Path(name).suffix.lower() not in _NO_VIDEO]
    return videos, [name for name in names if Path(name) not in videos]


def clips_of_scenarios(
    scenarios: Sequence[Scenario], face: FaceSpec | Mapping[str, FaceSpec], folder: Path, matrix: Matrix | None = None
) -> list[Clip]:
    """The clips of scenarios: the cells that ``validate`` judges with the same arguments, by the names under which it
    looks for their logs. What a driver cannot play is left out, with a note.

    Args:
        face: who plays them, or several by name: then each plays all.
        folder: where their videos are, and are rendered to.
        matrix: what is varied; None: every scenario is played as it is.

    Raises:
        DmsynthError: as ``open_drivers`` and ``planned``.
    """
    plan = planned(open_drivers(face, scenarios), scenarios, matrix)
    for part in plan.parts:
        if part.reason:
            name = full_name(part.driver.person or "", part.scenario.name)
            console.print(f"{name}: {part.reason}", style="yellow")
    parts = [part for part in plan.parts if part.reason is None]
    if plan.matrix is not None:
        left = sum(read_pins(video_path(folder, part.scenario, part.driver.sha256)) is None for part in parts)
        console.print(f"{size_in_words(plan)}; {len(parts) - left} are rendered already, {left} are left")
    with progress("rendering", len(parts)) as advance:
        clips = []
        for part in parts:
            clips.append(_rendered(part, folder))
            advance()
    return clips


def clips_of_videos(videos: Sequence[Path]) -> list[Clip]:
    """The clips of videos, and what they show, if a table beside one says it."""
    clips = []
    for video in videos:
        table = video.with_suffix(".parquet")
        clips.append(Clip(video.stem, video, _shown(read_table(table)) if table.is_file() else pd.DataFrame()))
    return clips


def _rendered(part: Part, folder: Path) -> Clip:
    rendered = render(part.scenario, part.driver.face, folder)
    name = file_name(part.scenario.name, part.levels)
    return Clip(name, rendered.video, _shown(rendered.table), part.driver.person or "")


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    """What each frame of a steered video shows, by the names of a DMS's answers; empty if the table says nothing."""
    if not set(AXES) <= set(table.columns):
        return pd.DataFrame()
    found = commands(table)
    return pd.DataFrame({name: np.asarray(values, float) for name, values in found.items()})
