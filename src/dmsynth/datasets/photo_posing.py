"""Pose one portrait photo in 2.5-D: turn the head, keep background and shoulders where they are.

Two layers: a background plate, which is the photo with the head replaced by background and neck (inpainting), and over
it the head, a closed surface with hair and the top of the neck that is rotated in 3-D and rendered in perspective,
with self-occlusion. Its front is what the photo shows; its back, which comes into view in far turns, is a skull and a
nape that continue the outline, with the hair and skin next to it.

Image pixels are x right, y down.  Geometry is in centimetres, x right, y up, z towards the camera, with its
origin between the ears, so that anatomical lengths can be used directly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dmsynth.controls.pose import rotation_matrix
from dmsynth.datasets.brow_posing import PosedBrows
from dmsynth.datasets.eye_posing import Eyes, PosedEyes
from dmsynth.datasets.head_shape import CAMERA_DISTANCE, HeadShape, without_perspective
from dmsynth.datasets.mouth_posing import PosedMouth
from dmsynth.datasets.photo_layers import back_of_head, fill_behind, head_mask, layer_with_matte, refine_matte
from dmsynth.trackers.gaze import MESH_POINTS
from dmsynth.trackers.mouth import MOUTH_POINTS, eye_distance

Float = NDArray[np.float32]
Double = NDArray[np.float64]
Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_]

GEOMETRY_WIDTH = 320  # the shape is smooth: it is computed in an image of this width at any render size
PIVOT = np.array([0.0, -6.0, -2.0])  # about the middle of the neck's spine, below and behind the ears
OVERSAMPLING = 1.5  # samples of the surface per geometry pixel and axis
BACK_SAMPLING = 1.0  # likewise, of its back, whose texture is soft
BACK_MATTE = 0.9  # of the matte: where the back meets the front
FRINGE = 1.5  # centimetres: loose hair and soft outline outside of it, this far at most before the back, give way to it
BACK_FROM = 15.0  # degrees of turn: below, the outline's slope (STEEPEST) hides the back
SOURCE_JUMP = 8.0  # geometry pixels between sources of neighbouring output pixels: more means an occluding edge
NEARLY_A_JUMP = 10.0  # the same between sources of output pixels a geometry pixel apart: nearly one


class PosedPhoto:
    """A portrait whose head can be turned.

    image: (H, W, 3) or (H, W) uint8.
    landmarks: (478, 3) float32 face mesh in pixels, x right, y down, z negative towards the camera.
    rotation: (3, 3) the head's rotation in the photo, frame x right, y up, z towards the camera.
    grey: give grey frames of a colour photo, whose colours still help to tell skin from clothes.
    gaze: pitch and yaw of the eyes in the photo, in degrees from this person's look at rest.
    soft_edges: soften edges that are nearly occluding, too, such as a nose's in large pictures, whose squeezed pixels
        make a dotted line. Not in frames to learn from: faces that learned from such frames, drawn from another source
        frame, fell short of a commanded pitch by up to 5° (three trainings; without, 2°).
    """

    def __init__(
        self,
        image: Bytes,
        landmarks: Float,
        rotation: NDArray[np.floating[Any]],
        grey: bool = False,
        gaze: tuple[float, float] = (0.0, 0.0),
        soft_edges: bool = False,
    ) -> None:
        """Cut the photo into layers and find the head's shape, which takes about a second."""
        self._is_grey = grey or image.ndim == 2
        colour = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB) if image.ndim == 2 else image
        height, width = colour.shape[:2]
        # A moving head uncovers what lies just beyond the frame: hair above, neck and clothes below.
        above, below = height // 8, height // 4
        colour = cv2.copyMakeBorder(colour, above, below, 0, 0, cv2.BORDER_REPLICATE)
        colour[above + height :] = cv2.blur(colour[above + height :], (width // 16, 1))  # no stripes
        self._ratio = min(1.0, GEOMETRY_WIDTH / width)
        self._jump = min(SOURCE_JUMP, NEARLY_A_JUMP * self._ratio) if soft_edges else SOURCE_JUMP
        size = (round(width * self._ratio), round(colour.shape[0] * self._ratio))
        self._photo_rotation = np.asarray(rotation, np.float64)
        shifted = (np.asarray(landmarks, np.float64) + np.array([0.0, above, 0.0])) * self._ratio
        shape = HeadShape(shifted, self._photo_rotation, size)

        small = cv2.resize(colour, size, interpolation=cv2.INTER_AREA)
        matte = refine_matte(head_mask(small, shape), colour)
        small_matte = cv2.resize(matte, size, interpolation=cv2.INTER_AREA)
        shape.fit_neck(small_matte > 0.5)
        in_frame = np.zeros(matte.shape, np.bool_)
        in_frame[above : above + height] = True
        plate = fill_behind(colour, matte, in_frame, shape)
        self._plate = np.ascontiguousarray(plate[above : above + height])
        layer = layer_with_matte(colour, matte, plate)
        # Front and back lie side by side, in one image and in one grid of points: both are drawn in one pass.
        back = back_of_head(colour, matte, shape)
        # At the seam the front's soft outline takes the colours of the back.
        share = np.clip(matte / BACK_MATTE, 0.0, 1.0)
        layer[..., :3] = cv2.blendLinear(np.ascontiguousarray(layer[..., :3]), back, share, 1.0 - share)
        self._layer = np.hstack([layer, np.dstack([back, np.full(matte.shape, 255, np.uint8)])])
        self._above = above
        in_layer = np.asarray(landmarks, np.float64)[:, :2] + np.array([0.0, above])
        has_eyes = len(landmarks) == MESH_POINTS
        self._eyes = PosedEyes(self._layer, in_layer, self._photo_rotation, gaze) if has_eyes else None
        front = self._layer[:, :width, :3]
        self._brows = PosedBrows(front, in_layer, self._photo_rotation) if has_eyes else None
        # the mouth is drawn into the posed picture: a jaw that drops in the photo would lie on the neck's surface
        self._mouth = shifted[list(MOUTH_POINTS), :2].astype(np.float32) if has_eyes else None
        self._eye_distance = eye_distance(np.asarray(landmarks)) if has_eyes else 0.0

        depth = shape.depth(small_matte > 0.5)
        solid = cv2.morphologyEx((small_matte > BACK_MATTE).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((9, 9))) > 0
        rim, bulge = shape.back(depth, solid)
        weight = shape.head_weight()
        left, top, wide, high = cv2.boundingRect((small_matte > 0.02).astype(np.uint8))
        box = np.s_[top : top + high, left : left + wide]
        self._corner = (left, top)
        self._origin, self._cm, self._size = shape.origin, shape.cm, size
        front = without_perspective(shape, depth)
        # The back's rays pass the outline: behind it the head gets no wider with distance.
        rear = without_perspective(shape, rim)
        rear[..., 2] -= bulge
        self._points = np.stack([part[box].astype(np.float32) for part in (front, rear)])
        self._weight = weight[box][..., None].astype(np.float32)
        self._grids = (
            _Grid.over(small_matte > 0.02, box, OVERSAMPLING, 0, FRINGE * (~solid)),
            _Grid.over(solid, box, BACK_SAMPLING, size[0], np.zeros(solid.shape)),
        )
        self._sample_source = np.concatenate([grid.source for grid in self._grids])

    def pose(
        self,
        pitch: float,
        yaw: float,
        roll: float,
        *,
        eyes: Eyes | None = None,
        mouth: float = 0.0,
        brows: float = 0.0,
    ) -> Bytes:
        """The photo with its head at an absolute pose in degrees (0, 0, 0 looks into the camera), with ``eyes`` as
        told, None leaving them as they are, the ``mouth`` opened (1 is wide open) and the ``brows`` raised by that
        much (1 is raised, -1 lowered).

        Looks natural for |pitch| <= 20, |yaw| <= 40, |roll| <= 25, whole to |yaw| <= 50.
        Returns (H, W, 3) uint8, or (H, W) if grey.
        """
        relative = rotation_matrix(pitch, yaw, roll) @ self._photo_rotation.T
        posed = self._plate.copy()
        forward, slopes = self._forward(relative.astype(np.float32))
        guess = self._visible_sources(forward)
        seen = (guess[..., 2] > 0.0).astype(np.float32)
        left, top, wide, high = cv2.boundingRect(seen.astype(np.uint8))
        # The same rectangle in output pixels, whose rows start below the border added above.
        columns = np.arange(*_span(left, wide, self._ratio, 0, posed.shape[1]), dtype=np.float32)
        rows = np.arange(*_span(top, high, self._ratio, self._above, posed.shape[0]), dtype=np.float32)
        target_x, target_y = np.meshgrid(
            (columns + 0.5) * self._ratio - 0.5, (rows + self._above + 0.5) * self._ratio - 0.5
        )
        source_x, source_y = self._refine(forward, slopes, guess, target_x, target_y)
        region = posed[int(rows[0]) : int(rows[-1]) + 1, int(columns[0]) : int(columns[-1]) + 1]
        cover = np.clip(2.0 * cv2.GaussianBlur(seen, (5, 5), 1.0) - 1.0, 0.0, 1.0)
        cover = cv2.remap(cover, target_x, target_y, cv2.INTER_LINEAR)
        seam = cv2.remap(_seam(guess[..., 0], self._size[0]), target_x, target_y, cv2.INTER_LINEAR)
        region[:] = self._composite(self._layer_with(eyes, brows), source_x, source_y, cover, seam, region)
        _soften_jumps(region, source_x, source_y, round(1.0 / self._ratio), self._size[0], self._jump)
        if mouth > 0 and self._mouth is not None:
            where = self._in_picture(forward, self._mouth)
            PosedMouth(posed, where, rotation_matrix(pitch, yaw, roll), self._eye_distance).paint(posed, mouth)
        return cv2.cvtColor(posed, cv2.COLOR_RGB2GRAY) if self._is_grey else posed

    def _forward(self, relative: Float) -> tuple[Float, Float]:
        """Where each geometry pixel of the head's box goes, front and back side by side: (h, 2w, 4) float32 of x, y,
        depth and facing; and as many slopes of x across and down, and of y across and down. (h, w, 4) in small turns,
        in which no back is seen."""
        pivot = PIVOT.astype(np.float32)
        change = relative - np.eye(3, dtype=np.float32)
        high, wide = self._points.shape[1:3]
        sides = 1 if relative[2, 2] > np.cos(np.radians(BACK_FROM)) else 2
        forward, slopes = np.empty((2, high, sides * wide, 4), np.float32)
        for side, (points, sign) in enumerate(zip(self._points[:sides], (1.0, -1.0), strict=False)):
            place = np.s_[:, side * wide : (side + 1) * wide]
            moved = points + self._weight * cv2.transform(points, np.column_stack([change, -change @ pivot]))
            magnify = self._cm / (1.0 - moved[..., 2] / CAMERA_DISTANCE)
            x = np.float32(self._origin[0]) + moved[..., 0] * magnify
            y = np.float32(self._origin[1]) - moved[..., 1] * magnify
            slope = [_slope(x, 1), _slope(x, 0), _slope(y, 1), _slope(y, 0)]
            facing = np.float32(sign) * (slope[0] * slope[3] - slope[1] * slope[2])
            cv2.merge([x, y, moved[..., 2], facing], forward[place])
            cv2.merge(slope, slopes[place])
        return forward, slopes

    def _visible_sources(self, forward: Float) -> Float:
        """The visible source of each geometry pixel, found by splatting samples back to front.

        Returns (h, w, 3) float32: source x (of the back: plus the image's width) and y, to about a pixel, and depth in
        centimetres from 100 cm behind the ears; 0 where the head is not visible.
        """
        width, height = self._size
        sides = np.split(forward, forward.shape[1] // self._points.shape[2], axis=1)
        parts = [grid.samples(side, width, height) for grid, side in zip(self._grids, sides, strict=False)]
        pixel, near, number = (np.concatenate(part) for part in zip(*parts, strict=True))
        number[len(parts[0][2]) :] += len(self._grids[0].source)
        order = np.argsort((near * 100.0).astype(np.uint16), kind="stable")  # 16 bits: a radix sort
        first = np.full(height * width, -1, np.int32)
        first[pixel[order]] = order  # the nearest is written last and stays
        seen = np.flatnonzero(first >= 0)
        guess = np.zeros((height * width, 3), np.float32)
        guess[seen, :2] = self._sample_source[number[first[seen]]]
        guess[seen, 2] = near[first[seen]]
        return _without_pinholes(guess.reshape(height, width, 3))

    def _refine(
        self, forward: Float, slopes: Float, guess: Float, target_x: Float, target_y: Float
    ) -> tuple[Float, Float]:
        """A Newton step to the exact source of each output pixel, so that texture does not wobble."""
        start = cv2.remap(guess, target_x, target_y, cv2.INTER_NEAREST)
        # From the place in the double-width image to that in the box of the side.
        behind = start[..., 0] > self._size[0] - 0.5
        wide = self._points.shape[2]
        if behind.any():
            shift = self._corner[0] + behind * np.float32(self._size[0] - wide)
        else:
            forward, slopes, shift = forward[:, :wide], slopes[:, :wide], np.float32(self._corner[0])
        x, y = start[..., 0] - shift, start[..., 1] - np.float32(self._corner[1])
        turn = slopes[..., 0] * slopes[..., 3] - slopes[..., 1] * slopes[..., 2]
        # No steps where the surface turns edge-on: there the guess is as good as it gets.
        turn[forward[..., 3] <= 0.25] = np.inf
        position = np.ascontiguousarray(forward[..., :2])
        landed = cv2.remap(position, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        step = cv2.remap(slopes / turn[..., None], x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        off_x, off_y = target_x - landed[..., 0], target_y - landed[..., 1]
        x += np.maximum(np.minimum(step[..., 3] * off_x - step[..., 1] * off_y, 1.5), -1.5)
        y += np.maximum(np.minimum(step[..., 0] * off_y - step[..., 2] * off_x, 1.5), -1.5)
        x += shift
        y += np.float32(self._corner[1])
        return x, y

    def _in_picture(self, forward: Float, points: Float) -> Float:
        """Where points (n, 2) of the geometry image go in the posed picture."""
        front = np.ascontiguousarray(forward[:, : self._points.shape[2], :2])
        x, y = np.ascontiguousarray((points - np.array(self._corner, np.float32)).T)
        moved = cv2.remap(front, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).reshape(-1, 2)
        return np.asarray((moved + 0.5) / self._ratio - 0.5 - np.array([0, self._above]))

    def _layer_with(self, eyes: Eyes | None, brows: float) -> Bytes:
        """The head layer (h, w, 4) with eyes and brows as told."""
        if self._eyes is None or self._brows is None or (eyes is None and brows == 0):
            return self._layer
        layer = self._layer.copy()
        if eyes is not None:
            self._eyes.paint(layer, eyes)
        self._brows.paint(layer, brows)
        return layer

    def _composite(self, head: Bytes, x: Float, y: Float, cover: Float, seam: Bytes, plate: Bytes) -> Bytes:
        """Head layer over plate, with a soft alpha at the head's silhouette and none at the seam to its back."""
        offset = 0.5 / self._ratio - 0.5
        x, y = x / self._ratio + offset, y / self._ratio + offset
        layer = cv2.remap(head, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        alpha = cv2.max(layer[..., 3], seam) * (cover / np.float32(255.0))
        return np.asarray(cv2.blendLinear(np.ascontiguousarray(layer[..., :3]), plate, alpha, 1.0 - alpha))


@dataclass(frozen=True)
class _Grid:
    """Samples of one side of the head, denser or sparser than the geometry pixels of its box."""

    inside: Mask  # (m, n) samples on the head
    source: Float  # (m * n, 2) where they lie in the double-width geometry image
    behind: Float  # (m * n,) centimetres by which others may be farther and still hide them

    @classmethod
    def over(cls, head: Mask, box: tuple[slice, slice], sampling: float, offset: int, behind: Double) -> _Grid:
        """Over a box of the geometry image, with ``sampling`` samples per pixel and axis."""
        high, wide = head[box].shape
        dense = (round(sampling * wide), round(sampling * high))
        inside = cv2.resize(head[box].astype(np.float32), dense, interpolation=cv2.INTER_LINEAR) > 0.5
        rows, columns = np.indices(inside.shape)
        source_x = (columns + 0.5) * wide / dense[0] - 0.5 + box[1].start + offset
        source_y = (rows + 0.5) * high / dense[1] - 0.5 + box[0].start
        source = np.dstack([source_x, source_y]).astype(np.float32).reshape(-1, 2)
        return cls(inside, source, cv2.resize(behind[box].astype(np.float32), dense).ravel())

    def samples(self, side: Float, width: int, height: int) -> tuple[NDArray[np.int32], Float, NDArray[np.intp]]:
        """Pixel, depth from 100 cm behind the ears, and number of the samples that face the camera."""
        moved = cv2.resize(side, self.inside.shape[::-1], interpolation=cv2.INTER_LINEAR).reshape(-1, 4)
        keep = np.flatnonzero(self.inside.ravel() & (moved[:, 3] > 0.02))
        x, y, depth, _ = np.ascontiguousarray(moved[keep].T)
        in_view = (x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5)
        if not in_view.all():
            keep, x, y, depth = keep[in_view], x[in_view], y[in_view], depth[in_view]
        pixel = (y + 0.5).astype(np.int32) * width + (x + 0.5).astype(np.int32)
        return pixel, depth + 100.0 - self.behind[keep], keep


def _seam(source_x: Float, width: int) -> Bytes:
    """Where front and back meet, (h, w) uint8: there the head is solid, its outline in the photo is none."""
    back = np.where(source_x > width - 0.5, np.uint8(255), np.uint8(0))
    return np.asarray(cv2.blur(cv2.dilate(back, np.ones((9, 9))), (5, 5)), np.uint8)


def _without_pinholes(guess: Float) -> Float:
    """Holes of a pixel or two, where the surface is stretched, filled with their nearest neighbour's source.

    A hole shows nothing or a farther part of the head.  The source of one neighbour is used, not the mean of several:
    a mean of sources on a near and a far surface lies on neither.
    """
    guess = cv2.copyMakeBorder(guess, 3, 3, 3, 3, cv2.BORDER_CONSTANT)
    closed = cv2.morphologyEx(guess[..., 2], cv2.MORPH_CLOSE, np.ones((5, 5)))
    for _ in range(2):
        rows, columns = np.nonzero(closed[1:-1, 1:-1] > guess[1:-1, 1:-1, 2] + 1.0)
        rows, columns = rows + 1, columns + 1
        around = ((rows + 1, columns), (rows - 1, columns), (rows, columns + 1), (rows, columns - 1))
        sides = np.stack([guess[place] for place in around])
        guess[rows, columns] = sides[sides[..., 2].argmax(0), np.arange(len(rows))]
    return guess[3:-3, 3:-3]


def _soften_jumps(region: Bytes, x: Float, y: Float, radius: int, width: int, jump: float) -> None:
    """Blur, in place, the line where the source jumps (an occluding edge), by more than ``jump``. ``width``: of the
    front in the source."""
    place = cv2.merge([x, y]).astype(np.int16)  # fast, and far finer than a jump
    spread = cv2.morphologyEx(place, cv2.MORPH_GRADIENT, np.ones((3, 3)))
    _blur_along(region, np.maximum(spread[..., 0], spread[..., 1]) > jump, radius)
    back = (x > width - 0.5).astype(np.uint8)
    if back.any():  # its line against the front is ragged
        near = cv2.dilate(back, np.ones((3, 3))) > 0
        _blur_along(region, near & (spread[..., 0] > width / 4) & (x > 0), 2 * radius)


def _blur_along(region: Bytes, where: Mask, radius: int) -> None:
    line = where.astype(np.uint8)
    if not line.any():
        return
    size = 2 * radius + 1
    left, top, wide, high = cv2.boundingRect(line)
    box = tuple(slice(max(start - size, 0), start + length + size) for start, length in ((top, high), (left, wide)))
    part = region[box]
    rows, columns = np.nonzero(cv2.dilate(line[box], np.ones((size, size))))
    part[rows, columns] = cv2.GaussianBlur(part, (size, size), 0)[rows, columns]


def _span(start: int, length: int, ratio: float, offset: int, limit: int) -> tuple[int, int]:
    """First and past-last output pixel of a range of geometry pixels, inside 0..limit, never empty."""
    first = min(max(int(start / ratio) - offset, 0), limit - 1)
    return first, min(max(int((start + length) / ratio) + 1 - offset, first + 1), limit)


def _slope(values: Float, axis: int) -> Float:
    """Derivative per pixel along an axis of (h, w) or (h, w, c), the same size."""
    kernel = np.array([[-0.5, 0.0, 0.5]], np.float32)
    kernel = kernel if axis == 1 else kernel.T
    return np.asarray(cv2.filter2D(values, -1, kernel, borderType=cv2.BORDER_REPLICATE))
