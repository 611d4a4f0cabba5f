"""One portrait photo, posed: a dataset of a head in known rotations from a single picture."""

from __future__ import annotations

import hashlib
import math
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dmsynth.controls import FEATURES, HEAD
from dmsynth.datasets.dataset import Dataset, DatasetWriter, finished_dataset, split_at_random
from dmsynth.datasets.eye_posing import Eyes
from dmsynth.datasets.photo_posing import PosedPhoto
from dmsynth.support.errors import DmsynthError
from dmsynth.support.parallel import map_ordered
from dmsynth.support.progress import progress
from dmsynth.support.records import Record, Text, read_record
from dmsynth.trackers import Face, Tracker, check_landmarks, face_labels, why_unusable
from dmsynth.video import Image, fit
from dmsynth.video.pictures import read_image
from dmsynth.video.portrait import PORTRAIT_CONSENT, default_portrait

_FACE_SHARE = 0.45  # of the frame's height: leaves space for the hair above and the shoulders below
_POSED_WIDTH = 224  # pixels, at least
_AT_REST, _BOTH, _CLOSED = 0.5, 0.25, 0.1  # shares of the frames by what the lids do; in the others one lid moves
_WIDE_OPEN = 1.2
_FACE_LEVEL = 0.52  # of the frame's height, from the top: where the face's centre lies


@dataclass(frozen=True)
class PoseRange:
    """Poses are drawn uniformly from ± these angles in degrees.

    The default ends where Face Landmarker still finds almost every posed face; to ±50° of yaw a head stays whole,
    but it misses about half of them, which are then left out of a dataset.

    Attributes:
        gaze_pitch, gaze_yaw: of the eyes in the head. If both are 0, the eyes stay as they are in the photo; else the
            lids move, too: both to anywhere from closed to wide open, one of them closed, or, half the time,
            at rest; likewise the mouth and the brows.
    """

    pitch: float = 20
    yaw: float = 35
    roll: float = 20
    gaze_pitch: float = 0
    gaze_yaw: float = 0

    def __post_init__(self) -> None:
        limits = (("pitch", 30), ("yaw", 50), ("roll", 45), ("gaze_pitch", 30), ("gaze_yaw", 40))
        for name, most in limits:
            value = getattr(self, name)
            if not 0 <= value <= most:
                raise DmsynthError(f"--{name} {value:g}: a photo can be posed from 0 up to ±{most}°")

    def draw(self, seed: int, number: int) -> dict[str, float]:
        """Pose ``number`` of a seed, independent of other poses."""
        turns = np.random.default_rng((seed, number)).uniform(-1, 1, size=3)
        limits = {"pitch": self.pitch, "yaw": self.yaw, "roll": self.roll}
        return {name: round(float(t) * limit, 4) for (name, limit), t in zip(limits.items(), turns, strict=True)}

    @property
    def moves_eyes(self) -> bool:
        """Whether gaze and lids vary."""
        return bool(self.gaze_pitch or self.gaze_yaw)

    def draw_eyes(self, seed: int, number: int) -> Eyes | None:
        """The eyes of pose ``number`` of a seed; None where they stay as they are."""
        if not self.moves_eyes:
            return None
        random = np.random.default_rng((seed, number, 1))
        pitch, yaw = (round(float(t), 4) for t in random.uniform(-1, 1, 2) * (self.gaze_pitch, self.gaze_yaw))
        kind, both, one = random.uniform(), round(float(random.uniform(0, _WIDE_OPEN)), 4), bool(random.integers(2))
        if kind < _AT_REST:
            return Eyes(pitch, yaw)
        if kind < _AT_REST + _BOTH:
            return Eyes(pitch, yaw, both, both)
        if kind < _AT_REST + _BOTH + _CLOSED:
            return Eyes(pitch, yaw, 0.0, 0.0)
        return Eyes(pitch, yaw, *((both, 1.0) if one else (1.0, both)))

    def draw_mouth(self, seed: int, number: int) -> float:
        """The mouth's opening of pose ``number`` of a seed; 0 where it stays as it is."""
        if not self.moves_eyes:
            return 0.0
        random = np.random.default_rng((seed, number, 2))
        opening = round(float(random.uniform(0, 1)), 4)
        return 0.0 if random.uniform() < _AT_REST else opening

    def draw_brows(self, seed: int, number: int) -> float:
        """How far the brows of pose ``number`` of a seed are raised; 0 where they stay as they are."""
        if not self.moves_eyes:
            return 0.0
        random = np.random.default_rng((seed, number, 3))
        raised = round(float(random.uniform(-1, 1)), 4)
        return 0.0 if random.uniform() < _AT_REST else raised


def identity(photo: Path | None) -> dict[str, str]:
    """Identifies a portrait independently of its folder: name and hash of its pixels."""
    picture = read_image(photo) if photo else default_portrait()
    return {"name": photo.name if photo else "astronaut", "sha256": hashlib.sha256(picture.tobytes()).hexdigest()}


class _Beside(Record):
    """What a file beside a picture says of it."""

    consent: Text | None = None
    licence: Text | None = None
    source: Text | None = None


def consent_for(photo: Path | None) -> str | None:
    """On what consent a photo shows whom: what a JSON file of its name beside it says (``consent``, ``licence``,
    ``source``), None without one. The default portrait is in the public domain.

    Raises ``DmsynthError`` for a file that is no JSON object, or whose entries are no texts.
    """
    if photo is None:
        return PORTRAIT_CONSENT
    beside = photo.with_suffix(".json")
    if not beside.is_file():
        return None
    about = read_record(beside, _Beside, f"mend it, or remove it: it should say on what consent {photo.name} is shown")
    parts = (about.consent, about.licence and f"licence: {about.licence}", about.source and f"source: {about.source}")
    return "; ".join(part for part in parts if part) or None


def pose_photo(
    out: Path,
    photo: Path | None,
    tracker: Tracker,
    frames: int = 1000,
    size: tuple[int, int] = (640, 480),
    poses: PoseRange | None = None,
    seed: int = 0,
    colour: bool = True,
    consent: str | None = None,
) -> Dataset:
    """Make a dataset of one portrait in random poses.

    Labels hold both the commanded pose (``commanded_pitch`` …, the geometric ground truth) and the tracker's
    measurement (``tracked_pitch`` …); they differ, because no tracker is exact. After an interruption the same call
    resumes.

    Args:
        out: the dataset's folder; if it exists and was made with the same arguments, it is opened.
        photo: a portrait of one person; by default ``default_portrait``.
        tracker: finds the face and measures the posed frames; thread-safe (``TrackerPool``).
        frames: how many poses to draw.
        size: width, height of the frames, each divisible by 16.
        poses: the range they are drawn from; by default ``PoseRange()``.
        colour: store RGB, not grey.
        consent: who is shown, and on what consent; by default ``consent_for`` the photo.

    Raises:
        DmsynthError: a picture that cannot be read or does not show exactly one whole face.
    """
    poses = poses or PoseRange()
    name = photo.name if photo else "astronaut"
    recipe = photo_recipe(photo, tracker, frames, size, poses, seed, colour)
    consent = consent or consent_for(photo)
    made = finished_dataset(out, recipe, consent)
    if made is not None:
        return made
    picture = read_image(photo) if photo else default_portrait()
    # Pose and track at a larger size than stored: on smaller frames the tracker's labels would be noisier.
    large = max(1, math.ceil(_POSED_WIDTH / size[0]))
    posed = prepare(picture, tracker, (large * size[0], large * size[1]), str(photo or name), colour)
    writer = DatasetWriter(out, recipe, (size[1], size[0], 3) if colour else (size[1], size[0]), consent)

    def draw(number: int) -> tuple[dict[str, float], Image, list[Face]]:
        pose, eyes = poses.draw(seed, number), poses.draw_eyes(seed, number)
        mouth, brows = poses.draw_mouth(seed, number), poses.draw_brows(seed, number)
        image = posed.pose(*pose.values(), eyes=eyes, mouth=mouth, brows=brows)
        if eyes is not None:
            pose |= dict(zip(FEATURES, (*astuple(eyes), mouth, brows), strict=True))
        faces = [face.scaled(1 / large) for face in tracker(image)]
        return pose, fit(image, *size), faces

    with progress(f"posing {name}", frames, writer.done) as advance:
        for number, (pose, image, faces) in enumerate(map_ordered(draw, range(writer.done, frames)), writer.done):
            reason = why_unusable(faces, image)
            if reason:
                writer.leave_out(reason)
            else:
                where: dict[str, Any] = {"recording": name, "recording_index": 0, "frame": number}
                commanded = {f"commanded_{control}": value for control, value in pose.items()}
                writer.keep(image, where | commanded | face_labels(faces[0]))
            advance()
    if writer.kept < frames / 2:
        kept, why = writer.kept, writer.left_out
        writer.abandon()
        raise DmsynthError(
            f"{name}: the face was found in only {kept} of {frames} posed frames ({why}); use another photo"
        )
    return writer.finish(split_at_random(writer.kept, seed))


def photo_recipe(
    photo: Path | None,
    tracker: Tracker,
    frames: int,
    size: tuple[int, int],
    poses: PoseRange,
    seed: int,
    colour: bool = False,
) -> dict[str, Any]:
    """The arguments that determine a posed dataset's content, as stored in its manifest; as for ``pose_photo``."""
    return {
        "kind": "photo",
        "photo": identity(photo),
        "frames": frames,
        "size": list(size),
        "poses": {name: value for name, value in vars(poses).items() if value or name in HEAD},
        "seed": seed,
        "colour": colour,
        "tracker": tracker.name,
    }


def prepare(picture: Image, tracker: Tracker, size: tuple[int, int], name: str, colour: bool = True) -> PosedPhoto:
    """Crop to the one face of a picture and prepare it for posing at ``size`` (width, height).

    Raises ``DmsynthError`` as ``framed_face``.
    """
    framed, face = framed_face(picture, tracker, size, name)
    return PosedPhoto(framed, face.landmarks, face.rotation, grey=not colour)


def framed_face(picture: Image, tracker: Tracker, size: tuple[int, int], name: str) -> tuple[Image, Face]:
    """The picture, cropped to its one face at ``size`` (width, height), and the face in it.

    Raises ``DmsynthError`` naming the picture if it does not show exactly one whole face.
    """
    reason = why_unusable(tracker(picture), picture)
    if reason is None:
        framed = _frame(picture, tracker(picture)[0], size)
        faces = tracker(framed)
        reason = why_unusable(faces, framed)
    if reason:
        raise DmsynthError(f"{name}: {reason}; give a portrait of one person looking at the camera, the head in full")
    check_landmarks(tracker, faces[0])
    return framed, faces[0]


def _frame(picture: Image, face: Face, size: tuple[int, int]) -> Image:
    """Crop the picture to head and shoulders, with the aspect ratio of ``size``, and scale to it."""
    height, width = picture.shape[:2]
    aspect = size[0] / size[1]
    cut_height = min((face.box[3] - face.box[1]) / _FACE_SHARE, height, width / aspect)
    cut_width = cut_height * aspect
    x, y = face.centre
    left = round(float(np.clip(x - cut_width / 2, 0, width - cut_width)))
    top = round(float(np.clip(y - cut_height * _FACE_LEVEL, 0, height - cut_height)))
    return fit(picture[top : top + round(cut_height), left : left + round(cut_width)], *size)
