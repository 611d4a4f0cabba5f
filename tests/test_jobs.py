"""Long work that outlives whoever asked for it, and the folder that it works in."""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dmsynth.cockpit.jobs import Job, find_jobs, make_job
from dmsynth.cockpit.showing import job_in_html
from dmsynth.cockpit.workspace import Workspace, slug
from dmsynth.datasets.dataset import Dataset
from dmsynth.report.figures import loss_curves
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import read_json
from dmsynth.video import Image, write_image
from dmsynth.video.pictures import is_picture


def until(true: Callable[[], object], seconds: float = 300) -> None:
    begun = time.monotonic()
    while not true():
        assert time.monotonic() - begun < seconds, "it takes too long"
        time.sleep(0.1)


def kill(*jobs: Job) -> None:
    for job in jobs:
        os.killpg(int(read_json(job.folder / "state.json")["leader"]), signal.SIGKILL)


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
    losses = pd.read_csv(tmp_path / "run" / "live.csv")
    assert losses["step"].is_monotonic_increasing and np.isfinite(losses.to_numpy()).all()
    loss_curves(tmp_path / "run", tmp_path / "losses.png")
    assert (tmp_path / "losses.png").is_file()
    assert [other.folder for other in find_jobs(tmp_path)] == [job.folder]


@pytest.mark.slow
def test_a_stopped_job_goes_on(tmp_path: Path, photo_dataset: Dataset) -> None:
    job = training(tmp_path, photo_dataset, 4)
    job.start()
    until(lambda: job.progress and (tmp_path / "run" / "live.csv").is_file())
    job.stop()
    assert job.state == "stopped" and not (tmp_path / "run" / "face.safetensors").exists()
    job.start()
    until(lambda: job.state != "running")
    assert job.state == "done", job.log
    assert (tmp_path / "run" / "face.safetensors").is_file()
    assert pd.read_csv(tmp_path / "run" / "live.csv")["step"].is_monotonic_increasing, "no step twice"


def test_a_job_outlives_whoever_started_it_and_a_kill_is_seen(tmp_path: Path, photo_dataset: Dataset) -> None:
    job = training(tmp_path, photo_dataset, 30)
    starter = f"from pathlib import Path; from dmsynth.cockpit.jobs import Job; Job(Path({str(job.folder)!r})).start()"
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


@pytest.mark.parametrize("damage", ["", "[]", "7", "\x00" * 300, "[" * 10**5, '{"title": 3}', '{"finished": "x"}'])
def test_a_damaged_job_is_named_and_hides_no_other(tmp_path: Path, damage: str) -> None:
    good = make_job(tmp_path / "jobs" / "good", "x", "training", [["version"]])
    job = make_job(tmp_path / "jobs" / "job", "x", "training", [["version"]])
    for name in ("state.json", "progress.json"):
        (job.folder / name).write_text(damage)
    assert job.state == "interrupted" and not job.progress
    (job.folder / "job.json").write_text(damage)
    assert [each.folder for each in find_jobs(tmp_path / "jobs")] == [good.folder]
    with pytest.raises(DmsynthError, match=r"job\.json: .*[;:] remove the job's folder and begin it anew"):
        _ = job.about
    job.start()
    until(lambda: job.state != "running")
    assert job.state == "failed" and "job.json" in job.error


def test_those_who_look_at_once_do_not_see_each_other(tmp_path: Path) -> None:
    job = make_job(tmp_path / "job", "x", "training", [["version"]])
    with ThreadPoolExecutor(4) as pool:
        assert not any(pool.map(lambda _: job.is_alive(), range(2000)))


@pytest.mark.slow
def test_of_two_who_start_it_at_once_one_does(tmp_path: Path, photo_dataset: Dataset) -> None:
    job = training(tmp_path, photo_dataset, 2)

    def start(_: int) -> str:
        try:
            job.start()
        except DmsynthError as error:
            return str(error)
        return "started"

    with ThreadPoolExecutor(3) as pool:
        said = sorted(pool.map(start, range(3)))
    assert said == ["Training: is running already", "Training: is running already", "started"]
    until(lambda: job.state != "running")
    assert job.state == "done" and job.log.count("trained ") == 1, job.log


def test_what_lies_where_somebody_stands_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "queue.py").write_text("raise SystemExit('not the library')")
    monkeypatch.chdir(tmp_path)
    job = make_job(Path("job"), "x", "training", [["version"]])  # and its folder is named from here
    job.start()
    until(lambda: job.state != "running")
    assert job.state == "done", job.log


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
    with pytest.raises(DmsynthError, match=r"holiday\.mp4: not a readable video"):
        workspace.take(program, "recording")
    program.rename(tmp_path / "me.png")
    with pytest.raises(DmsynthError, match=r"me\.png: not a readable picture"):
        workspace.take(tmp_path / "me.png", "portrait")
    (tmp_path / "me.mp4").write_bytes((tmp_path / "Me & you (1).png").read_bytes())
    assert is_picture(tmp_path / "me.mp4") and not is_picture(face_video)
    with pytest.raises(DmsynthError, match=r"me\.mp4: not a readable video"):
        workspace.take(tmp_path / "me.mp4", "recording")
    half = tmp_path / "half.mp4"
    half.write_bytes(face_video.read_bytes()[: face_video.stat().st_size // 2])
    with pytest.raises(DmsynthError, match=r"half\.mp4: ") as told:
        workspace.take(half, "recording")
    assert str(tmp_path) not in str(told.value)
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


def test_a_list_of_other_files_is_no_video(workspace: Workspace, tmp_path: Path, face_video: Path) -> None:
    """FFmpeg would follow it: to files beside it, to any path, to any address."""
    lists = {
        "concat.mp4": f"ffconcat version 1.0\nfile {face_video.name}\n",
        "playlist.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:2.0,\n{face_video}\n#EXT-X-ENDLIST\n",
        "address.mp4": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    }
    (tmp_path / face_video.name).write_bytes(face_video.read_bytes())
    for name, text in lists.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(DmsynthError, match=rf"{name}: not a readable video"):
            workspace.take(tmp_path / name, "recording")


def test_a_small_file_does_not_unfold_into_gigabytes(workspace: Workspace, tmp_path: Path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    for side in (9000, 40_000):
        header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
        content = zlib.compress(bytes(side + 1) * min(side, 100))
        png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b"")
        (tmp_path / "large.png").write_bytes(png)
        with pytest.raises(DmsynthError, match=r"large\.png: has more than 64 million pixels"):
            workspace.take(tmp_path / "large.png", "portrait")


def test_whatever_happened_to_a_job_the_panel_shows_the_others(workspace: Workspace) -> None:
    """Whatever happened to a job's files, what is shown of the jobs is shown."""
    out = str(workspace.root / "trainings" / "me")
    for name in ("a", "b"):
        make_job(workspace.root / "jobs" / name, name, "training", [["version"]], {"out": out})
    whole = {file: workspace.root / "jobs" / "a" / file for file in ("job.json", "state.json", "progress.json")}
    text = whole["job.json"].read_text()
    odd = [
        "", "null", "[]", "{", text[:40], text.replace(out, "/etc"), text.replace(out, ""), "[" * 9999, "9" * 5000,
        text.replace('"made": ', '"made": 1e400'), text.replace('"training"', "7"), '{"finished": -1}', "\0",
        '{"finished": 1e99}', '{"leader": 1e30, "log": -1}',
        '{"title": 1, "done": "x", "total": 0, "rate": null, "left": 1e300}',
    ]  # fmt: skip
    for path in whole.values():
        for content in odd:
            path.write_text(content)
            names = [job.folder.name for job in workspace.jobs("training")]
            assert "b" in names and set(names) <= {"a", "b"}
            for job in workspace.jobs("training"):
                assert "it can go on" in job_in_html(job) and job.state == "interrupted"
                assert "it can go on" not in job_in_html(job, resumes=False)
            assert workspace.new("trainings", "me").name == "me-2"
        whole["job.json"].write_text(text)
    assert workspace.job("../x") is None and workspace.job("b") is not None


@pytest.mark.slow
def test_of_four_trainings_begun_at_once_in_two_cockpits_one_runs(workspace: Workspace, photo_dataset: Dataset) -> None:
    shutil.copytree(photo_dataset.path, workspace.root / "datasets" / "me")
    code = f"""if True:
        from concurrent.futures import ThreadPoolExecutor
        from pathlib import Path
        from dmsynth.support.errors import DmsynthError
        from dmsynth.cockpit.workspace import Workspace
        workspace = Workspace(Path({str(workspace.root)!r}))
        def begin(_):
            try:
                return workspace.begin_training("me", "swapwarp", 60).folder.name
            except DmsynthError as error:
                return str(error)
        print("ready", flush=True)
        input()
        with ThreadPoolExecutor(2) as pool:
            print(*pool.map(begin, range(2)), sep="\\n")
    """
    command = [sys.executable, "-c", code]
    cockpits = [subprocess.Popen(command, stdin=-1, stdout=-1, text=True) for _ in range(2)]
    for each in cockpits:
        assert each.stdout is not None and each.stdout.readline() == "ready\n"
    said = [each.communicate("\n")[0] for each in cockpits]
    kill(*workspace.jobs("training"))
    assert sorted("".join(said).splitlines()) == [
        *["me: this training is running already; stop it first, or let it end"] * 3, "training"
    ]  # fmt: skip
    kill(workspace.begin_training("me", "rotation", 60))  # another one has a folder of its own
    assert [Path(each.about["out"]).name for each in workspace.jobs("training")] == ["me-2", "me"]


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
