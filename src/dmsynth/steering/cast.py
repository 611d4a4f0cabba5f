"""A cast: several persons, each a face that every command accepts. A trained one is a face file (``learning.cast``), or
the run folder that it lies in; any other faces are named by a YAML file:

persons:
  eileen: starter
  grace: posed:photos/grace.jpg     # a path is relative to this file
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from dmsynth.learning.face_file import is_name, located, people_of
from dmsynth.steering import KINDS, is_portrait, kinds
from dmsynth.steering.renderer import PORTRAIT
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import is_file, is_folder
from dmsynth.support.records import Record, printable
from dmsynth.support.yaml_files import checked_yaml, yaml_of, yaml_text

_MOST = 1000
_EXAMPLE = "write `persons:` and below it a line each, such as `  eileen: starter`"


class Cast(Record):
    """A cast's file: the face of each person by name."""

    persons: Annotated[dict[str, Annotated[str, Field(min_length=1, max_length=4000)]], Field(max_length=_MOST)]


def read_cast(path: Path) -> dict[str, str]:
    """The face of each person by name, in the file's order, as ``FaceSpec.face`` takes it, paths made absolute.

    Args:
        path: a YAML file, a trained cast's face file, or the run folder in which it is ``face.safetensors``.

    Raises:
        DmsynthError: in one line with file and person: no such file, no persons, a name that no file could have, a
            face that is not there or needs more than a name, one face under two names.
    """
    path = path / "face.safetensors" if path.is_dir() else path
    if not path.is_file():
        raise DmsynthError(f"{path}: no such cast; {_EXAMPLE}")
    if path.suffix == ".safetensors":
        names = people_of(path)
        if not names:
            raise DmsynthError(f"{path}: is one face and no cast; give it as --face, or name it in a YAML file")
        return {name: f"{path.resolve()}#{name}" for name in names}
    root, content = yaml_of(yaml_text(path, "cast"), str(path), "cast", _EXAMPLE)
    _check_names(content, path)
    cast = checked_yaml(root, content, Cast, str(path), "cast")
    faces: dict[str, str] = {}
    for person, face in cast.persons.items():
        found = face_named(face, path.parent, f"{path}: {person}")
        same = next((name for name, other in faces.items() if other == found), None)
        if same is not None:
            raise DmsynthError(
                f"{path}: {person}: has the face of {same}, {face}: one driver under two names would count twice; "
                "remove one"
            )
        faces[person] = found
    return faces


def _check_names(content: object, path: Path) -> None:
    """What pydantic would say of a name, in words."""
    persons = content.get("persons") if isinstance(content, dict) else None
    if not persons:
        raise DmsynthError(f"{path}: names no persons; {_EXAMPLE}")
    if not isinstance(persons, dict):
        raise DmsynthError(f"{path}: persons: is no list of names with faces; {_EXAMPLE}")
    seen: dict[str, str] = {}
    for name in persons:
        if not isinstance(name, str) or not is_name(name):
            raise DmsynthError(
                f"{path}: {printable(str(name))[:60]}: is no name for a person; take up to 40 letters a to z, digits, "
                "- and _, in quotes if it is a number"
            )
        other = seen.setdefault(name.lower(), name)
        if other != name:
            raise DmsynthError(f"{path}: {name}: differs from {other} by capitals only; files could not; rename one")


def face_named(face: str, folder: Path, where: str) -> str:
    """A face that a file in ``folder`` names, as every command takes it, its path made absolute.

    Raises ``DmsynthError`` that begins with ``where`` if nothing is there.
    """
    path = folder / face
    file, person = located(path)
    if person is not None and is_file(file):
        if person not in people_of(file):
            raise DmsynthError(f"{where}: {face}: nobody of that name in it; there is {', '.join(people_of(file))}")
        return f"{file.resolve()}#{person}"
    if is_file(path) or is_folder(path):
        return f"posed:{path.resolve()}" if is_portrait(path) else str(path.resolve())
    if face == PORTRAIT:
        return f"posed:{PORTRAIT}"
    if face == "starter":
        return face
    kind, colon, rest = face.partition(":")
    if not colon:
        raise DmsynthError(f"{where}: {face}: no such face; give starter, or a path relative to the cast's file")
    known = kinds()
    if kind not in known:
        raise DmsynthError(
            f"{where}: {face}: no such file, and no renderer is named {kind}; there is {', '.join(known)}"
        )
    if known[kind].folder is not None:
        raise DmsynthError(f"{where}: {face}: needs a picture besides its name; take a face, or posed:PICTURE")
    path = folder / rest
    if is_file(path) or is_folder(path):
        return f"{kind}:{path.resolve()}"
    if kind in KINDS and not (kind == "posed" and rest == PORTRAIT):
        raise DmsynthError(f"{where}: {face}: no such file or folder; a path is relative to the cast's file")
    return face
