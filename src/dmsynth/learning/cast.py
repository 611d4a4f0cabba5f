"""A cast: one network for several people.

Pose and expression are shared controls, and so is what they do to a face: all people's networks share their weights.
Who somebody is lies in the source frames, and in a few weights of one's own: the biases of the layers that the control
code enters and of the maps that are decoded from it (the shape of a face), and the learned picture of the common face.
Swaps pair frames of one person only; people take turns in the batches.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Timer
from torch import Tensor, nn

from dmsynth.datasets.dataset import Dataset
from dmsynth.learning.batches import Batch, Numbered, Stream
from dmsynth.learning.callbacks import Bound
from dmsynth.learning.data import TrainingData, prepare
from dmsynth.learning.face_file import TrainedFace, check_name, read_face, read_people, save_cast, save_face
from dmsynth.learning.settings import Options, choose_settings
from dmsynth.learning.swapwarp import SwapWarp
from dmsynth.learning.training import Material, Training, fit, shape_of, trained_face
from dmsynth.learning.warm_start import Codes, Head, codes_of, placed, refitted
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import check_output

_OWN = (
    "common_image",
    "common_features",
    "to_common.points.0.bias",
    "to_common.points.4.bias",
    "scene.points.0.bias",
    "scene.points.4.bias",
    "command.0.bias",
)
"""A person's own weights."""
_STEPS = 1500  # a person, unless the user says otherwise


class Cast(nn.Module):
    """The networks of several people, which share all weights but ``_OWN``."""

    def __init__(self, people: Sequence[SwapWarp]) -> None:
        super().__init__()
        self.people = nn.ModuleList(people)
        shared = {name: value for name, value in people[0].named_parameters() if name not in _OWN}
        for network in people[1:]:
            for name, value in shared.items():
                module, _, leaf = name.rpartition(".")
                setattr(network.get_submodule(module), leaf, value)


class CastTraining(Training):
    """A cast under SwapWarp's objective: each batch is one person's, drawn by that person's network.

    ``casting``: for each person, how their own control codes become the cast's.
    """

    casting: Sequence[Casting]

    def of_batch(self, network: Any, batch: Batch) -> tuple[Any, Batch]:
        who, images, code, *landmarks = batch
        return network.people[int(who)], (images, self.casting[int(who)](code), *landmarks)


class Casting:
    """One person's control codes (n, k) as the cast's (n, K). What the person does not carry is as usual: 0.5."""

    def __init__(self, own: Codes, cast: Codes) -> None:
        self.columns = [cast.names.index(name) for name in own.names]
        self.size = len(cast.names)
        span = cast.high[self.columns] - cast.low[self.columns]
        self.scale = torch.tensor((own.high - own.low) / span, dtype=torch.float32)
        self.shift = torch.tensor((own.low - cast.low[self.columns]) / span, dtype=torch.float32)

    def __call__(self, code: Tensor) -> Tensor:
        result = torch.full((len(code), self.size), 0.5, device=code.device)
        result[:, self.columns] = code * self.scale.to(code.device) + self.shift.to(code.device)
        return result


class _InTurn:
    """The batches of several people, taking turns; the first entry of a batch says whose it is."""

    def __init__(self, people: Sequence[Numbered]) -> None:
        self.people = people

    @property
    def per_pass(self) -> int:
        """Until the one with the most frames has been seen whole."""
        return len(self.people) * max((each.per_pass for each in self.people), default=0)

    def __call__(self, number: int) -> Batch:
        turn, who = divmod(number, len(self.people))
        return torch.tensor(who), *self.people[who](turn)


def train_cast(datasets: Sequence[Dataset], out: Path, **options: Unpack[Options]) -> Path:
    """Train a cast of the people of several datasets; returns the path of ``face.safetensors`` in the run folder
    ``out``. People are named as their datasets' folders. Called again, it goes on, as ``training.train`` does.

    Raises:
        DmsynthError: one name twice, datasets that show different controls, or what ``training.train`` raises.
    """
    names = [dataset.path.resolve().name for dataset in datasets]
    _check(datasets, names, options)
    all_settings = [choose_settings(dataset, "swapwarp", options) for dataset in datasets]
    together = hashlib.sha256(" ".join(sorted(d.sha256 for d in datasets)).encode()).hexdigest()
    settings = replace(all_settings[0], dataset_sha256=together)
    data = [prepare(dataset, own) for dataset, own in zip(datasets, all_settings, strict=True)]
    lightning.seed_everything(settings.seed, verbose=False)
    codes = [codes_of(each.space, each.carried) for each in data]
    common = _common(codes)
    heads = [_head(each) for each in data]
    networks = []
    for each, head in zip(data, heads, strict=True):
        network = SwapWarp(**shape_of(each, settings) | {"controls": len(common.names)})
        if head is not None and heads[0] is not None:
            network.to_common.place = network.scene.place = heads[0].to(head)
        networks.append(network)
    cast = Cast(networks)
    steps = options.get("steps")
    if steps is None and options.get("max_time") is None:
        steps = _STEPS * len(data)
    bound = Bound(steps, Timer(options.get("max_time"), interval="step"))
    training = CastTraining(
        cast, settings, Stream(_InTurn([each.training.batches for each in data]), endless=True), bound
    )
    training.casting = [Casting(own, common) for own in codes]
    validated = [each.validation.batches for each in data if each.validation.batches.per_pass]
    if len(validated) < len(data):
        validated = []
    frames = sum(len(each.dataset.split("train")) for each in data)
    material = Material(
        Path(", ".join(str(dataset.path) for dataset in datasets)),
        f"{len(data)} people, {frames} frames",
        Stream(_InTurn(validated), endless=False),
    )

    def finish(done: int) -> Path:
        faces = {}
        for which, name in enumerate(names):
            network = copy.deepcopy(training.result.people[which]).cpu()
            assert isinstance(network, SwapWarp)
            place = network.to_common.place
            network = refitted(network if place is None else placed(network, place), common, codes[which])
            own = replace(all_settings[which], dataset_sha256=datasets[which].sha256)
            shape = shape_of(data[which], own)
            faces[name] = trained_face(network, data[which], shape, own, done, training.seconds)
        path = out / "face.safetensors"
        save_cast(path, faces)
        return path

    return fit(training, out, material, finish, options)


def _check(datasets: Sequence[Dataset], names: Sequence[str], options: Options) -> None:
    for dataset, name in zip(datasets, names, strict=True):
        check_name(name, dataset.path)
        twice = [other.path for other, its in zip(datasets, names, strict=True) if its == name]
        if len(twice) > 1:
            raise DmsynthError(
                f"{twice[0]} and {twice[1]}: two people named {name}; they are named as their folders: rename one"
            )
        same = [other.path for other in datasets if other.sha256 == dataset.sha256]
        if len(same) > 1:
            raise DmsynthError(f"{same[0]} and {same[1]}: the same frames under two names; leave one out")
        space, first = dataset.about[0], datasets[0].about[0]
        if options.get("controls") is None and space.names != first.names:
            raise DmsynthError(
                f"{dataset.path}: shows {', '.join(space.names)}, but {datasets[0].path} shows "
                f"{', '.join(first.names)}; a cast shares its controls: give --controls rotation, or make one anew"
            )
    channels = {dataset.frames.ndim for dataset in datasets}
    if len(channels) > 1:
        grey = next(dataset.path for dataset in datasets if dataset.frames.ndim == 3)
        colour = next(dataset.path for dataset in datasets if dataset.frames.ndim == 4)
        raise DmsynthError(f"{colour} is in colour and {grey} is grey; make one of them anew, with or without --colour")
    if options.get("devices", 1) > 1:
        raise DmsynthError("--devices: a cast is trained on one device; leave the option out")
    if options.get("begin"):
        raise DmsynthError("--from: a cast begins from nothing; leave the option out, or train one dataset")


def _common(people: Sequence[Codes]) -> Codes:
    """Control codes that hold everybody's: of every control the whole range, of every carried quantity the mean."""
    names = dict.fromkeys(name for codes in people for name in codes.names)
    ranges = []
    for name in names:
        has = [(c.low[c.names.index(name)], c.high[c.names.index(name)]) for c in people if name in c.names]
        low, high = np.array(has).T
        carried = name.startswith("carried ")
        ranges.append((low.mean(), high.mean()) if carried else (low.min(), high.max()))
    low, high = np.array(ranges).T
    return Codes(tuple(names), low, high)


def _head(data: TrainingData) -> Head | None:
    found = data.dataset.feature_landmarks()
    return None if found is None else Head.of(found[data.dataset.split("train")], data.dataset.size)


def join(faces: Sequence[str], out: Path) -> list[str]:
    """Write trained faces, each ``NAME=FACE``, to one file; returns the names. ``DmsynthError`` for one that cannot be
    read, or a name twice."""
    people: dict[str, TrainedFace] = {}
    for each in faces:
        name, mark, face = each.partition("=")
        if not mark:
            raise DmsynthError(f"{each}: give NAME=FACE, such as anna=anna-run/face.safetensors")
        if name in people:
            raise DmsynthError(f"two people named {name}; rename one")
        people[name] = read_face(Path(face))
    check_output(out)
    save_cast(out, people)
    return list(people)


def split(cast: Path, out: Path) -> list[Path]:
    """Write every person of a cast to ``out``/NAME.safetensors; returns these files."""
    people = read_people(cast)
    out.mkdir(parents=True, exist_ok=True)
    for name, face in people.items():
        save_face(out / f"{name}.safetensors", face)
    return [out / f"{name}.safetensors" for name in people]
