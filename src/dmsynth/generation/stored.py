"""Reading a set of labelled frames: the clips in its shards."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import cv2
import numpy as np
import pandas as pd
from pydantic import Field

from dmsynth.generation.store import Store
from dmsynth.support.errors import DmsynthError
from dmsynth.support.records import Record, Sha256, Text
from dmsynth.video import Image, read_video

_KEY = 10  # characters
AGAIN = "run `dmsynth generate` again with the same plan"
"""How a set that is not whole is mended."""


class PersonRecord(Record):
    """A person of a set, as it was begun."""

    sha256: Text
    consent: Text
    covers: dict[str, Annotated[list[float], Field(min_length=2, max_length=2)]]


class SetRecord(Record):
    """``set.json``."""

    name: Text
    fingerprint: Sha256
    clips_per_shard: Annotated[int, Field(ge=1, le=10**9)]
    people: dict[str, PersonRecord]


@dataclass(frozen=True)
class StoredClip:
    """The files of a clip by their names."""

    key: str
    files: dict[str, bytes]

    @property
    def labels(self) -> pd.DataFrame:
        """One row per frame."""
        table = self.files.get(f"{self.key}.parquet")
        if table is not None:
            return pd.read_parquet(BytesIO(table))
        said = [json.loads(text) for name, text in self.files.items() if name.endswith(".json")]
        return pd.DataFrame(said).drop(columns=["bbox", "keypoints"])

    def images(self, numbers: Sequence[int]) -> list[Image]:
        """The frames of those ``numbers``, which increase: (h, w, 3) RGB uint8."""
        video = self.files.get(f"{self.key}.mp4")
        if video is None:
            return [self._picture(number) for number in numbers]
        with TemporaryDirectory() as folder:
            file = Path(folder) / "clip.mp4"
            file.write_bytes(video)
            return [frame.image for frame in read_video(file) if frame.index in numbers]

    def _picture(self, number: int) -> Image:
        content = np.frombuffer(self.files[f"{self.key}-{number:05d}.jpg"], np.uint8)
        return np.asarray(cv2.cvtColor(cv2.imdecode(content, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB), np.uint8)


def stored_clips(store: Store, archive: str, wanted: Container[str]) -> Iterator[StoredClip]:
    """The clips of a shard's ``archive`` whose keys are ``wanted``. ``DmsynthError`` for a damaged one."""
    key, files = "", dict[str, bytes]()
    try:
        with store.opened(archive) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                if files and member.name[:_KEY] != key:
                    yield StoredClip(key, files)
                    files = {}
                key = member.name[:_KEY]
                content = tar.extractfile(member) if key in wanted else None
                if content is not None:
                    files[member.name] = content.read()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DmsynthError(f"{store.named(archive)}: damaged ({error}); {AGAIN}") from None
    if files:
        yield StoredClip(key, files)


def sampled(store: Store, index: pd.DataFrame, clips: int, shards: int) -> Iterator[tuple[pd.Series, StoredClip]]:
    """At most so many clips of a set, evenly from at most so many shards, with their rows in the ``index``."""
    names = index["shard"].unique()
    chosen = names[np.unique(np.linspace(0, len(names) - 1, min(shards, len(names))).round().astype(int))]
    for name in chosen:
        rows = index[index["shard"] == name].set_index("key")
        keys = rows.index[np.unique(np.linspace(0, len(rows) - 1, max(1, clips // len(chosen))).round().astype(int))]
        for clip in stored_clips(store, f"data/{name}", set(keys)):
            yield rows.loc[clip.key], clip
