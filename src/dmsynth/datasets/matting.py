"""Cut a person out of a picture: person segmentation, and a guided filter that aligns edges with the image."""

from __future__ import annotations

import threading
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from dmsynth.support.errors import DmsynthError
from dmsynth.support.model_files import ModelFile, Wheel
from dmsynth.support.progress import console
from dmsynth.trackers.quiet import close_with_owner, explained_import_errors, quiet

Float = NDArray[np.float32]

SEGMENTER = ModelFile(
    title="MediaPipe's selfie segmenter",
    file="selfie_segmentation.tflite",
    sha256="9ee168ec7c8f2a16c56fe8e1cfbc514974cbbb7e434051b455635f1bd1462f5c",
    wheel=Wheel(
        "mediapipe==0.10.21",  # the last version that contains it; Apache-2.0
        "mediapipe/modules/selfie_segmentation/selfie_segmentation.tflite",
        ("--python-version=3.11", "--implementation=cp", "--abi=cp311", "--platform=manylinux_2_28_x86_64"),
    ),
    variable="DMSYNTH_SEGMENTER",
)


@lru_cache(1)
def _segmenter() -> bytes | None:
    """The segmentation network; None, with a note, if it cannot be found or downloaded."""
    try:
        return SEGMENTER.find().read_bytes()
    except DmsynthError as error:
        console.print(f"{error}. Without it, hair and collar are cut out less cleanly", style="yellow")
        return None


class _Segmenter:
    """The network, opened."""

    def __init__(self, network: bytes) -> None:
        with quiet(), explained_import_errors():
            from mediapipe.tasks import python as tasks
            from mediapipe.tasks.python import vision

            options = vision.ImageSegmenterOptions(base_options=tasks.BaseOptions(model_asset_buffer=network))
            self._segmenter = vision.ImageSegmenter.create_from_options(options)
            close_with_owner(self, self._segmenter)
            self(np.zeros((8, 8, 3), np.uint8))  # it prints messages at its first use

    def __call__(self, image: NDArray[np.uint8]) -> Float:
        import mediapipe

        found = self._segmenter.segment(mediapipe.Image(mediapipe.ImageFormat.SRGB, np.ascontiguousarray(image)))
        return np.array(found.confidence_masks[0].numpy_view(), np.float32).reshape(image.shape[:2])


_opened = threading.local()  # one a thread: it is not thread-safe


def person_mask(image: NDArray[np.uint8]) -> Float | None:
    """Probability of a person (h, w) float32 in 0..1, or None if there is no segmenter."""
    network = _segmenter()
    if network is None:
        return None
    if not hasattr(_opened, "segmenter"):
        _opened.segmenter = _Segmenter(network)
    found: Float = _opened.segmenter(image)
    return found


def guided_filter(guide: Float, values: Float, radius: int, epsilon: float) -> Float:
    """Values (h, w) as locally affine functions of the guide's colours (h, w, 3): the guided filter, He et al. 2010."""

    def mean(maps: Float) -> Float:
        return cv2.blur(maps, (2 * radius + 1, 2 * radius + 1))

    colours, level = mean(guide), mean(values)
    pairs = [(i, j) for i in range(3) for j in range(i, 3)]
    spread = np.empty((*values.shape, 3, 3), np.float32)
    for i, j in pairs:
        covariance = mean(guide[..., i] * guide[..., j]) - colours[..., i] * colours[..., j]
        spread[..., i, j] = spread[..., j, i] = covariance + (epsilon if i == j else 0.0)
    together = mean(guide * values[..., None]) - colours * level[..., None]
    slopes = np.linalg.solve(spread, together[..., None])[..., 0].astype(np.float32)
    offset = level - (slopes * colours).sum(axis=2)
    return np.asarray((mean(slopes) * guide).sum(axis=2) + mean(offset), np.float32)
