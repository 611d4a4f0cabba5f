"""Where the head is in the frames that a renderer draws, for any command: what a thing on the face hangs on.

A tracker's answer in each frame would jitter, and miss a face that is covered. So a few dozen frames are drawn and
tracked once; one shape of this person's face, and smooth functions of the command for its place, explain them all.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from itertools import combinations_with_replacement
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from scipy.spatial.transform import Rotation
from threadpoolctl import threadpool_limits

from dmsynth.controls import FEATURES, HEAD, MOUTH, ControlSpace
from dmsynth.controls.coverage import Coverage, typical
from dmsynth.controls.pose import rotation_matrix
from dmsynth.datasets.head_shape import CAMERA_DISTANCE, EAR_TO_EAR, LEFT_EAR, RIGHT_EAR
from dmsynth.steering.provenance import face_sha256
from dmsynth.steering.renderer import Renderer
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import replacing
from dmsynth.support.model_files import cache_folder
from dmsynth.trackers import Face, Tracker, why_unusable
from dmsynth.trackers.gaze import MESH_POINTS
from dmsynth.trackers.mouth import NOSE
from dmsynth.video import Image

Double = NDArray[np.float64]

_ALONG = {"yaw": 41}  # frames along the range of one control, the others at rest: a driver turns more than he nods
_ALONG_OTHERS = 6
_ALL_OVER = 48  # frames over the whole coverage
_OPENINGS = (0.3, 0.65, 1.0)  # of the mouth, each at as many poses:
_OPEN_POSES = 3
_KEPT = 200  # faces of which the user's cache knows the anchors, 0.4 MB each
_FEWEST = 12  # frames in which the tracker has to find the face
_TRACKED_WIDTH = 640  # smaller frames are enlarged before they are tracked
_DEGREE, _DEGREE_ALONG = 3, 7  # of the polynomials of the command: of all controls, and of each alone
_LEAVES_RANGE = 1.1  # of the range that was seen either way: farther out the polynomials stay
_ROUNDS = 4  # of places and shape in turn; what more change is a hundredth of an error
_HIDDEN = 0.1  # weight of a point whose side of the head faces away: the tracker guesses it
_UNLIKELY = 4.0  # medians from where a frame is counted less
_JAW_BEGINS = 1.0  # centimetres below the nose: from there on all follows an opening mouth
_BEHIND = np.array([0.0, 0.0, -1.0])  # centimetres: from here to a point leads about its normal
_PRIOR = 0.02  # weight of the first guess against a frame: a head that hardly turns shows no depth
# ridges (of a mean square) on the terms of the command's rotation, on polynomials of several controls, and of one alone
_PLACE_RIDGE = (1e-4, 1e-2, 1e-2)  # a head turns about its neck: a rotation says nearly all
_REST_RIDGE = (1.0, 2e-3, 1e-4)  # frames along a control are many: what they say is believed


@dataclass(frozen=True)
class Anchors:
    """A head in a renderer's frames.

    The face is ``shape``, turned, seen in perspective by a camera ``CAMERA_DISTANCE`` before the ears, whose axis runs
    through the middle between them.

    Attributes:
        space: the controls of the renderer.
        shape: (478, 3) the mesh at rest in centimetres, x right, y up, z towards the camera of a face that looks into
            it, with its origin between the ears.
        opened: (2, 478, 3) what a mouth opened by 1 adds to it, in proportion to the opening and to its square.
        place: (terms, 6) from the terms of a command to the head's place: the rotation vector by which the drawn head
            differs from the command, x and y of the middle between the ears and the logarithm of the pixels per
            centimetre there.
        rest: (terms, 478, 2) what the shape does not explain, in centimetres across and down: a drawn head is
            not quite rigid.
        seen: (2, k) the lowest and the highest commands that were measured.
    """

    space: ControlSpace
    shape: Double
    opened: Double
    place: Double
    rest: Double
    seen: Double

    @staticmethod
    def measure(renderer: Renderer, tracker: Tracker) -> Anchors:
        """Draw a few dozen frames over the renderer's coverage and find the face in them.

        Raises ``DmsynthError`` if the tracker gives no whole mesh, or loses the face in most of the frames.
        """
        space = renderer.trained.space
        values = _commands(space, renderer.trained.coverage)
        found = [_face(image, tracker) for image in renderer.frames(values)]
        seen = [row for row, each in enumerate(found) if each is not None]
        if len(seen) < _FEWEST:
            raise DmsynthError(
                f"{renderer.path}: {tracker.name} finds the face's mesh in {len(seen)} of {len(values)} frames; "
                f"things need it in {_FEWEST}: take --tracker auto and a face that is larger in the picture"
            )
        with threadpool_limits(1, "blas"):  # the same bits on any number of cores
            return _fitted(space, values[seen], [each for each in found if each is not None])

    @staticmethod
    def known(renderer: Renderer, tracker: Tracker) -> Anchors:
        """``measure``, which takes seconds; kept in the user's cache for the next time. Raises as it does."""
        path = cache_folder() / "anchors" / f"{_key(renderer, tracker)}.safetensors"
        with suppress(OSError, SafetensorError, TypeError):
            return Anchors(renderer.trained.space, **load_file(path))
        measured = Anchors.measure(renderer, tracker)
        with suppress(OSError):
            with replacing(path, lasting=False) as temporary:
                arrays = {name: value for name, value in vars(measured).items() if name != "space"}
                save_file({name: np.ascontiguousarray(value) for name, value in arrays.items()}, temporary)
            for old in sorted(path.parent.glob("*.safetensors"), key=lambda file: file.stat().st_mtime)[:-_KEPT]:
                old.unlink(missing_ok=True)
        return measured

    def at(self, values: Double) -> tuple[NDArray[np.float32], Double]:
        """Where the face is at commands (n, k) in the space's order and units, those of the head alone included.

        Returns:
            Landmarks (n, 478, 3) float32 in pixels: x right, y down, z the depth in the scale of the middle between the
            ears, where it is 0, negative towards the camera; and the head's rotation (n, 3, 3).
        """
        values = self.space.whole(np.asarray(values, np.float64))
        terms = _terms(self.space, values, self.seen)
        rotation, middle, scale = _placed(self.space, values, terms @ self.place)
        turned = _shapes(self.space, values, self.shape, self.opened) @ rotation.transpose(0, 2, 1)
        flat = _seen(turned) + np.tensordot(terms, self.rest, 1)
        pixels = middle[:, None] + scale[:, None, None] * flat
        depth = -scale[:, None, None] * turned[..., 2:]
        return np.concatenate([pixels, depth], axis=2).astype(np.float32), rotation


def _key(renderer: Renderer, tracker: Tracker) -> str:
    """What anchors depend on, as a hash: the face and its source frames, the size, the tracker, and this file."""
    trained = renderer.trained
    parts = (
        Path(__file__).read_bytes(),
        face_sha256(renderer.path, trained).encode(),
        trained.sources.tobytes(),
        trained.source_codes.tobytes(),
        repr((renderer.size, trained.space)).encode(),
        tracker.name.encode(),
    )
    return sha256(b"".join(sha256(part).digest() for part in parts)).hexdigest()


def _commands(space: ControlSpace, coverage: Coverage) -> Double:
    """Commands (n, k) that fill the coverage of the head: along each control, all over, and with an open mouth."""
    moved = _moved(space)
    at_rest = np.array([control.at_rest for control in space.controls])
    values = space.decode(coverage.codes)
    values[:, _fixed(space)] = at_rest[_fixed(space)]
    middle = values.mean(axis=0)  # of a driver who never looks ahead, not at rest
    along = []
    for column in moved:
        line = np.tile(middle, (_ALONG.get(space.names[column], _ALONG_OTHERS), 1))
        line[:, column] = np.linspace(values[:, column].min(), values[:, column].max(), len(line))
        along.append(line)
    codes = coverage.codes[:, moved]
    first = int(np.square(codes - codes.mean(axis=0)).sum(axis=1).argmin())
    rows = typical(codes, _ALL_OVER, first)
    drawn = [*along, values[rows]]
    if MOUTH in space.names:
        inner = values[rows][np.square(codes[rows] - codes[first]).sum(axis=1).argsort()[:_OPEN_POSES]]
        opened = np.repeat(inner, len(_OPENINGS), axis=0)
        opened[:, space.names.index(MOUTH)] = np.tile(_OPENINGS, len(inner))
        drawn.append(opened)
    return np.concatenate(drawn)


def _moved(space: ControlSpace) -> list[int]:
    """Columns of the controls that move the head."""
    return [column for column, name in enumerate(space.names) if name not in FEATURES]


def _fixed(space: ControlSpace) -> list[int]:
    return [column for column, name in enumerate(space.names) if name in FEATURES]


def _face(image: Image, tracker: Tracker) -> Face | None:
    """The face in a frame, in its pixels; None if there is not exactly one with a whole mesh."""
    factor = max(1.0, _TRACKED_WIDTH / image.shape[1])
    large = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    faces = tracker(large)
    if why_unusable(faces, large) or len(faces[0].landmarks) != MESH_POINTS:
        return None
    return faces[0].scaled(1 / factor)


def _terms(space: ControlSpace, values: Double, seen: Double) -> Double:
    """What the head's place is a linear function of, (n, terms): a constant, the 9 entries of the commanded rotation,
    and polynomials of the head's controls, -1 to 1 over the range ``seen`` (2, k)."""
    moved = _moved(space)
    middle, half = seen.mean(axis=0)[moved], np.maximum(np.diff(seen, axis=0)[0, moved] / 2, 1e-6)
    codes = np.clip((values[:, moved] - middle) / half, -_LEAVES_RANGE, _LEAVES_RANGE)
    turns = _commanded(space, values).reshape(-1, 9) - np.eye(3).ravel()
    return np.column_stack(
        [np.ones(len(values)), turns, *(np.prod(codes[:, each], axis=1) for each in _powers(len(moved)))]
    )


def _powers(controls: int) -> list[tuple[int, ...]]:
    """The controls that are multiplied in each term of the polynomials."""
    return [
        each
        for degree in range(1, _DEGREE_ALONG + 1)
        for each in combinations_with_replacement(range(controls), degree)
        if degree <= _DEGREE or len(set(each)) == 1
    ]


def _commanded(space: ControlSpace, values: Double) -> Double:
    """The commanded rotations (n, 3, 3); none where the head is not turned."""
    if not space.turns_head:
        return np.broadcast_to(np.eye(3), (len(values), 3, 3))
    return rotation_matrix(*values[:, [space.names.index(name) for name in HEAD]].T)


def _placed(space: ControlSpace, values: Double, place: Double) -> tuple[Double, Double, Double]:
    """Rotation (n, 3, 3), middle (n, 2) in pixels and pixels per centimetre (n,) of place numbers (n, 6)."""
    own = Rotation.from_rotvec(place[:, :3]).as_matrix()
    return _commanded(space, values) @ own, place[:, 3:5], np.exp(place[:, 5])


def _shapes(space: ControlSpace, values: Double, shape: Double, opened: Double) -> Double:
    """The mesh (n, 478, 3) in centimetres with the mouth as told."""
    if MOUTH not in space.names:
        return np.broadcast_to(shape, (len(values), *shape.shape))
    opening = values[:, [space.names.index(MOUTH)]]
    return shape + np.tensordot(np.concatenate([opening, opening**2], axis=1), opened, 1)


def _seen(turned: Double) -> Double:
    """Points (..., 3) in centimetres as the camera sees them: (..., 2) across and down, in those of the ears' depth."""
    return turned[..., :2] * [1.0, -1.0] / (1.0 - turned[..., 2:] / CAMERA_DISTANCE)


def _fitted(space: ControlSpace, values: Double, faces: list[Face]) -> Anchors:
    """Fit places and shape in turn, the shape at places that follow the command smoothly: so that noise of one frame
    stays in neither."""
    seen = np.array([values.min(axis=0), values.max(axis=0)])
    terms = _terms(space, values, seen)
    pixels = np.array([face.landmarks[:, :2] for face in faces], np.float64)
    shape, place = _first_guess(space, values, faces)
    first, opened, weights = shape, np.zeros((2, *shape.shape)), np.ones(pixels.shape[:2])
    for _ in range(_ROUNDS):
        shapes = _shapes(space, values, shape, opened)
        for _ in range(2):
            place = place + _step(space, values, place, shapes, pixels, weights)
        function = _regressed(terms, place, _penalties(space, _PLACE_RIDGE))
        place = terms @ function
        rotation, middle, scale = _placed(space, values, place)
        flat = (pixels - middle[:, None]) / scale[:, None, None]
        weights = _facing(shape, rotation)
        shape, opened = _reshaped(space, values, rotation, flat, weights, first)
    missed = flat - _seen(_shapes(space, values, shape, opened) @ rotation.transpose(0, 2, 1))
    return Anchors(space, shape, opened, function, _regressed(terms, missed, _penalties(space, _REST_RIDGE)), seen)


def _first_guess(space: ControlSpace, values: Double, faces: list[Face]) -> tuple[Double, Double]:
    """Shape (478, 3) by the face turned least, and places (n, 6) by the ears."""
    ears = np.array([face.landmarks[[RIGHT_EAR, LEFT_EAR]] for face in faces], np.float64)
    scale = np.linalg.norm(ears[:, 1] - ears[:, 0], axis=1) / EAR_TO_EAR
    given = space.turns_head
    turned = [np.zeros(3) if given else Rotation.from_matrix(face.rotation).as_rotvec() for face in faces]
    place = np.column_stack([turned, ears[..., :2].mean(axis=1), np.log(scale)])
    rotation = _placed(space, values, place)[0]
    ahead = int(np.trace(rotation, axis1=1, axis2=2).argmax())
    mesh = (faces[ahead].landmarks - ears[ahead].mean(axis=0)) * [1.0, -1.0, -1.0] / scale[ahead]
    return mesh @ rotation[ahead], place


def _step(
    space: ControlSpace, values: Double, place: Double, shapes: Double, pixels: Double, weights: Double
) -> Double:
    """A Gauss-Newton step (n, 6) of the places towards those at which the shapes lie on the landmarks."""
    rotation, middle, scale = _placed(space, values, place)
    turned = shapes @ rotation.transpose(0, 2, 1)
    flat = _seen(turned)
    near = 1.0 / (1.0 - turned[..., 2] / CAMERA_DISTANCE)
    step = np.zeros((*flat.shape, 6))
    for axis in range(3):  # a small turn about the head's own axis moves a point by axis × point
        moved = np.cross(np.eye(3)[axis], shapes) @ rotation.transpose(0, 2, 1)
        for row, sign in ((0, 1.0), (1, -1.0)):
            step[..., row, axis] = near * (sign * moved[..., row] + flat[..., row] * moved[..., 2] / CAMERA_DISTANCE)
    step[..., 0, 3] = step[..., 1, 4] = 1.0
    step[..., :3] *= scale[:, None, None, None]
    step[..., 5] = scale[:, None, None] * flat
    missed = pixels - middle[:, None] - scale[:, None, None] * flat
    weighted = step * weights[..., None, None]
    normal = np.einsum("npxi,npxj->nij", weighted, step)
    return np.linalg.solve(normal, np.einsum("npxi,npx->ni", weighted, missed)[..., None])[..., 0]


def _reshaped(
    space: ControlSpace, values: Double, rotation: Double, flat: Double, weights: Double, first: Double
) -> tuple[Double, Double]:
    """Shape and opening that lie best on landmarks ``flat`` (n, 478, 2) in centimetres; the origin is between the ears.

    What is seen of a point lies on a ray: two equations, linear in the point's three coordinates.
    """
    ray = rotation[:, None, :2] * np.array([1.0, -1.0])[:, None] + np.einsum(
        "npx,nj->npxj", flat / CAMERA_DISTANCE, rotation[:, 2]
    )
    opening = values[:, space.names.index(MOUTH)] if MOUTH in space.names else np.zeros(len(values))
    powers = np.stack([np.ones_like(opening), opening, opening**2], axis=1)
    rows = np.einsum("nk,npxj->pnxkj", powers, ray).reshape(len(first), -1, 9)
    weighted = rows * np.repeat(weights.T, 2, axis=1)[..., None]
    normal = weighted.transpose(0, 2, 1) @ rows + _PRIOR * np.eye(9)
    right = np.einsum("pri,pr->pi", weighted, flat.transpose(1, 0, 2).reshape(len(first), -1))
    right[:, :3] += _PRIOR * first
    solved = np.linalg.solve(normal, right[..., None]).reshape(-1, 3, 3).transpose(1, 0, 2)
    ears = solved[0, [RIGHT_EAR, LEFT_EAR]]
    solved[0] -= ears.mean(axis=0)
    solved *= EAR_TO_EAR / np.linalg.norm(ears[1] - ears[0])
    # a tracker moves eyes and ears, too, when a mouth opens; a skull does not
    jaw = np.clip((solved[0, NOSE, 1] - solved[0, :, 1]) / _JAW_BEGINS, 0.0, 1.0)
    return solved[0], solved[1:] * jaw[:, None]


def _facing(shape: Double, rotation: Double) -> Double:
    """Weights (n, 478) of landmarks: those whose side of the head faces the camera count."""
    normal = (shape - _BEHIND) / np.linalg.norm(shape - _BEHIND, axis=1, keepdims=True)
    return np.asarray(np.clip(rotation[:, 2] @ normal.T, 0.0, 1.0) * (1.0 - _HIDDEN) + _HIDDEN)


def _penalties(space: ControlSpace, ridge: tuple[float, float, float]) -> Double:
    """The ridge on each term (terms,)."""
    several = [ridge[1] if len(set(each)) > 1 else ridge[2] for each in _powers(len(_moved(space)))]
    return np.array([1e-9, *np.full(9, ridge[0]), *several])


def _regressed(terms: Double, wanted: Double, penalties: Double) -> Double:
    """The function (terms, ...) that gives ``wanted`` (n, ...) best, frames that no other supports left out."""
    flat = wanted.reshape(len(wanted), -1)
    penalty = np.diag(penalties) * len(terms)
    weights = np.ones(len(terms))
    for _ in range(3):
        weighted = terms * weights[:, None]
        function = np.linalg.solve(weighted.T @ terms + penalty, weighted.T @ flat)
        missed = np.abs(flat - terms @ function)
        share = (missed / np.maximum(np.median(missed, axis=0), 1e-9)).mean(axis=1)
        weights = np.minimum(1.0, (_UNLIKELY / share) ** 2)
    return np.asarray(function.reshape(-1, *wanted.shape[1:]))
