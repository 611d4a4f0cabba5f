"""What a DMS answered beside what was commanded, as pictures."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from numpy.typing import NDArray

from dmsynth.report.figures import STYLE
from dmsynth.steering import SteerableFace
from dmsynth.validation.scenarios import Scenario

_COMMAND, _ANSWER, _EXPECTED, _WARNS, _OUTSIDE = "#1f4e79", "#e4572e", "#f2b134", "#b3261e", "#dcdcdc"
_MOVES = 5.0  # degrees; an angle that moves less is not drawn


def draw_answers(scenario: Scenario, table: pd.DataFrame, answers: pd.DataFrame) -> bytes:
    """PNG: command and answer for each angle that moves, and below when the DMS warns and when it should.

    Args:
        table: the command, with ``covered``.
        answers: the DMS's answers, with ``warning``.
    """
    times = table["time"].to_numpy(dtype=float)
    outside = ~table["covered"].to_numpy(dtype=bool)
    moving = [name for name in ("yaw", "pitch", "roll") if np.ptp(table[name].to_numpy(dtype=float)) >= _MOVES]
    shown = moving or ["yaw"]
    with plt.rc_context(STYLE | {"figure.dpi": 110}):
        figure, axes = plt.subplots(
            len(shown) + 1, 1, figsize=(7.4, 1.25 * len(shown) + 0.95), sharex=True, squeeze=False,
            height_ratios=[3] * len(shown) + [1],
        )  # fmt: skip
        for axis, name in zip(axes[:-1, 0], shown, strict=True):
            axis.plot(times, table[name], color=_COMMAND, linewidth=2, label="commanded")
            if len(answers) and answers[name].notna().any():
                axis.plot(answers["time"], answers[name], color=_ANSWER, linewidth=1.1, label="answered")
            _shade(axis, times, outside)
            axis.set_ylabel(f"{name} (°)")
        strip = axes[-1, 0]
        _shade(strip, times, outside)
        for window in scenario.windows:
            since = scenario.marks[window.since]
            strip.axvspan(since + window.earliest, since + window.latest, color=_EXPECTED, alpha=0.5, linewidth=0)
        if len(answers):
            strip.fill_between(
                answers["time"], 0.2, 0.8, where=answers["warning"].to_numpy(dtype=bool), step="post", color=_WARNS,
                linewidth=0,
            )  # fmt: skip
        strip.set(ylim=(0, 1), yticks=[], xlabel="seconds", xlim=(0, max(times[-1], 0.1)), ylabel="warns")
        axes[0, 0].legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1), fontsize=8)
        figure.tight_layout(h_pad=0.4)
        return _png(figure)


def draw_coverage(face: SteerableFace, tables: Sequence[pd.DataFrame]) -> bytes:
    """PNG: what the face was trained on, and where the scenarios lead, in yaw and pitch."""
    space = face.trained.space
    seen = space.decode(face.trained.coverage.codes)
    yaw, pitch = space.names.index("yaw"), space.names.index("pitch")
    with plt.rc_context(STYLE | {"figure.dpi": 110}):
        figure, axis = plt.subplots(figsize=(7.4, 4.2))
        axis.scatter(seen[:, yaw], seen[:, pitch], s=7, color="#9db4c8", linewidths=0, label="training frames")
        for inside, colour, label in ((True, _COMMAND, "commanded, covered"), (False, _WARNS, "commanded, outside")):
            points = pd.concat([table[table["covered"] == inside] for table in tables])
            axis.scatter(points["yaw"], points["pitch"], s=2.5, color=colour, linewidths=0, label=label)
        axis.set(xlabel="yaw (°, towards the image's right →)", ylabel="pitch (°, up →)")
        axis.set_aspect("equal")
        axis.legend(frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1), fontsize=8, markerscale=2)
        figure.tight_layout()
        return _png(figure)


def _shade(axis: plt.Axes, times: NDArray[np.float64], outside: NDArray[np.bool_]) -> None:
    if outside.any():
        low, high = axis.get_ylim()
        axis.fill_between(times, low, high, where=outside, color=_OUTSIDE, linewidth=0, zorder=0)
        axis.set_ylim(low, high)


def _png(figure: plt.Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", bbox_inches="tight", pad_inches=0.04, metadata={"Software": None})
    plt.close(figure)
    return file.getvalue()
