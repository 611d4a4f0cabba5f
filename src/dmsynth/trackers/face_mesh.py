"""MediaPipe FaceMesh, whose network is inside the mediapipe wheel: the tracker for machines with no way out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from dmsynth.trackers import Face
from dmsynth.trackers.quiet import first_face, quiet
from dmsynth.video import Image, to_rgb

# An average head in its own frame (x right, y up, z forwards; centimetres, outer eye corners 9 cm apart): where
# FaceMesh sees landmarks that neither speech nor blinking moves. Measured on 40 near-frontal poses of the embedded
# portrait, turned straight by Face Landmarker and made symmetric, so that both trackers agree on what (0, 0, 0) is.
HEAD: dict[int, tuple[float, float, float]] = {
    1: (0.00, -3.92, 5.06), 6: (0.00, -0.46, 3.12),
    168: (0.00, 0.29, 2.61), 9: (0.00, 1.85, 2.58),
    151: (0.00, 3.19, 2.23), 10: (0.00, 4.51, 1.79),
    33: (-4.50, -0.20, 0.46), 263: (4.50, -0.20, 0.46),
    133: (-1.71, -0.38, 0.98), 362: (1.71, -0.38, 0.98),
    70: (-5.57, 1.19, 0.24), 300: (5.57, 1.19, 0.24),
    105: (-4.08, 2.15, 1.64), 334: (4.08, 2.15, 1.64),
    127: (-6.78, -0.95, -4.32), 356: (6.78, -0.95, -4.32),
    234: (-6.72, -2.28, -4.65), 454: (6.72, -2.28, -4.65),
    93: (-6.66, -3.63, -4.57), 323: (6.66, -3.63, -4.57),
    98: (-1.89, -4.12, 2.75), 327: (1.89, -4.12, 2.75),
    50: (-5.01, -3.03, 1.32), 280: (5.01, -3.03, 1.32),
    21: (-6.32, 1.62, -2.33), 251: (6.32, 1.62, -2.33),
    54: (-5.75, 2.72, -1.23), 284: (5.75, 2.72, -1.23),
    67: (-3.40, 4.19, 1.01), 297: (3.40, 4.19, 1.01),
}  # fmt: skip


class FaceMesh:
    """FaceMesh on single images; the head's rotation is the one that lays ``HEAD`` best on its landmarks."""

    name = "MediaPipe FaceMesh (wheel)"

    def __init__(self) -> None:
        with quiet():
            from mediapipe.python.solutions import face_mesh

            self._mesh = face_mesh.FaceMesh(static_image_mode=True, max_num_faces=2, refine_landmarks=False)
            self._head = np.array(list(HEAD.values()))
            self(first_face())

    def __call__(self, image: Image) -> list[Face]:
        rgb = np.ascontiguousarray(to_rgb(image))
        height, width = rgb.shape[:2]
        result = self._mesh.process(rgb)
        faces = []
        for found in result.multi_face_landmarks or []:
            landmarks = np.array([(p.x * width, p.y * height, p.z * width) for p in found.landmark], dtype=np.float32)
            (left, top), (right, bottom) = landmarks[:, :2].min(axis=0), landmarks[:, :2].max(axis=0)
            box = (float(left), float(top), float(right), float(bottom))
            faces.append(Face(self._rotation(landmarks), box, landmarks))
        return faces

    def _rotation(self, landmarks: NDArray[np.float32]) -> NDArray[np.float64]:
        """Least-squares rotation from ``HEAD`` to the landmarks (Kabsch), both centred."""
        points = landmarks[list(HEAD)] * [1, -1, -1]  # image axes → x right, y up, z towards the camera
        rotation, _ = Rotation.align_vectors(points - points.mean(axis=0), self._head - self._head.mean(axis=0))
        return np.asarray(rotation.as_matrix())
