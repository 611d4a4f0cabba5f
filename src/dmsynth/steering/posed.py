"""A photo, or filmed frames, posed: geometry without any learning. What every trained face has to beat.

Of filmed frames the one with the nearest expression is the source. The head is rotated to the commanded pose in 3-D
(``datasets.photo_posing``), eyes and lids are moved in it (``datasets.eye_posing``). It needs no training; to prepare a
source frame takes half a second.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmsynth.controls import CONTROL_SPACES, EYES_RANGE, FEATURES_AT_REST, HEAD, ControlSpace
from dmsynth.controls.carried import Carried
from dmsynth.controls.coverage import Coverage
from dmsynth.controls.pose import angles_from_matrix, rotation_matrix
from dmsynth.datasets.dataset import Dataset, open_dataset
from dmsynth.datasets.eye_posing import Eyes
from dmsynth.datasets.photo import consent_for, framed_face, identity
from dmsynth.datasets.photo_posing import PosedPhoto
from dmsynth.datasets.widening import LIMIT
from dmsynth.learning.face_file import TrainedFace
from dmsynth.steering.face import SteerableFace
from dmsynth.steering.renderer import PORTRAIT, FaceSpec, is_portrait
from dmsynth.support.errors import DmsynthError
from dmsynth.trackers import Tracker, why_unusable
from dmsynth.trackers.gaze import MESH_POINTS
from dmsynth.video import Image
from dmsynth.video.pictures import read_image
from dmsynth.video.portrait import default_portrait

_DEGREES = 25.0  # either way: a code's range, in which 10° count like a deviation of an expression
SPACE = replace(
    CONTROL_SPACES["rotation"],
    controls=tuple(replace(each, low=-_DEGREES, high=_DEGREES) for each in CONTROL_SPACES["rotation"].controls),
)
WITH_FEATURES = replace(
    CONTROL_SPACES["driver"],
    controls=tuple(
        replace(each, low=-_DEGREES, high=_DEGREES) if each.unit == "°" else each
        for each in CONTROL_SPACES["driver"].controls
    ),
)
_GAZE = dict(zip(("gaze_pitch", "gaze_yaw"), EYES_RANGE, strict=True))
_PLACE = ("x", "y", "size")  # carried quantities that are no expression
_PLACE_COUNTS = 0.3  # times an expression when a source frame is chosen
_STEP = 4.0  # degrees: how finely the coverage is laid out
_TRACKED_WIDTH = 640  # smaller frames are enlarged before their landmarks are measured


@dataclass(frozen=True)
class Head:
    """A source frame, ready to be posed, the head's rotation in it (3, 3), and what eyes, mouth and brows do in it
    (6,), in the order of ``controls.FEATURES``, from this person's rest."""

    photo: PosedPhoto
    rotation: NDArray[np.float64]
    own: NDArray[np.float64]


class Poser:
    """The poser in the shape of a model: controls in, pictures out (``steering.face.SteerableFace``)."""

    def __init__(self, tracker: Tracker, name: str, grey: bool, space: ControlSpace) -> None:
        self.tracker, self.name, self.grey, self.space = tracker, name, grey, space

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
        rotation, features = face.rotation, np.array(FEATURES_AT_REST)
        if code is not None:
            own = self._values(code)[0]
            rotation = rotation_matrix(*map(float, own[: len(HEAD)]))
            features[: self.space.size - len(HEAD)] = own[len(HEAD) :]
        gaze = float(features[0]), float(features[1])
        return Head(PosedPhoto(frame, face.landmarks, rotation, self.grey, gaze, soft_edges=True), rotation, features)

    def steer(self, head: Head, code: Tensor) -> Tensor:
        """Frames (n, channels, h, w) uint8 of that source at control codes (n, k or more)."""
        frames = torch.from_numpy(np.stack([self._posed(head, *row) for row in self._values(code).tolist()]))
        return frames[:, None] if self.grey else frames.permute(0, 3, 1, 2)

    def _posed(self, head: Head, pitch: float, yaw: float, roll: float, *features: float) -> Image:
        if not features:
            return head.photo.pose(pitch, yaw, roll)
        *eyes, mouth, brows = features
        _, _, left, right, opened, raised = map(float, head.own)
        lids = Eyes(*eyes).posed_from(left, right)
        return head.photo.pose(pitch, yaw, roll, eyes=lids, mouth=mouth - opened, brows=brows - raised)

    def decode(self, head: Head) -> Tensor:
        """The source at its own pose."""
        return self.steer(head, self.controls(head))

    def controls(self, head: Head) -> Tensor:
        """(1, k): the control code of the source."""
        values = [*map(float, angles_from_matrix(head.rotation)), *head.own]
        return torch.from_numpy(self.space.encode(np.array([values[: self.space.size]])))

    def _values(self, code: Tensor) -> NDArray[np.float64]:
        return self.space.decode(code[:, : self.space.size].cpu().numpy())


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

    @property
    def head_only(self) -> SteerableFace:
        trained, poser = self.trained, self._network
        if not trained.space.moves_eyes:
            return self
        coverage = replace(trained.coverage, codes=trained.coverage.codes[:, : len(HEAD)], joint=SPACE.joint)
        codes = np.delete(trained.source_codes, np.arange(len(HEAD), trained.space.size), axis=1)
        carried, network = trained.carried, Poser(poser.tracker, poser.name, poser.grey, SPACE)
        if carried.explained is not None:
            carried = replace(carried, explained=carried.explained[: 1 + 2 * SPACE.size])
        parts: dict[str, Any] = {"network": network, "space": SPACE, "coverage": coverage, "carried": carried}
        return replace(self, trained=replace(trained, source_codes=codes, **parts))


_PHOTO_SIZE = (640, 480)
_PHOTO_YAW = 46.0  # degrees: a photo's head has a back; a tracker may lose it from 40° on, as it loses real ones


def open_posed(spec: FaceSpec, size: tuple[int, int] | None = None) -> SteerableFace:
    """Pose the filmed training frames of a dataset (``posed:DATASET``, at its size), or a photo (``posed:FILE.jpg`` or
    ``posed:portrait``, at ``size`` (width, height)).

    Raises ``DmsynthError`` for a dataset whose frames show no turning head, and a picture without exactly one whole
    face.
    """
    if is_portrait(spec.where):
        return posed_picture(spec.where if spec.where.is_file() else None, spec.open_tracker(), size or _PHOTO_SIZE)
    face = posed_frames(open_dataset(spec.where), spec.open_tracker(), with_features=True)
    return face.from_one_source() if spec.one_source else face


def posed_picture(photo: Path | None, tracker: Tracker, size: tuple[int, int]) -> SteerableFace:
    """A portrait, posed: by default the one that comes with dmsynth. Raises as ``datasets.photo.prepare``."""
    picture, name = (read_image(photo), photo.name) if photo else (default_portrait(), PORTRAIT)
    framed, face = framed_face(picture, tracker, size, str(photo or name))
    space = WITH_FEATURES if len(face.landmarks) == MESH_POINTS else SPACE
    at = [face.pose[name] for name in HEAD]
    known = space.encode(np.array([[*at, *space.row({})[len(HEAD) :]]]))
    about = {
        "sha256": sha256(b"posed " + picture.tobytes()).hexdigest(),
        "consent": consent_for(photo),
        "dataset": name,
        "dataset_sha256": identity(photo)["sha256"],
        "tracker": tracker.name,
    }
    poser, limit = Poser(tracker, name, framed.ndim == 2, space), LIMIT | {"yaw": _PHOTO_YAW}
    return _posed(space, framed[None], known, Carried(), about, poser, photo, limit=limit)


def posed_frames(dataset: Dataset, tracker: Tracker, with_features: bool = False) -> SteerableFace:
    """The filmed training frames of a dataset, posed. The source frame is the one with the nearest expression; the
    rotation counts little, because it is computed. ``with_features``: gaze and lids can be commanded, too.

    Raises ``DmsynthError`` for a dataset whose frames show no turning head.
    """
    grey, labels = dataset.frames.ndim == 3, dataset.most_exact_labels
    space = WITH_FEATURES if with_features else SPACE
    values = dataset.controls(space, labels)
    frames = dataset.split("train")
    filmed = frames[~dataset.posed[frames]]
    codes = space.encode(values)
    names, quantities = dataset.carried(space)
    carried = _as_measured(names, quantities[filmed], space.size)
    codes = np.concatenate([codes, carried.encode(names, codes, quantities)], axis=1)
    first = _typical(codes, carried, filmed, space.size)
    sources = np.array([first, *filmed[filmed != first]])
    about = {
        "sha256": sha256(f"posed {dataset.sha256}".encode()).hexdigest(),
        "consent": dataset.manifest.get("consent"),
        "dataset": dataset.path.name,
        "dataset_sha256": dataset.sha256,
        "tracker": dataset.manifest["recipe"].get("tracker"),
    }
    poser = Poser(tracker, str(dataset.path), grey, space)
    return _posed(space, np.array(dataset.frames[sources]), codes[sources], carried, about, poser, dataset.path, labels)


def _posed(
    space: ControlSpace,
    sources: NDArray[np.uint8],
    codes: NDArray[np.float32],
    carried: Carried,
    about: dict[str, Any],
    network: Any,
    path: Path | None,
    labels: str = "tracked",
    limit: Mapping[str, float] = LIMIT,
) -> SteerableFace:
    height, width = sources.shape[1:3]
    settings = {"dataset_sha256": about["dataset_sha256"], "labels": labels, "seed": "–", "precision": "–"}
    trained = TrainedFace(
        network=network,
        shape={"width": width, "height": height, "channels": 1 if sources.ndim == 3 else 3},
        model="posed",
        space=space,
        coverage=_natural(space, limit),
        carried=carried,
        sources=sources,
        source_codes=codes,
        about={
            **about,
            "trusted": "the range in which a posed frame looks natural",
            "steps": 0,
            "train_seconds": None,
            "settings": settings,
        },
    )
    return PosedFrames(trained, path or Path(PORTRAIT))


def _typical(codes: NDArray[np.float32], carried: Carried, filmed: NDArray[np.int64], controls: int) -> int:
    """The filmed frame nearest to the median expression, rotation and place, with eyes no more closed than usual."""
    lids = [controls + number for number, name in enumerate(carried.names) if name.startswith("blink")]
    awake = filmed
    if lids:
        blink = codes[filmed][:, lids].max(axis=1)
        awake = filmed[blink <= np.median(blink)]
    away = np.square(codes[awake] - np.median(codes[awake], axis=0)).sum(axis=1)
    return int(awake[away.argmin()])


def _as_measured(names: tuple[str, ...], quantities: NDArray[np.float64], controls: int) -> Carried:
    """Carried codes of quantities (n, c) as they were measured, in standard deviations of the frames. What a rotation
    explains of them is not subtracted: a frame of similar rotation is the better source, too."""
    moving = quantities.std(axis=0) > 1e-6
    kept = tuple(name for name, moves in zip(names, moving, strict=True) if moves)
    if not kept:
        return Carried()
    explained = np.zeros((1 + 2 * controls, len(kept)))
    explained[0] = quantities.mean(axis=0)[moving]
    counts = np.array([_PLACE_COUNTS if name in _PLACE else 1.0 for name in kept])
    return Carried(kept, explained, quantities.std(axis=0)[moving] / counts)


def _natural(space: ControlSpace, limit: Mapping[str, float] = LIMIT) -> Coverage:
    """The rotations within which a posed frame looks natural (``datasets.widening.LIMIT``), and the range of the
    eyes."""
    axes = [np.arange(-most + _STEP / 2, most - _STEP / 2 + 1e-6, _STEP / 2) for most in (limit[name] for name in HEAD)]
    poses = np.array(list(product(*axes)))
    limits = [
        (-_GAZE[c.name], _GAZE[c.name]) if c.name in _GAZE else (c.low, c.high) for c in space.controls[len(HEAD) :]
    ]
    ends = np.array([[limit[row % 2] for limit in limits] for row in range(len(poses))]).reshape(len(poses), -1)
    codes = space.encode(np.concatenate([poses, ends], axis=1))
    control = space.controls[0]
    return Coverage(codes, _STEP / (control.high - control.low), np.zeros((len(poses), 0), np.float32), space.joint)
