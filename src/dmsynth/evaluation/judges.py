"""Two judges: does a second tracker, of another make, say the same of the steered frames?

A face that learned from a tracker's labels and is judged by the same tracker is flattered by it (thesis, chapter 5). A
judge that owes nothing to the first one looks at the same frames; what both see is the head's doing. On posed faces
the exact command is known, and each judge can be judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from dmsynth.controls import ControlSpace
from dmsynth.datasets.dataset import Dataset
from dmsynth.evaluation import Evaluation, tracker_floor, tracking_errors
from dmsynth.support.progress import progress
from dmsynth.trackers import Tracker, track_to_table
from dmsynth.video import Frame, Image


def with_second_judge(
    evaluation: Evaluation, space: ControlSpace, dataset: Dataset, second: Tracker | None
) -> Evaluation:
    """The evaluation with a second judge's view of the same frames.

    Its metrics get ``judges`` (``docs/metrics.md``; None without a second judge), its table ``second_target_*`` and
    ``second_tracked_*`` (NaN where that judge finds no face).

    Args:
        space: what is steered; judged are those controls that the second tracker measures.
        dataset: the one that was evaluated on; its exact commands, where it has any, judge the judges.
    """
    if second is None:
        return replace(evaluation, metrics={**evaluation.metrics, "judges": None})
    table = evaluation.table
    positions = table["position"]
    real, steered = ([images[p] for p in positions] for images in (evaluation.targets, evaluation.steered))
    second_views = {"real": _look(second, real, space.names), "steered": _look(second, steered, space.names)}
    space = space.only([name for name in space.names if second_views["real"][name].notna().any()] or space.names)
    names = list(space.names)
    first_views = {
        "real": _view(table, "target", names, np.ones(len(table), bool)),
        "steered": _view(table, "tracked", names, table["found"].to_numpy(bool)),
    }
    first = str(evaluation.metrics["tracker"])
    judges: dict[str, Any] = {"first": first, "second": second.name}
    for kind in ("real", "steered"):
        judges[kind] = agreement(space, first_views[kind], second_views[kind])
    judges["second_alone"] = agreement(space, second_views["real"], second_views["steered"])
    judges["second_alone"]["tracker_floor"] = tracker_floor(second, space, real)
    judges["against_command"] = None
    if {f"commanded_{name}" for name in names} <= set(dataset.labels.columns):
        command = dataset.labels.iloc[table["frame"]].reset_index(drop=True)
        exact = _view(command, "commanded", names, np.ones(len(table), bool))
        judges["against_command"] = {
            who: {kind: agreement(space, exact, views[kind]) for kind in ("real", "steered")}
            for who, views in (("first", first_views), ("second", second_views))
        }
    table = table.copy()
    for prefix, view in (("target", second_views["real"]), ("tracked", second_views["steered"])):
        for name in names:
            table[f"second_{prefix}_{name}"] = view[name].to_numpy(dtype=float)
    return replace(evaluation, table=table, metrics={**evaluation.metrics, "judges": judges})


def _view(table: pd.DataFrame, prefix: str, names: list[str], found: Any) -> pd.DataFrame:
    """What somebody says of each frame: ``found`` and one column a control."""
    view = pd.DataFrame({name: table[f"{prefix}_{name}"].to_numpy(dtype=float) for name in names})
    return view.assign(found=found)


def _look(tracker: Tracker, images: list[Image], names: Sequence[str]) -> pd.DataFrame:
    with progress(f"second judge: {tracker.name}", len(images)) as advance:
        frames = (advance() or Frame(number, float(number), image) for number, image in enumerate(images))
        return track_to_table(tracker, frames).reindex(columns=["found", *names])


def agreement(space: ControlSpace, first: pd.DataFrame, second: pd.DataFrame) -> dict[str, Any]:
    """What the ``second`` says against what the ``first`` says of the same frames, as in ``tracking_errors``.

    Each is a table with ``found`` and one column a control, such as ``track_to_table`` makes. Compared are the
    ``frames`` where both see a face; ``lost`` are those in which only the first does.
    """
    both = first["found"].to_numpy(bool) & second["found"].to_numpy(bool)
    pair = pd.DataFrame({"found": both})
    for name in space.names:
        pair[f"target_{name}"] = first[name].to_numpy(dtype=float)
        pair[f"tracked_{name}"] = second[name].to_numpy(dtype=float)
    lost = int(first["found"].sum()) - int(both.sum())
    return {"frames": int(both.sum()), "lost": lost, **tracking_errors(pair, space)}
