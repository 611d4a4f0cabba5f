"""People of a cast under each other's driving: do they do what they are told, do they stay who they are, and can it be
seen who drives them?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dmsynth.datasets.dataset import Dataset
from dmsynth.learning.face_file import read_people
from dmsynth.learning.warm_start import codes_of
from dmsynth.steering import SteerableFace, load_face
from dmsynth.support.errors import DmsynthError
from dmsynth.support.progress import progress
from dmsynth.trackers import Tracker, recognition
from dmsynth.trackers.face import Face, why_unusable
from dmsynth.trackers.identity import Likeness
from dmsynth.video import Image


def measure_cast(path: Path, datasets: Mapping[str, Dataset], tracker: Tracker, frames: int = 40) -> dict[str, Any]:
    """Drive each person of a cast with the test frames of every other.

    Args:
        path: a cast's file.
        datasets: those that it was trained on, by person.
        frames: how many test frames of a driver, evenly chosen; those that the driven person's coverage holds count.

    Returns:
        ``pairs``: one entry a driven person and driver: ``frames`` that count, ``lost``, mean ``error`` of each control
        in degrees, ``identity`` (1: as alike as other real frames of the person, 0: the driver), ``nearer``; and the
        second opinion where there is one (``trackers.recognition``), else None: ``distance``, the median one from the
        person's real frames, and ``recognized``, the share below ``recognition.SAME``.
        ``leakage``: for each person the share of drawn faces from which a classifier (nearest mean of the pixels on
        the mesh, learned on the first half of each driver's frames, asked about the second) tells who drives;
        ``from_controls``, the same of the commanded codes themselves; ``chance``.

    Raises:
        DmsynthError: a person has no dataset, or the tracker gives no landmarks.
    """
    people = read_people(path)
    if len(people) < 2:
        raise DmsynthError(f"{path}: holds one person; several are needed to drive each other")
    for name in people:
        if name not in datasets:
            raise DmsynthError(f"{path}: name the dataset of {name}, too")
    pairs: list[dict[str, Any]] = []
    leakage = {}
    with progress("driving each other", len(people) * (len(people) - 1)) as advance:
        for name in people:
            face = load_face(Path(f"{path}#{name}"))
            looks, controls, drivers = [], [], []
            for driver in people:
                if driver == name:
                    continue
                values, carried = _driving(face, datasets[driver], frames)
                inside = np.setdiff1d(np.arange(len(values)), face.outside_coverage(values))
                pair, patterns, found = _driven(face, datasets[name], datasets[driver], values[inside],
                                                carried[inside], tracker)  # fmt: skip
                pairs.append({"person": name, "driver": driver, **pair})
                looks.append(patterns)
                controls.append(np.concatenate([face.trained.space.encode(values), carried], axis=1)[inside][found])
                drivers.append(driver)
                advance()
            leakage[name] = {
                "told": _told(looks),
                "from_controls": _told(controls),
                "chance": 1 / len(drivers),
            }
    return {"pairs": pairs, "leakage": leakage}


def _driving(face: SteerableFace, driver: Dataset, frames: int) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Controls (n, k) and carried codes (n, c) of a driver's test frames, as the driven face takes them."""
    test = driver.split("test")
    test = test[np.linspace(0, len(test) - 1, min(frames, len(test))).round().astype(int)]
    space, own = face.trained.space, face.trained.carried
    values = driver.controls(space, driver.most_exact_labels)
    names, quantities = driver.carried(space)
    carried = np.tile(face.trained.source_codes[0, space.size :], (len(test), 1)).astype(np.float32)
    known = [name for name in own.names if name in names]
    if known:
        # what a driver does beyond the usual of the same rotation, in the same physical amount
        training = driver.split("train")
        theirs = type(own).fitted(names, space.encode(values[training]), quantities[training])
        codes = theirs.encode(names, space.encode(values), quantities)[test]
        meaning, wanted = codes_of(space, theirs), codes_of(space, own)
        for name in known:
            if name not in theirs.names:
                continue
            i, j = theirs.names.index(name), own.names.index(name)
            a, b = meaning.names.index(f"carried {name}"), wanted.names.index(f"carried {name}")
            ratio = (meaning.high[a] - meaning.low[a]) / (wanted.high[b] - wanted.low[b])
            carried[:, j] = np.clip(0.5 + ratio * (codes[:, i] - 0.5), *_ends(own, j))
    return values[test], carried


def _ends(own: Any, number: int) -> tuple[float, float]:
    low, high = np.broadcast_to(own.low, own.size), np.broadcast_to(own.high, own.size)
    return float(low[number]), float(high[number])


def _driven(
    face: SteerableFace,
    person: Dataset,
    driver: Dataset,
    values: NDArray[np.float64],
    carried: NDArray[np.float32],
    tracker: Tracker,
) -> tuple[dict[str, Any], NDArray[np.float64], NDArray[np.int64]]:
    """What a driven face looks like: the figures, (m, pixels) its patterns, and which of the rows these are."""
    likeness = Likeness.learn(_real(person), _real(driver), tracker)
    if likeness is None:
        raise DmsynthError(
            f"{person.path} and {driver.path}: cannot be told apart: they show one person, or {tracker.name} finds too "
            "few faces with landmarks in them"
        )
    drawn = list(face.frames(values, carried=carried, moving=False)) if len(values) else []
    seen = [(number, image, tracker(image)) for number, image in enumerate(drawn)]
    usable = [(number, image, faces[0]) for number, image, faces in seen if why_unusable(faces, image) is None]
    found = np.array([number for number, *_ in usable], dtype=np.int64)
    names = face.trained.space.names
    measured = np.array([[each.pose[name] for name in names] for *_, each in usable]).reshape(-1, len(names))
    error = np.abs(measured - values[found]).mean(axis=0) if len(found) else [None] * len(names)
    patterns = np.array([likeness.mesh.warp(image, each) for _, image, each in usable])
    figures = {
        "frames": len(values),
        "lost": len(values) - len(found),
        "error": {name: None if each is None else float(each) for name, each in zip(names, error, strict=True)},
        **likeness.kept(drawn, tracker),
        **_recognized(_real(person), [(image, each) for _, image, each in usable], tracker),
    }
    return figures, patterns, found


def _recognized(real: list[Image], drawn: list[tuple[Image, Face]], tracker: Tracker) -> dict[str, float | None]:
    """What face recognition says of drawn faces: how far from the person's real ones they are."""
    if not recognition.is_at_hand() or not drawn:
        return {"distance": None, "recognized": None}
    seen = [(image, tracker(image)) for image in real]
    own = recognition.described((image, faces[0]) for image, faces in seen if why_unusable(faces, image) is None)
    found = recognition.described(drawn)
    distances = np.linalg.norm(found[:, None] - own[None], axis=2).mean(axis=1)
    return {"distance": float(np.median(distances)), "recognized": float(np.mean(distances < recognition.SAME))}


def _real(dataset: Dataset, count: int = 24) -> list[Image]:
    """Filmed (or, of a photo, posed) training frames, evenly chosen."""
    frames = dataset.split("train")
    filmed = frames[~dataset.posed[frames]]
    return [np.array(dataset.frames[i]) for i in filmed[np.linspace(0, len(filmed) - 1, count).astype(int)]]


def _told(groups: list[NDArray[np.float64]] | list[NDArray[Any]]) -> float | None:
    """The share of the second halves of the groups' rows that lie nearest to their own group's first half, the mean
    over the groups; None if one has too few rows."""
    if len(groups) < 2 or min(len(group) for group in groups) < 4:
        return None
    halves = [np.split(group, [len(group) // 2]) for group in groups]
    means = np.stack([first.mean(axis=0) for first, _ in halves])
    right = []
    for which, (_, second) in enumerate(halves):
        nearest = np.square(second[:, None] - means[None]).sum(axis=2).argmin(axis=1)
        right.append(float(np.mean(nearest == which)))
    return float(np.mean(right))
