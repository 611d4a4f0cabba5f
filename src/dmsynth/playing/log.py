"""The log of a play, read back."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd

from dmsynth.playing.player import Play, full_name
from dmsynth.support.errors import DmsynthError
from dmsynth.support.table_files import read_table

_NUMBERS = ("frame", "time", "number", "planned", "real", "unix")


def read_play(path: Path) -> pd.DataFrame:
    """A play log, as ``Play.table`` describes it, without the frames that were dropped. One without persons, as
    versions before wrote it, is of a single one.

    Raises ``DmsynthError`` for any other table, for clips that overlap, and for names that could lead out of a folder:
    files are called after them.
    """
    log = read_table(path)
    mend = "give what `dmsynth play --log` wrote"
    if "person" not in log.columns:
        log = log.assign(person="")
    missing = [name for name in Play().table().columns if name not in log.columns]
    if missing:
        raise DmsynthError(f"{path}: is no log of a play: it lacks the columns {', '.join(missing)}; {mend}")
    try:
        log = log.fillna({"clip": "", "person": ""}).astype(
            dict.fromkeys(_NUMBERS, float) | {"dropped": bool, "clip": str, "person": str}
        )
    except (ValueError, TypeError) as error:
        raise DmsynthError(f"{path}: is no log of a play ({str(error)[:200]}); {mend}") from None
    for name in [*log["clip"].unique(), *filter(None, log["person"].unique())]:
        if name in ("", ".", "..") or any(each in "/\\" or unicodedata.category(each) == "Cc" for each in name):
            raise DmsynthError(
                f"{path}: {name!r} is no name of a clip or person: it holds a path or control characters; {mend}"
            )
    shown = log[~log["dropped"]].reset_index(drop=True)
    if len(shown) < 2 or not np.isfinite(shown[["time", "number", "real", "unix"]].to_numpy(float)).all():
        raise DmsynthError(f"{path}: says of no two frames when they were shown; play again")
    back = np.flatnonzero(np.diff(shown["real"].to_numpy(float)) <= 0)
    clips = shown[["person", "clip"]]
    begins = clips.ne(clips.shift()).any(axis=1)
    returns = begins & clips.where(begins).duplicated()
    if len(back) or returns.any():
        row = int(back[0]) + 1 if len(back) else int(np.flatnonzero(returns)[0])
        name = full_name(shown["person"][row], shown["clip"][row])
        raise DmsynthError(
            f"{path}: plays overlap: {name} is shown again at {shown['real'][row]:.3f} s; give the log of one play"
        )
    return shown
