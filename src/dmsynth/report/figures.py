"""Pictures as PNG files: of a dataset (thesis Figs. 4.1, 4.2) and of an evaluation (Figs. 4.3, 4.4)."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dmsynth.controls import BOTH_EYES, BROWS, EYES, HEAD, MOUTH, ControlSpace
from dmsynth.datasets.dataset import Dataset
from dmsynth.evaluation import Evaluation
from dmsynth.support.files import replacing
from dmsynth.video import Image, to_grey, to_rgb

matplotlib.use("Agg")
from matplotlib import pyplot as plt

SPLIT_COLOURS = {"train": "#4c78a8", "validation": "#f2b134", "test": "#d1495b", "guard": "#c9c9c9"}
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "figure.dpi": 150,
}
_OTHERS = ("#d1495b", "#1f77b4", "#2a9d5c")
_OPENINGS = ("#4a5261", "#c98500", "#a0409b")
_COLOURS = dict(zip(HEAD, _OTHERS, strict=True))
_DRAWING = threading.Lock()


@contextmanager
def _alone() -> Iterator[None]:
    """Lock for drawing in several threads of a server: Matplotlib's settings and figures are global."""
    with _DRAWING, plt.rc_context(STYLE):
        yield


def contact_sheet(dataset: Dataset, path: Path, columns: int = 6, rows: int = 4) -> None:
    """Frames with very different poses, with their labels in green, as in Fig. 4.1."""
    chosen = _spread(dataset, columns * rows)
    space, labels = dataset.about
    width, height = dataset.size
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(rows, columns, figsize=(columns * 1.9, rows * 1.9 * height / width), squeeze=False)
        for axis in axes.flat:
            axis.axis("off")
        for axis, index in zip(axes.flat, chosen, strict=False):
            axis.imshow(to_rgb(np.array(dataset.frames[index])))
            row = dataset.labels.iloc[index]
            for line, control in enumerate(space.controls):
                value = row[f"{labels}_{control.name}"]
                text = f"{control.name} {value:+.0f}°" if control.unit == "°" else f"{control.name} {value:.1f}"
                axis.text(
                    0.03, 0.96 - 0.085 * line, text, transform=axis.transAxes,
                    va="top", fontsize=6.5, color="#1db954", fontweight="bold",
                    bbox={"facecolor": "black", "alpha": 0.45, "pad": 0.8, "linewidth": 0},
                )  # fmt: skip
        figure.subplots_adjust(0, 0, 1, 1, wspace=0.015, hspace=0.02)
        save(figure, path)


def marginals(dataset: Dataset, path: Path) -> None:
    """Distributions of the controls, training and test side by side, as in Fig. 4.2."""
    space, labels = dataset.about
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, space.size, figsize=(10, 2.8), sharey=True)
        for axis, control in zip(axes, space.controls, strict=True):
            values = dataset.labels[f"{labels}_{control.name}"].to_numpy(dtype=float)
            bins = np.linspace(values.min() - 0.5, values.max() + 0.5, 41)
            for split in ("train", "test"):
                inside = values[dataset.split(split)]
                axis.hist(inside, bins, density=True, alpha=0.6, color=SPLIT_COLOURS[split], label=split)
            axis.set_xlabel(f"{control.name} in {control.unit} ({labels})")
        axes[0].set_ylabel(f"share of frames per {space.controls[0].unit}")
        axes[-1].legend(frameon=False)
        figure.tight_layout()
        save(figure, path)


def coverage_map(dataset: Dataset, path: Path) -> None:
    """Scatter plot of the frames in yaw and pitch, or in x and y, by split."""
    space, labels = dataset.about
    turned = space.turns_head
    x, y = ("yaw", "pitch") if turned else ("x", "y")
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(6.4, 4.2))
        for split, colour in SPLIT_COLOURS.items():
            rows = dataset.labels.iloc[dataset.split(split)]
            if len(rows):
                axis.scatter(
                    rows[f"{labels}_{x}"], rows[f"{labels}_{y}"], s=9, color=colour, alpha=0.65, linewidths=0,
                    label=f"{split} ({len(rows)})",
                )  # fmt: skip
        if turned:
            axis.axhline(0, color="#999999", linewidth=0.8)
            axis.axvline(0, color="#999999", linewidth=0.8)
        else:
            axis.invert_yaxis()  # as in the image
        axis.set_xlabel("yaw in degrees (towards the image's right →)" if turned else "x in pixels")
        axis.set_ylabel("pitch in degrees (up →)" if turned else "y in pixels (down)")
        axis.set_aspect("equal")
        axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        figure.tight_layout()
        save(figure, path)


def coverage_in_text(yaw: NDArray[np.float64], pitch: NDArray[np.float64], step: float) -> list[str]:
    """The yaw-pitch coverage as lines of text: pitch upwards, yaw rightwards, a cell ``step`` degrees wide;
    ``·`` no frame, then ``░▒▓█`` for more and more (a quarter of the fullest cell each)."""
    low_yaw, low_pitch = np.floor(yaw.min() / step), np.floor(pitch.min() / step)
    yaw_cells = int(np.floor(yaw.max() / step) - low_yaw) + 1
    pitch_cells = int(np.floor(pitch.max() / step) - low_pitch) + 1
    counts = np.zeros((pitch_cells, yaw_cells), dtype=int)
    cells = (np.floor(pitch / step) - low_pitch).astype(int), (np.floor(yaw / step) - low_yaw).astype(int)
    np.add.at(counts, cells, 1)
    shades = np.ceil(counts / counts.max() * 4).astype(int)
    lines = []
    for row in reversed(range(pitch_cells)):
        cells_text = "".join("·░▒▓█"[shade] * 2 for shade in shades[row])
        lines.append(f"{(low_pitch + row) * step:+6.0f}° {cells_text}")
    left, right = f"{low_yaw * step:+.0f}°", f"{(low_yaw + yaw_cells) * step:+.0f}°"
    lines.append(" " * 8 + left + " " * max(1, 2 * yaw_cells - len(left) - len(right)) + right + "  yaw")
    return lines


def faces(evaluation: Evaluation, names: Sequence[str], path: Path, count: int = 6) -> None:
    """Held-out poses from one end to the other: the real or posed frame above, the steered one below (Fig. 4.3)."""
    chosen = examples(evaluation.table, names, count)
    with plt.rc_context(STYLE):
        height, width = evaluation.source.shape[:2]
        figure, axes = plt.subplots(
            2, len(chosen), figsize=(1.7 * len(chosen), 3.4 * height / width + 0.65), squeeze=False
        )
        for column, index in enumerate(chosen):
            row = evaluation.table.iloc[index]
            pairs = (("target", evaluation.targets), ("tracked", evaluation.steered))
            for axis, (kind, images) in zip(axes[:, column], pairs, strict=True):
                axis.axis("off")
                axis.imshow(to_rgb(images[row["position"]]))
                pose = ", ".join(f"{row[f'{kind}_{name}']:+.0f}" for name in names)
                lost = kind == "tracked" and not row["found"]
                axis.set_title("face lost" if lost else pose, fontsize=7.5, pad=2)
        target = evaluation.metrics["frames_are"]
        axes[0, 0].text(-0.08, 0.5, target, rotation=90, va="center", transform=axes[0, 0].transAxes)
        axes[1, 0].text(-0.08, 0.5, "steered", rotation=90, va="center", transform=axes[1, 0].transAxes)
        figure.text(0.02, 0.99, f"numbers: {', '.join(names)} as tracked", va="top", fontsize=7.5)
        figure.subplots_adjust(0.02, 0, 1, 0.9, wspace=0.03, hspace=0.12)
        save(figure, path)


def heat_map(image: Image, moved: NDArray[np.float32], most: float = 10.0) -> Image:
    """A frame in grey with ``evaluation.geometry.displacement`` over it: dark is 0, bright yellow ``most`` percent."""
    scaled = np.nan_to_num(np.clip(255 * moved / most, 0, 255)).astype(np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(scaled, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    grey = to_rgb(to_grey(image))
    mixed = (0.35 * grey + 0.65 * colours).round().astype(np.uint8)
    return np.where(np.isnan(moved)[..., None], grey, mixed)


def curves(table: pd.DataFrame, space: ControlSpace, x: str, x_title: str, path: Path) -> None:
    """Target and tracked value of each control, one above the other (Fig. 4.4)."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(space.size, 1, figsize=(8, 1.6 * space.size + 0.4), sharex=True, squeeze=False)
        for axis, control in zip(axes[:, 0], space.controls, strict=True):
            axis.plot(table[x], table[f"target_{control.name}"], color="#1f4e79", linewidth=2, label="target")
            axis.plot(
                table[x], table[f"tracked_{control.name}"], color="#e4572e", linewidth=1.1, marker=".", markersize=2.5,
                label="tracked in the steered frame",
            )  # fmt: skip
            axis.set_ylabel(f"{control.name} ({control.unit})")
        axes[0, 0].legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
        axes[-1, 0].set_xlabel(x_title)
        figure.tight_layout()
        save(figure, path)


def judges(table: pd.DataFrame, space: ControlSpace, path: Path, targets: str) -> None:
    """The second judge's answers against the first one's, on the ``targets`` (real or posed frames) and on the steered
    ones, one panel per control."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, space.size, figsize=(3.1 * space.size, 3.1), squeeze=False)
        for axis, control in zip(axes[0], space.controls, strict=True):
            ends = [table[f"target_{control.name}"].min(), table[f"target_{control.name}"].max()]
            axis.plot(ends, ends, color="#9a9a9a", linewidth=0.8, linestyle="--")
            for kind, title, colour in (("target", targets, "#1f4e79"), ("tracked", "steered", "#e4572e")):
                seen = table[f"{kind}_{control.name}"], table[f"second_{kind}_{control.name}"]
                axis.scatter(*seen, s=9, color=colour, alpha=0.6, linewidths=0, label=f"{title} frames")
            axis.set_xlabel(f"{control.name}, first judge ({control.unit})")
        axes[0, 0].set_ylabel("second judge")
        axes[0, 0].legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
        figure.tight_layout()
        save(figure, path)


def examples(table: pd.DataFrame, names: Sequence[str], count: int) -> list[int]:
    """Row numbers of ``count`` held-out frames spread evenly over yaw (or the first control)."""
    order = np.argsort(table[f"target_{'yaw' if 'yaw' in names else names[0]}"].to_numpy())
    return [int(i) for i in order[np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int)]]


def ordered(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Held-out frames sorted by yaw (or the first control), with their rank as ``order``: gives readable curves."""
    table = table.sort_values(f"target_{'yaw' if 'yaw' in names else names[0]}").reset_index(drop=True)
    return table.assign(order=np.arange(len(table)))


def _spread(dataset: Dataset, count: int) -> Sequence[int]:
    """Indices of frames with very different poses (farthest-point sampling), sorted by yaw."""
    space, labels = dataset.about
    angles = dataset.controls(space, labels)
    chosen = [int(np.argmin(np.abs(angles - np.median(angles, axis=0)).sum(axis=1)))]
    distance = np.linalg.norm(angles - angles[chosen[0]], axis=1)
    while len(chosen) < min(count, len(angles)):
        chosen.append(int(np.argmax(distance)))
        distance = np.minimum(distance, np.linalg.norm(angles - angles[chosen[-1]], axis=1))
    return sorted(chosen, key=lambda index: angles[index, 1])


def save(figure: Any, path: Path, also: str | None = None) -> None:
    """Write a figure to ``path``, and once more with the suffix ``also``, and close it."""
    for target in [path] + ([path.with_suffix(also)] if also else []):
        with replacing(target) as temporary, plt.rc_context({"svg.hashsalt": "dmsynth"}):  # the same bytes each time
            metadata = {"Date": None} if target.suffix == ".svg" else None
            figure.savefig(temporary, bbox_inches="tight", pad_inches=0.05, metadata=metadata)
    plt.close(figure)


def motion_curves(
    times: NDArray[np.float64], values: NDArray[np.float64], covered: NDArray[np.bool_], space: ControlSpace, path: Path
) -> None:
    """The command over time: ``values`` (n, k) of a control space; grey where it is not ``covered`` (n,).

    One panel for each unit, so that degrees and openings do not share a scale. Gaze is dashed, in the colour of the
    head's angle in the same direction; lids that move alike are one line. Brows are shown if they move.
    """
    of_features = dict.fromkeys((*EYES[2:], MOUTH), "opening") | {BROWS: "raise"}
    shown = [c.name for c, column in zip(space.controls, values.T, strict=True) if c.name != BROWS or column.any()]
    unit_of = {c.name: of_features.get(c.name, c.unit) for c in space.controls if c.name in shown}
    units = list(dict.fromkeys(unit_of.values()))
    shares = [2.6 if unit == units[0] else 1.0 for unit in units]
    with _alone():
        figure, axes = plt.subplots(
            len(units), 1, figsize=(8, 2.6 + 0.4 * len(units)), sharex=True, squeeze=False,
            gridspec_kw={"height_ratios": shares, "hspace": 0.12},
        )  # fmt: skip
        for unit, axis in zip(units, axes[:, 0], strict=True):
            axis.fill_between(
                times, 0, 1, where=~covered, transform=axis.get_xaxis_transform(), color="#e3e6ea", linewidth=0,
                step="mid",
            )  # fmt: skip
            lines = {
                c.name: values[:, column] for column, c in enumerate(space.controls) if unit_of.get(c.name) == unit
            }
            left, right = (lines.get(name) for name in EYES[2:])
            if left is not None and right is not None and np.array_equal(left, right):
                lines = {BOTH_EYES: left} | {name: line for name, line in lines.items() if name == MOUTH}
                axis.set_ylim(-0.05, max(1.25, float(left.max()) + 0.05))
            for column, (name, line) in enumerate(lines.items()):
                others = _OPENINGS if unit == "opening" else _OTHERS
                colour = _COLOURS.get(name.removeprefix("gaze_"), others[column % len(others)])
                style = "--" if name.startswith("gaze_") else "-"
                axis.plot(times, line, style, color=colour, linewidth=1.8, label=name.replace("_", " "))
            axis.set_ylabel(unit)
            axis.margins(x=0.01)
        axes[-1, 0].set_xlabel("seconds", loc="right")
        lines_drawn = [line for axis in axes[:, 0] for line in axis.get_lines()]
        axes[-1, 0].legend(
            handles=lines_drawn, frameon=False, ncols=len(lines_drawn), loc="upper center", columnspacing=1.2,
            handlelength=1.6, bbox_to_anchor=(0.5, -0.16 if len(units) == 1 else -0.5),
            fontsize=9 if len(lines_drawn) < 5 else 8,
        )  # fmt: skip
        save(figure, path)


def loss_curves(run: Path, path: Path) -> None:
    """The losses of the training in folder ``run``, on a logarithmic scale: training pale (``live.csv``), validation
    dotted (``curves.csv``). ``OSError`` or ``ValueError`` if there is nothing to draw yet."""
    tables = [pd.read_csv(file) for name in ("live", "curves") if (file := run / f"{name}.csv").is_file()]
    names = sorted({str(column).partition("/")[2] for table in tables for column in table} - {""})
    if not names:
        raise ValueError(f"{run}: no losses yet")
    with _alone():
        figure, axis = plt.subplots(figsize=(8, 3))
        for number, name in enumerate(names):
            colour, validated = f"C{number}", tables[-1].get(f"validation/{name}")
            axis.semilogy(tables[0]["step"], tables[0][f"train/{name}"], color=colour, alpha=0.4, linewidth=1.2)
            if validated is not None:
                axis.semilogy(tables[-1]["step"], validated, color=colour, linewidth=1.6, marker=".")
            axis.plot([], [], color=colour, label=name)
        axis.set_xlabel("step (pale: training, dots: validation)")
        axis.legend(frameon=False, ncols=6, loc="lower left", bbox_to_anchor=(0, 1), fontsize=8)
        save(figure, path)
