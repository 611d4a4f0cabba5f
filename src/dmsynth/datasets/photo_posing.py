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
from scipy.interpolate import RBFInterpolator
from scipy.ndimage import distance_transform_edt
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import spsolve

from dmsynth.controls.pose import rotation_matrix
from dmsynth.datasets.eye_posing import IRISES, Eyes, PosedEyes
from dmsynth.datasets.matting import guided_filter, person_mask

Float = NDArray[np.float32]
Double = NDArray[np.float64]
Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_]

GEOMETRY_WIDTH = 320  # the shape is smooth: it is computed in an image of this width at any render size
RIGHT_EAR, LEFT_EAR, CHIN, NOSE_TIP, EYE_CORNERS = 234, 454, 152, 1, [33, 263]  # indices into the face mesh
FACE_POINTS = 468  # the remaining ten are irises, which do not lie on the skin

# Lengths in centimetres, adult means.
EAR_TO_EAR = 14.5
EAR_TO_EYE = 7.0  # from tragus to outer eye corner, along the line of sight of a frontal face
EYE_TO_NOSE_TIP = 4.2  # likewise
CAMERA_DISTANCE = 40.0  # of a driver monitoring camera on the steering column
PIVOT = np.array([0.0, -6.0, -2.0])  # about the middle of the neck's spine, below and behind the ears
NECK_RADIUS, NECK_AXIS_DEPTH = 6.0, -5.0
NECK_LENGTH = 7.0  # below the chin, at most; a collar hides the rest
SKULL_CURVATURE = 4.0 / 9.0  # Laplacian of a sphere of 9 cm radius, half way from its front to its rim
OVERSAMPLING = 1.5  # samples of the surface per geometry pixel and axis
BACK_SAMPLING = 1.0  # likewise, of its back, whose texture is soft
BACK_MATTE = 0.9  # of the matte: where the back meets the front
FRINGE = 1.5  # centimetres: loose hair and soft outline outside of it, this far at most before the back, give way to it
BACK_FROM = 15.0  # degrees of turn: below, the outline's slope (STEEPEST) hides the back
BACK_DEPTH = 11.0  # centimetres: the farthest that the back of the head bulges behind its outline
SOURCE_JUMP = 8.0  # geometry pixels between sources of neighbouring output pixels: more means an occluding edge
HAIR_SLOPE = 1.5  # depth lost per width between the face and the hair's outline: more would smear hair and ears
STEEPEST = 3.0  # the same limit for the whole surface; cheeks in front of the ears are about as steep


class PosedPhoto:
    """A portrait whose head can be turned.

    image: (H, W, 3) or (H, W) uint8.
    landmarks: (478, 3) float32 face mesh in pixels, x right, y down, z negative towards the camera.
    rotation: (3, 3) the head's rotation in the photo, frame x right, y up, z towards the camera.
    grey: give grey frames of a colour photo, whose colours still help to tell skin from clothes.
    gaze: pitch and yaw of the eyes in the photo, in degrees from this person's look at rest.
    """

    def __init__(
        self,
        image: Bytes,
        landmarks: Float,
        rotation: NDArray[np.floating[Any]],
        grey: bool = False,
        gaze: tuple[float, float] = (0.0, 0.0),
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
        size = (round(width * self._ratio), round(colour.shape[0] * self._ratio))
        self._photo_rotation = np.asarray(rotation, np.float64)
        shifted = (np.asarray(landmarks, np.float64) + np.array([0.0, above, 0.0])) * self._ratio
        shape = _HeadShape(shifted, self._photo_rotation, size)

        small = cv2.resize(colour, size, interpolation=cv2.INTER_AREA)
        matte = _refine_matte(_head_mask(small, shape), colour)
        small_matte = cv2.resize(matte, size, interpolation=cv2.INTER_AREA)
        shape.fit_neck(small_matte > 0.5)
        in_frame = np.zeros(matte.shape, np.bool_)
        in_frame[above : above + height] = True
        plate = _fill_behind(colour, matte, in_frame, shape)
        self._plate = np.ascontiguousarray(plate[above : above + height])
        layer = _layer_with_matte(colour, matte, plate)
        # Front and back lie side by side, in one image and in one grid of points: both are drawn in one pass.
        back = _back_of_head(colour, matte, shape)
        # At the seam the front's soft outline takes the colours of the back.
        share = np.clip(matte / BACK_MATTE, 0.0, 1.0)
        layer[..., :3] = cv2.blendLinear(np.ascontiguousarray(layer[..., :3]), back, share, 1.0 - share)
        self._layer = np.hstack([layer, np.dstack([back, np.full(matte.shape, 255, np.uint8)])])
        self._above = above
        in_layer = np.asarray(landmarks, np.float64)[:, :2] + np.array([0.0, above])
        self._eyes = PosedEyes(self._layer, in_layer, self._photo_rotation, gaze) if len(landmarks) > IRISES else None

        depth = shape.depth(small_matte > 0.5)
        solid = cv2.morphologyEx((small_matte > BACK_MATTE).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((9, 9))) > 0
        rim, bulge = shape.back(depth, solid)
        weight = shape.head_weight()
        left, top, wide, high = cv2.boundingRect((small_matte > 0.02).astype(np.uint8))
        box = np.s_[top : top + high, left : left + wide]
        self._corner = (left, top)
        self._origin, self._cm, self._size = shape.origin, shape.cm, size
        front = _without_perspective(shape, depth)
        # The back's rays pass the outline: behind it the head gets no wider with distance.
        rear = _without_perspective(shape, rim)
        rear[..., 2] -= bulge
        self._points = np.stack([part[box].astype(np.float32) for part in (front, rear)])
        self._weight = weight[box][..., None].astype(np.float32)
        self._grids = (
            _Grid.over(small_matte > 0.02, box, OVERSAMPLING, 0, FRINGE * (~solid)),
            _Grid.over(solid, box, BACK_SAMPLING, size[0], np.zeros(solid.shape)),
        )
        self._sample_source = np.concatenate([grid.source for grid in self._grids])

    def pose(self, pitch: float, yaw: float, roll: float, *, eyes: Eyes | None = None) -> Bytes:
        """The photo with its head at an absolute pose in degrees (0, 0, 0 looks into the camera), and with ``eyes`` as
        told; None leaves them as they are.

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
        region[:] = self._composite(self._layer_with(eyes), source_x, source_y, cover, seam, region)
        _soften_jumps(region, source_x, source_y, round(1.0 / self._ratio), self._size[0])
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

    def _layer_with(self, eyes: Eyes | None) -> Bytes:
        """The head layer (h, w, 4) with the eyes as told."""
        if eyes is None or self._eyes is None:
            return self._layer
        layer = self._layer.copy()
        self._eyes.paint(layer, eyes)
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


def _soften_jumps(region: Bytes, x: Float, y: Float, radius: int, width: int) -> None:
    """Blur, in place, the line where the source jumps (an occluding edge). ``width``: of the front in the source."""
    place = cv2.merge([x, y]).astype(np.int16)  # fast, and far finer than a jump
    spread = cv2.morphologyEx(place, cv2.MORPH_GRADIENT, np.ones((3, 3)))
    _blur_along(region, np.maximum(spread[..., 0], spread[..., 1]) > SOURCE_JUMP, radius)
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


class _HeadShape:
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
        solved = self._gentle(_solve_poisson(outside, free, -SKULL_CURVATURE / self.cm**2))
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
        rim = _solve_poisson(depth, whole, 0.0)
        thick = _solve_poisson(np.zeros(depth.shape), whole, -4.0 / self.cm**2)
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


def _without_perspective(shape: _HeadShape, depth: Double) -> Double:
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


def _span(start: int, length: int, ratio: float, offset: int, limit: int) -> tuple[int, int]:
    """First and past-last output pixel of a range of geometry pixels, inside 0..limit, never empty."""
    first = min(max(int(start / ratio) - offset, 0), limit - 1)
    return first, min(max(int((start + length) / ratio) + 1 - offset, first + 1), limit)


def _solve_poisson(values: Double, free: Mask, source: float) -> Double:
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


def _head_mask(image: Bytes, shape: _HeadShape) -> Float:
    """Face, hair, ears and neck of a geometry-size image as (h, w) float32 0 or 1."""
    gap = distance_transform_edt(~shape.face) / shape.cm
    labels = np.full(shape.face.shape, cv2.GC_PR_BGD, np.uint8)
    skull = (shape.side / 9.5) ** 2 + ((shape.up - 2.5) / 12.0) ** 2 < 1.0
    labels[skull] = cv2.GC_PR_FGD
    neck = (np.abs(shape.side) < 4.5) & (shape.up < shape.chin_up) & (shape.up > shape.chin_up - 3.0)
    labels[neck] = cv2.GC_PR_FGD
    collar = (np.abs(shape.side) < 4.5) & (shape.up < shape.chin_up - 0.5) & ~shape.face
    is_skin = _is_like(cv2.blur(image, (3, 3)).astype(np.float32), shape.skin_colour(image))
    labels[collar & ~is_skin] = cv2.GC_BGD
    labels[(gap > 16.0) | (shape.up < shape.chin_up - NECK_LENGTH)] = cv2.GC_BGD
    person = person_mask(image)
    if person is not None:
        labels[person < 0.2] = cv2.GC_BGD
        labels[(person > 0.7) & (shape.up > shape.chin_up + 4.0) & (gap < 14.0)] = cv2.GC_FGD
    scalp = (shape.side / 6.5) ** 2 + ((shape.up - 3.0) / 8.5) ** 2 < 1.0
    labels[shape.face | (scalp & (shape.up > 3.0))] = cv2.GC_FGD
    cv2.setRNGSeed(0)
    cv2.grabCut(image, labels, None, np.zeros((1, 65)), np.zeros((1, 65)), 5, cv2.GC_INIT_WITH_MASK)
    mask = ((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)).astype(np.uint8)
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3)))
    _, parts = cv2.connectedComponents(mask)
    mask = (parts == np.bincount(parts[shape.face]).argmax()).astype(np.uint8)
    return np.asarray(cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((5, 5))), np.float32)


def _refine_matte(mask: Float, image: Bytes) -> Float:
    """Soft matte (H, W) float32 0..1 whose edge follows the image's."""
    large = _enlarge(mask, image)
    radius = max(2, image.shape[1] // 80)
    matte = guided_filter(image.astype(np.float32), large, radius, (0.02 * 255) ** 2)
    return np.asarray(np.clip((matte - 0.1) / 0.8, 0.0, 1.0), np.float32)


def _enlarge(small: Float, image: Bytes) -> Float:
    """A geometry-size map at the size of the image."""
    return np.asarray(cv2.resize(small, image.shape[1::-1], interpolation=cv2.INTER_LINEAR))


def _fill_behind(image: Bytes, matte: Float, in_frame: Mask, shape: _HeadShape) -> Bytes:
    """Image (H, W, 3) uint8 without the head: background and, up to the ears, the neck."""
    reach = 2 * (image.shape[1] // 100) + 1
    above_neck = _enlarge((shape.up > shape.chin_up - 0.6 * shape.neck_length).astype(np.float32), image)
    hole = cv2.dilate(above_neck * matte, np.ones((reach, reach))) * above_neck
    column, seen = shape.neck_column()
    over_collar = _enlarge((shape.up > shape.chin_up + 1.0).astype(np.float32), image)
    neck = _enlarge(column, image) * np.maximum(over_collar, matte)
    plain = image.astype(np.float32)
    cheek = shape.skin_colour(cv2.resize(image, shape.size, interpolation=cv2.INTER_AREA))
    seen_neck = (_enlarge(seen, image) > 0.5) & (matte > 0.95) & _is_like(plain, cheek)
    if seen_neck.mean() < 3e-4:  # hidden by a collar, a beard or the frame
        plain_skin = np.broadcast_to(0.8 * cheek, image.shape).astype(np.float32)
        seen_neck = np.ones_like(seen_neck)
    else:
        plain_skin = plain
    skin = _push_pull(plain_skin, seen_neck.astype(np.float32))
    skin *= _enlarge(shape.neck_shade(), image)[..., None]
    behind = _with_grain(plain, (np.maximum(hole, neck * matte) < 0.05) & in_frame)
    behind = behind + neck[..., None] * (skin - behind)
    soft = cv2.blur(np.clip(hole * 4.0, 0.0, 1.0), (5, 5))[..., None]
    return np.asarray(np.clip(np.rint(plain + soft * (behind - plain)), 0, 255), np.uint8)


def _is_like(image: Float, colour: Double) -> Mask:
    """Pixels of a colour's hue that are not much darker or brighter."""
    brightness = image.sum(2) / colour.sum()
    hue_gap = np.abs(image / np.maximum(image.sum(2, keepdims=True), 1.0) - colour / colour.sum()).max(2)
    return np.asarray((brightness > 0.4) & (brightness < 1.4) & (hue_gap < 0.06))


def _with_grain(image: Float, valid: Mask, most: float = 6.0) -> Float:
    """Invalid pixels filled smoothly, plus the fine detail, up to ± most, found mirrored across the hole's edge."""
    smooth = _push_pull(image, valid.astype(np.float32))
    detail = np.clip(image - cv2.GaussianBlur(smooth, (0, 0), image.shape[1] / 200), -most, most)
    detail[~valid] = 0.0
    rows, columns = np.indices(valid.shape)
    edge_rows, edge_columns = distance_transform_edt(~valid, return_distances=False, return_indices=True)
    mirror_x = (2 * edge_columns - columns).astype(np.float32)
    mirror_y = (2 * edge_rows - rows).astype(np.float32)
    mirrored = cv2.remap(detail, mirror_x, mirror_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return np.where(valid[..., None], image, smooth + mirrored)


def _push_pull(image: Float, valid: Float) -> Float:
    """Fill where valid is 0: averages of ever coarser neighbourhoods."""
    if min(valid.shape) <= 2:
        total = max(float(valid.sum()), 1e-6)
        return np.where(valid[..., None] > 0, image, (image * valid[..., None]).sum((0, 1)) / total)
    weighted = cv2.pyrDown(np.dstack([image * valid[..., None], valid]))
    cover = weighted[..., 3:]
    known = (cover[..., 0] > 0.01).astype(np.float32)
    coarse = _push_pull(weighted[..., :3] / np.maximum(cover, 1e-6), known)
    up = cv2.pyrUp(coarse, dstsize=valid.shape[::-1])
    return np.asarray(image * valid[..., None] + up * (1.0 - valid[..., None]))


def _layer_with_matte(image: Bytes, matte: Float, plate: Bytes) -> Bytes:
    """Head layer (H, W, 4) uint8: colours without the old background's share at the edge, and the matte."""
    alpha = matte[..., None]
    size = (image.shape[1] // 21, image.shape[1] // 21)
    own = cv2.blur(image * alpha, size) / np.maximum(cv2.blur(matte, size)[..., None], 1e-3)
    own = own + alpha * (image - alpha * own - (1.0 - alpha) * plate)
    own = np.where(alpha > 0.98, image, own)
    return np.asarray(np.clip(np.rint(np.dstack([own, matte * 255.0])), 0, 255), np.uint8)


def _back_of_head(image: Bytes, matte: Float, shape: _HeadShape) -> Bytes:
    """Texture (H, W, 3) uint8 of the back of the head: hair above, skin of the nape below.

    Next to the outline it is what the photo shows there, as if mirrored to the far side; the face is replaced.
    """
    plain = image.astype(np.float32)
    cheek = shape.skin_colour(cv2.resize(image, shape.size, interpolation=cv2.INTER_AREA))
    grown = cv2.dilate(shape.face.astype(np.float32), np.ones((3, 3)), iterations=max(1, round(0.3 * shape.cm)))
    reach = 2 * (image.shape[1] // 150) + 1
    solid = cv2.erode(matte, np.ones((reach, reach))) > 0.95
    outside = solid & (_enlarge(grown, image) < 0.5)
    is_skin = _is_like(plain, cheek)
    up, side = (_enlarge(part.astype(np.float32), image) for part in (shape.up, shape.side))
    not_skin = cv2.erode((~is_skin).astype(np.uint8), np.ones((reach, reach))) > 0
    # Well above the ears all is hair, or a bald scalp; below them hair and ears are told apart by colour.
    hair = outside & ((up > 4.0) | (not_skin & (up > shape.chin_up)))
    if not hair.any():
        hair = solid & (up > 2.0)
    hairs = _with_grain(plain, hair, 40.0)
    skin = outside & is_skin & (up < shape.chin_up)
    if skin.mean() < 3e-4:  # hidden by a collar, a beard or the frame
        skins = np.broadcast_to(0.8 * cheek, image.shape).astype(np.float32)
    else:
        skins = _push_pull(plain, skin.astype(np.float32))
    shadow = np.clip((up - shape.chin_up) / 6.0, 0.0, 1.0)[..., None]  # of jaw and hair
    skins = skins * (1.0 - 0.3 * shadow)
    # The hairline runs between what is known to be hair and skin.
    scalp = ~hair & (up > -1.0)
    nape = ~hair & (up < shape.chin_up + 2.0) & (np.abs(side) < 5.0)
    known = (hair | skin | scalp | nape).astype(np.float32)
    share = _push_pull(np.dstack([(hair | scalp).astype(np.float32)] * 3), known)[..., :1]
    share = np.clip(0.5 + 3.0 * (share - 0.5), 0.0, 1.0)
    return np.asarray(np.clip(np.rint(skins + share * (hairs - skins)), 0, 255), np.uint8)


def _slope(values: Float, axis: int) -> Float:
    """Derivative per pixel along an axis of (h, w) or (h, w, c), the same size."""
    kernel = np.array([[-0.5, 0.0, 0.5]], np.float32)
    kernel = kernel if axis == 1 else kernel.T
    return np.asarray(cv2.filter2D(values, -1, kernel, borderType=cv2.BORDER_REPLICATE))
