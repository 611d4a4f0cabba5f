"""The numbers of frames in a recording of a play."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from dmsynth.playing.marks import read_mark
from dmsynth.support.errors import DmsynthError
from dmsynth.support.parallel import map_ordered
from dmsynth.support.progress import progress
from dmsynth.video import Frame, read_video


def read_marks(video: Path) -> pd.DataFrame:
    """What a camera saw of a play: ``frame``, its number in the recording from 0; ``time``, seconds after the first;
    and ``code``, the number in it, missing where none can be read. A row per frame.

    Raises ``DmsynthError`` if none can be read in any.
    """
    with progress("reading marks", None) as advance:
        rows = []
        for row in map_ordered(_read, read_video(video, grey=True, damaged=True)):
            rows.append(row)
            advance()
    found = pd.DataFrame(rows, columns=["frame", "time", "code"]).astype({"code": "Int64"})
    if not found["code"].notna().any():
        raise DmsynthError(f"{video}: shows no mark that can be read; film nearer, sharper, or play larger frames")
    return found


def _read(frame: Frame) -> tuple[int, float, int | None]:
    return frame.index, frame.time, read_mark(frame.image)
