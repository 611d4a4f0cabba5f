"""Videos and pictures as phones, cameras and editors write them: turned, mirrored, trimmed, damaged, huge, dark."""

from __future__ import annotations

import base64
import re
import shutil
import struct
import subprocess
import sys
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import PIL.Image
import pytest

from dmsynth.steering.source import read_source
from dmsynth.support.errors import DmsynthError
from dmsynth.video import Image, VideoWriter, check_whole, probe_video, read_video
from dmsynth.video.orientation import Orientation
from dmsynth.video.pictures import is_picture, read_image

# The display matrix (a, b, c, d) of ISO 14496-12 and EXIF's number of the same orientation.
ORIENTATIONS = {
    1: (1, 0, 0, 1), 2: (-1, 0, 0, 1), 3: (-1, 0, 0, -1), 4: (1, 0, 0, -1),
    5: (0, 1, 1, 0), 6: (0, 1, -1, 0), 7: (0, -1, -1, 0), 8: (0, -1, 1, 0),
}  # fmt: skip


def corners() -> Image:
    """(64, 96) grey: each corner of a brightness of its own, so that no two orientations look alike."""
    image = np.full((64, 96), 128, np.uint8)
    image[:32, :48], image[:32, 48:], image[32:, :48] = 20, 80, 180
    return image


def as_stored(upright: Image, number: int) -> Image:
    """What a camera stores that is held so: Pillow's own transpositions, undone."""
    how = PIL.Image.Transpose
    back = {2: how.FLIP_LEFT_RIGHT, 3: how.ROTATE_180, 4: how.FLIP_TOP_BOTTOM, 5: how.TRANSPOSE, 6: how.ROTATE_90}
    back |= {7: how.TRANSVERSE, 8: how.ROTATE_270}
    picture = PIL.Image.fromarray(upright)
    return np.asarray(picture.transpose(back[number]) if number > 1 else picture)


def oriented(path: Path, number: int, frames: int = 3) -> Path:
    """A video of ``corners`` that is stored so and says so."""
    stored = as_stored(corners(), number)
    plain = path.with_name("plain.mp4")
    with VideoWriter(plain, stored.shape[1], stored.shape[0], 25) as video:
        for _ in range(frames):
            video.write(stored)
    content = bytearray(plain.read_bytes())
    start = content.index(b"tkhd") + 4 + 40
    a, b, c, d = (value << 16 for value in ORIENTATIONS[number])
    content[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    plain.write_bytes(content)
    remuxed(plain, path)
    return path


def remuxed(source: Path, out: Path) -> None:
    """The same packets in another container, as editors do it that do not encode anew."""
    if out.suffix == source.suffix:
        shutil.copyfile(source, out)
        return
    with av.open(str(source)) as read, av.open(str(out), "w") as written:
        stream = read.streams.video[0]
        new = written.add_stream_from_template(stream)
        for packet in read.demux(stream):
            if packet.dts is not None:
                packet.stream = new
                written.mux(packet)


@pytest.mark.parametrize("number", ORIENTATIONS)
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_all_eight_orientations_of_a_video(tmp_path: Path, number: int, suffix: str) -> None:
    video = oriented(tmp_path / f"phone{suffix}", number)
    info = probe_video(video)
    assert (info.width, info.height) == (96, 64)
    for grey in (True, False):
        image = next(iter(read_video(video, grey=grey))).image
        assert np.abs(image.reshape(64, 96, -1)[..., 0].astype(int) - corners()).mean() < 4


@pytest.mark.parametrize("number", ORIENTATIONS)
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_all_eight_orientations_of_a_picture(tmp_path: Path, number: int, suffix: str) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = number
    picture = tmp_path / f"phone{suffix}"
    PIL.Image.fromarray(as_stored(corners(), number)).convert("RGB").save(picture, exif=exif)
    assert np.abs(read_image(picture, grey=True).astype(int) - corners()).mean() < 4


def test_an_orientation_is_upright_for_planes_of_any_kind() -> None:
    stored = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    assert Orientation().upright(stored) is stored
    assert Orientation(transposed=True).upright(stored).shape == (3, 2, 4)


def moving(path: Path, frames: int, rate: int = 30, size: tuple[int, int] = (480, 360), sound: bool = False) -> Path:
    """A video in which much moves, so that no part of the file is idle; with a sound as long as it, on demand."""
    width, height = size
    texture = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (height, width), dtype=np.uint8), (0, 0), 2)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        audio: Any = container.add_stream("mp2", rate=44100) if sound else None
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(np.roll(texture, 3 * number, axis=1), format="gray")
            container.mux(stream.encode(frame))
            if audio:
                samples = np.zeros((1, 44100 // rate), np.int16)
                said = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
                said.sample_rate = 44100
                container.mux(audio.encode(said))
        container.mux(stream.encode())
        if audio:
            container.mux(audio.encode())
    return path


def test_a_clip_with_sound_that_was_cut_short_is_told(tmp_path: Path) -> None:
    whole = moving(tmp_path / "drive.mkv", 120, sound=True)
    check_whole(whole)
    content = whole.read_bytes()
    (tmp_path / "cut.mkv").write_bytes(content[: len(content) * 2 // 3])
    for read in (check_whole, lambda path: list(read_video(path))):
        with pytest.raises(DmsynthError, match=r"cut\.mkv: ends after frame \d+, at .* the file is truncated"):
            read(tmp_path / "cut.mkv")


def test_bytes_lost_in_the_middle_are_told(tmp_path: Path) -> None:
    """The decoder patches over them; what it patched is no evidence."""
    whole = moving(tmp_path / "drive.mp4", 40)
    content, told, patched = whole.read_bytes(), 0, 0
    broken = tmp_path / "broken.mp4"
    for start in range(6000, len(content) - 4000, len(content) // 8):
        broken.write_bytes(content[:start] + bytes(400) + content[start + 400 :])
        try:
            list(read_video(broken))
        except DmsynthError as error:
            assert "broken.mp4: damaged" in str(error)
            told += 1
        with suppress(DmsynthError):
            patched += any(frame.damaged for frame in read_video(broken, damaged=True))
    assert told >= 6 and patched >= 1, "of eight"


def test_a_clip_trimmed_without_encoding_anew_is_whole(tmp_path: Path) -> None:
    """An edit list: the header counts frames that are not shown."""
    whole = moving(tmp_path / "drive.mp4", 90, size=(96, 64))
    content = bytearray(whole.read_bytes())
    at = content.index(b"elst")
    version, entries = content[at + 4], struct.unpack(">I", content[at + 8 : at + 12])[0]
    assert (version, entries) == (0, 1)
    duration, start = struct.unpack(">Ii", content[at + 12 : at + 20])
    content[at + 12 : at + 20] = struct.pack(">Ii", duration // 2, start + 1024 * 15)  # half of it, from somewhere
    trimmed = tmp_path / "trimmed.mp4"
    trimmed.write_bytes(content)
    check_whole(trimmed)
    frames = list(read_video(trimmed, grey=True))
    assert 40 <= len(frames) <= 50 and frames[0].time == 0
    trimmed.write_bytes(content[: len(content) * 2 // 3])  # and a truncated one is still told
    with pytest.raises(DmsynthError, match=r"trimmed\.mp4: "):
        list(read_video(trimmed))


def test_dropped_frames_of_an_old_camera_are_no_truncation(tmp_path: Path) -> None:
    path = tmp_path / "old.avi"
    noise = np.random.default_rng(0).integers(0, 255, (100, 64, 64), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuvj420p"
        for number in range(100):
            if number % 10 > 5:
                continue  # AVI writes an empty packet for it
            frame = av.VideoFrame.from_ndarray(noise[number], format="gray")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    check_whole(path)
    times = [frame.time for frame in read_video(path)]
    assert len(times) == 60 and times[-1] == pytest.approx(95 / 25, abs=0.1)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DmsynthError, match=r"old\.avi: (damaged|ends) after frame \d+"):
        list(read_video(path))


def test_names_with_a_colon_are_files(workdir: Path) -> None:
    path = Path("2024-11-14T22:57:44.mp4")
    with VideoWriter(path, 64, 64, 25) as video:
        for _ in range(3):
            video.write(np.zeros((64, 64), np.uint8))
    assert path.is_file() and len(list(read_video(path))) == 3
    check_whole(path)


HEIC = """
AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAVZtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAACJpbG9jAAAA
AERAAAEAAQAAAAABegABAAAAAAAAAIsAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAAAA5waXRtAAAAAAABAAAA1mlwcnAAAAC3
aXBjbwAAAHhodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQArQgEBA3AAAAMAkAAAAwAA
AwAeoDCBBZbqSSmubgIaDAgAAAMAyAAAAwAIQGIAAQAHRAHBcrAiQAAAABNjb2xybmNseAABAA0ABoAAAAAUaXNwZQAAAAAAAABgAAAAQAAAABBw
aXhpAAAAAAMICAgAAAAXaXBtYQAAAAAAAAABAAEEgQIDBAAAAJNtZGF0AAAAhygBrwngIYU0pf//vnN+bFueJrQU8aUCyE5NUbnVtrbvebL9pzEz
sfNrNQflj9cPs7WzvDBM9cT72I/Xon9n7q1k8/uiqTNk6J/mUyt9vskuU4TrU1tSZrf2Tphq29ctONghvbvFzHxro0H0/cN/6I/+wbZPF8WcpBGz
p7zMdGAHD040cKE73A==
"""  # ``corners``, as a phone writes it


def test_a_phones_picture(tmp_path: Path) -> None:
    path = tmp_path / "phone.heic"
    path.write_bytes(base64.b64decode(HEIC))
    assert is_picture(path) and np.abs(read_image(path, grey=True).astype(int) - corners()).mean() < 8


@pytest.mark.parametrize("name", ["a.JPG", "a.jfif", "a.gif", "a.tiff", "a.avif", "noending", "wrong.mp4"])
def test_pictures_are_known_by_what_is_in_them(tmp_path: Path, name: str) -> None:
    kind = {".jfif": "JPEG", ".gif": "GIF", ".tiff": "TIFF", ".avif": "AVIF"}.get(Path(name).suffix, "PNG")
    path = tmp_path / name
    PIL.Image.fromarray(corners()).convert("RGB").save(path, format=kind)
    assert is_picture(path)
    assert np.abs(read_source(str(path)).astype(int) - corners()[..., None]).mean() < 8


def test_a_gif_that_moves_is_a_video(tmp_path: Path) -> None:
    path = tmp_path / "moves.gif"
    frames = [PIL.Image.fromarray(np.roll(corners(), 8 * number, axis=1)) for number in range(4)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=40)
    assert not is_picture(path) and len(list(read_video(path))) == 4
    assert np.abs(read_source(f"{path}@2")[..., 0].astype(int) - np.roll(corners(), 16, axis=1)).mean() < 8


def test_what_a_transparent_picture_hides_stays_hidden(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[..., 0], pixels[:4, :, 3] = 255, 255
    PIL.Image.fromarray(pixels).save(tmp_path / "logo.png")
    image = read_image(tmp_path / "logo.png")
    assert (image[0, 0] == (255, 0, 0)).all() and (image[7, 0] == 255).all()


def test_twelve_bits_in_sixteen_are_not_night(tmp_path: Path) -> None:
    """Industrial cameras write 0 to 4095 into 16-bit files."""
    twelve = corners().astype(np.uint16) * 16
    PIL.Image.fromarray(twelve).save(tmp_path / "camera.png")
    assert np.abs(read_image(tmp_path / "camera.png", grey=True).astype(int) - corners()).max() <= 1
    path = tmp_path / "camera.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "gray16le"
        for _ in range(2):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(twelve, format="gray16le")))
        container.mux(stream.encode())
    for grey in (True, False):
        image = next(iter(read_video(path, grey=grey))).image
        assert np.abs(image.reshape(64, 96, -1)[..., 0].astype(int) - corners()).max() <= 1


@pytest.mark.parametrize("curve", ["pq", "hlg"])
def test_high_dynamic_range_looks_as_it_was_filmed(tmp_path: Path, curve: str) -> None:
    """A grey card of 149 under diffuse white, as a phone films it (ITU-R BT.2100, BT.2408)."""
    light = (149 / 255) ** 2.4  # of diffuse white, 203 cd/m²
    if curve == "pq":
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
        y = (203 * light / 10_000) ** m1
        code = ((c1 + c2 * y) / (1 + c3 * y)) ** m2
    else:
        scene = (203 * light / 1000) ** (1 / 1.2)
        bright = 0.17883277 * np.log(max(12 * scene - 0.28466892, 1e-9)) + 0.55991073
        code = float(np.sqrt(3 * scene)) if scene <= 1 / 12 else float(bright)
    path = tmp_path / "phone.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p10le"
        context = stream.codec_context
        context.color_trc = 16 if curve == "pq" else 18
        context.color_primaries, context.colorspace, context.color_range = 9, 9, 1
        luma = np.full((64, 64), round(64 + 876 * code), np.uint16)
        chroma = np.full((32, 64), 512, np.uint16)
        frame = av.VideoFrame.from_ndarray(np.concatenate([luma, chroma]), format="yuv420p10le")
        frame.color_trc, frame.colorspace, frame.color_primaries, frame.color_range = context.color_trc, 9, 9, 1
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    image = next(iter(read_video(path))).image
    assert abs(int(image[32, 32, 1]) - 149) <= 3 and np.ptp(image[32, 32]) <= 3


def test_of_two_cameras_in_one_file_the_choice_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "both.mkv"
    with av.open(str(path), "w") as container:
        streams = []
        for size in (96, 64):
            stream = container.add_stream("mpeg4", rate=25)
            stream.width, stream.height, stream.pix_fmt = size, 64, "yuv420p"
            streams.append(stream)
        for stream in streams:
            frame = av.VideoFrame.from_ndarray(np.zeros((64, stream.width), np.uint8), format="gray")
            container.mux([*stream.encode(frame), *stream.encode()])
    assert next(iter(read_video(path))).image.shape[:2] == (64, 96)
    assert "both.mkv: holds 2 video streams (96×64, 64×64); the first is read" in capfd.readouterr().err


def huge(folder: Path) -> list[Path]:
    """Small files that would unfold into gigabytes."""
    PIL.Image.new("P", (8001, 8001)).save(folder / "huge.gif")
    PIL.Image.new("P", (8001, 8001)).save(folder / "huge.png")
    frames = [PIL.Image.new("P", (6100, 6100), level) for level in range(3)]
    frames[0].save(folder / "moves.gif", save_all=True, append_images=frames[1:])
    with av.open(str(folder / "wide.mkv"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(250, 1)
        frame = av.VideoFrame.from_ndarray(np.zeros((480, 640), np.uint8), format="gray")
        container.mux([*stream.encode(frame), *stream.encode()])
    return [folder / name for name in ("huge.gif", "huge.png", "moves.gif", "wide.mkv")]


@pytest.mark.slow
def test_small_files_that_unfold_into_gigabytes_are_refused(tmp_path: Path) -> None:
    paths = huge(tmp_path)
    limit = (
        "import resource, sys; from pathlib import Path\n"
        "import cv2, torch\n"
        "from dmsynth.steering.source import read_source; from dmsynth.support.errors import DmsynthError\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for path in sys.argv[1:]:\n"
        "    try: read_source(path); print('read', path)\n"
        "    except DmsynthError as error: print(error)\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)\n"
    )
    done = subprocess.run([sys.executable, "-c", limit, *map(str, paths)], capture_output=True, text=True, check=True)
    *told, grown = done.stdout.splitlines()
    assert len(told) == len(paths), done.stdout
    for path, line in zip(paths, told, strict=True):
        assert line.startswith(f"{path}: ") and re.search("(36|64) million pixels", line), line
    assert int(grown) < 100, "MB"


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [(".mp4", "libx264"), (".mkv", "libx264"), (".mp4", "libx265"), (".ts", "libx264"), (".avi", "mpeg4")],
)
def test_zeros_from_a_lost_sector_are_told_wherever_they_lie(suffix: str, codec: str, tmp_path: Path) -> None:
    """Also those that the decoder takes for a picture: a fifth of H.264's, a third of HEVC's."""
    path = tmp_path / f"drive{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        if codec == "libx265":
            stream.options = {"x265-params": "log-level=none"}
        for seed in range(60):
            image = np.random.default_rng(seed).integers(0, 255, (64, 96), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="gray")))
        container.mux(stream.encode(None))
    content = path.read_bytes()
    for place in np.random.default_rng(0).uniform(0.2, 0.9, 12):
        damaged, begin = bytearray(content), int(place * len(content))
        damaged[begin : begin + 400] = bytes(400)
        path.write_bytes(damaged)
        with pytest.raises(DmsynthError, match=rf"drive\{suffix}: (damaged|ends after)"):
            list(read_video(path))


def test_a_transparent_video_stands_on_white(tmp_path: Path) -> None:
    path = tmp_path / "clear.mkv"
    pixels = np.dstack([corners()] * 3 + [np.full((64, 96), 255, np.uint8)])
    pixels[:, 48:, 3] = 0
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "bgra"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgba").reformat(format="bgra")))
        container.mux(stream.encode(None))
    for grey in (True, False):
        image = next(iter(read_video(path, grey=grey))).image.reshape(64, 96, -1)[..., 0]
        assert np.abs(image[:, :48].astype(int) - corners()[:, :48]).max() <= 1 and (image[:, 48:] == 255).all()


def test_whatever_decoders_stumble_over_is_one_line(tmp_path: Path) -> None:
    """Damaged at random, pictures and videos are read or refused by name, and nothing else."""
    small = PIL.Image.fromarray(corners()).convert("RGB")
    for kind in ("GIF", "TIFF", "PNG", "WEBP", "JPEG"):
        small.save(tmp_path / f"whole.{kind}", kind, save_all=kind == "GIF", append_images=[small.rotate(90)])
    with av.open(str(tmp_path / "whole.avi"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(corners(), format="gray")))
        container.mux(stream.encode(None))
    random = np.random.default_rng(0)
    for whole in sorted(tmp_path.glob("whole.*")):
        content = whole.read_bytes()
        for _ in range(40):
            damaged = bytearray(content)
            for place in random.integers(0, min(len(content), 400), 2):
                damaged[place] = random.integers(0, 256)
            path = tmp_path / f"damaged{whole.suffix}"
            path.write_bytes(damaged)
            with suppress(DmsynthError):
                read_image(path)
            with suppress(DmsynthError):
                read_source(str(path))
            with suppress(DmsynthError):
                list(read_video(path))
    unknown = bytearray((tmp_path / "whole.avi").read_bytes().replace(b"FMP4", b"????"))
    (tmp_path / "unknown.avi").write_bytes(unknown)
    with pytest.raises(DmsynthError, match=r"unknown\.avi: holds no video stream that can be decoded"):
        probe_video(tmp_path / "unknown.avi")


@pytest.mark.parametrize("number", [1, 3, 6, 8])
def test_motion_jpeg_with_exif_is_upright(tmp_path: Path, number: int) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112], exif[0x010F] = number, "a camera's maker"
    picture, path = tmp_path / "camera.jpg", tmp_path / "camera.avi"
    stored = as_stored(corners(), number)
    PIL.Image.fromarray(stored).convert("RGB").save(picture, exif=exif)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.height, stream.width = stored.shape
        stream.pix_fmt = "yuvj420p"
        for time in range(3):
            packet = av.Packet(picture.read_bytes())
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, time, time, Fraction(1, 25)
            packet.is_keyframe = True
            container.mux(packet)
    image = next(iter(read_video(path, grey=True))).image
    assert image.shape == (64, 96) and np.abs(image.astype(int) - corners()).mean() < 4
