"""From a plan to a set of labelled frames: shards in parallel, an index, hashes, a card."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from dmsynth.experiments.grid import Engine, Job, run_grid
from dmsynth.generation.card import write_card
from dmsynth.generation.checks import Checked, check
from dmsynth.generation.design import Design
from dmsynth.generation.estimate import estimate
from dmsynth.generation.plan import Order, read_plan
from dmsynth.generation.shards import Shard, fingerprint, make_shard, read_result, shards_of, what_is_wrong
from dmsynth.generation.store import Store
from dmsynth.generation.stored import SetRecord
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import sha256_of, write_json, write_text
from dmsynth.support.parallel import cores
from dmsynth.support.progress import console
from dmsynth.support.table_files import write_table

_SHARD = 256e6  # bytes of a shard, about


@dataclass(frozen=True)
class Set:
    """A finished set of labelled frames, in the folder or at the address ``out``: its shards, clips and frames, and
    bytes in all."""

    out: str
    shards: int
    clips: int
    frames: int
    bytes_: int


def generate(path: Path, out: str | Path, engine: Engine) -> Set:
    """Make the set of labelled frames that the plan at ``path`` asks for, in the folder or at the address ``out``.

    Interrupted, the same command goes on; a shard that was damaged since is made again. A plan with more ``frames``
    than before adds to the set.

    Raises:
        DmsynthError: in one line: a plan that cannot be met (``plan.read_plan``, ``checks.check``), a folder that holds
            another set, an address that cannot be written, a job that failed; what was drawn is kept.
    """
    order, store = read_plan(path), Store.of(out)
    store.check_shared()
    people = check(order)
    hashes = {name: each.sha256 for name, each in people.items()}
    made_as = fingerprint(order, hashes)
    each = _clips_per_shard(order, people, store, made_as)
    shards = shards_of(store, order.plan.name, Design(order).clips, each)
    _check_no_more(shards, store)
    _forget_what_is_not_there(shards, made_as)
    jobs = [_job(shard, order, path, hashes, made_as) for shard in shards]
    run_grid("generating", make_shard, jobs, store.work / "jobs", engine, _share, things="shards")
    return _finish(order, people, shards, store)


def _clips_per_shard(order: Order, people: dict[str, Checked], store: Store, made_as: str) -> int:
    """How many clips a shard has: as the set was begun, else as the plan says or a sample tells."""
    out = store.where
    if store.has("set.json"):
        said = store.record("set.json", SetRecord, "take another --out, or remove it")
        if said.fingerprint != made_as:
            raise DmsynthError(
                f"{out}: holds frames of another plan, other faces or another version; take another --out"
            )
        each = said.clips_per_shard
        if order.plan.clips_per_shard not in (None, each):
            raise DmsynthError(f"{out}: was begun with {each} clips in a shard; leave clips_per_shard as it was")
        return each
    if store.names(""):
        raise DmsynthError(f"{out}: is not empty, and holds no set of frames; take another --out")
    each = order.plan.clips_per_shard or 0
    if not each:
        sample = estimate(order)
        each = max(1, round(_SHARD / (sample.bytes_a_frame * sample.frames / sample.clips)))
    store.tidy()  # of a set that was removed there
    write_json(store.work / "set.json", {
        "name": order.plan.name,
        "fingerprint": made_as,
        "clips_per_shard": each,
        "people": {name: person.to_dict() for name, person in people.items()},
    })  # fmt: skip
    store.put("set.json")
    return each


def _check_no_more(shards: Sequence[Shard], store: Store) -> None:
    """Raise ``DmsynthError`` if there are shards that the plan has not."""
    known = {shard.archive.name for shard in shards}
    extra = [name for name in store.names("data") if name.endswith(".tar") and name not in known]
    if extra:
        raise DmsynthError(f"{store.where}: holds {extra[0]}, too, which this plan does not reach; ask for more frames")


def _forget_what_is_not_there(shards: Sequence[Shard], made_as: str) -> None:
    """Delete the results of shards that are not what they were, so that they are made again; and take over those of
    shards that were made elsewhere."""
    with ThreadPoolExecutor(cores()) as pool:  # hashing releases the interpreter
        for shard, wrong in zip(shards, pool.map(lambda each: what_is_wrong(each, made_as), shards), strict=True):
            if wrong:
                console.print(f"{wrong}; made again", style="yellow")
            if wrong or not shard.is_made:
                shard.result.unlink(missing_ok=True)
            elif not shard.result.is_file():
                write_text(shard.result, shard.store.read(shard.result_name).decode())


def _job(shard: Shard, order: Order, path: Path, hashes: dict[str, str], made_as: str) -> Job:
    arguments = {
        "plan": order.plan.model_dump(mode="json"),
        "base": str(path.parent.resolve()),
        "faces": hashes,
        "fingerprint": made_as,
        "first": shard.first,
        "end": shard.end,
        "out": None if shard.store.is_here else shard.store.where,
    }
    return Job(shard.name, shard.end - shard.first, arguments)


def _share(folder: Path, job: Job) -> float:
    """Share of a shard's clips that are drawn."""
    drawn = sum(1 for _ in folder.glob("*.part"))
    return min(1.0, drawn / (int(job.arguments["end"]) - int(job.arguments["first"])))


def _finish(order: Order, people: dict[str, Checked], shards: Sequence[Shard], store: Store) -> Set:
    """Write index, card and, last, the hashes of what is whole."""
    tables, hashes, size = [], [], 0
    for shard in shards:
        result = read_result(shard)
        tables.append(pd.DataFrame([{"shard": shard.archive.name} | dict(row) for row in result.clips]))
        hashes.append((result.sha256, shard.archive_name))
        size += result.bytes_
    index = pd.concat(tables, ignore_index=True)
    write_table(store.work / "index.parquet", index)
    hashes.append((sha256_of(store.work / "index.parquet"), "index.parquet"))
    card = write_card(store, order, people, index, size)
    write_text(store.work / "SHA256SUMS", "".join(f"{sha256}  {name}\n" for sha256, name in hashes))
    for name in ("index.parquet", *card, "SHA256SUMS"):
        store.put(name)
    store.tidy()
    return Set(store.where, len(shards), len(index), int(index["frames"].sum()), size)
