"""What can be played to a DMS: scenarios, rendered where they are not yet, and videos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from dmsynth.playing.player import Clip
from dmsynth.steering import SteerableFace
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import is_file
from dmsynth.support.progress import console
from dmsynth.support.table_files import read_table
from dmsynth.validation.rendering import render, why_not
from dmsynth.validation.scenario_files import find_scenarios
from dmsynth.validation.verdicts import AXES, commands

_NO_VIDEO = (".yaml", ".yml")


def videos_and_scenarios(names: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Which of ``names`` are files of videos, and which name scenarios."""
    videos = [Path(name) for name in names if is_file(name) and Path(name).suffix.lower() not in _NO_VIDEO]
    return videos, [name for name in names if Path(name) not in videos]


def clips_of(names: Sequence[str], face: SteerableFace | None, folder: Path) -> list[Clip]:
    """The clips of scenarios and videos, scenarios first. A scenario that the face cannot play is left out, with a
    note.

    Args:
        face: who plays the scenarios; None: there are none.
        folder: where their videos are, and are rendered to.

    Raises:
        DmsynthError: no such scenario; scenarios without a face; nothing is left to be played.
    """
    videos, scenarios = videos_and_scenarios(names)
    clips = []
    for scenario in find_scenarios(scenarios) if scenarios else []:
        if face is None:
            raise DmsynthError(f"{scenario.name}: give --face: who plays it, such as starter")
        reason = why_not(scenario, face)
        if reason:
            console.print(f"{scenario.name}: {reason}", style="yellow")
            continue
        rendered = render(scenario, face, folder)
        clips.append(Clip(scenario.name, rendered.video, _shown(rendered.table)))
    for video in videos:
        table = video.with_suffix(".parquet")
        clips.append(Clip(video.stem, video, _shown(read_table(table)) if table.is_file() else pd.DataFrame()))
    if not clips:
        raise DmsynthError(f"{', '.join(names)}: there is nothing that this face can play; name other scenarios")
    return clips


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    """What each frame of a steered video shows, by the names of a DMS's answers; empty if the table says nothing."""
    if not set(AXES) <= set(table.columns):
        return pd.DataFrame()
    found = commands(table)
    return pd.DataFrame({name: np.asarray(values, float) for name, values in found.items()})
