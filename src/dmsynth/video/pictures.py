"""Read still pictures: the format is detected by content, not by name; the result is upright."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps
from numpy.typing import NDArray

from dmsynth.support.errors import DmsynthError
from dmsynth.video import Image, depth_of, to_grey

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "PPM", "GIF", "AVIF", "HEIF")
_MOST_PIXELS = 64_000_000  # a small file can decompress to gigabytes
_MOST_OF_A_CAMERA = 1920 * 1080
_UNDER = (255, 255, 255)  # background for transparent parts


def is_picture(path: Path) -> bool:
    """Whether a file is a still picture, by its content. An animated picture, such as a GIF, counts as video."""
    try:
        with _opened(path) as picture:
            return getattr(picture, "n_frames", 1) == 1 or picture.format not in ("GIF", "WEBP", "PNG", "AVIF")
    except PIL.Image.DecompressionBombError:
        return True
    except Exception:  # Pillow's decoders raise many types
        return False


def read_image(path: Path, grey: bool = False) -> Image:
    """Read a picture as RGB (h, w, 3), or grey (h, w), uint8: rotated according to EXIF, transparent parts on white.

    ``DmsynthError`` if it is no picture, is damaged, or has more than ``_MOST_PIXELS``.
    """
    if not path.is_file():
        raise DmsynthError(f"{path}: no such picture; check the path")
    try:
        with _opened(path) as picture:
            if picture.width * picture.height > _MOST_PIXELS:
                raise PIL.Image.DecompressionBombError
            image = _as_rgb(PIL.ImageOps.exif_transpose(picture))
    except PIL.Image.DecompressionBombError:
        raise DmsynthError(f"{path}: has more than {_MOST_PIXELS // 10**6} million pixels; make it smaller") from None
    except Exception as error:  # Pillow's decoders raise many types
        known = is_picture(path)
        raise DmsynthError(
            f"{path}: a damaged picture ({error}); copy it again"
            if known
            else f"{path}: not a readable picture; give a .png, .jpg or .heic file"
        ) from None
    return to_grey(image) if grey else image


def camera_frame(content: bytes) -> Image:
    """A frame (h, w, 3) RGB uint8 from the bytes of a JPEG or WebP picture, as a browser's camera gives it.

    ``DmsynthError`` if it is damaged or has more than ``_MOST_OF_A_CAMERA`` pixels.
    """
    try:
        with PIL.Image.open(io.BytesIO(content), formats=("JPEG", "WEBP")) as picture:
            if picture.width * picture.height > _MOST_OF_A_CAMERA:
                raise ValueError(f"{picture.width}×{picture.height} pixels are too many")
            return np.asarray(picture.convert("RGB"))
    except Exception as error:  # Pillow's decoders raise many types
        told = "no JPEG or WebP" if isinstance(error, PIL.UnidentifiedImageError) else str(error)
        raise DmsynthError(f"this frame is damaged ({told}); it is left out") from None


def _opened(path: Path) -> PIL.Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about its size, which is checked here, and about irrelevant tags
        return PIL.Image.open(path, formats=_known())


def _known() -> list[str]:
    """The supported formats; HEIF if its plugin is installed."""
    try:
        import pi_heif
    except ModuleNotFoundError:
        return [name for name in _FORMATS if name != "HEIF"]
    pi_heif.register_heif_opener()
    return list(_FORMATS)


def _as_rgb(picture: PIL.Image.Image) -> Image:
    """(h, w, 3) uint8 of a picture in any of Pillow's modes."""
    if picture.mode in ("I;16", "I;16L", "I;16B", "I", "F"):
        return np.repeat(_of_16_bits(np.asarray(picture))[..., None], 3, axis=2)
    if picture.has_transparency_data:
        shown = PIL.Image.new("RGBA", picture.size, (*_UNDER, 255))
        picture = PIL.Image.alpha_composite(shown, picture.convert("RGBA"))
    return np.asarray(picture.convert("RGB"))


def _of_16_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Grey of more than eight bits → uint8. A camera may store 10 or 12 bits in 16: detected by the largest value."""
    if not np.isfinite(values.astype(np.float64)).all() or values.min() < 0:
        raise ValueError("its values are no brightness")
    most = float(values.max())
    if values.dtype.kind == "f" and most <= 1:
        return np.asarray(values * 255 + 0.5, dtype=np.uint8)
    whole = np.minimum(values, 65535).astype(np.int64)
    return np.asarray(whole >> (depth_of(whole) - 8), dtype=np.uint8)
