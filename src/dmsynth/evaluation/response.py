"""How a trained face's head is read by the tracker whose labels it learned, so that commands can allow for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from dmsynth.controls import CONTROL_SPACES, HEAD
from dmsynth.controls.response import Response
from dmsynth.datasets.dataset import Dataset
from dmsynth.learning.face_file import people_of, read_people, save_cast, save_face
from dmsynth.steering import SteerableFace, load_face
from dmsynth.support.parallel import map_ordered
from dmsynth.support.progress import progress
from dmsynth.trackers import Tracker, open_tracker

_FRAMES = 200
_BESIDE = 1.5  # degrees: drawn poses need not be filmed ones


def measure_response(face: SteerableFace, dataset: Dataset, tracker: Tracker, seed: int = 0) -> Response | None:
    """What ``tracker`` reads of a face commanded alone to poses about those of filmed frames that it has learned
    from; None if there is nothing to correct."""
    space, labels = face.trained.space, face.trained.about["settings"]["labels"]
    training = dataset.split("train")
    filmed = training[~dataset.posed[training]]
    random = np.random.default_rng(seed)
    commanded = dataset.controls(space, labels)[np.sort(random.choice(filmed, _FRAMES))]
    commanded[:, : len(HEAD)] += random.normal(0, _BESIDE, (_FRAMES, len(HEAD)))
    limits = CONTROL_SPACES[space.name].only(space.names)
    commanded = np.clip(commanded, limits.low, limits.high)  # a filmed label may lie beyond what can be commanded
    plain = replace(face, trained=replace(face.trained, response=None))
    read = np.full((len(commanded), len(HEAD)), np.nan)
    with progress("measuring how the head is read", len(commanded)) as advance:
        for row, found in enumerate(map_ordered(tracker, plain.frames(commanded, moving=False))):
            if found:
                read[row] = [found[0].pose[name] for name in HEAD]
            advance()
    return Response.fitted(commanded[:, : len(HEAD)], read)


def keep_response(path: Path, datasets: Sequence[Dataset], tracker: Tracker | None = None) -> None:
    """Measure the response of the face in ``path``, or of each person of a cast, named as a dataset's folder, and write
    it into the file.

    Faces of photos stay as they are: their labels hold no expression. So do the thesis's models, faces that learned
    another tracker's scale. Without a ``tracker`` the usual one is opened.
    """
    cast = bool(people_of(path))
    people = read_people(path)
    material = {dataset.path.resolve().name: dataset for dataset in datasets} if cast else {path.stem: datasets[0]}
    for name, trained in people.items():
        if trained.model != "swapwarp" or not trained.space.turns_head or material[name].frames_are != "real":
            continue
        tracker = tracker or open_tracker()
        if trained.about["tracker"] == tracker.name:
            face = load_face(Path(f"{path}#{name}") if cast else path)
            people[name] = replace(trained, response=measure_response(face, material[name], tracker))
    if cast:
        save_cast(path, people)
    else:
        save_face(path, next(iter(people.values())))
