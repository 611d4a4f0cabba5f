"""One road for whatever draws: named by one string, opened by one registry, steered and judged by the same commands."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from commands import dmsynth, fails
from dmsynth.cockpit.live import Client, DrawRequest, LiveServer
from dmsynth.cockpit.workspace import Workspace
from dmsynth.datasets.dataset import Dataset
from dmsynth.steering import Command, FaceSpec, kinds, open_renderer, steer
from dmsynth.steering.provenance import read_provenance
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import read_json
from dmsynth.support.table_files import read_table
from dmsynth.video import Image, VideoWriter, read_video, to_rgb, write_image
from dmsynth.video.effects import EFFECTS, with_effects


@pytest.fixture
def recorded(tmp_path: Path, photo_dataset: Dataset) -> Path:
    """The test frames of the posed dataset as a video that was made elsewhere."""
    video = tmp_path / "elsewhere.mp4"
    with VideoWriter(video, *photo_dataset.size, 25) as writer:
        for index in photo_dataset.split("test"):
            writer.write(np.array(photo_dataset.frames[index]))
    return video


@pytest.mark.slow
def test_a_video_made_elsewhere_is_steered_and_judged_like_a_face(
    recorded: Path, photo_dataset: Dataset, tmp_path: Path
) -> None:
    """Its frames are the real ones, so its errors are the tracker's own: what the encoder's loss changes."""
    out = tmp_path / "out.mp4"
    done = dmsynth("steer", f"recorded:{recorded}", "--trajectory", "hold 0.2", "--out", out)
    assert done.returncode == 0, done.stderr
    table = read_table(out.with_suffix(".parquet"))
    frames = [frame.image for frame in read_video(out)]
    assert len(frames) == len(table) == 6 and table["covered"].all()
    given = [to_rgb(frame.image) for frame, _ in zip(read_video(recorded), range(6), strict=False)]
    assert max(np.abs(a.astype(int) - to_rgb(b)).mean() for a, b in zip(given, frames, strict=True)) < 3
    assert read_provenance(out).provenance.face == "elsewhere.mp4"
    judged = dmsynth("evaluate", f"recorded:{recorded}", photo_dataset.path, "--out", tmp_path / "judged")
    assert judged.returncode == 0, judged.stderr
    metrics = read_json(tmp_path / "judged" / "metrics.json")
    assert metrics["model"] == "recorded" and metrics["lost"] == 0 and max(metrics["mae"].values()) < 1.5
    same = dmsynth("steer", recorded, "--renderer", "recorded", "--trajectory", "hold 0.2", "--out", tmp_path / "b.mp4")
    assert same.returncode == 0, same.stderr


def test_a_video_that_is_too_short_says_so(recorded: Path, tmp_path: Path) -> None:
    said = fails(dmsynth("steer", f"recorded:{recorded}", "--trajectory", "hold 9", "--out", tmp_path / "out.mp4"))
    assert "elsewhere.mp4: has 12 frames, but 226 are commanded" in said
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("film:a.mp4", "film:a.mp4: no such file, and no renderer is named film; there is face, liveportrait, "),
        ("recorded:a.mp4", "a.mp4: no such video"),
        ("liveportrait:LP", "liveportrait:LP: LivePortrait moves a picture; give it one with --source PICTURE"),
        (
            "liveportrait-driven:LP",
            "follows a driving video, not commanded poses; steer, evaluate and validate with live",
        ),
        ("nobody.safetensors", "nobody.safetensors: no such face file"),
    ],
)
def test_what_is_not_there_is_one_line(name: str, message: str, workdir: Path) -> None:
    with pytest.raises(DmsynthError, match=message) as raised:
        open_renderer(FaceSpec(name))
    assert "\n" not in str(raised.value)


def test_a_face_is_opened_at_a_source_of_its_own_person(
    face_file: Path, photo_dataset: Dataset, tmp_path: Path
) -> None:
    """The spec's source is what ``frames`` would be given: the same pictures, to the bit."""
    source = np.array(photo_dataset.frames[5])
    write_image(tmp_path / "source.png", source)
    at_source = open_renderer(FaceSpec(str(face_file), str(tmp_path / "source.png")))
    own = open_renderer(FaceSpec(str(face_file)))
    assert len(at_source.trained.sources) == 1
    head = at_source.head_only.trained
    at = head.space.decode(head.source_codes[0][:3])
    poses = np.array([[0.0, 5.0, 0.0], [3.0, -8.0, 2.0]])
    given = list(own.frames(poses, at_source.trained.source, at=at))
    assert all((a == b).all() for a, b in zip(at_source.frames(poses), given, strict=True))
    assert len(open_renderer(FaceSpec(str(face_file), one_source=True)).trained.sources) == 1


_MIRROR = '''
from dataclasses import replace
from dmsynth.steering.face import SteerableFace, load_face

class Mirror(SteerableFace):
    """The face, seen in a mirror."""
    def frames(self, values, *given, **named):
        for image in super().frames(values, *given, **named):
            yield image[:, ::-1].copy()

def open_mirror(spec, size=None):
    face = load_face(spec.where)
    return Mirror(face.trained, face.path)
'''


def test_a_renderer_of_an_installed_package(face_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One file and one entry point; every command and the cockpit know it by its name."""
    (tmp_path / "mirrors.py").write_text(_MIRROR)
    (tmp_path / "mirrors-1.dist-info").mkdir()
    (tmp_path / "mirrors-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: mirrors\nVersion: 1\n")
    (tmp_path / "mirrors-1.dist-info" / "entry_points.txt").write_text(
        "[dmsynth.renderers]\nmirror = mirrors:open_mirror\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert kinds()["mirror"].title == "mirror"
    name = f"mirror:{face_file}"
    poses = np.array([[0.0, 9.0, 0.0]])
    (straight,) = open_renderer(FaceSpec(str(face_file))).frames(poses)
    (mirrored,) = open_renderer(FaceSpec(name)).frames(poses)
    assert (mirrored == straight[:, ::-1]).all()
    steered = steer(FaceSpec(name), Command("move yaw=5 0.2"), tmp_path / "out.mp4")
    assert len(read_table(steered.table)) == 6
    source = tmp_path / "picture.png"
    write_image(source, straight)
    live_server, client = LiveServer(Workspace(tmp_path / "cockpit"), {"mirror": name}), Client()
    answer = live_server.draw(
        client, DrawRequest(face="mirror", values=[0, 9, 0], source=live_server.keep_source(straight))
    )
    assert len(answer) > 1000 and client.image is not None and (client.image == mirrored).all()
    assert sys.modules.pop("mirrors")


def test_effects_are_the_cameras(face_file: Path, tmp_path: Path) -> None:
    spec, pictures = FaceSpec(str(face_file)), {}
    for text in ("", "exposure=0.5", "noise=20", "blur=3"):
        effects = ["--effect", text] if text else []
        out = tmp_path / f"{text or 'plain'}.mp4"
        done = dmsynth("steer", face_file, "--trajectory", "hold 0.1", *effects, "--out", out)
        assert done.returncode == 0, done.stderr
        pictures[text.partition("=")[0]] = next(iter(read_video(out))).image.astype(float)
        found = read_provenance(out)
        assert (found.provenance.effects, found.doubts) == (text, [])
    assert pictures["exposure"].mean() == pytest.approx(pictures[""].mean() / 2, rel=0.05)
    assert (pictures["noise"] - pictures[""]).std() > 10
    assert np.abs(np.diff(pictures["blur"], axis=0)).mean() < 0.8 * np.abs(np.diff(pictures[""], axis=0)).mean()
    assert spec.kind == "face"
    for wrong, why in (("rain", "no such effect; choose exposure, blur, noise"), ("noise=x", "from 0 to 128")):
        assert why in fails(
            dmsynth("steer", face_file, "--trajectory", "hold 1", "--effect", wrong, "--out", tmp_path / "x.mp4")
        )
    assert not (tmp_path / "x.mp4").exists()


@pytest.mark.parametrize("name", EFFECTS)
def test_an_effect_keeps_shape_and_kind_and_repeats_itself(name: str, portrait: Image) -> None:
    for image in (portrait, portrait[..., 0]):
        for strength in (0.0, EFFECTS[name].strength, EFFECTS[name].most):
            first, again = (list(with_effects([image, image], [(name, strength)], seed=3)) for _ in range(2))
            assert all(frame.shape == image.shape and frame.dtype == np.uint8 for frame in first)
            assert all((a == b).all() for a, b in zip(first, again, strict=True))
