"""MediaPipe's Face Landmarker: the tracker of the thesis (4.1), with its own model file."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dmsynth.errors import DmsynthError
from dmsynth.files import sha256_of
from dmsynth.trackers import Face
from dmsynth.trackers.quiet import first_face, quiet
from dmsynth.video import Image, to_rgb

MODEL_URL = (
    "https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/face_landmarker.task"
)
MODEL_SHA256 = "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"
MODEL_VARIABLE = "DMSYNTH_FACE_LANDMARKER"
# What the face does besides turning: the mean of the first blendshapes less the mean of the second. Left and right are
# the person's own; gaze > 0 looks towards the image's right edge and up, as yaw and pitch do.
EXPRESSION: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "blink_left": (("eyeBlinkLeft",), ()),
    "blink_right": (("eyeBlinkRight",), ()),
    "gaze_x": (("eyeLookOutLeft", "eyeLookInRight"), ("eyeLookInLeft", "eyeLookOutRight")),
    "gaze_y": (("eyeLookUpLeft", "eyeLookUpRight"), ("eyeLookDownLeft", "eyeLookDownRight")),
    "brow": (("browInnerUp", "browOuterUpLeft", "browOuterUpRight"), ("browDownLeft", "browDownRight")),
    "jaw": (("jawOpen",), ()),
    "smile": (("mouthSmileLeft", "mouthSmileRight"), ("mouthFrownLeft", "mouthFrownRight")),
    "pucker": (("mouthPucker", "mouthFunnel"), ()),
    "sideways": (("mouthLeft",), ("mouthRight",)),
}
_WAIT_FOR_NETWORK = 2.0  # seconds; with the rest of a start-up this keeps the fallback within 3 s


def find_model(explicit: Path | None = None) -> Path | None:
    """Path of Face Landmarker's model: given, from the environment, from the cache, or downloaded and verified.

    Returns None where there is no way to it (offline and not cached), within about 2 seconds. Raises
    ``DmsynthError`` if a path that was given, explicitly or by the environment, is not there.
    """
    named = explicit or (Path(os.environ[MODEL_VARIABLE]) if os.environ.get(MODEL_VARIABLE) else None)
    if named is not None:
        if not named.is_file():
            how = "correct the path" if explicit else f"correct or unset {MODEL_VARIABLE}"
            raise DmsynthError(f"{named}: no such tracker model; {how}")
        return named
    import pooch

    cached = Path(pooch.os_cache("dmsynth")) / "face_landmarker.task"
    if cached.is_file() and sha256_of(cached) == MODEL_SHA256:
        return cached
    if not _network_answers():
        return None
    try:
        pooch.retrieve(
            MODEL_URL,
            known_hash=f"sha256:{MODEL_SHA256}",
            fname=cached.name,
            path=cached.parent,
            progressbar=False,
        )
    except (OSError, ValueError):  # the network broke off, the cache is unwritable, or the hash differs
        return None
    return cached


def _network_answers() -> bool:
    """Whether the model's host answers in time. In a thread, because a name look-up knows no time limit."""
    import requests

    answered = threading.Event()

    def ask() -> None:
        try:
            if requests.head(MODEL_URL, timeout=_WAIT_FOR_NETWORK).ok:
                answered.set()
        except OSError:
            pass

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_WAIT_FOR_NETWORK)
    return answered.is_set()


class FaceLandmarker:
    """Face Landmarker on single images (no memory between frames).

    Its transformation matrix maps the canonical face to a metric camera frame with x right, y up, z towards the
    camera, which is the frame of ``dmsynth.pose``.
    """

    def __init__(self, model: Path | None = None) -> None:
        path = model or find_model()
        if path is None:
            raise DmsynthError(
                f"Face Landmarker's model file is not at hand and could not be downloaded; set {MODEL_VARIABLE} "
                "to its path, or use --tracker face-mesh"
            )
        self.name = f"MediaPipe Face Landmarker ({sha256_of(path)[:8]})"
        with quiet():
            from mediapipe.tasks import python as tasks
            from mediapipe.tasks.python import vision

            options = vision.FaceLandmarkerOptions(
                base_options=tasks.BaseOptions(model_asset_buffer=path.read_bytes()),
                num_faces=2,
                output_facial_transformation_matrixes=True,
                output_face_blendshapes=True,
            )
            try:
                self._landmarker = vision.FaceLandmarker.create_from_options(options)
            except (RuntimeError, ValueError) as error:
                reason = str(error).splitlines()[0]
                raise DmsynthError(f"{path}: not a Face Landmarker model ({reason}); download it again") from None
            for _ in range(2):  # each network chatters at its first use, one of them after the answer
                self(first_face())

    def __call__(self, image: Image) -> list[Face]:
        import mediapipe

        rgb = np.ascontiguousarray(to_rgb(image))
        height, width = rgb.shape[:2]
        frame = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=rgb)
        result = self._landmarker.detect(frame)
        faces = []
        found = zip(result.face_landmarks, result.facial_transformation_matrixes, result.face_blendshapes, strict=True)
        for points, matrix, shapes in found:
            landmarks = np.array([(p.x * width, p.y * height, p.z * width) for p in points], dtype=np.float32)
            (left, top), (right, bottom) = landmarks[:, :2].min(axis=0), landmarks[:, :2].max(axis=0)
            faces.append(
                Face(
                    rotation=_nearest_rotation(np.asarray(matrix)[:3, :3]),
                    box=(float(left), float(top), float(right), float(bottom)),
                    landmarks=landmarks,
                    expression=_expression({shape.category_name: shape.score for shape in shapes}),
                )
            )
        return faces


def _expression(scores: dict[str, float]) -> dict[str, float]:
    def mean(names: tuple[str, ...]) -> float:
        return sum(scores[name] for name in names) / max(len(names), 1)

    return {name: round(mean(more) - mean(less), 4) for name, (more, less) in EXPRESSION.items()}


def _nearest_rotation(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rotation closest to a matrix that also scales a little (least squares, by SVD)."""
    u, _, v = np.linalg.svd(matrix)
    return np.asarray(u @ np.diag([1, 1, np.linalg.det(u @ v)]) @ v)
