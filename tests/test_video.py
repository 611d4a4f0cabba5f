"""Frames in, frames out: rotation metadata, variable frame rates, grey, and files that are no videos."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from dmsynth.support.errors import DmsynthError
from dmsynth.video import Image, VideoWriter, check_whole, fit, probe_video, read_video, write_image
from dmsynth.video.pictures import read_image


def gradient(width: int, height: int, level: int = 0) -> Image:
    """Dark on the left, bright on the right."""
    row = np.linspace(0, 200, width).astype(np.uint8)
    return np.tile(row + np.uint8(level), (height, 1))


def test_what_is_written_can_be_read_and_played(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with VideoWriter(path, 161, 97, 29.97) as video:  # odd sides lose a row and a column
        for level in range(20):
            video.write(gradient(161, 97, level))
    frames = list(read_video(path, grey=True))
    assert len(frames) == 20
    assert frames[0].image.shape == (96, 160)
    assert [frame.time for frame in frames] == pytest.approx([i / 29.97 for i in range(20)], abs=1e-3)
    assert np.abs(frames[3].image.astype(float) - gradient(161, 97, 3)[:96, :160]).mean() < 3
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")  # what browsers play
    info = probe_video(path)
    assert (info.width, info.height, info.frames) == (160, 96, 20)
    assert info.frame_rate == pytest.approx(29.97, rel=1e-3)
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # plays while it loads


def test_colour_survives(tmp_path: Path) -> None:
    red = np.zeros((64, 64, 3), dtype=np.uint8)
    red[..., 0] = 220
    path = tmp_path / "red.mp4"
    with VideoWriter(path, 64, 64, 25) as video:
        video.write(red)
    pixel = next(iter(read_video(path))).image[32, 32]
    assert pixel[0] > 190 and pixel[1] < 40 and pixel[2] < 40


def test_variable_frame_rates_keep_their_times(tmp_path: Path) -> None:
    path = tmp_path / "variable.mkv"
    stamps = [0, 40, 50, 200, 900]  # milliseconds
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for stamp in stamps:
            frame = av.VideoFrame.from_ndarray(gradient(64, 64), format="gray")
            frame.pts, frame.time_base = stamp, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert [frame.time for frame in read_video(path)] == pytest.approx([s / 1000 for s in stamps], abs=2e-3)


def test_rotation_metadata_is_applied(tmp_path: Path) -> None:
    """A phone held upright writes a landscape video and a note to turn it."""
    upright, turned = tmp_path / "plain.mp4", tmp_path / "turned.mp4"
    with VideoWriter(upright, 96, 64, 25) as video:
        for _ in range(3):
            video.write(gradient(96, 64))
    # a quarter turn clockwise, as the tkhd box's matrix (16.16 fixed point) says it: (0 1 0, -1 0 0, 0 0 1)
    content = bytearray(upright.read_bytes())
    start = content.index(b"tkhd") + 4 + 40
    matrix = [0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000]
    content[start : start + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in matrix)
    turned.write_bytes(content)
    info = probe_video(turned)
    assert (info.width, info.height) == (64, 96)
    image = next(iter(read_video(turned, grey=True))).image.astype(int)
    assert image.shape == (96, 64)
    assert image[0].mean() + 100 < image[-1].mean()  # left went to the top: dark above, bright below


def test_clocks_that_stand_still_and_pixels_that_are_not_square(tmp_path: Path) -> None:
    path = tmp_path / "odd.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(2, 1)
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(gradient(64, 64), format="gray")))
        container.mux(stream.encode())
    info = probe_video(path)
    assert (info.width, info.height) == (128, 64)
    frames = list(read_video(path))
    assert frames[0].image.shape == (64, 128, 3)
    assert (np.diff([frame.time for frame in frames]) > 0).all()


def test_reading_streams(tmp_path: Path) -> None:
    """Memory does not grow with length: 300 frames of 320×240 are 23 MB, reading them takes a few."""
    path = tmp_path / "long.mp4"
    with VideoWriter(path, 320, 240, 25) as video:
        for level in range(300):
            video.write(gradient(320, 240, level % 50))
    tracemalloc.start()
    count = sum(1 for _ in read_video(path, grey=True))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 300 and peak < 3e6


def test_a_failed_video_leaves_nothing(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match="on purpose"),
        VideoWriter(tmp_path / "out.mp4", 64, 64, 25) as video,
    ):
        video.write(gradient(64, 64))
        raise RuntimeError("on purpose")
    assert not list(tmp_path.iterdir())


def test_files_that_are_no_videos_are_named(tmp_path: Path, face_video: Path) -> None:
    empty, text, cut, sound = (tmp_path / f"{name}.mp4" for name in ("empty", "text", "cut", "headless"))
    empty.touch()
    text.write_text("this is no video")
    cut.write_bytes(face_video.read_bytes()[: face_video.stat().st_size // 2])
    sound.write_bytes(face_video.read_bytes()[:40])
    for path, complaint in (
        (tmp_path / "absent.mp4", "no such video"),
        (empty, "0 bytes"),
        (text, "not a readable video"),
        (cut, "truncated|damaged"),
        (sound, "not a readable video|no video stream"),
    ):
        with pytest.raises(DmsynthError, match=complaint) as error:
            list(read_video(path))
        assert path.name in str(error.value)


def test_a_truncated_video_names_the_frame(tmp_path: Path, face_video: Path) -> None:
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(face_video.read_bytes()[: face_video.stat().st_size * 2 // 3])
    with pytest.raises(DmsynthError, match=r"after frame \d+"):
        list(read_video(cut))


def test_a_truncated_video_without_a_frame_count(tmp_path: Path) -> None:
    path = tmp_path / "long.mkv"
    with VideoWriter(path, 64, 64, 25) as video:
        for number in range(200):
            video.write(np.random.default_rng(number).integers(0, 255, (64, 64), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for read in (check_whole, lambda path: list(read_video(path))):
        with pytest.raises(DmsynthError, match=r"long.mkv: .*after frame \d+"):
            read(path)


def test_pictures(tmp_path: Path) -> None:
    path = tmp_path / "grey.png"
    write_image(path, gradient(30, 20))
    assert np.array_equal(read_image(path, grey=True), gradient(30, 20))
    assert read_image(path).shape == (20, 30, 3)
    path.write_text("no picture")
    with pytest.raises(DmsynthError, match="not a readable picture"):
        read_image(path)


@pytest.mark.parametrize("size", [(100, 100), (320, 240), (64, 128)])
def test_fitting_covers_and_keeps_the_middle(size: tuple[int, int]) -> None:
    image = np.zeros((120, 200), dtype=np.uint8)
    image[50:70, 90:110] = 255  # a square in the middle
    fitted = fit(image, *size)
    assert fitted.shape == size[::-1]
    rows, columns = np.nonzero(fitted > 128)
    assert abs(rows.mean() - size[1] / 2) < 2 and abs(columns.mean() - size[0] / 2) < 2
    assert np.ptp(rows) == pytest.approx(np.ptp(columns), abs=2)  # still a square
