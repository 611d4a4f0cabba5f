"""The included portrait: Eileen Collins, photographed by NASA, public domain (scikit-image's ``astronaut``)."""

from __future__ import annotations

from importlib.resources import as_file, files

from dmsynth.video import Image
from dmsynth.video.pictures import read_image

PORTRAIT_CONSENT = "public domain: Eileen Collins, photographed by NASA"


def default_portrait() -> Image:
    """The portrait, (512, 512, 3) uint8 RGB."""
    with as_file(files("dmsynth") / "data" / "astronaut.png") as path:
        return read_image(path)
