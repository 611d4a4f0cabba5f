"""The cockpit, as a person uses it in a real browser, and as somebody who means harm would."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import statistics
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import cv2
import httpx
import numpy as np
import pandas as pd
import pytest
import websockets
from websockets.exceptions import InvalidStatus

from cockpit_server import Cockpit, running_cockpit
from commands import dmsynth, fails
from conftest import browser_page, opened_browser
from dmsynth.cockpit.jobs import find_jobs
from dmsynth.cockpit.live import LiveServer
from dmsynth.cockpit.trajectory import motions_of, rows_of
from dmsynth.cockpit.workspace import Workspace
from dmsynth.controls import CONTROL_SPACES, HEAD
from dmsynth.learning.face_file import read_face, save_cast
from dmsynth.motion.trajectory import Motion, Trajectory, as_sweeps, from_pad, in_words, parse_motions
from dmsynth.report.figures import motion_curves
from dmsynth.steering import load_face
from dmsynth.support.errors import DmsynthError
from dmsynth.support.table_files import read_table
from dmsynth.trackers import Tracker, face_columns
from dmsynth.validation.scenario_files import read_scenario, write_scenario
from dmsynth.video import Image, VideoWriter, read_video, write_image
from dmsynth.video.pictures import read_image

T = TypeVar("T")
STEER = "window.dmsynthCockpit.steer.steerer"


SHORT = ("a-look-left", "a-look-down")  # scenarios of a second, in the cockpit's workspace


@pytest.fixture(scope="module")
def cockpit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cockpit]:
    work = tmp_path_factory.mktemp("cockpit") / "work"
    (work / "scenarios").mkdir(parents=True)
    for name, pose in zip(SHORT, ({"yaw": 20.0}, {"pitch": -8.0}), strict=True):
        write_scenario(work / "scenarios" / f"{name}.yaml", name, [Motion("move", 1.0, pose)], 20)
    with running_cockpit(work, "--dms", "mine=my-dms {video}") as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with opened_browser() as browser:
        yield browser


@pytest.fixture
def client(cockpit: Cockpit) -> Iterator[httpx.Client]:
    with cockpit.client() as client:
        yield client


@pytest.fixture
def page(cockpit: Cockpit, browser: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The page, with the starter face on it. No request leaves this machine, and the page's policy hinders nothing."""
    with browser_page(browser) as page:
        asked: list[str] = []
        hindered: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda said: hindered.append(said.text))
        page.goto(cockpit.way_in)
        page.wait_for_selector("#cockpit-steer .steerer-canvas", timeout=30_000)
        page.wait_for_function(f"{STEER}.painted.length > 0")
        assert "token" not in page.url
        yield page
        ours = (cockpit.address, cockpit.address.replace("http", "ws"), "data:", "blob:", "about:")
        assert [url for url in asked if not url.startswith(ours)] == []
        if request.function is not test_nothing_in_a_title_is_loaded:
            assert [text for text in hindered if "Security Policy" in text] == []


def in_a_loop(work: Coroutine[Any, Any, T]) -> T:
    """What the work comes to, in a thread of its own: in this one, Playwright has a loop already."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def open_tab(page: Any, name: str) -> None:
    page.get_by_role("tab", name=name).click()


def picture(page: Any) -> Image:
    png = base64.b64decode(page.evaluate(f"{STEER}.canvas.toDataURL('image/png')").partition(",")[2])
    return np.asarray(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_GRAYSCALE))


def choose(page: Any, elem_id: str, choice: str) -> None:
    """Pick an entry of one of Gradio's dropdowns."""
    page.locator(f"#{elem_id} input").click()
    page.get_by_role("option", name=choice, exact=True).first.click()


# ------------------------------------------------------------------------------------------------- steering


def test_it_is_there_within_seconds(cockpit: Cockpit) -> None:
    print(f"{cockpit.seconds:.1f} s from the command to the page's address")  # noqa: T201
    assert cockpit.seconds < 45, "five on a quiet machine (docs/cockpit.md)"


def _reading(control: str, column: int) -> str:
    """JavaScript: what the table beside the picture says of a control, commanded (1) and read by the tracker (2)."""
    rows = "[...document.querySelectorAll('#cockpit-steer tr')]"
    return f"{rows}.find((row) => row.cells[0]?.textContent === '{control}')?.cells[{column}].textContent"


def test_sliders_pad_and_keys_turn_the_head(page: Any, tracker: Tracker) -> None:
    yaw = page.get_by_label("yaw in degrees", exact=True)
    for wanted in (20, -20):
        yaw.fill(str(wanted))
        page.wait_for_function(f"!{STEER}.busy")
        (seen,) = tracker(picture(page))
        assert seen.pose["yaw"] == pytest.approx(wanted, abs=3)
    page.wait_for_function(f"parseFloat({_reading('yaw', 2)}) < -15", timeout=30_000)
    assert page.evaluate(_reading("yaw", 1)) == "-20.0"
    pad = page.locator("#cockpit-steer .steerer-pad").first
    pad.focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowUp")
    assert page.evaluate(f"{STEER}.values") == [0, 1, 1, 0, 0, 1, 1, 0, 0]
    box = pad.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.98 * box["width"], box["y"] + 0.02 * box["height"], steps=6)
    page.mouse.up()
    status = page.locator("#cockpit-steer .steerer-status")
    assert "Outside the training coverage" in status.inner_text()


def test_pictures_follow_a_dragging_hand(page: Any) -> None:
    box = page.locator("#cockpit-steer .steerer-pad").first.bounding_box()
    page.evaluate(f"{STEER}.latencies.length = 0")
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    begun = time.monotonic()
    while (now := time.monotonic() - begun) < 2:
        x, y = 0.5 + 0.3 * np.sin(2 * now), 0.5 + 0.25 * np.cos(2 * now)
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
    page.mouse.up()
    latencies = page.evaluate(f"{STEER}.latencies")
    print(f"{len(latencies) / 2:.0f} pictures a second, median {statistics.median(latencies):.0f} ms")  # noqa: T201
    assert len(latencies) > 2 * 8 and statistics.median(latencies) < 250, (
        "on a loaded machine; docs/cockpit.md: a quiet one"
    )


def test_a_source_of_ones_own_and_another_face_beside(page: Any, tmp_path: Path, portrait: Image) -> None:
    write_image(tmp_path / "me.png", cv2.flip(portrait, 1))
    before = picture(page)
    page.set_input_files("#cockpit-bring", tmp_path / "me.png")
    page.wait_for_function("document.querySelectorAll('.cockpit-sources img').length > 14")
    page.wait_for_function(f"!{STEER}.busy")
    assert np.abs(picture(page).astype(int) - before).mean() > 5
    page.get_by_label("Side by side with").select_option("starter")
    page.wait_for_selector(".cockpit-beside canvas")
    (tmp_path / "me.png").write_bytes(b"\x7fELF" + bytes(5000))
    page.set_input_files("#cockpit-bring", tmp_path / "me.png")
    page.wait_for_function("document.querySelector('.cockpit-message').textContent.includes('neither a picture')")


def test_a_driver_is_chosen_by_portrait(page: Any) -> None:
    drivers = page.locator(".cockpit-drivers button")
    page.wait_for_function("document.querySelectorAll('.cockpit-drivers img').length > 1")
    page.wait_for_function("[...document.querySelectorAll('.cockpit-drivers img')].every((each) => each.naturalWidth)")
    assert drivers.nth(0).get_attribute("aria-pressed") == "true"
    other = page.locator('.cockpit-drivers button[data-name="posed:portrait"]')
    other.click()
    page.wait_for_function(f"{STEER}?.face?.name === 'posed:portrait'", timeout=60_000)
    assert page.locator(".cockpit-face").input_value() == "posed:portrait"
    assert (other.get_attribute("aria-pressed"), drivers.nth(0).get_attribute("aria-pressed")) == ("true", "false")


def test_two_pages_do_not_mix(page: Any, cockpit: Cockpit) -> None:
    other = page.context.browser.new_context().new_page()
    other.goto(cockpit.way_in)
    other.wait_for_function("window.dmsynthCockpit?.steer?.steerer?.painted.length > 0", timeout=30_000)
    page.get_by_label("yaw in degrees", exact=True).fill("22")
    other.get_by_label("yaw in degrees", exact=True).fill("-22")
    for each in (page, other):
        each.wait_for_function(f"!{STEER}.busy")
    one, two = picture(page), picture(other)
    page.get_by_label("roll in degrees", exact=True).fill("0.1")  # drawn once more
    page.wait_for_function(f"!{STEER}.busy")
    assert np.abs(picture(page).astype(int) - one).mean() < np.abs(two.astype(int) - one).mean() / 3
    other.close()


# ------------------------------------------------------------------------------------------------- trajectory


def test_recordings_become_few_sweeps() -> None:
    times = np.arange(0, 4, 0.04)
    values = np.stack([0 * times, 20 * np.sin(1.5 * times), 0 * times], axis=1)
    names = ("pitch", "yaw", "roll")
    sweeps = as_sweeps(Trajectory(names, times, values), tolerance=0.5)
    assert len(sweeps) < 20
    again = parse_motions(in_words(sweeps), names, 25)
    assert np.abs(np.interp(times + 0.2, again.times, again["yaw"]) - values[:, 1]).max() < 1


def test_motions_are_kept_as_a_scenario_and_read_back(tmp_path: Path) -> None:
    motions = [Motion("move", 1.0, {"yaw": 20.0}), Motion("hold", 0.5, {}), Motion("sweep", 2.0, {"pitch": -5.0})]
    scenario = read_scenario(write_scenario(tmp_path / "look-aside.yaml", "Look aside", motions, 25))
    assert scenario.motions() == motions and scenario.windows == []
    ours = parse_motions(in_words(motions), ("pitch", "yaw", "roll"), 25)
    assert np.allclose(scenario.trajectory().values, ours.values)


@pytest.mark.slow
def test_a_motion_is_drawn_played_recorded_kept_and_rendered(page: Any, cockpit: Cockpit) -> None:
    open_tab(page, "Trajectory")
    page.wait_for_function("window.dmsynthCockpit.trajectory?.steerer?.painted.length > 0", timeout=30_000)
    page.locator("#cockpit-draw").click()
    page.wait_for_function("window.dmsynthCockpit.trajectory.steerer.values[1] > 20", timeout=30_000)
    page.get_by_label("Name").first.fill("A look about")
    page.get_by_role("button", name="Save as a scenario").click()
    kept = cockpit.root / "scenarios" / "a-look-about.yaml"
    page.wait_for_function("document.body.innerText.includes('a-look-about')")
    assert read_scenario(kept).seconds == pytest.approx(4)
    page.locator("#cockpit-render").click()
    out = cockpit.root / "videos" / "a-look-about.mp4"
    page.wait_for_selector("video", timeout=90_000)
    frames = [frame.image for frame in read_video(out)]
    table = read_table(out.with_suffix(".parquet"))
    assert len(frames) == len(table) == 101 and table["yaw"].max() == 25
    assert json.loads(out.with_suffix(".provenance.json").read_text())["synthetic"] is True

    page.locator("#cockpit-record").click()
    box = page.locator("#cockpit-trajectory .steerer-pad").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    for share in np.linspace(0.5, 0.8, 12):
        page.mouse.move(box["x"] + share * box["width"], box["y"] + box["height"] / 2)
        page.wait_for_timeout(40)
    page.mouse.up()
    page.locator("#cockpit-stop").click()
    page.wait_for_function("document.querySelector('#cockpit-moves').innerText.includes('sweep')")


def test_what_is_wrong_is_a_sentence(page: Any, tmp_path: Path) -> None:
    open_tab(page, "Trajectory")
    page.get_by_label("Name").first.fill("???")
    page.get_by_role("button", name="Save as a scenario").click()
    page.wait_for_function("document.body.innerText.includes('give it a name of letters and digits')", timeout=20_000)
    bad = tmp_path / "mine.yaml"
    bad.write_text("name: mine\ntitle: T\nsource: s\nspeed: 900\nmoves: [{hold: 1}]\n")
    page.set_input_files("#cockpit-scenario-file input[type=file]", bad)
    page.wait_for_function("document.body.innerText.includes('mine.yaml, line 4: speed')", timeout=20_000)
    choose(page, "cockpit-known", "pose-yaw")
    page.wait_for_function("document.body.innerText.includes('sweep')", timeout=20_000)
    assert "Traceback" not in page.inner_text("body")


# ------------------------------------------------------------------------------------------------- a photo, its eyes


def painted(page: Any, script: str = STEER) -> None:
    """Wait until the picture that was asked for last is there."""
    page.wait_for_function(f"!{script}.busy")


def in_colour(page: Any, canvas: str = f"{STEER}.canvas") -> Image:
    png = base64.b64decode(page.evaluate(f"{canvas}.toDataURL('image/png')").partition(",")[2])
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def eyes_in(image: Image, tracker: Tracker) -> dict[str, float]:
    (seen,) = tracker(image)
    return face_columns(seen)


def steer_face(page: Any, name: str) -> None:
    page.get_by_label("Face", exact=True).select_option(name)
    page.wait_for_function(f"{STEER}.face.name === '{name}' && {STEER}.painted.length > 0", timeout=60_000)
    painted(page)


def test_the_eye_pad_moves_the_gaze_and_the_lids_close(page: Any, tracker: Tracker) -> None:
    assert page.locator("#cockpit-steer .steerer-pad").count() == 2, "the starter's eyes move, too"
    steer_face(page, "posed:portrait")
    assert picture(page).shape == (480, 640)
    rest = eyes_in(in_colour(page), tracker)
    pad = page.locator("#cockpit-steer .steerer-pad").last
    box = pad.bounding_box()
    gazes = []
    for share in (0.25, 0.75):
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.down()
        page.mouse.move(box["x"] + share * box["width"], box["y"] + box["height"] / 2, steps=4)
        page.mouse.up()
        painted(page)
        seen = eyes_in(in_colour(page), tracker)
        assert seen["yaw"] == pytest.approx(rest["yaw"], abs=2), "the head stays"
        gazes.append(seen["gaze_yaw"])
    assert gazes[0] < rest["gaze_yaw"] - 5 and gazes[1] > rest["gaze_yaw"] + 5
    page.wait_for_function(
        "parseFloat(document.querySelectorAll('.cockpit-tracked-value')[4].textContent) > 5", timeout=30_000
    )  # from this person's rest, beside the command
    assert float(page.locator(".cockpit-commanded-value").nth(4).inner_text()) > 15
    status = page.locator("#cockpit-steer .steerer-status")
    assert "Inside the range in which a posed frame looks natural" in status.inner_text()
    page.get_by_label("gaze yaw in degrees").fill("38")
    assert "Outside" in status.inner_text()
    pad.focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert page.evaluate(f"{STEER}.values") == [0, 0, 0, 0, 1, 1, 1, 0, 0]

    page.keyboard.press("Home")
    page.get_by_label("eye opening in parts of rest", exact=True).fill("0")
    painted(page)
    closed = eyes_in(in_colour(page), tracker)
    for side in ("left", "right"):
        assert closed[f"eye_opening_{side}"] < 0.5 * rest[f"eye_opening_{side}"]
    page.wait_for_function(
        "parseFloat(document.querySelectorAll('.cockpit-tracked-value')[5].textContent) < 0.5", timeout=30_000
    )


def test_a_blink_closes_the_eyes_and_opens_them(page: Any, tracker: Tracker) -> None:
    steer_face(page, "posed:portrait")
    rest = eyes_in(in_colour(page), tracker)
    page.evaluate(
        f"""() => {{
          window.blinks = [];
          const canvas = {STEER}.canvas;
          {STEER}.listeners.push((values, _, when) => window.blinks.push([when, values[5]]));
          {STEER}.root.addEventListener("painted", ({{ detail }}) => {{
            if (detail[5] < (window.least?.opening ?? 1)) {{
              const copy = document.createElement("canvas");
              [copy.width, copy.height] = [canvas.width, canvas.height];
              copy.getContext("2d").drawImage(canvas, 0, 0);
              window.least = {{ opening: detail[5], canvas: copy }};
            }}
          }});
        }}"""
    )
    for _ in range(3):  # half a second may be too short for a picture on a loaded machine
        page.get_by_role("button", name="Blink").click()
        page.wait_for_function(f"!{STEER}.blinking && !{STEER}.busy")
        if page.evaluate("(window.least?.opening ?? 1) < 0.01"):
            break
    closed = eyes_in(in_colour(page, "window.least.canvas"), tracker)
    for side in ("left", "right"):
        assert closed[f"eye_opening_{side}"] < 0.5 * rest[f"eye_opening_{side}"]
    assert page.evaluate(f"{STEER}.values.slice(5)") == [1, 1, 0, 0], "open as before"
    times = page.evaluate("window.blinks.map(([when]) => when)")
    assert times[-1] - times[0] > 290, "milliseconds"


def test_a_photo_becomes_a_face_without_training(
    page: Any, cockpit: Cockpit, client: httpx.Client, tmp_path: Path, portrait: Image
) -> None:
    write_image(tmp_path / "Anna B.png", cv2.flip(portrait, 1))
    page.set_input_files("#cockpit-photo", tmp_path / "Anna B.png")
    page.wait_for_function(f"{STEER}.face.name.startsWith('posed:anna-b-')", timeout=60_000)
    name = page.evaluate(f"{STEER}.face.name")
    painted(page)
    assert picture(page).shape == (480, 640)
    assert page.locator(".cockpit-sources").is_hidden() and page.locator("#cockpit-bring").is_hidden()
    assert name in client.get("/api/faces").json() and (cockpit.root / "uploads" / f"{name[6:]}.png").is_file()
    page.get_by_label("Side by side with").select_option("starter")  # which moves no eyes
    page.wait_for_selector(".cockpit-beside canvas")
    page.get_by_label("Side by side with").select_option("nothing")

    write_image(tmp_path / "wall.png", np.full((200, 200), 90, np.uint8))
    page.set_input_files("#cockpit-photo", tmp_path / "wall.png")
    page.wait_for_function("document.querySelector('.cockpit-message').textContent.includes('wall')", timeout=30_000)
    said = page.locator(".cockpit-message").inner_text()
    assert "give a portrait of one person" in said and str(cockpit.root) not in said
    assert not list((cockpit.root / "uploads").glob("wall*")), "nothing of it stays"
    refused = client.post("/api/photo", params={"name": "../../x"}, content=b"\x7fELF" + bytes(5000))
    assert refused.status_code == 422 and "Traceback" not in refused.text
    assert not list((cockpit.root / "uploads").glob(".brought-*"))


@pytest.mark.slow
def test_eyes_move_along_a_trajectory(page: Any, cockpit: Cockpit, tracker: Tracker) -> None:
    open_tab(page, "Trajectory")
    page.wait_for_function("window.dmsynthCockpit.trajectory?.steerer?.painted.length > 0", timeout=30_000)
    choose(page, "cockpit-motion-face", "posed:portrait")
    played = "window.dmsynthCockpit.trajectory.steerer"
    page.wait_for_function(f"{played}.face.name === 'posed:portrait' && {played}.painted.length > 0", timeout=60_000)
    page.get_by_label("Natural eyes").check()
    page.evaluate(
        f"() => {{ window.least = 1; {played}.listeners.push((v) => (window.least = Math.min(window.least, v[5]))); }}"
    )
    page.locator("#cockpit-draw").click()
    page.wait_for_function("window.least < 0.5", timeout=30_000)  # it blinks within the four seconds
    page.get_by_label("Name").first.fill("Eyes")
    page.locator("#cockpit-render").click()
    out = cockpit.root / "videos" / "eyes.mp4"
    page.wait_for_function("document.querySelector('video') !== null", timeout=120_000)
    table = read_table(out.with_suffix(".parquet"))
    assert table["gaze_yaw"].std() > 1 and table["eye_opening_left"].min() < 0.2


def test_eyes_in_the_table(tmp_path: Path) -> None:
    rows = [["move", None, None, None, "look_yaw=40 head_share=0.6", 1.0], ["hold", None, None, None, "", 0.5]]
    motions = motions_of(pd.DataFrame(rows))
    assert motions[0] == Motion("move", 1.0, {"look_yaw": 40.0, "head_share": 0.6})
    assert rows_of(motions) == rows
    for words in ("gaze_yaw", "gaze_yaw=x", "a;b=1"):
        with pytest.raises(DmsynthError, match="row 1: "):
            motions_of(pd.DataFrame([["move", 0, 0, 0, words, 1.0]]))
    moved = read_scenario(write_scenario(tmp_path / "look.yaml", "Look", motions, 25))
    assert moved.moves_eyes and moved.trajectory()["gaze_yaw"][-1] == pytest.approx(16, abs=1.5)


def test_a_recorded_pad_keeps_the_eyes_that_moved() -> None:
    space = CONTROL_SPACES["driver"]
    times = np.arange(0, 2, 0.04)
    taken = np.column_stack([times + 7, np.tile(space.row({}), (len(times), 1))])
    assert from_pad(taken, space).names == HEAD
    taken[:, 5] = 10 * np.sin(times)
    taken[:, 6:8] = np.interp(times, [1, 1.1, 1.3], [1, 0, 1])[:, None]
    motion = from_pad(taken, space)
    assert motion.names == (*HEAD, "gaze_yaw", "eye_opening") and motion.times[0] == 0
    again = parse_motions(in_words(as_sweeps(motion)), space.commands, 100, space.rest)
    lids = np.interp(times + 0.2, again.times, again["eye_opening"])
    assert np.abs(lids - taken[:, 6]).max() < 0.1, "an opening is not rounded like a degree"
    with pytest.raises(DmsynthError, match="nothing was recorded"):
        from_pad(taken[:1], space)
    with pytest.raises(DmsynthError, match="record it anew"):
        from_pad(taken[:, :4], space)


def test_the_chart_of_eyes_has_a_panel_for_openings(tmp_path: Path) -> None:
    space, times = CONTROL_SPACES["driver"], np.arange(50) / 25
    values = np.tile(space.row({"yaw": 20}), (50, 1))
    for name, winks in (("both", 0), ("one", 1)):
        values[10:20, 5] = 0.1
        values[10:20, 6] = 0.1 + 0.9 * winks
        motion_curves(times, values, np.ones(50, bool), space, tmp_path / f"{name}.png")
    one, head = tmp_path / "one.png", tmp_path / "head.png"
    motion_curves(times, values[:, :3], np.ones(50, bool), CONTROL_SPACES["rotation"], head)
    assert read_image(one).shape[0] > read_image(head).shape[0] > 100


# ------------------------------------------------------------------------------------------------- faces, DMSs


@pytest.mark.slow
def test_a_recording_becomes_a_face(page: Any, cockpit: Cockpit, face_video: Path) -> None:
    open_tab(page, "Faces")
    page.set_input_files("#cockpit-recordings input[type=file]", face_video)
    page.wait_for_function("document.querySelector('#cockpit-recordings').innerText.includes('turning')")
    page.get_by_label("Name").last.fill("Driver 12")
    page.get_by_role("button", name="Import", exact=True).click()
    page.wait_for_function("document.body.innerText.includes('Left out:')", timeout=180_000)
    text = page.inner_text("body")
    assert re.search(r"driver-12: \d+ frames of", text) and "train" in text and "Consent: none recorded" in text
    page.get_by_label("Seconds").fill("5")
    page.locator("#cockpit-train").click()
    page.wait_for_function("document.body.innerText.includes('training, step')", timeout=90_000)
    page.wait_for_function("document.body.innerText.includes('can be steered now')", timeout=240_000)
    for picture in ("#cockpit-preview img", "#cockpit-curves img"):
        page.wait_for_function(f"document.querySelector('{picture}')?.naturalWidth > 300")
    assert load_face(cockpit.root / "trainings" / "driver-12" / "face.safetensors").size[0] > 100
    open_tab(page, "Steer")
    page.get_by_label("Face", exact=True).focus()
    page.wait_for_function("[...document.querySelector('.cockpit-face').options].some((o) => o.value === 'driver-12')")
    page.get_by_label("Face", exact=True).select_option("driver-12")
    page.wait_for_function(f"{STEER}.face.name === 'driver-12' && {STEER}.painted.length > 0", timeout=30_000)


@pytest.mark.slow
def test_a_dms_is_validated_and_its_report_read(page: Any, cockpit: Cockpit) -> None:
    open_tab(page, "Validate")
    assert page.get_by_label("mine").is_visible(), "named at the start"
    choose(page, "cockpit-scenarios", SHORT[0])
    page.keyboard.press("Escape")
    choose(page, "cockpit-driver", "posed:portrait")  # beside the starter: a cast of two
    page.keyboard.press("Escape")
    page.locator("#cockpit-run").click()
    page.wait_for_function("document.body.innerText.includes('Validating reference on 1 scenario')", timeout=60_000)
    page.wait_for_selector("iframe.cockpit-report", timeout=240_000)
    name = page.locator("#cockpit-result input").input_value()
    results = json.loads((cockpit.root / "results" / name / "results.json").read_text())
    assert [person["name"] for person in results["persons"]] == ["starter", "portrait"], "a photo is a driver, too"
    assert len(results["scenarios"]) == 2
    report = page.frame_locator("iframe.cockpit-report")
    assert "reference" in report.locator("body").inner_text()
    # the report cannot reach the page around it
    with page.expect_download() as junit:
        page.get_by_role("link", name="JUnit").click()
    assert junit.value.path().read_bytes() == (cockpit.root / "results" / name / "junit.xml").read_bytes()
    assert page.locator("iframe.cockpit-report").get_attribute("sandbox") == "allow-popups"


@pytest.mark.slow
def test_a_training_outlives_the_server_and_is_found_again(tmp_path: Path, face_video: Path) -> None:
    root = tmp_path / "work"
    imported = dmsynth("dataset", "recording", root / "datasets" / "me", face_video, "--size", "96x80", "--no-widen")
    assert imported.returncode == 0, imported.stderr
    with running_cockpit(root) as first, browser_page() as page:
        page.goto(first.way_in)
        open_tab(page, "Faces")
        choose(page, "cockpit-dataset", "me")
        page.wait_for_function("document.body.innerText.includes('Left out:')")
        page.get_by_label("Seconds").fill("12")
        page.locator("#cockpit-train").click()
        page.wait_for_function("document.body.innerText.includes('training, step')", timeout=90_000)
        first.kill()
    (job,) = find_jobs(root / "jobs")
    assert job.state == "running"
    with running_cockpit(root) as second, browser_page() as page:
        page.goto(second.way_in)
        open_tab(page, "Faces")  # the training is there, without being looked for
        page.wait_for_function("document.body.innerText.includes('can be steered now')", timeout=120_000)
    assert (root / "trainings" / "me" / "face.safetensors").is_file()


@pytest.mark.slow
def test_an_import_outlives_the_server_stops_and_goes_on(tmp_path: Path, face_video: Path) -> None:
    root, long = tmp_path / "work", tmp_path / "turning.mp4"
    with VideoWriter(long, 320, 240, 30) as video:
        for frame in [frame.image for frame in read_video(face_video)] * 8:
            video.write(frame)
    with running_cockpit(root) as first, browser_page() as page:
        page.goto(first.way_in)
        open_tab(page, "Faces")
        page.set_input_files("#cockpit-recordings input[type=file]", long)
        page.wait_for_function("document.querySelector('#cockpit-recordings').innerText.includes('turning')")
        choose(page, "cockpit-size", "256×256")
        page.locator("#cockpit-import").click()
        page.wait_for_function("document.body.innerText.includes('Importing turning')", timeout=30_000)
        first.kill()
    with running_cockpit(root) as second, browser_page() as page:
        page.goto(second.way_in)
        open_tab(page, "Faces")
        page.wait_for_function("document.body.innerText.includes('Importing turning')", timeout=30_000)
        page.locator("#cockpit-stop-import").click()
        page.wait_for_function("document.body.innerText.includes('stopped; it can go on')", timeout=30_000)
        page.locator("#cockpit-resume-import").click()
        page.wait_for_function("document.body.innerText.includes('Left out:')", timeout=90_000)
        assert "frames of 256×256" in page.inner_text("body")


# ------------------------------------------------------------------------------------------------- harm


def test_nobody_without_the_token_comes_in(cockpit: Cockpit) -> None:
    """Another user of this machine, who can reach the port as well as its owner can."""
    asked = [
        ("GET", "/"), ("GET", "/config"), ("GET", "/api/faces"), ("POST", "/api/source"), ("GET", "/own/cockpit.js"),
        ("GET", "/files/results/x/report.html"), ("POST", "/gradio_api/queue/join"), ("GET", "/gradio_api/queue/data"),
        ("POST", "/gradio_api/upload"), ("GET", "/gradio_api/info"), ("GET", "/no-such-route"), ("GET", "/?token="),
        ("GET", "/?token=wrong"), ("GET", f"/config?{cockpit.way_in.partition('?')[2]}"), ("GET", "/theme.css"),
    ]  # fmt: skip
    for cookie in ("", "dmsynth=x", cockpit.cookie["Cookie"][:-1], cockpit.cookie["Cookie"].partition("=")[2]):
        for method, path in asked:
            answer = httpx.request(method, cockpit.address + path, headers={"Cookie": cookie})
            assert answer.status_code == 401 and "Set-Cookie" not in answer.headers, path
            assert answer.text == "open the address that dmsynth cockpit printed: it holds a token"

    async def steer() -> None:
        async with websockets.connect(f"{cockpit.address.replace('http', 'ws')}/live"):
            pass

    with pytest.raises(InvalidStatus, match="403"):
        in_a_loop(steer())
    let_in = httpx.get(cockpit.way_in)
    cookie = let_in.headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "token" not in let_in.text
    token = cockpit.way_in.partition("=")[2]
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline")]
    assert len(token) > 40 and not any(token.encode() in command for command in commands), "as ps shows it"


def test_other_sites_and_names_are_refused(cockpit: Cockpit, client: httpx.Client) -> None:
    assert client.get("/").status_code == 200
    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Host": "evil.example:80"}):
        assert client.get("/", headers=headers).status_code == 403
        assert client.post("/api/source", headers=headers, content=b"x").status_code == 403
    embedded = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "image"}
    assert client.get("/api/source?face=starter&number=0", headers=embedded).status_code == 403
    followed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"}
    assert client.get("/", headers=followed).status_code == 200

    async def from_elsewhere() -> None:
        async with cockpit.line(origin="http://evil.example"):
            pass

    with pytest.raises(InvalidStatus):
        in_a_loop(from_elsewhere())


def test_no_route_leads_outside_the_workspace(cockpit: Cockpit, client: httpx.Client) -> None:
    secret = cockpit.root.parent / "secret.html"
    secret.write_text("TOP SECRET")
    for kind in ("results", "trainings"):
        (cockpit.root / kind / "link.html").symlink_to(secret)
    (cockpit.root / "jobs" / "inner.json").write_text("{}")
    paths = [
        "files/../secret.html", "files/%2e%2e/secret.html", "files/..%2fsecret.html", "files/results/link.html",
        f"files/{secret}", f"files//{secret}", "files/jobs/inner.json", "files/results/../../secret.html",
        "own/../page.py",
        "own/page.py", f"gradio_api/file={secret}", "gradio_api/file=../secret.html", f"file={secret}",
        "gradio_api/file=/etc/passwd", f"gradio_api/file={cockpit.root}/../secret.html",
        f"gradio_api/file={cockpit.root}/results/link.html", "static/../../../etc/passwd",
        "theme.css/../../secret.html", "gradio_api/file=http://192.0.2.1/x", "gradio_api/file=%00",
        "gradio_api/proxy=http://192.0.2.1/x", f"gradio_api/file={cockpit.root}/trainings/link.html",
    ]  # fmt: skip
    import socket

    host, port = cockpit.address.removeprefix("http://").split(":")
    for path in paths:  # as written: clients tidy paths up
        with socket.create_connection((host, int(port)), timeout=20) as line:
            asked = f"GET /{path} HTTP/1.1\r\nHost: {host}:{port}\r\nCookie: {cockpit.cookie['Cookie']}\r\n"
            line.sendall(f"{asked}Connection: close\r\n\r\n".encode())
            answer = b""
            while part := line.recv(65_536):
                answer += part
        status = int(answer.split()[1])
        assert status in (400, 403, 404, 405, 422), f"{path}: {status}"
        assert b"TOP SECRET" not in answer and b"root:" not in answer, path
    for name in ("../secret", "/etc/passwd", "starter/../../secret"):
        assert client.get("/api/face", params={"name": name}).status_code == 404
        assert client.get("/api/source", params={"face": name, "number": 0}).status_code == 404
    assert client.get("/api/source", params={"face": "starter", "number": -1}).status_code == 404


def test_no_field_leads_outside_the_workspace(cockpit: Cockpit, client: httpx.Client) -> None:
    """Every function that the page can call, called as somebody with a program of their own would."""
    outside = cockpit.root.parent / "outside"
    outside.mkdir()
    for name in ("run.json", "manifest.json", "results.json", "report.html", "job.json", "face.safetensors", "x.yaml"):
        (outside / name).write_text('{"secret": "TOP SECRET"}')
    config = client.get("/config").json()
    kinds = {each["id"]: each["type"] for each in config["components"]}
    calls = [each for each in config["dependencies"] if each["backend_fn"]]
    assert len(calls) > 20

    def answers(wishes: list[tuple[int, list[Any]]], session: str) -> list[str]:
        """What is answered to wishes that are asked for all at once, in their order."""
        said: dict[str, str] = {}
        for number, data in wishes:
            wish = {"fn_index": number, "data": data, "session_hash": session, "event_data": None, "trigger_id": None}
            asked = client.post("/gradio_api/queue/join", json=wish)
            said[asked.json()["event_id"]] = ""
        with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as stream:
            for line in stream.iter_lines():
                if (told := json.loads(line.removeprefix("data:") or "{}")).get("event_id") in said:
                    said[told["event_id"]] += line
        return list(said.values())

    places = ("../../outside", str(outside), "../outside/x.yaml", f"{outside}/x.yaml", f"{outside}/face.safetensors")
    tried = False
    for place in (*places, "/etc/passwd"):
        file = {"path": place, "meta": {"_type": "gradio.FileData"}}
        for several in (False, True):
            fields = {"file": [file] if several else file, "dropdown": place, "textbox": place, "state": place}
            told = {"file"} if several else set(fields)  # what is told no place answers alike each time: once is enough
            asked = [each for each in calls if not tried or told & {kinds[which] for which in each["inputs"]}]
            tried = True
            wishes = [(each["id"], [fields.get(kinds[which]) for which in each["inputs"]]) for each in asked]
            for each, answer in zip(asked, answers(wishes, f"{place}-{several}"), strict=True):
                assert "process_completed" in answer, (each["api_name"], place, answer)
                assert "TOP SECRET" not in answer and "Traceback" not in answer, (each["api_name"], place)
    kept = [path for path in cockpit.root.rglob("*") if path.is_file() and not path.is_symlink()]
    assert [path for path in kept if b"TOP SECRET" in path.read_bytes() or path.name == "passwd"] == []
    assert {path.name for path in cockpit.root.parent.iterdir()} <= {"work", "outside", "secret.html"}
    assert client.get("/").status_code == 200


def test_nothing_in_a_title_is_loaded(page: Any, cockpit: Cockpit, tmp_path: Path) -> None:
    """Scenarios come from others. The page shows what they say, and the browser fetches nothing for it."""
    bad = tmp_path / "look.yaml"
    bad.write_text(
        "name: look\ntitle: '![x](http://192.0.2.1/a.png)<img src=http://192.0.2.1/b.png onerror=window.harmed=1>'\n"
        "source: s\nspeed: 50\nmoves: [{move: {yaw: 20}, seconds: 1}]\n"
    )
    open_tab(page, "Trajectory")
    page.set_input_files("#cockpit-scenario-file input[type=file]", bad)
    page.wait_for_function("document.querySelector('#cockpit-moves').innerText.includes('20')", timeout=20_000)
    page.wait_for_function("document.body.innerText.includes('![x](http://192.0.2.1/a.png)<img')")  # as it is
    # the browser's own guard, for what is not thought of here: nothing is fetched from elsewhere, no script in an
    # attribute or an element that was written into the page
    refused = page.evaluate(
        """async () => {
            const told = [];
            document.addEventListener('securitypolicyviolation', (event) => told.push(event.blockedURI));
            const harm = document.createElement('div');
            harm.innerHTML = '<img src="/own/x" onerror="window.harmed=2"><a href="javascript:window.harmed=3">x</a>' +
                '<iframe srcdoc="<script>parent.harmed=4</script>"></iframe>';
            document.body.append(harm);
            harm.querySelector('a').click();
            fetch('http://192.0.2.1/').catch(() => {});
            await new Promise((done) => setTimeout(done, 500));
            return told;
        }"""
    )
    assert page.evaluate("window.harmed") is None
    assert refused.count("inline") >= 2 and "http://192.0.2.1/" in refused, refused


NASTY = "<img src=x onerror=window.harmed=1><script>window.harmed=1</script>"


def test_names_in_a_face_are_text(page: Any) -> None:
    """Faces come from others, too: a control, a unit, a name, or the consent may say anything."""
    about = page.evaluate("fetch('/api/face?name=starter').then((answer) => answer.json())")
    for control in about["controls"]:
        control["name"], control["unit"] = f"{control['name']} {NASTY}", NASTY
    about |= {"name": NASTY, "consent": NASTY, "model": NASTY, "size": ['1" onload="x', 240]}
    page.evaluate(
        """async ([about, name]) => {
            const tab = window.dmsynthCockpit.steer, asked = window.fetch;
            window.fetch = async (url, options) => String(url).startsWith('/api/face') ?
                new Response(JSON.stringify(String(url).startsWith('/api/faces') ? ['starter', name] : about))
                : asked(url, options);
            await tab.list();
            await tab.show(name);
            tab.other.value = name;
            await tab.guard(() => tab.beside());
            await new Promise((done) => setTimeout(done, 300));
        }""",
        [about, NASTY],
    )
    panel = page.locator("#cockpit-steer")
    assert NASTY in panel.locator("thead").inner_text() and NASTY in panel.locator(".steerer-help").inner_text()
    assert panel.locator("script, [onerror], [onload]").count() == 0
    assert page.evaluate("window.harmed") is None


def test_too_much_and_the_wrong_kind_are_refused(cockpit: Cockpit, client: httpx.Client) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(200):
            yield bytes(2**20)

    try:
        refused = client.post("/api/source", content=chunks(), timeout=60)
        assert refused.status_code == 413 and "at most 20 MB" in refused.json()["error"]
    except httpx.TransportError:
        pass  # hung up on in the middle of it
    assert not list((cockpit.root / "uploads").glob(".brought-*")), "nothing of it stays"
    uploaded = client.post("/gradio_api/upload", files={"files": ("big.mp4", bytes(200 * 2**20))}, timeout=120)
    assert uploaded.status_code in (400, 413)
    assert client.get("/").status_code == 200


def test_what_is_brought_to_the_page_is_looked_into(page: Any, cockpit: Cockpit, tmp_path: Path) -> None:
    """A renamed program, and a video of 200 MB: a sentence each, and the page goes on."""
    open_tab(page, "Faces")
    program = tmp_path / "holiday.mp4"
    program.write_bytes(b"\x7fELF" + bytes(100_000))
    page.set_input_files("#cockpit-recordings input[type=file]", program)
    page.wait_for_function("document.querySelector('#cockpit-recordings').innerText.includes('holiday')")
    page.get_by_role("button", name="Import", exact=True).click()
    page.wait_for_function("document.body.innerText.includes('holiday.mp4: not a readable video')")
    assert not list((cockpit.root / "uploads").glob("holiday*"))
    page.reload()
    page.wait_for_selector("#cockpit-steer .steerer-canvas")
    open_tab(page, "Faces")
    large = tmp_path / "large.mp4"
    with large.open("wb") as file:
        file.truncate(200 * 2**20)
    page.set_input_files("#cockpit-recordings input[type=file]", large)
    page.wait_for_function("/exceed|too large|maximum/i.test(document.body.innerText)", timeout=60_000)
    open_tab(page, "Steer")
    page.get_by_label("yaw in degrees", exact=True).fill("12")
    page.wait_for_function(f"!{STEER}.busy && {STEER}.values[1] === 12")


async def _drag(cockpit: Cockpit, seconds: float, seed: int) -> tuple[int, list[float]]:
    """One hand that asks for picture after picture; how many came, and how long each took."""
    random, times = np.random.default_rng(seed), []
    async with cockpit.line() as line:
        begun = time.monotonic()
        while time.monotonic() - begun < seconds:
            values = random.uniform(-15, 15, 3).round(1).tolist()
            asked = time.monotonic()
            await line.send(json.dumps({"face": "starter", "values": values, "source": None}))
            answer = await line.recv()
            assert isinstance(answer, bytes) and answer[4:6] == b"\xff\xd8"
            times.append(time.monotonic() - asked)
    return len(times), times


def drag_together(cockpit: Cockpit, hands: int, seconds: float) -> list[int]:
    async def all_of_them() -> list[tuple[int, list[float]]]:
        return await asyncio.gather(*(_drag(cockpit, seconds, seed) for seed in range(hands)))

    done = in_a_loop(all_of_them())
    every = sorted(t for _, times in done for t in times)
    counts = [count for count, _ in done]
    print(f"{sum(counts) / seconds:.0f} pictures a second, median {1000 * every[len(every) // 2]:.0f} ms")  # noqa: T201
    return counts


def test_many_hands_are_served_alike(cockpit: Cockpit, client: httpx.Client) -> None:
    counts = drag_together(cockpit, 20, 2)
    assert min(counts) > 0.5 * max(counts) - 1, "nobody starves"
    assert client.get("/").status_code == 200


@pytest.mark.slow
def test_many_hands_for_a_minute(cockpit: Cockpit, client: httpx.Client) -> None:
    counts = drag_together(cockpit, 20, 60)
    assert min(counts) > 0.5 * max(counts)
    assert client.get("/").status_code == 200


def test_nonsense_on_the_line_is_answered_with_a_sentence(cockpit: Cockpit) -> None:
    wishes: list[str | bytes] = [
        "not json", "[1]", json.dumps({"face": "../x", "values": [0, 0, 0]}), json.dumps({"face": "starter"}),
        json.dumps({"face": "starter", "values": [0, 0]}), json.dumps({"face": "starter", "values": [0, "x", 0]}),
        '{"face": "starter", "values": [0, NaN, 0]}', json.dumps({"face": "starter", "values": [0, 1e9, 0]}),
        json.dumps({"face": "starter", "values": [0, 0, 0], "source": 10_000}), "x" * 5000,
        json.dumps({"face": "starter", "values": [0, 0, 0], "source": "../../etc/passwd"}), json.dumps({"track": True}),
        "[" * 4000, '{"a":' * 700, json.dumps({"face": "starter", "values": [10**900, 0, 0]}), b"\x00bytes",
        json.dumps({"face": "starter", "values": [0, 0, 0], "source": 10**900}), '{"face": "\\ud800"}',
    ]  # fmt: skip

    async def ask() -> list[str]:
        async with cockpit.line() as line:
            answers = []
            for wish in wishes:
                await line.send(wish)
                answers.append(json.loads(await line.recv()))
            await line.send(json.dumps({"face": "starter", "values": [0, 10, 0], "source": 3}))
            assert isinstance(await line.recv(), bytes), "the line still works"
            return [answer["error"] for answer in answers]

    said = in_a_loop(ask())
    assert all(said) and not any("Traceback" in sentence for sentence in said)


def test_the_line_draws_what_the_library_draws(cockpit: Cockpit) -> None:
    async def ask() -> bytes:
        async with cockpit.line() as line:
            await line.send(json.dumps({"face": "starter", "values": [5, -12, 3], "source": None}))
            answer = await line.recv()
            assert isinstance(answer, bytes)
            return answer

    theirs = np.asarray(cv2.imdecode(np.frombuffer(in_a_loop(ask())[4:], np.uint8), cv2.IMREAD_COLOR))[..., ::-1]
    ours = next(load_face(Path("starter")).frames(np.array([[5.0, -12.0, 3.0]])))
    assert np.abs(theirs.astype(int) - ours).mean() < 2


def test_a_wrong_start_is_one_line(tmp_path: Path, cockpit: Cockpit) -> None:
    port = cockpit.address.rpartition(":")[2]
    taken = dmsynth("cockpit", "--no-browser", "--port", port, "--workspace", tmp_path / "w")
    assert f"port {port} is taken" in fails(taken)
    assert "give NAME=COMMAND" in fails(dmsynth("cockpit", "--dms", "rm -rf", "--workspace", tmp_path / "w"))
    missing = dmsynth("cockpit", "--no-browser", "--face", tmp_path / "no.safetensors", "--workspace", tmp_path / "w")
    assert "no.safetensors" in fails(missing)


def test_everybody_of_a_cast_is_a_face_of_the_workspace(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    run = tmp_path / "trainings" / "both"
    run.mkdir()
    starter = read_face(Path("starter"))
    save_cast(run / "face.safetensors", {"one": starter, "two": starter})
    assert list(workspace.trained()) == ["starter", "both#one", "both#two"]
    server = LiveServer(workspace)
    assert server.describe("both#two")["name"] == "both#two"
    assert server.portrait("both#two").shape[0] == server.portrait("posed:portrait").shape[0]
    (tmp_path / "datasets" / "anna").mkdir()
    (tmp_path / "datasets" / "anna" / "manifest.json").write_text("{}")
    with pytest.raises(DmsynthError, match="ben: is not here any more"):
        workspace.begin_training("anna", "swapwarp", others=["ben"])
    with pytest.raises(DmsynthError, match="nobody: is not here any more"):
        workspace.begin_training("anna", "swapwarp", begin="nobody")
