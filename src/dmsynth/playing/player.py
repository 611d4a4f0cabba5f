"""Play clips one after the other, each frame at its time, and log when it was really shown."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from dmsynth.playing.clock import Clock
from dmsynth.playing.marks import MOST_NUMBERS, Marking
from dmsynth.playing.sinks import Sink
from dmsynth.support.errors import DmsynthError, explain_os_error
from dmsynth.support.parallel import prefetch
from dmsynth.video import Image, VideoInfo, probe_video, read_video

COMMANDS = ("pitch", "yaw", "roll", "gaze_pitch", "gaze_yaw", "eye_opening")
"""What a play log says of each frame beside its times, by the names of a DMS's answers."""
_BEFORE = 0.5  # seconds from the first decoded frame to its time
_AHEAD = 30  # frames that are decoded ahead of their time


@dataclass(frozen=True)
class Clip:
    """A video to be played.

    Attributes:
        name: the scenario's, with its levels in a matrix; or of the video's file.
        commands: what each frame shows, (n, k), columns of ``COMMANDS``; empty if it is not known.
        person: who plays it, of a cast; empty: the only one.
    """

    name: str
    video: Path
    commands: pd.DataFrame = field(default_factory=pd.DataFrame)
    person: str = ""

    @property
    def full_name(self) -> str:
        """As messages call it, and its log is called without a suffix."""
        return full_name(self.person, self.name)


def full_name(person: str, clip: str) -> str:
    """A clip's name, within a folder of the person's name if there are several."""
    return f"{person}/{clip}" if person else clip


@dataclass(frozen=True)
class Playlist:
    """Clips, and the headers of their videos.

    Attributes:
        lead: seconds for which the first frame of each clip stands still before it, so that a DMS finds the face and
            a warning of the clip before can end.
    """

    clips: Sequence[Clip]
    infos: Sequence[VideoInfo]
    lead: float

    @staticmethod
    def of(clips: Sequence[Clip], lead: float) -> Playlist:
        """Raises ``DmsynthError`` for two of one name, or for more frames than can be marked."""
        infos = [probe_video(clip.video) for clip in clips]
        names = [clip.full_name for clip in clips]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DmsynthError(f"{twice[0]}: is given twice, and a log could not be told apart; play it once")
        if sum((info.seconds + lead) * info.frame_rate for info in infos) >= MOST_NUMBERS:
            raise DmsynthError(f"more than {MOST_NUMBERS} frames cannot be told apart; play them in parts")
        return Playlist(clips, infos, lead)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the frames that are played: those of the clip with the most pixels."""
        return max(((info.width, info.height) for info in self.infos), key=lambda size: size[0] * size[1])

    @property
    def frame_rate(self) -> float:
        """Frames a second of the fastest clip; each is played at its own rate."""
        return max(info.frame_rate for info in self.infos)

    @property
    def seconds(self) -> float:
        """How long the play takes."""
        return sum(info.seconds + self.lead for info in self.infos)

    @property
    def boxed(self) -> list[str]:
        """Names of the clips with frames of another size; those are scaled to fit, with black bars."""
        sizes = [(info.width, info.height) for info in self.infos]
        return [clip.full_name for clip, size in zip(self.clips, sizes, strict=True) if size != self.size]


@dataclass(frozen=True)
class _Due:
    """A frame, and its moment in seconds after the play's beginning. ``frame`` −1: it stands still before the clip."""

    clip: Clip
    frame: int
    time: float
    planned: float
    period: float
    image: Image


@dataclass
class Play:
    """What was played so far; ``rows`` as ``table`` has them."""

    rows: list[dict[str, object]] = field(default_factory=list)
    stopped: str | None = None

    def table(self) -> pd.DataFrame:
        """The play log, a row per frame.

        Columns: ``person``, of a cast, else empty; ``clip``; ``frame``, its number in the clip (−1: stands still before
        it); ``time`` in the clip, s; ``number``, as in the mark; ``planned`` and ``real``, when it was due and when it
        had been handed over, s after the play's beginning by the monotonic clock (``real`` is missing for a frame that
        was dropped); ``unix``, the latter by the time of day; ``late``, by more than half a frame; ``dropped``; and
        ``COMMANDS``.
        """
        columns = ["person", "clip", "frame", "time", "number", "planned", "real", "unix", "late", "dropped", *COMMANDS]
        return pd.DataFrame(self.rows, columns=columns).astype(dict.fromkeys(("real", "unix", *COMMANDS), float))


def play(playlist: Playlist, sink: Sink, marking: Marking, clock: Clock, played: Play) -> None:
    """Play to a sink; ``played`` is filled frame by frame, so that an interrupted play is logged, too.

    A frame whose successor is due already is dropped. A sink that takes no more ends the play: ``played.stopped`` says
    why.
    """
    with closing(prefetch(_frames(playlist), _AHEAD)) as frames:
        first = next(frames)
        begun = clock.now() + _BEFORE
        unix = time.time() - clock.now() + begun
        for number, due in enumerate(chain([first], frames)):
            moment = begun + due.planned
            real, dropped = np.nan, clock.now() > moment + due.period
            if not dropped:
                try:
                    show = sink.prepare(marking.drawn(due.image, number), due.planned)
                    clock.sleep_until(moment)
                    show()
                except OSError as error:
                    played.stopped = explain_os_error(error)
                    return
                real = clock.now() - begun
            command = {} if due.clip.commands.empty else dict(due.clip.commands.iloc[max(due.frame, 0)])
            late = bool(real - due.planned > due.period / 2)
            played.rows.append({
                "person": due.clip.person, "clip": due.clip.name, "frame": due.frame, "time": due.time,
                "number": number, "planned": due.planned, "real": real, "unix": unix + real, "late": late,
                "dropped": dropped, **command,
            })  # fmt: skip


def _boxed(image: Image, width: int, height: int) -> Image:
    """A frame, (h, w) or (h, w, 3) uint8, scaled to fit into ``width`` × ``height``, its aspect ratio kept, between
    black bars. One of that size is returned as it is."""
    rows, columns = image.shape[:2]
    if (columns, rows) == (width, height):
        return image
    scale = min(width / columns, height / rows)
    columns, rows = round(columns * scale), round(rows * scale)
    scaled = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    top, left = (height - rows) // 2, (width - columns) // 2
    boxed = np.zeros((height, width, *image.shape[2:]), np.uint8)
    boxed[top : top + rows, left : left + columns] = scaled
    return boxed


def _frames(playlist: Playlist) -> Iterator[_Due]:
    begins, size = 0.0, playlist.size
    for clip, info in zip(playlist.clips, playlist.infos, strict=True):
        period, still = 1 / info.frame_rate, round(playlist.lead * info.frame_rate)
        begins += still * period
        last = 0.0
        for frame in read_video(clip.video):
            if not clip.commands.empty and frame.index >= len(clip.commands):
                raise DmsynthError(f"{clip.video}: has more frames than its table; render it again")
            image = _boxed(frame.image, *size)
            if frame.index == 0:
                for number in range(still, 0, -1):
                    yield _Due(clip, -1, -number * period, begins - number * period, period, image)
            yield _Due(clip, frame.index, frame.time, begins + frame.time, period, image)
            last = frame.time
        begins += last + period


def pace(log: pd.DataFrame) -> dict[str, float | int]:
    """How well a play kept time.

    Returns:
        ``frames``, ``late`` and ``dropped``, counts; and of the frames that were shown, how long after their time they
        had been handed over, in milliseconds: ``median``, ``p99``, ``worst``, and ``jitter``, the standard deviation.
    """
    shown = log[~log["dropped"]]
    off = 1000 * (shown["real"] - shown["planned"]).to_numpy(float)
    if not len(off):
        off = np.array([np.nan])
    return {
        "frames": len(log), "late": int(log["late"].sum()), "dropped": int(log["dropped"].sum()),
        "median": float(np.median(off)), "p99": float(np.percentile(off, 99)), "worst": float(off.max()),
        "jitter": float(off.std()),
    }  # fmt: skip
