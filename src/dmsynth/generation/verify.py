"""Whether a set of labelled frames is what it says: hashes, labels against coverage, and a sample tracked again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dmsynth.controls import HEAD
from dmsynth.generation.store import Store
from dmsynth.generation.stored import AGAIN, SetRecord, StoredClip, sampled
from dmsynth.support.errors import DmsynthError
from dmsynth.support.progress import progress
from dmsynth.trackers import Tracker

_CLIPS, _SHARDS = 96, 12  # whose labels are looked at
_TRACKED = 2  # frames of each of them
_NOSE = 1  # of the mesh
_ROUNDED = 0.05  # in a control's unit: what rounding and turning from frame to frame may cost
_MOST_OFF = 0.15  # of the face's width: what the tip of the nose may be away in the median
_FEWEST_FOUND = 0.5  # share of frames


@dataclass
class Verified:
    """What was found.

    Attributes:
        shards, clips, frames: how many there are; ``looked_at`` of the clips.
        tracked: how many frames were tracked again, in how many a face was ``found``.
        errors: mean absolute difference in degrees of the tracked head from the label.
        off: median distance of the tip of the nose, in widths of the face.
        wrong: what is wrong, in words.
    """

    shards: int
    clips: int
    frames: int
    looked_at: int = 0
    tracked: int = 0
    found: int = 0
    errors: dict[str, float] = field(default_factory=dict)
    off: float = 0.0
    wrong: list[str] = field(default_factory=list)


def verify(out: str | Path, tracker: Tracker) -> Verified:
    """Check the set in the folder or at the address ``out``.

    Raises ``DmsynthError`` if there is none; what is wrong with it stands in the result.
    """
    store = Store.of(out)
    if not store.has("SHA256SUMS"):
        raise DmsynthError(f"{out}: holds no finished set of frames; give the --out of `dmsynth generate`")
    about = store.record("set.json", SetRecord, AGAIN)
    wrong = list(_changed(store))
    if wrong and any(name.startswith("index.parquet") for name in wrong):
        return Verified(0, 0, 0, wrong=wrong)
    with store.opened("index.parquet") as file:
        index = pd.read_parquet(file)
    result = Verified(index["shard"].nunique(), len(index), int(index["frames"].sum()), wrong=wrong)
    damaged = {each.partition(":")[0].removeprefix("data/") for each in wrong}
    whole = index[~index["shard"].isin(damaged)]
    differences, off = [], []
    with progress("looking at clips", min(_CLIPS, len(whole))) as advance:
        for row, clip in sampled(store, whole, _CLIPS, _SHARDS):
            labels = clip.labels
            result.looked_at += 1
            result.wrong += _wrong_labels(row, labels, about.people[row["person"]].covers)
            for difference, distance in _tracked(clip, labels, tracker, result):
                differences.append(difference)
                off.append(distance)
            advance()
    if off:
        mean = np.mean(differences, axis=0)
        result.errors = {name: round(float(value), 2) for name, value in zip(HEAD, mean, strict=True)}
        result.off = round(float(np.median(off)), 3)
    if result.tracked and (result.found < _FEWEST_FOUND * result.tracked or result.off > _MOST_OFF):
        result.wrong.append(
            f"a tracker finds the face in {result.found} of {result.tracked} frames, with the nose {result.off:.2f} "
            "widths of the face away from its label: pictures and labels do not belong together"
        )
    return result


def _changed(store: Store) -> Iterator[str]:
    """The files that are not as ``SHA256SUMS`` says, in words."""
    lines = store.read("SHA256SUMS").decode(errors="replace").splitlines()
    with progress("hashing", len(lines)) as advance:
        for line in lines:
            sha256, _, name = line.partition("  ")
            if not store.has(name):
                yield f"{name}: is gone; {AGAIN}"
            elif store.sha256(name) != sha256:
                yield f"{name}: is damaged; {AGAIN}"
            advance()


def _wrong_labels(row: pd.Series, labels: pd.DataFrame, covers: dict[str, list[float]]) -> list[str]:
    """What is wrong with a clip's labels, in words."""
    where = f"{row['shard']}: clip {row.name}"
    if len(labels) != row["frames"]:
        return [f"{where}: has labels of {len(labels)} frames, and {row['frames']} frames; {AGAIN}"]
    wrong = []
    for name, (low, high) in covers.items():
        values = labels[f"camera_{name}" if name in HEAD else name].to_numpy(float)
        if not (np.isfinite(values) & (values > low - _ROUNDED) & (values < high + _ROUNDED)).all():
            wrong.append(
                f"{where}: {name} goes from {values.min():.3g} to {values.max():.3g}, beyond what {row['person']} "
                f"covers ({low:.3g} to {high:.3g}); {AGAIN}"
            )
    return wrong


def _tracked(clip: StoredClip, labels: pd.DataFrame, tracker: Tracker, result: Verified) -> Iterator[tuple[Any, float]]:
    """Of a few frames of a clip: the tracked head's difference from the label, (3,) degrees, and the nose's."""
    numbers = np.unique(np.linspace(0, len(labels) - 1, _TRACKED + 2)[1:-1].astype(int)).tolist()
    for number, image in zip(numbers, clip.images(numbers), strict=True):
        label = labels.iloc[number]
        result.tracked += 1
        faces = tracker(image)
        if len(faces) != 1:
            continue
        result.found += 1
        pose = faces[0].pose
        nose = np.asarray(faces[0].landmarks)[_NOSE, :2] - label[["nose_tip_x", "nose_tip_y"]].to_numpy(float)
        width = float(label["face_right"] - label["face_left"])
        yield [abs(pose[name] - label[f"camera_{name}"]) for name in HEAD], float(np.linalg.norm(nose)) / width
