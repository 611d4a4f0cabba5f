"""Source frames as a face file holds them: all in one PNG, without loss, or large ones in a WebP each."""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from dmsynth.support.parallel import map_ordered
from dmsynth.video import Image

CODED = ("sources", "sources.ends")
"""The tensors of ``coded``."""
_WEBP_QUALITY = 92  # 42 dB: 35 kB of a frame of 640×480
_MOST_SOURCE_BYTES = 2**29


@dataclass(frozen=True)
class CodedFrames:
    """Source frames and what a face file holds of them: coded anew they would lose a little each time."""

    frames: NDArray[np.uint8]
    tensors: dict[str, torch.Tensor]


def packed(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images (s, h, w) or (s, h, w, 3) as the bytes of one PNG."""
    return cv2.imencode(".png", np.concatenate(list(images)))[1].ravel()


def coded(images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """Images (s, h, w) or (s, h, w, 3) as bytes of one WebP each, and where each ends."""

    def code(image: Image) -> bytes:
        bgr = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR if image.ndim == 2 else cv2.COLOR_RGB2BGR)
        return cv2.imencode(".webp", bgr, [cv2.IMWRITE_WEBP_QUALITY, _WEBP_QUALITY])[1].tobytes()

    parts = list(map_ordered(code, images))
    ends = np.cumsum([len(each) for each in parts], dtype=np.int64)
    return dict(zip(CODED, (np.frombuffer(b"".join(parts), np.uint8).copy(), ends), strict=True))


def decoded(content: NDArray[np.uint8], ends: torch.Tensor | None, one: tuple[int, ...]) -> NDArray[np.uint8]:
    """The inverse of ``coded`` for frames of the shape ``one``. ``ValueError`` if it is none; sizes are looked at
    before anything is made."""
    if ends is None or ends.dtype != torch.int64 or ends.ndim != 1 or not len(ends) or content.ndim != 1:
        raise ValueError("its source frames are not what was written")
    bounds = np.concatenate([[0], ends.numpy()])
    if (np.diff(bounds) <= 0).any() or bounds[-1] != len(content):
        raise ValueError("its source frames are not what was written")
    if len(ends) * int(np.prod(one)) > _MOST_SOURCE_BYTES:
        raise ValueError("it has too many source frames")

    def decode(part: tuple[int, int]) -> Image:
        webp = content[slice(*part)]
        if _webp_size(webp[:30].tobytes()) != (one[1], one[0]):
            raise ValueError("its source frames are no pictures of their size")
        image = cv2.imdecode(webp, cv2.IMREAD_COLOR)
        if image is None or image.shape[:2] != one[:2]:
            raise ValueError("its source frames cannot be read")
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY if len(one) == 2 else cv2.COLOR_BGR2RGB), np.uint8)

    return np.stack(list(map_ordered(decode, itertools.pairwise(bounds.tolist()))))


def _webp_size(start: bytes) -> tuple[int, int] | None:
    """Width and height that a lossy WebP of one frame says it has (RFC 9649, 2.5; RFC 6386, 9.1); None if it is
    none."""
    if len(start) < 30 or start[:4] != b"RIFF" or start[8:16] != b"WEBPVP8 " or start[23:26] != b"\x9d\x01\x2a":
        return None
    width, height = struct.unpack("<HH", start[26:30])
    return width & 0x3FFF, height & 0x3FFF


def unpacked(png: NDArray[np.uint8], one: tuple[int, ...]) -> NDArray[np.uint8]:
    """The inverse of ``packed`` for frames of the shape ``one``. ``ValueError`` if it is none; its size is looked at
    before it is made."""
    start = png[:24].tobytes() if png.ndim == 1 else b""
    is_png = len(start) == 24 and start.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", start[16:]) if is_png else (0, 0)
    if width != one[1] or height == 0 or height % one[0] or height * width * len(one) > _MOST_SOURCE_BYTES:
        raise ValueError("its source frames are no picture of its size")
    stacked = cv2.imdecode(png, cv2.IMREAD_UNCHANGED)
    if stacked is None or stacked.dtype != np.uint8 or stacked.shape != (height, *one[1:]):
        raise ValueError("its source frames cannot be read")
    return stacked.reshape(-1, *one)
