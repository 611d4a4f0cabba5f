"""An animation of a demo: the steered person, and beside it the tracker's answer against the command over time.

python -m dmsynth.report.moving runs/demo docs/images/demo.webp
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import PIL.Image
from matplotlib import pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg

from dmsynth.report.figures import STYLE
from dmsynth.support.files import replacing
from dmsynth.support.table_files import read_table
from dmsynth.video import Image, read_video, to_rgb

FRAME_RATE = 12.5
_AXES = (("yaw", "#e4572e"), ("pitch", "#2a9d8f"), ("roll", "#6c5b9e"))


def moving_picture(demo: Path, out: Path) -> None:
    """Write ``out`` (.webp, 960×330, every 2nd frame) from a demo's folder: ``steered.mp4``, ``tracked.parquet``."""
    table = read_table(demo / "tracked.parquet")
    frames = [to_rgb(frame.image) for frame in read_video(demo / "steered.mp4")][:: max(1, round(25 / FRAME_RATE))]
    times = np.linspace(table["time"].min(), table["time"].max(), len(frames))
    with plt.rc_context(STYLE):
        drawn = [_drawn(frame, table, time) for frame, time in zip(frames, times, strict=True)]
    first, *rest = (PIL.Image.fromarray(picture) for picture in drawn)
    with replacing(out) as temporary:
        first.save(
            temporary,
            save_all=True,
            append_images=rest,
            duration=round(1000 / FRAME_RATE),
            loop=0,
            quality=50,
            method=6,
        )


def _drawn(frame: Image, table: pd.DataFrame, time: float) -> Image:
    """One frame (330, 960, 3) of the animation: the video frame, and the curves up to its time."""
    figure = plt.figure(figsize=(9.6, 3.3), dpi=100)
    canvas = FigureCanvasAgg(figure)
    left = figure.add_axes((0.0, 0.0, 0.44, 1.0))
    left.imshow(frame, aspect="equal")
    left.axis("off")
    right = figure.add_axes((0.51, 0.16, 0.47, 0.72))
    past = table[table["time"] <= time]
    for name, colour in _AXES:
        right.plot(table["time"], table[f"target_{name}"], color=colour, linewidth=5, alpha=0.25)
        right.plot(past["time"], past[f"tracked_{name}"], color=colour, linewidth=1.4, label=name)
    right.axvline(time, color="#9a9a9a", linewidth=0.8)
    right.set_xlabel("seconds")
    right.set_ylabel("degrees")
    right.legend(frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(-0.02, 1.0), fontsize=9)
    right.text(0.99, 0.04, "wide: commanded · thin: tracked", transform=right.transAxes, ha="right", fontsize=9)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    plt.close(figure)
    return pixels


if __name__ == "__main__":
    moving_picture(Path(sys.argv[1]), Path(sys.argv[2]))
