"""Shards: the clips of a stretch of numbers in one tar archive, drawn in one job, and whether it is whole."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from dmsynth.generation.clip import Clip, Studio, draw
from dmsynth.generation.plan import Order, Plan, order
from dmsynth.generation.store import Store
from dmsynth.steering.provenance import face_sha256
from dmsynth.steering.taken import drawn_size
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import replacing, write_json
from dmsynth.support.machine import give_back_memory
from dmsynth.support.records import Count, Record, Sha256, Text
from dmsynth.support.version import __version__

_END = 1024  # bytes of zeros that end a tar archive …
_BLOCK = 10_240  # … which is filled up to a multiple of this
_COPIED = 2**20  # bytes at a time
_AGAIN = "run the same command again: it makes the shard anew"


@dataclass(frozen=True)
class Shard:
    """The clips ``first`` to ``end`` (without it), of the set in a ``store``."""

    store: Store
    name: str
    first: int
    end: int

    @property
    def archive_name(self) -> str:
        return f"data/{self.name}.tar"

    @property
    def result_name(self) -> str:
        return f"jobs/{self.name}/result.json"

    @property
    def archive(self) -> Path:
        """Where the archive is made; of a set at an address it does not stay there."""
        return self.store.work / self.archive_name

    @property
    def result(self) -> Path:
        """What tells this machine that the shard is made."""
        return self.store.work / self.result_name

    @property
    def is_made(self) -> bool:
        return self.store.has(self.result_name)


class _Row(Record):
    """A ``Clip``, as it is read back."""

    clip: Count
    key: Text
    person: Text
    camera: Text
    motion: Text
    things: Text
    frames: Count
    frame_rate: float
    width: Count
    height: Count
    covered: float


class Result(Record):
    """What is in a shard."""

    fingerprint: Sha256
    first: Count
    end: Count
    bytes_: Annotated[int, Field(ge=0, alias="bytes")]
    sha256: Sha256
    clips: list[_Row]


def shards_of(store: Store, name: str, clips: int, each: int) -> list[Shard]:
    """The shards of so many clips, ``each`` clips in one."""
    return [
        Shard(store, f"{name}-{number:06d}", first, min(first + each, clips))
        for number, first in enumerate(range(0, clips, each))
    ]


def fingerprint(order: Order, faces: dict[str, str]) -> str:
    """A hash of everything that the bytes of a clip depend on, but its number.

    faces: SHA-256 of each person's face.
    """
    parts = [
        __version__,
        order.plan.model_dump(mode="json", exclude={"frames", "clips_per_shard", "title", "people"}),
        order.weights,
        faces,
        {name: camera.model_dump(mode="json") for name, camera in order.cameras.items()},
        {name: motion.model_dump(mode="json") for name, motion in order.motions.items()},
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def make_shard(folder: Path, arguments: dict[str, Any]) -> None:
    """The work of one job: draw the clips of a shard that are not drawn yet, and put them into its archive.

    Args:
        folder: of the job; clips are kept here until all are drawn.
        arguments: ``plan``, ``base`` (folder of its paths), ``faces`` (SHA-256 by person), ``first``, ``end``, and
            ``out``, the address of a set that does not lie here.

    Raises:
        DmsynthError: a face is not the one that the set was begun with; an address that cannot be written.
    """
    what = order(Plan.model_validate(arguments["plan"]), Path(arguments["base"]), "plan")
    studio, first, end = Studio(what), int(arguments["first"]), int(arguments["end"])
    shard = Shard(_store(folder, arguments.get("out")), folder.name, first, end)
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob("drawing-*"):  # of a killed process
        shutil.rmtree(left, ignore_errors=True)
    people, sizes = list(what.people), [drawn_size(camera) for camera in what.cameras.values()]
    cells = {number: studio.design.cell(number)[0] for number in range(first, end)}
    rows: dict[int, Clip] = {}
    before = None
    for number in sorted(cells, key=lambda each: (cells[each].person, sizes[cells[each].camera], each)):
        person, size = people[cells[number].person], sizes[cells[number].camera]
        face = studio.face(person, size)
        if face is not before and face_sha256(face.path, face.trained) != arguments["faces"][person]:
            raise DmsynthError(f"{person}: the face was changed since the set was begun; take another --out")
        before = face
        rows[number] = draw(studio, number, folder)
        give_back_memory()
    ordered = [rows[number] for number in range(first, end)]
    sha256 = _packed([folder / f"{row.key}.part" for row in ordered], shard.archive)
    result = {
        "fingerprint": arguments["fingerprint"],
        "first": first,
        "end": end,
        "bytes": shard.archive.stat().st_size,
        "sha256": sha256,
        "clips": [asdict(row) for row in ordered],
    }
    shard.store.put(shard.archive_name)
    write_json(shard.result, result)
    shard.store.put(shard.result_name)
    if not shard.store.is_here:
        shard.archive.unlink()
    for row in ordered:
        for suffix in (".part", ".json"):
            (folder / f"{row.key}{suffix}").unlink(missing_ok=True)


def _store(folder: Path, address: str | None) -> Store:
    """The store of a job in its ``folder``, wherever this machine has it."""
    work = folder.parent.parent
    return Store.of(work) if address is None else replace(Store.of(address), work=work)


def _packed(parts: list[Path], archive: Path) -> str:
    """One archive of parts, and its SHA-256."""
    digest = hashlib.sha256()
    with replacing(archive) as temporary, temporary.open("wb") as whole:
        for part in parts:
            with part.open("rb") as file:
                while content := file.read(_COPIED):
                    whole.write(content)
                    digest.update(content)
        end = bytes(_END + -(whole.tell() + _END) % _BLOCK)
        whole.write(end)
        digest.update(end)
    return digest.hexdigest()


def read_result(shard: Shard) -> Result:
    """What a finished shard holds. ``DmsynthError`` for a missing or damaged file."""
    return shard.store.record(shard.result_name, Result, _AGAIN)


def what_is_wrong(shard: Shard, made_as: str) -> str | None:
    """What is wrong with a finished shard, in words; None: nothing, or it is not finished.

    made_as: the fingerprint of the set.
    """
    if not shard.is_made:
        return None
    store, archive = shard.store, shard.store.named(shard.archive_name)
    try:
        result = read_result(shard)
    except DmsynthError as error:
        return str(error).partition("; ")[0]
    if (result.first, result.end) != (shard.first, shard.end) or result.fingerprint != made_as:
        return f"{archive}: holds other clips"
    if not store.has(shard.archive_name):
        return f"{archive}: is gone"
    if store.size(shard.archive_name) != result.bytes_ or store.sha256(shard.archive_name) != result.sha256:
        return f"{archive}: is damaged"
    return None
