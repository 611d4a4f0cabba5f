"""Where the controls come from: motions in words, a table, or a tracked video of anybody.

A tracked head is not yet a command. On the way (``Driving``): gaps are bridged, noise is smoothed without delay, and
the driver's pose is taken as it is (*absolute*) or as a movement away from the driver's own neutral pose, added to the
source's (*relative*), so that a driver who sits askew does not make the face sit askew.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dmsynth.controls import EYES_RANGE, FEATURES, FEATURES_AT_REST, ControlSpace
from dmsynth.motion.eyes import with_gaze
from dmsynth.motion.tables import Columns, read_motion_table
from dmsynth.motion.trajectory import Trajectory, from_table, is_motions, parse_motions
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import is_file
from dmsynth.support.progress import console, progress
from dmsynth.support.table_files import TABLE_SUFFIXES
from dmsynth.trackers import Tracker, how_to_crop, track_to_table
from dmsynth.trackers.features import features_from_rest
from dmsynth.video import Frame, check_crop, probe_video, read_video

MODES = ("absolute", "relative")
NEUTRALS = ("first", "typical")
_ENDING = re.compile(r"\.[A-Za-z][A-Za-z0-9]{1,4}$")  # of a file's name, and of no motion
_QUICK = 0.12  # seconds: a blink takes 0.3, a syllable 0.2
_FIRST_SHARE = re.compile(r"head_share=(\d*\.?\d+)\b")
_ORDER = 2  # of the polynomials that smooth


@dataclass(frozen=True)
class Driving:
    """How a tracked head becomes a command.

    Attributes:
        mode: ``absolute``, the driver's pose is the command; or ``relative``, the driver's movement away from
            ``neutral`` is added to the source's pose, axis by axis.
        neutral: the driver's own pose that counts as no movement: in the ``first`` frame, or the ``typical`` one (the
            median of all).
        smooth: seconds over which each moment is smoothed (Savitzky and Golay 1964: a parabola through the frames
            around it, as many after as before, hence without delay); 0: not at all. Eyes, mouth and brows over at most
            0.12 s, which below 38 frames a second is not at all.
        longest_gap: seconds without a usable face that are bridged in a straight line, or held at either end.
        crop: left, top, width, height in pixels: look at this part of a driving video only.
    """

    mode: str = "absolute"
    neutral: str = "first"
    smooth: float = 0.3
    longest_gap: float = 0.5
    crop: tuple[int, int, int, int] | None = None

    def __post_init__(self) -> None:
        for what, value, known in (("driving", self.mode, MODES), ("neutral", self.neutral, NEUTRALS)):
            if value not in known:
                raise DmsynthError(f"--{what} {value}: choose {' or '.join(known)}")


def read_trajectory(
    text: str,
    space: ControlSpace,
    frame_rate: float,
    open_tracker: Callable[[], Tracker],
    driving: Driving | None = None,
    source_pose: NDArray[np.float64] | None = None,
    columns: Columns | None = None,
) -> Trajectory:
    """The trajectory that ``text`` names, for the controls of ``space``.

    A name ending in .csv or .parquet is read as a table (``motion.tables``), another existing file or a name with an
    ending as a driving video, which is tracked frame by frame; anything else is motions (``motion.trajectory``). Of a
    driving video, and of a table that ``dmsynth track`` or OpenFace wrote, ``drive`` makes the command. A look becomes
    what head and eyes do (``motion.eyes.with_gaze``).

    Args:
        columns: what the user says of a table's columns.
        source_pose: (k,) where relative driving begins, in the order of ``space``; by default at rest.

    Raises:
        DmsynthError: as ``drive``; relative driving without a driver; a table or motion that cannot be read.
    """
    driving, is_there = driving or Driving(), is_file(text)
    names_a_file = is_there or not is_motions(text)
    table = None
    if names_a_file and Path(text).suffix.lower() in TABLE_SUFFIXES:
        table = read_motion_table(Path(text), space.commands, columns)
    elif is_there:
        table = track_video(Path(text), open_tracker(), driving.crop)
    elif names_a_file and _ENDING.search(text):
        raise DmsynthError(f"{text}: no such file; give motions, a .csv or .parquet table, or a driving video")
    if table is not None and "found" in table.columns:
        return drive(table, space, text, driving, source_pose)
    if driving.mode == "relative":
        raise DmsynthError(
            f"{text}: has no driver; --driving relative takes a driving video or a table of dmsynth track"
        )
    if table is not None:
        return with_gaze(from_table(table, space.commands, text))
    return from_motions(text, space, frame_rate)


def from_motions(text: str, space: ControlSpace, frame_rate: float) -> Trajectory:
    """A trajectory from a line of motions, for the controls of ``space``. The share of a look that the head does holds
    from the beginning. ``DmsynthError`` as ``parse_motions`` and ``with_gaze``."""
    share = _FIRST_SHARE.search(text)
    rest = space.rest | ({"head_share": float(share[1])} if share else {})
    return with_gaze(parse_motions(text, space.commands, frame_rate, rest, sparse=space.moves_eyes))


def track_video(path: Path, tracker: Tracker, crop: tuple[int, int, int, int] | None = None) -> pd.DataFrame:
    """Track every frame of a video, with progress; see ``dmsynth.trackers.track`` for the columns.

    With a ``crop`` (left, top, width, height in pixels) only that part is looked at; pixels count in the whole frame.
    """
    info = probe_video(path)
    if crop:
        check_crop(path, info, crop)
    left, top, width, height = crop or (0, 0, info.width, info.height)

    def frames() -> Iterator[Frame]:
        for frame in read_video(path):
            yield replace(frame, image=frame.image[top : top + height, left : left + width])
            advance()

    with progress(f"tracking {path.name}", info.frames) as advance:
        table = track_to_table(tracker, frames())
    table[["x", "left", "right"]] += left
    table[["y", "top", "bottom"]] += top
    return table


def drive(
    table: pd.DataFrame,
    space: ControlSpace,
    where: str,
    driving: Driving | None = None,
    source_pose: NDArray[np.float64] | None = None,
) -> Trajectory:
    """The command that a tracked head gives: one row a frame of ``table`` (``track_to_table``).

    Args:
        where: the driver's name for messages.
        source_pose: (k,) where relative driving begins; by default at rest.

    Raises:
        DmsynthError: no frame with one usable face, or a gap longer than ``driving.longest_gap``, with its frames.
    """
    driving = driving or Driving()
    found = table["found"].to_numpy(bool)
    if not found.any():
        raise DmsynthError(
            f"{where}: no usable face in any of its {len(table)} frames ({_reasons(table)}); "
            f"film one person, the whole face in view{how_to_crop(set(table.get('reason', pd.Series(dtype=str))))}"
        )
    seen = from_table(table[found], space.names, where)
    times = pd.to_numeric(table["time"], errors="coerce").to_numpy(dtype=float)
    if not (np.diff(times) > 0).all():
        raise DmsynthError(f"{where}: time does not increase from row to row; take the table as dmsynth track wrote it")
    _check_gaps(table, found, times, where, driving.longest_gap)
    count = len(times)
    even = np.linspace(times[0], times[-1], count)  # the filter wants frames that are evenly far apart
    angles = {control.name for control in space.controls if control.unit == "°"}
    columns = [np.unwrap(seen[name], period=360) if name in angles else seen[name] for name in seen.names]
    values = np.stack([np.interp(even, seen.times, column) for column in columns], axis=1)
    bridged = int((~found).sum())
    if bridged:
        console.print(f"{where}: {bridged} of {count} frames without a usable face bridged", style="yellow")
    frame_rate = (count - 1) / (even[-1] - even[0]) if count > 1 else 1.0
    quick = np.array([name in FEATURES for name in seen.names])
    for which, seconds in ((~quick, driving.smooth), (quick, min(driving.smooth, _QUICK))):
        if which.any():
            values[:, which] = smoothed(values[:, which], seconds * frame_rate)
    values = _with_features_from_rest(values, seen.names)
    if driving.mode == "relative":
        neutral = values[0] if driving.neutral == "first" else np.median(values, axis=0)
        begin = np.array(space.row({})) if source_pose is None else source_pose
        moved = values - neutral + begin[[space.names.index(name) for name in seen.names]]
        values = np.where([name in FEATURES for name in seen.names], values, moved)
    return Trajectory(seen.names, even, values)


def _with_features_from_rest(values: NDArray[np.float64], names: Sequence[str]) -> NDArray[np.float64]:
    """Measured controls (n, k) with what there is of eyes, mouth and brows from this driver's rest, within the range
    of posed eyes: a glance further aside is drawn to its edge, and the head does as it did."""
    whole = np.tile(FEATURES_AT_REST, (len(values), 1))
    there = [(i, names.index(name)) for i, name in enumerate(FEATURES) if name in names]
    for i, column in there:
        whole[:, i] = values[:, column]
    moved, result = features_from_rest(whole, np.arange(len(values))), values.copy()
    for i, column in there:
        is_gaze = i < len(EYES_RANGE)
        result[:, column] = np.clip(moved[:, i], -EYES_RANGE[i], EYES_RANGE[i]) if is_gaze else moved[:, i]
    return result


def _check_gaps(
    table: pd.DataFrame, found: NDArray[np.bool_], times: NDArray[np.float64], where: str, longest: float
) -> None:
    """``DmsynthError`` naming the first stretch without a usable face that lasts longer than ``longest`` seconds."""
    step = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    seen = np.flatnonzero(found)
    for last, following in pairwise([-1, *seen, len(times)]):  # by the clock: a recording may have holes, too
        before = times[0] - step if last < 0 else times[last]
        after = times[-1] + step if following == len(times) else times[following]
        seconds = float(after - before - step)
        if seconds <= longest + 1e-9:
            continue
        begin, end = last + 1, following
        if begin == end:
            raise DmsynthError(
                f"{where}: no frames between {before:.2f} and {after:.2f} s, after frame {last}; "
                f"up to {longest:g} s is bridged: cut the video there, or raise --longest-gap"
            )
        raise DmsynthError(
            f"{where}: no usable face in frames {begin} to {end - 1}, {seconds:.2f} s "
            f"({_reasons(table[begin:end])}); "
            f"up to {longest:g} s is bridged: cut the video, show one whole face throughout, or raise --longest-gap"
            + how_to_crop(set(table.get("reason", pd.Series(dtype=str))[begin:end]))
        )


def _reasons(table: pd.DataFrame) -> str:
    if "reason" not in table.columns:
        return "not found"
    return ", ".join(f"{reason}: {count}" for reason, count in table["reason"].value_counts().items() if reason)


def smoothed(values: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    """``values`` (n, k) of evenly spaced frames, each from a parabola through the ``width`` frames around it.

    As many frames after as before count, so nothing is delayed. Fewer than five frames have nothing to smooth.
    """
    frames = min(round(width), len(values))
    frames -= 1 - frames % 2
    if frames < _ORDER + 3:
        return values
    from scipy.signal import savgol_filter  # takes a second to import, and most motions are no driver's

    return np.asarray(savgol_filter(values, frames, _ORDER, axis=0, mode="interp"))


def lag(earlier: NDArray[np.float64], later: NDArray[np.float64], most: int = 30) -> float:
    """By how many frames one motion (n,) follows another of equal length: the peak of their cross-correlation.

    Searched up to ``most`` frames either way, refined by a parabola; negative if it runs ahead. NaN where one does not
    move.
    """
    most = min(most, len(earlier) // 3)

    def correlation(shift: int) -> float:
        a, b = earlier[most : len(earlier) - most], later[most + shift : len(later) - most + shift]
        return float(np.corrcoef(a, b)[0, 1]) if a.std() > 1e-9 and b.std() > 1e-9 else np.nan

    values = np.array([correlation(shift) for shift in range(-most, most + 1)])
    if not np.isfinite(values).all():
        return float("nan")
    best = int(np.clip(values.argmax(), 1, 2 * most - 1))
    left, middle, right = values[best - 1 : best + 2]
    bend = left - 2 * middle + right
    return float(best - most + ((left - right) / (2 * bend) if bend < 0 else 0.0))
