"""A face in a page without a server, opened in a real browser."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest

from commands import dmsynth, fails
from conftest import browser_page
from dmsynth.controls import EYES
from dmsynth.datasets.dataset import Dataset
from dmsynth.learning.training import train
from dmsynth.steering import load_face, with_features
from dmsynth.steering.export import export_halves
from dmsynth.support.errors import DmsynthError
from dmsynth.trackers import Tracker, face_columns
from dmsynth.video.portrait import PORTRAIT_CONSENT
from dmsynth.web import runtime
from dmsynth.web.static import export_web


@pytest.fixture(scope="module")
def page_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The starter face as a page; skipped where the browser's runtime was not fetched."""
    try:
        runtime.runtime_files()
    except DmsynthError as error:
        pytest.skip(str(error))
    return export_web(
        with_features(load_face(Path("starter"))), tmp_path_factory.mktemp("web") / "page", "starter"
    ).parent


@pytest.fixture
def page(page_folder: Path) -> Iterator[Any]:
    """The page in Chromium, opened from disk: no server, and nothing loaded from anywhere else."""
    with browser_page() as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto((page_folder / "index.html").as_uri())
        page.wait_for_selector(".steerer-canvas", timeout=60_000)
        page.wait_for_function("window.steerer && steerer.painted.length > 0", timeout=60_000)
        yield page
        assert [url for url in asked if not url.startswith(("file:", "blob:null/", "data:"))] == []


@pytest.mark.parametrize("model", ["swapwarp", "rotation"])
def test_two_halves_draw_the_same_pixels(tmp_path: Path, photo_dataset: Dataset, model: str) -> None:
    face = load_face(train(photo_dataset, tmp_path / "run", model, base_channels=4, steps=20))
    export_halves(face, tmp_path / "encode.onnx", tmp_path / "steer.onnx")
    encode, steer = (onnxruntime.InferenceSession(tmp_path / f"{half}.onnx") for half in ("encode", "steer"))
    frame = np.array(photo_dataset.frames[5])
    code = face.encoded_controls(frame)
    feeds = {"images": face.to_network(frame).numpy(), "code": face.trained.space.encode(code)[None]}
    wanted = {name.name for name in encode.get_inputs()}
    parts = dict(
        zip(
            [part.name for part in encode.get_outputs()],
            encode.run(None, {name: value for name, value in feeds.items() if name in wanted}),
            strict=True,
        )
    )
    for pose in ([0.0, 0.0, 0.0], [5.0, 15.0, -4.0]):
        values = np.array([pose])
        given = parts | {"code": face.trained.space.encode(values)}
        (image,) = steer.run(None, {part.name: given[part.name] for part in steer.get_inputs()})
        ours = next(face.frames(values, frame))
        assert np.abs(np.round(image[0, 0] * 255) - ours).max() <= 2


def test_a_page_names_nothing_outside(page_folder: Path, tmp_path: Path) -> None:
    names = {path.name for path in page_folder.iterdir()}
    assert names == {
        "index.html", "steerer.js", "steerer.css", "static.js", "face.js", "runtime.js", "ort.js", "dmsynth-face.json",
    }  # fmt: skip
    assert sum(path.stat().st_size for path in page_folder.iterdir()) < 40e6, "it can be mailed"
    for name in ("index.html", "steerer.js", "steerer.css", "static.js"):
        assert not re.search(r"https?://|//cdn", (page_folder / name).read_text("utf-8")), name
    page = (page_folder / "index.html").read_text("utf-8")
    assert "Synthetic: no recording" in page and f"Consent: {PORTRAIT_CONSENT}" in page
    again = tmp_path / "page"
    shutil.copytree(page_folder, again)
    export_web(load_face(Path("starter")).from_one_source(), again, "starter")  # an earlier export is replaced
    assert {path.name for path in again.iterdir()} == names


def test_the_browser_draws_what_we_draw(page: Any) -> None:
    face = with_features(load_face(Path("starter"))).as_learned()
    codes = face.trained.source_codes
    for pose in ([0.0, 0.0, 0.0], [8.0, -20.0, 5.0], [-10.0, 25.0, -8.0]):
        drawn = page.evaluate(
            "async (pose) => { face.source = undefined; const d = await face.pixels(pose);"
            " return {source: d.source, pixels: Array.from(d.pixels)}; }",
            face.trained.space.whole(np.array([pose]))[0].tolist(),
        )
        values = face.trained.space.whole(np.array([pose]))
        alike = face.trained.space.comparable
        best = np.square(alike(codes) - alike(face.trained.space.encode(values))).sum(axis=1).argmin()
        assert drawn["source"] == best, "the source frame that suits the pose"
        ours = next(face.frames(values))
        theirs = np.round(255 * np.array(drawn["pixels"])).reshape(ours.shape)
        assert np.abs(theirs - ours).max() <= 3


def test_eyes_move_in_the_browser(page: Any, tracker: Tracker) -> None:
    face = with_features(load_face(Path("starter"))).from_one_source().as_learned()
    lids = []
    for eyes in (
        {},
        {"gaze_yaw": 17.0, "gaze_pitch": -6.0},
        {"eye_opening": 0.0},
        {"eye_opening_left": 0.1},
        {"mouth_opening": 0.5},
        {"brow_raise": -0.6, "gaze_yaw": 5.0},
    ):
        row = face.trained.space.row({"yaw": 6.0, **eyes})
        drawn = page.evaluate(
            "async (row) => { const d = await face.pixels(row);"
            " return {source: d.source, pixels: Array.from(d.pixels)}; }",
            row,
        )
        theirs = np.round(255 * np.array(drawn["pixels"])).reshape(face.size[::-1]).clip(0, 255)
        if eyes:
            assert drawn["source"] == 0, "the frame whose eyes the page has"
            off = np.abs(theirs - next(face.frames(np.array([row]))))
            assert off.mean() < 0.5 and np.quantile(off, 0.999) < 8, (eyes, "but for what lies between baked pictures")
        (seen,) = tracker(cv2.resize(theirs.astype(np.uint8), None, fx=2, fy=2))
        lids.append([face_columns(seen)[name] for name in EYES[2:]])
    rest, _, both, left, talks, _ = np.array(lids)
    assert np.abs(talks - rest).max() < 0.25, "the eyes stay open"
    assert (both < 0.5 * rest).all() and left[0] < 0.6 * rest[0] and left[1] > 0.8 * rest[1]
    assert page.locator(".steerer-pad").count() == 2 and page.locator(".steerer-blink").is_visible()


def test_sliders_pad_and_keys_turn_the_head(page: Any, tracker: Tracker) -> None:
    def values() -> list[float]:
        head, eyes = (page.evaluate(f"steerer.values.slice({part})") for part in ("0, 3", "3"))
        assert eyes == [0, 0, 1, 1, 0, 0]
        return list(head)

    def tracked_yaw() -> float:
        """What the real tracker reads in the picture on the page."""
        png = base64.b64decode(page.evaluate("steerer.canvas.toDataURL('image/png')").partition(",")[2])
        (seen,) = tracker(np.asarray(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_GRAYSCALE)))
        return seen.pose["yaw"]

    def settled() -> None:
        page.wait_for_function("!steerer.busy")

    yaw = page.get_by_label("yaw in degrees", exact=True)
    yaw.fill("20")
    settled()
    assert tracked_yaw() == pytest.approx(20, abs=3)
    yaw.fill("-20")
    settled()
    assert tracked_yaw() == pytest.approx(-20, abs=3)
    assert values() == [0, -20, 0]

    pad = page.locator(".steerer-pad").first
    pad.focus()
    page.keyboard.press("Home")
    for key in ("ArrowRight", "ArrowRight", "ArrowUp", "Shift+ArrowRight"):
        page.keyboard.press(key)
    assert values() == [1, 2, 1]
    box = pad.bounding_box()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"])
    page.mouse.wheel(0, -100)
    page.wait_for_function("steerer.values[2] === 2")
    page.mouse.down()
    page.mouse.move(box["x"] + 0.97 * box["width"], box["y"] + 0.03 * box["height"], steps=4)
    page.mouse.up()
    settled()
    pitch, yaw_now, _ = values()
    assert pitch > 20 and yaw_now > 30
    assert "Outside the training coverage" in page.get_by_role("status").inner_text()
    page.get_by_role("button", name="Look straight ahead").click()
    settled()
    assert values() == [0, 0, 0] and "Inside the training coverage" in page.get_by_role("status").inner_text()


def test_it_is_fast_enough_to_follow_a_hand(page: Any) -> None:
    measured = page.evaluate("bench(30)")
    assert measured["threads"] == 1, "a page from disk has no threads"
    assert measured["rate"] > 8, "a loaded machine included; docs/web-page.md says how fast it is on a quiet one"


def test_what_is_no_page_is_refused(tmp_path: Path, face_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    assert "holds something else" in fails(dmsynth("export", face_file, "--web", tmp_path / "mine"))
    assert json.dumps(["letter.txt"]) == json.dumps([path.name for path in (tmp_path / "mine").iterdir()])
    assert "give either --out FILE.onnx or --web DIR" in fails(dmsynth("export", face_file))
    monkeypatch.setattr(runtime, "FOLDER", tmp_path / "nowhere")
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(DmsynthError, match=r"onnxruntime-web, .* is fetched with npm; install npm"):
        export_web(load_face(face_file), tmp_path / "page", "x")
