"""A trained face as one file: ``face.safetensors``.

Tensors: the network's weights (``network.*``), the training coverage (``coverage.codes``), source frames (``sources``:
one PNG of all of them, one below the other; where they are larger than the network's or in colour, a WebP each, with
``sources.ends``), their control codes (``source_codes``) and their facial features (``features.*``).
Everything else is JSON in the file's metadata under ``dmsynth``. No pickle is ever read.

A cast is several faces in one file (``save_cast``): each tensor once, however many share it, and under ``dmsynth_cast``
each person's description. A person of it is named ``FILE#NAME`` wherever a face is.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from dmsynth.controls import FEATURES, FEATURES_AT_REST, MOUTH, ControlSpace
from dmsynth.controls.carried import Carried
from dmsynth.controls.coverage import Coverage
from dmsynth.controls.response import Response
from dmsynth.learning.autoencoder import Autoencoder, channels_last
from dmsynth.learning.face_description import (
    AutoencoderShape,
    CarriedRecord,
    CastRecord,
    Description,
    FrameSize,
    Shape,
    WarpShape,
)
from dmsynth.learning.models import RECIPES, Model
from dmsynth.learning.source_frames import CODED, CodedFrames, coded, decoded, packed, unpacked
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import replacing
from dmsynth.support.records import checked, json_of, printable
from dmsynth.support.version import __version__
from dmsynth.trackers.features import FEATURE_POINTS
from dmsynth.video import Image

FORMAT = 4
_PNG_FORMAT = 3  # of faces whose source frames are as their network sees them
_LARGEST = 2**31  # bytes of a file; the thesis's largest network, of 256 dimensions at 640×480, has 1.28 GB
_LARGEST_WEIGHT = 1e6  # trained ones are a thousandth of that; far beyond, every picture is black
_AGAIN = "train the face again or copy the file anew"


@dataclass(frozen=True)
class SourceFeatures:
    """Where the facial features of source frames are, and what they do.

    Attributes:
        landmarks: (s, points, 2) float32, ``trackers.features.FEATURE_POINTS`` in pixels.
        values: (s, 6) float32, gaze, lids, mouth and brows in the order of ``controls.FEATURES``, from this person's
            rest.
    """

    landmarks: NDArray[np.float32]
    values: NDArray[np.float32]

    @property
    def first(self) -> SourceFeatures:
        """Those of the first source frame."""
        return SourceFeatures(self.landmarks[:1], self.values[:1])


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
            is the most typical one. As they were recorded: often larger than the network's, and in colour.
        source_codes: (s, k) float32, their control codes, carried controls included.
        about: how it was made: dataset hash, labels, tracker, settings, seconds, machine.
        features: of the source frames, if the dataset knew them.
        coded: the source frames as they were read, if with loss.
        response: how the tracker reads its head, commanded alone, where that was measured.
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
    features: SourceFeatures | None = None
    coded: CodedFrames | None = None
    response: Response | None = None

    @property
    def draws(self) -> bool:
        """Whether there is a network, to draw any motion; a video that was made elsewhere has the one."""
        return self.network is not None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the frames that are drawn: the source frames'."""
        return int(self.sources.shape[2]), int(self.sources.shape[1])

    @property
    def in_colour(self) -> bool:
        """Whether frames are drawn in RGB, not grey: as the source frames are."""
        return self.sources.ndim == 4

    @property
    def is_detailed(self) -> bool:
        """Whether source frames are larger than the network's, or in colour where it is grey."""
        return (*self.size, self.in_colour) != (self.shape["width"], self.shape["height"], self.shape["channels"] == 3)

    @property
    def source(self) -> Image:
        """The most typical source frame."""
        return self.sources[0]


def save_face(path: Path, face: TrainedFace) -> None:
    """Write a face file, whole or not at all."""
    content, tensors = _described(face)
    with replacing(path) as temporary:
        temporary.write_bytes(save(tensors, metadata={"dmsynth": json.dumps(content)}))


def save_cast(path: Path, people: Mapping[str, TrainedFace]) -> None:
    """Write several faces to one file, whole or not at all.

    Args:
        people: by name (``check_name``).
    """
    kept: dict[str, torch.Tensor] = {}
    described: dict[str, Any] = {}
    for name, face in people.items():
        check_name(name, path)
        if any(other.lower() == name.lower() for other in described):
            raise DmsynthError(f"{path}: two people named {name}, but for capitals; rename one")
        content, tensors = _described(face)
        keys = {}
        for part, tensor in tensors.items():
            about = f"{part} {tensor.dtype} {tuple(tensor.shape)} "
            keys[part] = hashlib.sha256(about.encode() + _bytes(tensor)).hexdigest()
            kept[keys[part]] = tensor
        described[name] = {"content": content, "tensors": keys}
    metadata = {"format": FORMAT, "version": __version__, "people": described}
    with replacing(path) as temporary:
        temporary.write_bytes(save(kept, metadata={"dmsynth_cast": json.dumps(metadata)}))


def is_name(name: str) -> bool:
    """Whether it can be a person's name in a cast: files, identifiers and reports hold it."""
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}", name) is not None


def check_name(name: str, path: Path) -> None:
    """``DmsynthError`` unless it can be a person's name in the cast ``path``."""
    if not is_name(name):
        raise DmsynthError(
            f"{path}: {printable(name)[:60]!r} is no name for a person: give up to 40 letters a to z, digits, - and _"
        )


def _described(face: TrainedFace) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """A face's description and its tensors."""
    tensors = {f"network.{name}": value.cpu().contiguous() for name, value in face.network.state_dict().items()}
    tensors["coverage.codes"] = torch.from_numpy(np.concatenate([face.coverage.codes, face.coverage.carried], axis=1))
    if face.coded is not None and face.coded.frames is face.sources:
        tensors |= face.coded.tensors
    elif face.is_detailed:
        tensors |= {name: torch.from_numpy(each) for name, each in coded(face.sources).items()}
    else:
        tensors["sources"] = torch.from_numpy(packed(face.sources))
    tensors["source_codes"] = torch.from_numpy(face.source_codes)
    if face.features is not None:
        tensors["features.landmarks"] = torch.from_numpy(face.features.landmarks)
        tensors["features.values"] = torch.from_numpy(face.features.values)
    content = {
        "format": FORMAT if face.is_detailed else _PNG_FORMAT,
        "version": __version__,
        "model": face.model,
        "shape": face.shape,
        "control_space": face.space.to_dict(),
        "carried": face.carried.to_dict(),
        "coverage_tolerance": face.coverage.tolerance,
        "about": {name: value for name, value in face.about.items() if name != "fingerprint"},
    }
    if face.is_detailed:
        content["frame"] = dict(zip(("width", "height"), face.size, strict=True)) | {"channels": 1 + 2 * face.in_colour}
    if face.response is not None:
        content["response"] = face.response.to_dict()
    content["sha256"] = _fingerprint(content, tensors)
    return content, tensors


def located(path: Path) -> tuple[Path, str | None]:
    """The file of a face, and who of its cast is named: ``FILE``, ``FILE#NAME``, or ``starter``, which comes along."""
    if path.is_file():
        return path, None
    name, mark, person = str(path).rpartition("#")
    file = Path(name if mark else person)
    if str(file) == "starter" and not file.is_file():
        file = Path(str(files("dmsynth").joinpath("data/starter.safetensors")))
    return file, person if mark else None


def people_of(path: Path) -> list[str]:
    """The names in a cast's file; none if it is a single face. ``DmsynthError`` as ``read_face``."""
    file, _ = located(path)
    with _opened(file) as stored:
        cast = _cast_of(file, stored.metadata() or {})
        return list(cast) if cast is not None else []


def read_people(path: Path) -> dict[str, TrainedFace]:
    """Every face in a file, by name; that of a single face is its file's. ``DmsynthError`` as ``read_face``."""
    file, chosen = located(path)
    names = people_of(file)
    if chosen is not None or not names:
        return {chosen or file.stem: read_face(path)}
    return {name: read_face(Path(f"{file}#{name}")) for name in names}


def read_face(path: Path) -> TrainedFace:
    """Read a face file; nothing is allocated that the file does not hold.

    Raises:
        DmsynthError: it is missing, no face file, of another format, or damaged: not what was written, by its checksum
            (files of earlier versions have none), or something that cannot be drawn with.
    """
    path, person = located(path)
    with _opened(path) as file:
        metadata = file.metadata() or {}
        cast = _cast_of(path, metadata)
        try:
            if cast is not None:
                content, keys = _chosen(path, cast, person)
            elif person is not None:
                raise DmsynthError(f"{path}: is one face and no cast; name it without #{person}")
            elif "dmsynth" not in metadata:
                raise DmsynthError(
                    f"{path}: safetensors, but no dmsynth face; give the face.safetensors that training wrote"
                )
            else:
                content = json_of(metadata["dmsynth"], f"{path}: its description", _AGAIN)
                keys = {name: name for name in file.keys()}  # noqa: SIM118 (not a dict)
            tensors = {name: file.get_tensor(key) for name, key in keys.items()}
        except (SafetensorError, OSError, RuntimeError, ValueError) as error:
            raise DmsynthError(f"{path}: damaged ({error!s:.200}); {_AGAIN}") from None
    if not isinstance(content, dict):
        raise DmsynthError(f"{path}: its description is damaged; {_AGAIN}")
    version, model, made_by = (str(content.get(name))[:50] for name in ("format", "model", "version"))
    if version not in ("1", "2", str(_PNG_FORMAT), str(FORMAT)) or model not in RECIPES:
        raise DmsynthError(
            f"{path}: face format {printable(version)}, model {printable(model)!r} of dmsynth {printable(made_by)}, "
            f"but this is dmsynth {__version__} (format {FORMAT}); train the face again or install that version"
        )
    if "sha256" in content and content["sha256"] != _fingerprint(content, tensors):
        raise DmsynthError(f"{path}: damaged or changed: its checksum is not that of its content; {_AGAIN}")
    face = _from_content(path, content, tensors)
    face.about["fingerprint"] = str(content.get("sha256"))
    return face


def fingerprint_of(path: Path) -> str:
    """The SHA-256 of a face's content, whatever file it lies in; of a person's, if one is named. ``DmsynthError`` as
    ``read_face``."""
    file, person = located(path)
    with _opened(file) as stored:
        metadata = stored.metadata() or {}
    cast = _cast_of(file, metadata)
    content = json_of(metadata["dmsynth"], f"{file}: its description", _AGAIN) if cast is None else None
    return str((content or _chosen(file, cast or {}, person)[0])["sha256"])


def cast_file(path: Path) -> Path:
    """The file of a cast that is named by its run folder, or by itself. ``DmsynthError`` if one person is named."""
    if path.is_dir():
        return path / "face.safetensors"
    file, person = located(path)
    if person is not None:
        raise DmsynthError(f"{path}: is one person; name the cast: {file}")
    return file


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A safetensors file, opened. ``DmsynthError`` if it is missing, too large or none."""
    if not path.is_file():
        raise DmsynthError(f"{path}: no such face file; train one with `dmsynth train` or `dmsynth demo`")
    size = path.stat().st_size
    if size > _LARGEST:
        raise DmsynthError(f"{path}: has {size} bytes, more than a face can have ({_LARGEST}); {_AGAIN}")
    try:
        file = safe_open(path, framework="pt")
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise DmsynthError(
            f"{path}: not a readable safetensors file ({error!s:.200}); give the face.safetensors that training wrote"
        ) from None
    with file as opened:
        yield opened


def _cast_of(path: Path, metadata: Mapping[str, str]) -> dict[str, Any] | None:
    """The people of a cast, described; None if the file is none. ``DmsynthError`` if it is damaged."""
    if "dmsynth_cast" not in metadata:
        return None
    where = f"{path}: its description"
    content = checked(json_of(metadata["dmsynth_cast"], where, _AGAIN), CastRecord, where, _AGAIN)
    for name, person in content.people.items():
        check_name(name, path)
        if len(set(person.tensors.values())) < len(person.tensors):
            raise DmsynthError(f"{where} of {name} names a tensor twice; {_AGAIN}")
    return {name: (person.content, person.tensors) for name, person in content.people.items()}


def _chosen(path: Path, cast: dict[str, Any], person: str | None) -> tuple[dict[str, Any], dict[str, str]]:
    """Description and tensors' keys of a person of a cast; of the only one if nobody is named."""
    name = next(iter(cast)) if person is None and len(cast) == 1 else person
    if name not in cast:
        who = f"a cast of {', '.join(cast)}; name one: {path}#{next(iter(cast))}"
        raise DmsynthError(f"{path}: no {printable(name)} in {who}" if name else f"{path}: is {who}")
    content, keys = cast[name]
    if "sha256" not in content:
        raise DmsynthError(f"{path}: its description of {name} is damaged; {_AGAIN}")
    return content, keys


def _bytes(tensor: torch.Tensor) -> bytes:
    content: bytes = tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    return content


def _fingerprint(content: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of a face's description, but for the hash itself, and of its tensors."""
    described = {name: value for name, value in content.items() if name != "sha256"}
    total = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode("utf-8", "replace"))
        total.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def _from_content(path: Path, content: dict[str, Any], tensors: dict[str, torch.Tensor]) -> TrainedFace:
    where, recipe = f"{path}: its description", RECIPES[content["model"]]
    description = checked(content, Description, where, _AGAIN)
    of_shape: type[Shape] = AutoencoderShape if recipe.network is Autoencoder else WarpShape
    shape: dict[str, int] = checked(description.shape, of_shape, f"{where}: shape", _AGAIN).model_dump()
    space = ControlSpace.from_dict(description.control_space.model_dump())
    if space.moves_eyes and MOUTH not in space.names:
        raise DmsynthError(
            f"{path}: an earlier version trained its eyes without a mouth; make its dataset and train it anew"
        )
    carried = Carried.from_dict(description.carried.model_dump())
    try:
        frames, codes = _sources(content["format"], description.frame, shape, space, tensors)
        weights = {name.removeprefix("network."): t for name, t in tensors.items() if name.startswith("network.")}
        network = _network(recipe.network, shape, weights)
        length = space.size + carried.size
        _check_carried(description.carried, space.size)
        _check(codes, "source_codes", (len(frames), length))
        _check(tensors.get("coverage.codes"), "coverage.codes", (None, length))
        if shape.get("controls", length) != length or shape.get("given", 0) not in (0, space.size):
            raise ValueError("its network takes other controls than it has")
        if shape.get("latent", length) < length:
            raise ValueError("its network's latent vector is too short for its controls")
        features = _features(len(frames), tensors)
    except ValueError as error:
        raise DmsynthError(f"{path}: {error}; the file is damaged: {_AGAIN}") from None
    seen, carried_codes = np.split(tensors["coverage.codes"].numpy(), [space.size], axis=1)
    return TrainedFace(
        network=channels_last(network).eval(),
        shape=shape,
        model=content["model"],
        space=space,
        coverage=Coverage(seen, description.coverage_tolerance, carried_codes, space.joint),
        carried=carried,
        sources=frames,
        source_codes=codes.numpy(),
        about=description.about.model_dump(),
        features=features,
        coded=CodedFrames(frames, {name: tensors[name] for name in CODED}) if set(CODED) <= set(tensors) else None,
        response=Response.from_dict(description.response.model_dump()) if description.response else None,
    )


def _network(make: Any, shape: dict[str, int], weights: dict[str, torch.Tensor]) -> Model:
    """The network with its weights. ``ValueError`` unless they are the ones that it has, each a sensible number."""
    with torch.device("meta"):  # takes no memory, whatever size is asked for
        network: Model = make(**shape)
    wanted = network.state_dict()
    if wanted.keys() != weights.keys() or any(wanted[name].shape != each.shape for name, each in weights.items()):
        raise ValueError("its weights do not fit its description")
    for name, each in weights.items():
        _check(each, f"network.{name}", tuple(each.shape))
    network = network.to_empty(device="cpu")
    network.load_state_dict(weights)
    return network


def _check(tensor: torch.Tensor | None, name: str, shape: tuple[int | None, ...]) -> None:
    """``ValueError`` unless a tensor of numbers has this shape, None being any number of at least 1."""
    if tensor is None:
        raise ValueError(f"has no {name}")
    if tensor.dtype != torch.float32:
        raise ValueError(f"{name} holds {tensor.dtype}, not float32")
    if tensor.ndim != len(shape) or any(
        size != wanted if wanted is not None else size == 0 for size, wanted in zip(tensor.shape, shape, strict=True)
    ):
        raise ValueError(f"{name} has the shape {tuple(tensor.shape)}")
    if not bool((tensor.abs() <= _LARGEST_WEIGHT).all()):  # NaN is not, either
        raise ValueError(f"{name} holds what is no number, or no sensible one")


def _features(frames: int, tensors: dict[str, torch.Tensor]) -> SourceFeatures | None:
    """The facial features of the source frames; None in files without. ``ValueError`` unless there are as many
    as frames."""
    if "features.landmarks" not in tensors:
        return None
    _check(tensors["features.landmarks"], "features.landmarks", (frames, len(FEATURE_POINTS), 2))
    values, known = tensors.get("features.values"), len(FEATURES)
    if values is not None and values.ndim == 2 and values.shape[1] == known - 1:
        values = torch.cat([values, torch.full((len(values), 1), FEATURES_AT_REST[-1])], dim=1)  # before brows were one
    _check(values, "features.values", (frames, known))
    assert values is not None
    return SourceFeatures(tensors["features.landmarks"].numpy(), values.numpy())


def _check_carried(carried: CarriedRecord, controls: int) -> None:
    """``ValueError`` unless its lists are as long as they have to be."""
    count = len(carried.names)
    if count == 0:
        return
    rows = [len(row) for row in carried.explained]
    if rows != [count] * (1 + 2 * controls) or {len(carried.spread), len(carried.low), len(carried.high)} != {count}:
        raise ValueError("what it carries has lists of different lengths")


def _sources(
    version: int, frame: FrameSize | None, shape: dict[str, int], space: ControlSpace, tensors: dict[str, torch.Tensor]
) -> tuple[NDArray[np.uint8], torch.Tensor]:
    """Source frames (s, h, w) or (s, h, w, 3) and their codes. ``ValueError`` unless they are of the face's shape, or
    as its description says."""
    name = "source" if version == 1 else "sources"
    stored, codes = tensors.get(name), tensors.get("source_codes")
    if stored is None or stored.dtype != torch.uint8:
        raise ValueError(f"has no {name}")
    said = frame.model_dump() if frame else shape
    one = (said["height"], said["width"]) if said["channels"] == 1 else (said["height"], said["width"], 3)
    if version == FORMAT:
        frames = decoded(stored.numpy(), tensors.get("sources.ends"), one)
    elif version == _PNG_FORMAT:
        frames = unpacked(stored.numpy(), one)
    else:
        frames = stored.numpy()[None] if version == 1 else stored.numpy()
    if version == 1:  # one source frame, and nothing carried
        codes = torch.zeros(1, space.size)
    if frames.shape[1:] != one or not len(frames):
        raise ValueError(f"its source frames have the shape {frames.shape[1:]}, not {one}")
    if codes is None:
        raise ValueError("has no source_codes")
    return frames, codes
