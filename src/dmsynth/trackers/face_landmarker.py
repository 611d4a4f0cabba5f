"""MediaPipe's Face Landmarker: the tracker of the thesis (4.1), with its own model file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dmsynth.trackers.face import Face
from dmsynth.trackers.face_model import MODEL
from dmsynth.trackers.finder import FaceFinder, same_face
from dmsynth.trackers.quiet import close_with_owner, explained_import_errors, first_face, quiet
from dmsynth.video import Image, to_rgb

_WIDE = 720  # pixels: in a larger picture a face may be too small for the network
_AROUND = 2.5  # side of the square crop in face sizes
_SHARE = 0.25  # see ``_seen_from``
# Expression: the mean of the first blendshapes minus the mean of the second. Left and right are the person's own;
# gaze > 0 is towards the image's right edge and up, as for yaw and pitch.
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
    """Face Landmarker on single images (no state between frames).

    Its transformation matrix maps the canonical face to a metric camera frame with x right, y up, z towards the
    camera, which is the frame of ``dmsynth.controls.pose``.
    """

    def __init__(self, model: Path | None = None) -> None:
        path = MODEL.find(model)
        self.name = f"MediaPipe Face Landmarker ({MODEL.sha256[:8]})"
        with quiet(), explained_import_errors():
            from mediapipe.tasks import python as tasks
            from mediapipe.tasks.python import vision

            options = vision.FaceLandmarkerOptions(
                base_options=tasks.BaseOptions(model_asset_buffer=path.read_bytes()),
                num_faces=2,
                output_facial_transformation_matrixes=True,
                output_face_blendshapes=True,
            )
            self._landmarker = vision.FaceLandmarker.create_from_options(options)
            close_with_owner(self, self._landmarker)
            self._finder: FaceFinder | None = None
            for _ in range(2):  # each network prints messages at its first use, one of them after returning
                self(first_face())

    def __call__(self, image: Image) -> list[Face]:
        rgb = np.ascontiguousarray(to_rgb(image))
        faces = self._detect(rgb)
        return faces if faces or max(rgb.shape[:2]) < _WIDE else self._detect_in_tiles(rgb, closely=False)

    def closely(self, image: Image) -> list[Face]:
        """The same, where no face was found: small tiles are searched, too, which takes a tenth of a second."""
        return self._detect_in_tiles(np.ascontiguousarray(to_rgb(image)), closely=True)

    def _detect(self, rgb: NDArray[np.uint8]) -> list[Face]:
        import mediapipe

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

    def _detect_in_tiles(self, rgb: NDArray[np.uint8], closely: bool) -> list[Face]:
        """Faces too small to be found in the whole picture, which the network scales to 128×128: find them in tiles,
        then measure each in a square crop."""
        self._finder = self._finder or FaceFinder()
        faces: list[Face] = []
        for left, top, right, bottom in self._finder(rgb, closely):
            side = min(round(_AROUND * max(right - left, bottom - top)), *rgb.shape[:2])
            x = int(np.clip((left + right - side) / 2, 0, rgb.shape[1] - side))
            y = int(np.clip((top + bottom - side) / 2, 0, rgb.shape[0] - side))
            for face in self._detect(np.ascontiguousarray(rgb[y : y + side, x : x + side])):
                there = face.moved(x, y)
                if any(same_face(there.box, known.box) for known in faces):
                    continue
                seen_from = _seen_from(x + side / 2, y + side / 2, rgb.shape[1], rgb.shape[0])
                faces.append(replace(there, rotation=seen_from @ face.rotation))
        return faces


def _seen_from(x: float, y: float, width: int, height: int) -> NDArray[np.float64]:
    """Correction from a rotation measured in a square crop around (x, y) to one measured in the whole picture.

    The tracker assumes a field of view of 63° for every picture, so an off-centre head is seen from the side; the
    measured rotation changes by a quarter (``_SHARE``) of that angle (48 places in four sizes: the remaining error is
    0.9, 0.4 and 1.1° in pitch, yaw and roll on average).
    """
    focal = height / 2 / np.tan(np.radians(63) / 2)
    right, up = _SHARE * (x - width / 2) / focal, _SHARE * (height / 2 - y) / focal
    # about the axis perpendicular to that direction, in x right, y up, z towards the camera
    return np.asarray(cv2.Rodrigues(np.array([up, -right, 0.0]))[0])


def _expression(scores: dict[str, float]) -> dict[str, float]:
    def mean(names: tuple[str, ...]) -> float:
        return sum(scores[name] for name in names) / max(len(names), 1)

    return {name: round(mean(more) - mean(less), 4) for name, (more, less) in EXPRESSION.items()}


def _nearest_rotation(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rotation closest to a matrix that also scales a little (least squares, by SVD)."""
    u, _, v = np.linalg.svd(matrix)
    return np.asarray(u @ np.diag([1, 1, np.linalg.det(u @ v)]) @ v)
