"""Where a video comes from: in the file, beside it, and on whose consent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dmsynth.datasets.dataset import open_dataset
from dmsynth.datasets.photo import PoseRange, pose_photo
from dmsynth.learning.training import train
from dmsynth.motion.trajectory import parse_motions
from dmsynth.steering import load_face, steer_to_video
from dmsynth.steering.provenance import consent_of, read_provenance, sidecar_of
from dmsynth.support.errors import DmsynthError
from dmsynth.trackers import Tracker
from dmsynth.video import Image, VideoWriter, read_video, write_image

CONSENT = "test portrait, public domain; für Tests"


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory, tracker: Tracker) -> Path:
    """A video of a face whose import recorded a consent."""
    folder = tmp_path_factory.mktemp("provenance")
    poses = PoseRange(pitch=5, yaw=10, roll=5)
    dataset = pose_photo(folder / "data", None, tracker, 40, (96, 80), poses, consent=CONSENT)
    face = load_face(train(dataset, folder / "run", base_channels=4, steps=3))
    steer_to_video(face, parse_motions("sweep yaw=-5:5 1", ("yaw",), 10), folder / "steered.mp4", 10)
    return folder / "steered.mp4"


def test_consent_goes_from_import_to_video(rendered: Path) -> None:
    assert consent_of(open_dataset(rendered.parent / "data").manifest) == CONSENT
    found = read_provenance(rendered)
    assert found.provenance.consent == CONSENT and found.provenance.synthetic and not found.doubts
    assert found.provenance.face == "face.safetensors" and len(found.provenance.face_sha256) == 64
    assert found.where == ["metadata", "steered.provenance.json"]


def test_without_consent_it_says_so(tmp_path: Path, tracker: Tracker, portrait: Image) -> None:
    write_image(tmp_path / "somebody.png", portrait)
    dataset = pose_photo(tmp_path / "dataset", tmp_path / "somebody.png", tracker, 2, (96, 80))
    assert consent_of(dataset.manifest) == "none recorded"


@pytest.mark.parametrize("face", ["starter", "trained"])
def test_the_portrait_that_comes_along_may_be_shown(face: str, face_file: Path) -> None:
    about = load_face(Path("starter") if face == "starter" else face_file).trained.about
    assert consent_of(about) == "public domain: Eileen Collins, photographed by NASA"


def test_what_was_removed_or_changed_is_told(rendered: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.mp4"
    alone.write_bytes(rendered.read_bytes())
    assert read_provenance(alone).where == ["metadata"]

    stripped = tmp_path / "stripped.mp4"
    with VideoWriter(stripped, 96, 80, 10) as video:
        for frame in read_video(rendered):
            video.write(frame.image)
    with pytest.raises(DmsynthError, match=r"neither its metadata .* that does not make it real"):
        read_provenance(stripped)
    sidecar_of(stripped).write_text(sidecar_of(rendered).read_text())
    doubts = " ".join(read_provenance(stripped).doubts)
    assert "encoded again" in doubts and "changed or replaced" in doubts

    whole = json.loads(sidecar_of(rendered).read_text())
    for damaged in ("{}", "[]", "", "[" * 10**5, '{"kind": 3}', *(json.dumps(whole | {name: 7}) for name in whole)):
        sidecar_of(alone).write_text(damaged)
        found = read_provenance(alone)
        assert "metadata" in found.where
        assert found.where == ["metadata", "alone.provenance.json"] or "alone.provenance.json: " in found.doubts[0]
    sidecar_of(stripped).write_text("{")
    with pytest.raises(DmsynthError, match=r"does not make it real \(.*stripped.provenance.json: not valid JSON"):
        read_provenance(stripped)
