"""The card of a set of labelled frames: who is in it, on what consent, how it is distributed, how to make it again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from jinja2 import Environment, StrictUndefined
from matplotlib import pyplot as plt

from dmsynth.controls import EYES, HEAD, MOUTH
from dmsynth.generation.checks import Checked
from dmsynth.generation.plan import Order
from dmsynth.generation.store import Store
from dmsynth.generation.stored import StoredClip, sampled
from dmsynth.report.figures import STYLE, save
from dmsynth.support.files import replacing, write_text
from dmsynth.support.version import __version__
from dmsynth.video import Image, write_image

_CLIPS, _SHARDS = 200, 8  # whose labels are drawn
_COLUMNS, _ROWS = 6, 5
_TILE = (320, 240)  # pixels of a frame on the sheet
_COLOURS = ("#1f4e79", "#e4572e", "#2a9d5c", "#c98500", "#a0409b", "#6b7a89")
_BINS = 30
_SHOWN = {
    **dict.fromkeys((f"camera_{axis}" for axis in HEAD), "°"),
    **dict.fromkeys(EYES[:2], "°"),
    EYES[2]: "of rest",
    MOUTH: "of wide open",
    "visible_left": "of the eye at rest",
}
"""Labels whose distribution is drawn, with their units."""


def write_card(store: Store, order: Order, people: dict[str, Checked], index: pd.DataFrame, size: int) -> list[str]:
    """Write ``README.md`` and its pictures, ``card/frames.png`` and ``card/distributions.png``, and return their names.

    index: one row per clip. size: bytes of all shards.
    """
    out = store.work
    labels: list[pd.DataFrame] = []
    sheet: list[Image] = []
    every = max(1, min(_CLIPS, len(index)) // (_COLUMNS * _ROWS))
    for number, (row, clip) in enumerate(sampled(store, index, _CLIPS, _SHARDS)):
        table = clip.labels
        labels.append(table.assign(kind=str(row["motion"]).partition(" ")[0]))
        if number % every == 0 and len(sheet) < _COLUMNS * _ROWS:
            sheet.append(_tile(clip, len(table) * (2 + number % 5) // 8))
    (out / "card").mkdir(exist_ok=True)
    with replacing(out / "card" / "frames.png") as temporary:
        write_image(temporary, _sheet(sheet))
    _distributions(pd.concat(labels), out / "card" / "distributions.png")
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files("dmsynth.generation").joinpath("card.md.jinja").read_text("utf-8"))
    counts = {name: _counted(index, name) for name in ("person", "motion", "camera", "things")}
    text = template.render(
        plan=order.plan,
        plan_text=json.dumps(order.plan.model_dump(mode="json", exclude_defaults=True), indent=2, ensure_ascii=False),
        people=people,
        counts=counts,
        clips=len(index),
        frames=int(index["frames"].sum()),
        shards=index["shard"].nunique(),
        gigabytes=size / 1e9,
        covered=float((index["covered"] * index["frames"]).sum() / index["frames"].sum()),
        drawn=len(labels),
        version=__version__,
    )
    write_text(out / "README.md", text)
    return ["card/frames.png", "card/distributions.png", "README.md"]


def _counted(index: pd.DataFrame, name: str) -> list[tuple[str, int, int]]:
    """Name, clips and frames, the most frames first."""
    groups = index.groupby(name)["frames"].agg(["size", "sum"]).sort_values("sum", ascending=False, kind="stable")
    return [(str(key), int(clips), int(frames)) for key, clips, frames in groups.itertuples()]


def _tile(clip: StoredClip, number: int) -> Image:
    """A frame, with its size on the sheet: whole, on black."""
    image = clip.images([number])[0]
    scale = min(_TILE[0] / image.shape[1], _TILE[1] / image.shape[0])
    shown = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    tile = np.zeros((_TILE[1], _TILE[0], 3), np.uint8)
    top, left = (_TILE[1] - shown.shape[0]) // 2, (_TILE[0] - shown.shape[1]) // 2
    tile[top : top + shown.shape[0], left : left + shown.shape[1]] = shown
    return tile


def _sheet(tiles: Sequence[Image]) -> Image:
    columns = min(_COLUMNS, len(tiles))
    empty = np.zeros_like(tiles[0])
    padded = [*tiles, *[empty] * (-len(tiles) % columns)]
    return np.vstack([np.hstack(padded[at : at + columns]) for at in range(0, len(padded), columns)])


def _distributions(labels: pd.DataFrame, path: Path) -> None:
    """Histograms of the labels, by the kind of motion."""
    kinds = sorted(labels["kind"].unique())
    present = {name: unit for name, unit in _SHOWN.items() if name in labels.columns}
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(3, 3, figsize=(10.5, 8), squeeze=False)
        for axis, (name, unit) in zip(axes.flat, present.items(), strict=False):
            parts = [labels.loc[labels["kind"] == kind, name].to_numpy(float) for kind in kinds]
            colours: Any = [_COLOURS[at % len(_COLOURS)] for at in range(len(kinds))]
            axis.hist(parts, bins=_BINS, stacked=True, color=colours, label=kinds)
            axis.set_title(name.replace("_", " "), fontsize=9)
            axis.set_xlabel(unit, fontsize=8)
            axis.set_yticks([])
        last = axes.flat[len(present)]
        yaw, pitch = (labels[f"camera_{axis}"].to_numpy(float) for axis in ("yaw", "pitch"))
        last.hist2d(yaw, pitch, bins=_BINS, cmap="Blues")
        last.set_title("camera yaw and pitch", fontsize=9)
        last.set_xlabel("yaw, °", fontsize=8)
        last.set_ylabel("pitch, °", fontsize=8)
        for axis in axes.flat[len(present) + 1 :]:
            axis.axis("off")
        axes.flat[0].legend(fontsize=7)
        figure.tight_layout()
        save(figure, path)
