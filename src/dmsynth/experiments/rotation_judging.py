"""Evaluation of a drive of chapter 4: errors against the driver, two trackers, sharpness, identity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dmsynth.controls.pose import angle_difference
from dmsynth.datasets.dataset import Dataset
from dmsynth.evaluation import evaluate, sharpness
from dmsynth.evaluation.judges import agreement, with_second_judge
from dmsynth.experiments.rotation_drives import FRAME_RATE, SPACE, Drawn, Driver, Material
from dmsynth.support.progress import progress
from dmsynth.trackers import Tracker, track_to_table
from dmsynth.trackers.identity import Likeness
from dmsynth.video import Frame, Image, to_grey

SAME_POSE = 2.0  # degrees on every axis: tolerance for real frames of the same pose
_FEWEST_PAIRS = 10
_EXACT = 150  # posed test frames
_SLOPE = 300  # real frames that the second judge's slope is fitted to


def reference(dataset: Dataset, most: int) -> list[Image]:
    """At most ``most`` evenly chosen frames of the dataset's person: filmed ones, or posed ones of a photo dataset."""
    real = np.flatnonzero(~dataset.posed)
    chosen = real[np.linspace(0, len(real) - 1, min(most, len(real))).round().astype(int)]
    return [np.array(dataset.frames[index]) for index in chosen]


@dataclass(frozen=True)
class Judged:
    """A drive and its evaluation.

    Attributes:
        drawn: by title; None if a model did not run.
        covered: (n,) which commands the training frames cover.
        first, second: names of the judges; second None: no second judge.
        views: the first judge's measurements of each model's frames, tables as ``track_to_table``; ``second_views``
            likewise, and under ``driver`` the second judge's of the driving frames.
        looks: sharpness and identity by title.
        real: real frames of the same person in nearly the commanded poses: ``row`` of the drive, and the second judge's
            difference from the first one's there, ``pitch``, ``yaw``, ``roll``.
    """

    driver: Driver
    drawn: dict[str, Drawn | None]
    covered: NDArray[np.bool_]
    first: str
    second: str | None
    views: dict[str, pd.DataFrame]
    second_views: dict[str, pd.DataFrame]
    looks: dict[str, dict[str, float | None]]
    real: pd.DataFrame

    @property
    def columns(self) -> list[str]:
        return list(self.drawn)

    def against_driver(self, title: str, rows: NDArray[np.bool_] | None = None) -> dict[str, Any]:
        """``agreement`` of a model's frames with the driver's, both measured by the first judge, for all or some
        ``rows``."""
        chosen = np.ones(len(self.driver.table), bool) if rows is None else rows
        return agreement(SPACE, self.driver.table[chosen], self.views[title][chosen])

    def errors(self) -> pd.DataFrame:
        """Errors, one row per model."""
        rows = []
        for title, drawn in self.drawn.items():
            if drawn is None:
                rows.append({"model": f"{title} (did not run)"} | dict.fromkeys(_ERRORS, "–"))
                continue
            everything, inside = self.against_driver(title), self.against_driver(title, self.covered)
            looks = self.looks[title]
            figures = [
                _three(everything["mae"]), _three(inside["mae"]), _three(everything["bias"], "+.2f"),
                _three(everything["gain"]), _three(everything["correlation"]),
                f"{everything['lost']} of {int(self.driver.table['found'].sum())}",
                _number(looks["sharpness"]), _number(looks["identity"]),
            ]  # fmt: skip
            rows.append({"model": title} | dict(zip(_ERRORS, figures, strict=True)))
        return pd.DataFrame(rows)

    def second_table(self) -> pd.DataFrame:
        """The second judge's distance from the command, on real and on rendered frames of the same poses."""
        rows = []
        driver = self.second_views["driver"]
        rows.append(_judge_row("the driver's own frames, real", self._off(driver, np.ones(len(driver), bool))))
        pairs = np.unique(self.real["row"].to_numpy(int))
        if len(self.real) >= _FEWEST_PAIRS:
            off = self.real[list(SPACE.names)].to_numpy(float)
            rows.append(_judge_row("the person's real frames of the same poses", off))
        for title in self.views:
            if len(self.real) >= _FEWEST_PAIRS:
                same = np.isin(np.arange(len(driver)), pairs)
                rows.append(_judge_row(f"{title}, at those poses", self._off(self.second_views[title], same)))
            rows.append(_judge_row(f"{title}, in coverage", self._off(self.second_views[title], self.covered)))
        return pd.DataFrame(rows)

    def _off(self, view: pd.DataFrame, rows: NDArray[np.bool_]) -> NDArray[np.float64]:
        """(n, 3): a judge's measurement minus the first judge's of the driver, for frames in which both find a face."""
        both = rows & view["found"].to_numpy(bool) & self.driver.table["found"].to_numpy(bool)
        return np.asarray(angle_difference(view.loc[both, list(SPACE.names)].to_numpy(float), self.driver.raw[both]))

    def second_error(self, title: str) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """(n, 3) each: the second judge's distance from the command on the person's real frames, and on a model's
        frames of the same poses, in the order of the drive; None if there are too few."""
        if self.second is None:
            return None
        view = self.second_views[title].iloc[self.real["row"].to_numpy(int)].reset_index(drop=True)
        rows = self.real["row"].to_numpy(int)
        both = view["found"].to_numpy(bool) & self.driver.table["found"].to_numpy(bool)[rows]
        if both.sum() < _FEWEST_PAIRS:
            return None
        names = list(SPACE.names)
        drawn = angle_difference(view.loc[both, names].to_numpy(float), self.driver.raw[rows[both]])
        real = self.real[names].to_numpy(float)[both]
        return np.abs(real), np.abs(np.asarray(drawn))

    def agreement_table(self) -> pd.DataFrame:
        """The second judge's measurements against the first one's, on the driving frames and on each model's."""
        rows = []
        for title, first in {"the driver's own frames, real": self.driver.table, **self.views}.items():
            second = self.second_views["driver" if first is self.driver.table else title]
            both = agreement(SPACE, first, second)
            rows.append(
                {
                    "frames": f"{title} ({both['frames']})",
                    "correlation": _three(both["correlation"]),
                    "gain": _three(both["gain"]),
                    "mean difference (°)": _three(both["bias"], "+.2f"),
                    "seen by the first alone": str(both["lost"]),
                }
            )
        return pd.DataFrame(rows)

    def table(self) -> pd.DataFrame:
        """All measurements for each frame: command, driver, and each model by both judges."""
        parts = [self.driver.table[["frame", "time"]].assign(covered=self.covered)]
        parts.append(pd.DataFrame(self.driver.values, columns=[f"commanded_{name}" for name in SPACE.names]))
        for prefix, views in (("", {"driver": self.driver.table, **self.views}), ("second ", self.second_views)):
            for title, view in views.items():
                parts.append(view[list(SPACE.names)].astype(float).add_prefix(f"{prefix}{title}: "))
        return pd.concat(parts, axis=1)


_ERRORS = (
    "mean error, pitch / yaw / roll (°)", "in coverage (°)", "bias (°)", "gain", "correlation", "lost", "sharpness",
    "identity",
)  # fmt: skip


def judge(
    driver: Driver,
    drawn: dict[str, Drawn | None],
    material: Material,
    tracker: Tracker,
    second: Tracker | None,
    likeness: Likeness | None,
) -> Judged:
    """Evaluate a drive: both judges' measurements, sharpness and identity."""
    covered = ~material.models["swapwarp"].trained.coverage.outside(
        material.models["swapwarp"].trained.space.encode(driver.values)
    )
    ran = {title: [np.asarray(frame) for frame in one.frames] for title, one in drawn.items() if one is not None}
    views = {title: _track(tracker, frames, f"{driver.name}: {title}") for title, frames in ran.items()}
    second_views: dict[str, pd.DataFrame] = {}
    if second:
        second_views["driver"] = _track(second, driver.frames, f"{driver.name}: second judge, driver")
        for title, frames in ran.items():
            second_views[title] = _track(second, frames, f"{driver.name}: second judge, {title}")
    real = _test_sharpness(material.dataset, tracker)
    looks: dict[str, dict[str, float | None]] = {}
    for title, frames in ran.items():
        sharp = _sharpness(frames, views[title])
        looks[title] = {"sharpness": sharp / real if sharp and real else None}
        looks[title] |= likeness.kept(frames, tracker) if likeness else {"identity": None, "nearer": None}
    return Judged(
        driver, drawn, covered, tracker.name, second.name if second else None, views, second_views, looks,
        _same_poses(driver, covered, material.dataset, second),
    )  # fmt: skip


def _track(tracker: Tracker, images: Sequence[Image], title: str) -> pd.DataFrame:
    with progress(title, len(images)) as advance:
        frames = (advance() or Frame(number, number / FRAME_RATE, image) for number, image in enumerate(images))
        return track_to_table(tracker, frames)


def _sharpness(frames: Sequence[Image], view: pd.DataFrame) -> float | None:
    """Median over the frames with a face."""
    boxes = view[["left", "top", "right", "bottom"]].to_numpy(float)
    found = view["found"].to_numpy(bool)
    each = [
        sharpness(to_grey(frame), tuple(box)) for frame, box, seen in zip(frames, boxes, found, strict=True) if seen
    ]
    return float(np.median(each)) if each else None


def _test_sharpness(dataset: Dataset, tracker: Tracker) -> float | None:
    frames = [np.array(dataset.frames[index]) for index in dataset.split("test")[:200]]
    return _sharpness(frames, _track(tracker, frames, "sharpness of the test frames"))


def _same_poses(driver: Driver, covered: NDArray[np.bool_], dataset: Dataset, second: Tracker | None) -> pd.DataFrame:
    """For each commanded pose in coverage, a real frame of the person within ``SAME_POSE`` on every axis, and the
    second judge's error there; see ``Judged.real``. The remaining difference in pose is corrected with a linear
    regression of the judge's error on the pose, fitted to the person's real frames."""
    empty = pd.DataFrame({"row": [], **{name: [] for name in SPACE.names}})
    if second is None:
        return empty
    filmed = np.flatnonzero(~dataset.posed)
    poses = dataset.controls(SPACE)[filmed]
    apart = np.abs(angle_difference(driver.values[:, None], poses[None])).max(axis=2)
    rows = np.flatnonzero(covered & (apart.min(axis=1) <= SAME_POSE))
    if not len(rows):
        return empty
    nearest = apart.argmin(axis=1)[rows]
    some = np.linspace(0, len(filmed) - 1, min(_SLOPE, len(filmed))).round().astype(int)
    looked = np.unique(np.concatenate([nearest, some]))
    seen = _track(
        second, [np.array(dataset.frames[filmed[n]]) for n in looked], "second judge, the person's real frames"
    )
    off = np.asarray(angle_difference(seen[list(SPACE.names)].to_numpy(float), poses[looked]))
    found = np.isfinite(off).all(axis=1)
    basis = np.column_stack([np.ones(len(looked)), poses[looked]])
    slope = np.linalg.lstsq(basis[found], off[found], rcond=None)[0][1:]
    there = np.searchsorted(looked, nearest)
    moved = off[there] + np.asarray(angle_difference(driver.values[rows], poses[nearest])) @ slope
    table = pd.DataFrame(moved, columns=list(SPACE.names)).assign(row=rows)
    return table.dropna().reset_index(drop=True)


def against_command(material: Material, tracker: Tracker, second: Tracker | None) -> pd.DataFrame | None:
    """For a posed photo, whose test frames' exact commands are known: each judge's error, gain and offset against the
    command, on the real frames and on each model's of the same poses. None for a recording, or without a second
    judge."""
    dataset = material.dataset
    if second is None or f"commanded_{SPACE.names[0]}" not in dataset.labels.columns:
        return None
    rows: list[dict[str, str]] = []
    for model, face in material.models.items():
        alone = evaluate(face.from_source(material.source_frame, material.source_pose), dataset, tracker, _EXACT)
        judges = with_second_judge(alone, SPACE, dataset, second).metrics["judges"]
        for who in ("first", "second"):
            for kind in ("real", "steered"):
                said = judges["against_command"][who][kind]
                rows.append(
                    {
                        "judge": judges[who],
                        "frames": kind if kind == "real" else f"{model}, from one source",
                        "seen": str(said["frames"]),
                        "mean error (°)": _three(said["mae"]),
                        "gain": _three(said["gain"]),
                        "offset (°)": _three(said["offset"], "+.2f"),
                    }
                )
    return pd.DataFrame(rows).drop_duplicates().sort_values(["judge", "frames"])


def _judge_row(what: str, off: NDArray[np.float64]) -> dict[str, str]:
    """A row of ``Judged.second_table``; also with the neutral pose (the median) subtracted, which openpilot's own
    policy learns for each person."""
    if not len(off):
        return {"frames": f"{what} (0)", "mean distance (°)": "–", "its median": "–", "without the median (°)": "–"}
    middle = np.median(off, axis=0)
    return {
        "frames": f"{what} ({len(off)})",
        "mean distance (°)": " / ".join(f"{value:.2f}" for value in np.abs(off).mean(axis=0)),
        "its median": " / ".join(f"{value:+.2f}" for value in middle),
        "without the median (°)": " / ".join(f"{value:.2f}" for value in np.abs(off - middle).mean(axis=0)),
    }


def _three(figures: dict[str, float | None], form: str = ".2f") -> str:
    return " / ".join(_number(value, form) for value in figures.values())


def _number(value: float | None, form: str = ".2f") -> str:
    return "–" if value is None else f"{value:{form}}"
