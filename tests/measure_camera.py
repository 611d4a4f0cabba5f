"""What docs/camera.md shows and says of cameras, measured anew.

python tests/measure_camera.py sheets docs/images     # the pictures
python tests/measure_camera.py trackers OUT.json [CAMERA …]   # 300 frames under each, and the same without one
python tests/measure_camera.py conditions OUT.json    # judges of head and gaze, by light and things on the face
python tests/measure_camera.py rates [CORES]          # frames a second, drawn, taken and encoded
python tests/measure_camera.py contrasts              # of the portrait at night, or of a picture with places by hand:
python tests/measure_camera.py contrasts PICTURE "X,Y,IRIS,PUPIL X,Y,IRIS,PUPIL" "X,Y X,Y …" LEFT,TOP,RIGHT,BOTTOM
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dmsynth.camera import Camera, cameras, read_camera
from dmsynth.camera.infrared import Look, infrared
from dmsynth.camera.light import lamp_direction
from dmsynth.camera.things import parse_things
from dmsynth.controls import HEAD
from dmsynth.datasets.eye_posing import IRIS_RADIUS
from dmsynth.motion.eyes import natural_eyes
from dmsynth.motion.trajectory import Trajectory, parse_motions
from dmsynth.steering import FaceSpec, SteerableFace, open_renderer, steer_to_video
from dmsynth.steering.anchors import Anchors
from dmsynth.steering.taken import drawn_size, seen_by, still
from dmsynth.support.table_files import read_table
from dmsynth.trackers import Tracker, open_tracker, why_unusable
from dmsynth.trackers.gaze import EYE_OUTLINES, GazeNetwork, gaze_by_landmarks
from dmsynth.video import Image, read_video, to_grey, to_rgb, write_image
from dmsynth.video.pictures import read_image

_MOTION = "sweep yaw=20 2; sweep yaw=-20 pitch=5 4; sweep yaw=0 pitch=-5 2; sweep roll=8 1; sweep roll=0 1"
_LOOKS = (
    "sweep gaze_yaw=20 1.5; sweep gaze_yaw=-20 3; sweep yaw=15 gaze_yaw=0 1; sweep gaze_yaw=15 1; "
    "sweep yaw=-15 gaze_yaw=-15 2; sweep yaw=0 gaze_yaw=0 1.5"
)
_CONDITIONS = (
    ("day", ""), ("day", "sunglasses"), ("day", "mask"), ("day", "hand-mouth"), ("day", "hand-eye"), ("night", ""),
    ("night", "sunglasses"), ("night", "sunglasses-ir"), ("night", "mask"), ("night", "hand-mouth"),
)  # fmt: skip
_FRAMES = 300
_TILE = (400, 250)
_WHEN = {"tunnel": 4.35, "street-lamps": 1.5, "low-sun": 1.2, "low-sun-colour": 1.2}  # seconds: in a typical light


def _motion(face: SteerableFace, rate: float) -> Trajectory:
    """The head sweeps to all sides, with natural eyes of seed 1."""
    space = face.trained.space
    motion = parse_motions(_MOTION, space.commands, rate, space.rest).in_space(space).resampled(rate)
    return natural_eyes(motion, 1).first((_FRAMES - 1) / rate, _MOTION)


def _tile(picture: Image, caption: str = "") -> Image:
    width, height = _TILE
    shown = cv2.resize(to_rgb(picture), (width, round(width * picture.shape[0] / picture.shape[1])), 0, 0, 0,
                       cv2.INTER_AREA)  # fmt: skip
    shown = np.ascontiguousarray(shown[:height])
    shown[-22:] //= 2
    cv2.putText(shown, caption, (8, height - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
    return shown


def _sheet(tiles: list[Image], columns: int) -> Image:
    while len(tiles) % columns:
        tiles.append(np.zeros_like(tiles[0]))
    return np.vstack([np.hstack(tiles[row : row + columns]) for row in range(0, len(tiles), columns)])


def sheets(folder: Path) -> None:
    tracker = open_tracker()

    def seen(name: str, at: float = 0.0) -> Image:
        camera = read_camera(name)
        return still(open_renderer(FaceSpec("posed:portrait"), drawn_size(camera)), camera, tracker, at)

    names = [path.stem for path in cameras()]
    write_image(folder / "cameras.jpg", _sheet([_tile(seen(name, _WHEN.get(name, 0.0)), name) for name in names], 4))
    times = (0.4, 1.2, 1.5, 1.6, 1.7, 1.9)
    lamps = [_tile(seen("street-lamps", at), f"{at:g} s") for at in times]
    write_image(folder / "street-lamps.jpg", _sheet(lamps, 3))
    write_image(folder / "infrared.jpg", _infrared(tracker))


def _infrared(tracker: Tracker) -> Image:
    """Above: as drawn, its reflectance at 940 nm, and under the lamp at night. Below: eyes that look aside, ahead, up;
    of a head that turns."""
    face, camera = open_renderer(FaceSpec("posed:portrait"), (640, 480)), read_camera("night")
    space, anchors = face.trained.space, Anchors.known(face, tracker)
    looks = [{"gaze_yaw": 18.0}, {}, {"gaze_yaw": -15.0, "gaze_pitch": 8.0}, {"yaw": 25.0}]
    motion = Trajectory(space.names, np.arange(4.0), np.array([space.row(look) for look in looks]))
    values = seen_by(camera, motion).values
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "eyes.mp4"
        held = Trajectory(space.names, np.arange(8) / 2.0, np.repeat(motion.values, 2, axis=0))
        table = read_table(steer_to_video(face, held, out, camera.sensor.frame_rate, "mark", camera))
        frames = [frame.image for frame in read_video(out, grey=True)]
    eyes = []
    for at in (0.25, 1.25, 2.25, 3.25):
        row = int((table["time"] - at).abs().argmin())
        x, y = (table[[f"left_iris_{axis}", f"right_iris_{axis}"]].iloc[row].mean() for axis in "xy")
        part = frames[row][round(y) - 55 : round(y) + 55, round(x) - 133 : round(x) + 133]
        eyes.append(cv2.resize(to_rgb(part), (300, 124), interpolation=cv2.INTER_CUBIC))
    drawn = next(iter(face.frames(values[1:2])))
    landmarks, rotation = anchors.at(values[1:2])
    even = infrared(drawn, landmarks[0], rotation[0], Look((0, 0), lamp_direction(camera), camera.light.pupil))
    night = still(face, camera, tracker)
    above = [_tile(drawn, "as drawn"), _tile(even, "its reflectance at 940 nm"), _tile(night, "night")]
    return np.vstack([np.hstack(above), np.hstack(eyes)])


def trackers(out: Path, names: list[str]) -> None:
    judges = {"Face Landmarker": open_tracker(), "openpilot": open_tracker("openpilot")}
    found: dict[str, Any] = {}
    for name in names or [path.stem for path in cameras()]:
        camera = read_camera(name)
        face = open_renderer(FaceSpec("posed:portrait"), drawn_size(camera))
        plain = f"the same poses as from the {camera.place.at}, no camera"
        if plain not in found:
            values = seen_by(camera, _motion(face, 30)).values
            found[plain] = _judged(judges, face.frames(values), values[:, : len(HEAD)])
        with tempfile.TemporaryDirectory() as folder:
            video, rate = Path(folder) / "out.mp4", camera.sensor.frame_rate
            table = read_table(steer_to_video(face, _motion(face, rate), video, rate, "mark", camera))
            poses = table[[f"camera_{axis}" for axis in HEAD]].to_numpy(float)
            found[name] = _judged(judges, (frame.image for frame in read_video(video)), poses)
        out.write_text(json.dumps(found, indent=1), "utf-8")
        sys.stdout.write(f"{name}: {found[name]}\n")


def _judged(judges: Mapping[str, Tracker], images: Iterable[Image], poses: Any) -> dict[str, Any]:
    """Of each tracker the share of frames with one usable face, and its mean errors in pitch, yaw and roll."""
    answers: dict[str, list[Any]] = {name: [] for name in judges}
    count = 0
    for image, pose in zip(images, poses, strict=True):
        count += 1
        for name, tracker in judges.items():
            faces = tracker(image)
            if why_unusable(faces, image) is None:
                answers[name].append([faces[0].pose[axis] - pose[number] for number, axis in enumerate(HEAD)])
    result = {}
    for name, each in answers.items():
        errors = np.array(each) if each else np.full((1, len(HEAD)), np.nan)
        result[name] = {
            "found": len(each) / count,
            "mean error": np.abs(errors).mean(axis=0).round(2).tolist(),
            "bias": errors.mean(axis=0).round(2).tolist(),
            "spread": errors.std(axis=0).round(2).tolist(),
        }
    return result


def conditions(out: Path) -> None:
    """300 frames each, encoded, in which head and eyes move: what judges of head and of gaze make of them."""
    heads = {"Face Landmarker": open_tracker(), "openpilot": open_tracker("openpilot")}
    landmarks, network, found = heads["Face Landmarker"], GazeNetwork(), {}
    for name, thing in _CONDITIONS:
        camera = read_camera(name)
        face, rate = open_renderer(FaceSpec("posed:portrait"), drawn_size(camera)), camera.sensor.frame_rate
        space = face.trained.space
        motion = parse_motions(_LOOKS, space.commands, rate, space.rest).first((_FRAMES - 1) / rate, _LOOKS)
        worn = parse_things([thing]) if thing else ()
        with tempfile.TemporaryDirectory() as folder:
            video = Path(folder) / "out.mp4"
            table = read_table(steer_to_video(face, motion, video, rate, "mark", camera, worn))
            images = [frame.image for frame in read_video(video)]
        result = _judged(heads, images, table[[f"camera_{axis}" for axis in HEAD]].to_numpy(float))
        faces = [landmarks(image) for image in images]
        seen = [number for number, each in enumerate(faces) if not why_unusable(each, images[number])]
        commanded = table["gaze_yaw"].to_numpy(float)[seen]
        for judge, read in (("landmarks", lambda _, each: gaze_by_landmarks(each)), ("network", network)):
            yaw = np.array([read(to_rgb(images[number]), faces[number][0]).gaze_yaw for number in seen])
            gain, offset = np.polyfit(commanded, yaw, 1)
            result[f"gaze yaw by {judge}"] = {
                "found": len(seen) / len(images),
                "mean error": round(float(np.abs(yaw - commanded).mean()), 2),
                "gain": round(float(gain), 2),
                "offset": round(float(offset), 2),
                "correlation": round(float(np.corrcoef(yaw, commanded)[0, 1]), 3),
            }
        found[f"{name}, {thing or 'nothing on the face'}"] = result
        out.write_text(json.dumps(found, indent=1), "utf-8")
        sys.stdout.write(f"{name}, {thing}: {result}\n")


def rates(cores: int) -> None:
    """Whole videos, by the clock and in seconds of the processor. Anchors are measured before."""
    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:cores]))
    import torch

    torch.set_num_threads(cores)
    cv2.setNumThreads(1)
    tracker = open_tracker()
    for spec, name in (("posed:portrait", "night"), ("posed:portrait", "low-sun-colour"), ("starter", "night-small")):
        camera = read_camera(name)
        face = open_renderer(FaceSpec(spec), drawn_size(camera))
        Anchors.known(face, tracker)
        motion = _motion(face, camera.sensor.frame_rate)
        began, worked = time.perf_counter(), time.process_time()
        drawn = sum(1 for _ in face.frames(seen_by(camera, motion).values))
        plain = (time.perf_counter() - began) / drawn, (time.process_time() - worked) / drawn
        whole = _timed(face, motion, camera)
        sys.stdout.write(
            f"{spec}, {name}, {cores} cores, load {os.getloadavg()[0]:.1f}: drawn {1e3 * plain[0]:.1f} ms "
            f"({1e3 * plain[1]:.1f} ms of a core), drawn, taken and encoded {1e3 * whole[0]:.1f} ms "
            f"({1e3 * whole[1]:.1f} ms of a core), {1 / whole[0]:.1f} a second\n"
        )


def _timed(face: SteerableFace, motion: Trajectory, camera: Camera) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        began, worked = time.perf_counter(), time.process_time()
        steer_to_video(face, motion, Path(folder) / "out.mp4", camera.sensor.frame_rate, "mark", camera)
        return (time.perf_counter() - began) / _FRAMES, (time.process_time() - worked) / _FRAMES


_SKIN = (50, 280, 151, 205, 425)  # cheeks, forehead, beside the mouth


def contrasts(given: list[str]) -> None:
    """Levels (0 to 255) of skin, pupil, iris, sclera, glint and background, by where they are: pixels, and radii."""
    if given:
        picture = to_grey(read_image(Path(given[0])))
        places, skin, box = (np.array([part.split(",") for part in text.split()], float) for text in given[1:])
        _say_contrasts(given[0], picture, places, skin, box[0])
        return
    tracker, camera = open_tracker(), read_camera("night")
    picture = still(open_renderer(FaceSpec("posed:portrait"), drawn_size(camera)), camera, tracker)
    landmarks = tracker(picture)[0].landmarks[:, :2]
    eyes = []
    for eye in EYE_OUTLINES.values():
        ring = landmarks[list(eye["iris"])]
        radius = float(np.hypot(*(ring[1:] - ring[0]).T).max())
        eyes.append([*ring[0], radius, radius * camera.light.pupil / 2 / IRIS_RADIUS])
    _say_contrasts("night", picture, np.array(eyes), landmarks[list(_SKIN)], np.array([10, 10, 150, 300]))


def _say_contrasts(name: str, picture: Image, eyes: Any, skin: Any, box: Any) -> None:
    down, across = np.indices(picture.shape)
    levels: dict[str, list[float]] = {"pupil": [], "iris": [], "sclera": [], "glint": []}
    for x, y, iris, pupil in eyes:
        away, aside, under = np.hypot(across - x, down - y), np.abs(across - x), np.abs(down - y)
        levels["pupil"].append(float(np.percentile(picture[away < 0.6 * pupil], 25)))
        ring = (away > 1.35 * pupil) & (away < 0.85 * iris) & (under < 0.5 * iris)
        levels["iris"].append(float(np.median(picture[ring])))
        white = (np.abs(aside - 1.3 * iris) < 0.15 * iris) & (under < 0.2 * iris)
        levels["sclera"].append(float(np.median(picture[white])))
        levels["glint"].append(float(picture[away < 1.1 * iris].max()))
    spots = [picture[int(y) - 4 : int(y) + 5, int(x) - 4 : int(x) + 5] for x, y in skin]
    left, top, right, bottom = (int(edge) for edge in box)
    means = {name: float(np.mean(each)) for name, each in levels.items()}
    means |= {"skin": float(np.median(spots)), "background": float(np.median(picture[top:bottom, left:right]))}
    sys.stdout.write(f"{name}: " + ", ".join(f"{part} {value:.0f}" for part, value in means.items()) + "\n")


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    if what == "sheets":
        sheets(Path(arguments[0]))
    elif what == "contrasts":
        contrasts(arguments)
    elif what == "trackers":
        trackers(Path(arguments[0]), arguments[1:])
    elif what == "conditions":
        conditions(Path(arguments[0]))
    else:
        rates(int(arguments[0]) if arguments else 2)
