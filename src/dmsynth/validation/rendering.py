"""A scenario as a video of a face: rendered once, and found again by what it depends on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import dmsynth
from dmsynth.provenance import face_sha256
from dmsynth.steering import SteerableFace, steer_to_video
from dmsynth.trajectory import read_table
from dmsynth.validation.scenarios import Scenario


@dataclass(frozen=True)
class Rendered:
    """A scenario's video and, frame by frame, what was commanded and whether the face covers it."""

    video: Path
    table: pd.DataFrame

    @property
    def seconds(self) -> float:
        """Time of the last frame."""
        return float(self.table["time"].iloc[-1])


def video_key(scenario: Scenario, face_sha256: str) -> str:
    """What a video depends on, as 16 hexadecimal digits: the face, the trajectory, and the version that renders it.

    What is expected of a DMS is no part of it, so correcting a window renders nothing anew.
    """
    motion = scenario.trajectory()
    parts = [dmsynth.__version__, face_sha256, list(motion.names), scenario.frame_rate, motion.values.round(6).tolist()]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def render(scenario: Scenario, face: SteerableFace, folder: Path) -> Rendered:
    """Render a scenario to ``folder``/NAME-KEY.mp4 with its table beside it, or find it there."""
    video = folder / f"{scenario.name}-{video_key(scenario, face_sha256(face.path, face.trained))}.mp4"
    table = video.with_suffix(".parquet")
    if not (video.is_file() and table.is_file()):  # the table is written after the video
        steer_to_video(face, scenario.trajectory(), video, scenario.frame_rate, outside="mark")
    return Rendered(video, read_table(table))


def covered_frames(scenario: Scenario, face: SteerableFace) -> NDArray[np.bool_]:
    """(n,) which frames of a scenario lie within a face's trusted coverage."""
    values = scenario.trajectory().in_space(face.trained.space).values
    covered = np.ones(len(values), dtype=bool)
    covered[face.outside_coverage(values)] = False
    return covered
