"""The figures of the thesis's third chapter and its appendix, with the thesis's numbers and layout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from dmsynth.datasets.cutout import Layout
from dmsynth.datasets.dataset import Dataset
from dmsynth.report.figures import STYLE, save
from dmsynth.steering import SteerableFace

matplotlib.use("Agg")
from matplotlib import pyplot as plt

Array = NDArray[Any]

TRUE, ENCODED, COMMANDED = "#12b347", "#e02020", "#1f6fff"  # the thesis's green, red and blue squares
_SPLIT_COLOURS = {"train": "#4c78a8", "validation": "#e4572e"}
_TITLES = {"train": "training", "validation": "validation"}
STABILITY_COLOURS = {"thesis": "#e4572e", "stable": "#1f4e79"}
_LOSS_TITLES = {"reconstruction": "reconstruction loss", "control": "position loss", "swap": "swap loss"}


@dataclass(frozen=True)
class StudyResults:
    """The data of the figures.

    Attributes:
        dataset: the position dataset, with the first split.
        cells: one row per cell: ``objective``, ``latent``, ``split`` and the losses of its best epoch.
        curves: one row per cell and epoch: the same, and ``epoch``.
        face: the face trained with an objective and a latent size on the first split.
    """

    dataset: Dataset
    cells: pd.DataFrame
    curves: pd.DataFrame
    face: Callable[[str, int], SteerableFace]

    @property
    def latents(self) -> list[int]:
        return sorted(int(latent) for latent in self.cells["latent"].unique())

    @property
    def halves(self) -> tuple[list[int], list[int]]:
        """The smaller latent sizes and the larger ones: the columns of a figure and of its continuation."""
        middle = (len(self.latents) + 1) // 2
        return self.latents[:middle], self.latents[middle:]


def draw_all(results: StudyResults, folder: Path) -> dict[str, Path]:
    """Draw every figure as PNG and SVG; returns the PNG's path by the figure's number."""
    paths = {}
    for number, draw in FIGURES.items():
        paths[number] = folder / f"figure-{number.lower().replace('.', '-')}.png"
        with plt.rc_context(STYLE | {"svg.fonttype": "none"}):
            save(draw(results), paths[number], also=".svg")
    return paths


def dataset_sample(results: StudyResults) -> Any:
    """Fig. 3.2: frames with the face's centre in green and the rectangle of its movement in black."""
    dataset = results.dataset
    layout = Layout(*dataset.size)
    centres = dataset.labels[["commanded_x", "commanded_y"]].to_numpy()
    figure, axes = plt.subplots(2, 3, figsize=(9, 5.0))
    for axis, index in zip(axes.flat, _apart(centres, 6), strict=True):
        _picture(axis, np.array(dataset.frames[index]), {TRUE: centres[index]}, layout)
        left, top, right, bottom = layout.box
        axis.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, color="black", linewidth=1))
        axis.set_title(f"({centres[index][0]:g}, {centres[index][1]:g})", fontsize=8, color=TRUE, pad=3)
    figure.subplots_adjust(0, 0, 1, 0.94, wspace=0.03, hspace=0.14)
    return figure


def best_losses(objective: str, losses: Sequence[str], results: StudyResults) -> Any:
    """Losses of the epoch with the lowest validation loss, over the latent size: mean and range over splits."""
    rows = results.cells[results.cells["objective"] == objective]
    figure, axes = plt.subplots(1, len(losses), figsize=(4.6 * len(losses), 3.2), squeeze=False)
    for axis, loss, letter in zip(axes[0], losses, "abc", strict=False):
        for split, colour in _SPLIT_COLOURS.items():
            grouped = rows.groupby("latent")[f"{split}/{loss}"]
            places = np.arange(grouped.ngroups)
            _band(axis, places, grouped, colour, _TITLES[split], marker="o")
            axis.set_xticks(places, [str(latent) for latent in grouped.groups])
        axis.set_yscale("log")
        axis.set_xlabel("latent dimensions")
        axis.set_ylabel(_LOSS_TITLES[loss])
        if len(losses) > 1:
            axis.set_title(f"({letter})", fontsize=9)
        axis.legend(frameon=False)
    figure.tight_layout()
    return figure


def loss_curves(objective: str, losses: Sequence[str], results: StudyResults) -> Any:
    """Losses over the epochs, a colour for each latent size: mean and range over splits."""
    rows = results.curves[results.curves["objective"] == objective]
    latents = sorted(rows["latent"].unique())
    colours = plt.get_cmap("turbo")(np.linspace(0.05, 0.95, len(latents)))
    figure, axes = plt.subplots(
        len(losses), 2, figsize=(9.2, 3.1 * len(losses)), squeeze=False, sharex=True, sharey="row"
    )
    for line, loss, letter in zip(axes, losses, "abc", strict=False):
        for axis, split in zip(line, _TITLES, strict=True):
            for latent, colour in zip(latents, colours, strict=True):
                grouped = rows[rows["latent"] == latent].groupby("epoch")[f"{split}/{loss}"]
                _band(axis, np.array(list(grouped.groups)), grouped, colour, f"{latent}")
            axis.set_yscale("log")
            named = f"({letter}) " if len(losses) > 1 else ""
            axis.set_title(f"{named}{_LOSS_TITLES[loss]}, {_TITLES[split]}", fontsize=9)
    for axis in axes[-1]:
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(latents) > 1:
        axes[0, 1].legend(frameon=False, title="dimensions", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.tight_layout()
    return figure


def samples(objective: str, half: int, steered: bool, results: StudyResults) -> Any:
    """Three validation frames, and each latent size's output for them.

    Reconstructed, or ``steered`` to the position mirrored at the wall's middle. Squares: green the true centre, red the
    encoded one, blue the commanded one.
    """
    dataset, latents = results.dataset, results.halves[half]
    layout = Layout(*dataset.size)
    centres = dataset.labels[["commanded_x", "commanded_y"]].to_numpy()
    chosen = _corners(centres, dataset.split("validation"), np.array(dataset.size) / 2)
    shape = (len(chosen), 1 + len(latents))
    width = 2.3
    figure, axes = plt.subplots(*shape, figsize=(width * shape[1], width * 0.75 * shape[0] + 0.2), squeeze=False)
    frames = [np.array(dataset.frames[index]) for index in chosen]
    commands = [np.array(dataset.size) - centres[index] for index in chosen]
    marks = [
        {TRUE: centres[index]} | ({COMMANDED: command} if steered else {})
        for index, command in zip(chosen, commands, strict=True)
    ]
    for axis, frame, squares in zip(axes[:, 0], frames, marks, strict=True):
        _picture(axis, frame, squares, layout)
    axes[0, 0].set_title("input", fontsize=9)
    for column, latent in zip(axes.T[1:], latents, strict=True):
        face = results.face(objective, latent)
        column[0].set_title(f"{latent} dimensions", fontsize=9)
        for axis, frame, command, squares in zip(column, frames, commands, marks, strict=True):
            image = next(face.frames(command[None], frame)) if steered else face.reconstruct(frame)
            encoded = {ENCODED: face.encoded_controls(frame)} if objective in ("RPE", "SPE") else {}
            _picture(axis, image, squares | encoded if objective != "R" else {}, layout)
    figure.subplots_adjust(0, 0, 1, 0.95, wspace=0.03, hspace=0.03)
    return figure


FIGURES: dict[str, Callable[[StudyResults], Any]] = {
    "3.2": dataset_sample,
    "3.7": partial(best_losses, "R", ["reconstruction"]),
    "3.8": partial(loss_curves, "R", ["reconstruction"]),
    "3.9": partial(samples, "R", 0, False),
    "3.10": partial(samples, "R", 1, False),
    "3.11": partial(best_losses, "RPE", ["reconstruction", "control"]),
    "3.12": partial(loss_curves, "RPE", ["reconstruction", "control"]),
    "3.13": partial(loss_curves, "position only", ["control"]),
    "3.14": partial(samples, "RPE", 0, False),
    "3.15": partial(samples, "RPE", 0, True),
    "3.16": partial(best_losses, "SPE", ["swap", "control"]),
    "3.17": partial(loss_curves, "SPE", ["swap", "control"]),
    "3.18": partial(samples, "SPE", 0, True),
    "3.19": partial(best_losses, "SD", ["swap"]),
    "3.20": partial(loss_curves, "SD", ["swap"]),
    "A.1": partial(samples, "RPE", 1, False),
    "A.2": partial(samples, "RPE", 1, True),
    "A.3": partial(samples, "SPE", 1, True),
    "A.4": partial(samples, "SD", 0, True),
    "A.5": partial(samples, "SD", 1, True),
}
"""By the thesis's figure numbers."""


NOTES: dict[str, tuple[str, str]] = {
    "3.2": (
        "Images of the position dataset; the label in green, the range of the face in black.",
        "1,000 images of 640×480, the face 152×200, up to 50 pixels from the centre in each direction.",
    ),
    "3.7": (
        "R: reconstruction loss of the best epoch over latent size.",
        "More dimensions reconstruct better; the difference between 2 and 4 is the greatest.",
    ),
    "3.8": (
        "R: reconstruction loss over the epochs.",
        "No large spikes; the validation loss still improves slowly at the end, so nothing is overfitted.",
    ),
    "3.9": (
        "R: inputs and reconstructions, smaller latents.",
        "The improvement from 2 to 4 dimensions is visible; between higher neighbours it is hard to see.",
    ),
    "3.10": ("R: inputs and reconstructions, larger latents.", "From 4 to 256 dimensions the gain is clearly visible."),
    "3.11": (
        "RPE: reconstruction and position loss of the best epoch over latent size.",
        "Both improve most from 2 to 4 dimensions and barely change beyond.",
    ),
    "3.12": (
        "RPE: reconstruction and position loss over the epochs.",
        "Large spikes in both losses, correlated with each other.",
    ),
    "3.13": (
        "Position only: position loss over the epochs.",
        "Position encoding alone has large spikes too, though smaller than RPE's.",
    ),
    "3.14": (
        "RPE: inputs and reconstructions, smaller latents.",
        "2 dimensions are blurrier than R's; faces lie near their true place; the encoded position (red) is decent.",
    ),
    "3.15": (
        "RPE: steered from the red square to the blue one, smaller latents.",
        "The face moves with 2 dimensions; with more nothing visible happens.",
    ),
    "3.16": (
        "SPE: swap and position loss of the best epoch over latent size.",
        "The swap loss falls up to 32 dimensions and not beyond; 2 to 4 is less dramatic than RPE's.",
    ),
    "3.17": (
        "SPE: swap and position loss over the epochs.",
        "The position loss is low and flat over dimensions but spikes; the spikes seem to spread to the swap loss.",
    ),
    "3.18": (
        "SPE: steered from the red square to the blue one, smaller latents.",
        "The face moves with every size; quality grows with the dimensions but is inferior to R and RPE.",
    ),
    "3.19": (
        "SD: swap loss of the best epoch over latent size.",
        "Much like SPE's, slightly lower; no further fall after 32 dimensions.",
    ),
    "3.20": ("SD: swap loss over the epochs.", "Smaller spikes than SPE's: there is no position loss to cause them."),
    "A.1": ("RPE: inputs and reconstructions, larger latents.", "Continues 3.14."),
    "A.2": ("RPE: steered from the red square to the blue one, larger latents.", "Continues 3.15: nothing moves."),
    "A.3": ("SPE: steered from the red square to the blue one, larger latents.", "Continues 3.18."),
    "A.4": (
        "SD: steered from the green square to the blue one, smaller latents.",
        "The gain over SPE cannot be seen in the images.",
    ),
    "A.5": ("SD: steered from the green square to the blue one, larger latents.", "Continues A.4."),
}
"""By figure: what it shows, and what the thesis says about it."""


def stability(curves: dict[str, pd.DataFrame]) -> Any:
    """Validation losses of trainings by their optimization: ``epoch``, ``split``, ``validation/*``."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(2, 1, figsize=(9, 5.4), sharex=True)
        for axis, (loss, title) in zip(axes, (("control", "position loss"), ("swap", "swap loss")), strict=True):
            for name, table in curves.items():
                for split, curve in table.groupby("split"):
                    colour, label = STABILITY_COLOURS[name], name if split == 0 else None
                    values = curve[f"validation/{loss}"]
                    axis.plot(curve["epoch"], values, color=colour, linewidth=0.9, alpha=0.8, label=label)
            axis.set_yscale("log")
            axis.set_ylabel(f"{title}, validation")
        axes[0].legend(frameon=False)
        axes[1].set_xlabel("epoch")
        figure.tight_layout()
    return figure


def _band(axis: Any, x: Array, grouped: Any, colour: Any, label: str, marker: str = "") -> None:
    """A bold line through the means and a shaded band from minimum to maximum."""
    axis.plot(x, grouped.mean().to_numpy(), color=colour, linewidth=1.6, label=label, marker=marker, markersize=3.5)
    axis.fill_between(x, grouped.min().to_numpy(), grouped.max().to_numpy(), color=colour, alpha=0.2, linewidth=0)


def _picture(axis: Any, image: Array, marks: dict[str, Array], layout: Layout) -> None:
    """An image with a square at each of the marked centres, in pixels from the top left corner."""
    extent = (0, layout.width, layout.height, 0)
    axis.imshow(image, cmap="gray", vmin=0, vmax=255, extent=extent, interpolation="nearest")
    for colour, (x, y) in marks.items():
        side = (12 if colour == ENCODED else 20) * layout.scale  # the encoded centre fits inside the true one
        corner = (x - side / 2, y - side / 2)
        axis.add_patch(Rectangle(corner, side, side, fill=False, edgecolor=colour, linewidth=1.3))
    axis.set_xlim(0, layout.width)
    axis.set_ylim(layout.height, 0)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.grid(visible=False)
    for spine in axis.spines.values():
        spine.set(visible=True, color="#bbbbbb", linewidth=0.6)


def _apart(centres: Array, count: int) -> list[int]:
    """Indices of ``count`` positions far from one another."""
    chosen = [0]
    while len(chosen) < count:
        distance = np.min([np.linalg.norm(centres - centres[index], axis=1) for index in chosen], axis=0)
        chosen.append(int(np.argmax(distance)))
    return chosen


def _corners(centres: Array, indices: Array, middle: Array, count: int = 3) -> list[int]:
    """Frames far from the middle, each in another quadrant of the wall, so that the mirrored position is far away."""
    offsets = centres[indices] - middle
    chosen: dict[tuple[bool, bool], int] = {}
    for place in np.argsort(-np.linalg.norm(offsets, axis=1)):
        quarter = (bool(offsets[place][0] > 0), bool(offsets[place][1] > 0))
        chosen.setdefault(quarter, int(indices[place]))
    return list(chosen.values())[:count]
