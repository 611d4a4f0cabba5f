"""openpilot's driver-monitoring network: the tracker of a real DMS, and a judge that is independent of MediaPipe's.

The network is comma.ai's (openpilot, MIT licence): ``dmonitoring_model.onnx`` of a release of openpilot. It is not
part of dmsynth; the user provides the file. ``RELEASES`` are the versions that were measured; another file with the
same input and output runs with a note, because new versions are the ones that need testing.

**Crop.** The network expects an upright crop, 320 wide and 640 high, of the driver's side of the cabin, in which
the face is about half as wide as the crop. In a fixed crop from the middle of a frame, its angles depend on the place
of the face as much as on its rotation. So every face is detected first (``finder.py``, which gives only the place), and
cropped; then a second crop is centred at the position that the network returns. The crop's size changes in steps of
1.5, beginning at the frame's width / 1.6, so that the scale does not jitter between frames. If no face is detected, the
middle of the frame is used, and the network's own face probability decides (``docs/judges.md`` has the figures).
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dmsynth.controls.pose import rotation_matrix
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import sha256_of
from dmsynth.support.model_files import cache_folder
from dmsynth.support.progress import console
from dmsynth.trackers.face import Face
from dmsynth.trackers.finder import Box, FaceFinder, same_face
from dmsynth.video import Image, to_rgb

MODEL_VARIABLE = "DMSYNTH_OPENPILOT"
ORIGIN = "dmonitoring_model.onnx of comma.ai's openpilot (MIT licence), release 0.8.9 or 0.8.5"
FACE_THRESHOLD = 0.5
"""Below this face probability there is no face; openpilot 0.8.9's own threshold."""

_WIDTH, _HEIGHT = 320, 640  # the crop in pixels; its luma is split into four planes
_INPUT, _OUTPUT = ("input_img", [1, 6, 320, 160]), ("outputs", [1, 38])
_FRAME_OVER_CROP = 1.6
_FACE_SHARE = 0.5  # of the crop's width
_STEP = 1.5
# Its other outputs, by index. The network names eyes left and right as in the image; here, as everywhere in dmsynth,
# they are the person's own (verified with covered eyes, and with one-sided blinks in real video).
_REPORTS = {
    "face_probability": 12, "eye_left": 30, "eye_right": 21, "sunglasses": 33, "poor_vision": 34,
    "partial_face": 35, "distracted_by_pose": 36, "distracted_by_eyes": 37,
}  # fmt: skip
_EXPRESSION = {"blink_left": 32, "blink_right": 31}
_SPREADS = {"pitch_spread": 6, "yaw_spread": 7, "roll_spread": 8}  # degrees; before softplus in radians


@dataclass(frozen=True)
class Release:
    """A known version of the network.

    Attributes:
        name: openpilot's release.
        sha256: of its file.
        neutral: its output (pitch, yaw, roll; degrees) at (0, 0, 0) in our convention: the intercept of its output
            against the exact command on 300 posed frames of the embedded portrait (``docs/judges.md``). It is
            subtracted. A person's own neutral pose may differ by some degrees; a DMS learns it while driving.
    """

    name: str
    sha256: str
    neutral: tuple[float, float, float]


RELEASES = (
    Release("0.8.9", "dea2cce554f1f78919090f7ea93917ae6a319a8ef65f860b3a27026877ff55e7", (1.0, 0.5, -0.5)),
    Release("0.8.5", "6c9c3929d230dbf74cf1c601f217405774204ccbb37219942aa62ab50b3ad1a8", (-1.4, 1.8, -0.4)),
)


def find_model(explicit: Path | None = None) -> Path:
    """The network's file: given, from the environment, or from the user's cache. ``DmsynthError`` if it is absent."""
    named = explicit or (Path(os.environ[MODEL_VARIABLE]) if os.environ.get(MODEL_VARIABLE) else None)
    if named is not None:
        if not named.is_file():
            how = "correct the path" if explicit else f"correct or unset {MODEL_VARIABLE}"
            raise DmsynthError(f"{named}: no such tracker model; {how}")
        return named
    cached = [cache_folder() / f"openpilot_dmonitoring_{release.name}.onnx" for release in RELEASES]
    for path in cached:
        if path.is_file():
            return path
    raise DmsynthError(
        f"openpilot's network is not at hand: get {ORIGIN}, and name it with --tracker-model or {MODEL_VARIABLE}, or "
        f"keep it as {cached[0]}"
    )


def is_at_hand() -> bool:
    """Whether the network's file is in the environment or the cache, and ONNX Runtime is installed."""
    try:
        import onnxruntime  # noqa: F401

        find_model()
    except (ModuleNotFoundError, DmsynthError):
        return False
    return True


@lru_cache
def release_of(path: Path) -> Release:
    """The release of a file, by its SHA-256. An unknown one gets a note and no neutral pose."""
    digest = sha256_of(path)
    for release in RELEASES:
        if release.sha256 == digest:
            return release
    known = ", ".join(release.name for release in RELEASES)
    console.print(
        f"note: {path} is none of the releases that were measured ({known}): its neutral pose is taken as it is",
        style="yellow",
    )
    return Release(f"unknown, {digest[:8]}", digest, (0.0, 0.0, 0.0))


class Openpilot:
    """The network on single images, grey or colour, of any size.

    ``Face.expression`` holds the probabilities that the eyes are closed (``blink_left``, ``blink_right``),
    ``Face.reports`` its other outputs: probabilities, and the standard deviations of its angles in degrees.
    """

    maker = "openpilot driver monitoring"

    def __init__(self, model: Path | None = None) -> None:
        path = find_model(model)
        self._session = _open(path)
        self.release = release_of(path)
        self.name = f"{self.maker} {self.release.name} ({self.release.sha256[:8]})"
        self._find = FaceFinder()

    def __call__(self, image: Image) -> list[Face]:
        height, width = image.shape[:2]
        faces: list[Face] = []
        for box in self._find(image) or [_middle(width, height)]:
            face = self._measure(image, box)
            is_new = not any(
                same_face(face.box, known.box) for known in faces
            )  # the second crop may move to the other face
            if is_new and face.reports["face_probability"] >= FACE_THRESHOLD:
                faces.append(face)
        return faces

    def _measure(self, image: Image, box: Box) -> Face:
        """The face near ``box``, whatever its probability."""
        crop_width = _crop_width(image.shape[1], box[2] - box[0])
        centre = np.array([box[0] + box[2], box[1] + box[3]]) / 2
        side = np.array([crop_width, crop_width * _HEIGHT / _WIDTH])
        first = self._run(image, centre, crop_width)
        centre = centre + first[3:5] * side
        answer = self._run(image, centre, crop_width)
        x, y = centre + answer[3:5] * side
        half_width, half_height = (box[2] - box[0]) / 2, (box[3] - box[1]) / 2
        pitch, yaw, roll = np.degrees(answer[:3]) - self.release.neutral
        softplus = np.logaddexp(0, answer)
        return Face(
            rotation=rotation_matrix(pitch, yaw, roll),
            box=(float(x - half_width), float(y - half_height), float(x + half_width), float(y + half_height)),
            landmarks=np.empty((0, 3), np.float32),
            expression={name: round(float(answer[place]), 4) for name, place in _EXPRESSION.items()},
            reports={name: round(float(answer[place]), 4) for name, place in _REPORTS.items()}
            | {name: round(math.degrees(softplus[place]), 2) for name, place in _SPREADS.items()},
        )

    def _run(self, image: Image, centre: NDArray[np.float64], crop_width: float) -> NDArray[np.float64]:
        """The network's 38 numbers for the crop around ``centre`` (x, y in pixels of the image)."""
        scale = _WIDTH / crop_width
        shift = np.array([_WIDTH, _HEIGHT]) / 2 - scale * centre
        matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
        crop = cv2.warpAffine(image, matrix, (_WIDTH, _HEIGHT), borderMode=cv2.BORDER_REPLICATE)
        answer = self._session.run(None, {_INPUT[0]: _as_input(crop)})[0][0]
        return np.asarray(answer, dtype=float)


def _as_input(crop: Image) -> NDArray[np.float32]:
    """(640, 320) or (640, 320, 3) uint8 → (1, 6, 320, 160) float32: four interleaved luma planes, then U and V, each
    (value − 128) / 128. U and V of a grey crop are 128."""
    if crop.ndim == 2:
        luma, colour = crop, np.full((2, _HEIGHT // 2, _WIDTH // 2), 128, np.uint8)
    else:
        planes = cv2.cvtColor(to_rgb(crop), cv2.COLOR_RGB2YUV_I420)
        luma, colour = planes[:_HEIGHT], planes[_HEIGHT:].reshape(2, _HEIGHT // 2, _WIDTH // 2)
    parts = [luma[row::2, column::2] for column in (0, 1) for row in (0, 1)]
    return ((np.stack([*parts, *colour]).astype(np.float32) - np.float32(128)) / np.float32(128))[None]


def _crop_width(frame_width: int, face_width: float) -> float:
    """Width of the crop in pixels of the frame."""
    base = frame_width / _FRAME_OVER_CROP
    steps = round(math.log(max(face_width, 1.0) / _FACE_SHARE / base, _STEP))
    return base * _STEP**steps


def _middle(width: int, height: int) -> Box:
    """The box of a face in the middle of a frame, at the size that the network expects."""
    half = _FACE_SHARE * width / _FRAME_OVER_CROP / 2
    return width / 2 - half, height / 2 - half, width / 2 + half, height / 2 + half


def _open(path: Path) -> Any:
    """The network in ONNX Runtime, on one thread (there is one tracker per thread).

    Raises ``DmsynthError`` if ONNX Runtime is missing, or the file is no such network.
    """
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise DmsynthError("the tracker openpilot needs ONNX Runtime; pip install onnxruntime") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own exceptions share no base class but this
        reason = str(error).splitlines()[0]
        raise DmsynthError(f"{path}: not a readable ONNX model ({reason}); it should be {ORIGIN}") from None
    has = [[(end.name, end.shape) for end in ends] for ends in (session.get_inputs(), session.get_outputs())]
    if has != [[_INPUT], [_OUTPUT]]:
        raise DmsynthError(
            f"{path}: takes {_shown(has[0])} and gives {_shown(has[1])}, but openpilot's driver monitoring takes "
            f"{_shown([_INPUT])} and gives {_shown([_OUTPUT])}; it should be {ORIGIN}"
        )
    return session


def _shown(ends: list[tuple[str, list[int]]]) -> str:
    return ", ".join(f"{name} {'×'.join(map(str, shape))}" for name, shape in ends)
