"""A trained face for programs without PyTorch: ONNX."""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dmsynth.controls import EYES, EYES_RANGE, HEAD
from dmsynth.controls.response import MOST, ROUNDS, STEP, TERMS, UNIT
from dmsynth.steering.baked import BakedNetwork
from dmsynth.steering.face import SteerableFace
from dmsynth.steering.painted import Seen
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import replacing
from dmsynth.support.version import __version__
from dmsynth.video import Image

_OPSET = 20  # 16 is the first with GridSample, which warps; 20 has it as it is today


class _FixedSource(nn.Module):
    """A network and one encoded source: controls in their units in, picture out."""

    low: Tensor
    span: Tensor
    carried: Tensor
    response_low: Tensor
    response_high: Tensor
    response_weights: Tensor

    def __init__(self, face: SteerableFace, source: Image | None) -> None:
        super().__init__()
        self.network, appearance, carried = _portable(face, source)
        self._appearance_type = type(appearance)
        self._parts = len(appearance) if isinstance(appearance, tuple) else 0
        for number, part in enumerate(appearance if self._parts else [appearance]):
            self.register_buffer(f"appearance{number}", part.clone())
        space = face.trained.space
        self.register_buffer("low", torch.from_numpy(space.low).float())
        self.register_buffer("span", torch.from_numpy(space.high - space.low).float())
        self.register_buffer("carried", torch.from_numpy(np.array(carried))[None])
        response = face.trained.response if source is None else None
        self.responds = response is not None
        if response is not None:
            for name in ("low", "high", "weights"):
                self.register_buffer(f"response_{name}", torch.from_numpy(getattr(response, name)).float())

    def _commanded(self, read: Tensor) -> Tensor:
        """As ``controls.response.Response.undone``."""
        head, count = read[:, : len(HEAD)], len(HEAD)
        wanted = head
        for _ in range(ROUNDS):
            inside = torch.maximum(torch.minimum(wanted, self.response_high), self.response_low)
            factors = torch.cat([torch.ones_like(head[:, :1]), inside / UNIT], dim=1)
            terms = torch.stack([factors[:, i] * factors[:, j] * factors[:, k] for i, j, k in TERMS], dim=1)
            errors = (terms @ self.response_weights).clamp(-MOST, MOST)
            wanted = wanted + STEP * (head - wanted - errors)
        low, high = self.low[:count], (self.low + self.span)[:count]
        wanted = torch.maximum(torch.minimum(wanted, torch.maximum(high, head)), torch.minimum(low, head))
        return torch.cat([wanted, read[:, count:]], dim=1)

    def forward(self, controls: Tensor) -> Tensor:
        if self.responds:
            controls = self._commanded(controls)
        parts = [getattr(self, f"appearance{number}") for number in range(max(1, self._parts))]
        appearance: Any = self._appearance_type(*parts) if self._parts else parts[0]
        code = torch.cat([(controls - self.low) / self.span, self.carried], dim=1)
        network: Any = self.network
        image: Tensor = network.steer(appearance, code)
        return image


def _portable(face: SteerableFace, source: Image | None) -> tuple[Any, Any, NDArray[np.float32]]:
    """A face's network with an encoded source frame and its carried codes; eyes of the face's own frame are baked."""
    appearance, carried = face.appearance(source)
    if isinstance(appearance, Seen):
        eyed: Any = face.trained.network
        return BakedNetwork(eyed.network, eyed.space, appearance), appearance.appearance, carried
    return face.trained.network, appearance, carried


class _Encode(nn.Module):
    """A source frame and its code in, its appearance out, part by part."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, code: Tensor) -> tuple[Tensor, ...]:
        appearance = self.network.encode(images, code)
        return tuple(appearance) if isinstance(appearance, tuple) else (appearance,)


class _Steer(nn.Module):
    """An appearance, part by part, and a control code in, a picture out."""

    def __init__(self, network: Any, kind: type) -> None:
        super().__init__()
        self.network, self.kind = network, kind

    def forward(self, code: Tensor, *parts: Tensor) -> Tensor:
        appearance = self.kind(*parts) if issubclass(self.kind, tuple) else parts[0]
        image: Tensor = self.network.steer(appearance, code)
        return image


def export_halves(face: SteerableFace, encode: Path, steer: Path) -> None:
    """Write a face as two ONNX models, so that what runs them may change the source frame.

    ``encode``: ``images`` (1, channels, height, width) in [0, 1] and, for models that want it, the frame's ``code``
    (1, k) → the parts of its appearance, by name. ``steer``: those that it needs and the commanded ``code`` (1, k) →
    ``image``. Codes are of the controls in [0, 1] and what is carried.

    Raises ``DmsynthError`` for packages that are not installed.
    """
    face = face.as_learned()
    network, _, _ = _portable(face, None)
    image = face.to_network(face.trained.source)
    code = torch.from_numpy(np.array(face.trained.source_codes[:1]))
    with torch.no_grad():
        appearance = network.encode(image, code)
    parts = tuple(part.clone() for part in (appearance if isinstance(appearance, tuple) else (appearance,)))
    names = list(getattr(appearance, "_fields", ("appearance",)))
    names = [f"source_{name}" for name in names]  # none is called as an input is
    _write(_Encode(network), (image, code), ["images", "code"], names, encode)
    # copies, because what is one tensor here would be taken for one input
    _write(_Steer(network, type(appearance)), (code.clone(), *parts), ["code", *names], ["image"], steer)


def export_onnx(face: SteerableFace, out: Path, source: Image | None = None) -> Path:
    """Write a face with one source frame as an ONNX model; returns ``out``.

    Its input ``controls`` is (1, k) float32 in the face's own units and order (for a rotation pitch, yaw, roll in
    degrees), its output ``image`` (1, channels, height, width) float32 in [0, 1]. Both, and the range the face was
    trained on, stand in the model's metadata under ``dmsynth``. Beyond its range a gaze stays at the edge.

    Args:
        source: the frame to steer from, whose eyes stay as they are; by default the face's most typical one.

    Raises:
        DmsynthError: a name that does not end in .onnx; packages that are not installed.
    """
    if out.suffix.lower() != ".onnx":
        raise DmsynthError(f"{out}: give a name that ends in .onnx")
    face = face.as_learned()
    face = face if source is None else face.head_only  # of a given frame's eyes nothing is known
    module = _FixedSource(face, source)
    rest = torch.from_numpy(np.array([face.trained.space.row({})], dtype=np.float32))
    gaze = dict(zip(EYES, EYES_RANGE, strict=False))  # lids have a range of their own
    controls = [
        {"name": c.name, "unit": c.unit, "low": -gaze.get(c.name, -c.low), "high": gaze.get(c.name, c.high)}
        for c in face.trained.space.controls
    ]
    about = {"version": __version__, "controls": controls, "size": face.size, "about": face.trained.about}
    return _write(module, (rest,), ["controls"], ["image"], out, about)


def _write(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    names: list[str],
    outputs: list[str],
    out: Path,
    about: dict[str, Any] | None = None,
) -> Path:
    """Trace a module on ``inputs``, check it, and write it, with ``about`` in its metadata; returns ``out``."""
    try:
        import onnx
        import onnxscript  # noqa: F401 (torch's exporter needs it)
    except ModuleNotFoundError as error:
        raise DmsynthError(f"exporting needs {error.name}; pip install onnx onnxscript") from None
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(),
            inputs,
            input_names=names,
            output_names=outputs,
            opset_version=_OPSET,
            dynamo=True,
            verbose=False,
        )
    logger.setLevel(level)
    assert program is not None
    model = program.model_proto
    if about:
        entry = model.metadata_props.add()
        entry.key, entry.value = "dmsynth", json.dumps(about)
    onnx.checker.check_model(model)
    with replacing(out) as temporary:
        temporary.write_bytes(model.SerializeToString())
    return out
