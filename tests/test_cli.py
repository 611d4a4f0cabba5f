"""The doors: one end-to-end run, and one clear line for every mistake."""

from __future__ import annotations

import json
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from commands import dmsynth, fails
from dmsynth import __version__
from dmsynth.datasets.dataset import Dataset, partial_path
from dmsynth.experiments.demo import DemoSize, demo
from dmsynth.trackers import Tracker
from dmsynth.video import read_video
from dmsynth.video.pictures import read_image


def test_from_a_video_to_a_judged_steered_one(tmp_path: Path, face_video: Path) -> None:
    """recording → info → train → steer → track → evaluate, as a user types it."""
    data, run = tmp_path / "data", tmp_path / "run"
    imported = dmsynth("dataset", "recording", data, face_video, "--size", "96x80")
    assert imported.returncode == 0, imported.stderr
    assert "60 frames of 96×80" in imported.stdout and "60 done in" in imported.stderr

    info = dmsynth("dataset", "info", data)
    assert info.returncode == 0 and "yaw-pitch coverage" in info.stdout and "█" in info.stdout
    assert {p.name for p in (data / "info").iterdir()} == {
        "contact-sheet.png",
        "marginals.png",
        "coverage.png",
    }
    assert read_image(data / "info" / "contact-sheet.png").shape[0] > 200

    trained = dmsynth("train", data, "--model", "rotation", "--out", run, "--steps", 20, "--base-channels", 4)
    assert trained.returncode == 0, trained.stderr
    face = run / "face.safetensors"

    video = tmp_path / "out" / "steered.mp4"
    steered = dmsynth(
        "steer",
        face,
        "--source",
        f"{data}@3",
        "--trajectory",
        "sweep yaw=-10:10 1",
        "--out",
        video,
        "--frame-rate",
        30,
    )
    assert steered.returncode == 0, steered.stderr
    commanded = pd.read_parquet(video.with_suffix(".parquet"))
    assert len(list(read_video(video))) == len(commanded) == 31

    tracked = dmsynth("track", face_video, "--out", tmp_path / "tracked.parquet")
    assert tracked.returncode == 0 and "60 of 60 frames with one usable face" in tracked.stdout
    driven = dmsynth("steer", face, "--trajectory", tmp_path / "tracked.parquet", "--out", tmp_path / "driven.mp4")
    assert driven.returncode == 0, driven.stderr
    by_video = dmsynth("steer", face, "--trajectory", face_video, "--out", tmp_path / "by-video.mp4")
    assert by_video.returncode == 0, by_video.stderr
    a, b = (pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("driven", "by-video"))
    pd.testing.assert_frame_equal(a, b)

    judged = dmsynth("evaluate", face, data, "--out", tmp_path / "judged")
    assert judged.returncode == 0, judged.stderr
    metrics = json.loads((tmp_path / "judged" / "metrics.json").read_text())
    assert set(metrics) >= {
        "model", "frames", "lost", "mae", "bias", "gain", "correlation", "tracker_floor", "psnr", "ssim", "sharpness",
        "steer_fps", "train_seconds", "machine",
    }  # fmt: skip
    assert metrics["model"] == "rotation" and metrics["frames"] >= 8
    assert set(metrics["mae"]) == set(metrics["tracker_floor"]) == {"pitch", "yaw", "roll"}
    report = (tmp_path / "judged" / "report.html").read_text()
    page = re.sub(r"<script.*?</script>", "", report, flags=re.DOTALL)
    assert "http:" not in page and "https:" not in page  # self-contained
    assert report.count("data:image/jpeg") >= 13


@pytest.mark.slow
def test_what_a_demo_has_finished_is_kept(tmp_path: Path, tracker: Tracker, capsys: pytest.CaptureFixture[str]) -> None:
    size = DemoSize(frames=60, size=(96, 80), steps=20)
    first = demo(tmp_path, tracker, size=size)
    assert "posing" in capsys.readouterr().err
    assert demo(tmp_path, tracker, size=size)["mae"] == first["mae"]
    assert "posing" not in capsys.readouterr().err


@pytest.mark.slow
def test_the_demo(tmp_path: Path, workdir: Path) -> None:
    result = dmsynth("demo", "--train-time", "5s", "--frames", 60, cwd=workdir)
    assert result.returncode == 0, result.stderr
    out = workdir / "runs" / "demo"
    assert {p.name for p in out.iterdir()} >= {
        "metrics.json",
        "report.html",
        "steered.mp4",
        "face.safetensors",
    }
    assert sum(1 for _ in read_video(out / "steered.mp4")) >= 250
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["trajectory"]["frames"] >= 250
    assert "video/mp4" in (out / "report.html").read_text()
    assert "mean error" in result.stdout
    again = dmsynth("demo", "--train-time", "5s", "--frames", 60, cwd=workdir)  # what is finished is kept
    assert again.returncode == 0 and "posing" not in again.stderr


def test_training_and_steering_need_no_mediapipe(tmp_path: Path, photo_dataset: Dataset) -> None:
    """They run on GPU machines that lack it."""
    code = (
        "import sys; sys.modules['mediapipe'] = None\n"
        "from pathlib import Path\n"
        "import dmsynth, dmsynth.learning.training, dmsynth.steering\n"
        "from dmsynth.datasets.dataset import open_dataset\n"
        "from dmsynth.learning.training import train\n"
        "face = train(open_dataset(Path(sys.argv[1])), Path(sys.argv[2]), base_channels=2, steps=2)\n"
        "print(dmsynth.load(face).steer(yaw=5).shape)"
    )
    command = [sys.executable, "-c", code, str(photo_dataset.path), str(tmp_path / "run")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "(80, 96)", result.stderr


@pytest.mark.parametrize(("arguments", "status"), [(["version"], 0), (["steer", "no-face", "--out", "x.mp4"], 2)])
def test_a_native_library_that_dies_after_the_work_changes_nothing(arguments: list[str], status: int) -> None:
    """MediaPipe's threads sometimes abort the process while Python shuts down."""
    code = (
        "import os, sys, dmsynth.cli\n"
        "class Native:\n"
        "    def __del__(self, abort=os.abort): abort()\n"
        "native = Native()\n"
        f"sys.argv[1:] = {arguments!r}\n"
        "dmsynth.cli.main()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == status, result.stderr
    assert (__version__ in result.stdout) if status == 0 else ("--trajectory" in result.stderr)


@pytest.mark.slow
def test_a_killed_import_goes_on(tmp_path: Path, face_video: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert dmsynth("dataset", "recording", whole, face_video, face_video).returncode == 0
    command = [
        sys.executable,
        "-m",
        "dmsynth.cli",
        "dataset",
        "recording",
        str(broken),
        *[str(face_video)] * 2,
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    journal = partial_path(broken) / "records.jsonl"
    deadline = time.monotonic() + 300
    while not (journal.is_file() and journal.read_bytes().count(b"\n") > 20) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the import ended before it could be killed"
    assert not broken.exists()
    resumed = dmsynth("dataset", "recording", broken, face_video, face_video)
    assert resumed.returncode == 0, resumed.stderr
    for name in ("frames.npy", "labels.parquet"):
        assert (whole / name).read_bytes() == (broken / name).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["dataset", "recording", "out", "absent.mp4"], "absent.mp4: no such video"),
        (["dataset", "recording", "out", "empty.mp4"], "empty.mp4: the file is empty (0 bytes)"),
        (["dataset", "recording", "out", "text.mp4"], "text.mp4: not a readable video"),
        (["dataset", "recording", "out", "cut.mp4"], "cut.mp4: "),
        (["dataset", "recording", "out", "VIDEO", "--size", "100x100"], "--size 100x100: give WIDTHxHEIGHT"),
        (["dataset", "recording", "out", "VIDEO", "--crop", "1,2"], "--crop 1,2: give LEFT,TOP,WIDTH,HEIGHT"),
        (["dataset", "photo", "out", "absent.png"], "absent.png: no such picture"),
        (["dataset", "photo", "out", "text.mp4"], "text.mp4: not a readable picture"),
        (["dataset", "photo", "out", "--yaw", "80"], "--yaw 80: a photo can be posed from 0 up to ±50°"),
        (["dataset", "photo", "out", "--tracker", "eye"], "no tracker named 'eye'"),
        (["dataset", "info", "absent"], "absent: not a dataset"),
        (["track", "cut.mp4", "--out", "table.parquet"], "cut.mp4: "),
        (["track", "VIDEO", "--out", "table.txt"], "table.txt: a table is written as .csv or .parquet"),
        (["track", "VIDEO", "--out", "t.csv", "--tracker-model", "text.mp4"], "text.mp4: is not Face Landmarker's"),
        (["train", "absent", "--out", "out"], "absent: not a dataset"),
        (["train", "DATA", "--out", "out", "--max-time", "soon"], "--max-time soon: give a duration"),
        (["steer", "absent", "--trajectory", "hold 1", "--out", "out.mp4"], "absent: no such face file"),
        (["export", "posed:absent", "--out", "out.onnx"], "posed:absent: this takes a trained face"),
        (["steer", "FACE", "--trajectory", "move yaw=400 1", "--out", "out.mp4"], "yaw is "),
        (["steer", "FACE", "--trajectory", "nan.csv", "--out", "out.mp4"], "nan.csv: row 1, column 'yaw' holds nan"),
        (["steer", "FACE", "--trajectory", "column.csv", "--out", "out.mp4"], "column.csv: has no column 'time'"),
        (["steer", "FACE", "--trajectory", "absent.csv", "--out", "out.mp4"], "absent.csv: no such table"),
        (["steer", "FACE", "--trajectory", "hold 1", "--out", "out.gif"], "out.gif: a video is written as .mp4"),
        (["steer", "FACE", "--trajectory", "sweep yaw=0:80 1", "--out", "out.mp4", "--strict"], "poses outside what"),
        (["steer", "pickle.safetensors", "--trajectory", "hold 1", "--out", "out.mp4"], "not a readable safetensors"),
        (["evaluate", "FACE", "absent", "--out", "out"], "absent: not a dataset"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_clear_line_and_nothing_half_written(
    arguments: list[str],
    complaint: str,
    workdir: Path,
    face_video: Path,
    face_file: Path,
    photo_dataset: Dataset,
) -> None:
    (workdir / "empty.mp4").touch()
    (workdir / "text.mp4").write_text("hello")
    (workdir / "cut.mp4").write_bytes(face_video.read_bytes()[: face_video.stat().st_size // 2])
    (workdir / "nan.csv").write_text("time,yaw\n0,1\n1,nan\n")
    (workdir / "column.csv").write_text("yaw\n0\n1\n")
    (workdir / "pickle.safetensors").write_bytes(
        b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x01a\x94K\x01s."
    )
    before = {path.name for path in workdir.iterdir()}
    real = {"VIDEO": face_video, "FACE": face_file, "DATA": photo_dataset.path}
    line = fails(dmsynth(*(real.get(argument, argument) for argument in arguments), cwd=workdir))
    assert complaint in line
    assert {path.name for path in workdir.iterdir()} == before


def test_an_unwritable_folder(workdir: Path, face_file: Path, face_video: Path) -> None:
    (workdir / "file").touch()  # root may write anywhere, but not into a file
    for arguments in (
        ["steer", face_file, "--trajectory", "hold 1", "--out", "file/out.mp4"],
        ["dataset", "recording", "file/data", face_video],
        ["track", face_video, "--out", "file/table.csv"],
    ):
        assert "a file stands where a folder is needed" in fails(dmsynth(*arguments, cwd=workdir))


def test_a_full_disk(workdir: Path, face_file: Path, face_video: Path, photo_dataset: Dataset) -> None:
    """A limit on file sizes stands for the full disk: writing fails in the middle."""
    with files_of_at_most(20_000):
        line = fails(dmsynth("dataset", "recording", "data", face_video, "--size", "320x240", cwd=workdir))
        assert "data" in line
        assert not (workdir / "data").exists()
        run = fails(dmsynth("train", photo_dataset.path, "--steps", 3, "--out", "run", cwd=workdir))
        assert "run" in run and "limit on file size" in run
        assert not (workdir / "run" / "face.safetensors").exists()
        command = ("steer", face_file, "--trajectory", "sweep yaw=-10:10 60", "--out", "out.mp4")
        assert "out" in fails(dmsynth(*command, cwd=workdir))
    assert not [path.name for path in workdir.iterdir() if path.name.startswith((".out", "out"))]
    assert np.asarray(list(workdir.glob("*.parquet"))).size == 0


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """No file of this process may become larger than ``size`` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    deaf = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, deaf)


def test_help_names_every_command() -> None:
    result = dmsynth("--help")
    for command in ("dataset", "track", "train", "steer", "evaluate", "export", "demo", "bench"):
        assert command in result.stdout


@pytest.mark.slow
def test_two_processes_train_together_and_go_on(tmp_path: Path, photo_dataset: Dataset) -> None:
    """As several GPUs would: one face at the end, written once."""
    for steps in (6, 10):
        command = ("train", photo_dataset.path, "--out", tmp_path / "run", "--base-channels", 2, "--devices", 2)
        trained = dmsynth(*command, "--steps", steps)
        assert trained.returncode == 0, trained.stderr
        assert trained.stdout.count("face: ") == 1 and f"{steps} in all" in trained.stderr
