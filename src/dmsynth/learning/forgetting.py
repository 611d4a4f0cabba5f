"""Remove a person from a cast."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dmsynth.learning.face_file import cast_file, read_people, save_cast
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import lock, read_json, remove_leftovers, write_json
from dmsynth.support.records import printable


@dataclass(frozen=True)
class Forgotten:
    """What became of a person.

    Attributes:
        cast: the file that they were in.
        left: who is still in it.
        removed: files that are gone.
        remains: what cannot be undone, or is for the user to remove, in sentences.
    """

    cast: Path
    left: list[str]
    removed: list[Path]
    remains: list[str]


_HOLD_FRAMES = ("last.ckpt", "best.ckpt", "preview.png", "live.csv", "curves.csv")


def forget(name: str, cast: Path) -> Forgotten:
    """Remove a person from a cast's file, and from its run folder what holds their frames, weights or name.

    Args:
        cast: the run folder, or the file in it.

    Raises:
        DmsynthError: there is no such cast or person, or nobody else is in it, or it is being trained.
    """
    file = cast_file(cast)
    note, removed = file.parent / "run.json", []
    run = read_json(note) if file.name == "face.safetensors" and note.is_file() else {}
    of_this_run = name in (run.get("people") or {})
    with note.open("rb") if of_this_run else nullcontext() as held:
        if held is not None:
            lock(held, file.parent)  # by a training
            if not file.is_file():
                raise DmsynthError(f"{file.parent}: its training is not finished; finish it, or remove the folder")
        people = read_people(file)
        if name not in people:
            raise DmsynthError(f"{file}: no {printable(name)} in it; there is {', '.join(people)}")
        if len(people) == 1:
            raise DmsynthError(f"{file}: {name} is the only one in it; remove the file")
        gone = people.pop(name)
        if of_this_run:
            removed = _clean(file.parent)
            _unname(note, run, name)
        save_cast(file, people)
    dataset = str(gone.about["dataset"])
    remains = [
        f"the weights that {', '.join(people)} share were learned from {name}'s frames, too; only a training without "
        "them makes weights that were not",
        f"the dataset {dataset}, the recording or photo that it was made from, and whatever was rendered, split off or "
        "begun from this cast before, or logged of its making: remove what is to be removed (videos carry the "
        f"dataset's hash {str(gone.about['dataset_sha256'])[:12]} in their provenance)",
    ]
    return Forgotten(file, list(people), removed, remains)


def _clean(run: Path) -> list[Path]:
    """Remove from a run folder what holds frames or weights; returns what was there."""
    removed = remove_leftovers(run)
    for path in (*(run / each for each in _HOLD_FRAMES), *run.glob("events.out.tfevents.*")):
        if path.is_file():
            path.unlink()
            removed.append(path)
    return removed


def _unname(note: Path, run: dict[str, Any], name: str) -> None:
    """Take a person out of the run's note; it cannot be gone on with, because its data are not the same."""
    people = {other: dataset for other, dataset in run["people"].items() if other != name}
    write_json(note, run | {"people": people, "forgot": "a person"})
