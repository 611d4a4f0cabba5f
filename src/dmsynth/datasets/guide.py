"""Guiding a person who is being recorded: what is still missing, what is wrong with a frame, and when it is enough.

A face learns the poses that it saw. So a recording shall show the head turned everywhere within a driver's range and
tilted to both sides, and the eyes turned in the head. These are *maps* of cells. Each cell is asked for in two rounds,
some time apart, because a recording is split by blocks of time (``dataset.split_by_time``): what is held out the first
time is learned the second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from dmsynth.datasets.recording import FEWEST_FRAMES
from dmsynth.trackers import Face, Tracker, face_columns, why_unusable
from dmsynth.video import Image, to_grey

CONSENT = (
    "I agree that this recording of me is kept on this machine, and that a face is made of it: synthetic videos in "
    "which I move as somebody else commands."
)
"""What a person agrees to before a recording begins."""

LONGEST = 90.0
"""Seconds with a usable face, after which a recording ends whatever is missing."""

_ROUNDS, _EACH = 2, 3  # how often each cell is asked for, and frames each time
_MOST = _ROUNDS * _EACH
_PATIENCE = 5.0  # seconds with a usable face, after which a cell is given up: not everybody reaches each
_GAP = 0.5  # seconds at most that count between two usable frames
_RESTING = 8  # frames that tell where a person's straight ahead is
_NEARLY_AHEAD = {"yaw": 15.0, "pitch": 25.0}  # degrees: a camera stands beside, above or below the screen
_STRAIGHT = 12.0  # degrees from straight ahead within which tilt and gaze are taken: turned heads hide an eye
_OPEN = 0.4  # of the opening at rest, below which eyes blink
_FAR = 0.15  # of the picture's width: a smaller face has too few pixels to learn from
_DARK = 70.0  # grey value that the brightest twentieth of a face should exceed, whatever the skin
_BLURRED = 0.13  # see ``sharpness``: 0.24 to 0.6 on seven filmed people, 0.06 to 0.16 on them blurred by 3 pixels
_SIDE = 128  # pixels of a face's width where its sharpness is measured
# Degrees across and up that need no mention: half a cell.
_NEAR = {"head": (5.0, 4.0), "tilt": (3.5, 90.0), "gaze": (6.0, 2.5)}
_DO = {"head": "Turn your head", "tilt": "Tilt your head", "gaze": "Keep your head still and look"}
_EVERY = 0.12  # seconds between two kept frames: of nearer ones each shows what the other does
_WELL_COVERED = 0.8  # of what is wanted, without what was given up
WRONG = {
    "no face": "No face to be seen: sit in front of the camera",
    "several faces": "Several faces: only one person may be in the picture",
    "face at the border": "Your face is cut off: move to the middle",
    "far": "Too far away: come closer",
    "dark": "Too dark: turn on a light, or turn towards the window",
    "blurred": "Blurred: move more slowly, or wipe the lens",
}
"""What is said of a frame that cannot be used, by the reason."""


@dataclass(frozen=True)
class Map:
    """Cells of two angles, counted from a person's straight ahead. The outermost reach as far as the angle goes.

    Attributes:
        across, up: names of the angles, as trackers and control spaces call them.
        columns, rows: (c,), (r,) the cells' middles in degrees, increasing.
        wanted: (r, c) bool, which cells are asked for: a head that is turned far cannot nod far.
    """

    across: str
    up: str
    columns: tuple[float, ...]
    rows: tuple[float, ...]
    wanted: NDArray[np.bool_]

    def cell(self, across: float, up: float) -> tuple[int, int]:
        """Row and column of two angles in degrees."""
        found = [
            int(np.searchsorted((np.array(middles)[1:] + middles[:-1]) / 2, value))
            for middles, value in ((self.rows, up), (self.columns, across))
        ]
        return found[0], found[1]

    def middle(self, cell: tuple[int, int]) -> tuple[float, float]:
        """Degrees across and up of a cell's middle."""
        return self.columns[cell[1]], self.rows[cell[0]]


def _ellipse(columns: tuple[float, ...], rows: tuple[float, ...]) -> NDArray[np.bool_]:
    across, up = np.meshgrid(np.array(columns) / 37, np.array(rows) / 22)
    return np.asarray(across**2 + up**2 <= 1)


_YAW, _PITCH = (-30.0, -20.0, -10.0, 0.0, 10.0, 20.0, 30.0), (-16.0, -8.0, 0.0, 8.0, 16.0)
MAPS: dict[str, Map] = {
    "head": Map("yaw", "pitch", _YAW, _PITCH, _ellipse(_YAW, _PITCH)),
    "tilt": Map("roll", "pitch", (-14.0, -7.0, 0.0, 7.0, 14.0), (0.0,), np.ones((1, 5), bool)),
    # as measured by landmarks, which understate a gaze up or down (docs/judges.md)
    "gaze": Map("gaze_yaw", "gaze_pitch", (-12.0, 0.0, 12.0), (-5.0, 0.0, 5.0), np.ones((3, 3), bool)),
}
"""What a recording shall show."""

_Place = tuple[str, tuple[int, int]]  # a map and a cell in it


@dataclass(frozen=True)
class Guidance:
    """What is said after a frame.

    Attributes:
        wrong: why the frame cannot be used, in words; empty if it can.
        kept: whether it belongs into the recording: usable, and not too soon after the last.
        say: what to do next; empty if something is wrong.
        angles: degrees from straight ahead: of each map across and up; empty before that is known.
        target: the map, row and column that is asked for.
        arrow: degrees across (+ to the image's right) and up from here to the target; None where there is none, or it
            is reached.
        counts: frames in each cell of each map, rows from below.
        most: frames that a cell shall have in the end.
        given_up: like the counts, 1 for a cell that is not asked for any more.
        share: how much of all that is wanted is there, 0 to 1.
        frames: kept ones so far.
        enough: whether a dataset can be made of what is there.
        done: whether it ends now.
    """

    wrong: str
    kept: bool
    say: str
    angles: dict[str, tuple[float, float]]
    target: tuple[str, int, int] | None
    arrow: tuple[float, float] | None
    counts: dict[str, list[list[int]]]
    most: int
    given_up: dict[str, list[list[int]]]
    share: float
    frames: int
    enough: bool
    done: bool


@dataclass
class Guide:
    """Guides one recording, frame by frame.

    Attributes:
        tracker: Face Landmarker, whose mesh tells the gaze.
    """

    tracker: Tracker
    frames: int = 0
    _counts: dict[str, NDArray[np.int64]] = field(
        default_factory=lambda: {name: np.zeros(each.wanted.shape, np.int64) for name, each in MAPS.items()}
    )
    _given_up: set[_Place] = field(default_factory=set)
    _resting: list[Mapping[str, float]] = field(default_factory=list)
    _rest: dict[str, float] | None = None
    _target: _Place | None = None
    _clock: float = 0.0  # seconds with a usable face
    _before: float | None = None  # when the last usable frame was
    _kept: float = -_EVERY  # on that clock: when a frame was kept last
    _asked: float = 0.0  # on that clock: when the target was chosen, or got its last frame

    def look(self, image: Image, time: float) -> Guidance:
        """Judge a frame, count it, and say what is missing.

        Args:
            image: (h, w, 3) RGB uint8, not mirrored.
            time: seconds, increasing from frame to frame.
        """
        faces = self.tracker(image)
        reason = why_unusable(faces, image) or why_poor(faces[0], image)
        if reason:
            return self._guidance(WRONG[reason], False, {})
        self._clock += min(time - self._before, _GAP) if self._before is not None else 0.0
        self._before = time
        angles = self._from_rest(face_columns(faces[0]))
        kept = self._clock - self._kept >= _EVERY
        if kept:
            self.frames, self._kept = self.frames + 1, self._clock
            self._count(angles)
        if angles:
            self._choose(angles)
        return self._guidance("", kept, angles)

    @property
    def well_covered(self) -> bool:
        """Whether nearly all that is wanted is there. If not, posed frames should be added (``datasets.widening``)."""
        return self._share(set()) >= _WELL_COVERED

    @property
    def _needed(self) -> int:
        """Frames that each cell shall have in this round."""
        for number in range(1, _ROUNDS):
            if self._missing(number * _EACH):
                return number * _EACH
        return _MOST

    def _missing(self, needed: int) -> list[_Place]:
        """Cells that are asked for and have fewer than the ``needed`` frames; the head's alone while it has any."""
        for name, each in MAPS.items():
            lacking = np.argwhere(each.wanted & (self._counts[name] < needed))
            places = [(name, (int(row), int(column))) for row, column in lacking]
            if left := [place for place in places if place not in self._given_up]:
                return left
        return []

    def _from_rest(self, seen: Mapping[str, float]) -> dict[str, tuple[float, float]]:
        """Degrees from this person's straight ahead, by map; empty while that is not known. Tilt and gaze are left out
        where the head is turned, the gaze also where the eyes blink."""
        if self._rest is None:
            if all(abs(seen[name]) < most for name, most in _NEARLY_AHEAD.items()):
                self._resting.append(seen)
            if len(self._resting) < _RESTING:
                return {}
            names = self._resting[0].keys()
            self._rest = {name: float(np.median([each[name] for each in self._resting])) for name in names}
        angles = {
            name: (seen[each.across] - self._rest[each.across], seen[each.up] - self._rest[each.up])
            for name, each in MAPS.items()
        }
        lids = min(seen[f"eye_opening_{side}"] / self._rest[f"eye_opening_{side}"] for side in ("left", "right"))
        if np.hypot(*angles["head"]) > _STRAIGHT:
            return {"head": angles["head"]}
        return angles if lids >= _OPEN else {name: angles[name] for name in ("head", "tilt")}

    def _count(self, angles: Mapping[str, tuple[float, float]]) -> None:
        """Count a frame in each map that still lacks it there."""
        needed = self._needed
        for name, pair in angles.items():
            cell = MAPS[name].cell(*pair)
            if MAPS[name].wanted[cell] and self._counts[name][cell] < needed:
                self._counts[name][cell] += 1
                self._given_up.discard((name, cell))
                if (name, cell) == self._target:
                    self._asked = self._clock

    def _choose(self, angles: Mapping[str, tuple[float, float]]) -> None:
        """The target: as before while it lacks frames and patience lasts, else the nearest cell that lacks any."""
        if self._target and self._clock - self._asked > _PATIENCE:
            self._given_up.add(self._target)
        missing = self._missing(self._needed)
        if self._target in missing:
            return
        self._asked = self._clock
        self._target = min(missing, key=lambda place: self._way(place, angles.get(place[0], (0.0, 0.0))), default=None)

    @staticmethod
    def _way(place: _Place, here: tuple[float, float]) -> float:
        """How far a cell is, in degrees."""
        there = MAPS[place[0]].middle(place[1])
        return float(np.hypot(there[0] - here[0], there[1] - here[1]))

    def _guidance(self, wrong: str, kept: bool, angles: dict[str, tuple[float, float]]) -> Guidance:
        arrow, say = (None, "") if wrong else self._instruction(angles)
        share, enough = self._share(self._given_up), self.frames >= FEWEST_FRAMES
        given_up = {
            name: [[int((name, (row, column)) in self._given_up) for column in range(wide)] for row in range(high)]
            for name, (high, wide) in ((name, each.wanted.shape) for name, each in MAPS.items())
        }
        return Guidance(
            wrong=wrong,
            kept=kept,
            say=say,
            angles=angles,
            target=(self._target[0], *self._target[1]) if self._target else None,
            arrow=arrow,
            counts={name: counts.tolist() for name, counts in self._counts.items()},
            most=_MOST,
            given_up=given_up,
            share=share,
            frames=self.frames,
            enough=enough,
            done=enough and (share >= 1 or self._clock >= LONGEST),
        )

    def _share(self, excused: set[_Place]) -> float:
        """How much of all that is wanted is there, 0 to 1; what is ``excused`` counts as there."""
        there = sum(float(self._counts[name][each.wanted].sum()) for name, each in MAPS.items())
        there += sum(_MOST - float(self._counts[name][cell]) for name, cell in excused)
        return there / (_MOST * sum(int(each.wanted.sum()) for each in MAPS.values()))

    def _instruction(self, angles: Mapping[str, tuple[float, float]]) -> tuple[tuple[float, float] | None, str]:
        """The way to the target, and what to do in words."""
        if self._rest is None:
            return None, "Look into the camera"
        if self._target is None:
            return None, "Done"
        name, cell = self._target
        if name not in angles:  # tilt or gaze cannot be taken
            across, up = angles["head"]
            blinks = np.hypot(across, up) <= _STRAIGHT
            return (None, "Open your eyes") if blinks else ((-across, -up), "Turn your head straight ahead again")
        if MAPS[name].cell(*angles[name]) == cell:
            return None, "Hold it there"
        (to_across, to_up), (at_across, at_up) = MAPS[name].middle(cell), angles[name]
        across, up = to_across - at_across, to_up - at_up
        return (across, up), f"{_DO[name]} {_direction(across, up, *_NEAR[name])}"


def why_poor(face: Face, image: Image) -> str | None:
    """Why the one face in a frame (h, w) or (h, w, 3) uint8 is nothing to learn from (a key of ``WRONG``), or None."""
    left, top, right, bottom = (max(0, round(edge)) for edge in face.box)
    if right - left < _FAR * image.shape[1]:
        return "far"
    skin = to_grey(image[top:bottom, left:right])
    if np.percentile(skin, 95) < _DARK:
        return "dark"
    return "blurred" if sharpness(skin) < _BLURRED else None


def sharpness(face: Image) -> float:
    """How much fine detail a grey face (h, w) uint8 has: the deviation of its Laplacian at a width of 128 pixels, over
    the deviation of its grey values, which takes out light and contrast."""
    height = max(1, round(_SIDE * face.shape[0] / face.shape[1]))
    small = cv2.resize(face, (_SIDE, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    return float(cv2.Laplacian(small, cv2.CV_32F).std() / max(float(small.std()), 1.0))


def consent_in_words(name: str, day: str) -> str:
    """The consent of a person by ``name``, as it is kept with the recording."""
    return f"{name}, before the camera on {day}: “{CONSENT}”"


def _direction(across: float, up: float, near_across: float, near_up: float) -> str:
    """A way in words, as the person sees it: the image's right is their left."""
    sideways = "" if abs(across) <= near_across else "left" if across > 0 else "right"
    upright = "" if abs(up) <= near_up else "up" if up > 0 else "down"
    return " and ".join(filter(None, (f"to the {sideways}" if sideways else "", upright)))
