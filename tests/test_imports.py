"""Imports go one way: from the folders of the flow to those before them. And a command imports only what it needs."""

from __future__ import annotations

import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import dmsynth
from house import FLOW, floors, imports, rooms

HOUSE = Path(str(dmsynth.__file__)).parent


def _floor(module: str) -> int:
    folder = module.split(".")[1:2]
    return list(FLOW).index(folder[0]) if folder else len(FLOW)  # dmsynth itself is the roof


def test_the_folders_are_the_flow() -> None:
    folders = {path.parent.relative_to(HOUSE).parts[0] for path in HOUSE.glob("*/**/*.py")}
    assert folders == set(FLOW)
    assert {path.name for path in HOUSE.glob("*.py")} == {"__init__.py"}


def test_no_folder_imports_a_later_one() -> None:
    back_up = [
        f"{name} imports {each}" for name, own in imports(HOUSE).items() for each in own if _floor(each) > _floor(name)
    ]
    assert not back_up


def test_no_modules_import_each_other_in_a_circle() -> None:
    try:
        TopologicalSorter(imports(HOUSE)).prepare()
    except CycleError as error:
        pytest.fail(f"circle: {' imports '.join(reversed(error.args[1]))}")


def test_rules_are_broken_by_what_breaks_them(tmp_path: Path) -> None:
    """The reader of imports sees those inside functions, for type checkers, and of names in modules."""
    house = tmp_path / "dmsynth"
    for name, text in {
        "__init__.py": "",
        "support/__init__.py": "",
        "support/files.py": "def f():\n    from dmsynth.cli import app\n",
        "cli/__init__.py": "",
        "cli/app.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import dmsynth.support.files\n",
    }.items():
        (house / name).parent.mkdir(parents=True, exist_ok=True)
        (house / name).write_text(text)
    found = imports(house)
    assert found["dmsynth.support.files"] == {"dmsynth.cli.app"} and found["dmsynth.cli.app"] == {
        "dmsynth.support.files"
    }
    with pytest.raises(CycleError):
        TopologicalSorter(found).prepare()


def test_every_folder_stands_above_what_it_imports() -> None:
    _, arrows = rooms(HOUSE)
    at = floors(arrows)
    assert at["support"] == 1 and at["cli"] == max(at.values())
    assert all(at[name] > at[each] for name, found in arrows.items() for each in found)


@pytest.mark.slow
def test_former_names_are_the_same_modules() -> None:
    for former, now in dmsynth._FORMERLY.items():
        assert sys.modules.get(former) is None or sys.modules[former] is sys.modules[now]
    code = (
        "from dmsynth.errors import DmsynthError\n"
        "from dmsynth.pose import rotation_matrix\n"
        "from dmsynth.trajectory import parse_motions\n"
        "from dmsynth.sources.photo import PoseRange, pose_photo\n"
        "from dmsynth.sources.recording import import_recordings\n"
        "from dmsynth.training import train\n"
        "from dmsynth.export import export_onnx\n"
        "from dmsynth.judges import agreement\n"
        "from dmsynth.baselines.face_spec import FaceSpec\n"
        "import dmsynth, dmsynth.controls.pose, dmsynth.learning.training\n"
        "assert DmsynthError is dmsynth.DmsynthError\n"
        "assert rotation_matrix is dmsynth.controls.pose.rotation_matrix and train is dmsynth.learning.training.train\n"
        "assert dmsynth.controls.pose.__spec__.name == 'dmsynth.controls.pose'\n"
        "try: import dmsynth.nothing\n"
        "except ModuleNotFoundError as error: assert error.name == 'dmsynth.nothing'\n"
        "else: raise AssertionError\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_steering_imports_neither_what_trains_nor_what_tracks(tmp_path: Path) -> None:
    code = (
        "import sys, dmsynth.cli\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules, 'help and mistakes come at once'\n"
        "out = sys.argv[1] + '/a.mp4'\n"
        "sys.argv = ['dmsynth', 'steer', 'starter', '--trajectory', 'hold 0.1', '--out', out]\n"
        "try: dmsynth.cli.run()\n"
        "except SystemExit as end: assert not end.code\n"
        "for heavy in ('lightning', 'mediapipe', 'scipy.signal', 'matplotlib', 'onnx', 'gradio', 'ray'):\n"
        "    assert heavy not in sys.modules, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
