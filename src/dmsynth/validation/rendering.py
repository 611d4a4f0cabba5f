"""A scenario as a video of a face: rendered once, and found again by what it depends on and by its hash."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dmsynth.steering import SteerableFace, steer_to_video
from dmsynth.steering.provenance import face_sha256, sidecar_of
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import read_json, sha256_of, write_json
from dmsynth.support.progress import console
from dmsynth.support.table_files import read_table
from dmsynth.support.version import __version__
from dmsynth.validation.scenarios import Scenario

_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True)
class Rendered:
    """A scenario's video and, frame by frame, what was commanded and whether the face covers it.

    Attributes:
        video_sha256, table_sha256: of the files, when they were rendered.
    """

    video: Path
    table: pd.DataFrame
    video_sha256: str = ""
    table_sha256: str = ""

    @property
    def seconds(self) -> float:
        """Time of the last frame."""
        return float(self.table["time"].iloc[-1])


class Pins(BaseModel):
    """What stands beside a rendered video: which one it is, of which face, and the hashes of it and of its table."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    video: str
    face_sha256: str
    video_sha256: _Sha256
    table_sha256: _Sha256


def video_key(scenario: Scenario, face_sha256: str) -> str:
    """What a video depends on, as 16 hexadecimal digits: the face, the trajectory, and the version that renders it.

    What is expected of a DMS is no part of it, so correcting a window renders nothing anew.
    """
    motion = scenario.trajectory()
    parts = [__version__, face_sha256, list(motion.names), scenario.frame_rate, motion.values.round(6).tolist()]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def video_path(folder: Path, scenario: Scenario, face_sha256: str) -> Path:
    """Where a scenario's video lies in ``folder``: NAME-KEY.mp4."""
    return folder / f"{scenario.name}-{video_key(scenario, face_sha256)}.mp4"


def render(scenario: Scenario, face: SteerableFace, folder: Path) -> Rendered:
    """Render a scenario to ``folder``/NAME-KEY.mp4 with its table beside it, or find it there.

    What is found is used only if it is what was rendered, byte for byte; else it is rendered anew, which is said.
    """
    sha256 = face_sha256(face.path, face.trained)
    video = video_path(folder, scenario, sha256)
    table = video.with_suffix(".parquet")
    pins = read_pins(video)
    wrong = None if pins is None else what_differs(video, pins, sha256)
    if pins is None or wrong:
        if wrong:
            console.print(f"{wrong}; rendered anew", style="yellow")
        sidecar_of(video).unlink(missing_ok=True)  # written last, it says that all is whole
        steer_to_video(face, scenario.trajectory(), video, scenario.frame_rate, outside="mark")
        said = read_json(sidecar_of(video))
        write_json(sidecar_of(video), said | {"table_sha256": sha256_of(table)})
        pins = Pins.model_validate(said | {"table_sha256": sha256_of(table)})
    return Rendered(video, read_table(table), pins.video_sha256, pins.table_sha256)


def read_pins(video: Path) -> Pins | None:
    """What was noted when ``video`` was rendered; None if it was not finished, or if the note is damaged."""
    try:
        return Pins.model_validate(read_json(sidecar_of(video)))
    except (DmsynthError, ValidationError, ValueError, RecursionError, OSError):
        return None


def what_differs(video: Path, pins: Pins, face_sha256: str) -> str | None:
    """In words what is not as it was rendered; None if all is."""
    if pins.video != video.name or pins.face_sha256 != face_sha256:
        return f"{sidecar_of(video)}: describes another video"
    for file, sha256 in ((video, pins.video_sha256), (video.with_suffix(".parquet"), pins.table_sha256)):
        if not file.is_file():
            return f"{file}: is gone"
        if sha256_of(file) != sha256:
            return f"{file}: is not what was rendered: damaged or replaced"
    return None


@contextmanager
def shown(rendered: Rendered, folder: Path) -> Iterator[Path]:
    """A copy of a video for one DMS alone, in ``folder``, which is removed at the end: whatever the DMS does to it, the
    next one is shown the same video; and what was commanded does not lie beside it.

    Raises ``DmsynthError`` if the video was changed since it was rendered.
    """
    copy = folder / rendered.video.name
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    folder.mkdir(parents=True)
    try:
        shutil.copyfile(rendered.video, copy)
        copy.chmod(0o444)
        if not is_unchanged(copy, rendered.video_sha256):
            raise DmsynthError(f"{rendered.video}: changed while it was in use; run the same command again")
        yield copy
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def is_unchanged(file: Path, sha256: str) -> bool:
    """Whether a file has this hash; one that is gone has none."""
    try:
        return sha256_of(file) == sha256
    except OSError:
        return False


def covered_frames(scenario: Scenario, face: SteerableFace) -> NDArray[np.bool_]:
    """(n,) which frames of a scenario lie within a face's trusted coverage."""
    values = scenario.trajectory().in_space(face.trained.space).values
    covered = np.ones(len(values), dtype=bool)
    covered[face.outside_coverage(values)] = False
    return covered
