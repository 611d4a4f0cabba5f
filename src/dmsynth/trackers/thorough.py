"""Faces in pictures that are hard on a tracker: dark, noisy, far away, cut off by the frame's edge.

A picture that a tracker reads well is given to it as it is. Only what the tracker looks at is changed, never what is
stored. Every picture is looked at for itself, without memory of earlier ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cv2
import numpy as np

from dmsynth.controls import HEAD
from dmsynth.trackers.face import Face, Tracker
from dmsynth.video import Image, to_grey

_DARK = 60.0  # of 255: below that are 99 % of a dark picture
_NOISY = 0.025  # of the range of brightness: noise of a noisy picture; of well-lit ones, at most 0.003 was measured
_SOFTENED = (1.0, 2.0)  # pixels: standard deviation of the Gaussian; a Gaussian beats median and non-local means
_BRIGHT, _GAMMA = 230.0, 0.6  # the brightest pixel once brightened, and the curve to it
_ALIKE = 7.0  # degrees by which poses of a picture and its mirror image may differ; of small faces 4 were measured
_BORDER = 0.25  # of the height: what is added around a picture, so that a face that is cut off lies within
_SECOND_DIFFERENCES = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)  # Immerkær's: noise alone is left


def find_faces(tracker: Tracker, image: Image, looked_at: int, width: int) -> list[Face]:
    """The faces in a picture, however hard it is to see them.

    A dark or noisy picture is softened and brightened first, any other given as it is. Where no face is found, these
    are tried in turn, until one is: the picture at full size; softened and brightened, a little, then more; searched
    in small tiles, if the tracker can; with a border around it. What is found in these counts only if it is found
    in the mirrored picture, too, with the mirrored pose: lettering is taken for faces, but not alike.

    Args:
        image: (h, w) or (h, w, 3) uint8.
        looked_at: pixels; a wider picture is tracked at this width first, because that is faster and less noisy.
        width: pixels; the faces are given as in the picture at that width.
    """
    for number, (look, picture, border) in enumerate(_attempts(tracker, image, looked_at)):
        faces = look(picture)
        inner = picture.shape[1] - 2 * border
        if faces and not (number == 0 or (look is tracker and picture is image)):
            mirrored = look(np.ascontiguousarray(picture[:, ::-1]))
            faces = [
                face
                for face in faces
                if any(_mirror_each_other(face, each, picture.shape[1]) for each in mirrored)
                or face.moved(-border, -border).scaled(image.shape[1] / inner).is_cut_off(image)  # not used in any case
            ]
        if faces:
            return [face.moved(-border, -border).scaled(width / inner) for face in faces]
    return []


def _attempts(
    tracker: Tracker, image: Image, looked_at: int
) -> Iterator[tuple[Callable[[Image], list[Face]], Image, int]]:
    """Who looks, at what, and how wide the border around it is in pixels."""
    factor = min(1.0, looked_at / image.shape[1])
    small = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA) if factor < 1 else image
    hard = _is_hard(small)
    first = brightened(small, _SOFTENED[0]) if hard else small
    yield tracker, first, 0
    if factor < 1 and not hard:  # far away in a wide cabin, perhaps
        yield tracker, image, 0
    for softened in _SOFTENED[1:] if hard else _SOFTENED:
        yield tracker, brightened(small, softened), 0
    closely = getattr(tracker, "closely", None)
    if closely is not None:
        yield closely, brightened(image, _SOFTENED[0]) if hard else image, 0
    border = round(_BORDER * first.shape[0])
    yield tracker, cv2.copyMakeBorder(first, border, border, border, border, cv2.BORDER_REPLICATE), border


def _mirror_each_other(face: Face, other: Face, width: int) -> bool:
    """Whether a face of the mirrored picture is the same one, with the mirrored pose."""
    size = face.box[2] - face.box[0]
    apart = abs(face.centre[0] - (width - other.centre[0])), abs(face.centre[1] - other.centre[1])
    turned = [face.pose[name] + (-1 if name == "pitch" else 1) * other.pose[name] for name in HEAD]
    return max(apart) < size / 4 and max(map(abs, turned)) < _ALIKE


def _is_hard(image: Image) -> bool:
    """Whether a picture is so dark or noisy that a tracker reads it better brightened and softened."""
    grey = to_grey(image)
    darkest, brightest = np.percentile(grey[::3, ::3], (1, 99))
    differences = np.abs(cv2.filter2D(grey, cv2.CV_32F, _SECOND_DIFFERENCES))[1:-1:3, 1:-1:3]
    noise = float(np.median(differences)) / (0.6745 * 6)  # the filter makes noise six times as strong
    return bool(brightest < _DARK or noise > _NOISY * max(brightest - darkest, 1.0))


def brightened(image: Image, softened: float) -> Image:
    """Softened with a Gaussian of ``softened`` pixels, then stretched from black to white, dark tones the most."""
    soft = cv2.GaussianBlur(image.astype(np.float32), (0, 0), softened)
    darkest, brightest = np.percentile(soft[::2, ::2], (1, 99.99))  # a small face may be all that is bright
    share = np.clip((soft - darkest) / max(brightest - darkest, 1.0), 0, 1)
    return np.asarray(_BRIGHT * share**_GAMMA, dtype=np.uint8)
