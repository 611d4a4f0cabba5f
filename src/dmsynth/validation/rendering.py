"""Render a scenario to a video of a face, with a cache: keyed by everything the video depends on, verified by hash."""

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

from dmsynth.controls import BROWS
from dmsynth.steering import SteerableFace, steer_to_video
from dmsynth.steering.provenance import face_sha256, sidecar_of
from dmsynth.steering.taken import seen_by
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import read_json, sha256_of, write_json
from dmsynth.support.progress import console
from dmsynth.support.table_files import read_table
from dmsynth.support.version import __version__
from dmsynth.validation.scenarios import Scenario

_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True)
class Rendered:
    """A scenario's video and its table: for each frame the command, and whether the face's coverage contains it.

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
    """The sidecar file of a rendered video: its name, its face, and the hashes of video and table."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    video: str
    face_sha256: str
    video_sha256: _Sha256
    table_sha256: _Sha256


def video_key(scenario: Scenario, face_sha256: str) -> str:
    """Cache key of a video, 16 hexadecimal digits: hash of the face, the trajectory, the camera, what is worn, and the
    rendering version.

    The expectations of the DMS are not included, so a corrected window does not cause a new rendering.
    """
    motion = scenario.trajectory()
    parts = [__version__, face_sha256, list(motion.names), scenario.frame_rate, motion.values.round(6).tolist()]
    if scenario.camera:
        parts.append(scenario.camera.model_dump(mode="json"))
    if scenario.wear:
        parts.append([str(each) for each in scenario.worn])
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def video_path(folder: Path, scenario: Scenario, face_sha256: str) -> Path:
    """Path of a scenario's video in ``folder``: NAME-KEY.mp4."""
    return folder / f"{scenario.name}-{video_key(scenario, face_sha256)}.mp4"


def why_not(scenario: Scenario, face: SteerableFace) -> str | None:
    """Why a face cannot play a scenario, in words; None if it can. A look by the eyes is never played by the head."""
    space = face.trained.space
    if scenario.moves_eyes and not space.moves_eyes:
        steers = ", ".join(space.names)
        return (
            f"not tested: the face steers {steers}, and this scenario moves eyes, mouth or brows; use one that does: "
            "starter, posed:portrait, or one whose dataset was made and trained anew"
        )
    if scenario.moves_brows and BROWS not in space.names:
        return (
            "not tested: the face learned its eyes before brows could be moved, and this scenario moves them; "
            "use another one: starter, posed:portrait, or one whose dataset was made and trained anew"
        )
    return None


def render(scenario: Scenario, face: SteerableFace, folder: Path) -> Rendered:
    """Render a scenario to ``folder``/NAME-KEY.mp4 with its table beside it, or reuse an existing rendering.

    An existing one is used only if its hashes are unchanged; otherwise it is rendered again, with a note. Raises
    ``DmsynthError`` for a face that cannot play it (``why_not``).
    """
    reason = why_not(scenario, face)
    if reason:
        raise DmsynthError(f"{scenario.name}: {reason}")
    sha256 = face_sha256(face.path, face.trained)
    video = video_path(folder, scenario, sha256)
    table = video.with_suffix(".parquet")
    pins = read_pins(video)
    wrong = None if pins is None else what_differs(video, pins, sha256)
    if pins is None or wrong:
        if wrong:
            console.print(f"{wrong}; rendered anew", style="yellow")
        sidecar_of(video).unlink(missing_ok=True)  # written last: it marks a complete rendering
        steer_to_video(face, scenario.trajectory(), video, scenario.video_rate, "mark", scenario.camera, scenario.worn)
        said = read_json(sidecar_of(video))
        write_json(sidecar_of(video), said | {"table_sha256": sha256_of(table)})
        pins = Pins.model_validate(said | {"table_sha256": sha256_of(table)})
    return Rendered(video, read_table(table), pins.video_sha256, pins.table_sha256)


def read_pins(video: Path) -> Pins | None:
    """The sidecar file of ``video``; None if the rendering was not finished, or if the sidecar is damaged."""
    try:
        return Pins.model_validate(read_json(sidecar_of(video)))
    except (DmsynthError, ValidationError, ValueError, RecursionError, OSError):
        return None


def what_differs(video: Path, pins: Pins, face_sha256: str) -> str | None:
    """Describes which file differs from what was rendered; None if none does."""
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
    """A temporary copy of a video for one DMS, in ``folder``, which is removed at the end: a DMS cannot change the
    video that others get, and the ground truth is not beside the copy.

    Raises ``DmsynthError`` if the video was changed since it was rendered.
    """
    copy = folder / rendered.video.name
    shutil.rmtree(folder, ignore_errors=True)  # left by a killed run
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
    """Whether a file exists and has this hash."""
    try:
        return sha256_of(file) == sha256
    except OSError:
        return False


def covered_frames(scenario: Scenario, face: SteerableFace) -> NDArray[np.bool_]:
    """(n,) which frames of a scenario lie within a face's coverage: none if it cannot play it (``why_not``)."""
    if why_not(scenario, face):
        return np.zeros(len(scenario.trajectory()), dtype=bool)
    motion = scenario.trajectory().in_space(face.trained.space)
    values = (seen_by(scenario.camera, motion) if scenario.camera else motion).values
    covered = np.ones(len(values), dtype=bool)
    covered[face.outside_coverage(values)] = False
    return covered
