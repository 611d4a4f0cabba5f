"""The driver's surface, coarsely: points on the face, around the head and on the shoulders, with normals and depth.

What is known at these points (light, motion) is spread to every pixel: smoothly, because light and motion are.
Axes are the camera's: x right, y up, z towards the camera. Pixels are x right, y down.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import Delaunay

from dmsynth.datasets.head_shape import EAR_TO_EAR, FACE_POINTS, LEFT_EAR, RIGHT_EAR

Float = NDArray[np.float32]
Double = NDArray[np.float64]

# Face Landmarker's points around the face, clockwise from the middle of the forehead
OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378,
    400, 377, 152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
_CHIN = 18  # in OVAL
_JAW = slice(11, 26)  # in OVAL: below it are the neck and the shoulders
_COARSE = 8  # pixels: what is spread is computed in cells of this size
_NEAR = 0.045  # of the face's height: how far a point speaks alone
_FAR = 0.2  # likewise, where no other is near
_LITTLE = 1e-3  # weight of the far voice
_RINGS = ((1.22, -7.0, 1.1), (1.5, -11.0, 2.5))
"""Around the face: widths of the oval, centimetres of depth, and how steeply the surface turns away."""
_SHOULDERS_DEPTH = -6.0  # centimetres
_SHOULDERS_FROM = 0.8  # of the face's height below its middle
_COLUMNS, _ROWS = 15, 9


@dataclass(frozen=True)
class Surface:
    """The driver in one frame.

    Attributes:
        points: (m, 2) in pixels of the ``size`` (width, height).
        normals: (m, 3) of length 1.
        depth: (m,) centimetres before the middle between the ears.
        height: of the face, in pixels; ``centre``: (2,) its middle; ``cm``: pixels per centimetre.
        moves: (m,) how much a point moves with the head: 1 on it, 0 on the shoulders.
    """

    points: Double
    normals: Double
    depth: Double
    height: float
    centre: Double
    cm: float
    moves: Double
    size: tuple[int, int]

    @property
    def cells(self) -> tuple[int, int]:
        """Columns and rows of the coarse picture."""
        return self.size[0] // _COARSE + 1, self.size[1] // _COARSE + 1

    def spread(self, values: Double) -> Float:
        """Values (m, c) at the points, everywhere: (c, height, width)."""
        columns, rows = self.cells
        x, y = np.rint(self.points / _COARSE - 0.5 + 0.5 / _COARSE).astype(int).T
        inside = (x >= 0) & (x < columns) & (y >= 0) & (y < rows)
        cell = y[inside] * columns + x[inside]
        known = np.column_stack([np.ones(int(inside.sum())), values[inside]])
        sums = np.stack([np.bincount(cell, each, rows * columns) for each in known.T], axis=-1)
        grid = sums.reshape(rows, columns, -1).astype(np.float32)
        near, far = (
            cv2.GaussianBlur(grid, (0, 0), max(0.8, share * self.height / _COARSE), borderType=cv2.BORDER_CONSTANT)
            for share in (_NEAR, _FAR)
        )
        mixed = (near + _LITTLE * far).reshape(rows, columns, -1)
        coarse = np.moveaxis(mixed[..., 1:] / np.maximum(mixed[..., :1], 1e-12), -1, 0)
        large = (columns * _COARSE, rows * _COARSE)
        fine = [cv2.resize(np.ascontiguousarray(each), large, interpolation=cv2.INTER_LINEAR) for each in coarse]
        return np.stack([each[: self.size[1], : self.size[0]] for each in fine])


def head_normals(landmarks: Float, rotation: Double) -> Double:
    """Normals (468, 3) of the face in the head's own frame, from its mesh (478, 3) in pixels."""
    mesh = (landmarks[:FACE_POINTS].astype(np.float64) * [1.0, -1.0, -1.0]) @ rotation
    triangles = Delaunay(mesh[:, :2]).simplices
    a, b, c = (mesh[triangles[:, corner]] for corner in range(3))
    crossed = np.cross(b - a, c - a)
    crossed *= np.sign(crossed[:, 2:])
    normals = np.zeros(mesh.shape)
    for corner in range(3):
        np.add.at(normals, triangles[:, corner], crossed)
    return np.asarray(normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12))


def surface_of(landmarks: Float, rotation: Double, normals: Double, size: tuple[int, int]) -> Surface:
    """The surface of a frame of ``size`` (width, height) from its mesh (478, 3) in pixels, the head's rotation (3, 3)
    and the ``head_normals`` of this person."""
    face = landmarks[:FACE_POINTS].astype(np.float64)
    ears = face[[RIGHT_EAR, LEFT_EAR]]
    cm = float(np.linalg.norm(ears[1] - ears[0])) / EAR_TO_EAR
    middle = ears.mean(axis=0)
    points, turned, depth = [face[:, :2]], [normals @ rotation.T], [-(face[:, 2] - middle[2]) / cm]
    oval = face[list(OVAL)]
    centre = oval[:, :2].mean(axis=0)
    height = float(np.linalg.norm(oval[0] - oval[_CHIN]))
    out = np.delete(oval[:, :2], _JAW, axis=0) - centre
    sideways = out / np.linalg.norm(out, axis=1, keepdims=True) * [1.0, -1.0]
    for wide, behind, steep in _RINGS:
        points.append(centre + wide * out)
        turned.append(np.column_stack([steep * sideways, np.ones(len(out))]) / np.hypot(steep, 1.0))
        depth.append(np.full(len(out), behind))
    moves = np.ones(sum(map(len, points)))
    shoulders = _shoulders(centre, height)
    points.append(shoulders)
    turned.append(np.tile([0.0, 0.35, 0.94], (len(shoulders), 1)))
    depth.append(np.full(len(shoulders), _SHOULDERS_DEPTH))
    moves = np.concatenate([moves, np.zeros(len(shoulders))])
    return Surface(
        np.concatenate(points), np.concatenate(turned), np.concatenate(depth), height, centre, cm, moves, size
    )


def _shoulders(centre: Double, height: float) -> Double:
    """Points (m, 2) below the head."""
    rows = centre[1] + height * (_SHOULDERS_FROM + 0.15 * np.arange(_ROWS))
    columns = centre[0] + height * np.linspace(-1.4, 1.4, _COLUMNS)
    return np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2)
