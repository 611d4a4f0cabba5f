"""LivePortrait (Guo et al. 2024, arXiv 2407.03168) as one more model that dmsynth steers.

LivePortrait moves a picture by 21 implicit keypoints: x = scale · (canonical keypoints · rotation + expression) +
translation. As published, a driving video says all of these (``driven``). Here the rotation can also be commanded in
degrees, with no video (``Steered``): expression, scale and translation stay the source's. That was the thesis's wish.

What the official code does with insightface's landmarks (crop, turn upright) is done with our tracker's here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain, product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dmsynth.controls import CONTROL_SPACES
from dmsynth.controls.carried import Carried
from dmsynth.controls.coverage import Coverage
from dmsynth.controls.pose import angles_from_matrix, rotation_matrix
from dmsynth.learning.face_file import TrainedFace
from dmsynth.steering.face import SteerableFace
from dmsynth.steering.liveportrait_checkout import Networks, open_networks
from dmsynth.steering.renderer import FaceSpec
from dmsynth.steering.source import read_source, source_consent
from dmsynth.support.errors import DmsynthError
from dmsynth.support.machine import best_precision
from dmsynth.trackers import Face, Tracker, why_unusable
from dmsynth.video import Image, fit, to_rgb

SPACE = CONTROL_SPACES["rotation"]
CROP, SEEN = 512, 256  # pixels: the crop that is drawn, and what F and M see of it
# Of the official code: the crop's side in sides of the landmarks' box, and how far it is moved down the face, in its
# own side, for a source and for a driving video.
SOURCE_CROP, DRIVING_CROP = (2.3, -0.125), (2.2, -0.1)
LARGEST = 1280  # pixels: larger sources are made smaller, as the official code does
EDITED = (15.0, 25.0, 15.0)  # degrees of pitch, yaw, roll around the source's that its own editor offers
_STEP = 5.0  # degrees: how finely that range is laid out as coverage

# Landmarks of MediaPipe's mesh: eyes, corners of the mouth, and what insightface's 106 points span: jaw and brows, not
# the forehead.
_EYES = (33, 133, 159, 145, 362, 263, 386, 374)
_MOUTH = (61, 291)
_SPAN = (
    *(127, 234, 93, 132, 58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288, 361, 323, 454, 356),
    *(70, 63, 105, 66, 107, 336, 296, 334, 293, 300),
)
# LivePortrait's axes are x right, y down, z into the picture; ours are x right, y up, z towards the camera.
_AXES = np.diag([1.0, -1.0, -1.0])


def to_keypoints(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """A head's rotation (..., 3, 3) in the frame of ``controls.pose`` as LivePortrait multiplies it to its keypoints.

    In its axes, and transposed, because keypoints are rows there: keypoints (k, 3) @ rotation. In its own angles,
    single turns are pitch and yaw of the opposite sign and roll of the same sign.
    """
    return np.asarray(np.swapaxes(_AXES @ rotation @ _AXES, -1, -2))


@dataclass(frozen=True)
class Crop:
    """Where a face lies in a frame.

    Attributes:
        to_crop: (2, 3), pixels of the frame → pixels of the crop.
        tilt: (3, 3), how the upright crop lies turned in the frame, in the frame of ``dmsynth.controls.pose``.
    """

    to_crop: NDArray[np.float64]
    tilt: NDArray[np.float64]

    @staticmethod
    def around(face: Face) -> Crop:
        """A source's crop, turned so that the face is upright in it. Raises as ``square`` does."""
        centre, side, axes = square(face, *SOURCE_CROP)
        across, along = axes[0]
        return Crop(_placed(centre, side, axes), np.array([[across, along, 0], [-along, across, 0], [0, 0, 1]]))

    @staticmethod
    def level(centre: NDArray[np.float64], side: float) -> Crop:
        """A square of ``side`` pixels around ``centre`` (2,), not turned."""
        return Crop(_placed(centre, side, np.eye(2)), np.eye(3))

    def cut(self, frame: Image) -> Image:
        """(256, 256, 3) uint8: the crop as F and M see it."""
        whole = cv2.warpAffine(to_rgb(frame), self.to_crop, (CROP, CROP), flags=cv2.INTER_LINEAR)
        return cv2.resize(whole, (SEEN, SEEN), interpolation=cv2.INTER_AREA)

    def paste_back(self, crop: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
        """A crop (512, 512, …) laid where it came from in a frame of ``size`` (width, height); black around it."""
        return cv2.warpAffine(crop, cv2.invertAffineTransform(self.to_crop), size, flags=cv2.INTER_LINEAR)


def square(face: Face, scale: float, shift: float) -> tuple[NDArray[np.float64], float, NDArray[np.float64]]:
    """The square around a face that LivePortrait cuts out: ``scale`` times the box of its landmarks, and moved down the
    face by ``shift`` of its own side.

    Returns centre (2,) and side in pixels, and unit vectors across and down the face as rows (2, 2). Raises
    ``DmsynthError`` for a tracker without MediaPipe's mesh.
    """
    if len(face.landmarks) <= max(_SPAN):
        raise DmsynthError("LivePortrait needs the landmarks of MediaPipe's mesh; use --tracker face-landmarker")
    points = face.landmarks[:, :2].astype(float)
    down = points[list(_MOUTH)].mean(axis=0) - points[list(_EYES)].mean(axis=0)
    down /= max(float(np.linalg.norm(down)), 1e-3)
    axes = np.array([[down[1], -down[0]], down])
    spread = points[list(_SPAN)] @ axes.T
    low, high = spread.min(axis=0), spread.max(axis=0)
    side = float((high - low).max()) * scale
    return ((low + high) / 2 + [0, shift * side]) @ axes, side, axes


def _placed(centre: NDArray[np.float64], side: float, axes: NDArray[np.float64]) -> NDArray[np.float64]:
    """(2, 3): pixels of a frame → pixels of the crop that is a square along ``axes`` in it."""
    linear = CROP / side * axes
    return np.column_stack([linear, CROP / 2 - linear @ centre])


@dataclass(frozen=True)
class Motion:
    """What M says of a picture; tensors of one row.

    Attributes:
        canonical: (1, k, 3) keypoints of the person, not turned.
        rotation: (1, 3, 3), to multiply to keypoints from the right.
        expression: (1, k, 3).
        scale: (1, 1).
        translation: (1, 3), the last always 0.
    """

    canonical: Tensor
    rotation: Tensor
    expression: Tensor
    scale: Tensor
    translation: Tensor

    def keypoints(self, rotation: Tensor | None = None) -> Tensor:
        """(1, k, 3): the implicit keypoints, with another ``rotation`` in place of their own."""
        turned = self.canonical @ (self.rotation if rotation is None else rotation) + self.expression
        return self.scale[..., None] * turned + self.translation[:, None]

    def after(self, first: Motion, source: Motion) -> Motion:
        """The ``source`` moved as a driver moved from the ``first`` picture to this one (the official default)."""
        return Motion(
            canonical=source.canonical,
            rotation=self.rotation @ first.rotation.transpose(1, 2) @ source.rotation,
            expression=source.expression + self.expression - first.expression,
            scale=source.scale * self.scale / first.scale,
            translation=source.translation + self.translation - first.translation,
        )


@dataclass(frozen=True)
class Appearance:
    """A source frame, ready to be moved: (h, w, 3) ``frame``, ``crop``, the head's tracked ``rotation`` in the frame
    (3, 3), F's ``features``, M's ``motion``, and how much a drawn crop covers of the frame, (h, w, 3) in [0, 1]."""

    frame: Image
    crop: Crop
    rotation: NDArray[np.float64]
    features: Tensor
    motion: Motion
    cover: NDArray[np.float32]


class Steered:
    """LivePortrait in the shape of a model (``dmsynth.learning.models``): controls in, pictures out.

    The commanded rotation is absolute, in our conventions and on our tracker's scale: it replaces the rotation that the
    tracker measures in the source. M's own estimate of the source turns along, so that its zero, which need not be the
    tracker's, cancels; commanding the source's own pose moves nothing.
    """

    def __init__(self, networks: Networks, tracker: Tracker, name: str, precision: str | None = None) -> None:
        """
        Args:
            tracker: finds the face in a source, and its rotation.
            name: of the source, for messages.
            precision: ``bf16-mixed`` or ``32-true`` for W and G; by default what is faster here. F and M run once a
                source, in float32.
        """
        self.networks, self.tracker, self.name = networks, tracker, name
        self.precision = precision or best_precision()
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        for network in networks.parts:
            network.to(self.device)

    def parameters(self) -> Iterator[nn.Parameter]:
        """The weights of all five networks."""
        return chain.from_iterable(network.parameters() for network in self.networks.parts)

    def encode(self, images: Tensor, code: Tensor | None = None) -> Appearance:
        """One source frame (1, 3, h, w) in [0, 1] → what is moved. The code is not needed: the tracker measures it.

        Raises ``DmsynthError`` if there is not exactly one usable face.
        """
        frame: Image = (images[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        faces = self.tracker(frame)
        reason = why_unusable(faces, frame)
        if reason:
            raise DmsynthError(f"{self.name}: {reason}; LivePortrait needs a source with one whole face")
        crop = Crop.around(faces[0])
        picture = crop.cut(frame)
        size = (frame.shape[1], frame.shape[0])
        return Appearance(
            frame=frame,
            crop=crop,
            rotation=faces[0].rotation,
            features=self.networks.appearance(self._seen(picture)),
            motion=self.motion(picture),
            cover=crop.paste_back(self.networks.mask, size).astype(np.float32) / np.float32(255),
        )

    def steer(self, appearance: Appearance, code: Tensor) -> Tensor:
        """Frames (n, 3, h, w) in [0, 1] of that source at control codes (n, 3)."""
        pitch, yaw, roll = SPACE.decode(code.numpy()).T
        turned = self.turned(appearance, rotation_matrix(pitch, yaw, roll))
        motion = appearance.motion
        return torch.cat([self.picture(appearance, motion.keypoints(rotation[None])) for rotation in turned])

    def turned(self, appearance: Appearance, rotation: NDArray[np.float64]) -> Tensor:
        """The keypoints' rotation (n, 3, 3) for commanded rotations of the head (n, 3, 3; ``controls.pose``)."""
        tilt = appearance.crop.tilt  # the crop is upright: what is commanded in the frame is seen turned back in it
        movement = tilt.T @ rotation @ appearance.rotation.T @ tilt
        return appearance.motion.rotation @ torch.from_numpy(to_keypoints(movement)).float().to(self.device)

    def decode(self, appearance: Appearance) -> Tensor:
        """The source, drawn anew and not moved."""
        return self.picture(appearance, appearance.motion.keypoints())

    def controls(self, appearance: Appearance) -> Tensor:
        """(1, 3): the control code of the source, as the tracker measures it."""
        return torch.from_numpy(SPACE.encode(angles_from_matrix(appearance.rotation)[None]))

    def motion(self, picture: Image) -> Motion:
        """What M says of a crop (256, 256, 3)."""
        said = self.networks.motion(self._seen(picture))
        angles = [self.networks.degrees(said[name])[:, None] for name in ("pitch", "yaw", "roll")]
        return Motion(
            canonical=said["kp"].reshape(1, -1, 3),
            rotation=self.networks.rotation_matrix(*angles),
            expression=said["exp"].reshape(1, -1, 3),
            scale=said["scale"],
            translation=said["t"] * said["t"].new_tensor([1, 1, 0]),
        )

    def draw(self, appearance: Appearance, keypoints: Tensor) -> Tensor:
        """The crop (1, 3, 512, 512) in [0, 1] with the source's keypoints moved to (1, k, 3), stitched."""
        own = appearance.motion.keypoints()
        count = keypoints.shape[1]
        change = self.networks.stitching(torch.cat([own.flatten(1), keypoints.flatten(1)], dim=1))
        moved = keypoints + change[:, : 3 * count].reshape(1, count, 3)
        moved[..., :2] += change[:, None, 3 * count : 3 * count + 2]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision != "32-true"):
            warped = self.networks.warping(appearance.features, kp_source=own, kp_driving=moved)
            picture: Tensor = self.networks.generator(feature=warped["out"])
        return picture.float()

    def picture(self, appearance: Appearance, keypoints: Tensor) -> Tensor:
        """A moved crop pasted back into its frame, (1, 3, h, w) in [0, 1]."""
        crop = self.draw(appearance, keypoints)[0].permute(1, 2, 0).cpu().numpy()
        frame = appearance.frame.astype(np.float32) / 255
        laid = appearance.crop.paste_back(crop, (frame.shape[1], frame.shape[0]))
        return torch.from_numpy(frame + appearance.cover * (laid - frame)).permute(2, 0, 1)[None]

    def _seen(self, picture: Image) -> Tensor:
        return (torch.from_numpy(picture).float() / 255).permute(2, 0, 1)[None].to(self.device)


def open_liveportrait(spec: FaceSpec, size: tuple[int, int] | None = None) -> SteerableFace:
    """LivePortrait from its checkout with the source that a spec names; ``size`` as in ``steerable``.

    Raises ``DmsynthError`` without a source, and as ``open_networks``, ``read_source`` and ``steerable``.
    """
    if spec.source is None:
        raise DmsynthError(f"{spec.face}: LivePortrait moves a picture; give it one with --source PICTURE")
    image, tracker = read_source(spec.source), spec.open_tracker()
    consent = source_consent(spec.source)
    return steerable(open_networks(spec.where), spec.where, image, tracker, spec.source, size, consent=consent)


def steerable(
    networks: Networks,
    folder: Path,
    source: Image,
    tracker: Tracker,
    name: str,
    size: tuple[int, int] | None = None,
    precision: str | None = None,
    consent: str | None = None,
) -> SteerableFace:
    """LivePortrait and one source frame as a face like any other: steered, evaluated and reported alike.

    Args:
        folder: the checkout, for messages.
        source: grey or RGB uint8; frames are the source with the moved head pasted back.
        name: of the source, for messages.
        size: width, height of the frames; by default the source's, at most 1280 and even. Of another shape than the
            source's, the part around the face is cut out.
        consent: of whom the source shows, as recorded.

    Raises:
        DmsynthError: a source without exactly one usable face.
    """
    network: Any = Steered(networks, tracker, name, precision)
    height, width = source.shape[:2]
    shrink = min(1.0, LARGEST / max(width, height))
    size = size or (int(width * shrink) // 2 * 2, int(height * shrink) // 2 * 2)
    frame = _framed(to_rgb(source), size, tracker)
    faces = tracker(frame)
    reason = why_unusable(faces, frame)
    if reason:
        raise DmsynthError(f"{name}: {reason}; LivePortrait needs a source with one whole face")
    pose = angles_from_matrix(faces[0].rotation)
    trained = TrainedFace(
        network=network,
        shape={"width": size[0], "height": size[1], "channels": 3},
        model="liveportrait",
        space=SPACE,
        coverage=_editable(pose),
        carried=Carried(),
        sources=frame[None],
        source_codes=SPACE.encode(pose[None]),
        about={
            "sha256": sha256((networks.sha256 + str(frame.shape)).encode() + frame.tobytes()).hexdigest(),
            "consent": consent,
            "trusted": "what LivePortrait's own editor offers around this source",
            "tracker": tracker.name,
            "dataset": "–",
            "steps": "–",
            "train_seconds": None,
            "settings": {"dataset_sha256": None, "labels": "tracked", "seed": "–", "precision": network.precision},
        },
    )
    return SteerableFace(trained, folder)


def _framed(source: Image, size: tuple[int, int], tracker: Tracker) -> Image:
    """The source at ``size`` (width, height). Of another shape, its part around the face; the middle without one."""
    scale = min(whole / part for whole, part in zip(source.shape[1::-1], size, strict=True))
    cut = [round(scale * part) for part in size]
    if cut != list(source.shape[1::-1]) and len(faces := tracker(source)) == 1:
        left, top = (
            round(min(max(0.0, middle - part / 2), whole - part))
            for middle, part, whole in zip(faces[0].centre, cut, source.shape[1::-1], strict=True)
        )
        source = source[top : top + cut[1], left : left + cut[0]]
    return fit(source, *size)


def _editable(pose: NDArray[np.float64]) -> Coverage:
    """What LivePortrait's own editor offers around a source's pose, in place of training poses, which nobody lists."""
    inner = [np.arange(_STEP - most, most - _STEP + 1e-6, _STEP / 2) for most in EDITED]
    poses = pose + np.array(list(product(*inner)))
    control = SPACE.controls[0]
    return Coverage(SPACE.encode(poses), _STEP / (control.high - control.low), np.zeros((len(poses), 0), np.float32))
