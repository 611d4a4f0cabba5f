"""What docs/datasets.md says of hard recordings, measured anew: tracked plainly, and as imports look.

python tests/measure_recordings.py hard VIDEO ...    # made dark, noisy, small, cut off; against clean poses
python tests/measure_recordings.py cameras           # a portrait under cabin cameras, with things; against the command
python tests/measure_recordings.py sheet OUT.png VIDEO ...   # how the hard ones look, and as the tracker looks at them
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from time import perf_counter

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from dmsynth.camera import read_camera
from dmsynth.camera.things import Worn
from dmsynth.controls import HEAD
from dmsynth.datasets.photo import prepare
from dmsynth.motion.trajectory import parse_motions
from dmsynth.steering import FaceSpec, open_renderer, steer_to_video
from dmsynth.steering.taken import drawn_size
from dmsynth.support.table_files import read_table
from dmsynth.trackers import Face, Tracker, find_faces, open_tracker
from dmsynth.trackers.thorough import brightened
from dmsynth.video import Image, read_video, to_grey, write_image
from dmsynth.video.portrait import default_portrait

_EACH = 10  # frames of each video, evenly chosen
_WIDTH = 640  # at which imports look first
_CABIN = (1280, 800)
_MOTION = "sweep yaw=20 2; sweep yaw=-20 pitch=5 4; sweep yaw=0 pitch=-5 2; sweep roll=8 1; sweep roll=0 1"

Double = NDArray[np.float64]
Worsen = Callable[[Image, Face, np.random.Generator], Image]


def plainly(tracker: Tracker, image: Image) -> list[Face]:
    """As imports looked before: at 640 pixels, then at full size."""
    factor = min(1.0, _WIDTH / image.shape[1])
    small = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA) if factor < 1 else image
    return tracker(small) or (tracker(image) if factor < 1 else [])


def thoroughly(tracker: Tracker, image: Image) -> list[Face]:
    return find_faces(tracker, image, _WIDTH, image.shape[1])


def _light(image: Image, share: float, white: float, gain: float, random: np.random.Generator) -> Double:
    """Codes, not rounded, under that ``share`` of the light: ``white`` electrons fill a white pixel of full light,
    reading adds 6 electrons of noise; then ``gain``."""
    electrons = random.poisson(image / 255.0 * share * white) + random.normal(0, 6, image.shape)
    return np.asarray(electrons / white * 255 * gain)


def _codes(values: Double, bits: int = 8) -> NDArray[np.uint16]:
    return np.clip(np.rint(values * 2 ** (bits - 8)), 0, 2**bits - 1).astype(np.uint16)


def _taken(share: float, white: float, gain: float = 1) -> Worsen:
    return lambda image, _, random: _codes(_light(image, share, white, gain, random)).astype(np.uint8)


def _far(pixels: int, size: tuple[int, int]) -> Worsen:
    """The face ``pixels`` wide in a larger, plain picture."""

    def worsen(image: Image, face: Face, random: np.random.Generator) -> Image:
        left, top, right, bottom = face.box
        factor = pixels / (right - left)
        small = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        cabin = np.tile(np.linspace(30, 110, size[0]).astype(np.uint8), (size[1], 1))
        x, y = round(size[0] * 0.5 - (left + right) / 2 * factor), round(size[1] * 0.45 - (top + bottom) / 2 * factor)
        part = cabin[max(y, 0) : y + len(small), max(x, 0) : x + small.shape[1]]
        part[:] = small[max(-y, 0) :, max(-x, 0) :][: part.shape[0], : part.shape[1]]
        return cabin

    return worsen


def _both(first: Worsen, second: Worsen) -> Worsen:
    return lambda image, face, random: second(first(image, face, random), face, random)


def _cut(share: float) -> Worsen:
    """That share of the face's width lies beyond the left edge."""
    return lambda image, face, _: image[:, max(0, round(face.box[0] + share * (face.box[2] - face.box[0]))) :]


HARD: dict[str, Worsen] = {
    "as filmed": lambda image, _, random: image,
    "5 % of the light": _taken(0.05, 10_000),
    "2 % of the light": _taken(0.02, 10_000),
    "noisy (500 electrons are white)": _taken(1, 500),
    "very noisy (60)": _taken(1, 60),
    "10 % of the light, very noisy": _taken(0.1, 600),
    "40 px of 640×480": _far(40, (640, 480)),
    "40 px of 1280×800": _far(40, _CABIN),
    "60 px of 1280×800, noisy (500)": _both(_far(60, _CABIN), _taken(1, 500)),
    "40 px of 1280×800, 5 % of the light": _both(_far(40, _CABIN), _taken(0.05, 10_000)),
    "a fifth cut off": _cut(0.2),
    "a third cut off": _cut(0.35),
}


def _clean(videos: Iterable[Path], tracker: Tracker) -> list[tuple[Image, Face]]:
    """Frames of the videos, and of a portrait that turns, each with the one face that is plainly found in it."""

    def frames() -> Iterator[Image]:
        for video in videos:
            images = [to_grey(frame.image) for frame in read_video(video)]
            yield from (images[number] for number in np.linspace(0, len(images) - 1, _EACH).astype(int))
        portrait = prepare(default_portrait(), tracker, (640, 480), "astronaut", colour=False)
        for phase in np.linspace(0, 2 * np.pi, _EACH, endpoint=False):
            yield portrait.pose(pitch=8 * np.cos(2 * phase), yaw=20 * np.sin(phase), roll=5 * np.sin(phase))

    found = [(image, plainly(tracker, image)) for image in frames()]
    return [(image, faces[0]) for image, faces in found if len(faces) == 1]


def _line(what: str, poses: list[Double | None], truth: list[Double], seconds: float) -> str:
    errors = np.array([np.abs(pose - true) for pose, true in zip(poses, truth, strict=True) if pose is not None])
    shown = " / ".join(f"{value:.2f}" for value in errors.mean(axis=0)) if len(errors) else "–"
    return f"{what} | {len(errors) / len(poses):.0%} | {shown} | {1e3 * seconds / len(poses):.0f} ms"


def _pose(faces: list[Face]) -> Double | None:
    return np.array([faces[0].pose[name] for name in HEAD]) if len(faces) == 1 else None


def hard(videos: list[Path]) -> None:
    tracker = open_tracker()
    clean = _clean(videos, tracker)
    truth = [np.array([face.pose[name] for name in HEAD]) for _, face in clean]
    sys.stdout.write(f"{len(clean)} frames of {len(videos)} videos and a portrait\n")
    for name, worsen in HARD.items():
        random = np.random.default_rng(0)
        images = [worsen(image, face, random) for image, face in clean]
        for look in (plainly, thoroughly):
            begun = perf_counter()
            poses = [_pose(look(tracker, image)) for image in images]
            sys.stdout.write(_line(f"{name} | {look.__name__}", poses, truth, perf_counter() - begun) + "\n")
            sys.stdout.flush()
    _twelve_bits(clean, truth, tracker)


def _twelve_bits(clean: list[tuple[Image, Face]], truth: list[Double], tracker: Tracker) -> None:
    """2 % of the light again, as a camera of 12 bits stores it: before, the upper 8 bits; now, those that are used."""
    random, now = np.random.default_rng(0), []
    deep = [_codes(_light(image, 0.02, 10_000, 1, random), 12) for image, _ in clean]
    before = [(values >> 4).astype(np.uint8) for values in deep]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "deep.mkv"
        for values in deep:  # sizes differ
            with av.open(str(path), "w") as container:
                stream = container.add_stream("ffv1", rate=30)
                stream.height, stream.width = values.shape
                stream.pix_fmt = "gray12le"
                container.mux(stream.encode(av.VideoFrame.from_ndarray(values, format="gray12le")))
                container.mux(stream.encode())
            now += [frame.image for frame in read_video(path, grey=True)]
    for look, images in ((plainly, before), (thoroughly, now)):
        begun = perf_counter()
        poses = [_pose(look(tracker, image)) for image in images]
        what = f"2 % of the light, 12 bits | {look.__name__}"
        sys.stdout.write(_line(what, poses, truth, perf_counter() - begun) + "\n")


def cameras() -> None:
    tracker = open_tracker()
    for name in ("night", "night-mirror", "night-pillar", "street-lamps"):
        for worn in ((), ("glasses",), ("sunglasses",), ("mask",)):
            if worn and name != "night":
                continue
            camera = read_camera(name)
            face = open_renderer(FaceSpec("posed:portrait"), drawn_size(camera))
            space, rate = face.trained.space, 10.0
            motion = parse_motions(_MOTION, space.commands, rate, space.rest).in_space(space)
            with tempfile.TemporaryDirectory() as folder:
                video = Path(folder) / "drive.mp4"
                things = [Worn(thing) for thing in worn]
                table = read_table(steer_to_video(face, motion.resampled(rate), video, rate, "mark", camera, things))
                images = [to_grey(frame.image) for frame in read_video(video)]
            truth = list(table[[f"camera_{axis}" for axis in HEAD]].to_numpy(float))
            for look in (plainly, thoroughly):
                begun = perf_counter()
                poses = [_pose(look(tracker, image)) for image in images]
                what = f"{', '.join((name, *worn))} | {look.__name__}"
                sys.stdout.write(_line(what, poses, truth, perf_counter() - begun) + "\n")
                sys.stdout.flush()


def sheet(out: Path, videos: list[Path]) -> None:
    """Each hard picture above, softened and brightened below."""
    clean, columns = _clean(videos, open_tracker()), []
    for number, (name, worsen) in enumerate(HARD.items()):
        image = worsen(*clean[number % len(clean)], np.random.default_rng(0))
        tiles = [cv2.resize(each, (320, 240), interpolation=cv2.INTER_AREA) for each in (image, brightened(image, 1.0))]
        cv2.putText(tiles[0], name, (6, 232), cv2.FONT_HERSHEY_SIMPLEX, 0.45, 255, 1, cv2.LINE_AA)
        columns.append(np.vstack(tiles))
    write_image(out, np.vstack([np.hstack(columns[:6]), np.hstack(columns[6:])]))


if __name__ == "__main__":
    command, *given = sys.argv[1:]
    if command == "sheet":
        sheet(Path(given[0]), [Path(name) for name in given[1:]])
    elif command == "hard":
        hard([Path(name) for name in given])
    else:
        cameras()
