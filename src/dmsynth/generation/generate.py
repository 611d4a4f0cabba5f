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
from dmsynth.generation.stored import SetRecord
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import sha256_of, write_json, write_text
from dmsynth.support.parallel import cores
from dmsynth.support.progress import console
from dmsynth.support.records import read_record
from dmsynth.support.table_files import write_table

_SHARD = 256e6  # bytes of a shard, about


@dataclass(frozen=True)
class Set:
    """A finished set of labelled frames, in the folder ``out``: its shards, clips and frames, and bytes in all."""

    out: Path
    shards: int
    clips: int
    frames: int
    bytes_: int


def generate(path: Path, out: Path, engine: Engine) -> Set:
    """Make the set of labelled frames that the plan at ``path`` asks for, in the folder ``out``.

    Interrupted, the same command goes on; a shard that was damaged since is made again. A plan with more ``frames``
    than before adds to the set.

    Raises:
        DmsynthError: in one line: a plan that cannot be met (``plan.read_plan``, ``checks.check``), a folder that holds
            another set, a job that failed; what was drawn is kept.
    """
    order = read_plan(path)
    people = check(order)
    hashes = {name: each.sha256 for name, each in people.items()}
    made_as = fingerprint(order, hashes)
    each = _clips_per_shard(order, people, out, made_as)
    shards = shards_of(out, order.plan.name, Design(order).clips, each)
    _check_no_more(shards, out)
    _forget_what_is_damaged(shards, made_as)
    jobs = [_job(shard, order, path, hashes, made_as) for shard in shards]
    run_grid("generating", make_shard, jobs, out / "jobs", engine, _share, things="shards")
    return _finish(order, people, shards, out)


def _clips_per_shard(order: Order, people: dict[str, Checked], out: Path, made_as: str) -> int:
    """How many clips a shard has: as the set was begun, else as the plan says or a sample tells."""
    about = out / "set.json"
    if about.is_file():
        said = read_record(about, SetRecord, f"take another --out, or remove {about}")
        if said.fingerprint != made_as:
            raise DmsynthError(
                f"{out}: holds frames of another plan, other faces or another version; take another --out"
            )
        each = said.clips_per_shard
        if order.plan.clips_per_shard not in (None, each):
            raise DmsynthError(f"{out}: was begun with {each} clips in a shard; leave clips_per_shard as it was")
        return each
    if out.exists() and any(out.iterdir()):
        raise DmsynthError(f"{out}: is not empty, and holds no set of frames; take another --out")
    each = order.plan.clips_per_shard or 0
    if not each:
        sample = estimate(order)
        each = max(1, round(_SHARD / (sample.bytes_a_frame * sample.frames / sample.clips)))
    write_json(about, {
        "name": order.plan.name,
        "fingerprint": made_as,
        "clips_per_shard": each,
        "people": {name: person.to_dict() for name, person in people.items()},
    })  # fmt: skip
    return each


def _check_no_more(shards: Sequence[Shard], out: Path) -> None:
    """Raise ``DmsynthError`` if the folder has shards that the plan has not."""
    known = {shard.archive.name for shard in shards}
    extra = sorted(file.name for file in (out / "data").glob("*.tar") if file.name not in known)
    if extra:
        raise DmsynthError(f"{out}: holds {extra[0]}, too, which this plan does not reach; ask for more frames")


def _forget_what_is_damaged(shards: Sequence[Shard], made_as: str) -> None:
    """Delete the results of shards that are not what they were, so that they are made again."""
    with ThreadPoolExecutor(cores()) as pool:  # hashing releases the interpreter
        for shard, wrong in zip(shards, pool.map(lambda each: what_is_wrong(each, made_as), shards), strict=True):
            if wrong:
                console.print(f"{wrong}; made again", style="yellow")
                shard.result.unlink()


def _job(shard: Shard, order: Order, path: Path, hashes: dict[str, str], made_as: str) -> Job:
    arguments = {
        "plan": order.plan.model_dump(mode="json"),
        "base": str(path.parent.resolve()),
        "faces": hashes,
        "fingerprint": made_as,
        "first": shard.first,
        "end": shard.end,
    }
    return Job(shard.name, shard.end - shard.first, arguments)


def _share(folder: Path, job: Job) -> float:
    """Share of a shard's clips that are drawn."""
    drawn = sum(1 for _ in folder.glob("*.part"))
    return min(1.0, drawn / (int(job.arguments["end"]) - int(job.arguments["first"])))


def _finish(order: Order, people: dict[str, Checked], shards: Sequence[Shard], out: Path) -> Set:
    """Write index, hashes and card."""
    tables, hashes, size = [], [], 0
    for shard in shards:
        result = read_result(shard)
        tables.append(pd.DataFrame([{"shard": shard.archive.name} | dict(row) for row in result.clips]))
        hashes.append((result.sha256, f"data/{shard.archive.name}"))
        size += result.bytes_
    index = pd.concat(tables, ignore_index=True)
    write_table(out / "index.parquet", index)
    hashes.append((sha256_of(out / "index.parquet"), "index.parquet"))
    write_text(out / "SHA256SUMS", "".join(f"{sha256}  {name}\n" for sha256, name in hashes))
    write_card(out, order, people, index, size)
    return Set(out, len(shards), len(index), int(index["frames"].sum()), size)
