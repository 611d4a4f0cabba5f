"""How far a drawn face is bent: dense optical flow from the real frame to the drawn one.

Landmark trackers fit a plausible face to any picture, so a bent face costs them nothing. Flow sees it.
"""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dmsynth.video import Image, to_grey

_OUTER_EYE_CORNERS = (33, 263)  # landmarks of MediaPipe's face mesh
_ENLARGED = 2  # flow is measured at twice the size


def displacement(
    real: Image, drawn: Image, landmarks: NDArray[np.float32], common_shift: bool = False
) -> NDArray[np.float32] | None:
    """How far each pixel of the face moved between a real frame and the drawn one.

    Optical flow (DIS, Kroeger et al. 2016) inside the convex hull of the real frame's ``landmarks`` (n, 3; pixels), in
    percent of the distance between the outer eye corners.

    Args:
        common_shift: subtract the median flow first: for a renderer that does not place the head.

    Returns:
        (h, w) float32, NaN outside the face; None without the landmarks of MediaPipe's mesh.
    """
    if len(landmarks) <= max(_OUTER_EYE_CORNERS):
        return None
    eyes = landmarks[list(_OUTER_EYE_CORNERS), :2]
    distance = float(np.linalg.norm(eyes[0] - eyes[1]))
    size = (_ENLARGED * real.shape[1], _ENLARGED * real.shape[0])
    large = [cv2.resize(to_grey(image), size, interpolation=cv2.INTER_CUBIC) for image in (real, drawn)]
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(large[0], large[1], None)
    flow = cv2.resize(flow, real.shape[1::-1], interpolation=cv2.INTER_AREA) / _ENLARGED
    hull = np.zeros(real.shape[:2], np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(landmarks[:, :2].round().astype(np.int32)), 1)
    inside = hull > 0
    if not inside.any() or distance <= 0:
        return None
    if common_shift:
        flow = flow - np.median(flow[inside], axis=0)
    return np.where(inside, 100 * np.linalg.norm(flow, axis=2) / distance, np.nan).astype(np.float32)


def geometry_columns(moved: NDArray[np.float32] | None) -> dict[str, float]:
    """A frame's mean and 95th percentile of ``displacement``, as columns of a table; NaN if it was not measured."""
    if moved is None:
        return {"geometry": np.nan, "geometry_95": np.nan}
    return {"geometry": float(np.nanmean(moved)), "geometry_95": float(np.nanquantile(moved, 0.95))}


def geometry_errors(table: pd.DataFrame) -> dict[str, float] | None:
    """Geometry error over frames, in percent of the distance between the outer eye corners: ``mean``; ``p95``, the
    mean over frames of the 95th percentile over pixels; ``worst_tenth``, mean of the worst tenth of frames."""
    known = table["geometry"].dropna()
    if known.empty:
        return None
    worst = known.nlargest(max(1, round(len(known) / 10)))
    figures = {"mean": known.mean(), "p95": table["geometry_95"].mean(), "worst_tenth": worst.mean()}
    return {name: round(float(value), 3) for name, value in figures.items()}
