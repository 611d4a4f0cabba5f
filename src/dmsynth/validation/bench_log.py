"""A box's own log as answers that ``validate --dms-log`` reads: aligned with the play, cut into its clips."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dmsynth.playing.log import read_play
from dmsynth.playing.player import full_name
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import write_json, write_text
from dmsynth.validation.alignment import Alignment, align_log
from dmsynth.validation.bench_film import joined, read_film
from dmsynth.validation.box_logs import Signal, read_box_log
from dmsynth.validation.log_map import TIMING, read_log_map
from dmsynth.validation.protocol import ANGLES, Answer, impossible

Double = NDArray[np.float64]

_NUMBERS = (*ANGLES, "eye_opening")
_NORMAL = 1.96
_LEAST_UNCERTAIN = 1e-4  # seconds


@dataclass(frozen=True)
class ClipLog:
    """The answers about a clip.

    Attributes:
        uncertainty: half of the 95 % interval of their times, seconds.
        carried: whether a warning from before was on when the clip began.
        person: who played it, of a cast; empty: the only one.
        dropped: numbers that were left out because they are none, as a yaw of 999 where there is no face.
    """

    name: str
    answers: list[Answer]
    uncertainty: float
    carried: bool
    dropped: int
    person: str = ""

    @property
    def full_name(self) -> str:
        return full_name(self.person, self.name)


@dataclass(frozen=True)
class BenchLog:
    alignment: Alignment
    clips: list[ClipLog]


def read_bench_log(log: Path, play: Path, meaning: Path, film: Path | None = None) -> BenchLog:
    """A box's log, aligned with a play and cut into its clips.

    Args:
        film: the box's own recording of the play, or the numbers that were read in it, if the map joins one.

    Raises:
        DmsynthError: as ``read_log_map``, ``read_play``, ``read_box_log``, ``read_film``, ``joined`` and ``align_log``;
            a film without a map of it, or the other way round.
    """
    read_as = read_log_map(meaning)
    if film is None and read_as.film:
        raise DmsynthError(f"{meaning}: joins the box's recording of the play; give it with --film, or take film out")
    if film is not None and read_as.film is None:
        raise DmsynthError(
            f"--film {film}: {meaning} does not say how it is joined; add film: COLUMN, or film: {{begins: SECONDS, "
            "uncertainty: SECONDS}"
        )
    shown = read_play(play)
    signals = read_box_log(log, read_as)
    judged = {name: signal for name, signal in signals.items() if name not in TIMING}
    if film is not None and read_as.film is not None:
        entries = signals.get("film") or next(iter(judged.values()))
        signals["film"] = joined(read_film(film), read_as.film, entries, str(film))
    alignment = align_log(signals, shown, read_as, str(log))
    moments, values = _together(judged)
    moments = alignment.to_play(moments)
    by_clip = shown[shown["frame"] >= 0].groupby(["person", "clip"], sort=False)
    clips = [_clip((str(person), str(name)), frames, moments, values, alignment) for (person, name), frames in by_clip]
    return BenchLog(alignment, clips)


def write_bench_log(found: BenchLog, out: Path, log: Path) -> list[Path]:
    """Write ``out``/CLIP.jsonl for each clip, of a cast ``out``/PERSON/CLIP.jsonl, or ``out`` itself if it ends with
    .jsonl, and the alignment beside it as JSON. Returns the logs' paths. ``DmsynthError``: one file for several clips,
    or the ``log`` itself."""
    if out.suffix == ".jsonl":
        if len(found.clips) > 1:
            raise DmsynthError(f"--out {out}: is one file, and the play has {len(found.clips)} clips; give a folder")
        paths, beside = [out], out.with_suffix(".alignment.json")
    else:
        paths, beside = [out / f"{clip.full_name}.jsonl" for clip in found.clips], out / "alignment.json"
    if any(path.resolve() == log.resolve() for path in paths):
        raise DmsynthError(f"--out {out}: would replace the log {log}; give another folder")
    for path, clip in zip(paths, found.clips, strict=True):
        write_text(path, "".join(f"{answer.to_json()}\n" for answer in clip.answers))
    told = asdict(found.alignment) | {"covariance": found.alignment.covariance.tolist()}
    write_json(beside, told | {"clips": {clip.full_name: {"uncertainty": clip.uncertainty} for clip in found.clips}})
    return paths


def _together(signals: Mapping[str, Signal]) -> tuple[Double, dict[str, NDArray[np.object_]]]:
    """All signals at common times: those of the first, and those at which another one's state changes.

    Returns times (n,), and values (n,) by name: the nearest of a number, the last of a state.
    """
    first, *others = signals.values()
    states = {name: signal for name, signal in signals.items() if name not in _NUMBERS}
    changes = [signal.times[np.flatnonzero(signal.values[1:] != signal.values[:-1]) + 1] for signal in states.values()]
    times = np.unique(np.concatenate([first.times, *changes])) if others else first.times
    values: dict[str, NDArray[np.object_]] = {}
    for name, signal in signals.items():
        after = np.searchsorted(signal.times, times, side="right")
        place = np.clip(after - 1, 0, None)
        if name not in states:
            right = np.clip(after, None, len(signal.times) - 1)
            nearer = np.abs(signal.times[right] - times) < np.abs(times - signal.times[place])
            place = np.where(nearer, right, place)
        taken = signal.values[place].astype(object)
        taken[(after == 0) & (name in states)] = None  # nothing was said yet
        values[name] = taken
    return times, values


def _clip(
    names: tuple[str, str],
    frames: pd.DataFrame,
    moments: Double,
    values: Mapping[str, NDArray[np.object_]],
    alignment: Alignment,
) -> ClipLog:
    """The answers between a clip's first and last frame, times counted from the first; ``names`` of person and clip."""
    person, name = names
    ahead = (frames["real"] - frames["time"]).to_numpy(float)
    begins = float(np.median(ahead))
    uncertainty = float(alignment.uncertainty(frames["real"].to_numpy(float)).max())
    uncertainty = float(np.hypot(uncertainty, _NORMAL * ahead.std()))
    uncertainty = round(max(uncertainty, _LEAST_UNCERTAIN), 4)
    inside = np.flatnonzero((moments >= begins) & (moments <= begins + float(frames["time"].iloc[-1])))
    said = [_answer(moments[row] - begins, {k: v[row] for k, v in values.items()}, uncertainty) for row in inside]
    answers = [answer for answer, _ in said]
    carried = bool(answers) and answers[0].warning
    return ClipLog(name, answers, uncertainty, carried, sum(dropped for _, dropped in said), person)


def _answer(time: float, values: Mapping[str, object], uncertainty: float) -> tuple[Answer, int]:
    """An answer, and how many of its numbers were left out: one that is out of range would lose its warning, too."""
    found = values.get("found", True)
    numbers = {name: values[name] for name in _NUMBERS if name in values and found}
    known: dict[str, Any] = {
        name: round(float(str(value)), 4) for name, value in numbers.items() if np.isfinite(float(str(value)))
    }
    wrong = [name for name, value in known.items() if impossible(Answer(0.0, **{name: value}))]
    for name in wrong:
        del known[name]
    kind = values.get("warning")
    answer = Answer(
        time=round(float(time), 4), warning=kind is not None, warning_kind=str(kind) if kind else None,
        unavailable=bool(values.get("unavailable", False)), time_uncertainty=uncertainty, **known,
    )  # fmt: skip
    return answer, len(wrong)
