"""Figures of a DMS's answers against the command."""

from __future__ import annotations

import io
from collections.abc import Sequence

import cv2
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from numpy.typing import NDArray

from dmsynth.report.charts import Panel, Series, stacked
from dmsynth.report.figures import STYLE
from dmsynth.steering import SteerableFace
from dmsynth.validation.rendering import Rendered
from dmsynth.validation.scenarios import Scenario
from dmsynth.validation.verdicts import commands
from dmsynth.video import read_video

_COMMAND, _ANSWER, _EXPECTED, _WARNS, _OUTSIDE = "#1f4e79", "#e4572e", "#f2b134", "#b3261e", "#dcdcdc"
_BLOCKED = "#f9e2b5"
_MOVES = {"eye_opening": 0.3}  # what moves less is not drawn; of angles 5 degrees
_STILL = 160  # pixels, the width of a still


def draw_answers(scenario: Scenario, table: pd.DataFrame, answers: pd.DataFrame, video: str | None = None) -> str:
    """SVG: command and answer for each angle that moves, and for the lids; below, when the DMS warns and tells that it
    cannot see, and when it should. Gaze is the line of sight, which a turned head turns, too: it is drawn if the
    scenario moves the eyes.

    Args:
        table: the command, with ``covered``.
        answers: the DMS's answers, with ``warning``.
        video: the ID of the scenario's video in the page, which is synchronized with the chart.
    """
    times = table["time"].to_numpy(dtype=float)
    outside = [(*each, _OUTSIDE) for each in _stretches(times, ~table["covered"].to_numpy(dtype=bool))]
    wanted = commands(table)
    names = ["yaw", "pitch", "roll"]
    names += [n for n in ("gaze_yaw", "gaze_pitch", "eye_opening") if n in wanted and scenario.moves_eyes]
    moving = [name for name in names if np.ptp(wanted[name]) >= _MOVES.get(name, 5.0)]
    span = (0.0, max(float(times[-1]), 0.1))
    panels = []
    for name in moving or ["yaw"]:
        series = [Series("commanded", _COMMAND, times, wanted[name], width=2)]
        if len(answers) and answers[name].notna().any():
            series.append(Series("answered", _ANSWER, answers["time"], answers[name], width=1.2))
        is_angle = name != "eye_opening"
        title = f"{name.replace('_', ' ')}{' (°)' if is_angle else ''}"
        limits = (-120.0, 120.0) if is_angle else (0.0, 1.4)
        panels.append(Panel(title, series, bands=outside, y_limits=limits, x_range=span))
    windows = []
    for window in scenario.windows:
        since = scenario.marks[window.since]
        windows.append((since + window.earliest, since + window.latest, _EXPECTED))
    warns = Series("warns", _WARNS, answers["time"], answers["warning"].astype(float), kind="on")
    panels.append(Panel("warns", [warns], 34.0, [*outside, *windows], (0, 1), x_range=span, plain=True))
    blind = answers["unavailable"].astype(float) if "unavailable" in answers else None
    if blind is not None and (scenario.unavailable or blind.any()):
        pairs = zip(scenario.unavailable, scenario.blocked, strict=True)
        due = [(begin, begin + each.within, _EXPECTED) for each, (begin, _) in pairs]
        hidden = [(begin, end, _BLOCKED) for begin, end in scenario.blocked]
        tells = Series("tells that it cannot see", _WARNS, answers["time"], blind, kind="on")
        panels.append(Panel("blind", [tells], 34.0, [*outside, *hidden, *due], (0, 1), x_range=span, plain=True))
    return stacked(panels, "seconds", video=video)


def still(rendered: Rendered) -> bytes:
    """JPEG: the frame of a video in which the head or the line of sight is turned furthest, for printed reports. Raises
    ``DmsynthError`` as ``read_video``."""
    wanted = commands(rendered.table)
    wanted["closed"] = 5 * (1 - wanted.pop("eye_opening", np.ones(1)))  # degrees: counts where nothing turns
    away = np.max([np.abs(values) for values in np.broadcast_arrays(*wanted.values())], axis=0)
    furthest = int(away.argmax())
    image = next(frame.image for frame in read_video(rendered.video) if frame.index >= furthest)
    height = round(image.shape[0] * _STILL / image.shape[1])
    small = cv2.cvtColor(cv2.resize(image, (_STILL, height), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2BGR)
    return bytes(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 90])[1])


def _stretches(times: NDArray[np.float64], here: NDArray[np.bool_]) -> list[tuple[float, float]]:
    """First and last time of every run of true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], here, [False]]).astype(int))).reshape(-1, 2)
    return [(float(times[begin]), float(times[min(end, len(times) - 1)])) for begin, end in edges]


def draw_coverage(face: SteerableFace, tables: Sequence[pd.DataFrame]) -> bytes:
    """PNG: the face's training frames and the scenarios' commands, in yaw and pitch."""
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


def _png(figure: plt.Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", bbox_inches="tight", pad_inches=0.04, metadata={"Software": None})
    plt.close(figure)
    return file.getvalue()
