"""The figures of the thesis's fourth chapter (4.3, 4.4), a coverage plot, and a side-by-side video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from dmsynth.controls import CONTROL_SPACES
from dmsynth.report.figures import STYLE, save
from dmsynth.video import Image, VideoWriter, fit, to_rgb

matplotlib.use("Agg")
from matplotlib import pyplot as plt

SPACE = CONTROL_SPACES["rotation"]
DRIVER = "#1b2733"
COLOURS = ("#e4572e", "#1f77b4", "#2a9d5c", "#9b5de5", "#c98a00")  # of the models, in order
_CAPTION = 26  # pixels above a picture in the video

Frames = Sequence[Image] | NDArray[np.uint8]


def faces(
    source: Image,
    driving: Sequence[Image],
    driver: pd.DataFrame,
    drawn: Mapping[str, Frames | None],
    views: Mapping[str, pd.DataFrame],
    path: Path,
    rows: int = 6,
) -> None:
    """Fig. 4.3: source, driving frame, and each model's frame, with the tracked pitch, yaw and roll of each.

    Args:
        driver, views: tracking results of the driver and of each model, tables as ``track_to_table``.
        drawn: each model's frames; None if it did not run: its column stays empty.
    """
    height, width = source.shape[:2]
    order = np.argsort(driver["yaw"].to_numpy(float))[: int(driver["found"].sum())]  # NaN lies last
    chosen = order[np.linspace(0, len(order) - 1, min(rows, len(order))).round().astype(int)]
    columns = ["source", "driving", *drawn]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            len(chosen), len(columns),
            figsize=(1.75 * len(columns), (1.75 * height / width + 0.2) * len(chosen) + 0.3), squeeze=False,
        )  # fmt: skip
        for line, number in zip(axes, chosen, strict=True):
            pictures: dict[str, Image | None] = {"source": source, "driving": fit(driving[number], width, height)}
            for title, frames in drawn.items():
                pictures[title] = None if frames is None else np.asarray(frames[number])
            for axis, (title, picture) in zip(line, pictures.items(), strict=True):
                view = driver if title == "driving" else views.get(title)
                _panel(axis, picture, "" if view is None else _pose(view.iloc[number]))
        for axis, title in zip(axes[0], columns, strict=True):
            axis.annotate(
                title.replace(", ", ",\n"), (0.5, 1), (0, 14), xycoords="axes fraction", textcoords="offset points",
                ha="center", va="bottom", fontsize=8.5, fontweight="bold",
            )  # fmt: skip
        figure.subplots_adjust(0, 0, 1, 0.95, wspace=0.03, hspace=0.13)
        save(figure, path)


def _panel(axis: Axes, picture: Image | None, title: str) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    axis.grid(False)
    axis.set_title(title, fontsize=7.2, pad=2)
    if picture is None:
        axis.set_facecolor("#f0f2f4")
        axis.text(0.5, 0.5, "did not run", ha="center", va="center", color="#7a8794", transform=axis.transAxes)
        return
    for spine in axis.spines.values():
        spine.set_visible(False)
    axis.imshow(to_rgb(picture))


def _pose(row: pd.Series[float]) -> str:
    return ", ".join(f"{row[name]:+.0f}" for name in SPACE.names) if row["found"] else "face lost"


def tracks(
    driver: pd.DataFrame,
    views: Mapping[str, pd.DataFrame],
    covered: NDArray[np.bool_],
    empty: Sequence[str],
    path: Path,
) -> None:
    """Fig. 4.4: pitch, yaw and roll by frame, of the driver and of each model as the tracker sees them. Grey: frames
    whose command the training frames do not cover. ``empty`` names models that did not run."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(SPACE.size, 1, figsize=(9.5, 7), sharex=True)
        frames = np.arange(len(driver))
        for axis, control in zip(axes, SPACE.controls, strict=True):
            axis.fill_between(
                frames,
                0,
                1,
                where=~covered,
                transform=axis.get_xaxis_transform(),
                color="#e9ecef",
                linewidth=0,
                step="mid",
            )
            axis.plot(driver[control.name], color=DRIVER, linewidth=2.4, alpha=0.85, label="driving")
            for colour, (title, view) in zip(COLOURS, views.items(), strict=False):
                axis.plot(view[control.name].to_numpy(float), color=colour, linewidth=1.1, label=title)
            axis.set_ylabel(f"{control.name} ({control.unit})")
            axis.margins(x=0.01)
        axes[0].legend(frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1), fontsize=8.5)
        axes[-1].set_xlabel("driving frame" + "".join(f"; {title} did not run" for title in empty))
        figure.tight_layout()
        save(figure, path)


def coverage(
    training: NDArray[np.float64], values: NDArray[np.float64], covered: NDArray[np.bool_], path: Path
) -> None:
    """The training frames' poses (n, 3) and the driver's commands (m, 3), those in coverage and those outside."""
    pairs = (("yaw", "pitch"), ("yaw", "roll"))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(pairs), figsize=(9.5, 4))
        for axis, (x, y) in zip(axes, pairs, strict=True):
            i, j = SPACE.names.index(x), SPACE.names.index(y)
            axis.scatter(training[:, i], training[:, j], s=8, color="#b9c4ce", linewidths=0, label="training frames")
            axis.plot(values[:, i], values[:, j], color="#1f77b4", linewidth=0.7, alpha=0.5)
            for inside, colour, title in (
                (True, "#1f77b4", "command, in coverage"),
                (False, "#d1495b", "command, outside"),
            ):
                rows = covered == inside
                if rows.any():
                    axis.scatter(values[rows, i], values[rows, j], s=11, color=colour, linewidths=0, label=title)
            axis.set_xlabel(f"{x} (°)")
            axis.set_ylabel(f"{y} (°)")
        axes[0].legend(frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1), fontsize=8.5)
        figure.tight_layout()
        save(figure, path)


def beside(
    pictures: Mapping[str, Frames], size: tuple[int, int], frame_rate: float, metadata: Mapping[str, str], path: Path
) -> None:
    """A video of all ``pictures`` (frames by title) side by side, each of ``size`` (width, height), named above."""
    width, height = size
    count = min(len(frames) for frames in pictures.values())
    heads = np.concatenate([_heading(title, width) for title in pictures], axis=1)
    with VideoWriter(path, width * len(pictures), height + _CAPTION, frame_rate, metadata) as video:
        for number in range(count):
            line = [to_rgb(fit(np.asarray(frames[number]), width, height)) for frames in pictures.values()]
            video.write(np.concatenate([heads, np.concatenate(line, axis=1)], axis=0))


def _heading(title: str, width: int) -> Image:
    image = np.full((_CAPTION, width, 3), 255, np.uint8)
    return cv2.putText(image, title, (6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (27, 39, 51), 1, cv2.LINE_AA)
