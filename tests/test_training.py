"""The swap, the network, and training that can be killed."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from dmsynth.datasets.dataset import Dataset
from dmsynth.learning.autoencoder import Autoencoder
from dmsynth.learning.batches import Batches
from dmsynth.learning.callbacks import Plateau
from dmsynth.learning.face_file import read_face
from dmsynth.learning.models import RECIPES
from dmsynth.learning.optimization import OPTIMIZATIONS, Optimization
from dmsynth.learning.swapping import OBJECTIVES, swap, swap_position_encoding
from dmsynth.learning.training import Training, train
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import lock, temporary_beside


def test_the_swap_exchanges_neighbours() -> None:
    batch = torch.arange(8).reshape(4, 2)
    assert swap(batch).tolist() == [[2, 3], [0, 1], [6, 7], [4, 5]]
    assert torch.equal(swap(swap(batch)), batch)


class _Perfect:
    """A network for images that *are* their latent: two controls and one appearance entry."""

    def encode(self, images: Tensor) -> Tensor:
        return images.flatten(1)

    def decode(self, latent: Tensor) -> Tensor:
        return latent.unflatten(1, (1, 1, 3))


def test_spe_is_zero_for_a_perfect_network_and_not_for_one_that_ignores_the_code() -> None:
    code = torch.tensor([[0.1, 0.9], [0.5, 0.2], [0.3, 0.3], [0.8, 0.6]])
    images = torch.cat([code, torch.full((4, 1), 0.7)], dim=1).unflatten(1, (1, 1, 3))  # one person: same appearance
    losses = swap_position_encoding(_Perfect(), images, code)
    assert set(losses) == {"swap", "control"}
    assert float(losses["swap"]) == 0 and float(losses["control"]) == 0

    class _Deaf(_Perfect):
        def decode(self, latent: Tensor) -> Tensor:
            return images

    assert float(swap_position_encoding(_Deaf(), images, code)["swap"]) > 0.01
    assert float(swap_position_encoding(_Perfect(), images, 1 - code)["control"]) > 0.01


def test_the_objectives_differ_only_where_the_thesis_says() -> None:
    code = torch.tensor([[0.1, 0.9], [0.5, 0.2], [0.3, 0.3], [0.8, 0.6]])
    images = torch.rand(4, 3).unflatten(1, (1, 1, 3))
    of_the_thesis = {name: objective for name, objective in OBJECTIVES.items() if not name.startswith("SwapWarp")}
    losses = {name: objective(_Perfect(), images, code) for name, objective in of_the_thesis.items()}
    assert {name: set(values) for name, values in losses.items()} == {
        "R": {"reconstruction"},
        "RPE": {"reconstruction", "control"},
        "SPE": {"swap", "control"},
        "SD": {"swap"},
        "position only": {"control"},
    }
    assert losses["R"]["reconstruction"] == losses["RPE"]["reconstruction"] == 0
    assert losses["RPE"]["control"] == losses["SPE"]["control"] == losses["position only"]["control"] > 0
    encoded = images.flatten(1).clone()
    # SPE swaps what the encoder says, SD the truth: each exactly.
    by_spe = torch.cat([swap(encoded[:, :2]), encoded[:, 2:]], dim=1).unflatten(1, (1, 1, 3))
    by_sd = torch.cat([swap(code), encoded[:, 2:]], dim=1).unflatten(1, (1, 1, 3))
    assert losses["SPE"]["swap"] == torch.nn.functional.mse_loss(by_spe, swap(images))
    assert losses["SD"]["swap"] == torch.nn.functional.mse_loss(by_sd, swap(images))


def test_with_two_dimensions_swap_direct_has_no_encoder() -> None:
    network = Autoencoder(32, 32, latent=2, base_channels=2, given=2)
    assert network.encoder is None and all(name.startswith("decoder") for name, _ in network.named_parameters())
    losses = OBJECTIVES["SD"](network, torch.rand(4, 1, 32, 32), torch.rand(4, 2))
    losses["swap"].backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    more = Autoencoder(32, 32, latent=5, base_channels=2, given=2)
    assert more.encode(torch.rand(3, 1, 32, 32)).shape == (3, 5)


@given(st.floats(0, 1), st.floats(1e-5, 1e-2), st.floats(0, 0.5))
def test_step_sizes_rise_and_fall(done: float, largest: float, warm_up: float) -> None:
    way = Optimization(learning_rate=largest, warm_up=warm_up, decay=True)
    assert 0 <= way.step_size(done) <= largest * (1 + 1e-9)
    assert way.step_size(1.0) < 1e-9
    assert way.step_size(warm_up) == pytest.approx(largest)
    assert OPTIMIZATIONS["thesis"].step_size(done) == 5e-4


def test_the_stable_result_is_an_average_and_the_thesis_s_is_not(photo_dataset: Dataset, tmp_path: Path) -> None:
    for name in OPTIMIZATIONS:
        train(photo_dataset, tmp_path / name, "rotation", optimization=name, base_channels=2, steps=30)
        state = torch.load(tmp_path / name / "last.ckpt", weights_only=True)["state_dict"]
        averaged = any(
            not torch.equal(tensor, state[key.replace("network.", "result.", 1)])
            for key, tensor in state.items()
            if key.startswith("network.") and key.endswith("bias")
        )
        assert averaged == (OPTIMIZATIONS[name].average is not None) == (name != "thesis")


@pytest.mark.parametrize("model", ["rotation", "swapwarp"])
def test_models_train_in_bfloat16(photo_dataset: Dataset, tmp_path: Path, model: str) -> None:
    train(photo_dataset, tmp_path / "run", model, base_channels=2, steps=2, precision="bf16-mixed")


def test_no_checkpoint_falls_between_a_step_and_its_validation(photo_dataset: Dataset, tmp_path: Path) -> None:
    """Resumed there, the validation would be left out, and with it a row of the curves."""
    options = {"base_channels": 2, "every_pass": True, "quiet": True, "checkpoint_every": timedelta(0)}
    whole = train(photo_dataset, tmp_path / "whole", "rotation", epochs=3, **options)  # type: ignore[arg-type]
    steps = len(photo_dataset.split("train")) // 4
    with pytest.raises(RuntimeError, match="cut off"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "on_validation_start", _cut_off, raising=False)
        train(photo_dataset, tmp_path / "cut", "rotation", epochs=3, **options)  # type: ignore[arg-type]
    reached = torch.load(tmp_path / "cut" / "last.ckpt", weights_only=True)["global_step"]
    assert reached == steps - 1
    train(photo_dataset, tmp_path / "cut", "rotation", epochs=3, **options)  # type: ignore[arg-type]
    assert (tmp_path / "cut" / "curves.csv").read_bytes() == (whole.parent / "curves.csv").read_bytes()


def _cut_off(module: Training) -> None:
    raise RuntimeError("cut off")


def test_curves_hold_a_row_a_pass(photo_dataset: Dataset, tmp_path: Path) -> None:
    train(photo_dataset, tmp_path / "run", "rotation", base_channels=2, epochs=3, every_pass=True, quiet=True)
    curves = pd.read_csv(tmp_path / "run" / "curves.csv")
    assert list(curves.columns) == [
        "step", "epoch", "train/swap", "train/control", "validation/swap", "validation/control",
    ]  # fmt: skip
    assert curves["epoch"].tolist() == [1, 2, 3] and curves.notna().all(axis=None)
    assert not list((tmp_path / "run").glob("events*"))


def test_the_autoencoder_is_figure_3_1() -> None:
    network = Autoencoder(640, 480)
    assert network.encoder is not None
    maps = [m.out_channels for m in network.encoder if isinstance(m, torch.nn.Conv2d)]
    assert maps == [64, 128, 256, 512]
    mirrored = [m.in_channels for m in network.decoder if isinstance(m, torch.nn.ConvTranspose2d)]
    assert mirrored == maps[::-1]
    small = Autoencoder(96, 80, channels=3, latent=5, base_channels=2)
    latent = small.encode(torch.rand(2, 3, 80, 96))
    assert latent.shape == (2, 5)
    images = small.decode(latent)
    assert images.shape == (2, 3, 80, 96) and images.min() >= 0 and images.max() <= 1


def test_sizes_that_do_not_halve_four_times_are_refused() -> None:
    with pytest.raises(DmsynthError, match="100×80: width and height must be divisible by 16"):
        Autoencoder(100, 80)


def test_batches_depend_on_seed_and_number_alone(photo_dataset: Dataset) -> None:
    codes = np.arange(len(photo_dataset), dtype=np.float32)[:, None]
    indices = photo_dataset.split("train")
    batches = Batches(photo_dataset, photo_dataset.frames, codes, indices, 4, seed=1)
    first_pass = torch.cat([batches(n)[1] for n in range(batches.per_pass)]).flatten().tolist()
    assert len(set(first_pass)) == len(first_pass) and set(first_pass) <= set(indices.tolist())
    second_pass = torch.cat([batches(n + batches.per_pass)[1] for n in range(batches.per_pass)]).flatten().tolist()
    assert first_pass != second_pass
    images, code = batches(7)
    again, code_again = Batches(photo_dataset, photo_dataset.frames, codes, indices, 4, seed=1)(7)
    assert torch.equal(images, again) and torch.equal(code, code_again)
    assert images.shape == (4, 1, 80, 96) and images.max() <= 1
    assert not torch.equal(Batches(photo_dataset, photo_dataset.frames, codes, indices, 4, seed=2)(7)[1], code)


def test_training_lowers_the_loss_and_writes_one_file(face_file: Path, photo_dataset: Dataset) -> None:
    assert {path.name for path in face_file.parent.iterdir()} >= {"run.json", "last.ckpt", "face.safetensors"}
    assert any(path.name.startswith("events") for path in face_file.parent.iterdir())  # TensorBoard
    face = read_face(face_file)
    assert face.about["dataset_sha256"] == photo_dataset.sha256
    assert face.about["steps"] == 30 and face.about["settings"]["optimization"]["average"] == 0.998
    assert face.space.names == ("pitch", "yaw", "roll")
    values = photo_dataset.controls(face.space)[photo_dataset.split("train")]
    assert not face.coverage.outside(face.space.encode(values)).any()
    assert face.source.shape == (80, 96)


def test_a_training_ends_when_it_gets_no_better(
    photo_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told no length, SwapWarp looks at held-out frames; then the step size falls, and it stops. Killed in between,
    it knows where it was."""
    monkeypatch.setattr("dmsynth.learning.training._VALIDATE_EVERY", 2)
    monkeypatch.setitem(RECIPES, "swapwarp", replace(RECIPES["swapwarp"], steps=20))
    monkeypatch.setattr(Plateau, "PATIENCE", 1)
    monkeypatch.setattr(Plateau, "GAIN", 0.9)  # nothing ever gets so much better
    face = read_face(train(photo_dataset, tmp_path / "run", base_channels=2, quiet=True))
    a_pass = len(photo_dataset.split("train")) // 8
    cooled_from = next(step for step in range(20, 40) if step % a_pass == 0)  # the first validation past 20 steps
    assert face.about["steps"] == cooled_from + math.ceil(cooled_from / 2)
    bounded = train(photo_dataset, tmp_path / "bounded", base_channels=2, steps=7, quiet=True)
    assert read_face(bounded).about["steps"] == 7


@pytest.mark.parametrize(
    ("history", "flat"),
    [
        ([(0.5, 0.4)] * 7, False),  # too early to say
        ([(0.5, 0.4)] * 8, True),
        ([(0.5, 0.4)] * 4 + [(0.45, 0.4)] * 4, False),  # still nearer
        ([(0.5, 0.4)] * 4 + [(0.5, 0.42)] * 4, False),  # still sharper
        ([(0.5, 0.4)] * 4 + [(0.6, 0.3)] * 4, True),
    ],
)
def test_what_counts_as_no_better(history: list[tuple[float, float]], flat: bool) -> None:
    assert Plateau.is_flat(history) is flat


def test_a_run_folder_belongs_to_one_training(face_file: Path, photo_dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DmsynthError, match=r"holds another training \(seed 0 → 5\)"):
        train(photo_dataset, face_file.parent, base_channels=4, steps=30, seed=5)
    (tmp_path / "holiday.txt").write_text("not a run")
    with pytest.raises(DmsynthError, match="is not empty and holds no training"):
        train(photo_dataset, tmp_path, steps=1)
    with pytest.raises(DmsynthError, match="no model named 'gan'; there is swapwarp, rotation"):
        train(photo_dataset, tmp_path / "new", "gan", steps=1)
    with pytest.raises(DmsynthError, match="no recorded labels"):
        train(photo_dataset, tmp_path / "new", labels="recorded", steps=1)
    with pytest.raises(DmsynthError, match="--latent 8: swapwarp has no latent vector"):
        train(photo_dataset, tmp_path / "new", latent=8, steps=1)
    with pytest.raises(DmsynthError, match="--precision half: give 32-true or bf16-mixed"):
        train(photo_dataset, tmp_path / "new", precision="half", steps=1)
    assert not (tmp_path / "new").exists()


def test_a_damaged_run_is_named_and_one_that_was_never_begun_is_begun(photo_dataset: Dataset, tmp_path: Path) -> None:
    note = tmp_path / "run" / "run.json"
    note.parent.mkdir()
    for content in ("", "{", "[]", "7", '{"settings": 3}', "[" * 10**5):
        note.write_text(content)
        with pytest.raises(DmsynthError, match=r"run\.json: .*choose another folder or remove it"):
            train(photo_dataset, tmp_path / "run", base_channels=2, steps=1)
    note.unlink()
    temporary_beside(note).touch()  # killed while it was written; its number is another process's by now
    assert train(photo_dataset, tmp_path / "run", base_channels=2, steps=1).is_file()


def test_two_trainings_do_not_share_a_folder(photo_dataset: Dataset, tmp_path: Path) -> None:
    train(photo_dataset, tmp_path / "run", base_channels=2, steps=2)
    with (tmp_path / "run" / "run.json").open("rb") as held:
        lock(held, tmp_path)
        with pytest.raises(DmsynthError, match="another process is working on it"):
            train(photo_dataset, tmp_path / "run", base_channels=2, steps=4)


def test_the_swap_stays_within_a_recording(photo_dataset: Dataset) -> None:
    """Two recordings differ in place and light, which no control code explains."""
    labels = photo_dataset.labels.assign(recording_index=[0, 1, 1] * (len(photo_dataset) // 3))
    two = replace(photo_dataset, labels=labels)
    codes = np.arange(len(two), dtype=np.float32)[:, None]
    batches = Batches(two, two.frames, codes, two.split("train"), 4, seed=0)
    for number in range(3 * batches.per_pass):
        names = labels["recording_index"].to_numpy()[batches(number)[1].flatten().int().numpy()]
        assert names[0] == names[1] and names[2] == names[3]


def test_a_damaged_checkpoint_is_named(photo_dataset: Dataset, tmp_path: Path) -> None:
    train(photo_dataset, tmp_path / "run", base_channels=2, steps=3)
    (tmp_path / "run" / "last.ckpt").write_bytes(b"half a checkpoint")
    with pytest.raises(DmsynthError, match=r"last.ckpt: damaged checkpoint .* remove it to train anew"):
        train(photo_dataset, tmp_path / "run", base_channels=2, steps=6)


_TRAIN = """
import sys, time
from datetime import timedelta
from pathlib import Path
import dmsynth.learning.training
from dmsynth.datasets.dataset import open_dataset
from dmsynth.learning.training import train
dataset, out = map(Path, sys.argv[1:])
dmsynth.learning.training._VALIDATE_EVERY = 12
train(open_dataset(dataset), out, base_channels=4, steps=48, seed=7, checkpoint_every=timedelta(seconds=0.2))
"""


def test_killed_training_ends_with_the_weights_of_an_unbroken_one(
    photo_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between validations: weights, optimizer state, order of the data and the best so far all survive."""
    monkeypatch.setattr("dmsynth.learning.training._VALIDATE_EVERY", 12)
    assert len(photo_dataset.split("validation")) >= 4
    whole = train(photo_dataset, tmp_path / "whole", base_channels=4, steps=48, seed=7)
    out = tmp_path / "killed"
    command = [sys.executable, "-c", _TRAIN, str(photo_dataset.path), str(out)]
    process = subprocess.Popen(command, env=os.environ | {"PYTHONWARNINGS": "ignore"})
    deadline = time.monotonic() + 300
    while not (out / "last.ckpt").is_file() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the training ended before it could be killed"
    reached = torch.load(out / "last.ckpt", weights_only=True)["global_step"]
    assert 0 < reached < 48
    train(photo_dataset, out, base_channels=4, steps=48, seed=7)
    assert (whole.parent / "curves.csv").read_bytes() == (out / "curves.csv").read_bytes()
    best, best_again = (torch.load(p / "best.ckpt", weights_only=True) for p in (whole.parent, out))
    assert best["global_step"] == best_again["global_step"]
    before, after = load_file(whole), load_file(out / "face.safetensors")
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]), name


@pytest.mark.parametrize(("steps", "starved"), [(2, True), (4, False)])
def test_a_starved_training_says_so(
    photo_dataset: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    steps: int,
    starved: bool,
) -> None:
    """A third of the usual steps is enough not to be warned of; here 9 are usual."""
    monkeypatch.setitem(RECIPES, "swapwarp", replace(RECIPES["swapwarp"], steps=9))
    train(photo_dataset, tmp_path / "run", base_channels=2, steps=steps)
    assert (f"only {steps} steps, where 9 are usual" in capsys.readouterr().err) is starved
