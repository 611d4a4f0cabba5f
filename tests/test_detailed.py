"""Learned small, drawn large: source frames larger than the network's, and in colour."""

from __future__ import annotations

import copy
import json
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from commands import dmsynth, fails
from dmsynth.datasets.photo import PoseRange, pose_photo
from dmsynth.learning.cast import join, split
from dmsynth.learning.data import learned
from dmsynth.learning.face_file import fingerprint_of
from dmsynth.learning.source_frames import coded, decoded
from dmsynth.learning.swapwarp import SwapWarp
from dmsynth.learning.training import train
from dmsynth.steering import SteerableFace, load_face, with_features
from dmsynth.support.errors import DmsynthError
from dmsynth.trackers import Tracker
from dmsynth.video import Image, probe_video

LARGE = (384, 320)


@pytest.fixture(scope="module")
def large_file(tmp_path_factory: pytest.TempPathFactory, tracker: Tracker) -> Path:
    folder = tmp_path_factory.mktemp("large")
    dataset = pose_photo(folder / "data", None, tracker, 36, LARGE, PoseRange(8, 15, 8), seed=3)
    small = learned(dataset)
    assert small.shape == (len(dataset), 256, 304), "the area of 320×240, in grey"
    return train(dataset, folder / "run", steps=2)


@pytest.fixture(scope="module")
def large(large_file: Path) -> SteerableFace:
    return load_face(large_file)


def likeness(one: Image, other: Image) -> float:
    """PSNR in dB."""
    return float(10 * np.log10(255**2 / np.mean(np.square(one.astype(float) - other))))


def at_source(face: SteerableFace, source: int) -> Image:
    """The face at the pose of one of its source frames, which is then drawn from that frame."""
    values = face.trained.space.decode(face.trained.source_codes[source : source + 1, : face.trained.space.size])
    return next(face.frames(values, moving=False))


def test_the_network_is_small_and_grey_and_the_picture_is_neither(large: SteerableFace) -> None:
    shape = large.trained.shape
    assert (shape["width"], shape["height"], shape["channels"]) == (304, 256, 1)
    assert large.size == LARGE and large.steer(yaw=5).shape == (320, 384, 3)


def same_detail(one: Image, other: Image) -> float:
    """Correlation of what is finer than light and shade."""
    fine = [image - cv2.GaussianBlur(image, (0, 0), 6) for image in (one.astype(np.float32), other.astype(np.float32))]
    return float(np.corrcoef(fine[0].ravel(), fine[1].ravel())[0, 1])


def test_detail_and_colour_are_the_source_s(large: SteerableFace) -> None:
    large = copy.deepcopy(large)
    network: Any = large.trained.network.network
    for layer in (network.coarse_flow, network.heads):
        torch.nn.init.zeros_(layer.weight)  # at its own pose nothing has to move
        torch.nn.init.zeros_(layer.bias)
    drawn, source = at_source(large, 4), large.trained.sources[4]
    assert same_detail(drawn, source) > 0.99, "at its own pose"
    assert same_detail(np.asarray(cv2.blur(source, (3, 3))), source) < 0.98, "which a softer one would not be"
    colours = [cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)[..., 1:] for image in (drawn, source)]
    assert likeness(*colours) > 36


def test_a_small_network_s_picture_is_the_large_one_made_small(large: SteerableFace) -> None:
    network = large.as_learned()
    assert isinstance(network.trained.network, SwapWarp) and network.size == (304, 256)
    small = network.steer(yaw=8, pitch=-3)
    made_small = cv2.resize(cv2.cvtColor(large.steer(yaw=8, pitch=-3), cv2.COLOR_RGB2GRAY), (304, 256), cv2.INTER_AREA)
    assert likeness(np.asarray(made_small), small) > 32


@pytest.mark.parametrize("size", [(640, 400), (768, 640), (192, 160), (300, 400)])
def test_any_size_is_the_middle_of_the_same_picture(large: SteerableFace, size: tuple[int, int]) -> None:
    whole, drawn = large.steer(yaw=8), large.drawn_at(size).steer(yaw=8)
    assert drawn.shape == (size[1], size[0], 3)
    scale = max(size[0] / LARGE[0], size[1] / LARGE[1])
    centres = [(LARGE[axis] - 1 - (size[axis] - 1) / scale) / 2 for axis in (0, 1)]
    matrix = np.array([[1 / scale, 0, centres[0]], [0, 1 / scale, centres[1]]])
    flags = (cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC) | cv2.WARP_INVERSE_MAP
    middle = cv2.warpAffine(whole, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    assert likeness(np.asarray(middle), drawn) > 28


def test_eyes_and_mouth_move_in_the_large_picture(large: SteerableFace) -> None:
    face = with_features(large)
    rest, moved = face.steer(yaw=4), face.steer(yaw=4, eye_opening=0, mouth_opening=0.6)
    assert rest.shape == moved.shape == (320, 384, 3)
    changed = np.argwhere(np.abs(rest.astype(int) - moved).max(axis=2) > 25)
    assert len(changed) > 300
    high, wide = np.ptp(changed, axis=0)
    assert high < 200 and wide < 160, "the face, not the picture"
    assert face.drawn_at((640, 480)).steer(eye_opening=0).shape == (480, 640, 3)


def test_a_file_that_is_copied_many_times_is_the_same(large_file: Path, tmp_path: Path) -> None:
    join([f"one={large_file}", f"two={large_file}"], tmp_path / "cast.safetensors")
    one, _ = split(tmp_path / "cast.safetensors", tmp_path / "people")
    assert fingerprint_of(one) == fingerprint_of(large_file), "source frames are not coded anew"
    assert large_file.stat().st_size < 3_000_000


def test_a_video_of_any_size_by_the_command_line(large_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "wide.mp4"
    done = dmsynth("steer", large_file, "--trajectory", "move yaw=9 0.2", "--size", "640x400", "--out", out)
    assert done.returncode == 0, done.stderr
    info = probe_video(out)
    assert (info.width, info.height) == (640, 400)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda tensors, _: tensors.pop("sources.ends"), "not what was written"),
        (lambda tensors, _: tensors["sources.ends"].add_(1), "not what was written"),
        (lambda _, content: content["frame"].update(width=4000), "no pictures of their size|too many"),
        (lambda _, content: content["frame"].update(width=10**6), "width: input should be less than"),
        (lambda _, content: content.pop("frame"), "no pictures of their size"),
    ],
)
def test_damaged_source_frames_are_one_line(large_file: Path, tmp_path: Path, change: object, complaint: str) -> None:
    with safe_open(large_file, framework="pt") as file:
        content = json.loads(file.metadata()["dmsynth"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    content.pop("sha256")
    change(tensors, content)  # type: ignore[operator]
    save_file(tensors, tmp_path / "odd.safetensors", metadata={"dmsynth": json.dumps(content)})
    with pytest.raises(DmsynthError, match=complaint) as error:
        load_face(tmp_path / "odd.safetensors")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("size", ["640", "0x480", "100000x100000"])
def test_a_size_that_cannot_be_drawn(large_file: Path, tmp_path: Path, size: str) -> None:
    done = dmsynth("steer", large_file, "--trajectory", "hold 1", "--size", size, "--out", tmp_path / "x.mp4")
    assert "WIDTHxHEIGHT" in fails(done) and not list(tmp_path.iterdir())


@given(width=st.integers(2, 90), height=st.integers(2, 90), colour=st.booleans(), seed=st.integers(0, 99))
def test_coded_frames_come_back(width: int, height: int, colour: bool, seed: int) -> None:
    ramp = np.linspace(20, 220, width)[None, None] + np.linspace(0, 30, height)[None, :, None] + seed % 3
    frames = ramp.repeat(2, axis=0).astype(np.uint8)
    frames = np.stack([frames] * 3, axis=-1) if colour else frames
    tensors = coded(frames)
    back = decoded(tensors["sources"], torch.from_numpy(tensors["sources.ends"]), frames.shape[1:])
    assert back.shape == frames.shape and np.abs(back.astype(int) - frames).max() < 25
    lie = tensors["sources"].copy()
    lie[26:30] = np.frombuffer(struct.pack("<HH", width + 1, height), np.uint8)
    with pytest.raises(ValueError, match="no pictures of their size"):
        decoded(lie, torch.from_numpy(tensors["sources.ends"]), frames.shape[1:])
