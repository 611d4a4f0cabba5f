"""The ground truth of a rendered scenario as ASAM OpenLABEL 1.0.0 JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dmsynth.camera import Camera
from dmsynth.camera.capture import LANDMARKS
from dmsynth.controls import BROWS, MOUTH
from dmsynth.controls.pose import rotation_matrix
from dmsynth.motion.eyes import CLOSED, line_of_sight
from dmsynth.support.files import write_json
from dmsynth.support.version import __version__
from dmsynth.validation.rendering import Rendered
from dmsynth.validation.scenarios import Scenario
from dmsynth.validation.verdicts import AXES, OPENING, commands

_MOVED = (MOUTH, BROWS)
_SEEN = ("light", "exposure", "visible_left", "visible_right", "visible_mouth")  # what a camera's table says besides
_AWAY = 12.0  # degrees of yaw or pitch from which the action "looks away" is recorded


def openlabel(scenario: Scenario, rendered: Rendered) -> dict[str, Any]:
    """Head pose, line of sight, the eyes' and the mouth's opening and the brows frame by frame (what the face moves);
    as actions, the looks away, the closed eyes, the windows in which a warning has to begin, when the view is blocked,
    and when the DMS has to have told so.

    The angles follow ``controls.pose``, in degrees, as ``num`` of the object "driver"; the same rotation is also given
    as a 3×3 matrix. ``covered``: whether the face's training data covers the pose. With a camera, head and matrix are
    the car's; ``camera_head_…`` and the line of sight are as the camera sees them, and landmarks are given in its
    pixels and, in metres, in its frame (x right, y down, z away from it).
    """
    table = rendered.table
    wanted = {name: values for name, values in commands(table).items() if name not in AXES}
    angles = table[list(AXES)].to_numpy(float)
    looks = _looks(table)
    eyes = {name if name == OPENING else f"line_of_sight_{name.partition('_')[2]}": wanted[name] for name in wanted}
    eyes |= {f"camera_head_{axis}": table[f"camera_{axis}"].to_numpy(float) for axis in AXES if scenario.camera}
    eyes |= {name: table[name].to_numpy(float) for name in (*_MOVED, *_SEEN) if name in table.columns}
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
            for name, value in zip(AXES, angles[number], strict=True)
        ] + [{"name": name, "val": round(float(values[number]), 4)} for name, values in eyes.items()]
        matrix = [round(float(value), 6) for value in matrices[number].ravel()]
        data: dict[str, Any] = {
            "num": numbers,
            "mat": [
                {"name": "head_rotation", "val": matrix, "width": 3, "height": 3, "channels": 1, "data_type": "float64"}
            ],
            "boolean": [{"name": "covered", "val": bool(table["covered"].iloc[number])}],
        }
        if scenario.camera:
            data |= _landmarks(scenario.camera, table.iloc[number])
        if "worn" in table.columns:
            data["text"] = [{"name": "worn", "val": str(table["worn"].iloc[number])}]
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
        "streams": {"camera": _stream(scenario.camera, rendered.video.name)},
        "frame_intervals": whole,
        "objects": {"0": {"name": "driver", "type": "Person", "frame_intervals": whole}},
        "frames": frames,
    }
    if actions:
        content["actions"] = {uid: action for uid, (action, _) in actions.items()}
    return {"openlabel": content}


def _looks(table: pd.DataFrame) -> NDArray[np.float64]:
    """Where the driver looks, (n, 2) pitch and yaw in the car's frame: by the head, or if it moves them by the eyes."""
    head = [table[axis].to_numpy(float) for axis in AXES]
    if not {"gaze_pitch", "gaze_yaw"} <= set(table.columns):
        return np.stack(head[:2], axis=1)
    gaze = (table[name].to_numpy(float) for name in ("gaze_yaw", "gaze_pitch"))
    yaw, pitch = line_of_sight(rotation_matrix(*head), *gaze)
    return np.stack([pitch, yaw], axis=1)


def _landmarks(camera: Camera, row: pd.Series) -> dict[str, Any]:
    """The box and the named points of a face in one frame."""
    left, top, right, bottom = (float(row[f"face_{side}"]) for side in ("left", "top", "right", "bottom"))
    box = [round(value, 3) for value in ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)]
    flat, solid = [], []
    for name in LANDMARKS:
        x, y, away = (float(row[f"{name}_{axis}"]) for axis in "xyz")
        point = camera.in_space(x, y, away / 100)
        flat.append({"name": name, "val": [round(x, 3), round(y, 3)]})
        solid.append({"name": name, "val": [round(value, 5) for value in point]})
    return {"bbox": [{"name": "face", "val": box}], "point2d": flat, "point3d": solid}


def _stream(camera: Camera | None, video: str) -> dict[str, Any]:
    stream: dict[str, Any] = {"type": "camera", "uri": video, "description": "Driver's camera"}
    if camera is None:
        return stream
    (width, height), focal = camera.size, camera.focal_length
    matrix = [focal, 0.0, (width - 1) / 2, 0.0, 0.0, focal, (height - 1) / 2, 0.0, 0.0, 0.0, 1.0, 0.0]
    pinhole = {"width_px": width, "height_px": height, "camera_matrix_3x4": [round(each, 4) for each in matrix]}
    stream["description"] = f"Driver's camera: {camera.identity}, {camera.title}"
    return stream | {"stream_properties": {"intrinsics_pinhole": pinhole}}


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
    for number, (begin, end) in enumerate(scenario.blocked, start=1):
        first, stop = (round(edge * scenario.video_rate) for edge in (begin, end))
        named.append((f"view blocked {number}", "ViewBlocked", [(first, min(stop - 1, last))]))
        due = round((begin + scenario.unavailable[number - 1].within) * scenario.video_rate)
        named.append((f"unavailable expected {number}", "UnavailableExpected", [(first, min(due, last))]))
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
