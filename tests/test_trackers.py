"""Trackers: how the model file is found, the fallback, and a user's own adapter."""

from __future__ import annotations

import hashlib
import socket
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest

from dmsynth.errors import DmsynthError
from dmsynth.sources.photo_posing import PosedPhoto
from dmsynth.trackers import Tracker, face_landmarker, open_tracker, tracker_names, why_unusable
from dmsynth.trackers.face_landmarker import find_model
from dmsynth.video import Image


@pytest.fixture
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No model by environment, an empty cache."""
    monkeypatch.delenv("DMSYNTH_FACE_LANDMARKER", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / name)
    return tmp_path / "dmsynth"


@pytest.fixture
def model_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[bytes]:
    """A host on loopback that serves a model file."""
    content = b"a model " * 1000

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(face_landmarker, "MODEL_URL", f"http://127.0.0.1:{server.server_port}/face_landmarker.task")
    yield content
    server.shutdown()
    server.server_close()


def test_the_model_is_downloaded_once_and_verified(
    bare_machine: Path, model_server: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(face_landmarker, "MODEL_SHA256", hashlib.sha256(model_server).hexdigest())
    path = find_model()
    assert path == bare_machine / "face_landmarker.task" and path.read_bytes() == model_server
    monkeypatch.setattr(face_landmarker, "MODEL_URL", "http://127.0.0.1:9/gone")
    assert find_model() == path  # from the cache


def test_a_download_with_another_hash_is_not_used(bare_machine: Path, model_server: bytes) -> None:
    assert find_model() is None
    assert not (bare_machine / "face_landmarker.task").exists()


def test_without_a_way_out_the_fallback_is_there_within_three_seconds(
    bare_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worst network: one that accepts and never answers."""
    silent = socket.create_server(("127.0.0.1", 0))
    monkeypatch.setattr(face_landmarker, "MODEL_URL", f"http://127.0.0.1:{silent.getsockname()[1]}/model")
    open_tracker("face-mesh")  # importing mediapipe is not the network's fault
    begun = time.monotonic()
    tracker = open_tracker()
    assert time.monotonic() - begun < 3
    assert "FaceMesh" in tracker.name
    silent.close()


def test_a_model_that_was_named_must_be_there(bare_machine: Path, tmp_path: Path) -> None:
    with pytest.raises(DmsynthError, match="no such tracker model"):
        open_tracker(model=tmp_path / "absent.task")


def test_a_tracker_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example of docs/trackers.md: a package with one class and an entry point."""
    (tmp_path / "cabin.py").write_text(
        "import numpy as np\n"
        "from dmsynth.pose import rotation_matrix\n"
        "from dmsynth.trackers import Face\n"
        "class Dash:\n"
        "    name = 'dash 2.1'\n"
        "    def __call__(self, image):\n"
        "        return [Face(rotation_matrix(1, 2, 3), (10, 10, 20, 20), np.empty((0, 3), np.float32))]\n"
    )
    (tmp_path / "cabin-1.dist-info").mkdir()
    (tmp_path / "cabin-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: cabin\nVersion: 1\n")
    (tmp_path / "cabin-1.dist-info" / "entry_points.txt").write_text("[dmsynth.trackers]\ndash = cabin:Dash\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert "dash" in tracker_names()
    tracker = open_tracker("dash")
    assert tracker(np.zeros((30, 30), np.uint8))[0].pose == pytest.approx({"pitch": 1, "yaw": 2, "roll": 3})
    with pytest.raises(DmsynthError, match=r"no tracker named 'dush'; installed: auto, dash, face-landmarker"):
        open_tracker("dush")


def test_usable_faces(tracker: Tracker, posed: PosedPhoto) -> None:
    face = posed.pose(0, 0, 0)
    blank = np.full_like(face, 128)
    shifted = np.full_like(face, 128)
    shifted[:, :160] = face[:, 100:260]  # the face moves left by 100 of its about 100 pixels
    cases: list[tuple[Image, set[str | None]]] = [
        (face, {None}),
        (np.dstack([face] * 3), {None}),
        (blank, {"no face"}),
        (np.hstack([face, face]), {"several faces"}),
        (np.ascontiguousarray(face[:, 165:]), {"face at the border", "no face"}),
    ]
    for image, expected in cases:
        assert why_unusable(tracker(image), image) in expected
    near = np.ascontiguousarray(face[:, int(tracker(face)[0].box[0]) + 15 :])  # a seventh of the face is cut away
    assert why_unusable(tracker(near), near) == "face at the border"
