"""The box's own recording of a play, joined to its log: which frame was shown at which time of the log's clock."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from dmsynth.playing.filmed import read_marks
from dmsynth.support.errors import DmsynthError
from dmsynth.support.table_files import TABLE_SUFFIXES, read_table
from dmsynth.validation.box_logs import Signal
from dmsynth.validation.log_map import Film


def read_film(path: Path) -> pd.DataFrame:
    """The numbers in a recording, columns of ``read_marks``: of a video, or of the table that was made of it.

    Raises:
        DmsynthError: no such file, no such table, or a video without a mark.
    """
    if path.suffix.lower() not in TABLE_SUFFIXES:
        return read_marks(path)
    table = read_table(path)
    if not {"frame", "time", "code"} <= set(table.columns):
        raise DmsynthError(
            f"{path}: lacks frame, time or code; give the video, or what `dmsynth read-marks` made of it"
        )
    found = table[["frame", "time", "code"]].apply(pd.to_numeric, errors="coerce")
    found = found[np.isfinite(found[["frame", "time"]].to_numpy(float)).all(axis=1)]
    if not found["code"].notna().any():
        raise DmsynthError(f"{path}: no frame has a number; give the video, or what `dmsynth read-marks` made of it")
    return found


def joined(film: pd.DataFrame, how: Film, entries: Signal, where: str) -> Signal:
    """The numbers of played frames by the log's clock, NaN where none was read.

    Args:
        film: as ``read_film`` gives it.
        entries: of the log: the number of the picture that each is about; joined by the clock, any of its signals.
        where: what names the film in messages.

    Raises:
        DmsynthError: a film and a log that do not belong together.
    """
    codes = film["code"].to_numpy(float, na_value=np.nan)
    if how.begins is None:
        pictures = pd.Series(codes, index=film["frame"].to_numpy(float) + how.first)
        shown = pictures[~pictures.index.duplicated()].reindex(entries.values.astype(float)).to_numpy(float)
        if not np.isfinite(shown).any():
            raise DmsynthError(
                f"{where}: shows no number in the pictures that the log's {how.column} names; give the recording of "
                "this log, and in the map the number of its first picture (first)"
            )
        return Signal(entries.times, shown)
    times = how.begins + film["time"].to_numpy(float)
    if times[-1] < entries.times[0] or times[0] > entries.times[-1]:
        raise DmsynthError(
            f"{where}: runs from {times[0]:.3f} to {times[-1]:.3f} s, the log from {entries.times[0]:.3f} to "
            f"{entries.times[-1]:.3f} s; correct the map's begins"
        )
    return Signal(times, codes)
