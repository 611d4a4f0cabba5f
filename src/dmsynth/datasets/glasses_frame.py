"""The frame of glasses in a picture of a face: what stays where it is when the skin behind it moves.

Below the eyes of a face without glasses no thin line goes along: a lower rim is searched there, as the path of most
contrast around each eye. If there is one, long thin lines and dark bars around the eyes are the frame.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

# lengths are shares of the distance between the outer corners of the eyes
_NEAR, _FAR = 0.22, 0.42  # from an eye's middle to a lower rim
_HALF = (20.0, 160.0)  # degrees around the eye, clockwise from the right: below it
_ANGLES, _RADII = 36, 40
_BEND = 0.15  # of the usual contrast: what a step of a path across costs
_SURE = 1.4  # times the usual contrast: what nine tenths of a rim have
_THIN = 0.035  # thicker lines are no rim
_DARK = 0.45  # of the skin's lightness: a thick frame
_LONG = 0.2  # shorter ones are no frame
_FAINT = 0.35  # of a lower rim's contrast: what an upper one has before a brow
_AROUND = 0.03  # of a thick frame: its soft edge

Float = NDArray[np.floating[Any]]


def frame_of_glasses(grey: NDArray[np.float32], eyes: Float, axes: Float) -> NDArray[np.bool_] | None:
    """(H, W): where the frame is in a picture; also other long lines such as lashes. None without glasses.

    grey: (H, W) lightness, 0 to 255.
    eyes: (2, 2) the middles between their corners, in pixels.
    axes: (2, 2) one distance between the outer corners of the eyes across and down the head, in columns, in pixels.
    """
    unit = float(np.hypot(*axes[:, 1]))
    lines = _lines(grey, _THIN * unit)
    sure, contrast, skin = max(_lower_rim(grey, lines, eye, axes) for eye in eyes)
    if sure < _SURE:
        return None
    found = np.zeros(grey.shape, np.uint8)
    for part, margin in ((lines > _FAINT * contrast, 0.0), (grey < _DARK * skin, _AROUND * unit)):
        closed = cv2.morphologyEx(part.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3)))
        _, labels, about, _ = cv2.connectedComponentsWithStats(closed, connectivity=8)
        sides = about[:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]].max(axis=1)
        long = (sides[labels] >= _LONG * unit) & (labels > 0)
        side = max(3, round(margin) | 1)
        found |= cv2.dilate(long.astype(np.uint8), np.ones((side, side)))
    return found > 0


def _lines(grey: NDArray[np.float32], thick: float) -> NDArray[np.float32]:
    """(H, W): by how much dark or bright lines that are no thicker differ from what is around them."""
    side = max(3, round(thick) | 1)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    smooth = cv2.GaussianBlur(grey, (0, 0), max(0.6, 0.1 * thick))
    dark, bright = (cv2.morphologyEx(smooth, how, kernel) for how in (cv2.MORPH_BLACKHAT, cv2.MORPH_TOPHAT))
    return np.maximum(dark, bright)


def _lower_rim(
    grey: NDArray[np.float32], lines: NDArray[np.float32], eye: Float, axes: Float
) -> tuple[float, float, float]:
    """How sure a lower rim is seen, its contrast, and the lightness of the skin there."""
    angles = np.radians(np.linspace(*_HALF, _ANGLES))
    around = axes @ np.stack([np.cos(angles), np.sin(angles)])
    places = eye[:, None, None] + around[:, :, None] * np.linspace(_NEAR, _FAR, _RADII)
    x, y = places.astype(np.float32)
    seen = cv2.remap(lines, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    usual = float(np.median(seen)) + 1.0
    total, came = -seen[0], np.zeros(seen.shape, int)
    steps = np.arange(-2, 3)
    for angle in range(1, _ANGLES):
        padded = np.pad(total, 2, constant_values=np.inf)
        choices = (
            np.stack([padded[2 + step : 2 + step + _RADII] for step in steps]) + _BEND * usual * abs(steps)[:, None]
        )
        came[angle] = steps[choices.argmin(axis=0)]
        total = choices.min(axis=0) - seen[angle]
    at, path = int(total.argmin()), []
    for angle in range(_ANGLES - 1, -1, -1):
        path.append(float(seen[angle, at]))
        at += int(came[angle, at])
    skin = cv2.remap(grey, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return float(np.quantile(path, 0.1)) / usual, float(np.median(path)), float(np.median(skin))
