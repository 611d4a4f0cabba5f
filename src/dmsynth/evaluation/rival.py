"""The simplest rival: filmed frames, posed without any learning (``steering.posed``), on the same held-out frames."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from dmsynth.controls import ControlSpace
from dmsynth.datasets.dataset import Dataset
from dmsynth.evaluation import Evaluation, carried_along, compare, tracking_errors
from dmsynth.evaluation.geometry import geometry_errors
from dmsynth.steering.posed import posed_frames
from dmsynth.support.errors import DmsynthError
from dmsynth.support.progress import console, progress
from dmsynth.trackers import Tracker
from dmsynth.video import Image

MOST = 60  # held-out frames, evenly chosen: each takes half a second


def with_rival(
    evaluation: Evaluation, space: ControlSpace, dataset: Dataset, tracker: Tracker, most: int = MOST
) -> Evaluation:
    """The evaluation with the posed rival beside the face, on at most ``most`` of the same held-out frames.

    ``metrics["rival"]`` has the rival's figures and, as ``face``, the face's own on the same frames. A face that is
    worse is warned of. Unchanged for the rival itself, for posed datasets, whose frames are the rival's own, for spaces
    other than the head's rotation, and for trackers without landmarks.
    """
    unmeasured = space.name != "rotation" or evaluation.metrics["geometry"] is None
    if dataset.frames_are != "real" or evaluation.metrics["model"] == "posed" or unmeasured:
        return evaluation
    table = evaluation.table
    rows = table.iloc[np.linspace(0, len(table) - 1, min(most, len(table))).round().astype(int)]
    drawn, measured = _draw(evaluation, rows, dataset, tracker)
    if not measured:
        return evaluation
    own = table.loc[list(measured)]
    rival = pd.DataFrame(list(measured.values()))
    figures = _figures(rival, space) | {"face": _figures(own, space)}
    worse = [name for name, (ours, theirs) in _pairs(figures["face"], figures).items() if ours > theirs]
    if worse:
        console.print(
            f"warning: worse than its own filmed frames, posed without any learning, in {', '.join(worse)}; "
            f"train longer, or steer posed:{dataset.path} in its place",
            style="yellow",
        )
    pictures = {int(table.loc[index, "position"]): image for index, image in drawn.items()}
    metrics = evaluation.metrics | {"rival": figures | {"worse_in": worse}}
    return replace(evaluation, metrics=metrics, rival=pictures)


def _draw(
    evaluation: Evaluation, rows: pd.DataFrame, dataset: Dataset, tracker: Tracker
) -> tuple[dict[Any, Image], dict[Any, dict[str, Any]]]:
    """The rival's pictures and measurements, by row of the evaluation's table; what it cannot draw is left out."""
    rival = posed_frames(dataset, tracker)
    space, numbers = rival.trained.space, rows["frame"].to_numpy(int)
    commanded = dataset.controls(space, rival.trained.about["settings"]["labels"])[numbers]
    carried = carried_along(rival, dataset, commanded, numbers)
    drawn, measured = {}, {}
    with progress("posing the rival", len(rows)) as advance:
        for place, (index, row) in enumerate(rows.iterrows()):
            one = None if carried is None else carried[place : place + 1]
            try:
                image = next(rival.frames(commanded[place : place + 1], carried=one, moving=False))
            except DmsynthError:  # no face found in its source frame
                continue
            finally:
                advance()
            target = evaluation.targets[int(row["position"])]
            drawn[index] = image
            measured[index] = compare(tracker, space, target, image, common_shift=True)
    return drawn, {index: row for index, row in measured.items() if row["target_found"]}


def _figures(table: pd.DataFrame, space: ControlSpace) -> dict[str, Any]:
    return {
        "frames": len(table),
        "lost": int((~table["found"].astype(bool)).sum()),
        "mae": tracking_errors(table, space)["mae"],
        "geometry": geometry_errors(table),
        "sharpness": round(float(table["sharpness"].median()), 3),
    }


def _pairs(face: dict[str, Any], rival: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Figures of face and rival, where lower is better."""
    pairs = {f"{name} error": (face["mae"][name], rival["mae"][name]) for name in face["mae"]}
    pairs["lost frames"] = (face["lost"], rival["lost"])
    for name in face["geometry"] or {}:
        pairs[f"geometry error ({name})"] = (face["geometry"][name], (rival["geometry"] or {}).get(name))
    return {name: pair for name, pair in pairs.items() if None not in pair}
