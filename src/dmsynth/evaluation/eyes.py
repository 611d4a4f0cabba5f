"""How exactly eyes, mouth and brows are commanded: sweeps of gaze, lids, mouth, brows and head, measured by landmarks
and, where it can be had, by a network made for cars.

Judges read gaze on scales of their own (``docs/judges.md``), and read up and down hardly at all. So a face is measured
beside the ``truth``, the same commands posed (``steering.posed``) where the exact picture is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dmsynth.controls import BROWS, FEATURES, FEATURES_AT_REST, HEAD, MOUTH
from dmsynth.controls.pose import angle_difference
from dmsynth.steering import SteerableFace
from dmsynth.support.errors import DmsynthError
from dmsynth.support.parallel import map_ordered
from dmsynth.support.progress import console
from dmsynth.trackers import Face, Tracker, why_unusable
from dmsynth.trackers.brows import brow_columns
from dmsynth.trackers.gaze import Gaze, GazeNetwork, eye_aspects, gaze_by_landmarks
from dmsynth.trackers.mouth import mouth_columns
from dmsynth.video import Image, fit, to_grey, to_rgb

GazeJudge = Callable[[Image, Face], Gaze]

_YAW, _PITCH = 25.0, 15.0  # degrees either way
_HEAD_YAWS = (-20.0, 0.0, 20.0)
_POINTS = 21  # of a sweep
_JUDGED_WIDTH = 640  # smaller frames are enlarged: the trackers' eyes are made for larger ones
_JUDGES = ("landmarks", "network")
_PARTS = {"mouth": (MOUTH, "opening_mouth"), "brows": (BROWS, "raised_brows")}
_EYE_CUT = 1.3  # of an eye's width: the region whose sharpness is measured
_CORNERS = ((33, 133), (362, 263))
_OUTER = (33, 263)
_ENOUGH = 0.5  # of the frames, in which a face must be found
_STRIP = 3  # times as wide as high: a picture of both eyes


def gaze_judge(model: Path | None = None) -> GazeJudge | None:
    """The gaze network, given or where it is at hand; None, with a note, if it is nowhere.

    Raises ``DmsynthError`` for a given ``model`` that cannot be opened.
    """
    try:
        return GazeNetwork(model)
    except DmsynthError as error:
        if model is not None:
            raise
        console.print(f"note: gaze is judged by landmarks alone; {error}", style="yellow")
        return None


def eye_commands() -> pd.DataFrame:
    """The sweeps, a row a frame: ``sweep`` names it, the other columns are controls; what is not named is at rest."""
    rest = dict.fromkeys(HEAD, 0.0) | dict(zip(FEATURES, FEATURES_AT_REST, strict=True))
    rows: list[dict[str, Any]] = []

    def sweep(name: str, values: NDArray[np.float64], controls: tuple[str, ...], **at: float) -> None:
        rows.extend(rest | at | dict.fromkeys(controls, float(v)) | {"sweep": name} for v in values)

    ends = np.linspace(-1, 1, _POINTS)
    lids = np.concatenate([np.linspace(1, 0, _POINTS // 2), np.linspace(0, 1, _POINTS // 2)])
    for yaw in _HEAD_YAWS:
        sweep(f"gaze_yaw at yaw {yaw:g}°", _YAW * ends, ("gaze_yaw",), yaw=yaw)
    sweep("gaze_pitch", _PITCH * ends, ("gaze_pitch",))
    sweep("yaw", _YAW * ends, ("yaw",))
    sweep("pitch", _PITCH * ends, ("pitch",))
    sweep("both lids", lids, ("eye_opening_left", "eye_opening_right"))
    sweep("left lid", lids, ("eye_opening_left",))
    sweep("right lid", lids, ("eye_opening_right",))
    for yaw in _HEAD_YAWS:
        sweep(f"mouth at yaw {yaw:g}°", 1 - lids, (MOUTH,), yaw=yaw)
    for yaw in _HEAD_YAWS:
        sweep(f"brows at yaw {yaw:g}°", ends, (BROWS,), yaw=yaw)
    return pd.DataFrame(rows)


def measure_eyes(
    face: SteerableFace,
    tracker: Tracker,
    network: GazeJudge | None = None,
    size: tuple[int, int] | None = None,
    grey: bool = False,
) -> tuple[pd.DataFrame, list[Image]]:
    """Steer through ``eye_commands`` and measure, in frames of the face's size or scaled to ``size`` (width, height),
    and in grey if ``grey``: a truth is judged as the face is that is held against it.

    Returns the table, a row a frame: the commands, ``found``, measured ``head_*`` (degrees), ``landmarks_yaw``,
    ``landmarks_pitch``, ``network_*`` (gaze in the head, degrees), ``opening_left``, ``opening_right`` (1 as open as
    where the sweep of both lids has them at rest), ``sharpness`` (the variance of the eyes' Laplacian); and the frames.

    Raises ``DmsynthError`` for a face whose eyes cannot be commanded, one that is not found in half of the frames, and
    a tracker without landmarks of the eyes.
    """
    commands, space = eye_commands(), face.trained.space
    if not set(FEATURES) <= set(space.names):
        raise DmsynthError(
            f"{face.path}: does not know where its eyes are; make its dataset anew and train again, or take starter "
            "or a photo"
        )
    values = commands[list(space.names)].to_numpy(np.float64)
    drawn = (image for part in _sweeps(commands) for image in face.frames(values[part]))
    frames = [fit(to_grey(image) if grey else image, *(size or face.size)) for image in drawn]

    def one(image: Image) -> dict[str, Any]:
        factor = max(1.0, _JUDGED_WIDTH / image.shape[1])
        large = cv2.resize(to_rgb(image), None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
        faces = tracker(large)
        if why_unusable(faces, large):
            return {"found": False}
        found = faces[0]
        if not len(found.landmarks):
            raise DmsynthError("the tracker gives no landmarks of the eyes; take face-landmarker")
        left, right = eye_aspects(found)
        row: dict[str, Any] = {"found": True, "opening_left": left, "opening_right": right}
        row["opening_mouth"], row["raised_brows"] = mouth_columns(found)[MOUTH], brow_columns(found)[BROWS]
        row |= {f"head_{name}": found.pose[name] for name in HEAD}
        gaze = {"landmarks": gaze_by_landmarks(found)}
        if network is not None:
            gaze["network"] = network(large, found)
        row |= {f"{judge}_yaw": each.gaze_yaw for judge, each in gaze.items()}
        row |= {f"{judge}_pitch": each.gaze_pitch for judge, each in gaze.items()}
        return row | {"sharpness": _sharpness(image, found.landmarks[:, :2] / factor)}

    # a gaze network serves one thread
    rows = list(map(one, frames) if network is not None else map_ordered(one, frames))
    table = pd.concat([commands, pd.DataFrame(rows)], axis=1)
    open_eyes = table["found"] & (table["sweep"] == "both lids") & (table["eye_opening_left"] == 1)
    if not open_eyes.any() or table["found"].mean() < _ENOUGH:
        raise DmsynthError(
            f"{face.path}: a face is found in only {int(table['found'].sum())} of {len(table)} frames; its eyes "
            "cannot be judged"
        )
    for column in ("opening_mouth", "raised_brows"):
        table[column] -= table.loc[open_eyes, column].median()
    for side in ("opening_left", "opening_right"):
        table[side] /= table.loc[open_eyes, side].median()
    return table, frames


def summarize_eyes(table: pd.DataFrame, truth: pd.DataFrame | None = None) -> dict[str, Any]:
    """What ``measure_eyes`` found, as figures: for each sweep of gaze and each judge, ``gain`` and ``correlation``
    with the command; how far a sweep moves what should stay (``head_moves``, ``gaze_moves``: from lowest to highest,
    degrees); for lids, the correlation with the command and the openings when closed;
    for mouth and brows gain and correlation. With the ``truth``'s table also
    ``gain_of_truth`` (the gain over the truth's), ``error`` (mean distance from what the judge reads in the truth,
    degrees) and the eyes' ``sharpness`` over the truth's (median). A sweep of which too few frames were found has the
    number of those ``found``; what cannot be computed is None."""
    both = table if truth is None else table.join(truth[_measured(truth)], rsuffix="_truth")
    both = both[both["found"] & (True if truth is None else truth["found"])]
    judges = [judge for judge in _JUDGES if f"{judge}_yaw" in table]
    found: dict[str, Any] = {"frames": len(table), "lost": int((~table["found"]).sum()), "sweeps": {}}
    for name, rows in ((str(name), rows) for name, rows in both.groupby("sweep", sort=False)):
        about: dict[str, Any] = {"found": len(rows)}
        found["sweeps"][name] = about
        if len(rows) < _ENOUGH * len(table[table["sweep"] == name]):
            continue
        axis = next((axis for axis in ("yaw", "pitch") if name.startswith(f"gaze_{axis}")), None)
        for judge in judges if axis else []:
            column, command = f"{judge}_{axis}", rows[f"gaze_{axis}"].to_numpy()
            read = rows[column].to_numpy()
            about[judge] = {"gain": _gain(command, read), "correlation": _correlation(command, read)}
            if truth is not None:
                real = rows[f"{column}_truth"].to_numpy()
                about[judge] |= {
                    "gain_of_truth": about[judge]["gain"] / _gain(command, real),
                    "error": float(np.abs(read - real).mean()),
                }
        if axis:
            about["head_moves"] = {each: _range(rows, f"head_{each}", truth) for each in HEAD}
        if name in HEAD:
            about["gaze_moves"] = {
                f"{judge}_{each}": _range(rows, f"{judge}_{each}", truth)
                for judge in judges
                for each in ("yaw", "pitch")
            }
            if truth is not None:
                off = angle_difference(rows[f"head_{name}"].to_numpy(), rows[f"head_{name}_truth"].to_numpy())
                about["error"] = float(np.abs(off).mean())
        part, _, _ = name.partition(" ")
        if part in _PARTS:
            control, column = _PARTS[part]
            command, read = rows[control].to_numpy(), rows[column].to_numpy()
            about[part] = {"gain": _gain(command, read), "correlation": _correlation(command, read)}
            if truth is not None:
                about[part]["gain_of_truth"] = about[part]["gain"] / _gain(command, rows[f"{column}_truth"].to_numpy())
            about["head_moves"] = {each: _range(rows, f"head_{each}", truth) for each in HEAD}
        if name.endswith(("lid", "lids")):
            for side in ("left", "right"):
                command, read = rows[f"eye_opening_{side}"].to_numpy(), rows[f"opening_{side}"].to_numpy()
                still = float(np.ptp(command)) == 0
                about[side] = (
                    {"lowest": float(read.min())}
                    if still
                    else {
                        "correlation": _correlation(command, read),
                        "closed": float(read[command == 0].mean()) if (command == 0).any() else np.nan,
                    }
                )
    if truth is not None:
        eyes = both[~both["sweep"].str.startswith((*_PARTS,))]
        found["sharpness"] = float((eyes["sharpness"] / eyes["sharpness_truth"]).median())
    known: dict[str, Any] = _or_none(found)
    return known


def _or_none(value: Any) -> Any:
    """The same with None for what is no number."""
    if isinstance(value, dict):
        return {name: _or_none(each) for name, each in value.items()}
    return None if isinstance(value, float) and not np.isfinite(value) else value


def eye_strip(frames: list[Image], tracker: Tracker, height: int = 96) -> Image:
    """The eyes of every third frame, enlarged, one under the other: (h, w, 3) uint8. A row a sweep."""
    commands, rows = eye_commands(), []
    for part in _sweeps(commands):
        cells = []
        for number in part[::3]:
            image = to_rgb(frames[number])
            faces = tracker(image)
            if not faces or not len(faces[0].landmarks):
                cells.append(np.zeros((height, _STRIP * height, 3), np.uint8))
                continue
            one, other = faces[0].landmarks[list(_OUTER), :2]
            tall = 1.4 / _STRIP * float(np.hypot(*(other - one)))
            cells.append(_cut(image, (one + other) / 2, _STRIP * tall, tall, height))
        rows.append(np.concatenate(cells, axis=1))
    widest = max(row.shape[1] for row in rows)
    return np.concatenate([np.pad(row, ((0, 2), (0, widest - row.shape[1]), (0, 0))) for row in rows])


def _cut(image: Image, middle: NDArray[np.floating[Any]], width: float, tall: float, height: int) -> Image:
    scale = height / tall
    matrix = np.array([[scale, 0, scale * (width / 2 - middle[0])], [0, scale, scale * (tall / 2 - middle[1])]])
    size = (round(width * scale), height)
    return np.asarray(cv2.warpAffine(image, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE))


def _sweeps(commands: pd.DataFrame) -> Iterator[NDArray[np.int64]]:
    for _, rows in commands.groupby("sweep", sort=False):
        yield rows.index.to_numpy()


def _sharpness(image: Image, points: NDArray[np.floating[Any]]) -> float:
    total = 0.0
    grey = to_grey(image)
    for one, other in _CORNERS:
        middle, width = (points[one] + points[other]) / 2, float(np.hypot(*(points[one] - points[other]))) * _EYE_CUT
        left, top = (int(v) for v in np.floor(middle - (width / 2, width / 3)))
        part = grey[max(0, top) : top + round(width / 1.5) + 1, max(0, left) : left + round(width) + 1]
        total += float(cv2.Laplacian(part, cv2.CV_64F).var()) if part.size else 0.0
    return total / len(_CORNERS)


def _measured(table: pd.DataFrame) -> list[str]:
    measured = (*_JUDGES, "head_", "opening_", "raised_", "sharpness")
    return [str(name) for name in table if str(name).startswith(measured)]


def _gain(command: NDArray[np.float64], read: NDArray[np.float64]) -> float:
    return float(np.polyfit(command, read, 1)[0])


def _correlation(command: NDArray[np.float64], read: NDArray[np.float64]) -> float:
    return float(np.corrcoef(command, read)[0, 1])


def _range(rows: pd.DataFrame, column: str, truth: pd.DataFrame | None) -> dict[str, float]:
    moves = {"of": float(np.ptp(rows[column]))}
    return moves if truth is None else moves | {"of_truth": float(np.ptp(rows[f"{column}_truth"]))}
