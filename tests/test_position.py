"""Chapter 3: the position dataset, what is measured on it, and the grid of trainings."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from commands import dmsynth, fails
from conftest import shared
from dmsynth.datasets.cutout import Cutout, Layout, cut_out, make_position_dataset
from dmsynth.datasets.dataset import Dataset, open_dataset
from dmsynth.evaluation.movement import Movement, measure_movement
from dmsynth.experiments.grid import Engine, Job, run_grid
from dmsynth.experiments.position import (
    LATENTS,
    STUDIES,
    Cell,
    Study,
    face_template,
    learned_nothing,
    run_study,
    with_split,
)
from dmsynth.experiments.position_findings import findings
from dmsynth.experiments.stable_training import compare
from dmsynth.learning import face_file
from dmsynth.learning.autoencoder import Autoencoder
from dmsynth.learning.stability import spike_factor
from dmsynth.learning.training import train
from dmsynth.report.position_figures import FIGURES, NOTES
from dmsynth.steering import SteerableFace, load_face
from dmsynth.support.errors import DmsynthError
from dmsynth.trackers import Tracker
from dmsynth.trackers.template import FaceTemplate
from dmsynth.video import Image
from dmsynth.video.pictures import read_image


@pytest.fixture(scope="session")
def cutout(tracker: Tracker, portrait: Image) -> Cutout:
    return cut_out(portrait, tracker, "astronaut")


@pytest.fixture(scope="session")
def position_dataset(tmp_path_factory: pytest.TempPathFactory, tracker: Tracker) -> Dataset:
    """120 frames of 128×96."""
    return make_position_dataset(tmp_path_factory.mktemp("position") / "dataset", None, tracker, 120, (128, 96))


def test_every_face_of_the_thesis_can_be_read_again() -> None:
    """Of 256 dimensions at 640×480 it has 1.28 GB, which face files once could not have."""
    study = STUDIES["thesis"]
    with torch.device("meta"):  # sizes alone, no memory
        largest = Autoencoder(*study.size, latent=max(study.latents), base_channels=study.base_channels)
    weights = sum(weight.numel() * weight.element_size() for weight in largest.parameters())
    frames = 3 * study.size[0] * study.size[1]
    assert weights > 2**30 and weights + frames < face_file._LARGEST


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


@pytest.mark.shared
def test_any_portrait_works(tracker: Tracker) -> None:
    photos = sorted(shared("data/photos").glob("*.*"))
    cut = [cut_out(read_image(path), tracker, path.name) for path in photos[:3]]
    assert all(0.4 < cutout.cover.mean() < 0.9 and cutout.face.std() > 10 for cutout in cut)


def test_a_picture_without_a_face_is_refused(tmp_path: Path) -> None:
    from dmsynth.video import write_image

    rows, columns = np.indices((240, 320))
    stripes = (127 + 60 * np.sin(rows / 7) + 60 * np.cos(columns / 11)).astype(np.uint8)
    write_image(tmp_path / "stripes.png", stripes)
    message = fails(dmsynth("dataset", "position", tmp_path / "d", tmp_path / "stripes.png"))
    assert "stripes.png: no face" in message and not (tmp_path / "d").exists()


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
    assert set(STUDIES["laptop"].latents) == set(LATENTS) and STUDIES["laptop"].epochs == thesis.epochs
    assert set(NOTES) == set(FIGURES) and len(FIGURES) == 20


def test_splits_are_random_and_differ(position_dataset: Dataset) -> None:
    first, again, other = (with_split(position_dataset, 24, seed) for seed in (0, 0, 1))
    assert len(first.split("train")) == 96 and len(first.split("validation")) == 24
    assert (first.split("validation") == again.split("validation")).all()
    assert set(first.split("validation")) != set(other.split("validation"))


@pytest.mark.slow
def test_a_killed_study_goes_on_and_ray_gives_the_same_table(tmp_path: Path, tracker: Tracker) -> None:
    out = tmp_path / "local"
    arguments = ["reproduce", "position", "--preset", "smoke", "--out", str(out)]
    command = [sys.executable, "-m", "dmsynth.cli", *arguments]
    for stop, results in ((signal.SIGINT, 2), (signal.SIGKILL, 4)):
        process = subprocess.Popen(
            command,
            env=os.environ | {"PYTHONWARNINGS": "ignore"},
            stderr=subprocess.DEVNULL,
            preexec_fn=_heed_ctrl_c,
        )
        deadline = time.monotonic() + 200
        while len(list(out.glob("cells/*/result.json"))) < results and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(stop)  # to the main process alone: its workers must end too
        assert process.wait(timeout=20) == (130 if stop == signal.SIGINT else -stop)
    time.sleep(1)  # the workers see that they are alone
    finished = {path: path.stat().st_mtime_ns for path in out.glob("cells/*/result.json")}
    assert 4 <= len(finished) < 18
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


def _heed_ctrl_c() -> None:
    """Shells start background jobs, and so the tests in one, deaf to it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.slow
def test_both_optimizations_start_from_the_same_data(tmp_path: Path, tracker: Tracker) -> None:
    tiny = Study((64, 48), 40, 8, 2, (4,), 1, {"SPE": 6})
    report = compare(tmp_path / "out", tracker, engine=Engine(workers=1), study=tiny)
    table = report.tables["Each training"]
    assert table["optimization"].tolist() == ["thesis", "stable"]
    thesis, stable = (pd.read_csv(tmp_path / "out" / way / "cells.csv") for way in ("thesis", "stable"))
    assert len(thesis) == len(stable) == 1 and report.tables["Before and after"].shape == (4, 4)
    assert not thesis["validation/swap"].equals(stable["validation/swap"])
    hashes = {open_dataset(tmp_path / "out" / way / "dataset").sha256 for way in ("thesis", "stable")}
    assert len(hashes) == 1
    assert "dmsynth reproduce stability" in (tmp_path / "out" / "report.md").read_text()


def _fail(folder: Path, arguments: dict[str, object]) -> None:
    folder.mkdir(parents=True)
    if arguments["bad"]:
        raise ValueError("a loss that is not a number")
    (folder / "result.json").write_text("{}")


@pytest.mark.slow
def test_a_failed_training_is_named(tmp_path: Path) -> None:
    jobs = [Job("bad", 2, {"bad": True}), Job("good", 1, {"bad": False})]
    with pytest.raises(DmsynthError, match=r"1 of 2 trainings failed \(bad: ValueError: a loss"):
        run_grid("test", _fail, jobs, tmp_path, Engine(workers=1), lambda folder, job: 0.0)
    assert (tmp_path / "good" / "result.json").is_file()


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    refused = fails(dmsynth("reproduce", "position", "--out", tmp_path / "out", "--preset", "huge"))
    assert "--preset huge: there is thesis, laptop, smoke" in refused and not (tmp_path / "out").exists()
    with pytest.raises(DmsynthError, match="--engine slurm: there is local and ray"):
        Engine("slurm")
    job = Job("one", 1, {"bad": False})
    for address in ("127.0.0.1:1", "nowhere"):
        with pytest.raises(DmsynthError, match=f"--address {address}: no Ray cluster answers there"):
            run_grid("test", _fail, [job], tmp_path / "grid", Engine("ray", address=address), lambda folder, job: 0.0)
    with pytest.raises(DmsynthError, match="add --engine ray"):
        Engine(address="10.0.0.1:6379")


# The findings


def _study(right: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A made-up study in which every claim of the thesis is true, or none."""
    cells, curves = [], []
    random = np.random.default_rng(0)
    for cell in replace(STUDIES["thesis"], epochs=dict.fromkeys(STUDIES["thesis"].epochs, 60)).cells():
        name, d = cell.objective, cell.latent
        loss = "swap" if name in ("SPE", "SD") else "reconstruction"
        swaps, steers = name in ("SPE", "SD"), name in ("SPE", "SD") or d == 2
        if right:
            image = (
                0.012 * min(d, 32) ** -0.3
                if swaps
                else {"R": 0.012, "RPE": 0.02}.get(name, 1) * (d > 2 or {"RPE": 20}.get(name, 5))
            )
            image *= {"R": d**-0.6, "SD": 0.95}.get(name, 1) * (1 if swaps else 0.1)
            position = 1e-3 if d == 2 and name == "RPE" else 1e-4
            gain = 1.0 if steers else 0.05
            spikes = {"R": 1.2, "SPE": 1.3, "SD": 1.1}.get(name, 1.2), {"RPE": 9.0}.get(name, 5.0)
        else:
            image = {"R": 0.01 * d, "RPE": 0.01 * d**1.5, "SPE": 0.005 if d < 64 else 0.002}.get(name, 0.1 / d)
            position = 1e-4 * d
            gain = 0.5 if steers else 0.9
            spikes = {"R": 5.0, "SPE": 1.1, "SD": 1.3}.get(name, 1.2), {"position only": 1.5}.get(name, 1.2)
        row = vars(cell) | {"epochs": 60, "gain_x": gain, "gain_y": gain}
        row |= {f"validation/{loss}": image, f"spike/validation/{loss}": spikes[0]}
        if name not in ("R", "SD"):
            row |= {"validation/control": position, "spike/validation/control": spikes[1]}
        cells.append(row)
        trend = np.geomspace(1, 0.01 if right else 100, 60)
        noise = random.lognormal(0, 0.5, (2, 60))
        images = trend * (noise[0] ** 0.3 if right else noise[1])
        images[-1] = trend[-1]
        for epoch in range(60):
            losses = {"validation/control": trend[epoch] * noise[0, epoch], f"validation/{loss}": images[epoch]}
            curves.append(vars(cell) | {"epoch": epoch + 1} | losses)
    return pd.DataFrame(cells), pd.DataFrame(curves)


def test_findings_hold_where_the_thesis_is_right() -> None:
    assert [finding.claim for finding in findings(*_study(right=True)) if finding.holds is not True] == []


def test_findings_do_not_hold_where_it_is_wrong() -> None:
    assert [finding.claim for finding in findings(*_study(right=False)) if finding.holds is not False] == []


def test_two_calm_losses_that_slow_down_are_no_spikes_that_spread() -> None:
    """Both curves bend alike, but no epoch of one says anything of the other."""
    cells, curves = _study(right=True)
    random = np.random.default_rng(1)
    for name in ("validation/control", "validation/swap", "validation/reconstruction"):
        curves[name] = curves["epoch"] ** -2.0 * random.lognormal(0, 0.02, len(curves))
    reach = {f.claim: f.holds for f in findings(cells, curves) if "reach" in f.claim}
    assert len(reach) == 2 and not any(reach.values())


def test_what_a_study_cannot_decide_is_undecided() -> None:
    cells, curves = _study(right=True)
    short = {f.claim: f.verdict for f in findings(cells.assign(epochs=8), curves[curves["epoch"] <= 8])}
    assert short["RPE: the position loss has large spikes"] == "undecided"
    assert short["SPE: the position loss's spikes reach the swap loss"] == "undecided"
    gone = {f.claim: f.verdict for f in findings(cells[cells["latent"] != 2], curves[curves["latent"] != 2])}
    assert gone["R: the difference between 2 and 4 dimensions is the greatest"] == "undecided"
    assert gone["RPE steers the position at 2 dimensions only"] == "undecided"


def test_a_dead_decoder_is_told_from_a_blurred_one(position_dataset: Dataset) -> None:
    study = Study((128, 96), 120, 24, 4, (8,), 1, {"SPE": 1})
    chosen = with_split(position_dataset, 24, 0).split("validation")
    frames = np.array(position_dataset.frames[chosen]) / 255
    of_mean = float(((frames - frames.mean(axis=0)) ** 2).mean())
    losses = [3 * of_mean, 0.99 * of_mean, 0.5 * of_mean]
    cells = pd.DataFrame({"split": 0, "validation/swap": losses, "validation/reconstruction": np.nan})
    assert learned_nothing(cells, position_dataset, study, seed=0).tolist() == [True, True, False]


def test_a_cell_has_a_name_for_its_folder() -> None:
    assert Cell("position only", 2, 1).name == "position-only-d002-split1"
