"""LivePortrait as a baseline: on a small stand-in of its checkout, and on the official one where there is one.

The stand-in has the official code's files, names and axes, and two keypoints: the nose, in front of the head's centre,
and the crown, above it. Its pictures are a red spot where the nose is and a green one where the crown is.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from commands import dmsynth, fails
from dmsynth.cli.faces import steer
from dmsynth.cockpit.live import Client, DrawRequest, LiveServer
from dmsynth.cockpit.workspace import Workspace
from dmsynth.controls.pose import rotation_matrix
from dmsynth.datasets.dataset import Dataset
from dmsynth.evaluation import evaluate
from dmsynth.experiments import bench_liveportrait
from dmsynth.experiments.rotation_drives import Material, draw, read_driver
from dmsynth.motion.trajectory import parse_motions
from dmsynth.steering import (
    FaceSpec,
    Renderer,
    SteerableFace,
    liveportrait_checkout,
    load_face,
    open_renderer,
    steer_to_video,
)
from dmsynth.steering.liveportrait import (
    SPACE,
    Crop,
    Motion,
    Steered,
    square,
    steerable,
    to_keypoints,
)
from dmsynth.steering.liveportrait_checkout import Networks, open_networks
from dmsynth.steering.liveportrait_driven import Driven
from dmsynth.steering.provenance import face_sha256, read_provenance
from dmsynth.steering.recorded import Recorded, open_recorded
from dmsynth.steering.source import source_consent
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import read_json
from dmsynth.support.table_files import read_table
from dmsynth.trackers import Tracker
from dmsynth.video import Image, VideoWriter, fit, probe_video, read_video, to_grey, to_rgb, write_image
from dmsynth.video.portrait import PORTRAIT_CONSENT

OFFICIAL = "DMSYNTH_LIVEPORTRAIT"

_CODE = {
    "modules/__init__.py": "",
    "utils/__init__.py": "",
    "modules/appearance_feature_extractor.py": """
        class AppearanceFeatureExtractor(torch.nn.Module):
            def __init__(self, image_channel):
                super().__init__()
                self.first = torch.nn.Conv2d(image_channel, 2, 1)
            def forward(self, x):
                return self.first(x)[:, :, None, ::32, ::32]
    """,
    "modules/motion_extractor.py": """
        class MotionExtractor(torch.nn.Module):  # a head of two points, whose yaw is how bright the picture is
            def __init__(self, num_kp):
                super().__init__()
                self.kp = torch.nn.Parameter(torch.tensor([[0.0, 0.0, -0.6, 0.0, -0.6, 0.0]]))
                self.exp = torch.nn.Parameter(torch.full((1, 3 * num_kp), 0.01))
            def forward(self, x):
                still = torch.full((len(x), 66), -99.0)
                still[:, 32:34] = 0  # half in one bin, half in the next: 0 degrees
                yaw = -(torch.arange(66) - 32.5 - 20 * (x.mean() - 0.5)).square()[None]
                return {"pitch": still, "yaw": yaw, "roll": still, "t": torch.tensor([[0.1, 0.0, 0.7]]),
                        "scale": torch.ones(1, 1), "exp": self.exp, "kp": self.kp}
    """,
    "modules/warping_network.py": """
        class WarpingNetwork(torch.nn.Module):
            def __init__(self, num_kp):
                super().__init__()
                self.gain = torch.nn.Parameter(torch.ones(1))
            def forward(self, feature_3d, kp_driving, kp_source):
                assert feature_3d.shape == (1, 2, 1, 8, 8) and kp_driving.shape == kp_source.shape
                return {"out": self.gain * kp_driving}
    """,
    "modules/spade_generator.py": """
        class SPADEDecoder(torch.nn.Module):
            def __init__(self, upscale):
                super().__init__()
                self.width = torch.nn.Parameter(torch.tensor(0.05))
            def forward(self, feature):
                side = (torch.arange(512) + 0.5) / 256 - 1
                away = (side[None, None, None] - feature[:, :, 0, None, None]).square() + (
                    side[None, None, :, None] - feature[:, :, 1, None, None]).square()
                spots = torch.exp(-away / self.width.square())
                return torch.cat([spots, torch.zeros_like(spots[:, :1])], dim=1)
    """,
    "modules/stitching_retargeting_network.py": """
        class StitchingRetargetingNetwork(torch.nn.Module):
            def __init__(self, input_size, hidden_sizes, output_size):
                super().__init__()
                self.mlp = torch.nn.Sequential(torch.nn.Linear(input_size, output_size))
                torch.nn.init.zeros_(self.mlp[0].weight)
                torch.nn.init.zeros_(self.mlp[0].bias)
            def forward(self, x):
                return self.mlp(x)
    """,
    "utils/camera.py": """
        from scipy.spatial.transform import Rotation
        def headpose_pred_to_degree(pred):
            return (pred.softmax(dim=1) * torch.arange(66)).sum(dim=1) * 3 - 97.5
        def get_rotation_matrix(pitch, yaw, roll):
            turns = torch.cat([roll, yaw, pitch], dim=1).numpy()
            return torch.tensor(Rotation.from_euler("ZYX", turns, degrees=True).as_matrix()).float().transpose(1, 2)
    """,
    "config/models.yaml": """
        model_params:
          appearance_feature_extractor_params: {image_channel: 3}
          motion_extractor_params: {num_kp: 2}
          warping_module_params: {num_kp: 2}
          spade_generator_params: {upscale: 2}
          stitching_retargeting_module_params:
            stitching: {input_size: 12, hidden_sizes: [4], output_size: 8}
    """,
}


def _stand_in(folder: Path, weights: bool = True) -> Path:
    """A checkout in the official layout."""
    for name, text in _CODE.items():
        path = folder / "src" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [line.removeprefix(" " * 8) for line in text.splitlines()]
        path.write_text("\n".join(["import torch" if name.endswith(".py") else "", *lines]))
    (folder / "src/utils/resources").mkdir(parents=True)
    write_image(folder / liveportrait_checkout.MASK, np.full((512, 512, 3), 255, dtype=np.uint8))
    if weights:
        _save_weights(open_networks(folder, random_weights=True), folder / liveportrait_checkout.WEIGHTS)
    return folder


def _save_weights(networks: Networks, folder: Path) -> None:
    for room in ("base_models", "retargeting_models"):
        (folder / room).mkdir(parents=True)
    parts = (networks.appearance, networks.motion, networks.warping, networks.generator)
    for name, part in zip(liveportrait_checkout.BASE, parts, strict=True):
        torch.save(part.state_dict(), folder / "base_models" / f"{name}.pth")
    stitching = {f"module.{name}": value for name, value in networks.stitching.state_dict().items()}
    torch.save({"retarget_shoulder": stitching}, folder / liveportrait_checkout.STITCHING_WEIGHTS)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _stand_in(tmp_path_factory.mktemp("liveportrait") / "LivePortrait")


@pytest.fixture(scope="module")
def networks(checkout: Path) -> Networks:
    return open_networks(checkout)


@pytest.fixture(scope="module")
def person(portrait: Image) -> Image:
    """Head and shoulders of the portrait, 320×256, without colour: what is red or green then is a spot."""
    return to_rgb(to_grey(fit(portrait[:256, 60:380], 320, 256)))


@pytest.fixture(scope="module")
def face(networks: Networks, checkout: Path, person: Image, tracker: Tracker) -> SteerableFace:
    return steerable(networks, checkout, person, tracker, "portrait", precision="32-true")


def _spot(image: Image, channel: int) -> NDArray[Any]:
    """x, y of a spot's middle."""
    colour = np.clip(image[..., channel].astype(float) - image[..., 1 - channel], 0, None)
    colour[colour < 0.2 * colour.max()] = 0
    rows, columns = np.indices(colour.shape)
    return np.array([(colour * columns).sum(), (colour * rows).sum()]) / colour.sum()


def _turned(image: Image, degrees: float) -> Image:
    """The image turned clockwise."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), -degrees, 1)
    return cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)


def test_a_command_moves_nose_and_crown_as_our_conventions_say(face: SteerableFace) -> None:
    rest = dict(zip(SPACE.names, SPACE.decode(face.trained.source_codes[0]), strict=True))
    start = face.steer(**rest)
    assert start.shape == (256, 320, 3)
    for control, channel, axis, sign in (("yaw", 0, 0, 1), ("pitch", 0, 1, -1), ("roll", 1, 0, 1)):
        moved = _spot(face.steer(**(rest | {control: rest[control] + 10})), channel) - _spot(start, channel)
        assert sign * moved[axis] > 5, (control, moved)
        assert abs(moved[1 - axis]) < 0.4 * abs(moved[axis]), (control, moved)


def test_directions_are_those_of_the_frame_however_the_source_is_tilted(
    networks: Networks, checkout: Path, person: Image, tracker: Tracker
) -> None:
    tilted = steerable(networks, checkout, _turned(person, 20), tracker, "tilted", precision="32-true")
    rest = dict(zip(SPACE.names, SPACE.decode(tilted.trained.source_codes[0]), strict=True))
    assert 12 < rest["roll"] < 30
    moved = _spot(tilted.steer(**(rest | {"yaw": rest["yaw"] + 10})), 0) - _spot(tilted.steer(**rest), 0)
    # ours turns about the picture's upright axis first: the nose keeps its height, although the crop lies askew
    assert moved[0] > 5 and abs(moved[1]) < 0.15 * moved[0]


def test_the_sources_own_pose_moves_nothing(face: SteerableFace) -> None:
    network: Steered = face.trained.network  # type: ignore[assignment]
    appearance, _ = face.appearance()
    turned = network.turned(appearance, appearance.rotation[None])
    assert torch.allclose(turned, appearance.motion.rotation, atol=1e-6)
    with torch.inference_mode():
        same = network.steer(appearance, network.controls(appearance))
        assert torch.allclose(same, network.decode(appearance), atol=1e-4)
    assert np.array_equal(
        face.reconstruct(face.trained.source), (same[0] * 255).round().byte().permute(1, 2, 0).numpy()
    )
    assert np.allclose(face.encoded_controls(face.trained.source), SPACE.decode(face.trained.source_codes[0]), atol=0.5)


def test_the_commanded_rotation_is_absolute(face: SteerableFace) -> None:
    """Where M and the tracker agree about the source, the keypoints get exactly the commanded rotation."""
    network: Steered = face.trained.network  # type: ignore[assignment]
    appearance, _ = face.appearance()
    upright = Crop(appearance.crop.to_crop, np.eye(3))
    agreed = Motion(*vars(appearance.motion).values())
    agreed = Motion(**(vars(agreed) | {"rotation": torch.from_numpy(to_keypoints(appearance.rotation))[None].float()}))
    same = SimpleNamespace(**(vars(appearance) | {"crop": upright, "motion": agreed}))
    commanded = rotation_matrix(*np.random.default_rng(0).uniform(-60, 60, size=(3, 20)))
    assert np.allclose(network.turned(same, commanded), to_keypoints(commanded), atol=1e-5)  # type: ignore[arg-type]


def test_it_is_steered_evaluated_and_reported_like_any_face(
    networks: Networks, checkout: Path, photo_dataset: Dataset, tracker: Tracker, tmp_path: Path
) -> None:
    source = np.array(photo_dataset.frames[int(np.abs(photo_dataset.controls(SPACE, "tracked")).sum(axis=1).argmin())])
    face = steerable(networks, checkout, source, tracker, "source", size=photo_dataset.size)
    renderer: Renderer = face
    assert renderer.size == photo_dataset.size
    table = read_table(steer_to_video(face, parse_motions("move yaw=5 1", SPACE.names, 5), tmp_path / "out.mp4", 5))
    assert len(table) == len(list(read_video(tmp_path / "out.mp4"))) == 6
    # The stand-in's pictures show no face, so none is found: counted, not invented.
    result = evaluate(face, photo_dataset, tracker, most=3)
    assert result.metrics["model"] == "liveportrait" and result.metrics["train_seconds"] is None
    assert result.metrics["lost"] == result.metrics["frames"] == 3 and result.metrics["mae"]["yaw"] is None


def test_coverage_is_what_its_editor_offers_around_the_source(face: SteerableFace) -> None:
    rest = SPACE.decode(face.trained.source_codes[0])
    inside = rest + np.array([[0, 0, 0], [14, 0, 0], [0, -24, 0], [9, 19, 9]])
    outside = rest + np.array([[16, 0, 0], [0, 26, 0], [0, 0, -16]])
    assert face.outside_coverage(np.concatenate([inside, outside])).tolist() == [4, 5, 6]


def test_a_source_without_a_face_is_refused(
    networks: Networks, checkout: Path, tracker: Tracker, person: Image
) -> None:
    with pytest.raises(DmsynthError, match="wall: no face; LivePortrait needs a source with one whole face"):
        steerable(networks, checkout, np.full((240, 320, 3), 200, dtype=np.uint8), tracker, "wall")
    with pytest.raises(DmsynthError, match="two: several faces"):
        steerable(networks, checkout, np.concatenate([person, person], axis=1), tracker, "two")


def test_what_renders_is_the_weights_and_the_source(
    face: SteerableFace, networks: Networks, checkout: Path, person: Image, tracker: Tracker
) -> None:
    def told(who: SteerableFace) -> str:
        return face_sha256(who.path, who.trained)

    again = steerable(networks, checkout, person, tracker, "again", precision="32-true")
    other = steerable(networks, checkout, person[:, ::-1].copy(), tracker, "other", precision="32-true")
    assert told(face) == told(again) != told(other)


def test_the_consent_of_a_dataset_goes_along(photo_dataset: Dataset, tmp_path: Path) -> None:
    shutil.copytree(photo_dataset.path, tmp_path / "data")
    assert source_consent(f"{tmp_path / 'data'}@3") == PORTRAIT_CONSENT
    manifest = tmp_path / "data" / "manifest.json"
    manifest.write_text(json.dumps(read_json(manifest) | {"consent": "for tests"}))
    assert source_consent(f"{tmp_path / 'data'}@3") == "for tests" and source_consent("person.png") is None


def test_the_portrait_that_comes_along_is_a_source(checkout: Path, portrait: Image) -> None:
    face = open_renderer(FaceSpec(f"liveportrait:{checkout}", source="portrait"))
    assert (face.trained.source == portrait).all() and face.trained.about["consent"] == PORTRAIT_CONSENT


def test_a_wide_size_keeps_the_whole_face_of_a_source(
    networks: Networks, checkout: Path, portrait: Image, tracker: Tracker
) -> None:
    """The portrait's head is at its top: the middle of it, as wide as 1280×800, would cut the head."""
    face = steerable(networks, checkout, portrait, tracker, "portrait", (640, 400))
    assert face.size == (640, 400)
    (seen,), (whole,) = tracker(face.trained.source), tracker(portrait)
    enlarged = 640 / portrait.shape[1]
    assert np.abs(np.array(seen.box) - enlarged * np.array(whole.box)).max() < 4, "cut below, not above"


def test_a_driver_moves_the_source_by_what_changes(
    face: SteerableFace, person: Image, tracker: Tracker, tmp_path: Path
) -> None:
    """The stand-in's M takes brightness for yaw; its yaw > 0 is to the left."""
    video = tmp_path / "driver.mp4"
    with VideoWriter(video, 320, 256, 10) as writer:
        for light in (1.0, 1.0, 0.7):
            writer.write((person * light).astype(np.uint8))
    driven = Driven(face, video, tracker)
    assert driven.size == face.size and driven.table["found"].all() and driven.frame_rate == 10
    first, second, third = driven.frames(np.zeros((3, 3)))
    assert np.abs(_spot(first, 0) - _spot(face.reconstruct(face.trained.source), 0)).max() < 0.5
    assert np.abs(_spot(second, 0) - _spot(first, 0)).max() < 0.5
    assert _spot(third, 0)[0] - _spot(first, 0)[0] > 2
    assert len(list(driven.frames(np.zeros((2, 3))))) == 2
    with pytest.raises(DmsynthError, match="has 3 frames, but 4 are asked for"):
        next(driven.frames(np.zeros((4, 3))))


def test_a_driver_who_comes_in_late_is_refused(
    face: SteerableFace, person: Image, tracker: Tracker, tmp_path: Path
) -> None:
    video = tmp_path / "late.mp4"
    with VideoWriter(video, 320, 256, 10) as writer:
        for frame in (np.full_like(person, 200), person):
            writer.write(frame)
    with pytest.raises(DmsynthError, match=r"late\.mp4: frame 0: no face; .*cut the video"):
        Driven(face, video, tracker)


def test_a_result_made_elsewhere(tmp_path: Path, person: Image) -> None:
    for name, picture in (("result.mp4", person), ("result_concat.mp4", np.concatenate([person] * 3, axis=1))):
        with VideoWriter(tmp_path / name, picture.shape[1], picture.shape[0], 25) as writer:
            for shade in (0, 40, 80):
                writer.write((picture // 2 + shade).astype(np.uint8))
    result: Renderer = open_recorded(FaceSpec(f"recorded:{tmp_path / 'result.mp4'}"))
    assert isinstance(result, Recorded) and result.size == (320, 256)
    shades = [float(frame.mean()) for frame in result.frames(np.zeros((2, 3)))]
    assert len(shades) == 2 and 30 < shades[1] - shades[0] < 50
    with pytest.raises(DmsynthError, match=r"result\.mp4: has 3 frames, but 9 are commanded"):
        list(result.frames(np.zeros((9, 3))))
    with pytest.raises(DmsynthError, match="several pictures side by side"):
        open_recorded(FaceSpec(f"recorded:{tmp_path / 'result_concat.mp4'}"))


@pytest.mark.slow
def test_the_command_line_steers_drives_and_judges_it(
    checkout: Path, person: Image, photo_dataset: Dataset, tmp_path: Path
) -> None:
    write_image(tmp_path / "person.png", person)
    options: dict[str, Any] = {"renderer": "liveportrait", "checkout": checkout}
    source = str(tmp_path / "person.png")
    steer("hold 0.1; move yaw=5 0.2", tmp_path / "steered.mp4", source=source, frame_rate=10, **options)
    assert read_table(tmp_path / "steered.parquet")["yaw"].tolist() == pytest.approx([0, 0, 2.5, 5])
    frames = [frame.image for frame in read_video(tmp_path / "steered.mp4")]
    assert len(frames) == 4 and _spot(frames[3], 0)[0] - _spot(frames[0], 0)[0] > 2
    driven = options | {"renderer": "liveportrait-driven"}
    with VideoWriter(tmp_path / "driver.mp4", 320, 256, 12) as writer:
        for _ in range(3):
            writer.write(person)
    steer(str(tmp_path / "driver.mp4"), tmp_path / "driven.mp4", source=source, **driven)
    assert read_table(tmp_path / "driven.parquet")["found"].all() and probe_video(tmp_path / "driven.mp4").frames == 3
    origins = [read_provenance(tmp_path / f"{name}.mp4") for name in ("steered", "driven")]
    for origin in origins:
        assert origin.where[0] == "metadata" and len(origin.where) == 2 and not origin.doubts
        assert origin.provenance.face == "LivePortrait" and len(origin.provenance.face_sha256) == 64
    assert origins[0].provenance == origins[1].provenance
    steer(str(tmp_path / "driver.mp4"), tmp_path / "short.mp4", source=source, seconds=0.1, **driven)
    assert len(read_table(tmp_path / "short.parquet")) == probe_video(tmp_path / "short.mp4").frames == 2
    with pytest.raises(DmsynthError, match=r"driver\.mp4: lasts 0\.17 s, but 9 s were asked for"):
        steer(str(tmp_path / "driver.mp4"), tmp_path / "long.mp4", source=source, seconds=9, **driven)
    # our own way with a driver: from the source's pose, by the driver's movement
    relative = options | {"driving": "relative", "smooth": 0.0, "frame_rate": 12}
    steer(str(tmp_path / "driver.mp4"), tmp_path / "relative.mp4", source=source, **relative)
    poses = read_table(tmp_path / "relative.parquet")[["pitch", "yaw", "roll"]].to_numpy(float)
    assert len(poses) == 3 and np.abs(poses - poses[0]).max() < 1.5
    driver = ("--renderer", "liveportrait", "--liveportrait", checkout, "--source", f"{photo_dataset.path}@0")
    judged = dmsynth("evaluate", photo_dataset.path, *driver, "--frames", 3, "--out", tmp_path / "judged")
    assert judged.returncode == 0, judged.stderr
    assert read_json(tmp_path / "judged" / "metrics.json")["model"] == "liveportrait"
    assert "--renderer liveportrait" in (tmp_path / "judged" / "report.html").read_text("utf-8")


@pytest.mark.slow
def test_it_takes_its_place_in_chapter_4(
    checkout: Path, photo_dataset: Dataset, face_file: Path, face_video: Path, tracker: Tracker, tmp_path: Path
) -> None:
    """Driven and steered beside our own models, on the same source and the same driver."""
    face = load_face(face_file)
    driver = read_driver(face_video, 4, tracker)
    models = {"rotation": face, "swapwarp": face}
    material = Material(photo_dataset, 0, models, checkout, None, "auto", None)
    drawn = draw(tmp_path / "drive", driver, material)
    portraits = [drawn[f"LivePortrait, {mode}"] for mode in ("driven", "steered")]
    for portrait in portraits:
        assert portrait is not None and portrait.frames.shape == (4, 80, 96, 3)
        assert portrait.seconds is not None and portrait.memory is not None and portrait.memory > 100
        assert portrait.parameters == portraits[0].parameters  # type: ignore[union-attr]
    notes = {note: note.stat().st_mtime_ns for note in (tmp_path / "drive").glob("*.npy")}
    draw(tmp_path / "drive", driver, material)
    assert {note: note.stat().st_mtime_ns for note in notes} == notes, "drawn once"


@pytest.mark.slow
def test_a_dms_is_validated_on_it(checkout: Path, person: Image, tmp_path: Path) -> None:
    write_image(tmp_path / "person.png", person)
    scenario = tmp_path / "still.yaml"
    scenario.write_text("name: still\ntitle: Still\nsource: test\nspeed: 80\nframe_rate: 10\nmoves:\n  - hold: 1\n")
    driver = ("--renderer", "liveportrait", "--source", tmp_path / "person.png", "--liveportrait", checkout)
    done = dmsynth("validate", scenario, *driver, "--workers", 1, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    results = read_json(tmp_path / "out" / "results.json")
    assert results["face"]["name"] == "LivePortrait" and len(results["face"]["sha256"]) == 64
    assert results["summary"]["pass"] == 1 and "--renderer liveportrait" in results["command"]
    driven = ("--renderer", "liveportrait-driven", "--source", "a", "--liveportrait", checkout)
    assert "validate with liveportrait" in fails(dmsynth("validate", scenario, *driven, "--out", tmp_path / "x"))


def test_it_stands_beside_a_face_in_the_cockpit(checkout: Path, person: Image, tmp_path: Path) -> None:
    live_server = LiveServer(Workspace(tmp_path), {"LivePortrait": f"liveportrait:{checkout}"})
    assert live_server.names() == ["starter", "posed:portrait", "LivePortrait"]
    source, client = live_server.keep_source(person), Client()
    straight, turned = (
        live_server.draw(client, DrawRequest(face="LivePortrait", values=[0, yaw, 0], source=source)) for yaw in (0, 12)
    )
    read = [cv2.imdecode(np.frombuffer(answer[4:], np.uint8), cv2.IMREAD_COLOR) for answer in (straight, turned)]
    pictures = [np.asarray(picture) for picture in read]
    assert pictures[0].shape == person.shape and np.abs(pictures[0].astype(int) - pictures[1]).mean() > 0.1
    with pytest.raises(DmsynthError, match="bring it again"):
        live_server.draw(client, DrawRequest(face="LivePortrait", values=[0, 0, 0], source="gone"))


@pytest.mark.parametrize("weights", [True, False])
def test_bench_says_what_it_measured(
    weights: bool, tmp_path: Path, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_liveportrait, "SECONDS", 0.0)
    monkeypatch.setattr(bench_liveportrait, "_AT_ONCE", 1)
    result = bench_liveportrait.bench_liveportrait(_stand_in(tmp_path / "LivePortrait", weights), tracker)
    assert result["weights"] == ("its own" if weights else "random") and result["size"] == [512, 512]
    times, ratios = result["milliseconds"], result["times_swapwarp"]
    assert len(times) == 7 and times.keys() == ratios.keys() and min(times.values()) > 0
    (ours,) = (value for name, value in times.items() if name.startswith("swapwarp"))
    for name, value in times.items():
        assert ratios[name] == pytest.approx(value / ours, rel=0.01, abs=0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"renderer": "live"}, "--renderer live: choose face, liveportrait, liveportrait-driven, posed or recorded"),
        ({}, "name a face: face.safetensors of a training, or starter"),
        ({"face": Path("starter"), "checkout": Path("LP")}, "--liveportrait goes with --renderer"),
        ({"renderer": "liveportrait", "source": "a.png"}, "--renderer liveportrait needs --liveportrait DIR"),
        ({"renderer": "liveportrait", "checkout": Path("LP")}, "--renderer liveportrait needs --source PICTURE"),
        ({"renderer": "liveportrait", "face": Path("starter")}, "starter: --renderer liveportrait takes no face"),
        *(
            (
                {"renderer": "liveportrait-driven", "checkout": Path("LP"), "source": "a.png"} | own,
                "go with commanded",
            )
            for own in ({"clip": True}, {"fit": True}, {"driving": "relative"}, {"smooth": 0.0}, {"frame_rate": 30})
        ),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, Any], message: str, workdir: Path) -> None:
    with pytest.raises(DmsynthError, match=message):
        steer("hold 1", Path("out.mp4"), **options)
    assert not list(workdir.iterdir())


def _without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _written(name: str, content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(content)


_MODELS = "pretrained_weights/liveportrait/base_models"
_STITCHING = "pretrained_weights/liveportrait/retargeting_models/stitching_retargeting_module.pth"


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("executed",)


def _evil(folder: Path) -> None:
    (folder / _MODELS / "spade_generator.pth").write_bytes(pickle.dumps(_Evil()))


def _wrong_shape(folder: Path) -> None:
    torch.save({"gain": torch.ones(2)}, folder / _MODELS / "warping_module.pth")


def _list(folder: Path) -> None:
    torch.save([torch.ones(2)], folder / _MODELS / "warping_module.pth")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_without(f"{_MODELS}/motion_extractor.pth"), f"weights are missing: {_MODELS}/motion_extractor.pth; give"),
        (_wrong_shape, "warping_module.pth: these weights are of another version .*size mismatch for gain"),
        (_list, "warping_module.pth: not a file of network weights"),
        (_evil, "spade_generator.pth: not a file of network weights"),
        (_written(f"{_MODELS}/warping_module.pth", "version https://git-lfs.github.com"), "not a file of network weig"),
        (_written(_STITCHING, ""), "stitching_retargeting_module.pth: not a file of network weights"),
        (_without("src/modules/spade_generator.py"), r"not a version .*\(src/modules/spade_generator.py is missing\)"),
        (_written("src/modules/spade_generator.py", ""), "not a version .*has no attribute 'SPADEDecoder'"),
        (_written("src/utils/camera.py", "import absent_package"), "code needs absent_package; pip install it"),
        (_written("src/modules/spade_generator.py", "def ("), "not a version of LivePortrait that dmsynth knows"),
        (_without("src/config/models.yaml"), r"not a version .*\(src/config/models.yaml is missing\)"),
        (_written("src/config/models.yaml", "a: [1"), "src/config/models.yaml holds no model_params"),
        (_written("src/config/models.yaml", "model_params: {}"), "not a version of LivePortrait that dmsynth knows"),
        (_without(liveportrait_checkout.MASK), "mask_template.png: no such picture"),
    ],
)
def test_what_does_not_fit_is_one_clear_line(
    spoil: Callable[[Path], object], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = _stand_in(tmp_path / "LivePortrait")
    open_networks(folder)
    spoil(folder)
    with pytest.raises(DmsynthError, match=message) as raised:
        open_networks(folder)
    assert "\n" not in str(raised.value) and str(folder) in str(raised.value)
    assert not Path("executed").exists()


def test_any_other_folder_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DmsynthError, match="no LivePortrait checkout"):
            open_networks(folder)
    with pytest.raises(DmsynthError, match=r"weights are missing: .*appearance_feature_extractor.pth, .*stitching"):
        open_networks(_stand_in(tmp_path / "LivePortrait", weights=False))


@pytest.fixture(scope="module")
def official() -> Networks:
    """The official code with random weights: pictures are noise, everything else is as it is."""
    folder = os.environ.get(OFFICIAL)
    if not folder:
        pytest.skip(f"needs LivePortrait's official checkout; set {OFFICIAL} to its folder")
    return open_networks(Path(folder), random_weights=True)


def test_official_rotation_is_ours(official: Networks) -> None:
    """Any rotation, in LivePortrait's angles and through its own function, is what we client to its keypoints."""
    pitch, yaw, roll = np.random.default_rng(0).uniform(-80, 80, size=(3, 1000))
    ours = to_keypoints(rotation_matrix(pitch, yaw, roll))
    angles = Rotation.from_matrix(ours.swapaxes(1, 2)).as_euler("ZYX", degrees=True)
    theirs = official.rotation_matrix(*(torch.from_numpy(angles[:, [axis]].copy()).float() for axis in (2, 1, 0)))
    assert np.abs(theirs.numpy() - ours).max() < 1e-5
    for place, sign in ((0, -1), (1, -1), (2, 1)):  # single turns: pitch and yaw change their sign, roll keeps it
        turn = np.zeros((3, 50))
        turn[place] = np.linspace(-80, 80, 50)
        columns = (torch.from_numpy(sign * row).float()[:, None] for row in turn)
        assert np.abs(official.rotation_matrix(*columns).numpy() - to_keypoints(rotation_matrix(*turn))).max() < 1e-5


def test_official_shapes_and_drawing_are_ours(official: Networks, tracker: Tracker, person: Image) -> None:
    """The steps that we spell out, against the official wrapper's, with the same weights."""
    module: Any = _official_module("live_portrait_wrapper")
    network = Steered(official, tracker, "portrait", precision="32-true")
    image = torch.from_numpy(person).permute(2, 0, 1)[None].float() / 255
    wrapper = module.LivePortraitWrapper.__new__(module.LivePortraitWrapper)
    wrapper.inference_cfg = SimpleNamespace(flag_use_half_precision=False, input_shape=(256, 256))
    wrapper.device, wrapper.compile = str(network.device), False
    wrapper.appearance_feature_extractor, wrapper.motion_extractor = official.appearance, official.motion
    wrapper.warping_module, wrapper.spade_generator = official.warping, official.generator
    wrapper.stitching_retargeting_module = {"stitching": official.stitching}
    with torch.inference_mode():
        source = network.encode(image)
        assert source.features.shape == (1, 32, 16, 64, 64) and source.motion.canonical.shape == (1, 21, 3)
        info = wrapper.get_kp_info(wrapper.prepare_source(source.crop.cut(source.frame)))
        assert torch.allclose(wrapper.transform_keypoint(info), source.motion.keypoints(), atol=1e-5)
        turned = network.turned(source, rotation_matrix([8.0], [-15.0], [5.0]))
        keypoints = source.motion.keypoints(turned)
        assert (keypoints - source.motion.keypoints()).abs().max() > 1e-3
        stitched = wrapper.stitching(source.motion.keypoints(), keypoints)
        # Half of the features' width and height is enough: the networks are convolutions.
        small = SimpleNamespace(**(vars(source) | {"features": source.features[..., 16:48, 16:48]}))
        theirs = wrapper.warp_decode(small.features, source.motion.keypoints(), stitched)["out"]
        ours = network.draw(small, keypoints)  # type: ignore[arg-type]
        assert ours.shape == (1, 3, 256, 256) and float(ours.std()) > 0.01
        assert torch.allclose(ours, theirs, atol=1e-5)
        whole = network.steer(source, network.controls(source))
    assert whole.shape == (1, 3, 256, 320) and torch.isfinite(whole).all()


def test_official_networks_follow_a_driver(official: Networks, tracker: Tracker, person: Image, tmp_path: Path) -> None:
    """Driven through the official networks: the first frame moves nothing, a changed one does."""
    face = steerable(official, Path(os.environ[OFFICIAL]), person, tracker, "portrait", precision="32-true")
    network: Steered = face.trained.network  # type: ignore[assignment]
    with VideoWriter(tmp_path / "driver.mp4", 320, 256, 10) as writer:
        for frame in (person, _turned(person, 12)):
            writer.write(frame)
    driven = Driven(face, tmp_path / "driver.mp4", tracker)
    first, second = driven.frames(driven.rows())
    assert first.shape == second.shape == (256, 320, 3)
    appearance, _ = face.appearance()
    with torch.inference_mode():
        still = network.picture(appearance, appearance.motion.keypoints())[0]
    assert np.abs(first - (still * 255).permute(1, 2, 0).numpy()).max() <= 1
    assert np.abs(second.astype(int) - first).max() > 1


def test_official_crop_is_ours(official: Networks, tracker: Tracker, person: Image) -> None:
    """Their crop of the same points: those that decide it in their list of 203, the rest filled with ours."""
    module: Any = _official_module("utils.crop")
    face = tracker(_turned(person, 15))[0]
    points = face.landmarks[:, :2]
    liveportrait = __import__("dmsynth.steering.liveportrait", fromlist=["_"])
    theirs = np.resize(points[list(liveportrait._SPAN)], (203, 2))
    theirs[[0, 6, 12, 18]], theirs[[24, 30, 36, 42]] = points[list(liveportrait._EYES)].reshape(2, 4, 2)
    theirs[[48, 66]] = points[list(liveportrait._MOUTH)]
    cropped = module.crop_image(person, theirs, dsize=512, scale=2.3, vy_ratio=-0.125, flag_do_rot=True)
    assert np.allclose(cropped["M_o2c"][:2], Crop.around(face).to_crop, atol=0.05)
    box = module.parse_bbox_from_landmark(theirs, scale=2.2, vx_ratio=0, vy_ratio=-0.1)
    centre, side, _ = square(face, 2.2, -0.1)
    assert np.allclose(box["center"], centre, atol=0.05) and np.allclose(box["size"], side, atol=0.05)


def _official_module(name: str) -> Any:
    with liveportrait_checkout._importing(Path(os.environ[OFFICIAL])) as module:
        return module(name)
