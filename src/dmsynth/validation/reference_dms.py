"""The reference DMS: head, eyes and lids of one tracker, glance zones, and the timers of EU 2023/2590 and Euro NCAP.

It makes dmsynth usable without another DMS, and allows checking the verdicts; it is no product. It knows where in the
car its camera is (by default straight ahead: the camera's zero pose is the road), learns how this driver's eyes look
at rest, and warns 0.5 s before the regulation's limit. A head turned away counts as a look away, whatever the eyes do
in it: landmarks tell the eyes of a turned head too badly. In a head that points at the road the line of sight counts.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dmsynth.controls.pose import angles_from_matrix, rotation_matrix
from dmsynth.motion.eyes import line_of_sight
from dmsynth.support.errors import DmsynthError
from dmsynth.support.parallel import map_ordered
from dmsynth.support.version import __version__
from dmsynth.trackers import Tracker, open_tracker, why_unusable
from dmsynth.trackers.face import Face
from dmsynth.trackers.gaze import MESH_POINTS, eye_aspects, gaze_by_landmarks
from dmsynth.validation.protocol import Answer, Dms
from dmsynth.video import Frame, read_video


@dataclass(frozen=True)
class Zone:
    """A glance zone, by the head's yaw and pitch in degrees. ``driving``: looking there is part of driving."""

    name: str
    yaw: tuple[float, float]
    pitch: tuple[float, float]
    driving: bool = False

    def holds(self, yaw: float, pitch: float) -> bool:
        return self.yaw[0] <= yaw <= self.yaw[1] and self.pitch[0] <= pitch <= self.pitch[1]


# Left-hand drive, seen by a camera straight ahead: the driver's left is the image's right, yaw > 0.
ROAD = Zone("road", (-12, 12), (-9, 11), driving=True)
ELSEWHERE = Zone("elsewhere", (-180, 180), (-90, 90))
ZONES = (
    ROAD,
    Zone("driver's mirror", (16, 27), (-9, 6), driving=True),
    Zone("rear-view mirror", (-26, -14), (1, 14), driving=True),
    ELSEWHERE,
)
SIGHT = (Zone("road", (-8, 8), (-9, 9), driving=True), *ZONES[1:])
"""Likewise by the line of sight of eyes in a head that points at the road. The road is narrower than for a head,
because landmarks understate how far eyes turn (``docs/validate-a-dms.md``)."""
BACK = Zone("road", (-6, 6), (-6.5, 7), driving=True)
"""Eyes that were away must come back this far: their pitch is right to 3° only."""


@dataclass(frozen=True)
class Timers:
    """When to warn, in seconds.

    Attributes:
        limits: (from this speed in km/h, longest look away): EU 2023/2590 requires a warning within 3.5 s at 50 km/h
            and above, and within 6 s from 20 km/h; ``margin`` is subtracted.
        glances: total time of glances away from the driving task that causes a warning … (Euro NCAP, repeated short
            glances)
        within: … in this time window.
        back: time on the road that ends a look away, and a warning.
        memory: time for which the last zone is kept if no face is detected.
        delay: added to the limits.
        microsleep, asleep: time with closed eyes that causes a warning of drowsiness, and of sleep. Our choice: Euro
            NCAP's summaries call closures below 3 s a microsleep, and longer ones sleep.
        gone: time with closed eyes, or away from the road, after which the driver counts as unresponsive; and …
        answers: time after the beginning of a warning within which a driver looks back (both as in summaries of Euro
            NCAP's Safe Driving 10.4).
        perclos: share of the last minute with closed eyes that causes a warning of drowsiness. Our choice.
        blind: time without a face after which it tells that it cannot see. Our choice; Euro NCAP's limit is 10 s.
        sees: time for which a face must be found again without a gap before it can see. Our choice.
        awake_from: speed in km/h from which closed eyes cause warnings. Our choice.
    """

    limits: tuple[tuple[float, float], ...] = ((50, 3.5), (20, 6.0))
    margin: float = 0.5
    glances: float = 10.0
    within: float = 30.0
    back: float = 0.3
    memory: float = 0.5
    delay: float = 0.0
    microsleep: float = 1.0
    asleep: float = 3.0
    gone: float = 6.0
    answers: float = 3.0
    perclos: float = 0.15
    blind: float = 3.0
    sees: float = 0.3
    awake_from: float = 10.0

    def limit(self, speed: float) -> float:
        """The longest look away at ``speed`` km/h; infinite below the lowest speed with a limit."""
        for slowest, limit in self.limits:
            if speed >= slowest:
                return limit - self.margin + self.delay
        return float("inf")


@dataclass(frozen=True)
class SeenEyes:
    """The tracker's result for the eyes, not yet compared with this driver's rest.

    Attributes:
        pitch, yaw: how far they are turned in the head, degrees; any offset.
        aspect: height over width of the open part, mean of both eyes.
    """

    pitch: float
    yaw: float
    aspect: float


@dataclass(frozen=True)
class Seen:
    """The tracker's result for one frame: ``pose`` (pitch, yaw, roll; degrees), or None without a face; ``eyes``, or
    None if the tracker does not see them."""

    time: float
    pose: tuple[float, float, float] | None
    eyes: SeenEyes | None = None


_LIDS_SINK = 60.0  # degrees of pitch for lids that sink by the whole opening: they follow a falling eye …
_SINK_MOST = 4.0  # … degrees; lids that sink further are narrowed
_SHUT = 0.22  # a closed eye's aspect over that at rest: landmarks of the lids never meet
_NARROWED = 0.86  # of the opening at rest: below, the measured pitch is the lids'; looks 19° down leave 0.94
CLOSED_BELOW = 0.4  # of the opening at rest
_LEARNED = 1.0  # seconds that must be seen before eyes count
_REMEMBERS = 60.0  # seconds over which the rest is learned
_FACES_ROAD = 5.0  # degrees: a head turned less shows how the eyes look at rest
_MINUTE = 60.0
_STEADY = 0.3  # seconds over which a line of sight is judged, by the median


class _Rest:
    """How this driver's eyes look at rest: the median of the last minute's moments in which the head points at the
    road, and, as soon as a second is known, only of those with open eyes that look there, too."""

    def __init__(self) -> None:
        self._moments: deque[tuple[float, float, float, float]] = deque()  # time, pitch, yaw, aspect
        self._median: NDArray[np.float64] | None = None
        self._due = 0.0

    def look(self, now: float, pose: tuple[float, float, float], eyes: SeenEyes) -> tuple[float, float, float] | None:
        """The line of sight in the camera's frame (pitch, yaw; degrees) and the opening (1 at rest); None before the
        rest is known."""
        pitch, yaw, roll = pose
        found = None
        if self._median is not None:
            rest_pitch, rest_yaw, aspect = self._median
            opening = float(np.clip((eyes.aspect / aspect - _SHUT) / (1 - _SHUT), 0, 2))
            sunk = float(np.clip(_LIDS_SINK * (1 - opening), 0, _SINK_MOST))
            head = rotation_matrix(pitch, yaw, roll)
            at_yaw, at_pitch = line_of_sight(head, eyes.yaw - rest_yaw, eyes.pitch - rest_pitch - sunk)
            found = float(at_pitch), float(at_yaw), opening
        usual = found is None or (SIGHT[0].holds(found[1], found[0]) and found[2] > 0.7)
        if max(abs(pitch), abs(yaw)) < _FACES_ROAD and usual:
            # the eyes look at the road: what the head is turned they are turned back
            self._moments.append((now, eyes.pitch + pitch, eyes.yaw + yaw, eyes.aspect))
            while self._moments[0][0] < now - _REMEMBERS:
                self._moments.popleft()
            if now >= self._due and now - self._moments[0][0] >= _LEARNED:
                self._median = np.median(np.array(self._moments)[:, 1:], axis=0)
                self._due = now + (0.2 if len(self._moments) < 100 else 1.0)
        return found


class _Sight:
    """The zone in which the eyes rest."""

    def __init__(self) -> None:
        self._last: deque[tuple[float, float, float]] = deque()  # time, pitch, yaw
        self._zone = SIGHT[0]

    def zone(self, now: float, pitch: float, yaw: float) -> Zone:
        """The zone of a line of sight (degrees) at ``now`` (seconds)."""
        self._last.append((now, pitch, yaw))
        while self._last[0][0] < now - _STEADY:
            self._last.popleft()
        _, pitch, yaw = np.median(np.array(self._last), axis=0).tolist()
        found = next(z for z in SIGHT if z.holds(yaw, pitch))
        if self._zone is SIGHT[0] or found is not SIGHT[0] or BACK.holds(yaw, pitch):
            self._zone = found
        return self._zone


class _Lids:
    """Closed eyes: how long they have been, and which share of the last minute."""

    def __init__(self) -> None:
        self.since: float | None = None
        self._parts: deque[tuple[float, float]] = deque()
        self._sum = 0.0
        self._drowsy = False

    def see(self, now: float, step: float, closed: bool, open_: bool) -> None:
        """``closed`` and ``open_`` are both false if the eyes are not seen: then nothing changes."""
        if closed:
            self.since = now if self.since is None else self.since
            self._parts.append((now, step))
            self._sum += step
        elif open_:
            self.since = None
        while self._parts and self._parts[0][0] < now - _MINUTE:
            self._sum -= self._parts.popleft()[1]

    def kind(self, now: float, timers: Timers) -> str | None:
        """The warning that they call for."""
        shut = 0.0 if self.since is None else now - self.since - timers.delay + 1e-6
        share = self._sum / _MINUTE
        # a share that sways about the limit is one warning
        self._drowsy = share >= timers.perclos * (0.8 if self._drowsy else 1.0)
        if shut >= timers.asleep:
            return "unresponsive" if shut >= timers.gone else "sleep"
        return "drowsiness" if shut >= timers.microsleep or self._drowsy else None


class _View:
    """Whether it can see: it cannot after a time without a face; a face found in single frames is none."""

    def __init__(self) -> None:
        self._since: float | None = None  # when the present face was found
        self._last = 0.0  # when it last could see

    def blind(self, now: float, found: bool, timers: Timers) -> bool:
        if not found:
            self._since = None
        else:
            self._since = now if self._since is None else self._since
            if now - self._since >= timers.sees - 1e-6:
                self._last = now
        return now - self._last >= timers.blind - 1e-6


def warn(seen: Iterable[Seen], speed: float, timers: Timers) -> Iterator[Answer]:
    """The warning policy: from what a tracker sees to answers. The gravest kind of warning counts: unresponsive, sleep,
    drowsiness, distraction."""
    limit = timers.limit(speed)
    glances: deque[tuple[float, float]] = deque()  # end and length of each part of a glance away from driving
    zone, known, before = ROAD, 0.0, 0.0
    left: float | None = None  # when the look away began
    returned: float | None = None  # when the driver looked back at the road
    warned: float | None = None  # when the present warning of distraction began
    rest, sight, lids, view = _Rest(), _Sight(), _Lids(), _View()
    for moment in seen:
        now, step = moment.time, moment.time - before
        before, look = now, None
        closed = opened = False
        if moment.pose is not None:
            pitch, yaw, _ = moment.pose
            look = None if moment.eyes is None else rest.look(now, moment.pose, moment.eyes)
            closed = look is not None and look[2] < CLOSED_BELOW
            opened = not closed
            if not closed:  # closed eyes look nowhere
                zone, known = next(z for z in ZONES if z.holds(yaw, pitch)), now
                # the landmarks of narrow eyes sink with the lids
                if zone is ROAD and look is not None:
                    zone = sight.zone(now, look[0] if look[2] > _NARROWED else 0.0, look[1])
        elif now - known > timers.memory:
            zone, opened = ROAD, True  # no face: no warning
        lids.see(now, step, closed, opened)
        if zone.name == ROAD.name:
            returned = now if returned is None else returned
            if now - returned >= timers.back:
                if warned is not None:
                    glances.clear()
                left, warned = None, None
        else:
            returned = None
            left = now if left is None else left
            if not zone.driving:
                glances.append((now, step))
            while glances and glances[0][0] < now - timers.within:
                glances.popleft()
            shared = limit < float("inf") and sum(length for _, length in glances) >= timers.glances
            if warned is None and (now - left >= limit - 1e-6 or (shared and not zone.driving)):
                warned = now
        kind = lids.kind(now, timers) if speed >= timers.awake_from else None
        if warned is not None and kind != "unresponsive":
            away = 0.0 if left is None else now - left
            kind = "unresponsive" if max(now - warned - timers.answers, away - timers.gone) >= -1e-6 else kind
            kind = kind or "distraction"
        values = dict(zip(("pitch", "yaw", "roll"), moment.pose, strict=True)) if moment.pose else {}
        if look is not None:
            values |= {"eye_opening": round(look[2], 4)}
            values |= {} if closed else {"gaze_pitch": look[0], "gaze_yaw": look[1]}
        blind = view.blind(now, moment.pose is not None, timers)
        yield Answer(now, warning=kind is not None, warning_kind=kind, unavailable=blind, **values)


_DEGREES = 80.0  # of pitch a unit of the blend shapes' "gaze_y": measured on the portrait's eyes from -20° to 20°
_PITCHED = 0.8  # degrees by which it falls a degree of the head's pitch, measured likewise


def eyes_of(face: Face) -> SeenEyes | None:
    """The eyes of a tracked face; None if its tracker has no landmarks of the irises.

    Yaw is from the irises' landmarks. They follow a pitching eye by a fifth only; so pitch is from the blend shapes
    "eyeLookUp" and "eyeLookDown" where the tracker has them.
    """
    if len(face.landmarks) != MESH_POINTS:
        return None
    gaze = gaze_by_landmarks(face)
    pitch = gaze.gaze_pitch
    if "gaze_y" in face.expression:
        pitch = _DEGREES * face.expression["gaze_y"] + _PITCHED * face.pose["pitch"]
    return SeenEyes(pitch, gaze.gaze_yaw, float(eye_aspects(face).mean()))


class ReferenceDms:
    """Tracker, zones and timers. ``noise`` (degrees, standard deviation) is added to the tracker's pose.

    ``place``: pitch, yaw and roll of the camera in the car (``camera.Place``). Zones are the car's; answers are as the
    camera sees it.
    """

    def __init__(
        self,
        tracker: Tracker,
        timers: Timers | None = None,
        noise: float = 0.0,
        place: tuple[float, float, float] = (0.0, 0.0, 0.0),
    ) -> None:
        self.tracker = tracker
        self._place = rotation_matrix(*place)
        self.timers = timers or Timers()
        self.noise = noise
        self.name = f"reference DMS {__version__}, {tracker.name}"
        if self.timers.delay:
            self.name += f", {self.timers.delay:g} s slower"
        if noise:
            self.name += f", {noise:g}° of noise"

    @staticmethod
    def from_options(options: Mapping[str, str]) -> Dms:
        """Options: ``tracker``, ``tracker-model``, ``delay`` (s), ``noise`` (°), ``place`` (pitch, yaw, roll in °)."""
        given = dict(options)
        model = given.pop("tracker-model", None)
        tracker = open_tracker(given.pop("tracker", "auto"), Path(model) if model else None)
        numbers = {name: _number(name, given.pop(name, "0")) for name in ("delay", "noise")}
        place = _angles(given.pop("place", "0,0,0"))
        if given:
            raise DmsynthError(
                f"--dms-option {next(iter(given))}: the reference DMS has tracker, tracker-model, delay, noise, place"
            )
        return ReferenceDms(tracker, Timers(delay=numbers["delay"]), numbers["noise"], place)

    def __call__(self, video: Path, speed: float) -> Iterator[Answer]:
        seed = hashlib.sha256(f"{video.name} {self.noise}".encode()).digest()[:8]
        random = np.random.default_rng(int.from_bytes(seed, "big"))

        def look(frame: Frame) -> Seen:
            faces = self.tracker(frame.image)
            if why_unusable(faces, frame.image):
                return Seen(frame.time, None)
            pitch, yaw, roll = map(float, angles_from_matrix(self._place @ faces[0].rotation))
            return Seen(frame.time, (pitch, yaw, roll), eyes_of(faces[0]))

        def noisy(moment: Seen) -> Seen:
            if moment.pose is None or not self.noise:
                return moment
            pitch, yaw, roll = (float(angle) for angle in moment.pose + random.normal(0, self.noise, 3))
            return replace(moment, pose=(pitch, yaw, roll))

        return map(self._as_seen, warn(map(noisy, map_ordered(look, read_video(video))), speed, self.timers))

    def _as_seen(self, answer: Answer) -> Answer:
        """An answer about the car's frame as one about the camera's."""
        if answer.pitch is None or answer.yaw is None or answer.roll is None:
            return answer
        head = self._place.T @ rotation_matrix(answer.pitch, answer.yaw, answer.roll)
        pitch, yaw, roll = map(float, angles_from_matrix(head))
        seen = replace(answer, pitch=pitch, yaw=yaw, roll=roll)
        if answer.gaze_pitch is None or answer.gaze_yaw is None:
            return seen
        look = self._place.T @ rotation_matrix(answer.gaze_pitch, answer.gaze_yaw, 0.0)
        pitch, yaw, _ = map(float, angles_from_matrix(look))
        return replace(seen, gaze_pitch=pitch, gaze_yaw=yaw)


def _angles(text: str) -> tuple[float, float, float]:
    try:
        pitch, yaw, roll = (float(part) for part in text.split(","))
    except ValueError:
        pitch = yaw = roll = float("nan")
    if not max(abs(pitch), abs(yaw), abs(roll)) < 90:
        raise DmsynthError(f"--dms-option place={text}: give PITCH,YAW,ROLL of the camera in degrees, such as -12,0,0")
    return pitch, yaw, roll


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 100:
        raise DmsynthError(f"--dms-option {name}={text}: give a number from 0 to 100")
    return value
