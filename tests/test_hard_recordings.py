"""Recordings as cameras of DMSs make them: deep grey, folders of pictures, dark, noisy, far away, at the edge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from commands import dmsynth, fails
from dmsynth.camera.things import draw_things, parse_things
from dmsynth.datasets.dataset import partial_path
from dmsynth.datasets.masked import is_covered
from dmsynth.datasets.photo_posing import PosedPhoto
from dmsynth.datasets.recording import import_recordings
from dmsynth.datasets.recording_advice import View, advice
from dmsynth.support.errors import DmsynthError
from dmsynth.support.progress import console
from dmsynth.trackers import Tracker, face_labels, find_faces, why_unusable
from dmsynth.video import Image, VideoWriter, probe_video, read_video
from dmsynth.video.deep_grey import bits_used, to_8_bits

FRAMES = 40


@pytest.fixture(scope="module")
def drive(posed: PosedPhoto) -> list[Image]:
    """The portrait turns once from left to right: (240, 320) grey."""
    return [posed.pose(pitch=2.0, yaw=yaw, roll=0.0) for yaw in np.linspace(-12, 12, FRAMES)]


def ffv1(path: Path, frames: Sequence[np.ndarray], pixels: str) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=30)
        stream.height, stream.width = frames[0].shape
        stream.pix_fmt = pixels
        for values in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(values, format=pixels)))
        container.mux(stream.encode())
    return path


def sequence(folder: Path, frames: Sequence[np.ndarray]) -> Path:
    folder.mkdir()
    for number, values in enumerate(frames):
        assert cv2.imwrite(str(folder / f"cam{number + 1}.png"), values)  # cam10 sorts before cam2 as text
    return folder


def deep(frames: Sequence[Image], bits: int) -> list[np.ndarray]:
    return [frame.astype(np.uint16) * ((2**bits - 1) / 255) + 0.5 for frame in frames]


def as_16(frames: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [np.asarray(frame, dtype=np.uint16) for frame in frames]


def test_twelve_bits_and_folders_import_as_their_8_bit_twin(
    tmp_path: Path, drive: list[Image], tracker: Tracker
) -> None:
    of = {
        "grey": ffv1(tmp_path / "grey.mkv", drive, "gray"),
        "twelve": ffv1(tmp_path / "twelve.mkv", as_16(deep(drive, 12)), "gray12le"),
        "folder": sequence(tmp_path / "sixteen", as_16(deep(drive, 16))),
    }
    made = {
        name: import_recordings(tmp_path / name, [recording], tracker, colour=False, widened=False)
        for name, recording in of.items()
    }
    for name in ("twelve", "folder"):
        assert np.array_equal(made[name].frames, made["grey"].frames), name
        same = [column for column in made["grey"].labels if column not in ("recording", "time", "split")]
        assert made[name].labels[same].equals(made["grey"].labels[same]), name
        assert np.allclose(made[name].labels["time"], made["grey"].labels["time"], atol=1e-3)


@pytest.mark.parametrize(("pixels", "bits"), [("gray10le", 10), ("gray14le", 14), ("gray16le", 16)])
def test_other_depths_are_read(tmp_path: Path, drive: list[Image], pixels: str, bits: int) -> None:
    path = ffv1(tmp_path / "deep.mkv", as_16(deep(drive[:2], bits)), pixels)
    assert [np.array_equal(frame.image, drive[frame.index]) for frame in read_video(path, grey=True)] == [True] * 2
    assert probe_video(path).width == 320


def test_deep_grey_does_not_flicker(tmp_path: Path, drive: list[Image]) -> None:
    """A recording that begins in a tunnel: the same code is the same grey before it and behind it."""
    card, codes = np.full((32, 32), 500, np.uint16), as_16(deep(drive[:1] * 8, 12))
    frames = [(codes[0] >> (5 if number < 4 else 0)).astype(np.uint16) for number in range(8)]
    for frame in frames:
        frame[:32, :32] = card
    for path in (ffv1(tmp_path / "tunnel.mkv", frames, "gray16le"), sequence(tmp_path / "tunnel", frames)):
        assert {int(frame.image[8, 8]) for frame in read_video(path, grey=True)} == {500 >> 4}


def test_bits_that_a_dark_recording_does_not_use_are_not_kept() -> None:
    dark = np.random.default_rng(0).integers(0, 500, (80, 100)).astype(np.uint16)
    assert bits_used([dark], 12) == 9 and to_8_bits(dark, 9).max() == dark.max() >> 1
    dark[0, 0] = 4095  # a hot pixel
    assert bits_used([dark], 12) == 9 and to_8_bits(dark, 9).max() == 255
    dark[:4] = 4095  # a lamp
    assert bits_used([dark], 12) == 12


def test_a_folder_that_is_no_recording_is_one_line(tmp_path: Path, drive: list[Image]) -> None:
    (tmp_path / "empty").mkdir()
    assert "empty: holds no pictures; give a video" in fails(
        dmsynth("dataset", "recording", tmp_path / "out", tmp_path / "empty")
    )
    mixed = sequence(tmp_path / "mixed", [*drive[:2], drive[2][:100]])
    with pytest.raises(DmsynthError, match=r"cam3\.png: is 320×100 grey of 8 bits, cam1\.png is 320×240 grey"):
        list(read_video(mixed))
    (mixed / "cam2.png").write_bytes((mixed / "cam2.png").read_bytes()[:40])
    assert "cam2.png: a damaged picture" in fails(dmsynth("dataset", "recording", tmp_path / "out", mixed))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "mixed"]


def test_pictures_that_an_encoder_padded_are_whole(tmp_path: Path, drive: list[Image]) -> None:
    """As hardware encoders do: each picture ends with some zeros, which are counted in its length."""
    plain, padded = tmp_path / "plain.mp4", tmp_path / "padded.mp4"
    with VideoWriter(plain, 320, 240, 30) as video:
        for frame in drive[:6]:
            video.write(frame)
    with av.open(str(plain)) as read, av.open(str(padded), "w") as written:
        stream = read.streams.video[0]
        new = written.add_stream_from_template(stream)
        for packet in read.demux(stream):
            if packet.dts is None:
                continue
            content, last = bytes(packet), 0
            while (end := last + 4 + int.from_bytes(content[last : last + 4])) < len(content):
                last = end
            longer = (len(content) - last - 4 + 15).to_bytes(4)
            other = av.Packet(content[:last] + longer + content[last + 4 :] + bytes(15))
            other.pts, other.dts, other.time_base = packet.pts, packet.dts, packet.time_base
            other.is_keyframe, other.stream = packet.is_keyframe, new
            written.mux(other)
    assert bytes(15) in padded.read_bytes()
    whole = [frame.image for frame in read_video(plain)]
    assert all(np.array_equal(frame.image, whole[frame.index]) for frame in read_video(padded))


def noisy(values: np.ndarray, seed: int) -> Image:
    """2.5 % of the light, as a sensor of 3000 electrons sees it."""
    random = np.random.default_rng(seed)
    electrons = random.poisson(values / 255 * 75) + random.normal(0, 6, values.shape)
    return np.clip(np.rint(electrons / 3000 * 255), 0, 255).astype(np.uint8)


def far(image: Image, width: int, height: int) -> Image:
    """A third of the size, in the middle of a larger picture."""
    small = cv2.resize(image, None, fx=1 / 3, fy=1 / 3, interpolation=cv2.INTER_AREA)
    cabin = np.tile(np.linspace(40, 90, width).astype(np.uint8), (height, 1))
    x, y = (width - small.shape[1]) // 2, (height - small.shape[0]) // 2
    cabin[y : y + len(small), x : x + small.shape[1]] = small
    return cabin


def test_a_dark_noisy_small_face_is_found(drive: list[Image], tracker: Tracker) -> None:
    (known,) = tracker(drive[30])
    size = known.box[2] - known.box[0]
    dark = noisy(drive[30], 1)
    assert not tracker(dark)
    (found,) = find_faces(tracker, dark, 640, 320)
    assert abs(found.pose["yaw"] - known.pose["yaw"]) < 3 and abs(found.centre[0] - known.centre[0]) < size / 10
    for width, height in ((640, 480), (1280, 800)):
        wide = far(drive[30], width, height)
        (found,) = find_faces(tracker, wide, 640, width)
        assert size / 3 < 45 and abs(found.box[2] - found.box[0] - size / 3) < 6, "a face of 40 pixels"
        assert abs(found.pose["yaw"] - known.pose["yaw"]) < 4
    assert not tracker(far(drive[30], 640, 480))


def test_a_good_picture_is_given_as_it_is(drive: list[Image], tracker: Tracker) -> None:
    (plain,), (found,) = tracker(drive[3]), find_faces(tracker, drive[3], 640, 320)
    assert np.array_equal(plain.landmarks, found.landmarks) and plain.pose == found.pose


def test_nobody_is_seen_in_noise(tracker: Tracker) -> None:
    empty = noisy(np.tile(np.linspace(20, 200, 640), (480, 1)), 2)
    assert find_faces(tracker, empty, 640, 640) == []


def test_where_nobody_is_nothing_is_written(tmp_path: Path) -> None:
    path = tmp_path / "seat.mp4"
    with VideoWriter(path, 160, 128, 30) as video:
        for number in range(6):
            video.write(np.tile(np.linspace(30, 90 + number, 160).astype(np.uint8), (128, 1)))
    said = fails(dmsynth("dataset", "recording", tmp_path / "out", path))
    assert "seat.mp4: no face is found in any of 6 frames (100 % without one)" in said and "--crop LEFT" in said
    assert [file.name for file in tmp_path.iterdir()] == ["seat.mp4"]


def test_a_driver_at_the_edge_is_found_left_out_and_explained(
    tmp_path: Path, drive: list[Image], tracker: Tracker
) -> None:
    (face,) = tracker(drive[39])
    half = drive[39][:, : round((face.box[0] + face.box[2]) / 2)]
    assert not tracker(half)
    assert why_unusable(find_faces(tracker, half, 640, half.shape[1]), half) == "face at the border"
    left = round(face.box[0] + (face.box[2] - face.box[0]) / 5)
    path = tmp_path / "edge.mp4"
    with VideoWriter(path, 320, 240, 30) as video:
        for frame in drive[:12]:
            video.write(np.hstack([frame[:, left:], np.full((240, left), 60, np.uint8)]))
    out = tmp_path / "out"
    with pytest.raises(DmsynthError, match=r"\(face at the border: 12\).*turn the camera so that the whole head is in"):
        import_recordings(out, [path], tracker)
    with pytest.raises(DmsynthError, match=r"only 0,0,240,240 of the video is used; move or widen --crop"):
        import_recordings(out, [path], tracker, crop=(0, 0, 240, 240))
    assert not out.exists() and not partial_path(out).exists()


@pytest.fixture(scope="module")
def worn(drive: list[Image], tracker: Tracker) -> Callable[[str], list[Image]]:
    """The drive with a thing on the face."""
    faces = [tracker(frame)[0] for frame in drive]

    def dressed(name: str) -> list[Image]:
        things = parse_things([name])
        return [
            draw_things(frame, things, face.landmarks, face.rotation, 0.0, False).image
            for frame, face in zip(drive, faces, strict=True)
        ]

    return dressed


@pytest.mark.parametrize("thing", ["mask", "scarf", "sunglasses"])
def test_a_mask_is_told_from_what_leaves_the_mouth_free(
    thing: str, worn: Callable[[str], list[Image]], drive: list[Image], tracker: Tracker
) -> None:
    frames = [np.rint(frame * light).astype(np.uint8) for frame in worn(thing)[::6] for light in (1.0, 0.3)]
    labels = [face_labels(tracker(frame)[0]) for frame in frames]
    assert is_covered(frames, labels) == (thing == "mask")
    assert not is_covered(frames[:8], labels[:8]), "too few frames tell nothing"
    bare, own = drive[:7], [face_labels(tracker(frame)[0]) for frame in drive[:7]]
    assert not is_covered([*frames[:6], *bare], [*labels[:6], *own]), "what comes and goes is no mask"


def test_the_import_says_that_a_driver_wears_a_mask(
    tmp_path: Path, worn: Callable[[str], list[Image]], tracker: Tracker
) -> None:
    path = tmp_path / "masked.mp4"
    with VideoWriter(path, 320, 240, 30) as video:
        for frame in worn("mask"):
            video.write(frame)
    with console.capture() as said:
        import_recordings(tmp_path / "out", [path], tracker, widened=False)
    assert "masked.mp4: mouth and nose seem to be covered" in " ".join(said.get().split())


def test_a_small_face_is_told_its_crop() -> None:
    boxes = np.array([[300.0, 200.0, 330.0, 240.0]] * 10, dtype=np.float64) + np.arange(10.0)[:, None]
    none = np.empty((0, 4))
    view = View(0, 0, 1280, 960, (1280, 960))
    (said,) = advice({}, boxes, view, 640)
    assert said == "the face is only 30 of 640 pixels wide; larger and sharper: --crop 528,328,222,242"
    assert advice({"damaged": 3}, boxes * 4 - 900, view, 640) == []
    (several,) = advice({"several faces": 2}, none, view, 640)
    assert several == "several people in view: --crop LEFT,TOP,WIDTH,HEIGHT around one"
