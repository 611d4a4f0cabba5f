"""The head that things hang on: this person's face in centimetres, and how the camera sees it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from dmsynth.datasets.head_shape import CAMERA_DISTANCE, EAR_TO_EAR, FACE_POINTS, LEFT_EAR, RIGHT_EAR
from dmsynth.video import Image

Double = NDArray[np.float64]
Float = NDArray[np.float32]
Bytes = NDArray[np.uint8]

RIGHT_CHEEK, LEFT_CHEEK, FOREHEAD = 50, 280, 151  # of the mesh, where skin is seldom covered
_PATCH = 0.8  # centimetres: side of the square of skin that is sampled
SKIN = 0.6  # albedo of typical skin: what light it is seen by follows from its brightness
_DARKEST, _BRIGHTEST = 0.1, 1.25  # light, of that in which white is 255


@dataclass(frozen=True)
class Light:
    """What falls on the face, by the look of its skin.

    Attributes:
        skin: (3,) colour of the cheeks, 0 to 255.
        strength: brightness of a white surface that faces the light, 255 is 1.
        towards: (3,) unit vector to the light, x right, y up, z towards the camera.
    """

    skin: Double
    strength: float
    towards: Double


@dataclass(frozen=True)
class Head:
    """A head in one frame.

    The frame of the head is x right, y up, z out of the face, with its origin between the ears, in centimetres, 14.5 of
    which are from ear to ear. Turned by ``rotation`` it is seen in perspective by a camera ``CAMERA_DISTANCE`` away.

    Attributes:
        points: (478, 3) the face's mesh in the head's frame.
        rotation: (3, 3) to the camera's frame.
        middle: (2,) where the origin is seen, in pixels.
        scale: pixels per centimetre there.
    """

    points: Double
    rotation: Double
    middle: Double
    scale: float

    @staticmethod
    def of(landmarks: Float, rotation: Double) -> Head:
        """From landmarks (478, 3) in pixels with their depth, as ``steering.anchors`` or a tracker gives them."""
        mesh = landmarks.astype(np.float64)
        mesh[:, 1:] *= -1.0
        mesh[:, 2] -= mesh[[RIGHT_EAR, LEFT_EAR], 2].mean()
        ears = mesh[[RIGHT_EAR, LEFT_EAR]]
        scale = float(np.linalg.norm(ears[1] - ears[0])) / EAR_TO_EAR
        for _ in range(3):  # what is near is seen large
            nearness = 1.0 - ears[:, 2] / (scale * CAMERA_DISTANCE)
            middle = (ears * nearness[:, None])[:, :2].sum(axis=0) / nearness.sum()
            across = np.column_stack([(ears[:, :2] - middle) * nearness[:, None], ears[:, 2]])
            scale = float(np.linalg.norm(across[1] - across[0])) / EAR_TO_EAR
        nearness = 1.0 - mesh[:, 2] / (scale * CAMERA_DISTANCE)
        seen = np.column_stack([(mesh[:, :2] - middle) * nearness[:, None], mesh[:, 2]]) / scale
        return Head(seen @ rotation, rotation, middle * [1.0, -1.0], scale)

    def turned(self, points: Double) -> Double:
        """Points (..., 3) of the head's frame in the camera's, in centimetres."""
        return points @ self.rotation.T

    def project(self, turned: Double) -> Double:
        """Points (..., 3) of the camera's frame as the camera sees them: x and y in pixels, and the depth in
        centimetres, which grows towards the camera."""
        near = self.scale / (1.0 - turned[..., 2:] / CAMERA_DISTANCE)
        return np.concatenate([self.middle + turned[..., :2] * [1.0, -1.0] * near, turned[..., 2:]], axis=-1)

    def seen(self, points: Double) -> Double:
        """Points (..., 3) of the head's frame as the camera sees them."""
        return self.project(self.turned(points))

    def partly(self, share: float) -> Double:
        """The rotation (3, 3) of what follows the head by a ``share``."""
        return np.asarray(cv2.Rodrigues(share * cv2.Rodrigues(self.rotation.astype(np.float64))[0])[0])

    def light(self, image: Image) -> Light:
        """The light on the face in an ``image`` without things."""
        seen, half = self.seen(self.points[[RIGHT_CHEEK, LEFT_CHEEK, FOREHEAD]]), round(_PATCH / 2 * self.scale)
        patches = [patch(image, x, y, half) for x, y, _ in seen]
        right, left, forehead = (float(patch.mean()) for patch in patches)
        share = float(np.clip(0.5 + self.rotation[0, 2], 0.0, 1.0))  # of the cheek that is seen better
        skin = share * patches[0] + (1.0 - share) * patches[1]
        strength = float(np.clip(skin.mean() / 255.0 / SKIN, _DARKEST, _BRIGHTEST))
        aside = float(np.clip((left - right) / max(left + right, 1.0), -0.3, 0.3))
        above = float(np.clip((forehead - skin.mean()) / max(forehead, 1.0), 0.0, 0.3))
        aside *= max(0.0, 1.0 - 2.0 * abs(self.rotation[0, 2]))  # of a turned face the far cheek tells nothing
        towards = np.array([2.0 * aside, 0.35 + above, 0.9])
        return Light(skin, strength, towards / np.linalg.norm(towards))

    def outline(self) -> NDArray[np.int32]:
        """The convex hull (n, 1, 2) of the face in pixels."""
        face = self.seen(self.points[:FACE_POINTS])[:, :2]
        return np.asarray(cv2.convexHull(np.rint(face).astype(np.int32)))


def patch(image: Image, x: float, y: float, half: int) -> Double:
    """Mean colour (3,) of a square of the image around a place, at its border of the part that is inside."""
    height, width = image.shape[:2]
    column, row = min(max(int(x), 0), width - 1), min(max(int(y), 0), height - 1)
    part = image[max(row - half, 0) : row + half + 1, max(column - half, 0) : column + half + 1]
    mean = cv2.mean(part)
    return np.array(mean[:3] if image.ndim == 3 else mean[:1] * 3)


@lru_cache(maxsize=1)
def triangles() -> NDArray[np.intp]:
    """The face's mesh as triangles (n, 3), from MediaPipe's edges, three of which in turn are one triangle."""
    from mediapipe.tasks.python.vision import FaceLandmarksConnections

    edges = FaceLandmarksConnections.FACE_LANDMARKS_TESSELATION
    return np.array([edge.start for edge in edges], np.intp).reshape(-1, 3)
