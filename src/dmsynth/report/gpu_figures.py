"""How many trainings at once a device does best, drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

from dmsynth.report.figures import STYLE, save

matplotlib.use("Agg")
from matplotlib import pyplot as plt

_COLOUR = "#1f4e79"


def draw_sharing(shared: Sequence[dict[str, Any]], sizes: Sequence[dict[str, Any]], path: Path) -> None:
    """Steps a second of all trainings together, over how many there are at once (``shared``) and over their latent
    size (``sizes``); rows of ``at_once``, ``latent`` and ``steps_per_second``."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(9.2, 3.0), sharey=True)
        panels = ((shared, "at_once", "trainings at once"), (sizes, "latent", "latent dimensions"))
        for axis, (rows, name, title) in zip(axes, panels, strict=True):
            places = range(len(rows))
            axis.plot(places, [row["steps_per_second"] for row in rows], marker="o", color=_COLOUR)
            axis.set_xticks(places, [str(row[name]) for row in rows])
            axis.set_xlabel(title)
            axis.margins(x=0.1)
        axes[0].set_ylim(0, 1.08 * max(row["steps_per_second"] for row in (*shared, *sizes)))
        axes[0].set_ylabel("steps a second, all together")
        for axis, rows, name in ((axes[0], shared, "latent"), (axes[1], sizes, "at_once")):
            common = {row[name] for row in rows}
            if len(common) == 1:
                unit = "dimensions" if name == "latent" else "at once"
                axis.set_title(f"{common.pop()} {unit}", fontsize=9)
        figure.tight_layout()
        save(figure, path)
