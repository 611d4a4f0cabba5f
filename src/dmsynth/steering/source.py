"""Source frames: they give the appearance, the command gives the pose."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dmsynth.controls import FEATURES_AT_REST, ControlSpace
from dmsynth.controls.coverage import Coverage
from dmsynth.datasets.dataset import open_dataset
from dmsynth.learning.face_file import SourceFeatures
from dmsynth.steering.renderer import PORTRAIT, Renderer
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import is_file, is_folder
from dmsynth.trackers import Face, Tracker, face_columns
from dmsynth.trackers.features import FEATURE_POINTS
from dmsynth.trackers.gaze import MESH_POINTS
from dmsynth.video import Image, fit, read_video
from dmsynth.video.pictures import is_picture, read_image
from dmsynth.video.portrait import PORTRAIT_CONSENT, default_portrait

_TURNED_AWAY = 0.1  # confidence: nearly twice as far from any training pose as covered
_ALIKE = 0.1  # of a head's size: as near to where the training has it as need be
_TRACKED_WIDTH = 320  # smaller sources are enlarged before they are tracked


def read_source(text: str) -> Image:
    """A source frame: a picture, ``VIDEO@N`` or ``DATASET@N`` (frame number N, from 0; first frame without @N), or
    ``portrait`` for the one that comes along.

    Raises ``DmsynthError`` if there is no such frame.
    """
    if _is_embedded(text):
        return default_portrait()
    path, number = _source_parts(text)
    if not number.isdecimal() or len(number) > 9:
        raise DmsynthError(f"{text}: the frame number after @ must be a whole number from 0")
    index = int(number)
    if is_folder(path):
        frames = open_dataset(path).check_frames().frames
        if index >= len(frames):
            raise DmsynthError(f"{path}: has frames 0 to {len(frames) - 1}, not {index}")
        return np.array(frames[index])
    if not path.is_file():
        raise DmsynthError(f"{path}: no such picture, video or dataset; check the path")
    if is_picture(path):
        return read_image(path)
    last = -1
    for frame in read_video(path):
        if frame.index == index:
            return frame.image
        last = frame.index
    raise DmsynthError(f"{path}: has frames 0 to {last}, not {index}")


def _is_embedded(text: str) -> bool:
    return text == PORTRAIT and not Path(text).exists()


def _source_parts(text: str) -> tuple[Path, str]:
    """``NAME@N`` as path and number."""
    whole = "@" not in text or is_file(text) or is_folder(text)
    name, _, number = (text, "", "0") if whole else text.rpartition("@")
    return Path(name), number


def source_consent(text: str) -> str | None:
    """The consent recorded with the dataset of a source ``DATASET@N``, or that of the portrait that comes along; None
    for any other source or without one."""
    if _is_embedded(text):
        return PORTRAIT_CONSENT
    path, _ = _source_parts(text)
    consent = open_dataset(path).manifest.get("consent") if is_folder(path) else None
    return str(consent) if consent else None


def as_source(
    image: Image, where: str, face: Renderer, tracker: Tracker
) -> tuple[Image, NDArray[np.float64], SourceFeatures | None]:
    """A frame from elsewhere, made a source of a face that turns its head: of the face's size, moved and scaled so that
    the head lies where the training frame of the most similar pose has it (left where it is if that is within a tenth);
    its pose (k,), to be given to ``SteerableFace.frames`` as ``at``; and where its eyes are, if the tracker knows: the
    look in this one frame is taken for this person's rest.

    Raises ``DmsynthError`` as ``source_pose``.
    """
    space, coverage = face.trained.space, face.trained.coverage
    framed, at = image, source_pose(image, where, space, coverage, tracker)
    for _ in range(2):  # where the head lies changes what the tracker reads, and that, which frame is the most similar
        framed = _aligned_to(image, where, face, at, tracker)
        at = source_pose(framed, where, space, coverage, tracker)
    return framed, at, _features(*_one_face(framed, where, tracker))


def _features(face: Face, enlarged: float) -> SourceFeatures | None:
    if len(face.landmarks) != MESH_POINTS:
        return None
    points = face.landmarks[list(FEATURE_POINTS), :2] / enlarged
    return SourceFeatures(points[None].astype(np.float32), np.array([FEATURES_AT_REST], np.float32))


def _aligned_to(image: Image, where: str, face: Renderer, at: NDArray[np.float64], tracker: Tracker) -> Image:
    """The image with its head where the face's source frame nearest to the pose ``at`` (k,) has it."""
    trained, (width, height) = face.trained, face.size
    poses = trained.space.decode(trained.source_codes[:, : trained.space.size])
    known = tracker(trained.sources[int(np.square(poses - at).sum(axis=1).argmin())])
    if len(known) != 1:
        return fit(image, width, height)
    here, enlarged = _one_face(image, where, tracker)
    middle, wanted = np.array(here.centre) / enlarged, np.array(known[0].centre)
    scale = float(np.sqrt(_area(known[0]) / _area(here))) * enlarged
    as_it_is = max(width / image.shape[1], height / image.shape[0])
    lies = (middle - np.array(image.shape[1::-1]) / 2) * as_it_is + np.array([width, height]) / 2
    if abs(scale / as_it_is - 1) < _ALIKE and np.abs(lies - wanted).max() < _ALIKE * np.sqrt(_area(known[0])):
        return fit(image, width, height)
    matrix = np.column_stack([scale * np.eye(2), wanted - scale * middle])
    smooth = cv2.GaussianBlur(image, (0, 0), 0.4 / scale) if scale < 0.7 else image  # or it would alias
    moved = cv2.warpAffine(smooth, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, dtype=np.uint8)


def _area(face: Face) -> float:
    left, top, right, bottom = face.box
    return max((right - left) * (bottom - top), 1e-6)


def _one_face(image: Image, where: str, tracker: Tracker) -> tuple[Face, float]:
    """The face in a source frame, and by how much the frame was enlarged to be tracked."""
    factor = max(1.0, _TRACKED_WIDTH / image.shape[1])
    large = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC) if factor > 1 else image
    faces = tracker(large)
    if len(faces) != 1:
        reason = "several faces" if faces else "no face found"
        raise DmsynthError(f"{where}: {reason}; the source shows one person, looking more or less into the camera")
    return faces[0], factor


def source_pose(
    image: Image, where: str, space: ControlSpace, coverage: Coverage, tracker: Tracker
) -> NDArray[np.float64]:
    """The pose (k,) of the head in a source frame, in the order of a rotation ``space``.

    Raises:
        DmsynthError: not exactly one face in it, or one turned to where the face was never trained.
    """
    pose = face_columns(_one_face(image, where, tracker)[0])
    values = np.array([pose[name] for name in space.names])
    confidence = float(coverage.confidence(space.encode(values[None]))[0])
    if confidence < _TURNED_AWAY:
        turned = ", ".join(f"{name} {value:+.0f}°" for name, value in zip(space.names, values, strict=True))
        raise DmsynthError(
            f"{where}: the face is turned to {turned}, where this one was never trained; "
            "choose a source frame that looks more into the camera"
        )
    return values
