"""Where frames are played to: one function and one entry of ``SINKS`` each.

A sink is opened from an address and the frames' size and rate. It prepares a frame ahead of its time and returns what
shows it; what prepares may take most of a frame's time, what shows should take none.
"""

from __future__ import annotations

import os
import queue
import re
import select
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np

from dmsynth.support.errors import DmsynthError
from dmsynth.video import Image, to_rgb

_TICKS = 90_000  # a second: MPEG's clock
_PATIENCE = 10.0  # seconds in which a reader has to take something
_PIPE = 2**20  # bytes of a pipe's buffer: the most that Linux allows everybody
_COMPRESSION = 18  # of a stream, H.264's CRF
_LOAD = "load one: modprobe v4l2loopback exclusive_caps=1; ls /dev/video* names it"

Show = Callable[[], None]


class Sink(Protocol):
    def prepare(self, image: Image, time: float) -> Show:
        """What shows a frame, (h, w) or (h, w, 3) uint8, that is due ``time`` seconds after the play's beginning.

        ``OSError`` from it: whoever takes the frames takes no more.
        """
        ...

    def close(self) -> None: ...


Opener = Callable[[str, tuple[int, int], float], Sink]


def open_sink(address: str, size: tuple[int, int], rate: float) -> Sink:
    """The sink of an address, for frames of ``size`` (width, height) at ``rate`` a second.

    Raises:
        DmsynthError: no such kind of address; a display, a device or a receiver that is not there; a missing package.
    """
    return _opener(address)(address, size, rate)


def check_sink(address: str) -> None:
    """``DmsynthError`` if it is known before there are frames that an address cannot be opened. Receivers of streams
    are not asked: many take one connection only."""
    check = _CHECKS.get(_opener(address))
    if check:
        check(address)


def _opener(address: str) -> Opener:
    for pattern, (opens, _) in SINKS.items():
        if re.fullmatch(pattern, address):
            return opens
    known = ", ".join(about for _, about in SINKS.values())
    raise DmsynthError(f"--to {address}: frames cannot be played there; give {known}")


class Nowhere:
    """Takes frames and shows them to nobody: to measure how well a machine keeps time."""

    def prepare(self, image: Image, time: float) -> Show:
        return lambda: None

    def close(self) -> None:
        pass


class Pipe:
    """Raw RGB, 8 bits a channel, on a file descriptor, without any header."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._blocks = os.get_blocking(handle)
        os.set_blocking(handle, False)
        with suppress(ImportError, AttributeError, OSError):  # no pipe, or not on Linux
            import fcntl

            fcntl.fcntl(handle, fcntl.F_SETPIPE_SZ, _PIPE)

    def prepare(self, image: Image, time: float) -> Show:
        content = np.ascontiguousarray(to_rgb(image)).data.cast("B")
        return lambda: self._write(content)

    def _write(self, content: memoryview) -> None:
        while content:
            if not select.select([], [self._handle], [], _PATIENCE)[1]:
                raise TimeoutError(None, f"the reader took nothing for {_PATIENCE:g} s", "standard output")
            try:
                content = content[os.write(self._handle, content) :]
            except BlockingIOError:  # less room than a write needs
                continue
            except BrokenPipeError:
                raise BrokenPipeError(None, "its reader has ended", "standard output") from None

    def close(self) -> None:
        os.set_blocking(self._handle, self._blocks)  # others may share it


class Encoded:
    """Frames through FFmpeg: H.264 over a network, without delay, or pictures for a video device.

    FFmpeg waits for a receiver that takes nothing, by RTSP for ever. So it sends in a thread of its own, which is given
    up after ``_PATIENCE``.

    Args:
        where: an address or a device, as FFmpeg opens it; ``container`` is FFmpeg's name of the format.
        codec: ``libx264`` or ``rawvideo``.
    """

    def __init__(self, where: str, container: str, codec: str, size: tuple[int, int], rate: float) -> None:
        self._where = where
        wait = str(round(_PATIENCE * 1e6))  # µs, for a server that does not answer
        options = {"rtsp_transport": "tcp", "timeout": wait} if where.startswith("rtsp:") else {}
        self._container = av.open(where, "w", format=container, options=options)
        stream = self._container.add_stream(codec, rate=Fraction(rate).limit_denominator(1001))
        stream.width, stream.height = size[0] // 2 * 2, size[1] // 2 * 2  # colour is stored at half the size
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, _TICKS)
        if codec == "libx264":  # a key frame each second, so that receivers may come later
            stream.options = {"crf": str(_COMPRESSION), "preset": "ultrafast", "tune": "zerolatency"}
            stream.codec_context.gop_size = max(1, round(rate))
        self._stream: Any = stream
        self._container.start_encoding()
        self._stuck = False
        self._asked: queue.SimpleQueue[tuple[Callable[[], None], Future[None]] | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, daemon=True).start()  # a daemon: one that waits does not keep the program

    def prepare(self, image: Image, time: float) -> Show:
        pixels = np.ascontiguousarray(image[: self._stream.height, : self._stream.width])
        frame = av.VideoFrame.from_ndarray(pixels, format="gray" if image.ndim == 2 else "rgb24")
        frame.pts, frame.time_base = round(time * _TICKS), Fraction(1, _TICKS)
        packets = self._stream.encode(frame)
        return lambda: self._send(packets)

    def _send(self, packets: list[Any]) -> None:
        self._within_patience(lambda: self._container.mux(packets))

    def _within_patience(self, work: Callable[[], None]) -> None:
        """Have the thread do it. ``OSError``: it failed, or the receiver took nothing."""
        done: Future[None] = Future()
        self._asked.put((work, done))
        try:
            done.result(_PATIENCE)
        except av.error.FFmpegError as error:  # its own TimeoutError, too
            raise OSError(error.errno, error.strerror, self._where) from None
        except TimeoutError:
            self._stuck = True  # FFmpeg cannot be stopped
            raise TimeoutError(None, f"the receiver took nothing for {_PATIENCE:g} s", self._where) from None

    def _work(self) -> None:
        while asked := self._asked.get():
            work, done = asked
            try:
                done.set_result(work())
            except Exception as error:
                done.set_exception(error)

    def close(self) -> None:
        if self._stuck:
            return
        with suppress(OSError):  # whoever is gone needs no end
            self._within_patience(lambda: self._container.mux(self._stream.encode(None)))
        with suppress(OSError):
            self._within_patience(self._container.close)
        self._asked.put(None)


class Screen:
    """A full screen, by SDL: each frame at the next refresh, scaled to fit. Escape ends the play."""

    def __init__(self, pygame: Any, number: int, size: tuple[int, int]) -> None:
        self._pygame = pygame
        flags = pygame.FULLSCREEN | pygame.SCALED
        self._surface = pygame.display.set_mode(size, flags, display=number, vsync=1)
        pygame.mouse.set_visible(False)

    def prepare(self, image: Image, time: float) -> Show:
        height, width = image.shape[:2]
        pixels = np.ascontiguousarray(to_rgb(image))
        self._surface.blit(self._pygame.image.frombuffer(pixels, (width, height), "RGB"), (0, 0))
        return self._flip

    def _flip(self) -> None:
        self._pygame.display.flip()
        for event in self._pygame.event.get():
            if event.type == self._pygame.QUIT or getattr(event, "key", None) == self._pygame.K_ESCAPE:
                raise KeyboardInterrupt

    def close(self) -> None:
        self._pygame.display.quit()


def _nowhere(address: str, size: tuple[int, int], rate: float) -> Sink:
    return Nowhere()


def _no_terminal(address: str) -> None:
    if sys.stdout.isatty():
        raise DmsynthError("--to -: standard output is a terminal, which shows no raw frames; pipe it into a program")


def _standard_output(address: str, size: tuple[int, int], rate: float) -> Sink:
    _no_terminal(address)
    return Pipe(sys.stdout.fileno())


def _stream(address: str, size: tuple[int, int], rate: float) -> Sink:
    whole = "pkt_size=1316"  # whole MPEG packets in each datagram
    where = f"{address}{'&' if '?' in address else '?'}{whole}" if address.startswith("udp:") else address
    try:
        return Encoded(where, "rtsp" if address.startswith("rtsp:") else "mpegts", "libx264", size, rate)
    except (av.error.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DmsynthError(
            f"--to {address}: cannot be opened ({reason}); check host and port, and that its receiver runs"
        ) from None


def _is_there(address: str) -> None:
    if not Path(address).exists():
        raise DmsynthError(f"--to {address}: no such virtual camera; {_LOAD}")


def _device(address: str, size: tuple[int, int], rate: float) -> Sink:
    _is_there(address)
    try:
        return Encoded(address, "v4l2", "rawvideo", size, rate)
    except (av.error.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DmsynthError(f"--to {address}: is no virtual camera that takes frames ({reason}); {_LOAD}") from None


def _display(address: str) -> tuple[Any, int]:
    """The module pygame, its display begun, and the display's number."""
    number = int(address.partition(":")[2] or 0)
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    os.environ.setdefault("PYGAME_FORCE_SCALE", "photo")  # smooth, to the whole height or width
    try:
        import pygame
    except ModuleNotFoundError:
        raise DmsynthError(f"--to {address}: needs the package pygame-ce; pip install 'dmsynth[screen]'") from None
    try:
        pygame.display.init()
        there = pygame.display.get_num_displays()
        if number >= there:
            raise DmsynthError(f"--to {address}: there is no display {number}; give screen:0 to screen:{there - 1}")
    except pygame.error as error:
        raise DmsynthError(f"--to {address}: no display can be opened ({error}); start it on the desktop") from None
    return pygame, number


def _display_is_there(address: str) -> None:
    pygame, _ = _display(address)
    pygame.display.quit()  # rendering may take long


def _screen(address: str, size: tuple[int, int], rate: float) -> Sink:
    pygame, number = _display(address)
    try:
        return Screen(pygame, number, size)
    except pygame.error as error:
        raise DmsynthError(f"--to {address}: no display can be opened ({error}); start it on the desktop") from None


_CHECKS: dict[Opener, Callable[[str], None]] = {
    _screen: _display_is_there, _device: _is_there, _standard_output: _no_terminal,
}  # fmt: skip
SINKS: dict[str, tuple[Opener, str]] = {
    r"screen(:\d{1,2})?": (_screen, "screen or screen:1 (a display, whole)"),
    r"/dev/\S+": (_device, "/dev/video2 (a virtual camera)"),
    r"(udp|tcp|rtsp)://\S+": (_stream, "udp://HOST:PORT, tcp:// or rtsp:// (a stream)"),
    r"-": (_standard_output, "- (raw RGB on standard output)"),
    r"none": (_nowhere, "none (nowhere, to measure the pace)"),
}
"""Kinds of addresses, as regular expressions: what opens one, and how it is called in messages."""
