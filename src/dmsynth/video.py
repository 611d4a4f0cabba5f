"""Frames in, frames out: any video PyAV reads, H.264 that any browser plays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import cv2
import numpy as np
import PIL.Image
from numpy.typing import NDArray

from dmsynth.errors import DmsynthError
from dmsynth.files import put_in_place, temporary_beside

Image = NDArray[np.uint8]
"""(height, width) grey or (height, width, 3) RGB, uint8, row 0 at the top."""

# Containers round their frame counts; more than this many missing frames means the end of the file is gone.
_MISSING_FRAMES_ALLOWED = 2
_MISSING_SECONDS_ALLOWED = 1.0

# Formats that hold their frames themselves. FFmpeg knows others that are lists of files and addresses to fetch, and
# tells by content, not by name: opened without this, "driver.mp4" could be such a list.
_FORMATS = (
    "mov,matroska,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,mxf,ivf,nut,m4v,h264,hevc,mjpeg,mpjpeg,yuv4mpegpipe,dv,gif"
)
_PICTURES = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "PPM")
_MOST_PIXELS = 64_000_000  # of a picture: a few hundred kilobytes can unfold into gigabytes


@dataclass(frozen=True)
class VideoInfo:
    """What a video's header says. ``frames`` is 0 where the header does not say."""

    width: int
    height: int
    frames: int
    frame_rate: float
    seconds: float


@dataclass(frozen=True)
class Frame:
    """One decoded frame: ``time`` in seconds after the first, from the file's own time stamps."""

    index: int
    time: float
    image: Image


def _open(path: Path) -> av.container.InputContainer:
    if not path.is_file():
        raise DmsynthError(f"{path}: no such video; check the path")
    if path.stat().st_size == 0:
        raise DmsynthError(f"{path}: the file is empty (0 bytes); record or copy it again")
    try:
        container = av.open(str(path), options={"format_whitelist": _FORMATS, "protocol_whitelist": "file"})
    except (av.error.FFmpegError, ValueError) as error:
        unknown = isinstance(error, av.error.ArgumentError)  # how FFmpeg says that a format is not on the list
        reason = "no format that holds video" if unknown else getattr(error, "strerror", None) or error
        raise DmsynthError(
            f"{path}: not a readable video ({reason}); give a video file such as .mp4, .mkv or .avi"
        ) from None
    if not container.streams.video:
        container.close()
        raise DmsynthError(f"{path}: holds no video stream; give a video file such as .mp4, .mkv or .avi")
    return container


def probe_video(path: Path) -> VideoInfo:
    """Read a video's header. ``DmsynthError`` for a missing, empty or unreadable file.

    Width and height are those of the frames that ``read_video`` yields, rotation metadata applied.
    """
    with _open(path) as container:
        stream = container.streams.video[0]
        rate = float(stream.average_rate or stream.guessed_rate or 25)
        seconds = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
        if not seconds and container.duration:
            seconds = container.duration / av.time_base
        first = next(_decode(path, container, stream), None)
        if first is None:
            raise DmsynthError(f"{path}: holds no frame that can be decoded; record or copy it again")
        height, width = _upright(first, stream, grey=True).shape[:2]
        return VideoInfo(width, height, stream.frames or round(seconds * rate), rate, seconds)


def read_video(path: Path, grey: bool = False) -> Iterator[Frame]:
    """Decode a video one frame at a time; memory does not grow with its length.

    Rotation metadata (a phone held upright) is applied, and times come from the file's time stamps, so variable
    frame rates survive. Yields ``Frame`` with (h, w) uint8 if ``grey`` else (h, w, 3) RGB uint8. Raises
    ``DmsynthError`` naming file and frame if the file is damaged or ends early.
    """
    with _open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        start: float | None = None
        before = 0.0
        index = -1
        for index, decoded in enumerate(_decode(path, container, stream)):
            time = decoded.time if decoded.time is not None else float(index / rate)
            start = time if start is None else start
            if index and time <= before:  # a clock that jumped back or stands still
                start -= before - time + float(1 / rate)
            before = time
            yield Frame(index, time - start, _upright(decoded, stream, grey))
        if index < 0:
            raise DmsynthError(f"{path}: holds no frame that can be decoded; record or copy it again")
        _check_end(path, container, stream, index + 1, before)


def read_metadata(path: Path) -> dict[str, str]:
    """A video's metadata: title, comment and the like, in lower case. ``DmsynthError`` if it is none."""
    with _open(path) as container:
        return {name.lower(): value for name, value in container.metadata.items()}


def check_whole(path: Path) -> None:
    """Raise ``DmsynthError`` if a video is no video or ends early. Reads the file through without decoding it."""
    with _open(path) as container:
        stream = container.streams.video[0]
        try:
            packets = [packet for packet in container.demux(stream) if packet.size]
        except av.error.FFmpegError as error:
            raise DmsynthError(f"{path}: damaged ({error.strerror}); copy or record it again") from None
        end = max((float(p.pts * p.time_base) for p in packets if p.pts is not None and p.time_base), default=0.0)
        _check_end(path, container, stream, len(packets), end)


def _check_end(
    path: Path, container: av.container.InputContainer, stream: av.VideoStream, frames: int, end: float
) -> None:
    """Raise if the header promises more: more frames, or where it does not count them a longer time."""
    if stream.frames - frames > _MISSING_FRAMES_ALLOWED:
        raise DmsynthError(
            f"{path}: ends after frame {frames - 1} of {stream.frames - 1}: the file is truncated; copy it again"
        )
    promised = container.duration / av.time_base if container.duration else 0.0
    if not stream.frames and len(container.streams) == 1 and promised - end > _MISSING_SECONDS_ALLOWED:
        raise DmsynthError(
            f"{path}: ends after frame {frames - 1}, at {end:.1f} of {promised:.1f} s: the file is truncated; "
            "copy it again"
        )


def _decode(path: Path, container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
    done = 0
    try:
        for frame in container.decode(stream):
            yield frame
            done += 1
    except av.error.FFmpegError as error:
        raise DmsynthError(
            f"{path}: damaged after frame {done - 1} ({error.strerror}); copy or record it again"
        ) from None


def _upright(frame: av.VideoFrame, stream: av.VideoStream, grey: bool) -> Image:
    """The frame as a person would see it: square pixels, turned as its metadata say."""
    image = frame.to_ndarray(format="gray" if grey else "rgb24")
    aspect = float(stream.sample_aspect_ratio or 1)
    if abs(aspect - 1) > 1e-3:
        image = cv2.resize(image, (round(image.shape[1] * aspect), image.shape[0]), interpolation=cv2.INTER_LINEAR)
    turns = round(frame.rotation / 90) % 4  # counter-clockwise quarter turns, as the display matrix says
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


def read_image(path: Path, grey: bool = False) -> Image:
    """Read a picture as RGB (h, w, 3), or grey (h, w), uint8. ``DmsynthError`` if it is none."""
    if not path.is_file():
        raise DmsynthError(f"{path}: no such picture; check the path")
    pixels, image = _pixels(path), None
    if pixels is not None and pixels > _MOST_PIXELS:
        raise DmsynthError(f"{path}: has more than {_MOST_PIXELS // 10**6} million pixels; make it smaller")
    if pixels is not None:
        with suppress(cv2.error):
            image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR)
    if image is None:
        raise DmsynthError(f"{path}: not a readable picture; give a .png or .jpg file")
    return image if grey else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def is_picture(path: Path) -> bool:
    """Whether a file is a picture, by what is in it."""
    return _pixels(path) is not None


def _pixels(path: Path) -> int | None:
    """How many pixels a picture has, none of which is read; None if it is no picture."""
    try:
        with PIL.Image.open(path, formats=_PICTURES) as header:
            return header.width * header.height
    except PIL.Image.DecompressionBombError:
        return _MOST_PIXELS + 1
    except (OSError, ValueError):
        return None


def write_image(path: Path, image: Image) -> None:
    """Write grey or RGB uint8 as .png or .jpg (by the suffix)."""
    suffix = path.suffix or ".png"
    encoded, content = cv2.imencode(suffix, image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not encoded:
        raise DmsynthError(f"{path}: could not be encoded as {suffix}; use .png or .jpg")
    path.write_bytes(content.tobytes())


def to_grey(image: Image) -> Image:
    """(h, w) from grey or RGB."""
    return image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def to_rgb(image: Image) -> Image:
    """(h, w, 3) from grey or RGB."""
    return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB) if image.ndim == 2 else image


def fit(image: Image, width: int, height: int) -> Image:
    """Scale to cover width × height and cut the overhang equally on both sides; the aspect ratio is kept."""
    cut = cut_to_shape(image, width / height)
    shrinks = cut.shape[1] > width
    return cv2.resize(cut, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def cut_to_shape(image: Image, aspect: float) -> Image:
    """The largest middle part of an image with width / height = ``aspect``. A view, not a copy."""
    height, width = image.shape[:2]
    cut_width, cut_height = min(width, round(height * aspect)), min(height, round(width / aspect))
    left, top = (width - cut_width) // 2, (height - cut_height) // 2
    return image[top : top + cut_height, left : left + cut_width]


class VideoWriter:
    """Write H.264 (yuv420p, index at the front) that browsers play; the file appears when it is whole.

    Use as a context manager. Frames are grey or RGB uint8 of one size; an odd width or height loses its last
    column or row, because yuv420p needs even sides. Of ``metadata``, .mp4 keeps what its format knows: title, comment,
    description and the like.
    """

    def __init__(
        self, path: Path, width: int, height: int, frame_rate: float, metadata: Mapping[str, str] | None = None
    ) -> None:
        if path.suffix.lower() not in (".mp4", ".mkv", ".mov"):
            raise DmsynthError(f"{path}: a video is written as .mp4, .mkv or .mov; change the name's ending")
        self.path = path
        self._temporary = temporary_beside(path)
        self._width, self._height = width // 2 * 2, height // 2 * 2
        options = {} if path.suffix.lower() == ".mkv" else {"movflags": "+faststart"}
        self._container = av.open(str(self._temporary), mode="w", options=options)
        self._container.metadata.update(metadata or {})
        self._stream = self._container.add_stream("libx264", rate=Fraction(frame_rate).limit_denominator(1001))
        self._stream.width, self._stream.height = self._width, self._height
        self._stream.pix_fmt = "yuv420p"
        self._stream.options = {"crf": "16", "preset": "veryfast"}

    def write(self, image: Image) -> None:
        """Append one frame."""
        pixels = np.ascontiguousarray(image[: self._height, : self._width])
        frame = av.VideoFrame.from_ndarray(pixels, format="gray" if image.ndim == 2 else "rgb24")
        self._encode(frame)

    def _encode(self, frame: av.VideoFrame | None) -> None:
        """Encode a frame, or what is still waiting in the encoder."""
        try:
            self._container.mux(self._stream.encode(frame))
        except av.error.FFmpegError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from None

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._encode(None)
            with suppress(av.error.FFmpegError) if kind else nullcontext():
                self._container.close()  # writes the index, which may fail again after a failure
            if kind is None:
                put_in_place(self._temporary, self.path)
        finally:
            self._temporary.unlink(missing_ok=True)
