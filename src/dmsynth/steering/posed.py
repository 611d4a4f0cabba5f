"""Filmed frames, each posed like a photo: geometry without any learning. What every trained face has to beat.

The frame with the nearest expression is the source; its head is rotated to the commanded pose in 3-D
(``datasets.photo_posing``). It needs no training; to prepare a source frame takes half a second.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import product
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmsynth.controls import CONTROL_SPACES
from dmsynth.controls.carried import Carried
from dmsynth.controls.coverage import Coverage
from dmsynth.controls.pose import angles_from_matrix, rotation_matrix
from dmsynth.datasets.dataset import Dataset, open_dataset
from dmsynth.datasets.photo_posing import PosedPhoto
from dmsynth.datasets.widening import LIMIT
from dmsynth.learning.face_file import TrainedFace
from dmsynth.steering.face import SteerableFace
from dmsynth.steering.renderer import FaceSpec
from dmsynth.support.errors import DmsynthError
from dmsynth.trackers import Tracker, why_unusable
from dmsynth.video import Image

_DEGREES = 25.0  # either way: a code's range, in which 10° count like a deviation of an expression
SPACE = replace(
    CONTROL_SPACES["rotation"],
    controls=tuple(replace(each, low=-_DEGREES, high=_DEGREES) for each in CONTROL_SPACES["rotation"].controls),
)
_PLACE = ("x", "y", "size")  # carried quantities that are no expression
_PLACE_COUNTS = 0.3  # times an expression when a source frame is chosen
_STEP = 4.0  # degrees: how finely the coverage is laid out
_TRACKED_WIDTH = 640  # smaller frames are enlarged before their landmarks are measured


@dataclass(frozen=True)
class Head:
    """A source frame, ready to be posed, and the head's rotation in it (3, 3)."""

    photo: PosedPhoto
    rotation: NDArray[np.float64]


class Poser:
    """The poser in the shape of a model: controls in, pictures out (``steering.face.SteerableFace``)."""

    def __init__(self, tracker: Tracker, name: str, grey: bool) -> None:
        self.tracker, self.name, self.grey = tracker, name, grey

    def encode(self, images: Tensor, code: Tensor | None = None) -> Head:
        """One source frame (1, channels, h, w) in [0, 1] → what is posed. The pose is the code's, else the tracker's.

        Raises ``DmsynthError`` if there is not exactly one usable face with landmarks.
        """
        pixels = (images[0] * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        frame: Image = np.ascontiguousarray(pixels[..., 0] if self.grey else pixels)
        factor = max(1.0, _TRACKED_WIDTH / frame.shape[1])
        large = cv2.resize(frame, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
        faces = self.tracker(large)
        reason = why_unusable(faces, large) or (None if len(faces[0].landmarks) else "no landmarks")
        if reason:
            raise DmsynthError(f"{self.name}: {reason} in a source frame; posing needs one whole face")
        face = faces[0].scaled(1 / factor)
        rotation = face.rotation
        if code is not None:
            rotation = rotation_matrix(*SPACE.decode(code[0, : SPACE.size].cpu().numpy()))
        return Head(PosedPhoto(frame, face.landmarks, rotation, grey=self.grey), rotation)

    def steer(self, head: Head, code: Tensor) -> Tensor:
        """Frames (n, channels, h, w) in [0, 1] of that source at control codes (n, 3 or more)."""
        poses = SPACE.decode(code[:, : SPACE.size].cpu().numpy())
        frames = np.stack([head.photo.pose(*map(float, pose)) for pose in poses])
        pixels = torch.from_numpy(frames).float() / 255
        return pixels[:, None] if self.grey else pixels.permute(0, 3, 1, 2)

    def decode(self, head: Head) -> Tensor:
        """The source at its own pose."""
        return self.steer(head, self.controls(head))

    def controls(self, head: Head) -> Tensor:
        """(1, 3): the control code of the source."""
        return torch.from_numpy(SPACE.encode(angles_from_matrix(head.rotation)[None]))


class PosedFrames(SteerableFace):
    """Filmed frames, posed. Where no expression is given, all is drawn from the typical frame: to turn a head takes no
    other one."""

    def frames(
        self,
        values: NDArray[np.float64],
        source: Image | None = None,
        carried: NDArray[np.float32] | None = None,
        moving: bool = True,
        at: NDArray[np.float64] | None = None,
    ) -> Iterator[Image]:
        if source is None and carried is None and len(self.trained.sources) > 1:
            return self.from_one_source().frames(values, moving=moving)
        return super().frames(values, source, carried, moving, at)


def open_posed(spec: FaceSpec, size: tuple[int, int] | None = None) -> SteerableFace:
    """Pose the filmed training frames of a dataset (``posed:DATASET``); ``size`` is the dataset's.

    Raises ``DmsynthError`` for a dataset whose frames show no turning head.
    """
    face = posed_frames(open_dataset(spec.where), spec.open_tracker())
    return face.from_one_source() if spec.one_source else face


def posed_frames(dataset: Dataset, tracker: Tracker) -> SteerableFace:
    """The filmed training frames of a dataset, posed. The source frame is the one with the nearest expression; the
    rotation counts little, because it is computed.

    Raises ``DmsynthError`` for a dataset whose frames show no turning head.
    """
    space, grey, labels = SPACE, dataset.frames.ndim == 3, dataset.most_exact_labels
    codes = space.encode(dataset.controls(space, labels))
    frames = dataset.split("train")
    filmed = frames[~dataset.posed[frames]]
    names, quantities = dataset.carried(space)
    carried = _as_measured(names, quantities[filmed])
    codes = np.concatenate([codes, carried.encode(names, codes, quantities)], axis=1)
    first = _typical(codes, carried, filmed)
    sources = np.array([first, *filmed[filmed != first]])
    network: Any = Poser(tracker, str(dataset.path), grey)
    width, height = dataset.size
    trained = TrainedFace(
        network=network,
        shape={"width": width, "height": height, "channels": 1 if grey else 3},
        model="posed",
        space=space,
        coverage=_natural(),
        carried=carried,
        sources=np.array(dataset.frames[sources]),
        source_codes=codes[sources],
        about={
            "sha256": sha256(f"posed {dataset.sha256}".encode()).hexdigest(),
            "consent": dataset.manifest.get("consent"),
            "trusted": "the range in which a posed frame looks natural",
            "tracker": dataset.manifest["recipe"].get("tracker"),
            "dataset": dataset.path.name,
            "dataset_sha256": dataset.sha256,
            "steps": 0,
            "train_seconds": None,
            "settings": {"dataset_sha256": dataset.sha256, "labels": labels, "seed": "–", "precision": "–"},
        },
    )
    return PosedFrames(trained, dataset.path)


def _typical(codes: NDArray[np.float32], carried: Carried, filmed: NDArray[np.int64]) -> int:
    """The filmed frame nearest to the median expression, rotation and place, with eyes no more closed than usual."""
    lids = [SPACE.size + number for number, name in enumerate(carried.names) if name.startswith("blink")]
    awake = filmed
    if lids:
        blink = codes[filmed][:, lids].max(axis=1)
        awake = filmed[blink <= np.median(blink)]
    away = np.square(codes[awake] - np.median(codes[awake], axis=0)).sum(axis=1)
    return int(awake[away.argmin()])


def _as_measured(names: tuple[str, ...], quantities: NDArray[np.float64]) -> Carried:
    """Carried codes of quantities (n, c) as they were measured, in standard deviations of the frames. What a rotation
    explains of them is not subtracted: a frame of similar rotation is the better source, too."""
    moving = quantities.std(axis=0) > 1e-6
    kept = tuple(name for name, moves in zip(names, moving, strict=True) if moves)
    if not kept:
        return Carried()
    explained = np.zeros((1 + 2 * SPACE.size, len(kept)))
    explained[0] = quantities.mean(axis=0)[moving]
    counts = np.array([_PLACE_COUNTS if name in _PLACE else 1.0 for name in kept])
    return Carried(kept, explained, quantities.std(axis=0)[moving] / counts)


def _natural() -> Coverage:
    """The rotations within which a posed frame looks natural (``datasets.widening.LIMIT``)."""
    axes = [
        np.arange(-most + _STEP / 2, most - _STEP / 2 + 1e-6, _STEP / 2)
        for most in (LIMIT[name] for name in SPACE.names)
    ]
    poses = np.array(list(product(*axes)))
    control = SPACE.controls[0]
    return Coverage(SPACE.encode(poses), _STEP / (control.high - control.low), np.zeros((len(poses), 0), np.float32))
