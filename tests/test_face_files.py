"""A face file is what training wrote, or it is refused by name before anything is drawn or allocated."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import dmsynth
from commands import dmsynth as run
from commands import fails
from dmsynth.learning.face_file import read_face
from dmsynth.support.errors import DmsynthError

Tensors = dict[str, torch.Tensor]


def _content(face_file: Path) -> dict[str, Any]:
    with safe_open(face_file, framework="pt") as file:
        return dict(json.loads(file.metadata()["dmsynth"]))


def _rewritten(face_file: Path, out: Path, **changes: Any) -> Path:
    """As an earlier version would have written it, without a checksum, and with changes."""
    content = {name: value for name, value in _content(face_file).items() if name != "sha256"} | changes
    save_file(load_file(face_file), out, metadata={"dmsynth": json.dumps(content)})
    return out


def _with_tensor(face_file: Path, out: Path, name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Path:
    content = {key: value for key, value in _content(face_file).items() if key != "sha256"}
    tensors = load_file(face_file)
    tensors[name] = change(tensors[name]).contiguous()
    save_file(tensors, out, metadata={"dmsynth": json.dumps(content)})
    return out


def test_face_files_that_are_none(face_file: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "pwned",))

    pickled = tmp_path / "pickle.safetensors"
    pickled.write_bytes(pickle.dumps(Evil()))
    half = tmp_path / "half.safetensors"
    half.write_bytes(face_file.read_bytes()[:5000])
    foreign = tmp_path / "foreign.safetensors"
    save_file(load_file(face_file), foreign)
    for path, complaint in (
        (tmp_path / "absent.safetensors", "no such face file"),
        (pickled, "not a readable safetensors file"),
        (half, "not a readable safetensors file"),
        (foreign, "no dmsynth face"),
        (
            _rewritten(face_file, tmp_path / "newer.safetensors", format=99, version="9.0"),
            "format 99, .* of dmsynth 9.0",
        ),
        (_rewritten(face_file, tmp_path / "other.safetensors", model="gan"), "model 'gan'"),
    ):
        with pytest.raises(DmsynthError, match=complaint) as error:
            dmsynth.load(path)
        assert path.name in str(error.value)
    assert not (tmp_path / "pwned").exists()


def _shape(**changes: Any) -> dict[str, Any]:
    shape = {"width": 96, "height": 80, "channels": 1, "controls": 3, "base_channels": 4}
    return {"shape": shape | changes}


def _control(**changes: Any) -> dict[str, Any]:
    names = ("pitch", "yaw", "roll")
    controls = [{"name": name, "unit": "°", "low": -20.0, "high": 20.0, "rest": 0.0} for name in names]
    return {"control_space": {"name": "rotation", "controls": [controls[0] | changes, *controls[1:]]}}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"control_space": 3}, "control_space: input should be"),
        (_control(name="<img src=x onerror=alert(1)>"), "rotation has the controls pitch, yaw, roll"),
        (_control(low=20.0), "its range from 20 to 20 is none"),
        (_control(low=float("nan")), "not valid JSON"),
        (_control(low=-1e300), "greater than or equal to -1000000"),
        ({"coverage_tolerance": 0}, "coverage_tolerance: input should be greater than 0"),
        ({"about": {}}, "about.dataset: is missing"),
        ({"about": []}, "about: input should be"),
        (
            {"carried": {"names": ["x"], "explained": [], "spread": [1.0], "low": [0.0], "high": [1.0]}},
            "different lengths",
        ),
        (_shape(base_channels=5), "weights do not fit"),
        (_shape(base_channels=4096), "weights do not fit"),
        (_shape(base_channels=10**12), "base_channels: input should be less than"),
        (_shape(width=4096, height=4096), "too large"),
        (_shape(width=2048, height=2048), "source frames are no picture of its size"),
        (_shape(controls=2.5), "controls: input should be"),
        (_shape(color=True), "color: extra inputs are not permitted"),
        ({"model": "rotation"}, "controls: extra inputs are not permitted|latent: is missing"),
    ],
)
def test_a_description_that_cannot_be_is_refused(
    face_file: Path, tmp_path: Path, changes: dict[str, Any], complaint: str
) -> None:
    path = _rewritten(face_file, tmp_path / "odd.safetensors", **changes)
    with pytest.raises(DmsynthError, match=complaint) as error:
        dmsynth.load(path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


def test_a_network_of_any_size_is_refused_before_it_is_made(face_file: Path, tmp_path: Path) -> None:
    huge = _rewritten(
        face_file,
        tmp_path / "huge.safetensors",
        model="rotation",
        shape={"width": 2048, "height": 2048, "channels": 3, "base_channels": 4096, "latent": 100_000, "given": 0},
    )
    with pytest.raises(DmsynthError, match="source frames are no picture"):  # 3 PB
        dmsynth.load(huge)


def test_one_weight_that_is_no_number_draws_nothing(face_file: Path, tmp_path: Path) -> None:
    def spoilt(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda tensor: tensor.index_fill(0, torch.tensor([0]), value)

    for name in ("network.heads.bias", "coverage.codes", "source_codes"):
        for value in (float("nan"), float("inf"), 1e30):
            path = _with_tensor(face_file, tmp_path / "black.safetensors", name, spoilt(value))
            with pytest.raises(DmsynthError, match=f"{name} holds what is no number, or no sensible one"):
                dmsynth.load(path)
    path = _with_tensor(face_file, tmp_path / "black.safetensors", "network.heads.bias", spoilt(float("nan")))
    said = fails(run("validate", "addw-30-down", "--face", path, "--dms", "reference", "--out", tmp_path / "out"))
    assert "black.safetensors: network.heads.bias holds what is no number" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "change", "complaint"),
    [
        ("sources", lambda t: t[:20], "no picture of its size"),
        ("sources", lambda t: torch.cat([t[:2000], torch.zeros_like(t[2000:])]), "source frames cannot be read|fit"),
        ("sources", lambda t: t.float(), "has no sources"),
        ("source_codes", lambda t: t[:, :1], "source_codes has the shape"),
        ("source_codes", lambda t: t[:1], "source_codes has the shape"),
        ("coverage.codes", lambda t: t[:0], "coverage.codes has the shape"),
        ("coverage.codes", lambda t: t.double(), "coverage.codes holds torch.float64"),
        ("network.heads.bias", lambda t: t.half(), "network.heads.bias holds torch.float16"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(
    face_file: Path, tmp_path: Path, name: str, change: Callable[[torch.Tensor], torch.Tensor], complaint: str
) -> None:
    path = _with_tensor(face_file, tmp_path / "odd.safetensors", name, change)
    with pytest.raises(DmsynthError, match=complaint):
        dmsynth.load(path)


def test_a_face_is_the_one_that_was_saved_to_the_bit(face_file: Path, tmp_path: Path) -> None:
    old = _rewritten(face_file, tmp_path / "old.safetensors")
    assert (dmsynth.load(old).steer(yaw=5) == dmsynth.load(face_file).steer(yaw=5)).all(), "no checksum: opens still"
    whole, random = bytearray(face_file.read_bytes()), Random(0)
    damaged = tmp_path / "damaged.safetensors"
    for _ in range(60):
        at = random.randrange(len(whole))
        content = bytearray(whole)
        content[at] ^= 1 << random.randrange(8)
        damaged.write_bytes(content)
        with pytest.raises(DmsynthError, match=r"damaged\.safetensors"):
            dmsynth.load(damaged)


def test_what_a_face_says_of_itself_is_no_hash(face_file: Path, tmp_path: Path) -> None:
    about = _content(face_file)["about"] | {"sha256": "0" * 64, "trusted": "everything"}
    face = read_face(_rewritten(face_file, tmp_path / "forged.safetensors", about=about))
    assert not {"sha256", "trusted"} & set(face.about)
    assert np.isfinite(face.coverage.codes).all()
