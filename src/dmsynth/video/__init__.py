"""Video input and output: decoding with PyAV, writing H.264 that any browser plays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from types import TracebackType

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import put_in_place, temporary_beside
from dmsynth.support.progress import console
from dmsynth.video.deep_grey import bits_used, to_8_bits
from dmsynth.video.high_range import to_ordinary_range
from dmsynth.video.orientation import Orientation
from dmsynth.video.picture_folder import FRAME_RATE, check_pictures, picture_size, pictures_in, read_pictures

Image = NDArray[np.uint8]
"""(height, width) grey or (height, width, 3) RGB, uint8, row 0 at the top."""

# Containers round their durations, and the audio may be slightly longer than the video. If more than this is missing,
# the file is truncated: in frames if the stream has its own duration, in seconds if only the container has one.
_MISSING_FRAMES_ALLOWED = 3
_MISSING_SECONDS_ALLOWED = 1.0

# Formats that contain their frames. FFmpeg also reads playlists of files and URLs, and detects formats by content, not
# by name: without this whitelist, "driver.mp4" could be such a playlist.
_FORMATS = (
    "mov,matroska,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,mxf,ivf,nut,m4v,h264,hevc,mjpeg,mpjpeg,yuv4mpegpipe,dv,gif"
)
MOST_PIXELS = 36_000_000  # of a frame, slightly more than 8K: a small file can decompress to gigabytes
COMPRESSION = 16
"""H.264's CRF, unless told otherwise: next to no loss is seen."""
_QUICK = 2  # more CRF with which x264's quickest search leaves as much of a noisy picture (docs/camera.md)
_LOST_DATA = bytes(8)
_PADDING = 32  # bytes: some encoders (of Intel's graphics, for one) end a picture with a few zeros; a sector has 512
_PQ, _HLG = 16, 18  # transfer functions of high dynamic range, by their numbers in ITU-T H.273


@dataclass(frozen=True)
class VideoInfo:
    """A video's header. ``frames`` is 0 if the header does not state it."""

    width: int
    height: int
    frames: int
    frame_rate: float
    seconds: float


@dataclass(frozen=True)
class Frame:
    """One decoded frame: ``time`` in seconds after the first, from the file's time stamps. ``damaged``: the decoder
    concealed missing data."""

    index: int
    time: float
    image: Image
    damaged: bool = False


def open_video(path: Path) -> tuple[av.container.InputContainer, av.VideoStream]:
    """A video's container, to be closed by the caller, and the stream to read: the first that is no cover picture.

    ``DmsynthError`` for a file that is missing, empty, no video, or holds frames of more than ``MOST_PIXELS``.
    """
    if not path.is_file():
        raise DmsynthError(f"{path}: no such video; check the path")
    if path.stat().st_size == 0:
        raise DmsynthError(f"{path}: the file is empty (0 bytes); record or copy it again")
    limits = {"format_whitelist": _FORMATS, "protocol_whitelist": "file", "max_pixels": str(MOST_PIXELS)}
    try:
        container = av.open(as_file(path), options=limits)
    except (av.error.FFmpegError, ValueError) as error:
        unknown = isinstance(error, av.error.ArgumentError)  # FFmpeg's error for a format that is not on the whitelist
        reason = "no format that holds video" if unknown else getattr(error, "strerror", None) or error
        raise DmsynthError(
            f"{path}: not a readable video ({reason}); give a video file such as .mp4, .mkv or .avi"
        ) from None
    streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    known = [s for s in streams if s.codec_context is not None]
    if not known:
        container.close()
        which = "no video stream that can be decoded" if streams else "no video stream"
        raise DmsynthError(f"{path}: holds {which}; give a video file such as .mp4, .mkv or .avi")
    streams = known
    stream = streams[0]
    try:
        _check_size(str(path), stream.width, stream.height, float(stream.sample_aspect_ratio or 1))
    except DmsynthError:
        container.close()
        raise
    if len(streams) > 1:
        sizes = ", ".join(f"{each.width}×{each.height}" for each in streams)
        how = f"ffmpeg -i {path.name} -map 0:v:1 -c copy second.mkv"
        _say_once(f"{path}: holds {len(streams)} video streams ({sizes}); the first is read; to read the second: {how}")
    stream.codec_context.options = {"max_pixels": str(MOST_PIXELS)}  # the frame size may change within a stream
    return container, stream


@lru_cache(maxsize=256)
def _say_once(note: str) -> None:
    """Print a note once, although a video is opened several times."""
    console.print(note, style="yellow")


def as_file(path: Path) -> str:
    """A path for FFmpeg, which otherwise takes ``2024-11-14T22:57.mp4`` for a URL."""
    return f"file:{path}"


def _check_size(where: str, width: int, height: int, aspect: float) -> None:
    if width * max(1.0, aspect) * height > MOST_PIXELS:
        raise DmsynthError(f"{where}: has frames of more than {MOST_PIXELS // 10**6} million pixels; make it smaller")


def probe_video(path: Path) -> VideoInfo:
    """Read a video's header. ``DmsynthError`` for a missing, empty or unreadable file.

    Width and height are those of the frames that ``read_video`` yields, rotation metadata applied.
    """
    if path.is_dir():
        frames = len(pictures_in(path))
        return VideoInfo(*picture_size(path, MOST_PIXELS), frames, FRAME_RATE, frames / FRAME_RATE)
    container, stream = open_video(path)
    with container:
        rate = float(stream.average_rate or stream.guessed_rate or 25)
        seconds = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
        if not seconds and container.duration:
            seconds = container.duration / av.time_base
        first, _ = next(decode(path, container, stream))
        bits = _grey_bits(first)
        height, width = _upright(first, stream, Orientation.of_frame(first), True, bits, str(path)).shape[:2]
        return VideoInfo(width, height, stream.frames or round(seconds * rate), rate, seconds)


def read_video(
    path: Path, grey: bool = False, damaged: bool = False, frame_rate: float = FRAME_RATE
) -> Iterator[Frame]:
    """Decode a video, or a folder of pictures, one frame at a time; memory does not grow with its length.

    Rotation metadata (a phone held upright, a mirrored selfie) is applied, high dynamic range is tone-mapped to
    standard range, grey of more than 8 bits is mapped by one rule for the whole recording, and times come from the
    file's time stamps, so variable frame rates are kept. Yields ``Frame`` with
    (h, w) uint8 if ``grey`` else (h, w, 3) RGB uint8.

    Args:
        damaged: also yield damaged frames, marked as such; else the first of them raises an error.
        frame_rate: pictures a second, where ``path`` is a folder of them.

    Raises:
        DmsynthError: the file is damaged or truncated; names file and frame.
    """
    if path.is_dir():
        for index, picture in enumerate(read_pictures(path, MOST_PIXELS)):
            yield Frame(index, index / frame_rate, to_grey(picture) if grey else to_rgb(picture))
        return
    container, stream = open_video(path)
    with container:
        stream.thread_type = "AUTO"
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        start: float | None = None
        before = 0.0
        bits: int | None = None
        orientation: Orientation | None = None
        for index, (decoded, patched) in enumerate(decode(path, container, stream, damaged)):
            time = decoded.time if decoded.time is not None else float(index / rate)
            start = time if start is None else start
            if index and time <= before:  # time stamps that jump back or repeat
                start -= before - time + float(1 / rate)
            before = time
            bits = _bits(path, decoded) if bits is None else bits
            orientation = orientation or Orientation.of_frame(decoded)
            image = _upright(decoded, stream, orientation, grey, bits, str(path))
            yield Frame(index, time - start, image, patched)


def check_crop(path: Path, info: VideoInfo, crop: tuple[int, int, int, int]) -> None:
    """Raise ``DmsynthError`` unless the crop (left, top, width, height in pixels) lies inside the upright video."""
    left, top, width, height = crop
    if min(left, top) < 0 or min(width, height) < 1 or left + width > info.width or top + height > info.height:
        raise DmsynthError(
            f"{path}: the crop {left},{top},{width},{height} leaves the frame of {info.width}×{info.height}; "
            "give left,top,width,height inside it"
        )


def read_metadata(path: Path) -> dict[str, str]:
    """A video's metadata: title, comment and the like, names in lower case. ``DmsynthError`` if it is no video."""
    container, _ = open_video(path)
    with container:
        return {name.lower(): value for name, value in container.metadata.items()}


def check_whole(path: Path, pictures: bool = False) -> None:
    """Raise ``DmsynthError`` if a file is no video or is truncated, or a folder holds a damaged picture. Reads the
    whole file, but decodes a video only if ``pictures`` are to be checked, too."""
    if path.is_dir():
        check_pictures(path, MOST_PIXELS)
        return
    container, stream = open_video(path)
    with container:
        if pictures:
            stream.thread_type = "AUTO"
            for _ in decode(path, container, stream):
                pass
            return
        read = _Read()
        try:
            for packet in container.demux():
                read.count(packet, stream)
        except av.error.FFmpegError as error:
            raise DmsynthError(f"{path}: damaged ({error.strerror}); copy or record it again") from None
        _check_end(path, container, stream, read)


@dataclass
class _Read:
    """How far a file was read: video packets, including empty ones (dropped frames), and the end of the video stream
    and of the longest stream, in seconds."""

    packets: int = 0
    end: float = 0.0
    last: float = 0.0

    def count(self, packet: av.Packet, stream: av.VideoStream) -> None:
        if packet.dts is None and packet.pts is None:
            return
        stamp = packet.pts if packet.pts is not None else packet.dts
        end = float(((stamp or 0) + (packet.duration or 0)) * (packet.time_base or 0))
        self.last = max(self.last, end)
        if packet.stream is stream:
            self.packets += 1
            self.end = max(self.end, end)


def _check_end(path: Path, container: av.container.InputContainer, stream: av.VideoStream, read: _Read) -> None:
    """Raise if the header states a longer *duration*.

    The frame count cannot be compared: the header also counts frames that an edit list leaves out, and dropped frames.
    """
    if stream.duration and stream.time_base:
        if stream.frames and read.packets >= stream.frames:
            return
        promised = float(stream.duration * stream.time_base)
        end = read.end - float((stream.start_time or 0) * stream.time_base)
        allowed = _MISSING_FRAMES_ALLOWED / float(stream.average_rate or 25)
    else:
        promised, end, allowed = (container.duration or 0) / av.time_base, read.last, _MISSING_SECONDS_ALLOWED
    if promised - end > allowed:
        raise DmsynthError(
            f"{path}: ends after frame {read.packets - 1}, at {end:.1f} of {promised:.1f} s: the file is truncated; "
            "copy it again"
        )


def decode(
    path: Path, container: av.container.InputContainer, stream: av.VideoStream, damaged: bool = False
) -> Iterator[tuple[av.VideoFrame, bool]]:
    """The frames of ``open_video`` as stored, and whether each is damaged.

    Raises ``DmsynthError`` naming file and frame for a file that holds no frame or is truncated. At the first missing
    data, raises unless ``damaged``, else continues after it.
    """
    done, read, damage = 0, _Read(), _Damage()
    try:
        for packet in container.demux():
            read.count(packet, stream)
            if packet.stream is not stream:
                continue
            if _is_broken(packet, stream):
                damage.note(packet)
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                if not (damaged and done):
                    raise
                damage.note(packet)
                continue
            for frame in frames:
                if isinstance(frame, av.VideoFrame):
                    patched = damage.affects(frame)
                    if patched and not damaged:
                        raise DmsynthError(
                            f"{path}: damaged at frame {done}, {frame.time or 0:.1f} s: a part of the picture is "
                            "missing; copy or record it again"
                        )
                    yield frame, patched
                    done += 1
    except av.error.FFmpegError as error:
        what = f"damaged after frame {done - 1}" if done else "holds no frame that can be decoded"
        if isinstance(error, av.error.ArgumentError):  # FFmpeg's error for a frame that is too large
            what = f"damaged after frame {done - 1}, or of more than {MOST_PIXELS // 10**6} million pixels"
        raise DmsynthError(f"{path}: {what} ({error.strerror}); copy or record it again") from None
    if not done:
        raise DmsynthError(f"{path}: holds no frame that can be decoded; record or copy it again")
    _check_end(path, container, stream, read)


@dataclass
class _Damage:
    """From which packet on frames are damaged, and until when: frames are predicted from earlier ones, up to the next
    key frame."""

    since: int | None = None
    at: int = 0

    def note(self, packet: av.Packet) -> None:
        stamps = [stamp for stamp in (packet.dts, packet.pts) if stamp is not None] or [0]
        self.since = min(stamps) if self.since is None else self.since
        self.at = max(stamps)

    def affects(self, frame: av.VideoFrame) -> bool:
        """Whether this frame is damaged, as far as can be known."""
        if self.since is None or frame.pts is None:
            return frame.is_corrupt or self.since is not None
        if frame.key_frame and frame.pts > self.at and not frame.is_corrupt:
            self.since = None
            return False
        return frame.is_corrupt or frame.pts >= self.since


def _is_broken(packet: av.Packet, stream: av.VideoStream) -> bool:
    """Whether a part of a packet is missing; decoders often do not notice.

    H.264 and HEVC never contain three zero bytes in a row, nor does anything else in an MP4 or Matroska packet: a run
    of zeros is left by a lost sector, unless it is short and the packet's end.
    """
    codec = stream.codec_context
    if packet.is_corrupt or codec.name not in ("h264", "hevc") or bytes(codec.extradata or b"")[:1] != b"\1":
        return bool(packet.is_corrupt)
    content = bytes(packet)
    end = content.rstrip(b"\0")
    return (end if len(content) - len(end) <= _PADDING else content).find(_LOST_DATA) >= 0


def _grey_bits(frame: av.VideoFrame) -> int:
    """Bits of a grey pixel, if more than 8; 0 for all other formats."""
    components = frame.format.components
    bits = int(components[0].bits)
    return bits if len(components) == 1 and frame.format.name.startswith("gray") and 8 < bits <= 16 else 0


def _grey_values(frame: av.VideoFrame) -> NDArray[np.uint16]:
    """(h, w) uint16 as stored."""
    return frame.to_ndarray(format=f"gray{_grey_bits(frame)}le")


def _bits(path: Path, first: av.VideoFrame) -> int:
    """Bits used by a recording whose frames are grey of more than 8 bits: 8 to 16, by all of its frames. 0 for other
    formats."""
    if not _grey_bits(first):
        return 0
    container, stream = open_video(path)
    with container:
        stream.thread_type = "AUTO"
        frames = (frame for frame, _ in decode(path, container, stream, damaged=True))
        return bits_used((_grey_values(frame) for frame in frames if _grey_bits(frame)), _grey_bits(first))


def depth_of(values: NDArray[np.generic]) -> int:
    """Bit depth of a camera that wrote ``values`` (h, w) of up to 16 bits: 8, 10, 12, 14 or 16."""
    needed = int(values.max(initial=0)).bit_length()
    return next(depth for depth in (8, 10, 12, 14, 16) if depth >= min(needed, 16))


def _upright(
    frame: av.VideoFrame, stream: av.VideoStream, orientation: Orientation, grey: bool, bits: int, where: str
) -> Image:
    """The frame as displayed: standard dynamic range, transparent parts on white, square pixels, upright."""
    aspect = float(stream.sample_aspect_ratio or 1)
    _check_size(where, frame.width, frame.height, aspect)  # it may be larger than the first
    if _grey_bits(frame):
        image = to_8_bits(_grey_values(frame), bits or _grey_bits(frame))
        image = image if grey else cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    elif frame.color_trc in (_PQ, _HLG):
        image = to_ordinary_range(frame.to_ndarray(format="rgb48le"), pq=frame.color_trc == _PQ)
        image = to_grey(image) if grey else image
    elif _has_alpha(frame.format.name):
        image = on_white(frame.to_ndarray(format="rgba"))
        image = to_grey(image) if grey else image
    else:
        image = frame.to_ndarray(format="gray" if grey else "rgb24")
    if abs(aspect - 1) > 1e-3:
        image = cv2.resize(
            image, (max(1, round(image.shape[1] * aspect)), image.shape[0]), interpolation=cv2.INTER_LINEAR
        )
    return orientation.upright(image)


@lru_cache
def _has_alpha(pixel_format: str) -> bool:
    return any(component.is_alpha for component in av.VideoFormat(pixel_format).components)


def on_white(image: NDArray[np.uint8]) -> Image:
    """(h, w, 4) RGBA composited on white, as viewers show it: (h, w, 3)."""
    alpha = image[..., 3:].astype(np.uint16)
    return ((image[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


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
    """Scale to cover width × height and crop the excess equally on both sides; the aspect ratio is kept."""
    cut = cut_to_shape(image, width / height)
    shrinks = cut.shape[1] > width
    return cv2.resize(cut, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def cut_to_shape(image: Image, aspect: float) -> Image:
    """The largest centre crop of an image with width / height = ``aspect``. A view, not a copy."""
    height, width = image.shape[:2]
    cut_width, cut_height = min(width, round(height * aspect)), min(height, round(width / aspect))
    left, top = (width - cut_width) // 2, (height - cut_height) // 2
    return image[top : top + cut_height, left : left + cut_width]


class VideoWriter:
    """Write H.264 (yuv420p, index at the front) that browsers play; the file appears when it is complete.

    Use as a context manager. Frames are grey or RGB uint8 of one size; an odd width or height loses its last
    column or row, because yuv420p needs even sides. Of ``metadata``, .mp4 keeps only fields of its format: title,
    comment, description and the like. ``compression``: H.264's CRF, 0 (lossless) to 51, of x264's preset ``veryfast``.
    ``repeatable``: equal frames give equal bytes: in one thread, and without B-frames, with which x264 was seen to
    decide now so, now so. ``noisy``: frames have a sensor's noise, in which ``veryfast`` looks for motion in vain; a
    quicker search leaves as much of the picture in a third of the time, in a larger file if there is little noise.
    """

    def __init__(
        self,
        path: Path,
        width: int,
        height: int,
        frame_rate: float,
        metadata: Mapping[str, str] | None = None,
        compression: int = COMPRESSION,
        repeatable: bool = False,
        noisy: bool = False,
    ) -> None:
        if path.suffix.lower() not in (".mp4", ".mkv", ".mov"):
            raise DmsynthError(f"{path}: a video is written as .mp4, .mkv or .mov; change the name's ending")
        self.path = path
        self._temporary = temporary_beside(path)
        self._width, self._height = width // 2 * 2, height // 2 * 2
        options = {} if path.suffix.lower() == ".mkv" else {"movflags": "+faststart"}
        self._container = av.open(as_file(self._temporary), mode="w", options=options)
        self._container.metadata.update(metadata or {})
        self._rate, self._next = Fraction(frame_rate).limit_denominator(1001), 0
        self._stream = self._container.add_stream("libx264", rate=self._rate)
        self._stream.width, self._stream.height = self._width, self._height
        self._stream.pix_fmt = "yuv420p"
        self._stream.options = {"crf": str(compression), "preset": "veryfast"}
        if noisy:
            crf = min(compression + _QUICK, 51) if compression else 0
            self._stream.options = {"crf": str(crf), "preset": "ultrafast", "x264-params": "cabac=1:no-deblock=0"}
        if repeatable:
            self._stream.codec_context.thread_count = 1
            self._stream.options |= {"bf": "0"}

    def write(self, image: Image, time: float | None = None) -> None:
        """Append one frame: one step of the frame rate after the one before, or at ``time`` in seconds, rounded to such
        a step."""
        pixels = np.ascontiguousarray(image[: self._height, : self._width])
        frame = av.VideoFrame.from_ndarray(pixels, format="gray" if image.ndim == 2 else "rgb24")
        if time is not None:
            frame.pts = self._next = max(self._next, round(time * self._rate))
            frame.time_base = 1 / self._rate
            self._next += 1
        self._encode(frame)

    def _encode(self, frame: av.VideoFrame | None) -> None:
        """Encode a frame; None flushes the encoder."""
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
