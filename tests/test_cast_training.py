"""Several people in one network, and a new one that begins from trained faces."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch.callbacks import Timer

from commands import dmsynth
from commands import fails as why
from dmsynth.datasets.dataset import Dataset
from dmsynth.datasets.photo import PoseRange, pose_photo
from dmsynth.experiments.drivers import open_drivers
from dmsynth.learning.callbacks import Bound
from dmsynth.learning.cast import Cast, train_cast
from dmsynth.learning.data import prepare
from dmsynth.learning.face_file import fingerprint_of, people_of, read_face, read_people
from dmsynth.learning.settings import choose_settings
from dmsynth.learning.swapwarp import GRID, Place, SwapWarp
from dmsynth.learning.training import Training, train
from dmsynth.learning.warm_start import Codes, Head, averaged, in_channels, placed, refitted
from dmsynth.steering import FaceSpec, load_face, open_renderer
from dmsynth.steering.cast import read_cast
from dmsynth.support.errors import DmsynthError
from dmsynth.trackers import Tracker, recognition
from dmsynth.validation.scenario_files import find_scenarios


@pytest.fixture(scope="module")
def hopper() -> Path:
    """A second portrait in the public domain, which comes with matplotlib: glasses and a cap."""
    import matplotlib

    return Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory, tracker: Tracker, hopper: Path) -> list[Dataset]:
    """Two people, in frames of different size and shape."""
    poses, folder = PoseRange(pitch=10, yaw=20, roll=10), tmp_path_factory.mktemp("people")
    return [
        pose_photo(folder / "eileen", None, tracker, 72, (96, 80), poses, seed=3, colour=False),
        pose_photo(folder / "grace", hopper, tracker, 72, (80, 96), poses, seed=4),
    ]


@pytest.fixture(scope="module")
def cast(tmp_path_factory: pytest.TempPathFactory, people: list[Dataset]) -> Path:
    return train_cast(people, tmp_path_factory.mktemp("cast") / "run", steps=160, quiet=True)


def works(*arguments: object) -> str:
    done = dmsynth(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def fails(*arguments: object) -> str:
    return why(dmsynth(*arguments))


def network(controls: int = 3, channels: int = 1) -> SwapWarp:
    """With weights that do something everywhere."""
    torch.manual_seed(0)
    made = SwapWarp(96, 80, channels, controls)
    for parameter in made.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return made.eval()


def codes(names: str, low: float, high: float) -> Codes:
    return Codes(tuple(names), np.full(len(names), low), np.full(len(names), high))


@given(low=st.floats(-60, -10), high=st.floats(10, 60))
def test_refitted_to_another_range_it_draws_the_same_pose_alike(low: float, high: float) -> None:
    before, after = codes("pyr", -40, 40), codes("ypr", low, high)
    old = network()
    new = refitted(old, before, after)
    values = torch.tensor([[5.0, -8.0, 3.0], [-2.0, 9.0, 6.0]])  # of p, y, r
    image = torch.rand(2, 1, 80, 96)
    with torch.inference_mode():
        at = [(values + 40) / 80, (values[:, [1, 0, 2]] - low) / (high - low)]
        drawn = [n.steer(n.encode(image, code), code.roll(1, 0)) for n, code in zip((old, new), at, strict=True)]
        read = [n.encode(image).estimate for n in (old, new)]
    assert torch.allclose(drawn[0], drawn[1], atol=1e-3)
    assert torch.allclose(read[0] * 80 - 40, (read[1] * (high - low) + low)[:, [1, 0, 2]], atol=1e-2)


def test_what_is_not_carried_any_more_is_as_on_average_and_what_is_new_has_no_effect() -> None:
    old = network(5)
    before, after = codes("pyrab", 0, 1), codes("pyrcb", 0, 1)
    new = refitted(old, before, after)
    image, code = torch.rand(2, 1, 80, 96), torch.rand(2, 5)
    usual = code.clone()
    usual[:, 3] = 0.5
    other = code.clone()
    other[:, 3] = 0.9
    with torch.inference_mode():
        drawn = [n.steer(n.encode(image, c), c) for n, c in ((old, usual), (new, code), (new, other))]
    assert torch.allclose(drawn[0], drawn[1], atol=1e-4)
    assert torch.allclose(drawn[1], drawn[2], atol=1e-4)


def test_in_colour_it_draws_grey_as_before() -> None:
    grey = network()
    colour = in_channels(grey, 3)
    image, code = torch.rand(2, 1, 80, 96), torch.rand(2, 3)
    with torch.inference_mode():
        one = grey.steer(grey.encode(image, code), code.roll(1, 0))
        three = colour.steer(colour.encode(image.repeat(1, 3, 1, 1), code), code.roll(1, 0))
    assert torch.allclose(one.repeat(1, 3, 1, 1), three, atol=1e-4)
    back = in_channels(colour, 1)
    assert torch.allclose(back.stem[0].weight, grey.stem[0].weight, atol=1e-5)  # type: ignore[arg-type]


def test_a_network_for_heads_elsewhere_moves_there_what_it_moved_here() -> None:
    """The map of a face, moved by a tenth and made smaller, leads from and to the places that lie there."""
    here = network()
    last = here.to_common.points[-1]
    assert isinstance(last, torch.nn.Linear)
    for values in (last.weight, last.bias):  # faces bend smoothly
        coarse = torch.randn(values[0].numel(), 2, 3, 4) * 0.05
        values.data = torch.nn.functional.interpolate(coarse, GRID, mode="bicubic").flatten(1).T.reshape(values.shape)
    place = Place((0.8, 0.8), (0.15, 0.1))
    there = placed(here, place)
    points = 0.5 + 0.2 * (torch.rand(1, 40, 2) - 0.5)
    scale, shift = torch.tensor(place.scale), torch.tensor(place.shift)
    one, other = torch.rand(1, 3), torch.rand(1, 3)
    with torch.inference_mode():
        followed = here.follow(points, one, into=other) * scale + shift
        placed_there = there.follow(points * scale + shift, one, into=other)
    assert float((followed - placed_there).abs().max()) < 0.01


def test_a_head_s_place_comes_from_its_landmarks() -> None:
    landmarks = np.random.default_rng(0).uniform(40, 60, (10, 20, 2)).astype(np.float32)
    place = Head.of(landmarks, (100, 100)).to(Head.of(landmarks * 2 + 10, (200, 400)))
    assert place.scale == pytest.approx((1.0, 0.5), rel=1e-4)
    assert place.shift == pytest.approx((10 / 200, 10 / 400), abs=1e-4)


def test_people_share_all_but_who_they_are() -> None:
    one, other = network(), network()
    together = Cast([one, other])
    alone = sum(p.numel() for p in one.parameters())
    own = sum(p.numel() for name, p in one.named_parameters() if name.startswith("common_") or name.endswith("bias"))
    assert alone < sum(p.numel() for p in together.parameters()) < alone + own + 1
    copied = copy.deepcopy(together)
    assert copied.people[0].get_parameter("stem.0.weight") is copied.people[1].get_parameter("stem.0.weight")
    assert copied.people[0].get_parameter("common_image") is not copied.people[1].get_parameter("common_image")
    assert averaged([one, other]).get_parameter("stem.0.weight").equal(one.get_parameter("stem.0.weight"))


def test_everybody_of_a_cast_turns_as_commanded(cast: Path, people: list[Dataset], tracker: Tracker) -> None:
    assert people_of(cast) == ["eileen", "grace"]
    for name, dataset in zip(people_of(cast), people, strict=True):
        face = open_renderer(FaceSpec(f"{cast}#{name}"))
        assert face.size == dataset.size
        left, right = (tracker(face.steer(yaw=yaw)) for yaw in (-12.0, 12.0))
        assert len(left) == len(right) == 1, name
        assert 14 < right[0].pose["yaw"] - left[0].pose["yaw"] < 34, (name, left[0].pose, right[0].pose)


def test_a_person_s_own_file_draws_the_same(cast: Path, tmp_path: Path) -> None:
    works("cast", "split", cast, "--out", tmp_path)
    whole, alone = load_face(Path(f"{cast}#grace")), load_face(tmp_path / "grace.safetensors")
    assert np.array_equal(whole.steer(yaw=9, pitch=-4), alone.steer(yaw=9, pitch=-4))
    works("cast", "join", f"a={tmp_path / 'eileen.safetensors'}", f"b={tmp_path / 'grace.safetensors'}", "--out",
          tmp_path / "again.safetensors")  # fmt: skip
    assert people_of(tmp_path / "again.safetensors") == ["a", "b"]
    sizes = [path.stat().st_size for path in (cast, tmp_path / "eileen.safetensors", tmp_path / "grace.safetensors")]
    assert sizes[0] < sum(sizes[1:])  # shared weights are stored once


def test_a_person_has_to_be_named_and_there(cast: Path, tmp_path: Path) -> None:
    assert "name one" in fails("steer", cast, "--trajectory", "hold 0.2", "--out", tmp_path / "a.mp4")
    said = fails("steer", cast, "--person", "nobody", "--trajectory", "hold 0.2", "--out", tmp_path / "a.mp4")
    assert "no nobody in a cast of eileen, grace" in said
    said = fails("steer", "starter", "--person", "anna", "--trajectory", "hold 0.2", "--out", tmp_path / "a.mp4")
    assert "is one face and no cast" in said
    assert not (tmp_path / "a.mp4").exists()
    works("steer", cast, "--person", "grace", "--trajectory", "hold 0.2; move yaw=8 0.4", "--out", tmp_path / "a.mp4")
    origin = json.loads((tmp_path / "a.provenance.json").read_text())
    assert origin["face"] == "face.safetensors#grace"
    assert origin["dataset_sha256"] == read_face(Path(f"{cast}#grace")).about["dataset_sha256"]


def test_a_damaged_cast_is_said_in_words(cast: Path, tmp_path: Path) -> None:
    content = bytearray(cast.read_bytes())
    content[-5000] ^= 0xFF
    (tmp_path / "bad.safetensors").write_bytes(content)
    with pytest.raises(DmsynthError, match="damaged"):
        for name in people_of(tmp_path / "bad.safetensors"):
            read_face(tmp_path / f"bad.safetensors#{name}")
    (tmp_path / "short.safetensors").write_bytes(content[:-5000])
    with pytest.raises(DmsynthError, match="not a readable"):
        people_of(tmp_path / "short.safetensors")


def test_a_forgotten_person_is_gone(cast: Path, tmp_path: Path, people: list[Dataset]) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for file in cast.parent.iterdir():
        if file.is_file():
            (run / file.name).write_bytes(file.read_bytes())
    before = read_people(run / "face.safetensors")
    said = works("forget", "grace", run)
    assert "not undone" in said and "eileen" in said
    after = read_people(run / "face.safetensors")
    assert list(after) == ["eileen"]
    assert np.array_equal(after["eileen"].sources, before["eileen"].sources)
    for file in run.iterdir():
        content = file.read_bytes()
        assert b"grace" not in content, file
        assert people[1].sha256.encode() not in content, file
    own = before["grace"].network.get_parameter("common_image").detach().numpy().tobytes()
    assert own not in (run / "face.safetensors").read_bytes()
    assert "the only one" in fails("forget", "eileen", run)
    assert "no nobody" in fails("forget", "nobody", cast)
    assert "is one person" in fails("forget", "eileen", f"{cast}#eileen")
    said = fails("train", *(p.path for p in people), "--steps", 200, "--out", run)
    assert "was forgotten" in said, "nobody comes back by mistake"


def test_forgetting_leaves_other_runs_alone(cast: Path, tmp_path: Path, people: list[Dataset]) -> None:
    """A cast's file that lies in the folder of another training."""
    train(people[0], tmp_path / "run", steps=2, quiet=True)
    beside = tmp_path / "run" / "both.safetensors"
    beside.write_bytes(cast.read_bytes())
    before = {file.name: file.read_bytes() for file in (tmp_path / "run").iterdir() if file != beside}
    works("forget", "grace", beside)
    assert people_of(beside) == ["eileen"]
    assert {file.name: file.read_bytes() for file in (tmp_path / "run").iterdir() if file != beside} == before


@pytest.mark.slow
def test_a_cast_is_the_same_however_its_people_are_given(people: list[Dataset], tmp_path: Path) -> None:
    whole = train_cast(people, tmp_path / "a", steps=6, quiet=True)
    train_cast(people, tmp_path / "b", steps=4, quiet=True, checkpoint_every=timedelta(0))
    (tmp_path / "b" / "face.safetensors").unlink()
    other = train_cast(people[::-1], tmp_path / "b", steps=6, quiet=True)
    for name in ("eileen", "grace"):
        one, two = (read_face(Path(f"{path}#{name}")).network.state_dict() for path in (whole, other))
        assert one.keys() == two.keys()
        assert all(one[key].shape == two[key].shape for key in one), name
    assert people_of(whole) == people_of(other) == ["eileen", "grace"]


def test_who_cannot_be_a_cast(people: list[Dataset], photo_dataset: Dataset, tmp_path: Path) -> None:
    one = people[0].path
    assert "two people named eileen" in fails("train", one, one, "--out", tmp_path / "run")
    with pytest.raises(DmsynthError, match="the same frames under two names"):
        train_cast([people[0], replace(people[0], path=tmp_path / "other")], tmp_path / "run")
    assert "--model rotation" in fails("train", *(p.path for p in people), "--model", "rotation", "--out", tmp_path)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_beginning_from_a_cast_is_ahead_of_beginning_from_nothing(
    cast: Path, tmp_path: Path, tracker: Tracker, hopper: Path
) -> None:
    """After as few steps, on somebody in frames of another size: the one that begins from others turns already."""
    poses = PoseRange(pitch=10, yaw=20, roll=10)
    dataset = pose_photo(tmp_path / "new", hopper, tracker, 72, (112, 96), poses, seed=5)
    turned = []
    for number, begin in enumerate((None, cast, Path(f"{cast}#eileen"))):
        face = load_face(train(dataset, tmp_path / f"run-{number}", begin=begin, steps=2, quiet=True))
        face = face.from_one_source()
        left, right = (tracker(face.steer(yaw=yaw))[0].pose["yaw"] for yaw in (-12.0, 12.0))
        turned.append(right - left)
    assert turned[0] < 8 < 12 < min(turned[1:]), turned


def test_a_beginning_that_does_not_fit_is_refused(people: list[Dataset], tmp_path: Path, cast: Path) -> None:
    data = people[0].path
    assert "no such face file" in fails("train", data, "--from", tmp_path / "none.safetensors", "--out", tmp_path / "r")
    assert "--from" in fails("train", data, "--from", cast, "--model", "rotation", "--out", tmp_path / "r")
    assert "--from" in fails("train", *(p.path for p in people), "--from", cast, "--out", tmp_path / "r")
    assert "--base-channels" in fails("train", data, "--from", cast, "--base-channels", 4, "--out", tmp_path / "r")
    assert "--epochs" in fails("train", *(p.path for p in people), "--epochs", 4, "--out", tmp_path / "r")


@pytest.mark.slow
def test_a_beginning_keeps_its_width(people: list[Dataset], tmp_path: Path) -> None:
    narrow = train(people[1], tmp_path / "narrow", base_channels=4, steps=2, quiet=True)
    face = load_face(train(people[0], tmp_path / "run", begin=narrow, steps=2, quiet=True))
    assert face.trained.shape["base_channels"] == 4
    works("cast", "join", f"a={narrow}", "b=starter", "--out", tmp_path / "two.safetensors")
    said = fails("train", people[0].path, "--from", tmp_path / "two.safetensors", "--out", tmp_path / "r")
    assert "different base channels" in said


def test_one_face_in_two_files_is_one_driver(cast: Path, tmp_path: Path) -> None:
    works("cast", "split", cast, "--out", tmp_path)
    assert "is there already" in fails("cast", "split", cast, "--out", tmp_path)
    alone = tmp_path / "grace.safetensors"
    assert fingerprint_of(Path(f"{cast}#grace")) == fingerprint_of(alone) != fingerprint_of(Path(f"{cast}#eileen"))
    specs = {"one": FaceSpec(f"{cast}#grace"), "two": FaceSpec(str(alone))}
    with pytest.raises(DmsynthError, match="would count twice"):
        open_drivers(specs, find_scenarios(["all"])[:1])


@pytest.mark.slow
def test_the_edges_of_frames_are_trained_too(photo_dataset: Dataset, tmp_path: Path) -> None:
    """Windows reach every pixel, with landmarks and without."""
    settings = choose_settings(photo_dataset, "swapwarp", {})
    training = Training(SwapWarp(96, 80), settings, prepare(photo_dataset, settings).training, Bound(1, Timer()))
    for landmarks in (None, torch.full((2, 5, 2), 0.5)):
        seen = np.zeros((80, 96), bool)
        for step in range(4000):
            with patch.object(Training, "global_step", step):
                seen[training._window(torch.zeros(2, 1, 80, 96), landmarks)] = True
        assert seen.all(), landmarks is None


@pytest.mark.slow
def test_one_person_under_two_names_is_noticed(tmp_path: Path, tracker: Tracker, people: list[Dataset]) -> None:
    poses = PoseRange(pitch=10, yaw=20, roll=10)
    twin = pose_photo(tmp_path / "twin", None, tracker, 48, (96, 80), poses, seed=9)
    done = dmsynth("train", people[0].path, twin.path, "--steps", 2, "--out", tmp_path / "run")
    assert done.returncode == 0
    assert "eileen and twin seem to be one person" in " ".join(done.stderr.split())
    done = dmsynth("train", *(p.path for p in people), "--steps", 2, "--out", tmp_path / "other")
    assert "seem to be one person" not in " ".join(done.stderr.split())


@pytest.mark.slow
def test_driven_by_each_other(cast: Path, people: list[Dataset], tmp_path: Path) -> None:
    works("train", *(p.path for p in people), "--transfer", "--steps", 4, "--out", tmp_path / "run")
    assert "several people" in fails("train", people[0].path, "--transfer", "--out", tmp_path / "r")
    works("cast", "evaluate", cast, *(p.path for p in people), "--frames", 10, "--out", tmp_path / "found.json")
    found = json.loads((tmp_path / "found.json").read_text())
    assert [(each["person"], each["driver"]) for each in found["pairs"]] == [("eileen", "grace"), ("grace", "eileen")]
    for pair in found["pairs"]:
        assert pair["lost"] <= 2 and pair["error"]["yaw"] < 8, pair
        assert pair["identity"] > 0.7, pair
    assert "name the dataset of grace" in fails("cast", "evaluate", cast, people[0].path, "--out", tmp_path / "x.json")


def test_a_trained_cast_is_named_as_any_other(cast: Path, tmp_path: Path) -> None:
    """By its file, its run folder, or a person of it in a YAML file."""
    everybody = {name: f"{cast.resolve()}#{name}" for name in ("eileen", "grace")}
    assert read_cast(cast) == read_cast(cast.parent) == everybody
    assert open_renderer(FaceSpec(everybody["grace"])).size == (80, 96)
    (tmp_path / "cast.yaml").write_text(f"persons:\n  one: {cast}#grace\n  two: starter\n")
    assert read_cast(tmp_path / "cast.yaml") == {"one": everybody["grace"], "two": "starter"}
    (tmp_path / "cast.yaml").write_text(f"persons:\n  one: {cast}#nobody\n")
    with pytest.raises(DmsynthError, match="there is eileen, grace"):
        read_cast(tmp_path / "cast.yaml")
    works("cast", "split", cast, "--out", tmp_path)
    with pytest.raises(DmsynthError, match="is one face and no cast"):
        read_cast(tmp_path / "grace.safetensors")


def test_face_recognition_tells_people_apart(people: list[Dataset], tracker: Tracker) -> None:
    if not recognition.is_at_hand():
        pytest.skip("needs dlib-bin and face_recognition_models, which are not installed")
    found = []
    for dataset in people:
        images = [np.array(dataset.frames[i]) for i in dataset.split("train")[:6]]
        found.append(recognition.described((image, tracker(image)[0]) for image in images))
    distances = np.linalg.norm(np.concatenate(found)[:, None] - np.concatenate(found)[None], axis=2)
    assert np.median(distances[:6, :6]) < recognition.SAME < np.median(distances[:6, 6:])
