"""What tests share: real faces, the real tracker, small datasets made once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from dmsynth.datasets.dataset import Dataset
from dmsynth.datasets.photo import PoseRange, pose_photo, prepare
from dmsynth.datasets.photo_posing import PosedPhoto
from dmsynth.learning.face_file import read_face, save_face
from dmsynth.learning.training import train
from dmsynth.steering import load_face
from dmsynth.support.errors import DmsynthError
from dmsynth.trackers import Tracker, open_tracker
from dmsynth.video import Image, VideoWriter
from dmsynth.video.portrait import default_portrait

settings.register_profile("any machine", deadline=None)  # no test depends on how fast it is
settings.load_profile("any machine")
os.environ["COLUMNS"] = "200"  # the terminal that commands print to
SHARED = Path(__file__).parents[2] / "shared"
_marked_shared = False  # whether the running test is marked so


@pytest.fixture(scope="session")
def tracker() -> Tracker:
    """The thesis's tracker; where there is no way to its model, what needs it is skipped."""
    try:
        return open_tracker()
    except DmsynthError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def portrait() -> Image:
    return default_portrait()


@pytest.fixture(scope="session")
def posed(tracker: Tracker, portrait: Image) -> PosedPhoto:
    """The embedded portrait, ready to be posed at 320×240."""
    return prepare(portrait, tracker, (320, 240), "astronaut", colour=False)


@pytest.fixture(scope="session")
def photo_dataset(tmp_path_factory: pytest.TempPathFactory, tracker: Tracker) -> Dataset:
    """72 posed frames of 96×80."""
    poses = PoseRange(pitch=10, yaw=20, roll=10)
    return pose_photo(
        tmp_path_factory.mktemp("photo") / "dataset", None, tracker, 72, (96, 80), poses, seed=3, colour=False
    )


@pytest.fixture(scope="session")
def small_face(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The starter face as its network sees it, 320×240 in grey: drawn in a third of the time."""
    path = tmp_path_factory.mktemp("small") / "starter.safetensors"
    save_face(path, load_face(Path("starter")).as_learned().trained)
    return path


@pytest.fixture(scope="session")
def head_file(tmp_path_factory: pytest.TempPathFactory, small_face: Path) -> Path:
    """The small face as versions before wrote it: it does not know where its eyes are, and turns its head only."""
    path = tmp_path_factory.mktemp("head") / "head.safetensors"
    save_face(path, replace(read_face(small_face), features=None))
    return path


@pytest.fixture(scope="session")
def face_file(tmp_path_factory: pytest.TempPathFactory, photo_dataset: Dataset) -> Path:
    """A face trained for a moment: enough to be steered, not to be looked at."""
    return train(photo_dataset, tmp_path_factory.mktemp("run") / "run", base_channels=4, steps=30)


@pytest.fixture(scope="session")
def face_video(tmp_path_factory: pytest.TempPathFactory, posed: PosedPhoto) -> Path:
    """A real-looking recording: 60 frames of the portrait turning left and right, nodding a little."""
    path = tmp_path_factory.mktemp("video") / "turning.mp4"
    with VideoWriter(path, 320, 240, 30) as video:
        for phase in np.linspace(0, 2 * np.pi, 60, endpoint=False):
            video.write(posed.pose(pitch=4 * np.cos(2 * phase), yaw=15 * np.sin(phase), roll=0))
    return path


_LONGEST = (
    "test_cockpit",
    "test_cast_validation",
    "test_cast_training",
    "test_validate",
    "test_jobs",
    "test_cli",
    "test_web",
    "test_rival",
    "test_editing",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first, so that no core is left alone with one at the end."""
    items.sort(key=lambda item: item.path.stem not in _LONGEST)


def pytest_runtest_setup(item: pytest.Item) -> None:
    global _marked_shared
    _marked_shared = item.get_closest_marker("shared") is not None


def shared(name: str) -> Path:
    """A file beside the checkout; the test is skipped where it is absent. Such a test is marked ``shared``."""
    assert _marked_shared, "mark this test with @pytest.mark.shared: it needs what lies beside the checkout"
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"needs ../shared/{name}, which is not here")
    return path


_CHROMIUM = (  # nothing that asks anybody anything
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@contextmanager
def opened_browser(*further: str) -> Iterator[Any]:
    """A real Chromium, with ``further`` arguments; the test is skipped where there is none."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium, which is not installed (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=[*_CHROMIUM, *further])
        yield browser
        browser.close()


@contextmanager
def browser_page(browser: Any = None, **context: Any) -> Iterator[Any]:
    """A page of a ``browser``, or of one of its own. What goes wrong in it fails the test."""
    with nullcontext(browser) if browser else opened_browser() as opened:
        own = opened.new_context(**({"viewport": {"width": 1280, "height": 720}} | context))
        page = own.new_page()
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        yield page
        own.close()
    assert wrong == []


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    yield tmp_path
