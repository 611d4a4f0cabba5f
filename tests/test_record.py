"""Recording oneself: the page in a real browser with a video for a camera, and the line by itself."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
import uvicorn
import websockets

from cockpit_server import running_cockpit
from conftest import browser_page, opened_browser
from dmsynth.cockpit import record
from dmsynth.cockpit.gate import Gate
from dmsynth.cockpit.jobs import Job
from dmsynth.cockpit.live import LiveServer
from dmsynth.cockpit.page import routes
from dmsynth.cockpit.record import LARGEST_FRAME, Recorder
from dmsynth.cockpit.workspace import Workspace
from dmsynth.datasets import guide
from dmsynth.datasets.eye_posing import Eyes
from dmsynth.datasets.guide import CONSENT, MAPS
from dmsynth.datasets.photo_posing import PosedPhoto
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import temporary_beside
from dmsynth.trackers import Tracker
from dmsynth.video import Image, read_metadata, read_video
from dmsynth.video.pictures import camera_frame

AGREED = json.dumps({"name": "Eileen C.", "consent": True})
RECORDING = "window.dmsynthRecording"


def jpeg(image: Image) -> bytes:
    done, content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 92])
    assert done
    return content.tobytes()


@pytest.fixture(scope="module")
def turning(posed: PosedPhoto) -> list[bytes]:
    """A few frames of the portrait, which turns to both sides."""
    return [jpeg(posed.pose(0, 14 * np.sin(phase), 0)) for phase in np.linspace(0, 2 * np.pi, 12, endpoint=False)]


@dataclass
class Door:
    """The cockpit without its tabs, in this process: what starts a job does not run it."""

    address: str
    token: str
    root: Path

    @property
    def headers(self) -> dict[str, str]:
        return {"Cookie": f"dmsynth-{self.address.rpartition(':')[2]}={self.token}"}

    @asynccontextmanager
    async def line(self) -> AsyncIterator[Any]:
        address = f"{self.address.replace('http', 'ws')}/camera"
        async with websockets.connect(address, additional_headers=self.headers) as line:
            yield line

    def kept(self) -> list[str]:
        return sorted(path.name for path in (self.root / "uploads").iterdir())


@pytest.fixture
def door(tmp_path: Path, tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    monkeypatch.setattr(Job, "start", lambda job: None)
    monkeypatch.setattr(LiveServer, "tracker", lambda server: tracker)
    monkeypatch.setattr(guide, "_EVERY", 0.0)  # as fast as they come
    workspace, token = Workspace(tmp_path / "work"), secrets.token_urlsafe(8)
    app = Gate(routes(LiveServer(workspace)), workspace, token)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", ws_max_size=LARGEST_FRAME))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield Door(f"http://127.0.0.1:{port}", token, workspace.root)
    server.should_exit = True
    thread.join(20)


async def said(line: Any) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(await line.recv())
    return answer


async def shown(line: Any, *frames: bytes) -> dict[str, Any]:
    """What is said to the last of these frames."""
    for frame in frames:
        await line.send(frame)
        answer = await said(line)
    return answer


async def until(true: Callable[[], bool]) -> None:
    while not true():
        await asyncio.sleep(0.02)


# ------------------------------------------------------------------------------------------------- the line


def test_frames_become_a_recording_with_its_consent_and_a_job(door: Door, turning: list[bytes]) -> None:
    damaged = [b"", b"\xff\xd8\xff nothing", turning[0][: len(turning[0]) // 2], jpeg(np.zeros((2000, 2000), np.uint8))]

    async def record_it() -> str:
        async with door.line() as line:
            await line.send(AGREED)
            assert set((await said(line))["maps"]) == set(MAPS)
            assert (await shown(line, *turning[:2]))["frames"] == 2
            for frame in damaged:
                assert "this frame is damaged" in (await shown(line, frame))["error"]
            await line.send(json.dumps({"finish": True}))
            assert "too few usable frames" in (await said(line))["error"]
            assert (await shown(line, jpeg(np.full((240, 320), 90, np.uint8))))["wrong"].startswith("No face")
            assert "another size" in (await shown(line, jpeg(np.zeros((100, 100), np.uint8))))["error"]
            told = await shown(line, *turning[2:], *turning, *turning)
            assert told["enough"] and told["frames"] == 36 and 0 < told["share"] < 1 and not told["done"]
            await line.send(json.dumps({"finish": True}))
            return str((await said(line))["job"])

    job = asyncio.run(record_it())
    (kept,) = door.kept()
    frames = list(read_video(door.root / "uploads" / kept))
    assert kept == "eileen-c.mp4" and len(frames) == 36 and frames[0].image.shape == (240, 320, 3)
    assert (np.diff([frame.time for frame in frames]) > 0.01).all(), "as they came"
    first = cv2.imdecode(np.frombuffer(turning[0], np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(frames[0].image.astype(int) - first).mean() < 3
    metadata = read_metadata(door.root / "uploads" / kept)
    assert metadata["title"] == "Eileen C." and CONSENT in metadata["comment"]
    made = httpx.get(f"{door.address}/api/made", params={"job": job}, headers=door.headers).json()
    assert made["face"] is None and "A face of Eileen C." in made["html"]
    imported, trained, _ = Job(door.root / "jobs" / job).about["commands"]
    assert imported[:2] == ["dataset", "recording"] and imported[-2:] == [metadata["comment"], "--widen"]
    assert trained[:4] == ["train", imported[2], "--from", "starter"]


def test_nothing_is_recorded_without_consent(door: Door, turning: list[bytes]) -> None:
    without: list[str | bytes] = [
        turning[0], "", "[1]", '{"name": "Eileen"}', '{"name": "Eileen", "consent": false}',
        '{"name": "Eileen", "consent": "true"}', '{"name": "  ", "consent": true}', '{"consent": true}',
        json.dumps({"name": "E" * 41, "consent": True}), json.dumps({"name": "a\nb", "consent": True}),
    ]  # fmt: skip

    async def ask() -> None:
        for begin in without:
            async with door.line() as line:
                await line.send(begin)
                assert "tick that you agree" in (await said(line))["error"], begin
                with pytest.raises(websockets.ConnectionClosed):
                    await shown(line, *turning)

    asyncio.run(ask())
    assert door.kept() == [] and not list((door.root / "jobs").glob("*"))


def test_of_a_page_that_is_closed_in_the_middle_nothing_stays(door: Door, turning: list[bytes]) -> None:
    async def leave() -> None:
        async with door.line() as line:
            await line.send(AGREED)
            await said(line)
            await shown(line, *turning)
            assert len(door.kept()) == 1 and ".partial" in door.kept()[0]
        await asyncio.wait_for(until(lambda: door.kept() == []), 10)
        async with door.line() as line:  # and another one can begin
            await line.send(AGREED)
            assert "maps" in await said(line)

    asyncio.run(leave())


def test_of_a_page_that_falls_silent_nothing_stays(
    door: Door, turning: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "_SILENT", 0.3)

    async def sleep() -> None:
        async with door.line() as line:
            await line.send(AGREED)
            await said(line)
            await shown(line, turning[0])
            assert "no picture came" in (await said(line))["error"]

    asyncio.run(sleep())
    assert door.kept() == []


def test_of_two_pages_one_records(door: Door, turning: list[bytes]) -> None:
    async def both() -> None:
        async with door.line() as one, door.line() as other:
            await one.send(AGREED)
            await said(one)
            await other.send(AGREED)
            assert (await said(other))["error"].startswith("another page is recording")
            assert (await shown(one, turning[0]))["frames"] == 1

    asyncio.run(both())


def test_what_a_killed_server_left_is_removed(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    ours = temporary_beside(tmp_path / "uploads" / "eileen.mp4")
    gone = ours.with_name(ours.name.replace(f".{os.getpid()}-", ".4194999-"))
    for file in (ours, gone):
        file.write_bytes(b"half of a recording")
    Recorder(LiveServer(workspace))
    assert ours.exists() and not gone.exists(), "what another server is writing stays"


def test_only_the_page_that_records_may_use_the_camera(door: Door) -> None:
    page = httpx.get(f"{door.address}/record", headers=door.headers)
    assert page.status_code == 200 and CONSENT in page.text
    assert "camera=(self)" in page.headers["Permissions-Policy"]
    assert "default-src 'none'; script-src 'self'" in page.headers["Content-Security-Policy"]
    for other in ("own/record.js", "own/cockpit.js", "api/faces"):
        answer = httpx.get(f"{door.address}/{other}", headers=door.headers)
        assert answer.status_code == 200 and "camera=()" in answer.headers["Permissions-Policy"]
    for path in ("record", "record?token=wrong", "api/made?job=x"):
        assert httpx.get(f"{door.address}/{path}").status_code == 401
    let_in = httpx.get(f"{door.address}/record?token={door.token}")
    assert "url=/record" in let_in.text and "HttpOnly" in let_in.headers["Set-Cookie"]
    assert httpx.get(f"{door.address}/api/made?job=../x", headers=door.headers).status_code == 404

    async def from_elsewhere() -> None:
        async with websockets.connect(
            f"{door.address.replace('http', 'ws')}/camera",
            additional_headers=door.headers,
            origin=websockets.Origin("http://evil.example"),
        ):
            pass

    with pytest.raises(websockets.InvalidStatus, match="403"):
        asyncio.run(from_elsewhere())


def test_a_frame_of_a_camera_is_a_jpeg_or_a_webp(portrait: Image) -> None:
    for suffix in (".jpg", ".webp"):
        content = cv2.imencode(suffix, portrait[..., ::-1])[1].tobytes()
        assert np.abs(camera_frame(content).astype(int) - portrait).mean() < 5
    with pytest.raises(DmsynthError, match="no JPEG or WebP"):
        camera_frame(cv2.imencode(".png", portrait)[1].tobytes())
    with pytest.raises(DmsynthError, match="2000×2000 pixels are too many"):
        camera_frame(jpeg(np.zeros((2000, 2000), np.uint8)))


# ------------------------------------------------------------------------------------------------- the page


def camera_of(frames: list[bytes], file: Path) -> tuple[str, ...]:
    """What makes Chromium take a file of JPEGs, 30 a second, over and over, for its camera."""
    file.write_bytes(b"".join(frames))
    fakes = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")
    return (*fakes, f"--use-file-for-fake-video-capture={file}")


def wait_until(page: Any, true: str, seconds: float = 20) -> None:
    """Wait for an expression of JavaScript. The page's policy has none evaluated in it, so it is asked from outside."""
    ends = time.monotonic() + seconds
    while not page.evaluate(true):
        assert time.monotonic() < ends, f"{true}; the page says: {page.inner_text('main')}"
        page.wait_for_timeout(50)


def begin(page: Any, address: str) -> None:
    page.goto(address)
    page.get_by_label("Name").fill("Eileen")
    page.locator("#consent").check()
    page.get_by_role("button", name="Start").click()


@pytest.mark.slow
def test_the_page_shows_what_is_missing_and_a_face_is_begun(door: Door, turning: list[bytes], tmp_path: Path) -> None:
    each = [frame for frame in turning for _ in range(3)]
    way_in = f"{door.address}/record?token={door.token}"
    with opened_browser(*camera_of(each, tmp_path / "camera.mjpeg")) as browser:
        with browser_page(browser) as page:
            hindered: list[str] = []
            page.on("console", lambda told: hindered.append(told.text))
            page.goto(way_in)
            page.get_by_role("button", name="Start").click()
            assert page.evaluate(RECORDING) is None, "neither name nor consent"
            begin(page, way_in)
            wait_until(page, f"{RECORDING}?.painted > 9")
            assert page.locator("#say").inner_text().startswith("Turn your head")
            page.get_by_role("button", name="Cancel").click()
            assert page.get_by_role("alert").inner_text() == "Cancelled; nothing was kept."
            page.get_by_role("button", name="Start").click()
            wait_until(page, "!document.querySelector('#finish').disabled")
            assert page.evaluate("document.querySelector('#share').value") > 0.02
            drawn = "document.querySelector('#head').getContext('2d').getImageData(0, 0, 300, 200).data"
            assert page.evaluate(f"new Set({drawn}).size") > 20, "a map"
            page.get_by_role("button", name="Finish").click()
            wait_until(page, "document.querySelector('#job').innerText.includes('A face of Eileen')")
            assert page.evaluate("document.querySelector('#video').srcObject.active") is False, "its light is out"
        assert [text for text in hindered if "Security Policy" in text or "Permissions" in text] == []
    assert door.kept() == ["eileen.mp4"]


def test_a_refused_camera_is_a_sentence(door: Door) -> None:
    with browser_page() as page:  # nobody is asked in this browser: what it has not, it refuses
        begin(page, f"{door.address}/record?token={door.token}")
        wait_until(page, "document.querySelector('#wrong').innerText !== ''")
        sentence = page.get_by_role("alert").inner_text()
        assert sentence.endswith("then press Start again.") and "\n" not in sentence
        assert page.get_by_role("button", name="Start").is_visible()
    assert door.kept() == []


def all_around(posed: PosedPhoto) -> list[bytes]:
    """The portrait, turning to all sides and looking about, for a camera of 30 frames a second."""
    frames = [jpeg(posed.pose(0, 0, 0))] * 20
    for number, pitch in enumerate((0, 9, 18, -9, -17)):
        for yaw in np.linspace(-33, 33, 34)[:: 1 if number % 2 else -1]:
            frames += [jpeg(posed.pose(pitch, yaw, 0))] * 3
    for roll in (-14, -7, 0, 7, 14):
        frames += [jpeg(posed.pose(0, 0, roll))] * 18
    for gaze_pitch in (-24, 0, 24):
        for gaze_yaw in (-26, 0, 26):
            frames += [jpeg(posed.pose(0, 0, 0, eyes=Eyes(gaze_pitch, gaze_yaw)))] * 18
    return frames


@pytest.mark.slow
def test_from_sitting_down_to_a_face_that_is_steered(tmp_path: Path, posed: PosedPhoto) -> None:
    camera = camera_of(all_around(posed), tmp_path / "camera.mjpeg")
    with (
        running_cockpit(tmp_path / "work", door="record") as cockpit,
        opened_browser(*camera) as browser,
        browser_page(browser) as page,
    ):
        begun = time.monotonic()
        begin(page, cockpit.way_in)
        wait_until(page, f"{RECORDING}?.job !== undefined", 150)
        print(f"recorded in {time.monotonic() - begun:.0f} s")  # noqa: T201
        assert page.evaluate("document.querySelector('#share').value") > 0.9
        page.wait_for_selector("#steer:visible", timeout=900_000)
        wait_until(page, "document.querySelector('#portrait').naturalWidth > 20")
        page.locator("#steer").click()
        face = "window.dmsynthCockpit?.steer?.steerer"
        page.wait_for_function(f"{face}?.face.name === 'eileen' && {face}.painted.length > 0", timeout=60_000)
        print(f"steered after {time.monotonic() - begun:.0f} s")  # noqa: T201
        assert page.locator('.cockpit-drivers button[data-name="eileen"]').get_attribute("aria-pressed") == "true"
        page.get_by_role("link", name="Record yourself …").click()
        page.wait_for_url("**/record")
    assert CONSENT in (tmp_path / "work" / "datasets" / "eileen" / "manifest.json").read_text("utf-8")
