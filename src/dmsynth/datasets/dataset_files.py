"""Validated reading of a dataset's files: a file is as it was written, or rejected with an error that names it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from dmsynth.controls import BROWS, CONTROL_SPACES, MOUTH, ControlSpace
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import sha256_of
from dmsynth.support.records import Count, Record, Sha256, Text, checked, content_of
from dmsynth.trackers.features import FEATURE_POINTS

FORMAT = 2
SPLITS = ("train", "validation", "test")
NPY_HEADER = 128  # bytes before the first frame
_AGAIN = "make the dataset again"

Side = Annotated[int, Field(ge=1, le=8192)]


class Recipe(Record):
    """How a dataset was made: the entries that are read; all others are only compared."""

    model_config = ConfigDict(extra="allow")

    kind: Text
    tracker: Text | None = None


class Manifest(Record):
    """``manifest.json``."""

    format: Literal[1, 2]
    made_by: Text
    recipe: Recipe
    consent: Text | None = None
    frames: Annotated[int, Field(ge=1, le=10**8)]
    shape: Annotated[list[Side], Field(min_length=2, max_length=3)]
    splits: dict[Literal["train", "validation", "test", "guard"], Count]
    left_out: dict[Text, Count]
    frames_sha256: Sha256
    labels_sha256: Sha256


def read_manifest(folder: Path) -> dict[str, Any]:
    """``manifest.json`` of a dataset. ``DmsynthError`` if it is damaged or of another format."""
    file = folder / "manifest.json"
    content = content_of(file, _AGAIN)
    version = content.get("format") if isinstance(content, dict) else None
    if version not in (1, FORMAT):  # 1 has fewer labels: no landmarks, no carried controls
        raise DmsynthError(
            f"{folder}: dataset format {version!r}, but this version reads 1 and {FORMAT}; make it again"
        )
    manifest = checked(content, Manifest, str(file), _AGAIN)
    if len(manifest.shape) == 3 and manifest.shape[2] != 3:
        raise DmsynthError(f"{file}: shape: frames of {manifest.shape[2]} colours; the file is damaged: {_AGAIN}")
    return manifest.model_dump(exclude_unset=True)


def npy_header(shape: tuple[int, ...]) -> bytes:
    """A .npy (version 1.0) header of exactly ``NPY_HEADER`` bytes for a uint8 array."""
    text = repr({"descr": "|u1", "fortran_order": False, "shape": shape})
    length = NPY_HEADER - 10
    return b"\x93NUMPY\x01\x00" + length.to_bytes(2, "little") + text.ljust(length - 1).encode() + b"\n"


def open_frames(folder: Path, manifest: dict[str, Any]) -> NDArray[np.uint8]:
    """``frames.npy``, memory-mapped. ``DmsynthError`` unless header and length are as written."""
    file, shape = folder / "frames.npy", (manifest["frames"], *manifest["shape"])
    try:
        size = file.stat().st_size
        with file.open("rb") as content:
            header = content.read(NPY_HEADER)
    except OSError as error:
        raise DmsynthError(f"{file}: cannot be read ({error.strerror}); {_AGAIN}") from None
    wanted = NPY_HEADER + int(np.prod(shape, dtype=np.int64))
    if header != npy_header(shape) or size != wanted:
        raise DmsynthError(f"{file}: damaged: not the {wanted} bytes that were written for {shape[0]} frames; {_AGAIN}")
    return np.memmap(file, dtype=np.uint8, mode="r", offset=NPY_HEADER, shape=shape)


def check_frames(folder: Path, manifest: dict[str, Any]) -> None:
    """Verify the checksum of ``frames.npy``. ``DmsynthError`` if it differs."""
    file = folder / "frames.npy"
    if sha256_of(file) != manifest["frames_sha256"]:
        raise DmsynthError(f"{file}: damaged: its SHA-256 is not the one in the manifest; {_AGAIN}")


def read_labels(folder: Path, manifest: dict[str, Any]) -> pd.DataFrame:
    """``labels.parquet``, fully verified. ``DmsynthError`` if it is not what was written."""
    file = folder / "labels.parquet"
    try:
        if sha256_of(file) != manifest["labels_sha256"]:
            raise DmsynthError(f"{file}: damaged: its SHA-256 is not the one in the manifest; {_AGAIN}")
        labels = pd.read_parquet(file)
    except (OSError, ValueError, TypeError, KeyError, NotImplementedError, ArithmeticError, MemoryError) as error:
        raise DmsynthError(f"{file}: not a readable table ({' '.join(str(error).split())[:200]}); {_AGAIN}") from None
    if len(labels) != manifest["frames"]:
        raise DmsynthError(f"{folder}: {manifest['frames']} frames but {len(labels)} labels; {_AGAIN}")
    labels = with_brows(labels)
    wrong = _wrong_column(labels)
    if wrong:
        raise DmsynthError(f"{file}: {wrong}; the file is damaged: {_AGAIN}")
    return labels


def shown_by(columns: Iterable[str]) -> ControlSpace | None:
    """The first control space for which these label columns exist."""
    known = set(columns)
    spaces = CONTROL_SPACES.values()
    return next((space for space in spaces if {f"{space.labels}_{name}" for name in space.names} <= known), None)


def with_brows(labels: pd.DataFrame) -> pd.DataFrame:
    """Labels of eyes and mouth that were commanded before brows could be: those are at rest."""
    mouth, brows = f"commanded_{MOUTH}", f"commanded_{BROWS}"
    if mouth not in labels.columns:
        return labels
    known = labels.reindex(columns=[brows])[brows]
    return labels.assign(**{brows: known.where(known.notna() | labels[mouth].isna(), 0.0)})


def _wrong_column(labels: pd.DataFrame) -> str | None:
    """What is wrong with the required columns; None if nothing is."""
    for name in ("split", "recording_index"):
        if name not in labels.columns:
            return f"has no column {name!r}"
    if not labels["split"].isin([*SPLITS, "guard"]).all():
        return "column 'split' holds what is no split"
    for name in labels.columns:
        kind, column = str(name).partition("_")[0], labels[name]
        if kind in ("tracked", "commanded", "carried", "recording") and name != "recording":
            if not pd.api.types.is_numeric_dtype(column):
                return f"column {name!r} holds what is no number"
            if kind != "commanded" and not np.isfinite(column.to_numpy(dtype=float)).all():  # filmed frames have none
                return f"column {name!r} holds what is no number"
    if shown_by(labels.columns) is None:
        return "says neither where a head turns nor where a face lies"
    if "landmarks" in labels.columns:
        lengths = {len(points) if isinstance(points, np.ndarray | list) else -1 for points in labels["landmarks"]}
        if len(lengths) != 1 or min(lengths) < 2 or min(lengths) % 2:
            return "column 'landmarks' holds rows of different lengths"
    if "feature_landmarks" in labels.columns:
        for points in labels["feature_landmarks"]:
            if np.shape(points) != (2 * len(FEATURE_POINTS),) or not np.isfinite(np.asarray(points, dtype=float)).all():
                return f"column 'feature_landmarks' holds a row that is not {2 * len(FEATURE_POINTS)} numbers"
    return None
