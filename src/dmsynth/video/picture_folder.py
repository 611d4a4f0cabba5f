"""A recording as a folder of numbered pictures, as DMS cameras and their loggers write it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
from numpy.typing import NDArray

from dmsynth.support.errors import DmsynthError
from dmsynth.video.deep_grey import Values, bits_used, to_8_bits

FRAME_RATE = 30.0
"""Pictures a second, unless told otherwise: a picture does not say when it was taken."""
_KINDS = (".png", ".tif", ".tiff", ".pgm", ".ppm", ".bmp", ".jpg", ".jpeg")


def pictures_in(folder: Path) -> list[Path]:
    """The pictures in a folder, in the order of the numbers in their names: 9.png before 10.png.

    ``DmsynthError`` if there are none.
    """
    found = [path for path in folder.iterdir() if path.suffix.lower() in _KINDS and not path.name.startswith(".")]
    if not found:
        raise DmsynthError(f"{folder}: holds no pictures; give a video, or a folder of numbered {', '.join(_KINDS)}")
    return sorted(found, key=lambda path: [int(part) if part.isdigit() else part for part in _parts(path.stem)])


def _parts(name: str) -> list[str]:
    """A name as text, digits, text, … in turn, so that equal places compare."""
    return re.split(r"([0-9]+)", name)


def picture_size(folder: Path, most_pixels: int) -> tuple[int, int]:
    """Width and height of the first picture. Raises as ``read_pictures``."""
    height, width = _read(pictures_in(folder)[0], most_pixels).shape[:2]
    return width, height


def check_pictures(folder: Path, most_pixels: int) -> int:
    """Look at every picture once, and say how many bits they use: 8 to 16.

    Raises:
        DmsynthError: a picture that is damaged, or of another size than the first, or of more than ``most_pixels``.
    """
    paths = pictures_in(folder)
    return _looked_at(tuple((path, path.stat().st_mtime_ns) for path in paths), most_pixels)


@lru_cache(maxsize=16)
def _looked_at(pictures: tuple[tuple[Path, int], ...], most_pixels: int) -> int:
    """``check_pictures``, once for pictures of the same times: an import checks them, and then reads them."""
    first = _read(pictures[0][0], most_pixels)

    def all_alike() -> Iterator[Values]:
        for path, _ in pictures:
            values = _read(path, most_pixels)
            if values.shape != first.shape or values.dtype != first.dtype:
                said = f"{path}: is {_said(values)}, {pictures[0][0].name} is {_said(first)}"
                raise DmsynthError(f"{said}; a recording's pictures are all alike")
            yield values

    return bits_used(all_alike(), 8 * first.itemsize)


def read_pictures(folder: Path, most_pixels: int) -> Iterator[NDArray[np.uint8]]:
    """Each picture as (h, w) grey or (h, w, 3) RGB uint8; 16 bits by one rule for all (``bits_used``).

    Raises as ``check_pictures``, which it calls first.
    """
    bits = check_pictures(folder, most_pixels)
    for path in pictures_in(folder):
        yield to_8_bits(_read(path, most_pixels), bits)


def _said(values: Values) -> str:
    kind = "grey" if values.ndim == 2 else "in colour"
    return f"{values.shape[1]}×{values.shape[0]} {kind} of {8 * values.itemsize} bits"


def _read(path: Path, most_pixels: int) -> Values:
    """(h, w) or (h, w, 3) RGB, uint8 or uint16, as stored."""
    try:
        with PIL.Image.open(path) as picture:  # its header only: a small file can decompress to gigabytes
            pixels = picture.width * picture.height
        if pixels > most_pixels:
            raise DmsynthError(f"{path}: has more than {most_pixels // 10**6} million pixels; make it smaller")
        content = np.fromfile(path, dtype=np.uint8)
        values = cv2.imdecode(content, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR)
    except (OSError, cv2.error, PIL.Image.DecompressionBombError):
        values = None
    if values is None or values.dtype not in (np.uint8, np.uint16):
        raise DmsynthError(f"{path}: a damaged picture, or of no kind that is read here; copy it again or remove it")
    upright: Values = values if values.ndim == 2 else np.ascontiguousarray(values[..., ::-1])
    return upright
