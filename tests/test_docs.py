"""Documents: links lead somewhere, commands and options exist, and programs on paper run."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import torch
import typer

from dmsynth.cli import app
from dmsynth.learning.autoencoder import Autoencoder
from dmsynth.playing.sinks import SINKS, open_sink
from dmsynth.steering import FaceSpec, load_face
from dmsynth.trackers import track_to_table
from dmsynth.validation.dms import run_dms
from dmsynth.video import Frame, Image
from dmsynth.video.effects import EFFECTS, with_effects
from house import FLOW

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
pytestmark = pytest.mark.skipif(
    not (ROOT / "docs").is_dir(), reason="the documents lie in the repository, not in the wheel"
)


def blocks(page: Path, language: str) -> list[str]:
    """The code of a page in one language, block by block."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """What a page's headings are called in links."""
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        found = page.parent / unquote(file) if file else page
        assert found.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(found), f"{page.name}: {target}"


def test_every_picture_is_shown() -> None:
    shown = " ".join(page.read_text("utf-8") for page in PAGES)
    for picture in (ROOT / "docs" / "images").rglob("*.*"):
        assert picture.name in shown, picture


def commands(page: Path) -> list[list[str]]:
    """The dmsynth commands in a page's shell code, as arguments."""
    lines = "\n".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    found = [shlex.split(line, comments=True) for line in lines if re.match(r"\s*dmsynth\s", line)]
    return [[word for word in words if word != "…"] for words in found]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_their_options_exist(page: Path) -> None:
    for words in commands(page):
        command: Any = typer.main.get_command(app)
        rest = words[1:]
        while rest and hasattr(command, "commands"):
            assert rest[0] in command.commands, f"{page.name}: {shlex.join(words)}"
            command, rest = command.commands[rest[0]], rest[1:]
        known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        for word in rest:
            if word.startswith("--") and word.split("=")[0] not in known:
                pytest.fail(f"{page.name}: {shlex.join(words)}: no option {word}")


@pytest.mark.slow
def test_the_python_interface_does_what_its_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    there: dict[str, Any] = {}
    for code in blocks(ROOT / "docs" / "api.md", "python"):
        exec(compile(code, "docs/api.md", "exec"), there)
    assert there["picture"].shape == (480, 640, 3) and len(there["pictures"]) == 5
    errors = there["tracking_errors"](there["table"], there["face"].trained.space)["mae"]
    assert all(error < 2 for error in errors.values())
    small = there["face"].from_one_source().as_learned()
    off = abs(there["grey"].astype(int) - small.steer(yaw=20, pitch=-5).astype(int))
    assert off.max() <= 2, "ONNX Runtime draws what PyTorch draws"
    assert there["results"]["summary"]["pass"] == 1 and there["mine"].size == (96, 80)


def test_what_the_architecture_adds_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, face_file: Path, portrait: Image
) -> None:
    page = ROOT / "docs" / "architecture.md"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dmsynth.video.effects.EFFECTS", dict(EFFECTS))
    monkeypatch.setattr("dmsynth.playing.sinks.SINKS", dict(SINKS))
    there: dict[str, Any] = {}
    for code in blocks(page, "python"):
        exec(compile(code, "docs/architecture.md", "exec"), there)
    tracked = track_to_table(there["StraightAhead"](), [Frame(0, 0.0, portrait)])
    assert tracked["found"].all() and tracked["yaw"].tolist() == [0.0]
    run = run_dms(there["NeverWarns"](), tmp_path / "a.mp4", 50, seconds=1)
    assert run.problem is None and [answer.warning for answer in run.answers] == [False]
    mirrored = there["open_mirror"](FaceSpec(f"mirror:{face_file}"))
    assert (mirrored.steer(yaw=4) == load_face(face_file).steer(yaw=4)[:, ::-1]).all()
    losses = there["swap_only"](
        Autoencoder(32, 32, latent=4, base_channels=2), torch.rand(4, 1, 32, 32), torch.rand(4, 2)
    )
    assert losses["swap"].isfinite()
    (dark,) = with_effects([portrait], [("vignette", 1.0)])
    assert dark[0, 0].max() == 0 and (dark[256, 256] == portrait[256, 256]).all()
    assert len(there["dataset"]) == 40 and there["dataset"].about[0].name == "position"
    assert isinstance(open_sink("heard", (64, 48), 25), there["Heard"])
    told = re.findall(r"^\| `(\w+)` \|", page.read_text("utf-8"), re.MULTILINE)
    assert told == list(FLOW), "the table lists the folders from the ground up"


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((ROOT / "docs" / "first-face.ipynb").read_text("utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    there: dict[str, Any] = {}
    for number, code in enumerate(cells, 1):
        exec(compile(code, f"docs/first-face.ipynb, cell {number}", "exec"), there)
    assert (tmp_path / "turn.mp4").is_file() and there["errors"]["yaw"] < 2
    assert all(cell["outputs"] for cell in notebook["cells"] if cell["cell_type"] == "code"), (
        "it is read with its pictures"
    )
