"""SwapWarp: moves what it sees, follows the command, and chooses what to steer from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dmsynth.controls import CONTROL_SPACES
from dmsynth.controls.carried import Carried
from dmsynth.controls.coverage import Coverage, typical
from dmsynth.datasets.cutout import make_position_dataset
from dmsynth.datasets.dataset import Dataset
from dmsynth.datasets.photo import PoseRange, pose_photo
from dmsynth.datasets.recording import import_recordings
from dmsynth.evaluation import evaluate
from dmsynth.learning.batches import Batches, to_network
from dmsynth.learning.data import steer_from
from dmsynth.learning.swapping import OBJECTIVES
from dmsynth.learning.swapwarp import SwapWarp, warp
from dmsynth.learning.training import train
from dmsynth.motion.trajectory import parse_motions
from dmsynth.steering import SteerableFace, load_face
from dmsynth.steering.face import blended, choose_sources
from dmsynth.support.errors import DmsynthError
from dmsynth.support.parallel import prefetch
from dmsynth.trackers import Tracker

Codes = NDArray[np.float32]
codes = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).random((12, 3)).astype(np.float32))


@pytest.fixture(scope="module")
def swapwarp(tmp_path_factory: pytest.TempPathFactory, photo_dataset: Dataset) -> SteerableFace:
    """Trained for some seconds: it turns, if not beautifully."""
    out = tmp_path_factory.mktemp("swapwarp") / "run"
    return load_face(train(photo_dataset, out, "swapwarp", steps=100, seed=1))


@given(x=st.integers(-5, 5), y=st.integers(-5, 5))
def test_a_flow_fetches_from_where_it_points(x: int, y: int) -> None:
    image = torch.rand(1, 1, 16, 20, generator=torch.Generator().manual_seed(0))
    flow = torch.tensor([x / 20 / 0.3, y / 16 / 0.3])[None, :, None, None].expand(1, 2, 16, 20)
    inside = image[:, :, max(0, y) : 16 + min(0, y), max(0, x) : 20 + min(0, x)]
    fetched = warp(image, flow)[:, :, max(0, -y) : 16 - max(0, y), max(0, -x) : 20 - max(0, x)]
    assert torch.allclose(fetched, inside, atol=1e-4)


def test_a_new_network_shows_the_source(photo_dataset: Dataset) -> None:
    network = SwapWarp(96, 80)
    images = to_network(photo_dataset.frames[:4])
    with torch.inference_mode():
        appearance = network.encode(images)
        drawn = network.steer(appearance, torch.rand(4, 3))
    assert float((drawn - images).abs().mean()) < 0.03


def test_a_window_is_that_part_of_the_whole(swapwarp: SteerableFace, photo_dataset: Dataset) -> None:
    """Training draws a part of the picture; it must learn what will be drawn as a whole."""
    network = swapwarp.trained.network
    assert isinstance(network, SwapWarp)
    window = (slice(16, 64), slice(24, 80))
    with torch.inference_mode():
        appearance = network.encode(to_network(photo_dataset.frames[:4]))
        code = appearance.code.roll(1, 0)
        whole, part = network.draw(appearance, code), network.draw(appearance, code, window)
    assert part.image.shape == (4, 1, 48, 56)
    inside = slice(16, -16)  # convolutions and interpolation see nothing beyond the edge
    for one, other in ((whole.image, part.image), (whole.warped, part.warped)):
        difference = (one[..., *window] - other)[..., inside, inside].abs()
        assert float(difference.max()) < 0.02, difference.max()


def test_to_its_own_controls_a_frame_stays_where_it_is(swapwarp: SteerableFace, photo_dataset: Dataset) -> None:
    network = swapwarp.trained.network
    assert isinstance(network, SwapWarp)
    code = torch.from_numpy(swapwarp.trained.source_codes[:4])
    points = torch.rand(4, 50, 2, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.allclose(network.follow(points, code, into=code), points, atol=1e-5)
        there = network.follow(points * 0.4 + 0.3, code, into=code.roll(1, 0))
        back = network.follow(there, code.roll(1, 0), into=code)
    assert float((back - points * 0.4 - 0.3).abs().mean()) < 0.005


def test_it_follows_the_command(swapwarp: SteerableFace, photo_dataset: Dataset, tracker: Tracker) -> None:
    """From one source frame, and from chosen ones."""
    chosen = evaluate(swapwarp, photo_dataset, tracker)
    single = evaluate(swapwarp.from_one_source(), photo_dataset, tracker)
    for metrics in (chosen.metrics, single.metrics):
        assert metrics["lost"] <= 3, metrics
        for name, gain in metrics["gain"].items():
            assert 0.6 < gain < 1.4, (name, metrics)
        assert metrics["psnr"] > 20


def test_it_reads_the_controls_of_an_unknown_frame(swapwarp: SteerableFace, photo_dataset: Dataset) -> None:
    test = photo_dataset.split("test")
    true = photo_dataset.controls(swapwarp.trained.space)[test]
    read = np.array([swapwarp.encoded_controls(np.array(photo_dataset.frames[index])) for index in test])
    assert np.corrcoef(true[:, 1], read[:, 1])[0, 1] > 0.9
    picture = swapwarp.steer(np.array(photo_dataset.frames[test[0]]), yaw=5)
    assert picture.shape == (80, 96)


def test_a_motion_does_not_jump(swapwarp: SteerableFace) -> None:
    """Where the source changes, the picture changes little more than elsewhere."""
    motion = parse_motions("move yaw=-15 0.1; sweep yaw=-15:15 4", swapwarp.trained.space.names, 25).values[10:]
    frames = np.array(list(swapwarp.frames(motion)), dtype=float)
    steps = np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2))
    assert steps.max() < 4 * np.median(steps), steps


@given(codes, codes)
def test_choice_of_sources(rows: Codes, sources: Codes) -> None:
    distance = np.square(rows[:, None] - sources[None]).sum(axis=2)
    assert np.array_equal(choose_sources(rows, sources, change=0), distance.argmin(axis=1))
    assert len(set(choose_sources(rows, sources, change=1e3).tolist())) == 1
    for change in (0.05, 0.5):
        chosen = choose_sources(rows, sources, change)
        alone = distance.sum(axis=0).min()  # never worse than to stay with the best single source
        assert distance[np.arange(12), chosen].sum() + change * (np.diff(chosen) != 0).sum() <= alone + 1e-5


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(0, 9))
def test_blending_shares_add_up(chosen: list[int], rows: int) -> None:
    shares = blended(np.array(chosen), 4, rows)
    assert np.allclose(shares.sum(axis=1), 1)
    assert shares.min() >= -1e-9
    if rows < 2:
        assert np.array_equal(shares.argmax(axis=1), chosen)


@given(codes, st.integers(1, 12))
def test_every_row_has_a_typical_one_near(rows: Codes, count: int) -> None:
    chosen = typical(rows, count, first=5)
    assert chosen[0] == 5
    assert len(set(chosen.tolist())) == len(chosen) <= count
    nearest = np.linalg.norm(rows[:, None] - rows[chosen][None], axis=2).min(axis=1)
    assert nearest.mean() <= np.linalg.norm(rows - rows[5], axis=1).mean() + 1e-6


@given(codes)
def test_what_the_command_explains_is_not_carried(rows: Codes) -> None:
    random = np.random.default_rng(0)
    own = random.normal(size=12)
    measured = np.stack([3 + 2 * rows[:, 0] - rows[:, 1] ** 2, 100 * own, np.full(12, 7.0)], axis=1)
    carried = Carried.fitted(("explained", "blink", "still"), rows, measured)
    assert carried.names in (("blink",), ("explained", "blink"))  # the first up to rounding
    encoded = carried.encode(("explained", "blink", "still"), rows, measured)
    assert encoded.shape == (12, carried.size)
    again = Carried.from_dict(carried.to_dict())
    assert np.array_equal(again.encode(("still", "blink", "explained"), rows, measured[:, ::-1]), encoded)


def test_half_of_the_pairs_begin_at_a_source(photo_dataset: Dataset) -> None:
    frames = photo_dataset.split("train")
    codes = np.zeros((len(photo_dataset), 3), np.float32)
    batches = Batches(photo_dataset, photo_dataset.frames, codes, frames, 8, 0, frames[:1])
    drawn = np.concatenate([batches._order(past) for past in range(20)]).reshape(-1, 2)
    share = (drawn[:, 0] == frames[0]).mean()
    assert 0.4 < share < 0.6  # the only source is the first and the nearest
    assert set(drawn[:, 1].tolist()) <= set(frames.tolist())


def test_a_recording_carries_expression_and_place(tmp_path: Path, face_video: Path, tracker: Tracker) -> None:
    dataset = import_recordings(tmp_path / "data", [face_video], tracker, size=(96, 80))
    names, values = dataset.carried()
    assert {"x", "y", "size"} <= set(names)
    points = dataset.landmarks()
    assert points is not None
    assert points.shape[2] == 2
    assert np.all((points > 0) & (points < 1))
    face = load_face(train(dataset, tmp_path / "run", steps=10))
    assert set(face.trained.carried.names) <= set(names)
    assert face.trained.source_codes.shape[1] == 3 + face.trained.carried.size
    assert face.steer(yaw=3).shape == (80, 96, 3), "recordings are imported in colour"
    assert len(values) == len(dataset)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_it_steers_positions_too(tmp_path: Path, tracker: Tracker, precision: str) -> None:
    """Another control space, not a line changed; and images so small that they must not be made smaller."""
    dataset = make_position_dataset(tmp_path / "data", None, tracker, 60, (64, 48), seed=0)
    face = load_face(train(dataset, tmp_path / "run", steps=10, precision=precision))
    assert face.trained.space.names == ("x", "y")
    assert face.steer(x=30, y=24).shape == (48, 64)
    assert np.isfinite(pd.read_csv(tmp_path / "run" / "curves.csv").to_numpy()).all()


def test_items_made_ahead_are_the_same_items() -> None:
    assert list(prefetch(range(100), most=3)) == list(range(100))

    def breaks() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    begun = prefetch(breaks())
    assert next(begun) == 1
    with pytest.raises(ValueError, match="broken"):
        next(begun)
    endless = prefetch(iter(int, 1), most=2)
    assert next(endless) == 0
    endless.close()  # ends the thread


def test_in_colour_and_without_landmarks(tmp_path: Path, tracker: Tracker) -> None:
    poses = PoseRange(pitch=8, yaw=15, roll=8)
    dataset = pose_photo(tmp_path / "data", None, tracker, 40, (96, 80), poses, seed=0, colour=True)
    blind = replace(dataset, labels=dataset.labels.drop(columns="landmarks"))
    assert blind.landmarks() is None
    face = load_face(train(blind, tmp_path / "run", steps=4))
    assert face.steer(yaw=5).shape == (80, 96, 3)
    assert face.steer(np.zeros((50, 60), np.uint8), yaw=5).shape == (80, 96, 3)


def test_a_training_that_diverges_says_so(tmp_path: Path, photo_dataset: Dataset) -> None:
    """Going on would crash the process inside PyTorch."""
    calls = []

    def broken_after_a_step(network: SwapWarp, *known: torch.Tensor) -> dict[str, torch.Tensor]:
        calls.append(1)
        return {"swap": next(network.parameters()).sum() * (1.0 if len(calls) == 1 else float("nan"))}

    with pytest.MonkeyPatch.context() as patch, pytest.raises(DmsynthError, match="not a number at step 1; try"):
        patch.setitem(OBJECTIVES, "SwapWarp", broken_after_a_step)
        train(photo_dataset, tmp_path / "run", steps=4, quiet=True)


def test_all_sources_are_of_one_recording(photo_dataset: Dataset) -> None:
    recordings = np.array([0, 1, 1] * (len(photo_dataset) // 3))
    two = replace(photo_dataset, labels=photo_dataset.labels.assign(recording_index=recordings))
    codes = np.random.default_rng(0).random((len(two), 3)).astype(np.float32)
    sources = steer_from(two, codes, Carried(), CONTROL_SPACES["rotation"])
    assert len(set(recordings[sources].tolist())) == 1
    assert set(sources.tolist()) <= set(two.split("train").tolist())


def test_the_first_source_has_open_eyes(photo_dataset: Dataset) -> None:
    lids = np.random.default_rng(0).random((len(photo_dataset), 2)).astype(np.float32)
    codes = np.concatenate([np.full((len(lids), 3), 0.5, np.float32), lids], axis=1)
    first = steer_from(photo_dataset, codes, Carried(("blink_left", "blink_right")), CONTROL_SPACES["rotation"])[0]
    closed = lids.max(axis=1)
    assert closed[first] <= np.quantile(closed[photo_dataset.split("train")], 0.3)


@given(codes)
def test_confidence_falls_with_distance(rows: Codes) -> None:
    coverage = Coverage.of(rows)
    assert np.allclose(coverage.confidence(rows), 1)
    away = rows + np.array([1, 0, 0], dtype=np.float32) * np.linspace(0, 5, 12, dtype=np.float32)[:, None]
    order = np.argsort(coverage.distance(away))
    assert np.all(np.diff(coverage.confidence(away)[order]) <= 1e-9)
    assert np.array_equal(coverage.confidence(away) < 0.5 - 1e-5, coverage.outside(away))


def test_the_starter_face_turns_as_told(tracker: Tracker) -> None:
    """It comes with the package, and a real tracker reads what was commanded."""
    face = load_face(Path("starter"))
    assert face.size == (640, 480)
    for pose in ({"yaw": 20.0}, {"yaw": -20.0}, {"pitch": 10.0}, {"roll": -12.0}):
        (found,) = tracker(face.steer(None, **pose))
        for name, value in found.pose.items():
            assert abs(value - pose.get(name, 0.0)) < 4, (pose, found.pose)
