"""Labelled frames in bulk: plans, the balanced design, clips that are the same wherever they are drawn, shards."""

from __future__ import annotations

import errno
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import weakref
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from commands import dmsynth, fails
from dmsynth.controls import HEAD
from dmsynth.experiments.grid import Engine, Job, is_finished
from dmsynth.generation.clip import Clip, Studio, draw
from dmsynth.generation.design import Design, _parts, _split
from dmsynth.generation.generate import generate
from dmsynth.generation.motions import Room, cells, stratified, uniform, visited
from dmsynth.generation.plan import Order, Plan, Ranges, order, read_plan
from dmsynth.generation.shards import make_shard, read_result, shards_of, what_is_wrong
from dmsynth.generation.store import Store
from dmsynth.generation.stored import stored_clips
from dmsynth.generation.verify import verify
from dmsynth.steering import FaceSpec, SteerableFace, open_renderer
from dmsynth.steering.provenance import face_sha256, read_provenance
from dmsynth.support.errors import DmsynthError
from dmsynth.support.table_files import read_table
from dmsynth.trackers import Tracker

DOCS = Path(__file__).parents[1] / "docs"
SMALL: dict[str, Any] = {
    "name": "small",
    "frames": 24,
    "seconds": 0.2,
    "clips_per_shard": 2,
    "people": ["portrait"],
    "cameras": ["night-small"],
    "things": [{"wear": []}, {"wear": ["glasses"]}],
    "motions": [{"kind": "driving"}, {"kind": "uniform"}, {"kind": "stratified"}],
}


def ordered(**changes: Any) -> Order:
    return order(Plan.model_validate(SMALL | changes), Path(), "plan")


@pytest.fixture(scope="module")
def face() -> SteerableFace:
    return open_renderer(FaceSpec("posed:portrait"), (320, 240))


def arguments(first: int, end: int, face: SteerableFace, **changes: Any) -> dict[str, Any]:
    return {
        "plan": SMALL | changes,
        "base": ".",
        "faces": {"portrait": face_sha256(face.path, face.trained)},
        "fingerprint": "0" * 64,
        "first": first,
        "end": end,
    }


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory, face: SteerableFace) -> Path:
    """A folder with a shard of six pictures of natural driving, as frames/data/small-000000.tar."""
    folder = tmp_path_factory.mktemp("pictures")
    changes: dict[str, Any] = {"store": "pictures", "motions": [{"kind": "driving"}], "things": [{"wear": []}]}
    make_shard(folder / "frames" / "jobs" / "small-000000", arguments(0, 1, face, **changes))
    return folder


def test_the_schema_is_the_published_one_and_the_example_fits_it() -> None:
    schema = json.loads(json.dumps(Plan.model_json_schema()))
    jsonschema.Draft202012Validator.check_schema(schema)
    assert json.loads((DOCS / "plan.schema.json").read_text("utf-8")) == schema  # dmsynth generate --schema
    example = (DOCS / "generate.md").read_text("utf-8").split("```yaml\n")[1].split("```")[0]
    jsonschema.validate(yaml.safe_load(example), schema)
    assert Plan.model_validate(yaml.safe_load(example)).frames == 100_000
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(SMALL | {"frames": 0}, schema)


@given(
    st.lists(st.floats(0.01, 100), min_size=1, max_size=6),
    st.integers(0, 10**9),
    st.lists(st.integers(0, 9), max_size=3),
)
def test_a_split_gives_each_choice_its_share(weights: list[float], number: int, path: list[int]) -> None:
    choice, rank = _split(number, weights, path)
    before, after = _parts(number, weights, path), _parts(number + 1, weights, path)
    assert sum(before) == number and [b - a for a, b in zip(before, after, strict=True)].count(1) == 1
    assert (before[choice], after[choice]) == (rank, rank + 1)
    wanted = np.array(weights) / sum(weights) * number
    assert np.abs(np.array(before) - wanted).max() <= len(weights)


def test_every_clip_is_known_by_its_number_and_the_shares_are_those_of_the_plan() -> None:
    what = ordered(
        people=[{"face": "portrait", "weight": 3}, "starter"],
        cameras=["night-small", "day"],
        motions=[
            {"kind": "driving", "weight": 2},
            {"kind": "uniform"},
            {"kind": "scenarios", "names": ["nominal-yawn"]},
        ],
    )
    design = Design(what)
    met = Counter(design.cell(number)[0] for number in range(600))
    assert met == Counter(dict(design.counts(600)))
    assert design.counted(600, "person") == [450, 150]
    assert design.counted(600, "camera") == pytest.approx([300, 300], abs=4)
    assert sum(design.counted(600, "motion")[:2]) == pytest.approx(450, abs=4)
    few = [_split(0, (4, 2, 1), (person, 1))[0] for person in range(700)]  # cells of one clip each
    assert [few.count(choice) for choice in range(3)] == pytest.approx([400, 200, 100], abs=45)
    ranks: Counter[tuple[int, int]] = Counter()
    for number in range(600):  # clips of a person and a motion are counted without a gap
        cell, rank = design.cell(number)
        assert rank == ranks[cell.person, cell.motion]
        ranks[cell.person, cell.motion] += 1
    clips = design.clips
    assert design.frames(clips - 1) < what.plan.frames <= design.frames(clips)


def test_even_walks_prefer_no_place_and_cells_are_all_visited(face: SteerableFace) -> None:
    room = Room.of(face.trained.space, face.trained.coverage, Ranges(), "portrait")
    times = np.arange(40) / 30
    walks = np.concatenate([uniform(room, times, np.random.default_rng(seed)).values for seed in range(80)])
    assert not face.outside_coverage(walks).size
    for column, name in enumerate(room.space.names):
        share = (walks[:, column] - room.low[column]) / (room.high[column] - room.low[column])
        tenths = np.histogram(share, bins=5, range=(0, 1))[0] / len(share)
        assert tenths.min() > 0.12 and tenths.max() < 0.28, name
    corners, each = cells(room), visited(2.0)
    assert np.isfinite(corners).all() and len(corners) > 1000
    brows = room.space.names.index("brow_raise")
    assert set(corners[:, 0, brows]) == {room.low[brows]} and set(corners[:, 1, brows]) == {room.high[brows]}
    kept = corners[:: len(corners) // 40]
    seen = [stratified(room, kept, rank, 60, 30.0, np.random.default_rng(rank)) for rank in range(len(kept) // each)]
    poses = np.concatenate([walk.values for walk in seen])
    hit = [((poses >= low - 1e-6) & (poses <= high + 1e-6)).all(axis=1).any() for low, high in kept]
    assert np.mean(hit[: len(seen) * each]) == 1


def test_a_clip_that_is_drawn_is_let_go(face: SteerableFace) -> None:
    """At once: a circle of references would stay until it is looked for, and a clip has large pictures."""
    studio = Studio(ordered(), most=2)
    shot = studio.shot(0)
    capture = weakref.ref(shot.capture)
    gc.disable()
    try:
        assert len(list(shot.frames())) == 2 and capture() is not None
        del shot
        assert capture() is None
    finally:
        gc.enable()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs run in this process, and draw a clip once: that it always has the same bytes is another test's."""
    kept = tmp_path / "drawn"
    kept.mkdir()

    def grid(title: str, work: Any, jobs: list[Job], folder: Path, *_: object, **__: object) -> None:
        for job in jobs:
            if not is_finished(folder, job):
                work(folder / job.name, job.arguments)

    def once(studio: Studio, number: int, folder: Path) -> Clip:
        row = draw(studio, number, kept)
        for suffix in (".part", ".json"):
            shutil.copy(kept / f"{row.key}{suffix}", folder)
        return row

    monkeypatch.setattr("dmsynth.generation.generate.run_grid", grid)
    monkeypatch.setattr("dmsynth.generation.shards.draw", once)
    monkeypatch.setattr("dmsynth.generation.card._distributions", lambda labels, path: path.write_bytes(b"drawn"))
    monkeypatch.setattr("dmsynth.generation.store.cache_folder", lambda: tmp_path / "cache")


def content(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


@pytest.mark.usefixtures("here")
def test_a_set_at_an_address_is_the_same_and_goes_on_by_its_hashes(
    tmp_path: Path, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, bucket = tmp_path / "plan.yaml", tmp_path / "bucket"
    plan.write_text(yaml.safe_dump(SMALL | {"frames": 12, "clips_per_shard": 1, "store": "pictures"}))
    address, put, sent = bucket.as_uri(), Store.put, list[str]()

    def watched(store: Store, name: str) -> None:
        put(store, name)
        sent.append(name)

    with monkeypatch.context() as patched:
        patched.setattr(Store, "put", watched)
        assert generate(plan, address, Engine()).out == address
    first, second = ((f"data/small-{n:06d}.tar", f"jobs/small-{n:06d}/result.json") for n in range(2))
    assert sent[:6] == ["set.json", *first, *second, "index.parquet"] and sent[-1] == "SHA256SUMS"
    assert not list((tmp_path / "cache").glob("generate/*"))  # nothing is left here
    generate(plan, tmp_path / "folder", Engine())
    whole = content(tmp_path / "folder")
    assert content(bucket) == whole
    assert not verify(address, tracker).wrong
    damaged, kept = bucket / first[0], bucket / second[0]
    times = [file.stat().st_mtime_ns for file in (damaged, kept)]
    damaged.write_bytes(damaged.read_bytes()[:-9] + b"as before")
    os.utime(damaged, ns=(times[0], times[0]))  # only its hash tells
    assert verify(address, tracker).wrong[0].startswith(f"{first[0]}: is damaged")
    generate(plan, f"{address}/", Engine())
    assert content(bucket) == whole and kept.stat().st_mtime_ns == times[1]
    (bucket / second[1]).unlink()  # as of a command that was killed before it was told
    generate(plan, address, Engine())
    assert content(bucket) == whole and kept.stat().st_mtime_ns > times[1]
    plan.write_text(yaml.safe_dump(SMALL | {"seed": 1}))
    with pytest.raises(DmsynthError, match="holds frames of another plan"):
        generate(plan, address, Engine())


def test_addresses_that_cannot_work_are_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(yaml.safe_dump(SMALL))
    monkeypatch.setitem(sys.modules, "s3fs", None)
    for address, said in (
        ("memory://set", "is the memory of one process, and frames are drawn in others"),
        ("nowhere://set", "cannot be opened (Protocol not known: nowhere); give a folder"),
        ("s3://bucket/set", "needs another package: Install s3fs"),
    ):
        assert said in fails(dmsynth("generate", plan, "--out", address))
        if not address.startswith("memory"):
            assert said in fails(dmsynth("generate", "--verify", address))
    store = replace(Store.of("memory://frames"), work=tmp_path)
    (tmp_path / "set.json").write_text("{}")
    assert (
        not store.has("set.json")
        and store.names("") == []
        and "no finished set" in fails(dmsynth("generate", "--verify", "memory://frames"))
    )
    store.put("set.json")
    assert store.has("set.json") and store.names("") == ["set.json"] and store.read("set.json") == b"{}"
    with pytest.raises(DmsynthError, match=r"memory://frames/set\.json: has more than 1 bytes"):
        store.read("set.json", 1)
    with pytest.raises(DmsynthError, match=r"memory://frames: cannot be read or written .*gone"):
        store.size("gone")


def _full_disk(*given: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "small.tar")


@pytest.mark.slow
def test_a_shard_is_the_same_in_any_order_after_a_kill_and_a_full_disk(
    tmp_path: Path, face: SteerableFace, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, again = tmp_path / "a" / "jobs" / "small-000000", tmp_path / "b" / "jobs" / "small-000000"
    make_shard(first, arguments(0, 2, face, openlabel=True))
    studio = Studio(ordered(openlabel=True))
    again.mkdir(parents=True)
    draw(studio, 1, again)  # the second clip first, then a kill in the middle of the other
    (again / "drawing-x").mkdir()
    (again / f".0000000000.{2**22 + 1}-00000000.partial.part").write_bytes(b"half")
    with monkeypatch.context() as full:
        full.setattr("dmsynth.generation.shards._packed", _full_disk)
        with pytest.raises(OSError, match="No space left"):
            make_shard(again, arguments(0, 2, face, openlabel=True))
    make_shard(again, arguments(0, 2, face, openlabel=True))
    (a,), (b,) = (shards_of(Store.of(tmp_path / side), "small", 2, 2) for side in "ab")
    assert a.archive.read_bytes() == b.archive.read_bytes() and read_result(a) == read_result(b)
    assert {path.suffix for path in first.iterdir()} == {".json"}
    with tarfile.open(a.archive) as tar:
        members = tar.getmembers()
    assert [member.name for member in members[:3]] == [f"0000000000.{end}" for end in ("mp4", "parquet", "json")]
    assert members[3].name == "0000000000.openlabel.json"
    assert {(member.mtime, member.uid, member.uname) for member in members} == {(0, 0, "")}
    assert what_is_wrong(a, "0" * 64) is None
    with b.archive.open("r+b") as file:
        file.seek(5000)
        file.write(b"damage")
    assert what_is_wrong(b, "0" * 64) == f"{b.archive}: is damaged"
    with pytest.raises(DmsynthError, match="the face was changed"):
        make_shard(again, arguments(0, 2, face) | {"faces": {"portrait": "1" * 64}})
    clip = next(stored_clips(a.store, a.archive_name, {"0000000000"}))
    (tmp_path / "0.mp4").write_bytes(clip.files["0000000000.mp4"])
    assert read_provenance(tmp_path / "0.mp4").provenance.synthetic
    assert len(json.loads(clip.files["0000000000.openlabel.json"])["openlabel"]["frames"]) == 6
    said = json.loads(clip.files["0000000000.json"])
    assert (said["frames"], len(clip.labels), len(clip.images(range(6)))) == (6, 6, 6)


def test_pictures_have_labels_that_a_tracker_confirms(pictures: Path, tracker: Tracker) -> None:
    (shard,) = shards_of(Store.of(pictures / "frames"), "small", 1, 1)
    clip = next(stored_clips(shard.store, shard.archive_name, {"0000000000"}))
    assert b"Synthetic picture" in clip.files["0000000000-00000.jpg"][:400]
    label, (image,) = clip.labels.iloc[5], clip.images([5])
    said = json.loads(clip.files["0000000000-00005.json"])
    (found,) = tracker(image)
    left, top, width, height = said["bbox"]
    assert np.abs(found.landmarks[:, :2].min(axis=0) - [left, top]).max() < 0.1 * width
    assert np.abs(found.landmarks[:, :2].max(axis=0) - [left + width, top + height]).max() < 0.1 * width
    assert all(abs(found.pose[name] - label[f"camera_{name}"]) < 8 for name in HEAD)
    assert len(said["keypoints"]) == 36 and set(said["keypoints"][2::3]) == {2}


@pytest.mark.parametrize("package", ["torch", "datasets", "webdataset"])
def test_training_code_reads_the_shards_as_the_page_says(
    package: str, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip(package, reason=f"{package} is not installed")
    monkeypatch.chdir(pictures)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    page = (DOCS / "generate.md").read_text("utf-8")
    (code,) = [text.split("```")[0] for text in page.split("```python\n")[1:] if f"import {package}\n" in text]
    there: dict[str, Any] = {}
    exec(compile(code, "docs/generate.md", "exec"), there)
    if package == "torch":
        assert there["pictures"].shape == (6, 1, 240, 320) and there["poses"].shape == (6, 3)
        assert 0.01 < there["pictures"].mean() < 0.9 and there["loss"].isfinite()
    else:
        (shard,) = shards_of(Store.of(pictures / "frames"), "small", 1, 1)
        yaw = next(stored_clips(shard.store, shard.archive_name, {"0000000000"})).labels["camera_yaw"].iloc[0]
        assert f"(320, 240) {yaw}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"people": ["nobody"]}, "people: nobody: no such face"),
        ({"people": ["portrait", "posed:portrait"]}, "portrait is there twice"),
        ({"cameras": ["moon"]}, "cameras: .*moon: no such camera"),
        ({"things": [{"wear": ["crown"]}]}, "line .*: crown: no such thing"),
        ({"motions": [{"kind": "dancing"}]}, "kind is one of driving"),
        ({"motions": [{"kind": "scenarios", "names": ["gone.yaml"]}]}, "gone.yaml: no such scenario"),
        ({"motions": [{"kind": "uniform", "ranges": {"yaw": [9, 3]}}]}, "9 is not below 3"),
        ({"frame_rate": 100, "cameras": ["dusk"]}, "dusk: .*longer than a frame"),
        ({"frames": 10, "speed": 3}, "speed: Extra inputs"),
    ],
)
def test_a_plan_that_is_wrong_is_one_line(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(yaml.safe_dump(SMALL | change))
    with pytest.raises(DmsynthError, match=said):
        read_plan(plan)
    with pytest.raises(DmsynthError, match=r"plan\.yaml"):
        read_plan(plan)


def test_a_plan_that_cannot_be_met_writes_nothing(tmp_path: Path, head_file: Path) -> None:
    plan, out = tmp_path / "plan.yaml", tmp_path / "out"
    for change, said in (
        ({"motions": [{"kind": "uniform", "ranges": {"yaw": [-70, 30]}}]}, "portrait: uniform: yaw -70 lies beyond"),
        ({"people": [str(head_file)]}, "head: moves no eyes, which driving needs"),
    ):
        plan.write_text(yaml.safe_dump(SMALL | change))
        assert said in fails(dmsynth("generate", plan, "--out", out))
    assert not out.exists()
    assert "--out" in fails(dmsynth("generate", plan)) and "plan.yaml" in fails(dmsynth("generate"))
    assert "no finished set" in fails(dmsynth("generate", "--verify", tmp_path))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_set_is_the_same_by_any_workers_after_a_kill_and_after_damage(tmp_path: Path, tracker: Tracker) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(yaml.safe_dump(SMALL | {"frames": 45}))
    whole = generate(plan, tmp_path / "one", Engine(workers=1))
    assert (whole.frames, whole.clips, whole.shards) == (48, 8, 4)
    killed = [sys.executable, "-m", "dmsynth.cli", "generate", str(plan), "--out", str(tmp_path / "two")]
    process = subprocess.Popen([*killed, "--workers", "2"], start_new_session=True)
    until = time.monotonic() + 300
    while not list((tmp_path / "two").rglob("*.part")) and time.monotonic() < until:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "two" / "SHA256SUMS").exists()
    generate(plan, tmp_path / "two", Engine(workers=2))
    assert content(tmp_path / "one") == content(tmp_path / "two")
    found = verify(tmp_path / "two", tracker)
    assert not found.wrong and found.found > 0.7 * found.tracked and max(found.errors.values()) < 10
    archive = tmp_path / "two" / "data" / "small-000001.tar"
    with archive.open("r+b") as file:
        file.seek(3000)
        file.write(b"damage")
    assert verify(tmp_path / "two", tracker).wrong[0].startswith("data/small-000001.tar: is damaged")
    assert "is damaged" in fails(dmsynth("generate", "--verify", tmp_path / "two"))
    generate(plan, tmp_path / "two", Engine(workers=1))
    assert content(tmp_path / "one") == content(tmp_path / "two")
    plan.write_text(yaml.safe_dump(SMALL | {"frames": 55}))  # a longer plan keeps what is there
    kept = (tmp_path / "two" / "data" / "small-000003.tar").stat().st_mtime_ns
    assert generate(plan, tmp_path / "two", Engine(workers=1)).shards == 5
    assert (tmp_path / "two" / "data" / "small-000003.tar").stat().st_mtime_ns == kept
    plan.write_text(yaml.safe_dump(SMALL | {"seed": 1}))
    with pytest.raises(DmsynthError, match="holds frames of another plan"):
        generate(plan, tmp_path / "two", Engine(workers=1))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_cluster_loses_a_machine_and_nothing_else(tmp_path: Path, face: SteerableFace) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    from ray.cluster_utils import Cluster

    plan, out = tmp_path / "plan.yaml", tmp_path / "ray"
    plan.write_text(yaml.safe_dump(SMALL | {"frames": 48}))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        lost = cluster.add_node(num_cpus=1)
        run = [sys.executable, "-m", "dmsynth.cli", "generate", str(plan), "--out", str(out)]
        process = subprocess.Popen([*run, "--engine", "ray", "--address", cluster.address])
        until = time.monotonic() + 600
        while len(list(out.glob("jobs/*/drawing-*"))) < 2 and time.monotonic() < until:
            time.sleep(0.1)
        assert len(list(out.glob("jobs/*"))) == 2, "both machines draw"
        cluster.remove_node(lost, allow_graceful=False)
        assert process.wait(900) == 0
    finally:
        cluster.shutdown()
    assert read_table(out / "index.parquet")["clip"].tolist() == list(range(8))
    for shard in shards_of(Store.of(out), "small", 8, 2)[:2]:
        alone = replace(shard, store=Store.of(tmp_path / "alone"))
        make_shard(alone.result.parent, arguments(shard.first, shard.end, face))
        assert alone.archive.read_bytes() == shard.archive.read_bytes()
