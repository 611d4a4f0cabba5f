"""The page of a GPU: its parts in turn, whatever becomes of each, and every figure on it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import parts
from commands import dmsynth, fails
from dmsynth.experiments.gpu_page import write_page
from dmsynth.experiments.gpu_parts import FOUND, PARTS, SIZES, Given, train_swapwarp, wall
from dmsynth.experiments.gpu_sharing import Sharing, Stepping, best_count, steps_of, whole_hours
from dmsynth.experiments.in_turn import Part, run_in_turn, state_of
from dmsynth.experiments.position import STUDIES
from dmsynth.support.files import read_json, write_json
from dmsynth.video.pictures import read_image

SMALL = SIZES["smoke"]


def test_a_part_that_fails_hangs_or_dies_costs_the_others_nothing(tmp_path: Path) -> None:
    all_parts = {
        "first": Part("first", parts.works, 0.01),
        "failing": Part("failing", parts.fails, 0.01),
        "hanging": Part("hanging", parts.hangs, 0.0001),
        "dying": Part("dying", parts.dies, 0.01),
        "last": Part("last", parts.works, 0.01),
    }

    def run(seconds: float) -> dict[str, str]:
        run_in_turn(all_parts, lambda name, seconds: parts.Given(tmp_path, name, seconds), tmp_path, seconds)
        return {name: state_of(tmp_path, name)["state"] for name in all_parts}

    states = {"first": "done", "failing": "failed", "hanging": "cut off", "dying": "failed", "last": "done"}
    assert run(200) == states
    assert state_of(tmp_path, "failing")["why"] == "failing: no such data; give some"
    assert "killed" in state_of(tmp_path, "dying")["why"]
    (tmp_path / "mended").touch()
    assert set(run(200).values()) == {"done"}
    assert (tmp_path / "calls").read_text().split() == ["first", "last", "failing", "hanging", "dying"]


def test_all_of_chapter_3_takes_as_long_as_its_steps() -> None:
    thesis = STUDIES["thesis"]
    steps = steps_of(thesis)
    assert sum(steps.values()) == ((100 + 100 + 250 + 250) * 8 + 250) * 3 * 200
    rows = [{"at_once": 8, "latent": latent, "steps_per_second": 1000.0} for latent in thesis.latents]
    assert whole_hours(thesis, rows) == pytest.approx(3_510_000 / 1000 / 3600)
    rows[-1]["steps_per_second"] = 500.0  # 256 dimensions at half the rate: an eighth of almost all steps, once more
    assert whole_hours(thesis, rows) == pytest.approx((3_510_000 + steps[256]) / 1000 / 3600)
    assert whole_hours(thesis, rows[1:]) is None, "a size that nobody measured"
    slower = {"at_once": 2, "latent": 256, "steps_per_second": 10.0}
    assert whole_hours(thesis, [*rows, slower]) == whole_hours(thesis, rows), "each size as fast as it goes"
    rows = [{"at_once": count, "latent": 32, "steps_per_second": rate} for count, rate in ((1, 90.0), (4, 210.0))]
    assert best_count([*rows, {"at_once": 8, "latent": 32, "why": "out of memory"}]) == 4


@pytest.mark.slow
def test_the_page_shows_what_there_is(tmp_path: Path) -> None:
    """One part done, one with half of its figures, one that failed; the others never began."""
    about = {"preset": "smoke", "seed": 0, "date": "2026-11-29", "command": "dmsynth gpu --preset smoke"}
    machine = {"accelerator": "a GPU", "driver": "1.2", "torch": "2", "cores": 2, "processor": "CPU"}
    write_json(tmp_path / "about.json", about | {"machine": machine})
    train_swapwarp(Given(tmp_path, "swapwarp", SMALL, 0, 60))
    write_json(tmp_path / "swapwarp" / "state.json", {"state": "done", "why": "", "seconds": 5, "budget": 60})
    row = {"at_once": 1, "latent": 8, "steps_per_second": 71.5, "memory_gib": 1.5}
    write_json(tmp_path / "sharing" / FOUND, {"rows": [row, {"at_once": 2, "latent": 8, "why": "too little memory"}]})
    write_json(tmp_path / "sharing" / "state.json", {"state": "cut off", "why": "its 9 s were over"})
    write_json(tmp_path / "rotation" / "state.json", {"state": "failed", "why": "no such face"})
    cell = tmp_path / "position" / "cells" / "SPE-d002-split0"
    cell.mkdir(parents=True)
    wall(Given(tmp_path, "position", SMALL, 0, 60))
    losses = {"train/swap": 0.2, "train/control": 0.3, "validation/swap": 0.125, "validation/control": 0.25}
    pd.DataFrame([{"step": 12, "epoch": 1.0} | losses]).to_csv(cell / "curves.csv", index=False)
    page = write_page(tmp_path)
    text, found = page.read_text("utf-8"), read_json(tmp_path / "figures.json")
    for line in (
        "| SwapWarp | done | 5 | 60 | – |",
        "| trainings at once | cut off | – | – | its 9 s were over |",
        "| rotation model | failed | – | – | no such face |",
        "| datasets, on the CPU | not begun | – | – | – |",
        "| 1 | 8 | 71.5 | 71.5 | 1.5 | – |",
        "| 2 | 8 | – | – | – | too little memory |",
        "| SPE | 2 | 1 | – | 1.25e-01 | 2.50e-01 | – | – | – | – |",
        "- device: a GPU",
        "driver 1.2",
        "dmsynth gpu --preset smoke",
    ):
        assert line in text, line
    assert "extrapolated" not in text, "not every latent size was measured"
    metrics, speed = found["found"]["swapwarp"], found["found"]["swapwarp"]["speed"]
    assert [row["size"] for row in speed] == [list(size) for size in SMALL.drawn]
    for row in speed:
        assert row["drawn"] > 0 and row["drawn_and_encoded"] > 0
        width, height = row["size"]
        assert f"| {width}×{height} | {row['drawn']} | {row['drawn_and_encoded']} |" in text
        strip = read_image(tmp_path / "swapwarp" / f"{width}x{height}.png")
        assert strip.shape == (height // 2, 3 * (width // 2), 3)
        left, right = strip[:, : width // 2].astype(int), strip[:, -(width // 2) :].astype(int)
        assert np.abs(left - right).mean() > 3, "the head turned from one side to the other"
    assert f"{metrics['steps']} | {metrics['batch']} |" in text and f"| {metrics['sharpness']:.2f} |" in text
    for picture in ("swapwarp/faces.png", "sharing/sharing.png", "swapwarp/128x96.png"):
        assert f"]({picture})" in text and (tmp_path / picture).is_file()


def test_without_a_gpu_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "no CUDA GPU: PyTorch" in (said := fails(dmsynth("gpu", "--out", tmp_path / "gpu")))
    assert "--preset smoke" in said and not (tmp_path / "gpu").exists()
    assert "there is full, smoke" in fails(dmsynth("gpu", "--out", tmp_path / "gpu", "--preset", "large"))
    write_json(tmp_path / "gpu" / "about.json", {"preset": "full"})
    assert "holds a measurement of another preset" in fails(
        dmsynth("gpu", "--out", tmp_path / "gpu", "--preset", "smoke")
    )


def test_a_failed_part_is_an_error_when_the_page_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def in_turn(parts: object, give: Callable[[str, float], Given], out: Path, seconds: float) -> None:
        assert give("sharing", 9.0) == Given(out, "sharing", SMALL, 3, 9.0) and seconds == 120
        for name in PARTS:
            state = {"state": "failed", "why": "no memory"} if name == "rotation" else {"state": "done", "why": ""}
            write_json(out / name / "state.json", state | {"seconds": 1, "budget": 9})

    monkeypatch.setattr("dmsynth.experiments.gpu.run_in_turn", in_turn)
    out = tmp_path / "gpu"
    said = fails(dmsynth("gpu", "--preset", "smoke", "--out", out, "--seed", 3, "--minutes", 2))
    assert "1 of 5 parts failed (rotation model: no memory)" in said and "run the same command again" in said
    assert "| rotation model | failed | 1 | 9 | no memory |" in (out / "report.md").read_text("utf-8")
    assert read_json(out / "figures.json")["seed"] == 3


@pytest.mark.slow
def test_trainings_that_cannot_begin_do_not_keep_the_others_waiting(tmp_path: Path) -> None:
    given = Given(tmp_path, "sharing", SMALL, 0, 60)
    fitting = Stepping(wall(given).path, SMALL.study, 8, 0.1, 0)
    sharing = Sharing((1, 2))
    with sharing.pool:
        broken = sharing.measure(2, Stepping(fitting.dataset, SMALL.study, 1, 0.1, 0))
        assert "--latent 1: must hold the 2 controls" in broken["why"] and "steps_per_second" not in broken
        for count in (2, 1):
            row = sharing.measure(count, fitting)
            assert row["steps_per_second"] > 0 and row["memory_gib"] > 0.1 * count


@pytest.mark.slow
def test_a_killed_measurement_goes_on_and_everything_is_on_the_page(tmp_path: Path) -> None:
    out = tmp_path / "gpu"
    command = [sys.executable, "-m", "dmsynth.cli", "gpu", "--preset", "smoke", "--minutes", "20", "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while not state_of(out, "sharing") and process.poll() is None:
        time.sleep(0.2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = {name: (out / name / "state.json").stat().st_mtime_ns for name in ("datasets", "sharing")}
    assert not state_of(out, "swapwarp")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and str(out / "report.md") in done.stdout, done.stderr
    assert {name: (out / name / "state.json").stat().st_mtime_ns for name in before} == before, "done once"
    assert [state_of(out, name)["state"] for name in PARTS] == ["done"] * len(PARTS)
    text, found = (out / "report.md").read_text("utf-8"), read_json(out / "figures.json")
    cells = found["chapter_3"]
    assert [(cell["objective"], cell["latent"]) for cell in cells] == [("SPE", 2), ("SPE", 8), ("SD", 2), ("SD", 8)]
    for cell in cells:
        assert f"| {cell['objective']} | {cell['latent']} | 2 | {cell['steps'] / cell['seconds']:.1f} |" in text
        assert f"| {cell['validation/swap']:.2e} |" in text and f"| {cell['gain_x']:.3f} |" in text
    rates = found["found"]["sharing"]["rows"]
    assert [row["at_once"] for row in rates[:2]] == [1, 2] and {row["latent"] for row in rates} == {2, 8}
    assert all(f"| {row['steps_per_second']:.1f} |" in text for row in rates)
    whole = found["whole_of_chapter_3"]
    assert whole["steps"] == sum(steps_of(STUDIES["smoke"]).values())
    assert all(f"| {60 * whole[name]:.1f} |" in text for name in ("hours_by_steps", "hours_as_trained"))
    for model in ("rotation", "swapwarp"):
        assert f"| {model} | {SMALL.steps} |" in text and (out / model / "faces.png").is_file()
    pictures = [line.partition("](")[2][:-1] for line in text.splitlines() if line.startswith("![")]
    assert len(pictures) == 11 and all((out / picture).is_file() for picture in pictures)
    assert (out / "report.html").read_text("utf-8").count("data:image/png") == 11
