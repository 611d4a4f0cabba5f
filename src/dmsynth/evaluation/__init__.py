"""How exactly a face is steered, with the tracker as the judge (thesis 4.2.1).

Held-out poses are rendered and tracked; the tracker's answer on the steered frame is compared
with its answer on the real frame of that pose. So the tracker's own bias cancels, and what is left is the steering's.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dmsynth.controls import EYES, Control, ControlSpace
from dmsynth.controls.pose import angle_difference
from dmsynth.datasets.dataset import Dataset
from dmsynth.evaluation.geometry import displacement, geometry_columns, geometry_errors
from dmsynth.steering import SteerableFace
from dmsynth.support.errors import DmsynthError
from dmsynth.support.machine import describe_machine
from dmsynth.support.parallel import map_ordered
from dmsynth.support.progress import console, progress
from dmsynth.trackers import Face, Tracker, face_columns, track_to_table, why_unusable
from dmsynth.video import Image, read_video, to_grey, to_rgb

_WORST = 12  # frames whose displacement is kept
_LIDS_OPEN = 0.5  # of a typical opening: with less, nobody can tell where an eye looks
_WRONG = 2.0  # degrees or pixels off: a frame that went wrong


@dataclass(frozen=True)
class Evaluation:
    """What ``evaluate`` found.

    Attributes:
        metrics: as written to ``metrics.json``; ``docs/metrics.md`` defines each.
        table: one row a held-out frame: ``frame`` (in the dataset), ``position`` (in the
            lists below), ``found``, ``target_*`` and ``tracked_*`` for
            each control, ``psnr``, ``ssim``, ``sharpness``.
        source: the source frame.
        targets, steered: the real and the steered frames.
        rival: frames of the posed rival (``rival.with_rival``), by ``position``.
        moved: ``geometry.displacement`` of the frames with the largest geometry error, by ``position``.
    """

    metrics: dict[str, Any]
    table: pd.DataFrame
    source: Image
    targets: list[Image]
    steered: list[Image]
    rival: dict[int, Image] = field(default_factory=dict)
    moved: dict[int, NDArray[np.float32]] = field(default_factory=dict)


def evaluate(face: SteerableFace, dataset: Dataset, tracker: Tracker, most: int = 500) -> Evaluation:
    """Steer to the poses of ``dataset``'s test frames (at most ``most``, evenly chosen) and measure.

    Each pose is steered from that source frame of the face which suits it best (``SteerableFace.from_source`` for a
    given one). Carried controls are those of the test frames, so that a steered frame differs from the real one by the
    steering alone; ``command_only`` has the figures with the source's carried controls, which is what users get.

    Raises:
        DmsynthError: a dataset without test frames, of another size, or in whose test frames no face is found.
    """
    _check(face, dataset, tracker)
    space = face.trained.space
    held_out = _held_out(face, dataset, most)
    list(face.frames(held_out.commanded[:8]))  # the first calls are slow for reasons of their own
    begun = time.perf_counter()
    steered = list(face.frames(held_out.commanded, carried=held_out.carried, moving=False))
    steer_fps = len(steered) / (time.perf_counter() - begun)
    table = _table(face, held_out, steered, tracker)
    if table.empty:
        raise DmsynthError(f"{dataset.path}: the tracker {tracker.name} finds no face in the test frames; use another")
    space = judged(table, space)
    metrics = {
        "model": face.trained.model,
        "sources": len(face.trained.sources),
        "carried": [] if held_out.carried is None else list(face.trained.carried.names),
        "tracker": tracker.name,
        "frames": len(table),
        "frames_are": dataset.frames_are,
        "lost": int((~table["found"]).sum()),
        **tracking_errors(table, space),
        "tracker_floor": {name: _mean(table[f"floor_{name}"]) for name in space.names},
        "geometry": geometry_errors(table),
        "psnr": _mean(table["psnr"]),
        "ssim": _mean(table["ssim"]),
        "sharpness": _median(table["sharpness"]),
        "outside_coverage": _judge_flag(table, space),
        "flicker": flicker(face) if face.trained.draws else None,
        "steer_fps": round(steer_fps, 1),
        "train_seconds": face.trained.about["train_seconds"],
        "dataset_sha256": dataset.sha256,
        "labels": face.trained.about["settings"]["labels"],
        "machine": describe_machine(),
    }
    if held_out.carried is not None:
        metrics["command_only"] = _command_only(face, held_out, tracker)
    moved = _moved(table, held_out.targets, steered, tracker)
    return Evaluation(metrics, table, face.trained.source, held_out.targets, steered, moved=moved)


def _moved(
    table: pd.DataFrame, targets: list[Image], steered: list[Image], tracker: Tracker
) -> dict[int, NDArray[np.float32]]:
    """The displacement maps of the worst frames, measured once more: to keep all would take gigabytes."""
    maps = {}
    for position in table.dropna(subset="geometry").nlargest(_WORST, "geometry")["position"].astype(int):
        moved = displacement(targets[position], steered[position], tracker(targets[position])[0].landmarks)
        if moved is not None:
            maps[position] = moved
    return maps


@dataclass(frozen=True)
class _HeldOut:
    """Test frames of a dataset.

    Attributes:
        chosen: (n,) their numbers in the dataset.
        commanded: (n, k) their controls.
        carried: (n, c) their carried codes; None if face or dataset have none.
        targets: their images, grey or RGB as the face draws.
    """

    chosen: NDArray[np.int64]
    commanded: NDArray[np.float64]
    carried: NDArray[np.float32] | None
    targets: list[Image]


def _check(face: SteerableFace, dataset: Dataset, tracker: Tracker) -> None:
    """Raise ``DmsynthError`` if a face cannot be evaluated on a dataset, and say what to be careful about."""
    trained_on, trained_with = face.trained.about["settings"]["dataset_sha256"], face.trained.about["tracker"]
    if dataset.size != face.size:
        raise DmsynthError(
            f"{dataset.path}: frames of {dataset.size[0]}×{dataset.size[1]}, but {face.path} makes "
            f"{face.size[0]}×{face.size[1]}; import the recording with --size {face.size[0]}x{face.size[1]}"
        )
    if trained_on not in (None, dataset.sha256):
        console.print(
            f"note: {face.path} was trained on another dataset than {dataset.path}; make sure that none of these "
            "test frames was in it",
            style="yellow",
        )
    if trained_with not in (None, tracker.name):
        console.print(f"note: {face.path} learned the scale of {trained_with}", style="yellow")
    dataset.check_frames()


def _held_out(face: SteerableFace, dataset: Dataset, most: int) -> _HeldOut:
    """At most ``most`` test frames, evenly chosen. ``DmsynthError`` if there are none."""
    test = dataset.split("test")
    if not len(test):
        raise DmsynthError(f"{dataset.path}: has no test frames; make it from more material")
    chosen = test[np.linspace(0, len(test) - 1, min(most, len(test))).round().astype(int)]
    commanded = dataset.controls(face.trained.space, face.trained.about["settings"]["labels"])[chosen]
    like_steered = to_rgb if face.trained.in_colour else to_grey
    targets = [like_steered(np.array(dataset.frames[index])) for index in chosen]
    return _HeldOut(chosen, commanded, carried_along(face, dataset, commanded, chosen), targets)


def _table(face: SteerableFace, held_out: _HeldOut, steered: list[Image], tracker: Tracker) -> pd.DataFrame:
    """One row per test frame in which the tracker finds a face (``Evaluation.table``)."""
    table = pd.DataFrame(_judge(tracker, face.trained.space, held_out.targets, steered, "evaluating"))
    table.insert(0, "frame", held_out.chosen)
    table.insert(1, "position", np.arange(len(table)))
    codes, coverage = face.trained.space.encode(held_out.commanded), face.trained.coverage
    table["covered"] = ~coverage.outside(codes)
    if held_out.carried is not None:
        table["covered"] &= ~coverage.unfamiliar(np.concatenate([codes, held_out.carried], axis=1))
    return _with_target(table)


def _with_target(table: pd.DataFrame) -> pd.DataFrame:
    """The rows in whose real frame the tracker finds a face."""
    table = table[table["target_found"]].drop(columns="target_found").reset_index(drop=True)
    if not table.empty:
        table["found"] = table["found"].astype(bool)  # rows without a target had none, which makes the column objects
    return table


def _command_only(face: SteerableFace, held_out: _HeldOut, tracker: Tracker) -> dict[str, Any]:
    """The errors when the carried controls stay the source's."""
    space = face.trained.space
    steered = list(face.frames(held_out.commanded, moving=False))
    rows = _judge(tracker, space, held_out.targets, steered, "evaluating the command alone")
    table = _with_target(pd.DataFrame(rows))
    return {
        "lost": int((~table["found"]).sum()),
        **tracking_errors(table, space),
        "sharpness": _median(table["sharpness"]),
    }


def _judge(
    tracker: Tracker, space: ControlSpace, targets: list[Image], steered: list[Image], title: str
) -> list[dict[str, Any]]:
    with progress(title, len(targets)) as advance:
        rows = []
        for row in map_ordered(lambda pair: compare(tracker, space, *pair), zip(targets, steered, strict=True)):
            rows.append(row)
            advance()
    return rows


def carried_along(
    face: SteerableFace, dataset: Dataset, commanded: NDArray[np.float64], chosen: NDArray[np.int64]
) -> NDArray[np.float32] | None:
    """The carried codes of the target frames, so that steered and real frame differ in nothing but the steering; None
    where face or dataset have none."""
    names, values = dataset.carried()
    if not face.trained.carried.size or not set(face.trained.carried.names) <= set(names):
        return None
    return face.trained.carried.encode(names, face.trained.space.encode(commanded), values[chosen])


def _judge_flag(table: pd.DataFrame, space: ControlSpace) -> dict[str, Any]:
    """How well "outside the training coverage" foretells a frame that went wrong: lost, or off by more than 2 units.

    ``precision``: of the flagged frames, the share that went wrong; ``recall``: of those that went wrong, the share
    that was flagged; ``mae`` and ``lost`` of the frames inside.
    """
    errors = [np.abs(_difference(c, table[f"tracked_{c.name}"], table[f"target_{c.name}"])) for c in space.controls]
    wrong = ~table["found"] | (np.max(errors, axis=0) > _WRONG)
    flagged = ~table["covered"]
    inside = table[table["covered"]]
    return {
        "frames": int(flagged.sum()),
        "precision": float(wrong[flagged].mean()) if flagged.any() else None,
        "recall": float(flagged[wrong].mean()) if wrong.any() else None,
        "inside": {"frames": len(inside), "lost": int((~inside["found"]).sum()), **tracking_errors(inside, space)},
    }


def flicker(face: SteerableFace, frames: int = 120) -> dict[str, float]:
    """How evenly the picture changes in a slow sweep of the control with the widest range, the others at rest.

    ``mean``: of the absolute second difference between neighbouring frames, in grey levels of 255; ``jump``: the
    largest change from one frame to the next over the median one (1: perfectly even).
    """
    space = face.trained.space
    widest = int(np.argmax(space.high - space.low))
    middle = space.decode(np.median(face.trained.coverage.codes, axis=0))
    alone = slice(face.trained.coverage.joint or space.size, None)
    middle[alone] = np.array([control.at_rest for control in space.controls])[alone]
    values = np.tile(middle, (frames, 1))
    low, high = np.quantile(face.trained.coverage.codes[:, widest], (0.05, 0.95))
    span = space.high[widest] - space.low[widest]
    values[:, widest] = space.low[widest] + span * np.linspace(low, high, frames)
    before = previous = None
    second, steps = [], []
    for image in face.frames(values):
        now = to_grey(image).astype(np.float32)
        if previous is not None:
            steps.append(float(np.abs(now - previous).mean()))
        if before is not None and previous is not None:
            second.append(float(np.abs(now - 2 * previous + before).mean()))
        before, previous = previous, now
    return {"mean": round(float(np.mean(second)), 3), "jump": round(max(steps) / max(float(np.median(steps)), 1e-6), 2)}


def tracking_errors(table: pd.DataFrame, space: ControlSpace) -> dict[str, dict[str, float | None]]:
    """``mae``, ``bias``, ``gain``, ``offset`` and ``correlation`` per control of ``tracked_*`` against ``target_*``.

    Over the rows with ``found``. Differences of angles are wrapped. ``bias`` is the mean of tracked − target, ``gain``
    the slope of the least-squares line of tracked over target (1 is perfect, 0 is no control), ``offset`` what the line
    says at 0. A figure that cannot be had (too few frames, or a control that does not move) is None.
    """
    seen = table[table["found"].astype(bool)]
    result: dict[str, dict[str, float | None]] = {"mae": {}, "bias": {}, "gain": {}, "offset": {}, "correlation": {}}
    for control in space.controls:
        name = control.name
        found = seen[seen[f"target_{name}"].notna() & seen[f"tracked_{name}"].notna()]
        target = found[f"target_{name}"].to_numpy(dtype=float)
        tracked = found[f"tracked_{name}"].to_numpy(dtype=float)
        error = _difference(control, tracked, target)
        answer = target + error  # the tracked angle on the target's side of ±180
        spread = len(found) > 2 and float(target.std()) > 1e-6
        result["mae"][name] = _mean(np.abs(error))
        result["bias"][name] = _mean(error)
        gain = float(np.cov(answer, target)[0, 1] / target.var(ddof=1)) if spread else None
        result["gain"][name] = gain
        result["offset"][name] = None if gain is None else float(answer.mean() - gain * target.mean())
        moves = spread and float(answer.std()) > 1e-6
        result["correlation"][name] = float(np.corrcoef(answer, target)[0, 1]) if moves else None
    return result


def follow(face: SteerableFace, commanded: pd.DataFrame, video: Path, tracker: Tracker) -> pd.DataFrame:
    """Track a steered video and set the answers beside the command: ``target_*`` and ``tracked_*``, ``found``."""
    names = face.trained.space.names
    with progress("tracking", len(commanded)) as advance:

        def frames() -> Any:
            for frame in read_video(video):
                yield frame
                advance()

        tracked = track_to_table(tracker, frames())
    result = commanded[["frame", "time"]].copy()
    result["found"] = tracked["found"]
    for name in names:
        result[f"target_{name}"] = commanded[name]
        result[f"tracked_{name}"] = tracked[name] if name in tracked.columns else np.nan
    return result


def compare(
    tracker: Tracker, space: ControlSpace, target: Image, steered: Image, common_shift: bool = False
) -> dict[str, Any]:
    """Everything measured on one pair of frames."""
    names = space.names
    real = tracker(target)
    if why_unusable(real, target):
        return {"target_found": False}
    wanted = _measured(real[0])
    row: dict[str, Any] = {"target_found": True} | {f"target_{name}": wanted.get(name, np.nan) for name in names}
    row |= {f"floor_{name}": change for name, change in _repeated(tracker, space, target, wanted).items()}
    row |= geometry_columns(displacement(target, steered, real[0].landmarks, common_shift))
    row["psnr"] = cv2.PSNR(steered, target)
    row["ssim"] = _structural_similarity(to_grey(steered), to_grey(target))
    row["sharpness"] = sharpness(steered, real[0].box) / sharpness(target, real[0].box)
    faces = tracker(steered)
    row["found"] = why_unusable(faces, steered) is None
    answer = _measured(faces[0]) if row["found"] else {}
    return row | {f"tracked_{name}": answer.get(name, np.nan) for name in names}


def judged(table: pd.DataFrame, space: ControlSpace) -> ControlSpace:
    """The controls of ``space`` that the tracker measured in the frames of a ``table`` with ``tracked_*``."""
    return space.only([name for name in space.names if table[f"tracked_{name}"].notna().any()] or space.names)


def _measured(face: Face) -> dict[str, float]:
    """What a tracker says of a face; where the lids are nearly closed, nothing of the gaze."""
    columns = face_columns(face)
    opening = min(columns.get(name, 1.0) for name in EYES[2:])
    return columns | (dict.fromkeys(EYES[:2], np.nan) if opening < _LIDS_OPEN else {})


def _structural_similarity(a: Image, b: Image) -> float:
    """SSIM of two grey images: Wang et al. 2004, with windows of 7×7 pixels and unbiased variances."""
    x, y = (image.astype(np.float64) for image in (a, b))
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = (cv2.blur(part, (7, 7)) for part in (x, y, x * x, y * y, x * y))
    unbiased = 49 / 48
    variances = unbiased * (mean_xx - mean_x**2 + mean_yy - mean_y**2)
    covariance = unbiased * (mean_xy - mean_x * mean_y)
    steady_mean, steady_variance = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    alike = (2 * mean_x * mean_y + steady_mean) * (2 * covariance + steady_variance)
    alike /= (mean_x**2 + mean_y**2 + steady_mean) * (variances + steady_variance)
    return float(alike[3:-3, 3:-3].mean())  # where the whole window lies inside the images


def _repeated(tracker: Tracker, space: ControlSpace, image: Image, said: dict[str, float]) -> dict[str, float]:
    """How far the tracker's answer on an all but equal image lies from what it ``said``; NaN for a lost face."""
    again = tracker(_perturbed(image))
    if not again:
        return dict.fromkeys(space.names, np.nan)
    answer, nothing = _measured(again[0]), np.nan
    return {
        c.name: abs(float(_difference(c, answer.get(c.name, nothing), said.get(c.name, nothing))))
        for c in space.controls
    }


def tracker_floor(tracker: Tracker, space: ControlSpace, images: list[Image]) -> dict[str, float | None]:
    """The tracker's own repeatability on ``images``, per control: mean change when they shift and get noise."""

    def change(image: Image) -> dict[str, float]:
        faces = tracker(image)
        usable = why_unusable(faces, image) is None
        return _repeated(tracker, space, image, _measured(faces[0])) if usable else dict.fromkeys(space.names, np.nan)

    changes = list(map_ordered(change, images))
    return {name: _mean([row[name] for row in changes]) for name in space.names}


def sharpness(image: Image, box: tuple[float, float, float, float]) -> float:
    """Variance of the Laplacian after a Gaussian of sigma 1 inside ``box`` (left, top, right, bottom; pixels)."""
    height, width = image.shape[:2]
    left, top, right, bottom = (round(edge) for edge in box)
    inside = to_grey(image)[max(0, top) : min(height, bottom), max(0, left) : min(width, right)]
    return float(cv2.Laplacian(cv2.GaussianBlur(inside, (0, 0), 1), cv2.CV_64F).var())


def _perturbed(image: Image) -> Image:
    """The image shifted by up to 2 px with noise of 2/255: the same face to a person. For the tracker's floor."""
    random = np.random.default_rng(int(image.sum()))
    shift = random.uniform(-2, 2, size=2)
    matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
    moved = cv2.warpAffine(image, matrix, image.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
    return np.clip(moved + random.normal(0, 2, size=image.shape), 0, 255).astype(np.uint8)


def _difference(control: Control, a: Any, b: Any) -> Any:
    """``a - b``, the short way round for angles."""
    return angle_difference(a, b) if control.unit == "°" else a - b


def _mean(values: Any) -> float | None:
    numbers = np.asarray(values, dtype=float)
    numbers = numbers[np.isfinite(numbers)]
    return float(numbers.mean()) if numbers.size else None


def _median(values: Any) -> float | None:
    numbers = np.asarray(values, dtype=float)
    numbers = numbers[np.isfinite(numbers)]
    return float(np.median(numbers)) if numbers.size else None
