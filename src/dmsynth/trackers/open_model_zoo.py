"""Networks of Intel's Open Model Zoo (Apache-2.0), made for cars: find their files and run them in OpenVINO.

They are not part of dmsynth; the user provides the files, each network as an ``.xml`` with its ``.bin`` beside it.
Source: https://github.com/openvinotoolkit/open_model_zoo, ``models/intel``; measured in FP32.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import sha256_of
from dmsynth.support.model_files import cache_folder
from dmsynth.video import Image, to_rgb

FOLDER_VARIABLE = "DMSYNTH_ADAS"
SIDE = 60  # of every picture that these networks take, in pixels


@dataclass(frozen=True)
class Network:
    """A network by its name and its ends.

    Attributes:
        name: Open Model Zoo's, which is the name of its two files.
        inputs: the shape of each input by name.
        outputs: likewise.
    """

    name: str
    inputs: dict[str, tuple[int, ...]]
    outputs: dict[str, tuple[int, ...]]

    @property
    def origin(self) -> str:
        return f"{self.name}.xml and .bin of Open Model Zoo (Apache-2.0)"

    def find(self, explicit: Path | None = None) -> Path:
        """The path of its ``.xml``: given, in the folder that the environment names, or in the user's cache.

        Args:
            explicit: the ``.xml``, or the folder with both files.

        Raises ``DmsynthError`` if a file is absent.
        """
        by_variable = os.environ.get(FOLDER_VARIABLE)
        named = explicit or (Path(by_variable) if by_variable else None)
        if named is None:
            path = cache_folder() / f"{self.name}.xml"
            if not path.is_file():
                raise DmsynthError(
                    f"{self.name} is not at hand: get {self.origin}, and name their folder with {FOLDER_VARIABLE}, or "
                    f"keep them in {path.parent}"
                )
        else:
            path = named / f"{self.name}.xml" if named.is_dir() else named
            if not path.is_file():
                how = "correct the path" if explicit else f"correct or unset {FOLDER_VARIABLE}"
                raise DmsynthError(f"{path}: no such tracker model; {how}")
        if not path.with_suffix(".bin").is_file():
            raise DmsynthError(f"{path.with_suffix('.bin')}: missing; the network's weights belong beside its .xml")
        return path

    def open(self, explicit: Path | None = None) -> OpenNetwork:
        """The network ready to run, on one thread (there is one tracker per thread).

        Raises ``DmsynthError`` if OpenVINO is missing, a file is absent, or it is another network.
        """
        path = self.find(explicit)
        try:
            import openvino
        except ModuleNotFoundError:
            raise DmsynthError(f"{self.name} needs OpenVINO; pip install openvino") from None
        core = openvino.Core()
        try:
            model = core.read_model(path, path.with_suffix(".bin"))
            has = [{end.any_name: _shape(end) for end in ends} for ends in (model.inputs, model.outputs)]
            wrong = self._difference(*has)
            if not wrong:
                compiled = core.compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": 1})
        except RuntimeError as error:  # OpenVINO's only exception, of several lines
            reason = [line.strip() for line in str(error).splitlines() if line.strip()][-1]
            raise DmsynthError(
                f"{path}: not a readable OpenVINO model ({reason}); it should be {self.origin}"
            ) from None
        if wrong:
            raise DmsynthError(f"{path}: {wrong}; it should be {self.origin}")
        return OpenNetwork(compiled, sha256_of(path.with_suffix(".bin")))

    def _difference(self, inputs: dict[str, tuple[int, ...]], outputs: dict[str, tuple[int, ...]]) -> str:
        """What is wrong with a network of these ends; empty if nothing is."""
        if (inputs, outputs) == (self.inputs, self.outputs):
            return ""
        return (
            f"takes {_shown(inputs)} and gives {_shown(outputs)}, but {self.name} takes {_shown(self.inputs)} and "
            f"gives {_shown(self.outputs)}"
        )


@dataclass(frozen=True)
class OpenNetwork:
    """A network in OpenVINO.

    Attributes:
        compiled: OpenVINO's compiled model.
        sha256: of the weights' file.
    """

    compiled: Any
    sha256: str

    def __call__(self, **inputs: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
        """Each output by name, flat."""
        answer = self.compiled(inputs)
        return {end.any_name: np.asarray(answer[end], dtype=float).ravel() for end in self.compiled.outputs}


def cut_square(image: Image, centre: NDArray[np.float64], side: float, roll: float = 0.0) -> NDArray[np.float32]:
    """A square of an image as these networks take pictures: (1, 3, 60, 60) float32, blue first, 0 … 255.

    What lies outside the image is filled with its border.

    Args:
        image: (h, w) or (h, w, 3) RGB, uint8.
        centre: (2,) x, y in pixels.
        side: in pixels of the image, > 0.
        roll: degrees, clockwise in the image; the square is turned by it, so that a head with this roll is upright.
    """
    # several samples a pixel where the image is finer than the network's picture: no aliasing
    fine = SIDE * max(1, round(side / SIDE))
    scale, angle = fine / max(side, 1e-6), np.radians(roll)
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    turn = np.array([[cosine, sine], [-sine, cosine]])
    matrix = np.column_stack([turn, np.full(2, fine / 2) - turn @ centre])
    square = cv2.warpAffine(to_rgb(image), matrix, (fine, fine), borderMode=cv2.BORDER_REPLICATE)
    square = cv2.resize(square, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(square[..., ::-1].transpose(2, 0, 1)[None], dtype=np.float32)


def _shape(end: Any) -> tuple[int, ...]:
    """Its shape; −1 for a length that varies."""
    return tuple(size.get_length() if size.is_static else -1 for size in end.partial_shape)


def _shown(ends: dict[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {'×'.join(map(str, shape))}" for name, shape in ends.items())
