"""The reference DMS: a head tracker, glance zones and the timers of EU 2023/2590 and of Euro NCAP.

It makes dmsynth usable without another DMS, and allows checking the verdicts; it is no product. It assumes that the
camera's zero pose is the road ahead, uses head pose but not gaze, and warns 0.5 s before the regulation's limit.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dmsynth.support.errors import DmsynthError
from dmsynth.support.parallel import map_ordered
from dmsynth.support.version import __version__
from dmsynth.trackers import Tracker, open_tracker, why_unusable
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
    """

    limits: tuple[tuple[float, float], ...] = ((50, 3.5), (20, 6.0))
    margin: float = 0.5
    glances: float = 10.0
    within: float = 30.0
    back: float = 0.3
    memory: float = 0.5
    delay: float = 0.0

    def limit(self, speed: float) -> float:
        """The longest look away at ``speed`` km/h; infinite below the lowest speed with a limit."""
        for slowest, limit in self.limits:
            if speed >= slowest:
                return limit - self.margin + self.delay
        return float("inf")


@dataclass(frozen=True)
class Seen:
    """The tracker's result for one frame: ``pose`` (pitch, yaw, roll; degrees), or None without a face."""

    time: float
    pose: tuple[float, float, float] | None


def warn(seen: Iterable[Seen], speed: float, timers: Timers) -> Iterator[Answer]:
    """The warning policy: from poses to answers."""
    limit = timers.limit(speed)
    glances: deque[tuple[float, float]] = deque()  # end and length of each part of a glance away from driving
    zone, known, before = ROAD, 0.0, 0.0
    left: float | None = None  # when the look away began
    returned: float | None = None  # when the driver looked back at the road
    warning = False
    for moment in seen:
        now, step = moment.time, moment.time - before
        before = now
        if moment.pose is not None:
            pitch, yaw, _ = moment.pose
            zone, known = next(z for z in ZONES if z.holds(yaw, pitch)), now
        elif now - known > timers.memory:
            zone = ROAD  # no face: no warning
        if zone is ROAD:
            returned = now if returned is None else returned
            if now - returned >= timers.back:
                if warning:
                    glances.clear()
                left, warning = None, False
        else:
            returned = None
            left = now if left is None else left
            if not zone.driving:
                glances.append((now, step))
            while glances and glances[0][0] < now - timers.within:
                glances.popleft()
            shared = limit < float("inf") and sum(length for _, length in glances) >= timers.glances
            warning = warning or now - left >= limit - 1e-6 or (shared and not zone.driving)
        angles = dict(zip(("pitch", "yaw", "roll"), moment.pose, strict=True)) if moment.pose else {}
        yield Answer(now, warning=warning, **angles)


class ReferenceDms:
    """Tracker, zones and timers. ``noise`` (degrees, standard deviation) is added to the tracker's pose."""

    def __init__(self, tracker: Tracker, timers: Timers | None = None, noise: float = 0.0) -> None:
        self.tracker = tracker
        self.timers = timers or Timers()
        self.noise = noise
        self.name = f"reference DMS {__version__}, {tracker.name}"
        if self.timers.delay:
            self.name += f", {self.timers.delay:g} s slower"
        if noise:
            self.name += f", {noise:g}° of noise"

    @staticmethod
    def from_options(options: Mapping[str, str]) -> Dms:
        """Options: ``tracker``, ``tracker-model``, ``delay`` (s), ``noise`` (°)."""
        given = dict(options)
        model = given.pop("tracker-model", None)
        tracker = open_tracker(given.pop("tracker", "auto"), Path(model) if model else None)
        numbers = {name: _number(name, given.pop(name, "0")) for name in ("delay", "noise")}
        if given:
            raise DmsynthError(
                f"--dms-option {next(iter(given))}: the reference DMS has tracker, tracker-model, delay and noise"
            )
        return ReferenceDms(tracker, Timers(delay=numbers["delay"]), numbers["noise"])

    def __call__(self, video: Path, speed: float) -> Iterator[Answer]:
        seed = hashlib.sha256(f"{video.name} {self.noise}".encode()).digest()[:8]
        random = np.random.default_rng(int.from_bytes(seed, "big"))

        def look(frame: Frame) -> Seen:
            faces = self.tracker(frame.image)
            if why_unusable(faces, frame.image):
                return Seen(frame.time, None)
            pose = faces[0].pose
            return Seen(frame.time, (pose["pitch"], pose["yaw"], pose["roll"]))

        def noisy(moment: Seen) -> Seen:
            if moment.pose is None or not self.noise:
                return moment
            pitch, yaw, roll = (float(angle) for angle in moment.pose + random.normal(0, self.noise, 3))
            return Seen(moment.time, (pitch, yaw, roll))

        return warn(map(noisy, map_ordered(look, read_video(video))), speed, self.timers)


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 100:
        raise DmsynthError(f"--dms-option {name}={text}: give a number from 0 to 100")
    return value
