"""Remove a person from a cast."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dmsynth.learning.face_file import read_people, save_cast
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import lock, read_json, write_json
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
    file = cast / "face.safetensors" if cast.is_dir() else cast
    people = read_people(file)
    if name not in people:
        raise DmsynthError(f"{file}: no {printable(name)} in it; there is {', '.join(people)}")
    if len(people) == 1:
        raise DmsynthError(f"{file}: {name} is the only one in it; remove the file")
    gone = people.pop(name)
    note, removed = file.parent / "run.json", []
    if note.is_file():
        with note.open("rb") as held:
            lock(held, file.parent)  # by a training
            for path in (*(file.parent / each for each in _HOLD_FRAMES), *file.parent.glob("events.out.tfevents.*")):
                if path.is_file():
                    path.unlink()
                    removed.append(path)
            _unname(note, gone.about)
    save_cast(file, people)
    dataset = str(gone.about["dataset"])
    remains = [
        f"the weights that {', '.join(people)} share were learned from {name}'s frames, too; only a training without "
        "them makes weights that were not",
        f"the dataset {dataset}, the recording or photo that it was made from, and whatever was rendered, split off or "
        f"begun from this cast before: remove what is to be removed ({name}'s videos carry the dataset's hash "
        f"{str(gone.about['dataset_sha256'])[:12]} in their provenance)",
    ]
    return Forgotten(file, list(people), removed, remains)


def _unname(note: Path, about: dict[str, Any]) -> None:
    """Take a person's dataset out of the run's note; it cannot be gone on with, because its data are not the same."""
    content = read_json(note)
    datasets = [each for each in str(content.get("dataset", "")).split(", ") if Path(each).name != about["dataset"]]
    write_json(note, content | {"dataset": ", ".join(datasets), "forgot": "a person; train anew to go on"})
