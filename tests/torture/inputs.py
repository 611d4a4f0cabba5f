"""Thousands of damaged inputs through every reader: python -m torture.inputs COUNT [SEED] (``make torture``).

Each reader has a whole input, made here. A seed decides which of its files is damaged and how; a process with a limit
on memory and time reads it. What may come out is the content or one line that says what is wrong. Counted are
tracebacks, inputs that take longer than 10 s or more than 2 GB, files left half-written, and contents that have a
checksum and are taken for something else.
"""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
import resource
import shutil
import struct
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any

TIME_LIMIT = 10.0  # seconds
MEMORY_LIMIT = 2 * 2**30  # bytes above what a process has when it is ready
ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1, 3, 1e308, -1e308, 10**400, float("nan"), float("inf"), "", "x", "\x1b[2J", "<img src=x>", [],
    {}, [[]], [None], {"a": 1}, "9" * 30_000, [0] * 100_000, 4096, 2**31, 2**63, 10**12, -(2**31), "../../etc/passwd",
)  # fmt: skip
ODD_WORDS = (
    "nan", "inf", "-1e308", "1e999", "9" * 400, "", '"', "'", "\t", ";", ",", "\x00", "\ufeff", "\u2028", "[", "{", "}",
    "- - - - - -", "&a", "*a", "!!pairs", "!!python/object:os.system", "2024-13-45", "time", "yaw", "0x10", "1,5", "#",
    "100", "3600", "repeat", "hold", "move", "seconds", "moves", "true", "null", "\ud7ff", "\x1b]0;x\x07", "," * 3000,
)  # fmt: skip


OUTCOMES = (
    "taken", "refused", "traceback", "hang", "memory", "crash", "half-written", "unnoticed", "unclear",
)  # fmt: skip


@dataclass(frozen=True)
class Reader:
    """A whole input in a folder, which of its files are damaged, and what reads it.

    ``read`` returns something that is equal for equal content, where a checksum promises it (``pinned``).
    """

    files: tuple[str, ...]
    read: Callable[[Path], object]
    pinned: bool = False
    writes: bool = False


def damaged(content: bytes, name: str, random: Random) -> bytes:
    """A file, damaged by chance: in its bytes, or in what they mean."""
    suffix = Path(name).suffix
    if random.random() < 0.5:
        with contextlib.suppress(ValueError, IndexError, struct.error, UnicodeDecodeError, RecursionError):
            if suffix == ".json":
                return json.dumps(_harmed(json.loads(content), random)).encode()
            if suffix == ".safetensors":
                return _harmed_face(content, random)
            if suffix == ".jsonl":
                lines = content.split(b"\n")
                at = random.randrange(len(lines))
                start = 9 if name == "records.jsonl" else 0
                lines[at] = lines[at][:start] + json.dumps(_harmed(json.loads(lines[at][start:]), random)).encode()
                return b"\n".join(lines)
            if suffix in (".csv", ".yaml", ".txt"):
                return _harmed_text(content.decode(), random).encode("utf-8", "surrogatepass")
    at = random.randrange(len(content) + 1)
    if random.random() < 0.4:  # where headers are
        at = random.randrange(min(len(content), 400) + 1)
    length = random.choice((1, 1, 1, 4, 30, 1000, len(content)))
    kind = random.randrange(6)
    if kind == 0:
        return content[:at]
    if kind == 1:
        return content[:at] + bytes(length) + content[at + length :]
    if kind == 2:
        return content[:at] + content[at + length :]
    if kind == 3:
        return content[:at] + random.randbytes(length) + content[at:]
    if kind == 4:
        return content[: at + length] + content[at:]
    flipped = bytearray(content)
    for _ in range(random.choice((1, 1, 5, 100))):
        if flipped:
            flipped[random.randrange(len(flipped))] ^= 1 << random.randrange(8)
    return bytes(flipped)


def _harmed(content: Any, random: Random) -> Any:
    """A copy with one value somewhere replaced, removed, added or doubled."""
    if not isinstance(content, dict | list) or not content or random.random() < 0.1:
        return random.choice(ODD)
    if isinstance(content, list):
        at = random.randrange(len(content))
        kind = random.random()
        rest = [] if kind < 0.1 else [content[at]] * 2 if kind < 0.2 else [_harmed(content[at], random)]
        return [*content[:at], *rest, *content[at + 1 :]]
    name = random.choice(list(content))
    kind = random.random()
    if kind < 0.1:
        return content | {"more": random.choice(ODD)}
    rest_of = {key: value for key, value in content.items() if key != name}
    return rest_of if kind < 0.25 else rest_of | {name: _harmed(content[name], random)}


def _harmed_face(content: bytes, random: Random) -> bytes:
    """Another description, or another header, of the same tensors."""
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    if random.random() < 0.8:
        about = _harmed(json.loads(header["__metadata__"]["dmsynth"]), random)
        if isinstance(about, dict) and random.random() < 0.8:
            about.pop("sha256", None)
        header["__metadata__"]["dmsynth"] = json.dumps(about)
    else:
        header = _harmed(header, random)
    new = json.dumps(header).encode()
    return struct.pack("<Q", len(new)) + new + content[8 + length :]


def _harmed_text(text: str, random: Random) -> str:
    lines = text.split("\n")
    for _ in range(random.choice((1, 1, 3))):
        at = random.randrange(len(lines))
        kind = random.randrange(5)
        cut = random.randrange(len(lines[at]) + 1)
        if kind == 0:
            lines[at] = lines[at][:cut] + random.choice(ODD_WORDS) + lines[at][cut:]
        elif kind == 1:
            words = lines[at].replace(",", " , ").split(" ")
            words[random.randrange(len(words))] = random.choice(ODD_WORDS)
            lines[at] = "".join(words) if "," in words else " ".join(words)
        elif kind == 2:
            lines.insert(at, lines[random.randrange(len(lines))])
        elif kind == 3:
            del lines[at]
            lines = lines or [""]
        else:
            lines[at] = " " * random.randrange(5) + lines[at][cut:]
    return "\n".join(lines)


# What reads. Imports are inside, so that the process that only counts stays small.


def _results(folder: Path) -> object:
    from dmsynth.validation.compare import compare, read_results

    found = read_results(folder / "results.json")
    return compare(found, read_results(folder / "whole" / "results.json"))


def _job_result(folder: Path) -> object:
    from dmsynth.validation.results import read_job_result

    return read_job_result(folder / "result.json")


def _dataset(folder: Path) -> object:
    from dmsynth.cli.datasets import dataset_facts
    from dmsynth.datasets.dataset import open_dataset

    dataset = open_dataset(folder).check_frames()
    space, labels = dataset.about
    dataset.controls(space, labels), dataset.carried(), dataset.landmarks(), dataset_facts(dataset), dataset.posed
    return dataset.sha256, int(dataset.frames.sum())


def _made_up(folder: Path) -> object:
    """A dataset whose hashes were made anew after the damage."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in ("labels.parquet", "frames.npy"):
        manifest[f"{Path(name).stem}_sha256"] = sha256((folder / name).read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return _dataset(folder)


def _journal(folder: Path) -> object:
    """Go on with an import that was killed, to its end."""
    import numpy as np

    from dmsynth.datasets.dataset import DatasetWriter

    writer = DatasetWriter(folder / "d", {"kind": "torture"}, (8, 8))
    for number in range(writer.done, 30):
        frame, labels = _record(number)
        if number % 7 == 3:
            writer.leave_out("no face")
        else:
            writer.keep(frame, labels)
    dataset = writer.finish(np.full(writer.kept, "train"))
    assert {file.name for file in (folder / "d").iterdir()} == {"frames.npy", "labels.parquet", "manifest.json"}
    return dataset.check_frames().sha256


def _record(number: int) -> tuple[Any, dict[str, Any]]:
    import numpy as np

    frame = np.random.default_rng(number).integers(0, 256, (8, 8), dtype=np.uint8)
    return frame, {"recording": "a.mp4", "recording_index": 0, "commanded_x": number / 3, "commanded_y": 2.0}


def _job(folder: Path) -> object:
    from dmsynth.cockpit.jobs import Job, find_jobs

    job = Job(folder / "job")
    found = [(each.about, each.state, each.progress, each.log, each.error) for each in find_jobs(folder)]
    return job.state, job.progress, job.error, job.log, job.about, found


def _face(folder: Path) -> object:
    import numpy as np

    from dmsynth.steering import load_face

    face = load_face(folder / "face.safetensors")
    values = np.zeros((2, face.trained.space.size)) + face.trained.space.low.clip(-5, 200)
    face.outside_coverage(values), face.clipped(values), face.trained.coverage.confidence(values.astype(np.float32))
    frame = next(face.frames(values))
    settings = face.trained.about["settings"]
    assert settings["labels"] and face.trained.about["steps"] >= 0
    return sha256(frame.tobytes()).hexdigest()


def _run(folder: Path) -> object:
    import torch  # noqa: F401

    from dmsynth.learning.optimization import OPTIMIZATIONS
    from dmsynth.learning.settings import Settings
    from dmsynth.learning.training import begin_run

    settings = Settings("swapwarp", "rotation", "tracked", "0" * 64, 0, OPTIMIZATIONS["warp"], None, 4, "32-true")
    with begin_run(folder, None, settings):  # type: ignore[arg-type] # it is there already
        return None


def _table(folder: Path) -> object:
    from dmsynth.controls import CONTROL_SPACES
    from dmsynth.motion.driving import read_trajectory

    (file,) = (file for file in folder.iterdir() if file.suffix in (".csv", ".parquet"))
    motion = read_trajectory(str(file), CONTROL_SPACES["rotation"], 25, lambda: None)  # type: ignore[arg-type,return-value]
    return len(motion.resampled(25))


def _motions(folder: Path) -> object:
    from dmsynth.controls import CONTROL_SPACES
    from dmsynth.motion.driving import read_trajectory

    text = (folder / "motions.txt").read_text("utf-8", "replace")
    space = CONTROL_SPACES["rotation"]
    space.check(read_trajectory(text, space, 25, lambda: None).in_space(space).values)  # type: ignore[arg-type,return-value]
    return None


def _scenario(folder: Path) -> object:
    from dmsynth.validation.scenario_files import read_scenario

    scenario = read_scenario(folder / "torture.yaml")
    scenario.trajectory(), scenario.motions(), scenario.marks
    return None


def _video(folder: Path) -> object:
    from dmsynth.video import check_whole, probe_video, read_metadata, read_video

    (file,) = (file for file in folder.iterdir() if file.stem == "video")
    probe_video(file), read_metadata(file)
    check_whole(file)
    return sum(1 for _ in read_video(file))


def _picture(folder: Path) -> object:
    from dmsynth.steering.source import read_source

    (file,) = (file for file in folder.iterdir() if file.stem == "picture")
    return read_source(str(file)).shape


def _dms(folder: Path) -> object:
    from dmsynth.support.table_files import read_table
    from dmsynth.validation.dms import run_dms
    from dmsynth.validation.programs import Log
    from dmsynth.validation.scenario_files import find_scenarios
    from dmsynth.validation.verdicts import judge

    (scenario,) = find_scenarios(["addw-30-short-glance"])
    table = read_table(folder / "commanded.parquet")
    for strict in (False, True):
        run = run_dms(Log(folder / "answers.jsonl", "x", strict), folder / "v.mp4", 80.0, float(table["time"].iloc[-1]))
        judge(scenario, table, run).to_dict()
    return None


def _provenance(folder: Path) -> object:
    from dmsynth.steering.provenance import read_provenance

    return read_provenance(folder / "video.mp4").provenance.in_words()


READERS: dict[str, Reader] = {
    "results.json": Reader(("results.json",), _results),
    "job result": Reader(("result.json",), _job_result),
    "dataset": Reader(("manifest.json", "labels.parquet", "frames.npy"), _dataset, pinned=True),
    "dataset with new hashes": Reader(("labels.parquet", "frames.npy"), _made_up),
    "journal": Reader(
        ("d.partial/job.json", "d.partial/records.jsonl", "d.partial/frames.npy"), _journal, pinned=True, writes=True
    ),
    "job": Reader(("job/job.json", "job/state.json", "job/progress.json", "job/log.txt"), _job),
    "face": Reader(("face.safetensors",), _face),
    "face without checksum": Reader(("face.safetensors",), _face),
    "face of an autoencoder": Reader(("face.safetensors",), _face),
    "run.json": Reader(("run.json",), _run),
    "table .csv": Reader(("table.csv",), _table),
    "table of OpenFace": Reader(("table.csv",), _table),
    "table .parquet": Reader(("table.parquet",), _table),
    "motions": Reader(("motions.txt",), _motions),
    "scenario": Reader(("torture.yaml",), _scenario),
    "video .mp4": Reader(("video.mp4",), _video),
    "video .mkv": Reader(("video.mkv",), _video),
    "picture .png": Reader(("picture.png",), _picture),
    "picture .jpg": Reader(("picture.jpg",), _picture),
    "DMS output": Reader(("answers.jsonl",), _dms),
    "provenance": Reader(("video.provenance.json",), _provenance),
}


def make_inputs(folder: Path) -> None:
    """A whole input for each reader, in a folder of its name."""
    import cv2
    import numpy as np
    import pandas as pd

    from dmsynth.cockpit.jobs import make_job
    from dmsynth.datasets.cutout import make_position_dataset
    from dmsynth.datasets.dataset import DatasetWriter
    from dmsynth.datasets.photo import PoseRange, pose_photo
    from dmsynth.experiments.validate import Order, validate
    from dmsynth.learning.optimization import OPTIMIZATIONS
    from dmsynth.learning.settings import Settings
    from dmsynth.learning.training import begin_run, train
    from dmsynth.steering import FaceSpec
    from dmsynth.trackers import open_tracker
    from dmsynth.validation.dms import DmsSpec
    from dmsynth.validation.scenario_files import find_scenarios, library

    def place(name: str) -> Path:
        (folder / name).mkdir(parents=True, exist_ok=True)
        return folder / name

    tracker = open_tracker()
    dataset = pose_photo(folder / "dataset", None, tracker, 72, (96, 80), PoseRange(10, 20, 10), seed=3)
    shutil.copy(
        train(dataset, folder / "run", base_channels=4, steps=10, quiet=True), place("face") / "face.safetensors"
    )
    content = (folder / "face" / "face.safetensors").read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    about = json.loads(header["__metadata__"]["dmsynth"])
    header["__metadata__"]["dmsynth"] = json.dumps({name: value for name, value in about.items() if name != "sha256"})
    new = json.dumps(header).encode()
    old = struct.pack("<Q", len(new)) + new + content[8 + length :]
    (place("face without checksum") / "face.safetensors").write_bytes(old)
    shutil.copytree(dataset.path, place("dataset with new hashes"), dirs_exist_ok=True)
    positions = make_position_dataset(folder / "positions", None, tracker, 36, (64, 48))
    auto = train(positions, folder / "run2", "position-spe", base_channels=4, steps=5, quiet=True)
    shutil.copy(auto, place("face of an autoencoder") / "face.safetensors")
    scenarios = find_scenarios(["addw-30-short-glance"])
    order = Order("dmsynth validate")
    validate(scenarios, FaceSpec.of(folder / "face" / "face.safetensors", "cpu"), DmsSpec(), folder / "results", order)
    shutil.copy(folder / "results" / "results.json", place("results.json") / "results.json")
    shutil.copy(folder / "results" / "results.json", place("results.json/whole") / "results.json")
    (result,) = (folder / "results" / "jobs").glob("*/result.json")
    shutil.copy(result, place("job result") / "result.json")
    (video,) = (folder / "videos").glob("*.mp4")
    table = pd.read_parquet(video.with_suffix(".parquet"))
    shutil.copy(video.with_suffix(".parquet"), place("DMS output") / "commanded.parquet")
    answers = [
        {"time": time, "yaw": yaw, "pitch": 1.5, "roll": 0.0, "warning": bool(yaw > 20)}
        for time, yaw in zip(table["time"], table["yaw"], strict=True)
    ]
    (place("DMS output") / "answers.jsonl").write_text("".join(json.dumps(each) + "\n" for each in answers))
    shutil.copy(video, place("provenance") / "video.mp4")
    side = json.loads(video.with_suffix(".provenance.json").read_text())
    (place("provenance") / "video.provenance.json").write_text(json.dumps(side))
    writer = DatasetWriter(place("journal") / "d", {"kind": "torture"}, (8, 8))
    for number in range(20):
        if number % 7 == 3:
            writer.leave_out("no face")
        else:
            writer.keep(*_record(number))
    writer._journal.close()
    job = make_job(place("job") / "job", "Training", "training", [["version"]], {"out": "x"})
    (job.folder / "state.json").write_text('{"finished": 0, "log": 3, "leader": 99999999, "code": 2}')
    (job.folder / "progress.json").write_text('{"title": "x", "done": 1, "total": 3, "rate": 0.5, "left": 4.0}')
    (job.folder / "log.txt").write_text("begun\nerror: it failed\n")
    settings = Settings("swapwarp", "rotation", "tracked", "0" * 64, 0, OPTIMIZATIONS["warp"], None, 4, "32-true")
    with begin_run(place("run.json"), dataset.path, settings):
        pass
    motion = pd.DataFrame({"time": np.arange(40) / 25, "pitch": 1.0, "yaw": np.linspace(-20, 20, 40), "roll": 0.0})
    motion.to_csv(place("table .csv") / "table.csv", index=False)
    motion.to_parquet(place("table .parquet") / "table.parquet", index=False)
    openface = pd.DataFrame({"frame": range(40), " timestamp": np.arange(40) / 25, " success": 1})
    for axis in "xyz":
        openface[f" pose_R{axis}"] = np.linspace(-0.2, 0.2, 40)
    openface.to_csv(place("table of OpenFace") / "table.csv", index=False)
    (place("motions") / "motions.txt").write_text(
        "hold 0.5; move yaw=-30 1; sweep yaw=-30:30 4; move yaw=0 pitch=10 1.5"
    )
    for shipped in library()[:1]:
        text = shipped.read_text().replace(f"name: {shipped.stem}", "name: torture")
        (place("scenario") / "torture.yaml").write_text(text)
    from dmsynth.video import VideoWriter

    for kind in ("mp4", "mkv"):
        with VideoWriter(place(f"video .{kind}") / f"video.{kind}", 64, 48, 25) as out:
            for number in range(20):
                out.write(np.full((48, 64), number * 10, np.uint8))
    picture = np.array(dataset.frames[0])
    for kind in ("png", "jpg"):
        cv2.imwrite(str(place(f"picture .{kind}") / f"picture.{kind}"), picture)


# Processes.


def _work(inputs: Path, connection: Connection) -> None:
    """Read whatever is asked for, one after the other, until nobody asks any more."""
    import warnings

    import av
    import cv2
    import torch

    from dmsynth.support.errors import DmsynthError
    from dmsynth.support.progress import console

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    av.logging.set_level(None)
    console.quiet = True
    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # decoders complain there
    scratch = Path(tempfile.mkdtemp(prefix="torture-"))
    whole: dict[str, object] = {}
    for name, reader in READERS.items():  # what the right answers are, and everything imported
        shutil.copytree(inputs / name, scratch / "whole" / name)
        whole[name] = reader.read(scratch / "whole" / name)
    memory = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (memory + MEMORY_LIMIT, memory + MEMORY_LIMIT))
    connection.send(("ready", ""))
    while True:
        try:
            name, seed = connection.recv()
        except EOFError:
            shutil.rmtree(scratch, ignore_errors=True)
            return
        reader, random = READERS[name], Random(f"{name} {seed}")
        folder = scratch / "input"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(inputs / name, folder)
        file = folder / random.choice(reader.files)
        file.write_bytes(damaged(file.read_bytes(), file.name, random))
        before = {each for each in folder.rglob("*") if ".partial" not in each.name}
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                found = reader.read(folder)
            said = ("taken", "") if not reader.pinned or found == whole[name] else ("unnoticed", f"{file.name}")
        except DmsynthError as error:
            text = str(error)
            whose = any(each in text for each in (str(folder), "trajectory:", "DMS")) or text.strip()
            said = ("refused", "") if whose and "\n" not in text and len(text) < 3000 else ("unclear", text[:300])
        except OSError as error:
            said = ("refused", "") if error.filename else ("traceback", _place(error))
        except MemoryError as error:
            said = ("memory", _place(error))
        except BaseException as error:
            said = ("traceback", _place(error))
        left = [each for each in folder.rglob("*") if each.name.startswith(".") or each.suffix == ".partial"]
        if said[0] == "taken" and left and reader.writes:
            said = ("half-written", left[0].name)
        if not reader.writes and {each for each in folder.rglob("*") if ".partial" not in each.name} - before:
            said = ("half-written", "a reader wrote")
        connection.send(said)


def _place(error: BaseException) -> str:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "dmsynth" in f.filename]
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
    return f"{where} {type(error).__name__}: {str(error)[:120]}"


class _Worker:
    """A process, and what it is reading."""

    def __init__(self, inputs: Path) -> None:
        self._inputs = inputs
        self.asked: tuple[str, int] | None = None
        self._start()

    def _start(self) -> None:
        self.connection, other = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("spawn").Process(
            target=_work, args=(self._inputs, other), daemon=True
        )
        self.process.start()
        other.close()
        self.connection.recv()
        self.asked = None

    def ask(self, name: str, seed: int) -> None:
        self.asked, self.begun = (name, seed), time.monotonic()
        self.connection.send(self.asked)

    def answer(self) -> tuple[str, str] | None:
        """What came of it, if anything has."""
        try:
            if self.connection.poll(0.005):
                return tuple(self.connection.recv())
        except (EOFError, ConnectionResetError):
            self._start()
            return "crash", "the process ended"
        if time.monotonic() - self.begun > TIME_LIMIT:
            self.process.kill()
            self.process.join()
            self._start()
            return "hang", ""
        return None


def main(count: int, seed: int = 0, workers: int = 2) -> int:
    """Read ``count`` damaged inputs; 1 if anything is wrong."""
    with tempfile.TemporaryDirectory() as folder:
        inputs = Path(folder)
        make_inputs(inputs)
        readers = list(READERS)
        todo = [(readers[number % len(readers)], seed + number) for number in range(count)][::-1]
        counts: dict[str, Counter[str]] = {name: Counter() for name in readers}
        wrong: list[str] = []
        begun, pool = time.monotonic(), [_Worker(inputs) for _ in range(workers)]
        while todo or any(worker.asked for worker in pool):
            for worker in pool:
                if worker.asked is None:
                    if todo:
                        worker.ask(*todo.pop())
                    continue
                asked = worker.asked
                said = worker.answer()
                if said is not None:
                    counts[asked[0]][said[0]] += 1
                    if said[0] not in ("taken", "refused"):
                        wrong.append(f"{asked[0]}, seed {asked[1]}: {said[0]} {said[1]}")
                    worker.asked = None
        for worker in pool:
            worker.connection.close()
            worker.process.join(10)
    total = sum(counts.values(), Counter())
    lines = [
        f"{name:24} " + ", ".join(f"{what} {n}" for what, n in sorted(each.items())) for name, each in counts.items()
    ]
    figures = ", ".join(f"{what} {total[what]}" for what in OUTCOMES)
    lines += [f"{count} damaged inputs in {time.monotonic() - begun:.0f} s: {figures}", *wrong[:60]]
    sys.stdout.write("\n".join(lines) + "\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
