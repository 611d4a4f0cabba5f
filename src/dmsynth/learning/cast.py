"""A cast: one network for several people.

Pose and expression are shared controls, and so is what they do to a face: all people's networks share their weights.
Who somebody is lies in the source frames, and in a few weights of one's own: the biases of the layers that the control
code enters and of the maps that are decoded from it (the shape of a face), and the learned picture of the common face.
Swaps pair frames of one person only; people take turns in the batches.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Timer
from torch import Tensor, nn

from dmsynth.datasets.dataset import Dataset
from dmsynth.learning.batches import Batch, Batches, Stream
from dmsynth.learning.callbacks import Bound
from dmsynth.learning.data import TrainingData, prepare
from dmsynth.learning.face_file import (
    TrainedFace,
    cast_file,
    check_name,
    located,
    read_face,
    read_people,
    save_cast,
    save_face,
)
from dmsynth.learning.settings import Options, choose_settings
from dmsynth.learning.swapping import OBJECTIVES
from dmsynth.learning.swapwarp import SwapWarp
from dmsynth.learning.training import Material, Training, fit, shape_of, trained_face
from dmsynth.learning.warm_start import Codes, Head, codes_of, placed, refitted
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import check_output
from dmsynth.support.progress import console
from dmsynth.trackers.face import Face
from dmsynth.trackers.identity import seem_one_person
from dmsynth.video import Image

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
    """A cast: each batch is one person's, drawn by that person's network.

    ``casting``: for each person, how their own control codes become the cast's.
    """

    casting: Sequence[Casting]

    def of_batch(self, network: Any, batch: Batch) -> tuple[Any, Batch]:
        who, drivers, driving, images, code, *landmarks = batch
        person, code = network.people[int(who)], self.casting[int(who)](code)
        if not self.settings.transfer:
            return person, (images, code, *landmarks)
        rows = [self.casting[int(driver)](row[None]) for driver, row in zip(drivers, driving, strict=True)]
        known: Any = (images, code, landmarks[0] if landmarks else None, torch.cat(rows))
        return person, known


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
        own = code[:, : len(self.columns)]
        result[:, self.columns] = own * self.scale.to(code.device) + self.shift.to(code.device)
        return result


class _InTurn:
    """The batches of several people, taking turns. First in a batch is whose it is; then controls of others (n, K),
    filled with zeros, to drive that person with, and who these are (n,)."""

    def __init__(self, people: Sequence[Batches]) -> None:
        self.people = people

    @property
    def per_pass(self) -> int:
        """Until the one with the most frames has been seen whole."""
        return len(self.people) * max((each.per_pass for each in self.people), default=0)

    def __call__(self, number: int) -> Batch:
        turn, who = divmod(number, len(self.people))
        batch = self.people[who](turn)
        others = [each for each in range(len(self.people)) if each != who]
        drivers = np.resize(np.random.default_rng(number).permutation(others), 2).repeat(-(-len(batch[0]) // 2))
        codes = {driver: self.people[driver].codes(turn) for driver in set(drivers.tolist())}
        rows = [codes[driver][i % len(codes[driver])] for i, driver in enumerate(drivers.tolist())]
        return torch.tensor(who), torch.tensor(drivers), nn.utils.rnn.pad_sequence(rows, batch_first=True), *batch


def _batches(streams: Iterable[Stream]) -> list[Batches]:
    return [stream.batches for stream in streams if isinstance(stream.batches, Batches)]


def train_cast(datasets: Sequence[Dataset], out: Path, **options: Unpack[Options]) -> Path:
    """Train a cast of the people of several datasets; returns the path of ``face.safetensors`` in the run folder
    ``out``. People are named as their datasets' folders, and come in the order of their names. Called again, it goes
    on, as ``training.train`` does.

    Raises:
        DmsynthError: one name twice, datasets that show different controls, or what ``training.train`` raises.
    """
    datasets = sorted(datasets, key=_name)  # the same training, however they are given
    names = [_name(dataset) for dataset in datasets]
    _check(datasets, names, options)
    if not options.get("quiet"):
        _warn_of_one_person(datasets, names)
    all_settings = [choose_settings(dataset, "swapwarp", options) for dataset in datasets]
    who = " ".join(f"{name} {dataset.sha256}" for name, dataset in zip(names, datasets, strict=True))
    together = hashlib.sha256(who.encode()).hexdigest()
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
        cast, settings, Stream(_InTurn(_batches(each.training for each in data)), endless=True), bound
    )
    if settings.transfer:
        training.objective = OBJECTIVES["SwapWarp, transfer"]
    training.casting = [Casting(own, common) for own in codes]
    validated = _batches(each.validation for each in data)
    validated = validated if all(each.per_pass for each in validated) else []
    frames = sum(len(each.dataset.split("train")) for each in data)
    material = Material(
        {name: str(dataset.path) for name, dataset in zip(names, datasets, strict=True)},
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


def _name(dataset: Dataset) -> str:
    return dataset.path.resolve().name


def _check(datasets: Sequence[Dataset], names: Sequence[str], options: Options) -> None:
    for dataset, name in zip(datasets, names, strict=True):
        check_name(name, dataset.path)
        twice = [other.path for other, its in zip(datasets, names, strict=True) if its.lower() == name.lower()]
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
    if options.get("epochs") is not None:
        raise DmsynthError("--epochs: people of a cast have not as many frames; give --steps or --max-time")
    if options.get("devices", 1) > 1:
        raise DmsynthError("--devices: a cast is trained on one device; leave the option out")
    if options.get("begin"):
        raise DmsynthError("--from: a cast begins from nothing; leave the option out, or train one dataset")


def _warn_of_one_person(datasets: Sequence[Dataset], names: Sequence[str]) -> None:
    looks = [_looks(dataset) for dataset in datasets]
    for (name, one), (another, other) in itertools.combinations(zip(names, looks, strict=True), 2):
        if seem_one_person(one, other):
            console.print(
                f"{name} and {another} seem to be one person: a cast counts them as two; make one dataset of both, or "
                "leave one out",
                style="yellow",
            )


def _looks(dataset: Dataset, count: int = 12) -> list[tuple[Image, Face]]:
    """Some frames and their faces, filmed ones where there are any."""
    landmarks = dataset.landmarks()
    if landmarks is None:
        return []
    frames = dataset.split("train")
    filmed = frames[~dataset.posed[frames]]
    chosen = filmed[np.linspace(0, len(filmed) - 1, count).round().astype(int)]
    points = landmarks[chosen] * np.array(dataset.size, np.float32)
    return [
        (np.array(dataset.frames[i]), Face(np.eye(3), (0, 0, *dataset.size), np.pad(each, ((0, 0), (0, 1)))))
        for i, each in zip(chosen, points, strict=True)
    ]


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
    if any(located(Path(each.partition("=")[2]))[0].resolve() == out.resolve() for each in faces):
        raise DmsynthError(f"{out}: is one of the faces; give the cast another name")
    save_cast(out, people)
    return list(people)


def split(cast: Path, out: Path) -> list[Path]:
    """Write every person of a cast to ``out``/NAME.safetensors; returns these files. ``DmsynthError`` if one of them is
    there."""
    people = read_people(cast_file(cast))
    files = {name: out / f"{name}.safetensors" for name in people}
    there = [file for file in files.values() if file.exists()]
    if there:
        raise DmsynthError(f"{there[0]}: is there already; give another folder with --out")
    out.mkdir(parents=True, exist_ok=True)
    for name, face in people.items():
        save_face(files[name], face)
    return list(files.values())
