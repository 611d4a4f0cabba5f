"""A box under test, simulated: it sees a play, and logs what it would by a clock of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dmsynth.playing.marks import patch_is_white
from dmsynth.playing.player import COMMANDS, Play
from dmsynth.validation.scenario_files import find_scenarios

LEAD = 3.0


class Simulated:
    """A clock that waits in no time."""

    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        return self.time

    def sleep_until(self, moment: float) -> None:
        self.time = max(self.time, moment)


def log_of_play(names: Sequence[str], rate: float = 25.0, seed: int = 0) -> pd.DataFrame:
    """The log of a play of scenarios that kept time but for two milliseconds."""
    random, played, begins = np.random.default_rng(seed), Play(), 0.0
    for scenario in find_scenarios(list(names)):
        motion = scenario.trajectory()
        for frame in range(-round(LEAD * rate), int(scenario.seconds * rate)):
            time = frame / rate
            shown = {n: np.interp(time, motion.times, motion[n]) for n in motion.names if n in COMMANDS}
            planned = begins + LEAD + time
            real = planned + random.uniform(0, 0.004)
            played.rows.append({
                "person": "", "clip": scenario.name, "frame": max(frame, -1), "time": time, "number": len(played.rows),
                "planned": planned, "real": real, "unix": 1.8e9 + real, "late": False, "dropped": False, **shown,
            })  # fmt: skip
        begins += LEAD + scenario.seconds
    return played.table()


@dataclass(frozen=True)
class Box:
    """A DMS with a delay, noise, and a clock that starts anywhere and drifts.

    Attributes:
        delay, jitter: seconds from a frame to its answer: mean and standard deviation.
        drift: of its clock, such as 50e-6. ``ahead``: its clock at the play's beginning, seconds.
        noise: of its angles, degrees. ``rate``: answers a second.
    """

    delay: float = 0.12
    jitter: float = 0.03
    drift: float = 50e-6
    ahead: float = 4321.0
    noise: float = 1.0
    rate: float = 15.0
    seed: int = 0

    def clock(self, real: NDArray[np.float64]) -> NDArray[np.float64]:
        """What its clock shows at play times (n,)."""
        return self.ahead + real * (1 + self.drift)

    def pictures(self, play: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """When its camera takes a picture, by play time (n,), regular by its own clock; and in which row of the play
        the frame is that it sees (n,)."""
        real = play["real"].to_numpy()
        seen = np.arange(real[0] + 0.01, real[-1], 1 / (self.rate * (1 + self.drift)))
        return seen, np.searchsorted(real, seen, side="right") - 1

    def film(self, play: pd.DataFrame) -> pd.DataFrame:
        """The numbers in its recording, as ``read_marks`` gives them."""
        seen, frame = self.pictures(play)
        times = self.clock(seen)
        return pd.DataFrame({
            "frame": np.arange(len(seen)), "time": times - times[0], "code": play["number"].to_numpy()[frame],
        })  # fmt: skip

    def log(self, play: pd.DataFrame) -> pd.DataFrame:
        """Its log: ``t`` by its own clock, ``yaw``, ``pitch``, ``alarm``, number of the ``picture``, ``code`` in it,
        and ``photo``, of a sensor on the patch at the moment of the entry; and, for the test alone, ``emitted``, the
        play time of each."""
        random = np.random.default_rng(self.seed)
        real = play["real"].to_numpy()
        seen, frame = self.pictures(play)
        emitted = np.sort(seen + np.maximum(random.normal(self.delay, self.jitter, len(seen)), 0.005))
        yaw, pitch = (play[name].to_numpy()[frame] for name in ("yaw", "pitch"))
        away = pd.Series(np.abs(yaw) > 20)
        alarm = away.rolling(int(2.5 * self.rate), min_periods=1).min().astype(bool) & (seen > 3)
        now = np.clip(np.searchsorted(real, emitted, side="right") - 1, 0, None)
        white = patch_is_white(play["number"].to_numpy(int)[now])
        return pd.DataFrame({
            "t": self.clock(emitted), "yaw": yaw + random.normal(0, self.noise, len(seen)),
            "pitch": pitch + random.normal(0, self.noise, len(seen)), "alarm": alarm.to_numpy(int),
            "picture": np.arange(len(seen)), "code": play["number"].to_numpy()[frame],
            "photo": 0.2 + 0.6 * white + random.normal(0, 0.05, len(seen)),
            "emitted": emitted,
        })  # fmt: skip
