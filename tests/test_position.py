"""Chapter 3: the position dataset, what is measured on it, and the grid of trainings."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import shared
from dmsynth.dataset import Dataset
from dmsynth.errors import DmsynthError
from dmsynth.experiments.grid import Engine, Job, run_grid
from dmsynth.experiments.position import LATENTS, STUDIES, Cell, face_template, run_study, with_split
from dmsynth.experiments.position_findings import findings
from dmsynth.movement import Movement, measure_movement
from dmsynth.report.position_figures import FIGURES, NOTES
from dmsynth.sources.cutout import Cutout, Layout, cut_out, make_position_dataset
from dmsynth.stability import spike_factor
from dmsynth.steering import SteerableFace, load_face
from dmsynth.trackers import Tracker
from dmsynth.trackers.template import FaceTemplate
from dmsynth.training import train
from dmsynth.video import Image, read_image
from test_cli import dmsynth, fails


@pytest.fixture(scope="session")
def cutout(tracker: Tracker, portrait: Image) -> Cutout:
    return cut_out(portrait, tracker, "astronaut")


@pytest.fixture(scope="session")
def position_dataset(tmp_path_factory: pytest.TempPathFactory, tracker: Tracker) -> Dataset:
    """120 frames of 128×96."""
    return make_position_dataset(tmp_path_factory.mktemp("position") / "dataset", None, tracker, 120, (128, 96))


@pytest.fixture(scope="session")
def position_face(tmp_path_factory: pytest.TempPathFactory, position_dataset: Dataset) -> SteerableFace:
    """A face that has learned to move, with the position given directly (SD) and nothing else in its latent."""
    out = tmp_path_factory.mktemp("position-face") / "run"
    return load_face(train(position_dataset, out, "position-sd", latent=2, base_channels=8, steps=900))


# The dataset


def test_the_dataset_is_that_of_3_1_1(cutout: Cutout) -> None:
    layout = Layout(640, 480)
    assert layout.face == (152, 200) and layout.box == (320 - 126, 240 - 150, 320 + 126, 240 + 150)
    assert cutout.face.shape == cutout.cover.shape == (200, 152)
    frame = cutout.on_wall(layout, 320 + 50, 240 - 50)
    assert frame.shape == (480, 640)
    rows, columns = np.nonzero(frame != frame[0, 0])
    assert rows.min() >= 90 and rows.max() < 90 + 200 and columns.min() >= 294 and columns.max() < 294 + 152
    assert np.ptp(rows) > 180 and np.ptp(columns) > 130  # the face fills its rectangle, up to the soft edge
    middle = cutout.cover[100]
    assert middle[76] == 1 and middle[0] < 0.05
    assert np.abs(np.diff(middle)).max() < 0.15  # the edge is soft


def test_the_label_is_where_the_face_is(position_dataset: Dataset) -> None:
    layout = Layout(128, 96)
    labels = position_dataset.labels[["commanded_x", "commanded_y"]].to_numpy()
    assert (labels >= layout.low).all() and (labels <= layout.high).all()
    assert np.ptp(labels, axis=0).min() > 0.9 * 100 * layout.scale
    for index in (0, 7, 50):
        darker = 230.0 - np.array(position_dataset.frames[index], dtype=float)
        rows, columns = np.nonzero(np.abs(darker) > 2)
        box_centre = (columns.min() + columns.max() + 1) / 2, (rows.min() + rows.max() + 1) / 2
        assert np.abs(np.array(box_centre) - labels[index]).max() < 1.0


def test_all_sizes_scale_together(cutout: Cutout) -> None:
    large, small = Layout(640, 480), Layout(160, 120)
    x, y = 300.0, 260.0
    expected = cutout.on_wall(large, x, y).reshape(120, 4, 160, 4).mean(axis=(1, 3))
    assert np.abs(cutout.on_wall(small, x / 4, y / 4) - expected).max() <= 1


def test_the_same_seed_gives_the_same_dataset(tmp_path: Path, tracker: Tracker, position_dataset: Dataset) -> None:
    again = make_position_dataset(tmp_path / "again", None, tracker, 120, (128, 96))
    other = make_position_dataset(tmp_path / "other", None, tracker, 120, (128, 96), seed=1)
    assert again.sha256 == position_dataset.sha256 != other.sha256


def test_any_portrait_works(tracker: Tracker) -> None:
    photos = sorted(shared("data/photos").glob("*.*"))
    cut = [cut_out(read_image(path), tracker, path.name) for path in photos[:3]]
    assert all(0.4 < cutout.cover.mean() < 0.9 and cutout.face.std() > 10 for cutout in cut)


def test_a_picture_without_a_face_is_refused(tmp_path: Path) -> None:
    from skimage import data

    from dmsynth.video import write_image

    write_image(tmp_path / "coffee.png", data.coffee())
    message = fails(dmsynth("dataset", "position", tmp_path / "d", tmp_path / "coffee.png"))
    assert "coffee.png: no face" in message and not (tmp_path / "d").exists()


def test_the_command_line_makes_and_shows_it(tmp_path: Path) -> None:
    made = dmsynth("dataset", "position", tmp_path / "d", "--frames", 30, "--size", "128x96")
    assert made.returncode == 0 and "30 frames of 128×96" in made.stdout and "x (px)" in made.stdout, made.stderr
    assert dmsynth("dataset", "info", tmp_path / "d").returncode == 0
    assert read_image(tmp_path / "d" / "info" / "coverage.png").shape[0] > 200
    assert "4 wide to 3 high" in fails(dmsynth("dataset", "position", tmp_path / "e", "--size", "320x160"))


# What is measured


@given(x=st.integers(-50, 50), y=st.integers(-50, 50))
def test_the_centre_is_found_to_a_tenth_of_a_pixel(cutout: Cutout, position_dataset: Dataset, x: int, y: int) -> None:
    layout = Layout(128, 96)
    centre = np.array([64 + x * layout.scale, 48 + y * layout.scale])
    found = face_template(position_dataset).locate(cutout.on_wall(layout, *centre))
    assert np.abs(np.array(found) - centre).max() <= 0.1


def test_an_empty_wall_has_no_centre(position_dataset: Dataset) -> None:
    empty = np.full((96, 128), 230, dtype=np.uint8)
    assert np.isnan(face_template(position_dataset).locate(empty)).all()


def test_a_template_knows_its_centre() -> None:
    frame = np.zeros((40, 60), dtype=np.uint8)
    frame[10:20, 30:42] = 200
    template = FaceTemplate.of(frame, (36.0, 15.0), (16, 14))
    assert template.picture.shape == (14, 16) and template.centre == (8.0, 7.0)
    assert template.locate(np.roll(frame, (3, -5), axis=(0, 1))) == pytest.approx((31.0, 18.0), abs=1e-3)


@given(gain=st.floats(-2, 2), offset=st.floats(-30, 30))
def test_movement_gain_is_the_slope(gain: float, offset: float) -> None:
    commanded = np.random.default_rng(0).uniform(0, 100, (50, 2))
    movement = Movement(commanded, gain * commanded + offset)
    assert movement.gain == pytest.approx((gain, gain), abs=1e-6)
    assert Movement(commanded, commanded + np.array([3.0, 4.0])).error == pytest.approx(5)


def test_a_trained_face_goes_where_it_is_told(position_face: SteerableFace, position_dataset: Dataset) -> None:
    """By the public way in pixels, judged in the image alone."""
    layout = Layout(128, 96)
    commands = np.random.default_rng(1).uniform(layout.low, layout.high, (40, 2))
    sources = [np.array(frame) for frame in position_dataset.frames[:40]]
    movement = measure_movement(position_face, sources, commands, face_template(position_dataset))
    assert np.abs(np.array(movement.gain) - 1).max() < 0.15
    assert movement.error < 1.5
    left, right = position_face.steer(x=56), position_face.steer(x=72)  # y stays in the middle
    template = face_template(position_dataset)
    assert template.locate(right)[0] - template.locate(left)[0] > 10
    assert abs(template.locate(right)[1] - 48) < 3


@given(st.lists(st.floats(1e-6, 1e3), min_size=6, max_size=60))
def test_a_curve_that_never_rises_has_factor_one(losses: list[float]) -> None:
    assert spike_factor(sorted(losses, reverse=True)) == 1
    assert spike_factor(losses) >= 1
    assert spike_factor(np.array(losses) * 7) == pytest.approx(spike_factor(losses))


def test_a_spike_is_seen_and_too_short_a_curve_refused() -> None:
    curve = np.geomspace(1, 1e-3, 30)
    curve[17] *= 8
    assert spike_factor(curve) == pytest.approx(curve[17] / curve[14])  # the median of the five before it
    with pytest.raises(ValueError, match="at least 6 epochs"):
        spike_factor(curve[:5])


# The study


def test_studies_are_those_of_3_1_2() -> None:
    thesis = STUDIES["thesis"]
    assert thesis.size == (640, 480) and thesis.base_channels == 64 and thesis.optimization == "thesis"
    assert thesis.epochs == {"R": 100, "RPE": 100, "SPE": 250, "SD": 250, "position only": 250}
    cells = list(thesis.cells())
    assert len({cell.name for cell in cells}) == len(cells) == 4 * 8 * 3 + 3
    assert set(STUDIES["laptop"].latents) == set(LATENTS)
    assert set(NOTES) == set(FIGURES) and len(FIGURES) == 20


def test_splits_are_random_and_differ(position_dataset: Dataset) -> None:
    first, again, other = (with_split(position_dataset, 24, seed) for seed in (0, 0, 1))
    assert len(first.split("train")) == 96 and len(first.split("validation")) == 24
    assert (first.split("validation") == again.split("validation")).all()
    assert set(first.split("validation")) != set(other.split("validation"))


def test_a_killed_study_goes_on_and_ray_gives_the_same_table(tmp_path: Path, tracker: Tracker) -> None:
    out = tmp_path / "local"
    arguments = ["reproduce", "position", "--preset", "smoke", "--out", str(out)]
    command = [sys.executable, "-m", "dmsynth.cli", *arguments]
    process = subprocess.Popen(command, env=os.environ | {"PYTHONWARNINGS": "ignore"}, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 200
    while len(list(out.glob("cells/*/result.json"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    time.sleep(1)  # the workers see that they are alone
    finished = {path: path.stat().st_mtime_ns for path in out.glob("cells/*/result.json")}
    assert 3 <= len(finished) < 18
    resumed = dmsynth(*arguments)
    assert resumed.returncode == 0, resumed.stderr
    assert all(path.stat().st_mtime_ns == before for path, before in finished.items())
    table = pd.read_csv(out / "cells.csv")
    assert len(table) == 18 and table.loc[table["objective"] == "SPE", "control_error"].notna().all()
    report = (out / "report.html").read_text()
    assert report.count("data:image/png") == 20 and "http" not in report
    assert len(list((out / "figures").glob("*.svg"))) == 20
    assert "holds another study" in fails(dmsynth(*arguments, "--seed", 5))

    by_ray = run_study(tmp_path / "ray", STUDIES["smoke"], tracker, engine=Engine("ray"))
    assert len(by_ray) == 18
    assert (tmp_path / "ray" / "cells.csv").read_bytes() == (out / "cells.csv").read_bytes()


def _fail(folder: Path, arguments: dict[str, object]) -> None:
    folder.mkdir(parents=True)
    if arguments["bad"]:
        raise ValueError("a loss that is not a number")
    (folder / "result.json").write_text("{}")


def test_a_failed_training_is_named(tmp_path: Path) -> None:
    jobs = [Job("good", 2, {"bad": False}), Job("bad", 1, {"bad": True})]
    with pytest.raises(DmsynthError, match=r"bad: the training failed \(ValueError: a loss"):
        run_grid("test", _fail, jobs, tmp_path, Engine(workers=1), lambda folder, job: 0.0)
    assert (tmp_path / "good" / "result.json").is_file()


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    refused = fails(dmsynth("reproduce", "position", "--out", tmp_path / "out", "--preset", "huge"))
    assert "--preset huge: there is thesis, laptop, smoke" in refused and not (tmp_path / "out").exists()
    with pytest.raises(DmsynthError, match="--engine slurm: there is local and ray"):
        Engine("slurm")
    with pytest.raises(DmsynthError, match="add --engine ray"):
        Engine(address="10.0.0.1:6379")


# The findings


def _study(**gains: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A made-up study in which every claim of the thesis holds."""
    cells, curves = [], []
    for cell in STUDIES["thesis"].cells():
        d = cell.latent
        image = {"R": 0.02 if d == 2 else 0.004, "RPE": 0.03 if d == 2 else 0.004}.get(cell.objective, 0.012)
        image *= {"SPE": 1.0, "SD": 0.95}.get(cell.objective, 1.0)
        image *= min(d, 32) ** -0.3 if cell.objective in ("SPE", "SD") else d**-0.5 if cell.objective == "R" else 1
        position = 1e-3 if d == 2 and cell.objective == "RPE" else 1e-4
        gain = 1.0 if cell.objective in ("SPE", "SD") or d == 2 else 0.05
        gain = gains.get(cell.objective, gain)
        loss = "swap" if cell.objective in ("SPE", "SD") else "reconstruction"
        spike = {"SPE": 1.3, "SD": 1.1}.get(cell.objective, 1.2)
        row = vars(cell) | {"gain_x": gain, "gain_y": gain}
        row |= {f"validation/{loss}": image, f"spike/validation/{loss}": spike}
        if cell.objective not in ("R", "SD"):
            row |= {"validation/control": position, "spike/validation/control": 5.0}
        cells.append(row)
        noise = np.random.default_rng(0).uniform(1, 3, 20)
        for epoch, factor in enumerate(noise):
            curves.append(
                vars(cell) | {"epoch": epoch, "validation/control": factor, f"validation/{loss}": factor**0.3}
            )
    return pd.DataFrame(cells), pd.DataFrame(curves)


def test_findings_hold_where_the_thesis_is_right_and_only_there() -> None:
    right = findings(*_study())
    false = [finding.claim for finding in right if not finding.holds]
    assert len(right) > 15 and not false
    wrong = {finding.claim: finding.holds for finding in findings(*_study(SPE=0.5, RPE=0.9))}
    assert not wrong["SPE steers the position at any number of dimensions"]
    assert not wrong["RPE steers the position at 2 dimensions only"]
    assert wrong["SD steers the position at any number of dimensions"]


def test_a_cell_has_a_name_for_its_folder() -> None:
    assert Cell("position only", 2, 1).name == "position-only-d002-split1"
    assert json.dumps(vars(Cell("SPE", 32, 0)))
