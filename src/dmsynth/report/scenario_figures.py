"""A scenario as a figure and as text: the command, and when a warning is expected."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from numpy.typing import NDArray

from dmsynth.motion.eyes import CLOSED
from dmsynth.motion.trajectory import Trajectory
from dmsynth.report.figures import STYLE, save
from dmsynth.validation.scenarios import Scenario
from dmsynth.validation.verdicts import AXES, commands

_COLOURS = {
    "pitch": "#e4572e", "yaw": "#1f4e79", "roll": "#76a646", "line of sight, pitch": "#f3a48e",
    "line of sight, yaw": "#7aa5cc",
}  # fmt: skip
_SHORT = {"line of sight, pitch": "look up", "line of sight, yaw": "look side"}
_EXPECTED, _OUTSIDE = "#f2b134", "#d9d9d9"
_LEVELS = 9  # lines of a curve in text


def draw_scenario(scenario: Scenario, path: Path, covered: NDArray[np.bool_] | None = None) -> None:
    """Angles over time with the windows in which a warning has to begin; grey: outside the face's coverage."""
    motion = scenario.trajectory()
    angles, opening = _angles(motion)
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(9, 3.4))
        for name, values in angles.items():
            axis.plot(motion.times, values, color=_COLOURS[name], linewidth=1.6, label=name)
        if opening is not None and opening.min() <= CLOSED:
            axis.fill_between(
                motion.times, 0, 0.03, where=opening <= CLOSED, transform=axis.get_xaxis_transform(),
                color="#444444", linewidth=0, label="eyes closed",
            )  # fmt: skip
        for number, window in enumerate(scenario.windows):
            since = scenario.marks[window.since]
            axis.axvspan(
                since + window.earliest, since + window.latest, color=_EXPECTED, alpha=0.35, linewidth=0,
                label=None if number else "warning expected",
            )  # fmt: skip
        if covered is not None and not covered.all():
            low, high = axis.get_ylim()
            axis.fill_between(
                motion.times, low, high, where=~covered, color=_OUTSIDE, alpha=0.6, linewidth=0,
                label="outside the face's coverage", zorder=0,
            )  # fmt: skip
            axis.set_ylim(low, high)
        for name, time in scenario.marks.items():
            if "." not in name:
                axis.axvline(time, color="#999999", linewidth=0.7, linestyle=":")
                axis.annotate(
                    name, (time, 1), xycoords=("data", "axes fraction"), xytext=(2, -9), textcoords="offset points",
                    fontsize=7.5, color="#666666",
                )  # fmt: skip
        axis.set_xlim(0, scenario.seconds)
        axis.set_xlabel("seconds")
        axis.set_ylabel("degrees")
        figure.suptitle(f"{scenario.title} ({scenario.speed:g} km/h)", x=0.01, y=1.03, ha="left", fontsize=10)
        axis.legend(frameon=False, ncols=5, loc="lower left", bbox_to_anchor=(0, 1), fontsize=8)
        save(figure, path)


def scenario_in_text(scenario: Scenario, width: int = 72) -> list[str]:
    """The scenario as lines of text ``width`` wide: one curve for each angle that moves, then the windows."""
    motion = scenario.trajectory()
    angles, opening = _angles(motion)
    columns = np.linspace(0, len(motion) - 1, min(width, len(motion))).round().astype(int)
    lines = []
    for name, whole in angles.items():
        values = whole[columns]
        low, high = np.floor(min(values.min(), 0)), np.ceil(max(values.max(), 0))
        if high - low < 5:
            continue
        level = np.round((values - low) / (high - low) * (_LEVELS - 1)).astype(int)
        for row in reversed(range(_LEVELS)):
            label = (
                f"{_SHORT.get(name, name)} {high:+.0f}°" if row == _LEVELS - 1 else f"{low:+.0f}°" if row == 0 else ""
            )
            lines.append(f"{label:>12} │" + "".join("•" if at == row else " " for at in level).rstrip())
    if opening is not None:
        edges = [*columns, len(motion)]
        narrowest = [opening[a : max(b, a + 1)].min() for a, b in pairwise(edges)]
        marks = ("─" if least <= CLOSED else "◦" if least < 0.8 else "●" for least in narrowest)
        lines.append(f"{'eyes':>12} │" + "".join(marks))
    seconds = motion.times[columns]
    expected = np.zeros(len(columns), dtype=bool)
    for window in scenario.windows:
        since = scenario.marks[window.since]
        expected |= (seconds >= since + window.earliest) & (seconds <= since + window.latest)
    lines.append(f"{'warning':>12} │" + "".join("█" if here else "·" for here in expected))
    lines.append(f"{'seconds':>12} │0" + f"{scenario.seconds:g}".rjust(len(columns) - 1))
    return lines


def _angles(motion: Trajectory) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.float64] | None]:
    """What is drawn, each (n,): the head's angles and, if the eyes move, the line of sight, in degrees; and the eyes'
    opening."""
    wanted = commands(motion.table())
    angles = {axis: wanted[axis] for axis in AXES}
    if "eye_opening" in wanted:
        angles["line of sight, pitch"], angles["line of sight, yaw"] = wanted["gaze_pitch"], wanted["gaze_yaw"]
    return angles, wanted.get("eye_opening")
