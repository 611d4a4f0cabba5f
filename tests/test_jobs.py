"""Long work that outlives whoever asked for it, and the folder that it works in."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dmsynth.dataset import Dataset
from dmsynth.errors import DmsynthError
from dmsynth.files import read_json
from dmsynth.jobs import Job, find_jobs, make_job
from dmsynth.video import Image, write_image
from dmsynth.workspace import Workspace, slug


def until(true: Callable[[], object], seconds: float = 90) -> None:
    begun = time.monotonic()
    while not true():
        assert time.monotonic() - begun < seconds, "it takes too long"
        time.sleep(0.1)


def training(folder: Path, dataset: Dataset, seconds: int) -> Job:
    command = ["train", dataset.path, "--base-channels", 4, "--max-time", f"{seconds}s", "--out", folder / "run"]
    return make_job(folder / "job", "Training", "training", [command])  # type: ignore[list-item]


def test_a_job_runs_shows_its_progress_and_ends(tmp_path: Path, photo_dataset: Dataset) -> None:
    job = training(tmp_path, photo_dataset, 3)
    assert job.state == "interrupted", "not started yet"
    job.start()
    assert job.state == "running"
    with pytest.raises(DmsynthError, match="is running already"):
        job.start()
    until(lambda: job.progress)
    seen = job.progress
    assert seen["title"].startswith("training, step") and 0 <= seen["done"] <= 100 and seen["left"] >= 0
    until(lambda: job.state != "running")
    assert job.state == "done" and (tmp_path / "run" / "face.safetensors").is_file(), job.log
    assert (tmp_path / "run" / "preview.png").is_file()
    assert [other.folder for other in find_jobs(tmp_path)] == [job.folder]


def test_a_stopped_job_goes_on(tmp_path: Path, photo_dataset: Dataset) -> None:
    job = training(tmp_path, photo_dataset, 4)
    job.start()
    until(lambda: job.progress)
    job.stop()
    assert job.state == "stopped" and not (tmp_path / "run" / "face.safetensors").exists()
    job.start()
    until(lambda: job.state != "running")
    assert job.state == "done", job.log
    assert (tmp_path / "run" / "face.safetensors").is_file()


def test_a_job_outlives_whoever_started_it_and_a_kill_is_seen(tmp_path: Path, photo_dataset: Dataset) -> None:
    job = training(tmp_path, photo_dataset, 30)
    starter = f"from pathlib import Path; from dmsynth.jobs import Job; Job(Path({str(job.folder)!r})).start()"
    process = subprocess.Popen([sys.executable, "-c", f"{starter}; import time; time.sleep(60)"])
    until(lambda: job.progress)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.5)
    assert job.state == "running", "its starter is dead, it is not"
    os.killpg(int(read_json(job.folder / "state.json")["leader"]), signal.SIGKILL)
    until(lambda: job.state != "running")
    assert job.state == "interrupted"


def test_a_failed_job_says_why_in_one_line(tmp_path: Path) -> None:
    job = make_job(
        tmp_path / "job", "x", "training", [["train", "nowhere", "--out", str(tmp_path / "run")], ["version"]]
    )
    job.start()
    until(lambda: job.state != "running")
    assert job.state == "failed"
    assert job.error.startswith("nowhere: not a dataset")


def test_a_number_of_a_process_that_is_another_now_is_no_job(tmp_path: Path) -> None:
    job = make_job(tmp_path / "job", "x", "training", [["version"]])
    (job.folder / "state.json").write_text(f'{{"finished": 0, "leader": {os.getppid()}}}')
    assert job.state == "interrupted"
    job.stop()  # kills nobody


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "work")


def test_what_is_brought_is_judged_by_what_is_in_it(
    workspace: Workspace, tmp_path: Path, face_video: Path, portrait: Image
) -> None:
    kept = workspace.take(face_video, "recording")
    assert kept.parent == workspace.root / "uploads" and kept.name.startswith("turning-")
    write_image(tmp_path / "Me & you (1).png", portrait)
    assert workspace.take(tmp_path / "Me & you (1).png", "portrait").name.startswith("me-you-1-")
    program = tmp_path / "holiday.mp4"
    program.write_bytes(Path(sys.executable).resolve().read_bytes()[:100_000])
    with pytest.raises(DmsynthError, match=r"holiday\.mp4: is no video that can be read"):
        workspace.take(program, "recording")
    program.rename(tmp_path / "me.png")
    with pytest.raises(DmsynthError, match=r"me\.png: is no picture"):
        workspace.take(tmp_path / "me.png", "portrait")
    large = tmp_path / "large.mp4"
    with large.open("wb") as file:
        file.truncate(200 * 2**20)
    with pytest.raises(DmsynthError, match=r"large\.mp4: is too large; a recording has at most 150 MB"):
        workspace.take(large, "recording")
    bad = tmp_path / "bad.yaml"
    bad.write_text("name: ../../etc\nmoves: []\n")
    with pytest.raises(DmsynthError, match=r"bad\.yaml"):
        workspace.take(bad, "scenario")
    assert not list(tmp_path.glob("etc*"))


@pytest.mark.parametrize("path", ["..", "../x", "/etc/passwd", "datasets/../../x", "uploads/link"])
def test_nothing_outside_is_inside(workspace: Workspace, path: str) -> None:
    (workspace.root / "uploads" / "link").symlink_to("/etc")
    with pytest.raises(DmsynthError, match="lies outside the workspace"):
        workspace.inside(path)
    assert workspace.inside("datasets/x") == (workspace.root / "datasets" / "x").resolve()


def test_names_are_ours_and_never_taken_twice(workspace: Workspace) -> None:
    first = workspace.new("trainings", "../../Anna's Face!")
    assert first == workspace.root / "trainings" / "anna-s-face"
    first.mkdir()
    assert workspace.new("trainings", "Anna's face").name == "anna-s-face-2"
    assert workspace.new("trainings", "starter").name == "starter-2", "the shipped face keeps its name"
    (workspace.root / "datasets" / "me.partial").mkdir()
    assert workspace.new("datasets", "me").name == "me-2"
    assert workspace.new("videos", "", ".mp4").name == "video.mp4"
    with pytest.raises(DmsynthError, match="no such face"):
        workspace.face("../../etc/passwd")
    assert all(
        set(slug(str(text))) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") for text in (b"\xff", "ä/..", np.pi)
    )
