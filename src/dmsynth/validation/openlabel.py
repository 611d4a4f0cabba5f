"""The ground truth of a rendered scenario as ASAM OpenLABEL 1.0.0 JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dmsynth.controls.pose import rotation_matrix
from dmsynth.motion.eyes import CLOSED
from dmsynth.support.files import write_json
from dmsynth.support.version import __version__
from dmsynth.validation.rendering import Rendered
from dmsynth.validation.scenarios import Scenario
from dmsynth.validation.verdicts import OPENING, commands

_AWAY = 12.0  # degrees of yaw or pitch from which the action "looks away" is recorded


def openlabel(scenario: Scenario, rendered: Rendered) -> dict[str, Any]:
    """Head pose, line of sight and the eyes' opening frame by frame (the eyes if the face moves them); as actions, the
    looks away, the closed eyes, and the windows in which a warning has to begin.

    The angles follow ``controls.pose``, in degrees, as ``num`` of the object "driver"; the same rotation is also given
    as a 3×3 matrix. ``covered``: whether the face's training data covers the pose.
    """
    table = rendered.table
    wanted = commands(table)
    angles = np.stack([wanted.pop(name) for name in ("pitch", "yaw", "roll")], axis=1)
    looks = np.stack([wanted["gaze_pitch"], wanted["gaze_yaw"]], axis=1) if wanted else angles[:, :2]
    eyes = {name if name == OPENING else f"line_of_sight_{name.partition('_')[2]}": wanted[name] for name in wanted}
    matrices = rotation_matrix(angles[:, 0], angles[:, 1], angles[:, 2])
    last = len(table) - 1
    whole = [{"frame_start": 0, "frame_end": last}]
    away = (np.abs(looks) > _AWAY).any(axis=1)
    closed = wanted.get(OPENING, np.ones(len(table))) <= CLOSED
    actions = _actions(scenario, _runs(away & ~closed), _runs(closed), last)
    frames = {}
    for number in range(len(table)):
        numbers = [
            {"name": f"head_{name}", "val": round(float(value), 4)}
            for name, value in zip(("pitch", "yaw", "roll"), angles[number], strict=True)
        ] + [{"name": name, "val": round(float(values[number]), 4)} for name, values in eyes.items()]
        matrix = [round(float(value), 6) for value in matrices[number].ravel()]
        data = {
            "num": numbers,
            "mat": [
                {"name": "head_rotation", "val": matrix, "width": 3, "height": 3, "channels": 1, "data_type": "float64"}
            ],
            "boolean": [{"name": "covered", "val": bool(table["covered"].iloc[number])}],
        }
        now: dict[str, Any] = {
            uid: {} for uid, (_, runs) in actions.items() if any(begin <= number <= end for begin, end in runs)
        }
        frames[str(number)] = {
            "frame_properties": {"timestamp": round(float(table["time"].iloc[number]), 4)},
            "objects": {"0": {"object_data": data}},
            **({"actions": now} if now else {}),
        }
    content: dict[str, Any] = {
        "metadata": {
            "schema_version": "1.0.0",
            "tagged_file": rendered.video.name,
            "annotator": f"dmsynth {__version__}",
            "name": scenario.name,
            "comment": f"Synthetic video. {scenario.title}. Source: {scenario.source}",
        },
        "streams": {"camera": {"type": "camera", "uri": rendered.video.name, "description": "Driver's camera"}},
        "frame_intervals": whole,
        "objects": {"0": {"name": "driver", "type": "Person", "frame_intervals": whole}},
        "frames": frames,
    }
    if actions:
        content["actions"] = {uid: action for uid, (action, _) in actions.items()}
    return {"openlabel": content}


def _actions(
    scenario: Scenario, away: list[tuple[int, int]], closed: list[tuple[int, int]], last: int
) -> dict[str, tuple[dict[str, Any], list[tuple[int, int]]]]:
    """The actions by their number, each with its first and last frames."""
    named = [("looks away", "LooksAway", away)] if away else []
    named += [("eyes closed", "EyesClosed", closed)] if closed else []
    for number, window in enumerate(scenario.windows, start=1):
        since = scenario.marks[window.since]
        edges = [round((since + edge) * scenario.video_rate) for edge in (window.earliest, window.latest)]
        named.append((f"warning expected {number}", "WarningExpected", [(edges[0], min(edges[1], last))]))
    return {
        str(uid): (
            {
                "name": name,
                "type": kind,
                "frame_intervals": [{"frame_start": begin, "frame_end": end} for begin, end in runs],
            },
            runs,
        )
        for uid, (name, kind, runs) in enumerate(named)
    }


def write_openlabel(path: Path, scenario: Scenario, rendered: Rendered) -> None:
    write_json(path, openlabel(scenario, rendered))


def _runs(here: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and last index of every run of true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], here, [False]]).astype(int)))
    return [(int(begin), int(end) - 1) for begin, end in edges.reshape(-1, 2)]
