"""Where the eyes look, and how far the lids are open: two judges of any frame with MediaPipe's landmarks.

The first is geometry: the iris's centre between the eye's corners, on an eyeball of known size. The second is
``gaze-estimation-adas-0002`` of Open Model Zoo, a network made for cars, which sees the eyes' pixels itself and takes
from the landmarks only where to cut.

Directions are unit vectors in the frame of ``controls.pose`` (x right, y up, z towards the camera). Angles are degrees:
``gaze_yaw`` > 0 towards the image's right edge, ``gaze_pitch`` > 0 up, in the *head's* frame, so that (0, 0) is
straight ahead of the face whatever the head does. Left and right eye are the person's own. Where a lid is closed
there is no gaze, but both judges still answer: look at the opening first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dmsynth.support.errors import DmsynthError
from dmsynth.trackers.face import Face
from dmsynth.trackers.open_model_zoo import SIDE, Network, cut_square
from dmsynth.video import Image

GAZE = Network(
    "gaze-estimation-adas-0002",
    {"left_eye_image": (1, 3, SIDE, SIDE), "right_eye_image": (1, 3, SIDE, SIDE), "head_pose_angles": (1, 3)},
    {"gaze_vector": (1, 3)},
)
EYEBALL_RADIUS = 12.0  # mm
IRIS_DIAMETER = 11.7  # mm; varies by 0.5 mm between adults, and so gives the scale

TYPICAL_ASPECT = 0.3  # height over width of an open eye

MESH_POINTS = 478
"""Of Face Landmarker's mesh with the irises; a mesh with fewer has no eyes to measure or to pose."""
# Face Landmarker's points, from the image's left to its right; the person's own right eye is on the left
EYE_OUTLINES = {
    "right": {
        "upper": (33, 246, 161, 160, 159, 158, 157, 173, 133),
        "lower": (33, 7, 163, 144, 145, 153, 154, 155, 133),
        "brow": (46, 53, 52, 65, 55),
        "iris": (468, 469, 470, 471, 472),
    },
    "left": {
        "upper": (362, 398, 384, 385, 386, 387, 388, 466, 263),
        "lower": (362, 382, 381, 380, 374, 373, 390, 249, 263),
        "brow": (285, 295, 282, 283, 276),
        "iris": (473, 474, 475, 476, 477),
    },
}

EYE_POINTS = tuple(sorted({number for eye in EYE_OUTLINES.values() for part in eye.values() for number in part}))
"""The points of Face Landmarker's mesh that are needed to pose eyes."""

_CUT = 1.8  # side of an eye's square in widths of the eye; Open Model Zoo's gaze_estimation_demo


@dataclass(frozen=True)
class _Eye:
    """Indices into the mesh: corners, pairs of upper and lower lid, the iris's centre and its four edge points."""

    corners: tuple[int, int]
    lids: tuple[tuple[int, int], tuple[int, int]]
    iris: int
    edge: tuple[int, int, int, int]


_LEFT = _Eye((362, 263), ((385, 380), (387, 373)), 473, (474, 475, 476, 477))
_RIGHT = _Eye((33, 133), ((160, 144), (158, 153)), 468, (469, 470, 471, 472))


@dataclass(frozen=True)
class Gaze:
    """A direction of gaze, of both eyes together.

    Attributes:
        camera: (3,) unit vector in the camera's frame.
        head: (3,) the same in the head's frame.
    """

    camera: NDArray[np.float64]
    head: NDArray[np.float64]

    @property
    def gaze_yaw(self) -> float:
        """Degrees in the head, -180 to 180; > 0 towards the image's right edge."""
        return _angles(self.head)[0]

    @property
    def gaze_pitch(self) -> float:
        """Degrees in the head, -90 to 90; > 0 up."""
        return _angles(self.head)[1]

    @property
    def camera_yaw(self) -> float:
        """Degrees in the camera's frame; 0 is parallel to the camera's axis, towards the camera."""
        return _angles(self.camera)[0]

    @property
    def camera_pitch(self) -> float:
        """Likewise; > 0 up."""
        return _angles(self.camera)[1]


class GazeNetwork:
    """The network on the eyes of a face that MediaPipe's landmarks belong to.

    Not thread-safe: open one per thread.
    """

    def __init__(self, model: Path | None = None) -> None:
        """``model`` is the ``.xml`` or its folder. Raises ``DmsynthError`` as ``Network.open`` does."""
        self._network = GAZE.open(model)
        self.name = f"{GAZE.name} ({self._network.sha256[:8]})"

    def __call__(self, image: Image, face: Face) -> Gaze:
        """The gaze of ``face`` in ``image``, (h, w) or (h, w, 3) RGB uint8.

        Eyes are cut out upright, with the head's roll given as 0 and the answer turned back, as Open Model Zoo's
        ``gaze_estimation_demo`` does. Its pitch hardly follows a nodding head (``docs/judges.md``). Its z is the line
        from the eyes to the camera, which is the camera's axis only for a face in the middle of the image.

        Raises ``DmsynthError`` if the face has no eye landmarks.
        """
        points = _mesh(face)[:, :2]
        pose = face.pose

        def eye(which: _Eye) -> NDArray[np.float32]:
            one, other = points[list(which.corners)]
            return cut_square(image, (one + other) / 2, _CUT * float(np.hypot(*(one - other))), pose["roll"])

        answer = self._network(
            left_eye_image=eye(_RIGHT),  # its left is the image's left
            right_eye_image=eye(_LEFT),
            head_pose_angles=np.array([[pose["yaw"], -pose["pitch"], 0]], np.float32),  # its pitch > 0 is down
        )["gaze_vector"]
        x, y, z = answer / np.linalg.norm(answer)
        cosine, sine = np.cos(np.radians(pose["roll"])), np.sin(np.radians(pose["roll"]))
        # clockwise by the roll; its z points away from the camera
        camera = np.array([cosine * x + sine * y, cosine * y - sine * x, -z])
        return Gaze(camera, face.rotation.T @ camera)


def gaze_by_landmarks(face: Face) -> Gaze:
    """The gaze of both eyes by the geometry of MediaPipe's landmarks.

    In the head's frame, the iris's centre lies beside the middle of the eye's corners by the eyeball's radius (12 mm)
    times the sine of the angle; the iris's diameter (11.7 mm) gives the scale. The mean of both eyes is taken. How the
    eye lies between its corners differs from person to person by some degrees, above all up and down: compare changes,
    not offsets.

    Raises ``DmsynthError`` if the face has no iris landmarks.
    """
    points = _in_head(face)
    offsets = []
    for eye in (_LEFT, _RIGHT):
        a, b, c, d = points[list(eye.edge)]
        diameter = max(float(np.linalg.norm(a - c)), float(np.linalg.norm(b - d)), 1e-6)
        middle = points[list(eye.corners)].mean(axis=0)
        offsets.append((points[eye.iris] - middle)[:2] * IRIS_DIAMETER / diameter)
    x, y = np.mean(offsets, axis=0) / EYEBALL_RADIUS
    # a sine each, cut off where landmarks lie outside the eyeball
    length = max(float(np.hypot(x, y)), 1.0)
    x, y = x / length, y / length
    head = np.array([x, y, np.sqrt(max(0.0, 1 - x * x - y * y))])
    return Gaze(face.rotation @ head, head)


def eye_aspects(face: Face) -> NDArray[np.float64]:
    """Height over width of the left and the right eye, (2,): about 0.3 when open, 0.1 or less when closed.

    Lengths are three-dimensional, so that a turned head does not narrow an eye. Source: Soukupová and Čech,
    Real-Time Eye Blink Detection using Facial Landmarks, 2016. Raises ``DmsynthError`` if the face has no landmarks.
    """
    points = _in_head(face)

    def aspect(eye: _Eye) -> float:
        heights = [float(np.linalg.norm(points[upper] - points[lower])) for upper, lower in eye.lids]
        width = float(np.linalg.norm(points[eye.corners[0]] - points[eye.corners[1]]))
        return float(np.mean(heights)) / max(width, 1e-6)

    return np.array([aspect(_LEFT), aspect(_RIGHT)])


def resting_aspects(faces: Iterable[Face]) -> NDArray[np.float64]:
    """A person's resting ``eye_aspects``, (2,): the median over frames, most of which have open eyes.

    Raises ``DmsynthError`` if there are no faces.
    """
    aspects = [eye_aspects(face) for face in faces]
    if not aspects:
        raise DmsynthError("no face to take the eyes' resting opening from")
    return np.asarray(np.median(aspects, axis=0))


def eye_openings(face: Face, resting: NDArray[np.float64]) -> dict[str, float]:
    """``eye_opening_left`` and ``eye_opening_right``: ``eye_aspects`` over the person's ``resting_aspects``, (2,).

    1 is this person's resting opening, more is wider; a closed eye is at 0.1 to 0.3, because the landmarks of the
    lids never meet.
    """
    left, right = eye_aspects(face) / resting
    return {"eye_opening_left": float(left), "eye_opening_right": float(right)}


def eye_columns(face: Face) -> dict[str, float]:
    """Gaze and lids of a face by its landmarks, named as the controls: ``gaze_pitch``, ``gaze_yaw`` in the head, in
    degrees; ``eye_opening_left``, ``eye_opening_right``, 1 for eyes as open as ``TYPICAL_ASPECT``. Neither is from this
    person's rest: ``from_rest`` does that. Empty without the irises' landmarks."""
    if len(face.landmarks) != MESH_POINTS:
        return {}
    gaze = gaze_by_landmarks(face)
    opening = eye_openings(face, np.full(2, TYPICAL_ASPECT))
    return {"gaze_pitch": gaze.gaze_pitch, "gaze_yaw": gaze.gaze_yaw} | opening


def from_rest(eyes: NDArray[np.float64], frames: NDArray[np.int64]) -> NDArray[np.float64]:
    """Measured ``eyes`` (n, 4), in the order of ``EYES``, from a person's rest: the gaze less, the opening over, the
    medians of those ``frames`` in which the eyes are no less open than half the time."""
    lids = eyes[frames, 2:].min(axis=1)
    awake = eyes[frames[lids >= np.median(lids)]]
    rest = np.median(awake, axis=0)
    gaze, opening = eyes[:, :2] - rest[:2], eyes[:, 2:] / np.maximum(rest[2:], 1e-3)
    return np.concatenate([gaze, np.clip(opening, 0, 1.3)], axis=1)


def _mesh(face: Face) -> NDArray[np.float64]:
    if len(face.landmarks) != MESH_POINTS:
        raise DmsynthError(
            f"gaze needs MediaPipe's {MESH_POINTS} landmarks, irises among them; this face has {len(face.landmarks)}; "
            "use --tracker auto"
        )
    return face.landmarks.astype(float)


def _in_head(face: Face) -> NDArray[np.float64]:
    """The mesh, (478, 3) in pixels, turned into the head's frame."""
    return _mesh(face) * (1, -1, -1) @ face.rotation


def _angles(direction: NDArray[np.float64]) -> tuple[float, float]:
    x, y, z = direction
    return float(np.degrees(np.arctan2(x, z))), float(np.degrees(np.arcsin(np.clip(y, -1, 1))))
