"""Things on faces, measured and shown (docs/things.md).

python tests/measure_things.py anchors FACE ...      # how far anchors are from the tracker's landmarks
python tests/measure_things.py skin                  # how far tracker and anchors are from the skin that is drawn
python tests/measure_things.py glasses               # whether glasses slide on the portrait
python tests/measure_things.py trackers              # what trackers make of the portrait with things
python tests/measure_things.py rates                 # how long things take
python tests/measure_things.py sheet OUT.jpg         # every thing at three poses
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter, thread_time
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dmsynth.camera.things import THINGS, Worn, draw_things
from dmsynth.controls.pose import angles_from_matrix, rotation_matrix
from dmsynth.datasets.head_shape import EYE_CORNERS
from dmsynth.steering import FaceSpec, open_renderer
from dmsynth.steering.anchors import Anchors
from dmsynth.steering.face import SteerableFace
from dmsynth.trackers import Face, Tracker, open_tracker, why_unusable
from dmsynth.trackers.openpilot import is_at_hand
from dmsynth.video import Image

_ROOT = 168  # of the nose, of the mesh
_FEATURES = [33, 133, 362, 263, 168, 6, 1, 4, 61, 291]  # corners of the eyes, nose, corners of the mouth
_SWEEP, _OVER, _FRAMES = 61, 60, 200
_HEAD = np.array([12.0, 30.0, 8.0])  # degrees either way: poses of drives
_BRIDGE = 0.16  # of the eye distance: half the side of the square around a bridge

Double = NDArray[np.float64]


def anchors(names: list[str]) -> None:
    """Error of anchors against the tracker, in % of the eye distance, in poses that were not measured."""
    tracker = open_tracker()
    for name in names:
        face = open_renderer(FaceSpec(name))
        begun = perf_counter()
        measured = Anchors.measure(face, tracker)
        seconds = perf_counter() - begun
        space, coverage = face.trained.space, face.trained.coverage
        codes = space.decode(coverage.codes)[:, :3]
        low, high = codes[:, 1].min() + 1, codes[:, 1].max() - 1
        sweep = np.array([[0.0, yaw, 0.0] for yaw in np.linspace(low, high, _SWEEP)])
        over = codes[np.random.default_rng(0).permutation(len(codes))[:_OVER]]
        for what, poses in ((f"yaw {low:.0f} to {high:.0f}", sweep), ("all over", over)):
            errors, found = _errors(face, measured, tracker, poses)
            jitter = _jitter(found) if poses is sweep else float("nan")
            inner = errors[np.abs(poses[:, 1]) <= 30]
            _say(
                f"{name[-24:]:24} measured in {seconds:.1f} s | {what}: mean {np.nanmean(errors):.2f} median "
                f"{np.nanmedian(errors):.2f}, to 30°: {np.nanmean(inner):.2f}, largest {np.nanmax(errors):.2f}; "
                f"tracker's jitter {jitter:.2f}; lost {int(np.isnan(errors).sum())} of {len(errors)}"
            )


def _errors(
    face: SteerableFace, measured: Anchors, tracker: Tracker, poses: Double
) -> tuple[NDArray[np.float64], list[Face | None]]:
    errors, found = [], []
    for image, points in zip(face.frames(poses, moving=False), measured.at(poses)[0], strict=True):
        seen = _face(image, tracker)
        found.append(seen)
        eyes = float(np.linalg.norm(np.diff(points[EYE_CORNERS], axis=0)))
        away = np.nan if seen is None else np.linalg.norm(points[:, :2] - seen.landmarks[:, :2], axis=1).mean()
        errors.append(100 * float(away) / eyes)
    return np.array(errors), found


def _jitter(found: list[Face | None]) -> float:
    """What neighbouring frames of a sweep do not share, in % of the eye distance: second differences of white noise."""
    points = np.array([np.full((478, 2), np.nan) if face is None else face.landmarks[:, :2] for face in found])
    middle = next(face for face in found[len(found) // 2 :] if face is not None).landmarks
    second = points[:-2] - 2 * points[1:-1] + points[2:]
    rms = np.sqrt(np.nanmean(np.square(second).sum(axis=2) / 6))
    return 100 * float(rms / np.linalg.norm(np.diff(middle[EYE_CORNERS], axis=0)))


def _face(image: Image, tracker: Tracker) -> Face | None:
    factor = max(1.0, 640 / image.shape[1])
    large = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    faces = tracker(large)
    return None if why_unusable(faces, large) else faces[0].scaled(1 / factor)


def skin() -> None:
    """Where the portrait's geometry moves eyes and mouth, against the tracker and the anchors."""
    face, tracker = open_renderer(FaceSpec("posed:portrait")), open_tracker()
    measured = Anchors.measure(face, tracker)
    head: Any = face.own_appearance(0)
    photo, own = head.photo, _face(face.trained.sources[0], tracker)
    assert own is not None
    inside = (own.landmarks[_FEATURES, :2] + [0, photo._above]) * photo._ratio
    poses = np.array([[0.0, yaw, 0.0] for yaw in np.linspace(-42, 42, 29)])
    by_tracker: list[float] = []
    by_anchors: list[float] = []
    for pose, image, points in zip(poses, face.frames(poses), measured.at(poses)[0], strict=True):
        turn = (rotation_matrix(*pose) @ photo._photo_rotation.T).astype(np.float32)
        drawn = photo._in_picture(photo._forward(turn)[0], inside.astype(np.float32))
        seen = _face(image, tracker)
        assert seen is not None
        eyes = float(np.linalg.norm(np.diff(points[EYE_CORNERS], axis=0)))
        for errors, found in ((by_tracker, seen.landmarks), (by_anchors, points)):
            errors.append(100 * np.linalg.norm(found[_FEATURES, :2] - drawn, axis=1).mean() / eyes)
    for name, errors in (("tracker", by_tracker), ("anchors", by_anchors)):
        ahead = np.mean(np.array(errors)[np.abs(poses[:, 1]) <= 10])
        _say(f"{name} from the drawn skin, % of the eye distance: mean {np.mean(errors):.2f}, to 10°: {ahead:.2f}, "
             f"largest {max(errors):.2f}")  # fmt: skip


def _portrait(size: tuple[int, int], poses: Double) -> Iterator[tuple[Image, NDArray[np.float32], Double]]:
    """Frames of the portrait, with the landmarks and the rotation that its anchors give."""
    face = open_renderer(FaceSpec("posed:portrait"), size)
    yield from zip(face.frames(poses), *Anchors.measure(face, open_tracker()).at(poses), strict=True)


def glasses() -> None:
    """Where the bridge of drawn glasses lies, from the root of the nose that the tracker finds in the bare frame."""
    tracker = open_tracker()
    for axis, most in (("yaw", 30.0), ("pitch", 15.0), ("roll", 15.0)):
        angle = np.linspace(-most, most, 61)
        poses = np.zeros((61, 3))
        poses[:, ["pitch", "yaw", "roll"].index(axis)] = angle
        away = []
        for bare, landmarks, rotation in _portrait((640, 480), poses):
            seen = _face(bare, tracker)
            assert seen is not None
            eyes = float(np.linalg.norm(np.diff(landmarks[EYE_CORNERS], axis=0)))
            worn = draw_things(bare, [Worn("glasses")], landmarks, rotation, 0.0, False)
            x, y = landmarks[_ROOT, :2].round().astype(int)
            half = round(_BRIDGE * eyes)
            dark = worn.cover[y - half : y + half + 1, x - half : x + half + 1].astype(float)
            rows, columns = np.indices(dark.shape)
            place = np.array([(dark * columns).sum(), (dark * rows).sum()]) / dark.sum() + [x - half, y - half]
            away.append(100 * (place - seen.landmarks[_ROOT, :2]) / eyes)
        moved = np.array(away) - np.mean(away, axis=0)
        smooth = np.array([np.polyval(np.polyfit(angle, column, 3), angle) for column in moved.T]).T
        _say(
            f"glasses over {axis} ±{most:.0f}°: bridge from the tracked root of the nose, % of the eye distance: mean "
            f"{np.linalg.norm(moved, axis=1).mean():.2f}, of which smooth {np.linalg.norm(smooth, axis=1).mean():.2f}; "
            f"down the nose {np.ptp(smooth[:, 1]):.2f} from end to end"
        )


def trackers() -> None:
    """Found share and error of each tracker with each thing, against the same frames without."""
    poses = np.random.default_rng(0).uniform(-_HEAD, _HEAD, (_FRAMES, 3))
    frames = list(_portrait((640, 480), poses))
    for name in ("face-landmarker", *(["openpilot"] if is_at_hand() else [])):
        tracker = open_tracker(name)
        _say(f"{tracker.name}: found; mean error in pitch, yaw, roll; mean change against the bare frame")
        bare = [_angles(tracker, image) for image, _, _ in frames]
        for thing in (None, *THINGS):
            worn = [Worn(thing)] if thing else []
            drawn = (draw_things(image, worn, points, turn, 0.0, False).image for image, points, turn in frames)
            seen = np.array([_angles(tracker, image) for image in drawn])
            found = ~np.isnan(seen[:, 0])
            error = np.nanmean(np.abs(seen - poses), axis=0)
            change = np.nanmean(np.abs(seen - np.array(bare)), axis=0)
            _say(f"| {thing or 'none'} | {100 * found.mean():.1f} % | " + _three(error) + " | " + _three(change) + " |")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _three(values: Double) -> str:
    return " / ".join(f"{value:.2f}" for value in values)


def _angles(tracker: Tracker, image: Image) -> Double:
    faces = tracker(image)
    return np.full(3, np.nan) if why_unusable(faces, image) else angles_from_matrix(faces[0].rotation)


def rates() -> None:
    """Milliseconds of one core, and of the clock, for each thing and for its anchors."""
    cv2.setNumThreads(1)
    poses = np.random.default_rng(0).uniform(-_HEAD, _HEAD, (30, 3))
    for size in ((320, 240), (640, 480), (1280, 800)):
        face = open_renderer(FaceSpec("posed:portrait"), size)
        measured = Anchors.measure(face, open_tracker())
        frames = list(face.frames(poses))
        measured.at(poses)
        own = thread_time()
        landmarks, rotation = measured.at(poses)  # of all frames at once, as in a video
        share = (thread_time() - own) / len(poses)
        for thing in THINGS:
            taken = []
            for number, image in enumerate(frames * 2):
                own, clock = thread_time(), perf_counter()
                head = landmarks[number % len(frames)], rotation[number % len(frames)]
                draw_things(image, [Worn(thing)], *head, 0.0, False)
                taken.append((thread_time() - own + share, perf_counter() - clock + share))
            cores, clocks = 1000 * np.array(taken[len(frames) :]).T
            _say(
                f"{size[0]}×{size[1]} {thing}: {np.median(cores):.1f} ms of a core, the fastest tenth "
                f"{np.quantile(cores, 0.1):.1f}; {np.median(clocks):.1f} ms of the clock"
            )


def sheet(out: Path) -> None:
    """Every thing at yaw -25, 0 and 25; at the last, sunglasses that let the near infrared through are seen in it."""
    frames = list(_portrait((640, 480), np.array([[0.0, yaw, 0.0] for yaw in (-25, 0, 25)])))
    rows = []
    for thing in [name for name in THINGS if not name.endswith("-left")]:
        row = []
        for number, (image, landmarks, rotation) in enumerate(frames):
            infrared = thing == "sunglasses-ir" and number == len(frames) - 1
            bare = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if infrared else image
            drawn = draw_things(bare, [Worn(thing)], landmarks, rotation, 0.0, infrared).image
            drawn = cv2.cvtColor(drawn, cv2.COLOR_GRAY2RGB) if infrared else drawn
            row.append(cv2.resize(drawn[:, 100:540], (275, 300), interpolation=cv2.INTER_AREA))
        cv2.putText(row[0], thing, (8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (20, 20, 20), 1, cv2.LINE_AA)
        rows.append(np.hstack(row))
    rows += [np.full_like(rows[0], 255)] * (len(rows) % 2)
    whole = np.vstack([np.hstack(rows[at : at + 2]) for at in range(0, len(rows), 2)])
    cv2.imwrite(str(out), cv2.cvtColor(whole, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 78])


if __name__ == "__main__":
    what, *given = sys.argv[1:]
    if what == "anchors":
        anchors(given)
    elif what == "sheet":
        sheet(Path(given[0]))
    else:
        {"skin": skin, "glasses": glasses, "trackers": trackers, "rates": rates}[what]()
