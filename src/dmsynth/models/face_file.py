"""A trained face as one file: ``face.safetensors``.

Tensors: the network's weights (``network.*``), the training coverage (``coverage.codes``), source frames (``sources``:
one PNG of all of them, one below the other) and their control codes (``source_codes``). Everything else is JSON in the
file's metadata under ``dmsynth``. No pickle is ever read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

import dmsynth
from dmsynth.carried import Carried
from dmsynth.controls import ControlSpace
from dmsynth.coverage import Coverage
from dmsynth.errors import DmsynthError
from dmsynth.files import replacing
from dmsynth.models import RECIPES, Model
from dmsynth.models.autoencoder import channels_last
from dmsynth.video import Image

FORMAT = 3


@dataclass(frozen=True)
class TrainedFace:
    """What training gives.

    Attributes:
        network: the trained network.
        shape: its arguments: width, height, channels, base_channels and the like.
        model: name of its recipe.
        space: the controls, with the range that maps to [0, 1].
        coverage: the training poses.
        carried: what the control codes hold beyond the space's controls.
        sources: (s, h, w) or (s, h, w, 3) uint8, training frames from which to steer if no other is given; the first
            is the most typical one.
        source_codes: (s, k) float32, their control codes, carried controls included.
        about: how it was made: dataset hash, labels, tracker, settings, seconds, machine.
    """

    network: Model
    shape: dict[str, int]
    model: str
    space: ControlSpace
    coverage: Coverage
    carried: Carried
    sources: NDArray[np.uint8]
    source_codes: NDArray[np.float32]
    about: dict[str, Any]

    @property
    def source(self) -> Image:
        """The most typical source frame."""
        return self.sources[0]


def save_face(path: Path, face: TrainedFace) -> None:
    """Write a face file, whole or not at all."""
    tensors = {f"network.{name}": value.cpu().contiguous() for name, value in face.network.state_dict().items()}
    tensors["coverage.codes"] = torch.from_numpy(np.concatenate([face.coverage.codes, face.coverage.carried], axis=1))
    tensors["sources"] = torch.from_numpy(_packed(face.sources))
    tensors["source_codes"] = torch.from_numpy(face.source_codes)
    content = {
        "format": FORMAT,
        "version": dmsynth.__version__,
        "model": face.model,
        "shape": face.shape,
        "control_space": face.space.to_dict(),
        "carried": face.carried.to_dict(),
        "coverage_tolerance": face.coverage.tolerance,
        "about": face.about,
    }
    with replacing(path) as temporary:
        temporary.write_bytes(save(tensors, metadata={"dmsynth": json.dumps(content)}))


def read_face(path: Path) -> TrainedFace:
    """Read a face file. ``DmsynthError`` if it is missing, damaged, no face file, or of another format."""
    if not path.is_file():
        raise DmsynthError(f"{path}: no such face file; train one with `dmsynth train` or `dmsynth demo`")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise DmsynthError(
            f"{path}: not a readable safetensors file ({error}); give the face.safetensors that training wrote"
        ) from None
    if "dmsynth" not in metadata:
        raise DmsynthError(f"{path}: safetensors, but no dmsynth face; give the face.safetensors that training wrote")
    try:
        content = json.loads(metadata["dmsynth"])
        return _from_content(path, content, tensors)
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError, ValueError, AssertionError):
        raise DmsynthError(f"{path}: its description is damaged; train the face again or copy the file anew") from None


def _from_content(path: Path, content: dict[str, Any], tensors: dict[str, torch.Tensor]) -> TrainedFace:
    if content.get("format") not in (1, 2, FORMAT) or content.get("model") not in RECIPES:
        raise DmsynthError(
            f"{path}: face format {content.get('format')!r}, model {content.get('model')!r} of dmsynth "
            f"{content.get('version', '?')}, but this is dmsynth {dmsynth.__version__} (format {FORMAT}); "
            "train the face again or install that version"
        )
    space = ControlSpace.from_dict(content["control_space"])
    if content["format"] == FORMAT:
        tensors["sources"] = torch.from_numpy(_unpacked(tensors["sources"].numpy(), content["shape"]["height"]))
    if content["format"] == 1:  # one source frame, and nothing carried
        tensors |= {"sources": tensors["source"][None], "source_codes": torch.zeros(1, space.size)}
        content |= {"carried": Carried().to_dict()}
    network = RECIPES[content["model"]].network(**content["shape"])
    weights = {name.removeprefix("network."): t for name, t in tensors.items() if name.startswith("network.")}
    try:
        network.load_state_dict(weights)
    except RuntimeError:
        raise DmsynthError(f"{path}: its weights do not fit its description; train the face again") from None
    seen, carried = np.split(tensors["coverage.codes"].numpy(), [space.size], axis=1)
    return TrainedFace(
        network=channels_last(network).eval(),
        shape=content["shape"],
        model=content["model"],
        space=space,
        coverage=Coverage(seen, float(content["coverage_tolerance"]), carried),
        carried=Carried.from_dict(content["carried"]),
        sources=tensors["sources"].numpy(),
        source_codes=tensors["source_codes"].numpy(),
        about=content["about"],
    )


def _packed(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images (s, h, w) or (s, h, w, 3) as the bytes of one PNG."""
    return cv2.imencode(".png", np.concatenate(list(images)))[1].ravel()


def _unpacked(png: NDArray[np.uint8], height: int) -> NDArray[np.uint8]:
    """The inverse of ``_packed``. ``ValueError`` if it is none."""
    stacked = cv2.imdecode(png, cv2.IMREAD_UNCHANGED)
    if stacked is None:
        raise ValueError("no picture")
    return stacked.reshape(-1, height, *stacked.shape[1:])
