"""Chapter 3's networks, several trained at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from dmsynth.datasets.cutout import make_position_dataset
from dmsynth.datasets.dataset import Dataset
from dmsynth.experiments.position import with_split
from dmsynth.learning.autoencoder import Autoencoder
from dmsynth.learning.data import prepare
from dmsynth.learning.face_file import read_face
from dmsynth.learning.settings import choose_settings
from dmsynth.learning.stacked import train_stacked
from dmsynth.learning.training import first_network, train
from dmsynth.support.errors import DmsynthError
from dmsynth.trackers import Tracker

EPOCHS = 2


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory, tracker: Tracker) -> list[Dataset]:
    """Two splits of 60 frames of 64×48."""
    dataset = make_position_dataset(tmp_path_factory.mktemp("stacked") / "dataset", None, tracker, 60, (64, 48))
    return [with_split(dataset, 12, seed) for seed in range(2)]


def stacked(
    splits: list[Dataset], out: Path, model: str, epochs: int, latent: int = 4, precision: str = "32-true"
) -> None:
    members = [(dataset, out / str(seed), seed) for seed, dataset in enumerate(splits)]
    train_stacked(members, out, model, epochs=epochs, latent=latent, base_channels=4, precision=precision)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(read_face(folder / "face.safetensors").network.state_dict())


def curves(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "curves.csv")


@pytest.mark.parametrize("model, latent", [("position-spe", 4), ("position-sd", 2)])
def test_stacked_networks_learn_what_each_learns_alone(
    tmp_path: Path, splits: list[Dataset], model: str, latent: int
) -> None:
    stacked(splits, tmp_path, model, EPOCHS, latent)
    for seed, dataset in enumerate(splits):
        train(
            dataset, tmp_path / "alone" / str(seed), model, optimization="thesis", epochs=EPOCHS, seed=seed,
            latent=latent, base_channels=4, precision="32-true", every_pass=True, quiet=True,
        )  # fmt: skip
        alone, together = (curves(folder / str(seed)) for folder in (tmp_path / "alone", tmp_path))
        assert len(alone) == EPOCHS and alone.columns.tolist() == together.columns.tolist()
        np.testing.assert_allclose(together, alone, rtol=1e-4)
        after = weights(tmp_path / "alone" / str(seed))
        for name, value in weights(tmp_path / str(seed)).items():
            torch.testing.assert_close(value, after[name], rtol=0, atol=1e-4, msg=name)  # steps are of 5e-4
    first, second = (weights(tmp_path / str(seed))["decoder.0.weight"] for seed in range(2))
    assert not torch.allclose(first, second, atol=1e-2)


def test_interrupted_they_go_on_to_the_same_end(tmp_path: Path, splits: list[Dataset]) -> None:
    stacked(splits, tmp_path / "whole", "position-spe", 2)
    stacked(splits, tmp_path / "parts", "position-spe", 1)
    stacked(splits, tmp_path / "parts", "position-spe", 2)
    for seed in ("0", "1"):
        assert curves(tmp_path / "parts" / seed).equals(curves(tmp_path / "whole" / seed))
        after = weights(tmp_path / "whole" / seed)
        assert all(torch.equal(value, after[name]) for name, value in weights(tmp_path / "parts" / seed).items())
    (tmp_path / "parts" / "last.ckpt").write_bytes(b"cut off")
    with pytest.raises(DmsynthError, match="damaged checkpoint"):
        stacked(splits, tmp_path / "parts", "position-spe", 3)


def test_bfloat16_changes_the_losses_by_less_than_a_hundredth(tmp_path: Path, splits: list[Dataset]) -> None:
    stacked(splits, tmp_path / "short", "position-r", EPOCHS, precision="bf16-mixed")
    stacked(splits, tmp_path / "full", "position-r", EPOCHS)
    short, full = (curves(tmp_path / kind / "0") for kind in ("short", "full"))
    np.testing.assert_allclose(short, full, rtol=1e-2)
    assert not short.equals(full)
    network = read_face(tmp_path / "short" / "0" / "face.safetensors").network
    assert isinstance(network, Autoencoder) and next(network.parameters()).dtype == torch.float32


def test_a_new_network_draws_images_as_bright_as_those_of_its_dataset(splits: list[Dataset]) -> None:
    """Grey ones pull every weight towards a bright wall, and eight decoders of ten then draw nothing else."""
    settings = choose_settings(splits[0], "position-r", {"optimization": "thesis", "latent": 2, "base_channels": 4})
    data = prepare(splits[0], settings)
    torch.manual_seed(0)
    network = first_network(data, settings)
    assert isinstance(network, Autoencoder)
    with torch.no_grad():
        drawn = float(network.decode(torch.rand(8, 2)).mean())
    wanted = float(np.mean(splits[0].frames)) / 255
    assert wanted > 0.8 and drawn == pytest.approx(wanted, abs=0.02)
