"""openpilot's driver monitoring as a DMS under test: its network (``trackers/openpilot.py``) and its warning policy.

The policy is that of the car with nobody touching the wheel: looking away uses up an attention budget, looking at the
road restores it, and three alerts are given as it runs out. While no face is detected, a second, slower budget is used.
Timers and filter are those of openpilot 0.8.9 (selfdrive/monitoring/driver_monitor.py, MIT licence).

Inputs that a car has and a video has not: steering touches (none here), the driving model's uncertainty (thresholds
keep their strict values), and the minutes before. The neutral pose starts at the camera's zero pose, or at the option
``neutral``, as if it had been learned for a minute, and is updated from there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dmsynth.support.errors import DmsynthError
from dmsynth.support.parallel import map_ordered
from dmsynth.trackers import Face, Tracker, open_tracker
from dmsynth.trackers.openpilot import find_model, release_of
from dmsynth.validation.protocol import Answer, Dms
from dmsynth.video import Frame, read_video

LEVELS = ("first", "prompt", "last")


@dataclass(frozen=True)
class Policy:
    """A release's warning policy. Angles in degrees, times in seconds.

    Attributes:
        threshold: distance from the neutral pose that counts as distracted; pitch is multiplied by ``pitch_weight``.
        both_axes: whether the distance combines both axes (Euclidean), or takes the larger one.
        up_allowance: looking up by this much does not count; infinite: never.
        spread: if the standard deviation of pitch or yaw is larger, the network is not trusted.
        blink, eye, sunglasses: probabilities: closed eyes count above ``blink``, if the eyes are visible above ``eye``
            and the sunglasses below ``sunglasses``.
        budget: time from full attention to the last alert; how long before that the first alert and the prompt come.
        unseen: the same three while no face is detected.
        filter: time constant of the first-order filter on "distracted"; ``attentive`` and ``certain`` are its
            thresholds.
        recovery: how much faster attention recovers than it decreases, when it is full and when it is used up.
        learn_speed, known: the neutral pose is learned above this speed (km/h), starting as if learned for ``known``.
        memory: the neutral pose is a mean over at most this time.
    """

    threshold: float
    both_axes: bool
    up_allowance: float
    spread: float
    blink: float
    eye: float
    sunglasses: float
    pitch_weight: float = 1.35
    budget: tuple[float, float, float] = (11.0, 8.0, 6.0)
    unseen: tuple[float, float, float] = (35.0, 12.0, 6.0)
    filter: float = 0.25
    attentive: float = 0.37
    certain: float = 0.63
    recovery: tuple[float, float] = (1.25, 5.0)
    learn_speed: float = 13 * 3.6
    known: float = 60.0
    memory: float = 360.0


# The timers of looking away and the filter are 0.8.9's. All other values are from sources published around the two
# releases, converted from radians; their exact assignment to a release was not verified.
POLICIES: dict[str, Policy] = {
    "0.8.5": Policy(
        threshold=math.degrees(0.4), both_axes=True, up_allowance=math.degrees(0.12), spread=math.degrees(0.14),
        blink=0.6, eye=0.5, sunglasses=0.5,
    ),
    "0.8.9": Policy(
        threshold=math.degrees(0.48), both_axes=False, up_allowance=math.inf, spread=math.degrees(0.2),
        blink=0.811, eye=0.75, sunglasses=0.888,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """The network's output for one frame; ``face`` None: no face detected."""

    time: float
    face: Face | None


class _Neutral:
    """The driver's own neutral pitch and yaw in degrees, learned as a running mean with limited memory."""

    def __init__(self, policy: Policy, pitch: float, yaw: float) -> None:
        self.pitch, self.yaw, self._seconds, self._memory = pitch, yaw, policy.known, policy.memory

    def learn(self, pose: Mapping[str, float], step: float) -> None:
        self._seconds = min(self._seconds + step, self._memory)
        share = step / self._seconds if self._seconds else 1.0
        self.pitch += share * (pose["pitch"] - self.pitch)
        self.yaw += share * (pose["yaw"] - self.yaw)


def is_distracted(face: Face, policy: Policy, neutral_pitch: float, neutral_yaw: float) -> bool:
    """Whether pose or closed eyes count as distracted."""
    pitch, yaw = face.pose["pitch"] - neutral_pitch, abs(face.pose["yaw"] - neutral_yaw)
    pitch = policy.pitch_weight * (max(pitch - policy.up_allowance, 0.0) if pitch > 0 else -pitch)
    away = math.hypot(pitch, yaw) if policy.both_axes else max(pitch, yaw)
    reports = face.reports
    shut = sum(
        face.expression[f"blink_{side}"]
        * (reports[f"eye_{side}"] > policy.eye)
        * (reports["sunglasses"] < policy.sunglasses)
        for side in ("left", "right")
    )
    return away > policy.threshold or shut / 2 > policy.blink


def warn(
    seen: Iterable[Seen], speed: float, policy: Policy, level: str = "first", neutral: tuple[float, float] = (0.0, 0.0)
) -> Iterator[Answer]:
    """The warning policy: from faces to answers. ``neutral`` is the pitch and yaw that it begins with."""
    learned = _Neutral(policy, *neutral)
    left = {"seen": 1.0, "unseen": 1.0}  # of each budget
    budgets = {"seen": policy.budget, "unseen": policy.unseen}
    filtered, mode, before = 0.0, "seen", 0.0
    for moment in seen:
        face, step = moment.face, max(moment.time - before, 0.0)
        before = moment.time
        spread = max(face.reports["pitch_spread"], face.reports["yaw_spread"]) if face else math.inf
        trusted = spread < policy.spread
        away = face is not None and trusted and is_distracted(face, policy, learned.pitch, learned.yaw)
        filtered += step / (policy.filter + step) * (away - filtered)
        if face is not None and trusted and not away and speed > policy.learn_speed:
            learned.learn(face.pose, step)
        prompted = mode == "seen" and left["seen"] <= policy.budget[2] / policy.budget[0]
        if not prompted:  # once prompted, a hidden face does not reset the mode
            mode = "seen" if face is not None else "unseen"
        total = budgets[mode][0]
        if face is not None and trusted and filtered < policy.attentive:
            slow, fast = policy.recovery
            if left[mode] > 0:  # after the last alert attention does not recover
                left[mode] = min(1.0, left[mode] + (slow + (fast - slow) * (1 - left[mode])) * step / total)
            if left[mode] == 1.0:
                left["unseen"] = min(1.0, left["unseen"] + step / total)
        elif (away and filtered > policy.certain) or (face is None and not prompted):
            left[mode] = max(0.0, left[mode] - step / total)
        begins = dict(zip(LEVELS, (budgets[mode][1], budgets[mode][2], 0.0), strict=True))[level]
        warning = left[mode] <= begins / total + 1e-9
        yield Answer(moment.time, warning=warning, warning_kind=None, **(face.pose if face else {}))


class OpenpilotDms:
    """Network and policy of one release. ``level``: which of the three alerts counts as the warning."""

    def __init__(
        self, tracker: Tracker, policy: Policy, level: str = "first", neutral: tuple[float, float] = (0.0, 0.0)
    ) -> None:
        self.tracker, self.policy, self.level, self.neutral = tracker, policy, level, neutral
        self.name = tracker.name + ("" if level == "first" else f", {level} alert")

    @staticmethod
    def from_options(options: Mapping[str, str]) -> Dms:
        """Options: ``model`` (file), ``policy`` (a release; by default the network's own), ``level``, ``neutral``
        (pitch,yaw in degrees). ``DmsynthError`` for any other option."""
        given = dict(options)
        named = given.pop("model", None)
        path = find_model(Path(named) if named else None)
        release = given.pop("policy", None) or release_of(path).name
        if release not in POLICIES:
            raise DmsynthError(f"--dms-option policy: {release} has no known policy; give {_or(POLICIES)}")
        level = given.pop("level", "first")
        if level not in LEVELS:
            raise DmsynthError(f"--dms-option level={level}: give {_or(LEVELS)}")
        neutral = _two_numbers(given.pop("neutral", "0,0"))
        if given:
            raise DmsynthError(f"--dms-option {next(iter(given))}: openpilot has model, policy, level and neutral")
        return OpenpilotDms(open_tracker("openpilot", path), POLICIES[release], level, neutral)

    def __call__(self, video: Path, speed: float) -> Iterator[Answer]:
        def look(frame: Frame) -> Seen:
            faces = self.tracker(frame.image)
            return Seen(frame.time, faces[0] if faces else None)

        return warn(map_ordered(look, read_video(video)), speed, self.policy, self.level, self.neutral)


def _or(names: Iterable[str]) -> str:
    return " or ".join(names)


def _two_numbers(text: str) -> tuple[float, float]:
    try:
        pitch, yaw = (float(part) for part in text.split(","))
    except ValueError:
        pitch = yaw = math.nan
    if not (abs(pitch) < 90 and abs(yaw) < 90):
        raise DmsynthError(f"--dms-option neutral={text}: give PITCH,YAW in degrees, such as -5,2")
    return pitch, yaw
