"""The shape of a photographed head: its surface from the face mesh and anatomy, front and back.

Geometry is in centimetres, x right, y up, z towards the camera, with its origin between the ears, so that anatomical
lengths can be used directly.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RBFInterpolator
from scipy.ndimage import distance_transform_edt
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import spsolve

Float = NDArray[np.float32]
Double = NDArray[np.float64]
Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_]

RIGHT_EAR, LEFT_EAR, CHIN, NOSE_TIP, EYE_CORNERS = 234, 454, 152, 1, [33, 263]  # indices into the face mesh
FACE_POINTS = 468  # the remaining ten are irises, which do not lie on the skin
# Lengths in centimetres, adult means.
EAR_TO_EAR = 14.5
EAR_TO_EYE = 7.0  # from tragus to outer eye corner, along the line of sight of a frontal face
EYE_TO_NOSE_TIP = 4.2  # likewise
CAMERA_DISTANCE = 40.0  # of a driver monitoring camera on the steering column
NECK_RADIUS, NECK_AXIS_DEPTH = 6.0, -5.0
NECK_LENGTH = 7.0  # below the chin, at most; a collar hides the rest
SKULL_CURVATURE = 4.0 / 9.0  # Laplacian of a sphere of 9 cm radius, half way from its front to its rim
BACK_DEPTH = 11.0  # centimetres: the farthest that the back of the head bulges behind its outline
HAIR_SLOPE = 1.5  # depth lost per width between the face and the hair's outline: more would smear hair and ears
STEEPEST = 3.0  # the same limit for the whole surface; cheeks in front of the ears are about as steep


class HeadShape:
    """The head's surface over the geometry image, from face mesh and anatomy."""

    def __init__(self, landmarks: Double, rotation: Double, size: tuple[int, int]) -> None:
        """From the mesh in pixels of a geometry image of that (width, height)."""
        ears = landmarks[[RIGHT_EAR, LEFT_EAR]]
        self.size = size
        self.cm = float(np.linalg.norm(ears[1] - ears[0])) / EAR_TO_EAR
        self.origin = ears.mean(0)
        self.rotation = rotation
        mesh = (landmarks[:FACE_POINTS] - self.origin) * [1.0, -1.0, -1.0] / self.cm
        self.mesh = _with_adult_depth(mesh, rotation)
        rows, columns = np.mgrid[0 : size[1], 0 : size[0]]
        self.x = (columns - self.origin[0]) / self.cm
        self.y = (self.origin[1] - rows) / self.cm
        # Height along the head's own up direction, at the depth of the ears.
        tilt = np.hypot(rotation[1, 1], rotation[0, 1])
        self.up = (rotation[0, 1] * self.x + rotation[1, 1] * self.y) / tilt
        self.side = (rotation[1, 1] * self.x - rotation[0, 1] * self.y) / tilt
        self.chin_up = float(rotation[0, 1] * mesh[CHIN, 0] + rotation[1, 1] * mesh[CHIN, 1]) / tilt
        hull = cv2.convexHull(landmarks[:FACE_POINTS, :2].astype(np.float32))
        face = np.zeros((size[1], size[0]), np.uint8)
        cv2.fillConvexPoly(face, np.rint(hull).astype(np.int32), 1)
        self.face: Mask = face > 0

    def fit_neck(self, head: Mask) -> None:
        """Find how far below the chin the neck is visible, so that collar and clothes do not move."""
        column = head & (np.abs(self.side) < 3.0) & (self.up < self.chin_up)
        lowest = float(np.quantile(self.chin_up - self.up[column], 0.95)) if column.any() else NECK_LENGTH
        self.neck_length = min(max(lowest - 0.5, 1.5), NECK_LENGTH)

    def head_weight(self) -> Float:
        """Weight of the head's motion at each pixel: 1 on the head, fading to 0 down the neck."""
        fade = np.clip(1.0 - (self.chin_up - 0.3 - self.up) / self.neck_length, 0.0, 1.0)
        fade = fade * fade * (3.0 - 2.0 * fade)
        return np.asarray(np.maximum(fade, self.face), np.float32)

    def skin_colour(self, image: Bytes) -> Double:
        """Median colour (3,) of the lower face in a geometry-size image."""
        return np.asarray(np.median(image[self.face & (self.up < 0.0)], axis=0))

    def neck_column(self) -> tuple[Float, Float]:
        """Masks of the neck behind the head (soft edge), and of its part below the chin, float32 0..1."""
        off_axis = np.abs(self.side - self.rotation[0, 2] * NECK_AXIS_DEPTH)
        half_width = 2.6 + 0.22 * np.clip(-2.0 - self.up, 0.0, 10.0)  # wider towards the shoulders
        column = np.clip(0.5 + (half_width - off_axis) / 0.8, 0.0, 1.0)
        below_chin = self.chin_up - self.up
        shown = (off_axis < 0.6 * NECK_RADIUS) & (below_chin > 1.0) & (below_chin < 3.5) & ~self.face
        column *= np.clip(1.0 - self.up, 0.0, 1.0)
        return column.astype(np.float32), shown.astype(np.float32)

    def neck_shade(self) -> Float:
        """Brightness of the neck, falling off to its sides and upwards into the shadow of jaw and hair."""
        shadow = np.clip((self.up - self.chin_up + 1.0) / 6.0, 0.0, 1.0)
        across = np.clip(np.abs(self.side) / NECK_RADIUS, 0.0, 1.0)
        return np.asarray((1.0 - 0.3 * shadow) * (1.0 - 0.3 * across**2), np.float32)

    def _rim_depth(self) -> Double:
        """Depth of the hair's outline: behind the ears at the sides, most above them, nearer at the crown."""
        crown = np.clip((self.up - 4.0) / 8.0, 0.0, 1.0)
        high = np.clip((self.up - 2.0) / 4.0, 0.0, 1.0)
        own = -1.5 - 1.0 * high + 3.0 * crown
        tilted = (own - self.rotation[0, 2] * self.x - self.rotation[1, 2] * self.y) / self.rotation[2, 2]
        return np.asarray(tilted)

    def depth(self, head: Mask) -> Double:
        """Depth in centimetres over the geometry image for a head mask of that size."""
        face = self.face
        known = np.zeros(face.shape)
        # Smoothing, because the mesh folds over itself at the cheek's silhouette.
        surface = RBFInterpolator(self.mesh[:, :2], self.mesh[:, 2], smoothing=0.3)
        known[face] = surface(np.column_stack([self.x[face], self.y[face]]))
        gap, nearest = distance_transform_edt(~face, return_indices=True)
        edge = np.where(face, known, 0.0)[tuple(nearest)]
        rim = np.maximum(self._rim_depth(), edge - HAIR_SLOPE * gap / self.cm)
        neck = NECK_AXIS_DEPTH + np.sqrt(np.maximum(NECK_RADIUS**2 - self.side**2, 4.0))
        below = np.clip((self.chin_up - self.up) / 1.5, 0.0, 1.0)
        outside = np.minimum(rim + below * (neck - rim), edge)
        free = head & ~face & (self.up > self.chin_up - 1.5)
        outside[face] = known[face]
        solved = self._gentle(solve_poisson(outside, free, -SKULL_CURVATURE / self.cm**2))
        soft = cv2.GaussianBlur(solved, (0, 0), 0.35 * self.cm)
        core = cv2.GaussianBlur(cv2.erode(face.astype(np.float64), np.ones((3, 3))), (0, 0), 0.25 * self.cm)
        return np.asarray(soft + core * (solved - soft))

    def back(self, depth: Double, head: Mask) -> tuple[Double, Double]:
        """The back of the head over the geometry image: depth of the outline, continued inwards, and how far the back
        bulges behind it, in centimetres (>= 0).

        The square root of a Poisson solution is half a sphere over a disc and about half a cylinder over a strip: it
        gives skull and nape for any outline.
        """
        # The neck goes on below the collar: closed there, it would be pinched.
        neck = (np.abs(self.side) < 0.75 * NECK_RADIUS) & (self.up < self.chin_up)
        whole = head | neck
        rim = solve_poisson(depth, whole, 0.0)
        thick = solve_poisson(np.zeros(depth.shape), whole, -4.0 / self.cm**2)
        bulge = np.sqrt(np.maximum(thick, 0.0))
        bulge = bulge / (1.0 + (bulge / BACK_DEPTH) ** 4) ** 0.25
        return rim, np.asarray(np.maximum(rim - self._gentle(rim - bulge), 0.0))

    def _gentle(self, depth: Double) -> Double:
        """Depth raised where its slope exceeds STEEPEST."""
        drop = STEEPEST / self.cm
        cross, corner = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)), np.ones((3, 3), np.uint8)
        for step in range(round(3.0 * self.cm)):  # cross and square in turn make the cone an octagon
            near = cv2.dilate(depth, cross if step % 2 else corner)
            depth = np.maximum(depth, near - drop * (1.0 if step % 2 else 1.4))
        return depth


def without_perspective(shape: HeadShape, depth: Double) -> Double:
    """Points (h, w, 3) in centimetres at a depth: the perspective magnification of nearer points is undone."""
    depth = CAMERA_DISTANCE * (1.0 - np.exp(-depth / CAMERA_DISTANCE))
    shrink = 1.0 - depth / CAMERA_DISTANCE
    return np.dstack([shape.x * shrink, shape.y * shrink, depth])


def _with_adult_depth(mesh: Double, rotation: Double) -> Double:
    """Mesh (n, 3) with an adult's depth along the head's own axis.

    The tracker's mesh is too shallow between ears and eyes, and an open smile makes its nose too long.
    """
    own = mesh @ rotation
    eyes, nose = own[EYE_CORNERS, 2].mean(), own[NOSE_TIP, 2]
    own[:, 2] = np.where(
        own[:, 2] < eyes,
        own[:, 2] * EAR_TO_EYE / eyes,
        EAR_TO_EYE + (own[:, 2] - eyes) * EYE_TO_NOSE_TIP / (nose - eyes),
    )
    return np.column_stack([mesh[:, :2], (own @ rotation.T)[:, 2]])


def solve_poisson(values: Double, free: Mask, source: float) -> Double:
    """Values with the free pixels replaced by the solution of Laplacian = source, the others held."""
    free = free.copy()
    free[[0, -1]] = False
    free[:, [0, -1]] = False
    number = np.full(free.shape, -1)
    number[free] = np.arange(free.sum())
    rows, columns = np.nonzero(free)
    unknown = number[free]
    right = np.full(len(unknown), -source)
    entries = [(unknown, unknown, np.full(len(unknown), 4.0))]
    for row, column in ((rows - 1, columns), (rows + 1, columns), (rows, columns - 1), (rows, columns + 1)):
        other, inner = number[row, column], free[row, column]
        entries.append((unknown[inner], other[inner], np.full(int(inner.sum()), -1.0)))
        right[~inner] += values[row, column][~inner]
    i, j, v = (np.concatenate(part) for part in zip(*entries, strict=True))
    result = values.copy()
    if len(unknown):
        result[free] = spsolve(coo_matrix((v, (i, j))).tocsc(), right)
    return result
