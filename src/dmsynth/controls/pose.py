"""Head rotation: all trigonometry on head angles is here.

Angles are degrees, as the camera sees them, for a face that looks into the camera at (0, 0, 0):

- **yaw > 0**: the nose moves towards the image's right edge,
- **pitch > 0**: the nose moves up,
- **roll > 0**: the head tilts clockwise in the image.

They are composed as roll after pitch after yaw in the head's own (intrinsic Y-X-Z) frame. Matrices live in the
frame x right, y up, z towards the camera, in which a positive turn about x moves the nose *down* and a positive
turn about z is *counter-clockwise*: hence the two minus signs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

_SIGNS = np.array([1.0, -1.0, -1.0])  # yaw, pitch, roll → turns about y, x, z


def rotation_matrix(pitch: ArrayLike, yaw: ArrayLike, roll: ArrayLike) -> NDArray[np.float64]:
    """Rotation matrix or matrices (..., 3, 3) for angles in degrees (scalars or arrays of one shape)."""
    angles = np.stack(np.broadcast_arrays(yaw, pitch, roll), axis=-1).astype(float) * _SIGNS
    matrices = Rotation.from_euler("YXZ", angles.reshape(-1, 3), degrees=True).as_matrix()
    return np.asarray(matrices.reshape(*angles.shape[:-1], 3, 3))


def angles_from_matrix(matrix: ArrayLike) -> NDArray[np.float64]:
    """(pitch, yaw, roll) in degrees, shape (..., 3), of rotation matrices (..., 3, 3).

    Yaw and roll lie in (-180, 180], pitch in [-90, 90]. Raises ``ValueError`` for a matrix that is no rotation.
    """
    matrices = np.asarray(matrix, dtype=float)
    turns = Rotation.from_matrix(matrices.reshape(-1, 3, 3)).as_euler("YXZ", degrees=True) * _SIGNS
    return np.asarray(turns[:, [1, 0, 2]].reshape(*matrices.shape[:-2], 3))


def wrap(angle: ArrayLike) -> NDArray[np.float64]:
    """The same angle(s) in [-180, 180) degrees."""
    return np.asarray((np.asarray(angle, dtype=float) + 180.0) % 360.0 - 180.0)


def angle_difference(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """``a - b`` the short way round, in [-180, 180) degrees."""
    return wrap(np.asarray(a, dtype=float) - np.asarray(b, dtype=float))
