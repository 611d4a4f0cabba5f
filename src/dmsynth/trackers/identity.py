"""Identity preservation: does a steered face still look like the person, and not like the driver?

No face recognition network is included, so pixels are compared, after removing what the control changes: every face is
warped onto the same landmark mesh ("shape-free", Craw and Cameron 1991), which removes pose, place and size, and a
high-pass filter removes shading. What remains are brows, eyes, nose, mouth and skin.
Both ends of the scale are measured on real frames: 1 is as similar as other real frames of the person, 0 is the driver.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import Delaunay

from dmsynth.support.parallel import map_ordered
from dmsynth.trackers.face import Face, Tracker, why_unusable
from dmsynth.video import Image, to_grey

_SIDE = 72  # pixels: side of a face warped onto the mesh
_SAME = 0.72
"""Correlation of mean patterns: for one person at least 0.81, whatever the expression; for two at most 0.65 (seven
recordings, all pairs)."""
_SHADING = 9.0  # pixels: sigma of the Gaussian that estimates the shading


@dataclass(frozen=True)
class Mesh:
    """The mesh that faces are warped onto: for each pixel inside it, a triangle of landmarks and their weights.

    Attributes:
        inside: (side, side) bool.
        corners: (n, 3) indices of landmarks.
        shares: (n, 3) barycentric weights, summing to 1.
    """

    inside: NDArray[np.bool_]
    corners: NDArray[np.int64]
    shares: NDArray[np.float64]

    @staticmethod
    def of(face: Face) -> Mesh:
        """The mesh of a roughly frontal face."""
        points = face.landmarks[:, :2].astype(float)
        low, high = points.min(axis=0), points.max(axis=0)
        triangles = Delaunay((points - low) / (high - low) * (_SIDE - 1))
        x, y = np.meshgrid(np.arange(_SIDE), np.arange(_SIDE))
        pixels = np.stack([x.ravel(), y.ravel()], axis=1).astype(float)
        found = triangles.find_simplex(pixels)
        inside = found >= 0
        turn = triangles.transform[found[inside]]
        first = np.einsum("nij,nj->ni", turn[:, :2], pixels[inside] - turn[:, 2])
        shares = np.column_stack([first, 1 - first.sum(axis=1)])
        return Mesh(inside.reshape(_SIDE, _SIDE), triangles.simplices[found[inside]].astype(np.int64), shares)

    def warp(self, image: Image, face: Face) -> NDArray[np.float64]:
        """(n,): the face's pixels on the mesh, without shading, with mean 0 and norm 1."""
        where = np.einsum("nkc,nk->nc", face.landmarks[self.corners, :2].astype(float), self.shares)
        places = np.zeros((_SIDE, _SIDE, 2), np.float32)
        places[self.inside] = where
        flat = cv2.remap(to_grey(image), places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        weight = self.inside.astype(np.float32)
        light = cv2.GaussianBlur(flat * weight, (0, 0), _SHADING) / cv2.GaussianBlur(weight, (0, 0), _SHADING).clip(
            1e-3
        )
        pattern = (flat - light)[self.inside].astype(float)
        pattern -= pattern.mean()
        return np.asarray(pattern / max(float(np.linalg.norm(pattern)), 1e-9))


def seem_one_person(one: Sequence[tuple[Image, Face]], other: Sequence[tuple[Image, Face]]) -> bool:
    """Whether two sets of frames, some of each, seem to show the same person; False for trackers without landmarks."""
    if min(len(one), len(other)) == 0 or not len(one[0][1].landmarks):
        return False
    mesh = Mesh.of(one[len(one) // 2][1])
    first, second = (_unit(np.mean([mesh.warp(*seen) for seen in each], axis=0)) for each in (one, other))
    return float(first @ second) > _SAME


class PersonChangeDetector:
    """Detects when the person in a recording changes, from frames given one by one.

    The means of ``_EACH_SIDE`` faces before and after a moment are compared.
    """

    _EACH_SIDE, _EVERY = 8, 0.19  # faces; seconds between two

    def __init__(self) -> None:
        self.mesh: Mesh | None = None
        self.seen: list[tuple[float, NDArray[np.float64]]] = []
        self.least = (1.0, 0.0)  # lowest correlation, and its time

    def changed(self, image: Image, face: Face, time: float) -> float | None:
        """The time in seconds at which the person changed, if this frame reveals it; else None.

        Always None for a tracker without landmarks.
        """
        if not len(face.landmarks) or (self.seen and 0 <= time - self.seen[-1][0] < self._EVERY):
            return None
        self.mesh = self.mesh or Mesh.of(face)
        self.seen = [*self.seen[1 - 2 * self._EACH_SIDE :], (time, self.mesh.warp(image, face))]
        if len(self.seen) < 2 * self._EACH_SIDE:
            return None
        patterns = np.stack([pattern for _, pattern in self.seen])
        before, after = (_unit(part.mean(axis=0)) for part in np.split(patterns, 2))
        correlation = float(before @ after)
        if correlation < min(_SAME, self.least[0]):
            self.least = correlation, self.seen[self._EACH_SIDE][0]
        elif self.least[0] < _SAME:  # the minimum is passed: the change was there
            changed = self.least[1]
            self.mesh, self.seen, self.least = None, [], (1.0, 0.0)
            return changed
        return None


@dataclass(frozen=True)
class Likeness:
    """Measures whether a face looks like the person or like the driver.

    Attributes:
        mesh: both faces are warped onto it.
        person, driver: (n,) their mean patterns.
        as_person, as_driver: median ``margin`` of their own real frames.
    """

    mesh: Mesh
    person: NDArray[np.float64]
    driver: NDArray[np.float64]
    as_person: float
    as_driver: float

    @staticmethod
    def learn(person: Sequence[Image], driver: Sequence[Image], tracker: Tracker) -> Likeness | None:
        """From real frames of both: every second frame gives the mean patterns, the others the ends of the scale.

        None if the tracker gives no landmarks, or the two cannot be distinguished: too few frames with a face, or the
        same person twice.
        """
        own, other = (list(_faces(frames, tracker)) for frames in (person, driver))
        if min(len(own), len(other)) < 4 or not len(own[0][1].landmarks):
            return None
        straight = min(own, key=lambda seen: float(np.arccos(np.clip((np.trace(seen[1].rotation) - 1) / 2, -1, 1))))
        mesh = Mesh.of(straight[1])
        patterns = [np.stack([mesh.warp(*seen) for seen in faces]) for faces in (own, other)]
        means = [_unit(each[::2].mean(axis=0)) for each in patterns]
        ends = [float(np.median(each[1::2] @ (means[0] - means[1]))) for each in patterns]
        return Likeness(mesh, means[0], means[1], ends[0], ends[1]) if ends[0] > ends[1] else None

    def margin(self, image: Image, face: Face) -> float:
        """How much more the face correlates with the person's pattern than with the driver's: −2 to 2."""
        return float(self.mesh.warp(image, face) @ (self.person - self.driver))

    def kept(self, images: Iterable[Image], tracker: Tracker) -> dict[str, float | None]:
        """``identity``: median margin over the frames, scaled to 1 for the person's own real frames and 0 for the
        driver's; ``nearer``: share of frames more similar to the person than to the driver. None without a face."""
        margins = [self.margin(*seen) for seen in _faces(images, tracker)]
        if not margins:
            return {"identity": None, "nearer": None}
        middle = (float(np.median(margins)) - self.as_driver) / (self.as_person - self.as_driver)
        return {"identity": middle, "nearer": float(np.mean(np.array(margins) > 0))}


def _unit(pattern: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(pattern / np.linalg.norm(pattern))


def _faces(images: Iterable[Image], tracker: Tracker) -> Iterable[tuple[Image, Face]]:
    """The images with one usable face, and the face."""
    for image, faces in map_ordered(lambda image: (image, tracker(image)), images):
        if why_unusable(faces, image) is None:
            yield image, faces[0]
