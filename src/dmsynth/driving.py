"""Where the controls come from: motions in words, a table, or a tracked video of anybody."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from dmsynth.controls import ControlSpace
from dmsynth.progress import progress
from dmsynth.trackers import Tracker, track_to_table
from dmsynth.trajectory import TABLE_SUFFIXES, Trajectory, from_table, parse_motions, read_table
from dmsynth.video import probe_video, read_video


def read_trajectory(
    text: str, space: ControlSpace, frame_rate: float, open_tracker: Callable[[], Tracker]
) -> Trajectory:
    """The trajectory that ``text`` names, for the controls of ``space``.

    A name ending in .csv or .parquet is read as a table, another existing file or a name with an ending as a driving
    video, which is tracked frame by frame; anything else is motions (``dmsynth.trajectory``).
    """
    path = Path(text)
    if path.suffix.lower() in TABLE_SUFFIXES:
        return from_table(read_table(path), space.names, text)
    if path.is_file() or ("=" not in text and path.suffix and " " not in text):
        return from_table(track_video(path, open_tracker()), space.names, text)
    rest = {control.name: control.at_rest for control in space.controls}
    return parse_motions(text, space.names, frame_rate, rest)


def track_video(path: Path, tracker: Tracker) -> pd.DataFrame:
    """Track every frame of a video, with progress; see ``dmsynth.trackers.track`` for the columns."""
    info = probe_video(path)
    with progress(f"tracking {path.name}", info.frames) as advance:
        frames = (advance() or frame for frame in read_video(path))
        return track_to_table(tracker, frames)
