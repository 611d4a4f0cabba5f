"""A scenario as a figure and as text: the command, and when a warning is expected."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from numpy.typing import NDArray

from dmsynth.report.figures import STYLE, save
from dmsynth.validation.scenarios import Scenario

_COLOURS = {"pitch": "#e4572e", "yaw": "#1f4e79", "roll": "#76a646"}
_EXPECTED, _OUTSIDE = "#f2b134", "#d9d9d9"
_LEVELS = 9  # lines of a curve in text


def draw_scenario(scenario: Scenario, path: Path, covered: NDArray[np.bool_] | None = None) -> None:
    """Angles over time with the windows in which a warning has to begin; grey: outside the face's coverage."""
    motion = scenario.trajectory()
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(9, 3.4))
        for name in motion.names:
            axis.plot(motion.times, motion[name], color=_COLOURS[name], linewidth=1.6, label=name)
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
    columns = np.linspace(0, len(motion) - 1, min(width, len(motion))).round().astype(int)
    lines = []
    for name in motion.names:
        values = motion[name][columns]
        low, high = np.floor(min(values.min(), 0)), np.ceil(max(values.max(), 0))
        if high - low < 5:
            continue
        level = np.round((values - low) / (high - low) * (_LEVELS - 1)).astype(int)
        for row in reversed(range(_LEVELS)):
            label = f"{name} {high:+.0f}°" if row == _LEVELS - 1 else f"{low:+.0f}°" if row == 0 else ""
            lines.append(f"{label:>12} │" + "".join("•" if at == row else " " for at in level).rstrip())
    seconds = motion.times[columns]
    expected = np.zeros(len(columns), dtype=bool)
    for window in scenario.windows:
        since = scenario.marks[window.since]
        expected |= (seconds >= since + window.earliest) & (seconds <= since + window.latest)
    lines.append(f"{'warning':>12} │" + "".join("█" if here else "·" for here in expected))
    lines.append(f"{'seconds':>12} │0" + f"{scenario.seconds:g}".rjust(len(columns) - 1))
    return lines
