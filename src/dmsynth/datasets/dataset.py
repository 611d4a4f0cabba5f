"""The face dataset on disk: frames, labels, splits, coverage.

    DIR/frames.npy      (n, height, width) or (n, height, width, 3) uint8, memory-mapped when read
    DIR/labels.parquet  one row per frame: its source, its controls, its split
    DIR/manifest.json   sizes, hashes, what was left out and why, and how to make it again

A dataset is built in ``DIR.partial`` beside it, journalled frame by frame, and renamed when it is complete: after a
kill at any moment the same command resumes, and the result is identical to the byte.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dmsynth.controls import CONTROL_SPACES, FEATURES, FEATURES_AT_REST, HEAD, ControlSpace
from dmsynth.datasets.dataset_files import (
    FORMAT,
    NPY_HEADER,
    SPLITS,
    check_frames,
    npy_header,
    open_frames,
    read_labels,
    read_manifest,
    shown_by,
)
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import lock, put_in_place, read_json, remove_leftovers, sha256_of, sync, write_json
from dmsynth.support.progress import console
from dmsynth.support.records import all_printable
from dmsynth.trackers.features import features_from_rest
from dmsynth.video import Image

_LONGEST_LINE = 2**20  # bytes of the journal
_SYNC_EVERY = 3.0  # seconds of work that a power loss may cost


@dataclass(frozen=True)
class Dataset:
    """A face dataset opened for reading. ``frames`` is a memory map: only accessed frames are read from disk."""

    path: Path
    manifest: dict[str, Any]
    labels: pd.DataFrame
    frames: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.labels)

    def check_frames(self) -> Dataset:
        """Verify the checksum of the frames and return self; ``DmsynthError`` if it differs.

        Reads all frames (a second for 1.4 GB), so it is called before work that depends on them, not on opening.
        """
        check_frames(self.path, self.manifest)
        return self

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return int(self.frames.shape[2]), int(self.frames.shape[1])

    @property
    def sha256(self) -> str:
        """One hash for the content: the hash of the frames' and the labels' hashes."""
        both = self.manifest["frames_sha256"] + self.manifest["labels_sha256"]
        return hashlib.sha256(both.encode()).hexdigest()

    @property
    def about(self) -> tuple[ControlSpace, str]:
        """The control space that varies in the frames, and the kind of its labels: tracked rotations, or commanded
        positions."""
        space = shown_by(self.labels.columns)
        assert space is not None  # it was checked on opening
        return space, space.labels

    @property
    def most_exact_labels(self) -> str:
        """The most accurate kind of labels: calibrated (without the tracker's noise) for rotations."""
        space, labels = self.about
        return "calibrated" if space.turns_head else labels

    @property
    def frames_are(self) -> str:
        """For captions: ``real`` (filmed) or ``posed`` (made from a photo)."""
        return "real" if self.manifest["recipe"]["kind"] == "recording" else "posed"

    def split(self, name: str) -> NDArray[np.int64]:
        """Indices of the frames in split ``name``: train, validation or test."""
        return np.flatnonzero(self.labels["split"].to_numpy() == name)

    def controls(self, space: ControlSpace, labels: str = "tracked") -> NDArray[np.float64]:
        """(n, space.size): the ``labels`` of every frame, in the space's order and units.

        ``tracked`` is the tracker's measurement, ``commanded`` the pose that a frame was made with. ``calibrated`` is
        the commanded rotation on the tracker's scale, without its noise; for filmed frames it equals ``tracked``.
        Features are as commanded; those of filmed frames as measured, from this person's rest.
        Raises ``DmsynthError`` if this dataset has no such labels.
        """
        if labels != "commanded" and space.moves_eyes:
            head = self.controls(CONTROL_SPACES["rotation"], labels)
            which = [FEATURES.index(name) for name in space.names[len(HEAD) :]]  # a face from before has no brows
            return np.concatenate([head, self.features[:, which]], axis=1)
        if labels == "calibrated":
            tracked = np.array(self.controls(space, "tracked"))
            commanded = self.labels.reindex(columns=[f"commanded_{name}" for name in space.names]).to_numpy(dtype=float)
            posed = np.isfinite(commanded).all(axis=1)
            if posed.any():
                training = posed & (self.labels["split"] == "train").to_numpy()
                fitted = training if training.any() else posed
                tracked[posed] = on_scale(commanded, tracked, fitted)[posed]
            return tracked
        columns = [f"{labels}_{name}" for name in space.names]
        missing = [column for column in columns if column not in self.labels.columns]
        if missing:
            raise DmsynthError(
                f"{self.path}: has no {labels} labels for {space.name} (no column {missing[0]!r}); "
                "use another kind of label or another dataset"
            )
        return self.labels[columns].to_numpy(dtype=float)

    def feature_landmarks(self) -> NDArray[np.float32] | None:
        """(n, points, 2): x and y of ``trackers.features.FEATURE_POINTS`` in every frame, in pixels; None if they
        were not measured."""
        if "feature_landmarks" not in self.labels.columns:
            return None
        return np.stack(self.labels["feature_landmarks"].to_list()).reshape(len(self), -1, 2).astype(np.float32)

    @property
    def moves_eyes(self) -> bool:
        """Whether its frames were made with known eyes."""
        return {f"commanded_{name}" for name in FEATURES} <= set(self.labels.columns)

    @property
    def features(self) -> NDArray[np.float64]:
        """(n, 6): gaze, lids, mouth and brows of every frame, in the order of ``FEATURES``, from this person's rest;
        at rest where they were not measured, and where only the head of a photo was posed."""
        if self.moves_eyes:
            return self.controls(CONTROL_SPACES["driver"], "commanded")[:, len(HEAD) :]
        measured = np.tile(FEATURES_AT_REST, (len(self), 1))
        there = [name for name in FEATURES if f"tracked_{name}" in self.labels]
        if self.frames_are == "posed" or not there:
            return measured
        for name in there:
            measured[:, FEATURES.index(name)] = self.labels[f"tracked_{name}"]
        return features_from_rest(measured, np.flatnonzero(~self.posed & (self.labels["split"] == "train").to_numpy()))

    @property
    def posed(self) -> NDArray[np.bool_]:
        """(n,): which frames of a recording were posed, not filmed (``datasets.widening``)."""
        if "posed" not in self.labels.columns:
            return np.zeros(len(self), dtype=bool)
        return self.labels["posed"].to_numpy(dtype=bool)

    def carried(self, space: ControlSpace | None = None) -> tuple[tuple[str, ...], NDArray[np.float64]]:
        """Names (c) and values (n, c) of the carried controls: head position and expression as the tracker measured
        them, without the controls of ``space``. Empty for posed photos, in which only the rotation changes."""
        names = tuple(name.removeprefix("carried_") for name in self.labels.columns if name.startswith("carried_"))
        names = tuple(name for name in names if space is None or name not in space.names)
        return names, self.labels[[f"carried_{name}" for name in names]].to_numpy(dtype=float)

    def landmarks(self) -> NDArray[np.float32] | None:
        """(n, points, 2): x and y of the face's landmarks in every frame, as fractions of the frame's width and height;
        None if the dataset's tracker has none."""
        if "landmarks" not in self.labels.columns:
            return None
        points = np.stack(self.labels["landmarks"].to_list()).reshape(len(self), -1, 2)
        return np.asarray(points / self.size, dtype=np.float32)


def open_dataset(path: Path) -> Dataset:
    """Open a dataset folder. ``DmsynthError`` if it is missing, unfinished, damaged or of another format.

    Labels are verified completely, frames only by their number: ``Dataset.check_frames`` verifies their content.
    """
    if not (path / "manifest.json").is_file():
        if path.name and partial_path(path).is_dir():
            raise DmsynthError(f"{path}: the dataset is unfinished; run the command that makes it again to go on")
        raise DmsynthError(f"{path}: not a dataset (no manifest.json); make one with `dmsynth dataset`")
    manifest = read_manifest(path)
    return Dataset(path, manifest, read_labels(path, manifest), open_frames(path, manifest))


def finished_dataset(path: Path, recipe: Mapping[str, Any], consent: str | None) -> Dataset | None:
    """The dataset at ``path`` if it was made with this recipe, fully verified; None if nothing is there.

    Raises:
        DmsynthError: something else is there, or it is damaged; or ``path`` is no valid folder name.
    """
    if not path.name:
        raise DmsynthError(f"{path}: has no name that a folder can get; give another, such as {path / 'dataset'}")
    if not path.exists():
        return None
    if not path.is_dir():
        raise DmsynthError(f"{path}: is a file; the first name is that of the dataset's folder, which is made")
    wanted = {"recipe": _as_kept(recipe), "consent": _as_kept(consent)}
    there = read_manifest(path) if (path / "manifest.json").is_file() else {}
    if {name: there.get(name) for name in wanted} != wanted:
        raise DmsynthError(f"{path}: exists already, and is not what was asked for; give another name")
    for stray in ("job.json", "records.jsonl"):  # left by a process that was killed at its very end
        (path / stray).unlink(missing_ok=True)
    console.print(f"{path}: is made already")
    return open_dataset(path).check_frames()


def _as_kept(content: Any) -> Any:
    """As read back from the manifest."""
    return json.loads(json.dumps(all_printable(content)))


def partial_path(path: Path) -> Path:
    """The folder in which a dataset is built."""
    return path.with_name(path.name + ".partial")


class DatasetWriter:
    """Builds a dataset record by record; with the same recipe it resumes an interrupted build.

    ``recipe`` states exactly how the dataset is made (inputs by hash, sizes, seeds); a partial dataset on disk is
    resumed only if its recipe is the same. A record is a kept frame's labels, or the reason why a frame is left out.
    ``done`` is the number of records that exist already: skip that many inputs. ``consent`` states who is shown, and
    on what consent.

    The journal has one line per record, with a checksum over the record and its frame: an incomplete or damaged record,
    and all after it, are made again.
    """

    def __init__(
        self, path: Path, recipe: Mapping[str, Any], frame_shape: tuple[int, ...], consent: str | None = None
    ) -> None:
        self.path, self.frame_shape, self.consent = path, frame_shape, all_printable(consent)
        self.recipe = _as_kept(recipe)
        begun_as = {"format": FORMAT, **self.recipe}
        if path.exists():
            raise DmsynthError(f"{path}: exists already; give another name")
        self._partial = partial_path(path)
        self.records: list[dict[str, Any]] = []
        job = self._partial / "job.json"
        if not _is_ours(self._partial):
            raise DmsynthError(f"{self._partial}: is in the way and no dataset of ours; rename or remove it")
        self._partial.mkdir(parents=True, exist_ok=True)
        self._journal = (self._partial / "records.jsonl").open("a+b")
        lock(self._journal, self.path)  # before anything in the folder is touched
        self._frames = (self._partial / "frames.npy").open("a+b")
        self._synced = time.monotonic()
        remove_leftovers(self._partial)
        if job.is_file() and _begun_as(job) != begun_as:
            console.print(f"{self._partial}: was begun from other input or settings and is begun anew", style="yellow")
            self._begin_anew()
        write_json(job, begun_as)
        self._read_back()

    def _begin_anew(self) -> None:
        for name in ("labels.parquet", "manifest.json"):
            (self._partial / name).unlink(missing_ok=True)
        self._journal.truncate(0)
        self._frames.truncate(0)

    def _read_back(self) -> None:
        """Keep the journal's complete lines whose frames exist."""
        self._journal.seek(0)
        lines, whole, kept, frame_bytes = 0, 0, 0, int(np.prod(self.frame_shape))
        self._frames.seek(NPY_HEADER)
        for line in iter(lambda: self._journal.readline(_LONGEST_LINE), b""):
            lines += 1
            record = _record_of(line)
            if record is None:
                break
            frame = b"" if "left_out" in record else self._frames.read(frame_bytes)
            if (not frame and "left_out" not in record) or _line_of(record, frame) != line:
                break
            self.records.append(record)
            whole, kept = whole + len(line), kept + bool(frame)
        lost = lines - len(self.records) + sum(1 for _ in iter(lambda: self._journal.readline(_LONGEST_LINE), b""))
        if lost > 1:  # a kill leaves one incomplete line
            console.print(f"{self._partial}: {lost} records are damaged and made again", style="yellow")
        self._journal.truncate(whole)
        self._frames.truncate(NPY_HEADER + kept * frame_bytes)

    @property
    def done(self) -> int:
        return len(self.records)

    @property
    def kept(self) -> int:
        return sum("left_out" not in record for record in self.records)

    @property
    def left_out(self) -> dict[str, int]:
        """How many frames were left out, by reason."""
        return dict(Counter(r["left_out"] for r in self.records if "left_out" in r).most_common())

    def keep(self, frame: Image, labels: Mapping[str, Any]) -> None:
        """Append a frame, then its labels: a label in the journal always has its frame on disk."""
        if frame.shape != self.frame_shape:
            raise ValueError(f"frame {frame.shape}, expected {self.frame_shape}")
        content = frame.tobytes()
        self._append(self._frames, content)
        self._note(all_printable(dict(labels)), content)

    def leave_out(self, reason: str, posed: bool = False) -> None:
        """Count a frame that is not used; ``posed`` if it was made from another one."""
        self._note({"left_out": f"{reason}, posed" if posed else reason} | ({"posed": True} if posed else {}), b"")

    def frame(self, number: int) -> Image:
        """Kept frame ``number``, from disk."""
        size = int(np.prod(self.frame_shape))
        content = np.fromfile(self._partial / "frames.npy", np.uint8, size, offset=NPY_HEADER + number * size)
        return content.reshape(self.frame_shape)

    def _note(self, record: dict[str, Any], frame: bytes) -> None:
        self._append(self._journal, _line_of(record, frame))
        self.records.append(record)
        if time.monotonic() - self._synced > _SYNC_EVERY:
            for file in (self._frames, self._journal):
                os.fsync(file.fileno())
            self._synced = time.monotonic()

    def _append(self, file: BinaryIO, content: bytes) -> None:
        try:
            file.write(content)
            file.flush()
        except OSError as error:  # errors of open files carry no name
            raise OSError(error.errno, error.strerror, str(self.path)) from None

    def abandon(self) -> None:
        """Remove the partial dataset: for input that can never become a dataset."""
        self._begin_anew()  # if killed from here on, the folder is still recognized as ours
        self._journal.close()
        self._frames.close()
        shutil.rmtree(self._partial, ignore_errors=True)

    def finish(self, splits: NDArray[np.str_]) -> Dataset:
        """Write labels and manifest, rename the folder to its name, and open it.

        ``splits`` names the split of every kept frame: train, validation, test, or guard (unused).
        """
        from dmsynth.support.version import __version__

        self._frames.close()
        with (self._partial / "frames.npy").open("r+b") as frames:
            frames.write(npy_header((self.kept, *self.frame_shape)))
        labels = pd.DataFrame([record for record in self.records if "left_out" not in record])
        of_features = ["feature_landmarks", *(f"tracked_{name}" for name in FEATURES)]
        of_features = [column for column in of_features if column in labels and labels[column].isna().any()]
        labels = labels.drop(columns=of_features)  # begun by a version without them
        labels["split"] = splits
        labels.to_parquet(self._partial / "labels.parquet", index=False)
        write_json(
            self._partial / "manifest.json",
            {
                "format": FORMAT,
                "made_by": f"dmsynth {__version__}",
                "recipe": self.recipe,
                "consent": self.consent,
                "frames": self.kept,
                "shape": list(self.frame_shape),
                "splits": {name: int((splits == name).sum()) for name in (*SPLITS, "guard")},
                "left_out": self.left_out,
                "frames_sha256": sha256_of(self._partial / "frames.npy"),
                "labels_sha256": sha256_of(self._partial / "labels.parquet"),
            },
        )
        for file in self._partial.iterdir():
            if file.name in _PARTS:
                sync(file)
            else:  # left by a killed process
                file.unlink()
        put_in_place(self._partial, self.path)
        for leftover in ("job.json", "records.jsonl"):
            (self.path / leftover).unlink()
        self._journal.close()  # and with it the lock
        return open_dataset(self.path)


_PARTS = ("frames.npy", "labels.parquet", "manifest.json", "job.json", "records.jsonl")


def _is_ours(partial: Path) -> bool:
    """Whether a build folder is ours: absent, empty, or with the files of a begun build."""
    if not partial.exists():
        return True
    if not partial.is_dir():
        return False
    if (partial / "job.json").is_file():
        return True
    return all(
        (name := file.name).startswith(".job.") or (name in ("records.jsonl", "frames.npy") and not file.stat().st_size)
        for file in partial.iterdir()
    )


def _begun_as(job: Path) -> Any:
    """The recipe of a partial dataset; None if it cannot be read."""
    try:
        return read_json(job)
    except DmsynthError:
        return None


def _line_of(record: dict[str, Any], frame: bytes) -> bytes:
    """A line of the journal: a checksum over the record and its frame, then the record."""
    content = json.dumps(record).encode()
    return f"{zlib.crc32(content, zlib.crc32(frame)):08x} ".encode() + content + b"\n"


def _record_of(line: bytes) -> dict[str, Any] | None:
    """The record in a line of the journal; None if the line is damaged."""
    try:
        record = json.loads(line[9:])
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def split_by_time(recordings: NDArray[np.str_], times: NDArray[np.float64], blocks: int = 18) -> NDArray[np.str_]:
    """Split recordings by blocks of time, so that neighbouring frames are never in different splits.

    Each recording is cut into ``blocks`` equal time intervals; every sixth is test, every ninth validation, the
    rest training. At 30 frames a second the next frame shows nearly the same face, so frames close to another
    split (a quarter of a block, at most 0.25 s) become "guard" (unused): training frames close to validation or test,
    and validation frames close to test.

    Args:
        recordings: (n,) name of each frame's recording.
        times: (n,) seconds within it, increasing.

    Returns:
        (n,) names of splits.
    """
    result = np.full(len(times), "train", dtype="<U10")
    for recording in np.unique(recordings):
        inside = np.flatnonzero(recordings == recording)
        seconds = times[inside]
        edges = np.linspace(seconds[0], seconds[-1] + 1e-6, blocks + 1)
        block = np.searchsorted(edges, seconds, side="right") - 1
        guard = min(0.25, (edges[1] - edges[0]) / 4)
        names = np.full(len(seconds), "train", dtype="<U10")
        names[block % 6 == 5] = "test"
        names[block % 9 == 0] = "validation"
        for name, others in (("validation", ["test"]), ("train", ["test", "validation"])):
            distance = _distance_to_nearest(seconds, seconds[np.isin(names, others)])
            names[(names == name) & (distance < guard)] = "guard"
        result[inside] = names
    return result


def _distance_to_nearest(values: NDArray[np.float64], marks: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each of ``values`` the distance to the nearest of the increasing ``marks``; infinite if there are none."""
    padded = np.concatenate([[-np.inf], marks, [np.inf]])
    after = np.searchsorted(padded, values)
    return np.minimum(padded[after] - values, values - padded[after - 1])


def split_at_random(count: int, seed: int) -> NDArray[np.str_]:
    """Split independent frames: one in six test, one in eighteen validation, the rest training. (count,) names."""
    order = np.random.default_rng(seed).permutation(count)
    result = np.full(count, "train", dtype="<U10")
    result[order[: round(count / 6)]] = "test"
    result[order[round(count / 6) : round(count / 6) + max(1, round(count / 18))]] = "validation"
    return result


def on_scale(
    commanded: NDArray[np.float64], measured: NDArray[np.float64], fitted: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Map ``commanded`` (n, k) to the scale of the tracker that gave ``measured`` (n, k), without its noise: (n, k).

    A tracker's output has its own gain, offset and nonlinearity, all smooth in the pose, and noise, which is not. A
    polynomial of all controls, fitted by least squares to the rows ``fitted`` (n,), keeps the former and drops the
    latter. Its degree is the highest up to four with at least ten rows per coefficient.
    """
    middle, half = np.mean(commanded[fitted], axis=0), np.maximum(np.ptp(commanded[fitted], axis=0) / 2, 1e-9)
    unit = (commanded - middle) / half
    terms = [np.ones(len(unit))]
    for degree in range(1, 5):
        chosen = combinations_with_replacement(range(unit.shape[1]), degree)
        more = [np.prod(unit[:, list(which)], axis=1) for which in chosen]
        if degree > 1 and 10 * (len(terms) + len(more)) > fitted.sum():
            break
        terms += more
    basis = np.stack(terms, axis=1)
    weights = np.linalg.lstsq(basis[fitted], measured[fitted], rcond=None)[0]
    return np.asarray(basis @ weights)


def nearest_to_neutral(values: NDArray[np.float64], frames: NDArray[np.int64]) -> int:
    """Which of ``frames`` (rows of the control ``values`` (n, k)) lies closest to their medians: the default source.

    Each control's distance is relative to its range.
    """
    inside = values[frames]
    ranges = np.maximum(np.ptp(inside, axis=0), 1e-9)
    return int(frames[np.argmin(np.abs((inside - np.median(inside, axis=0)) / ranges).sum(axis=1))])
