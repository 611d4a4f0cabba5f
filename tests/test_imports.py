"""Imports go one way: from the folders of the flow to those before them. And a command imports only what it needs."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import dmsynth

HOUSE = Path(str(dmsynth.__file__)).parent
FLOW = (
    *(
        "support",
        "video",
        "controls",
        "trackers",
        "motion",
        "datasets",
        "learning",
        "steering",
        "evaluation",
        "validation",
    ),
    *("report", "experiments", "web", "cockpit", "cli"),
)
"""The folders from the ground up, as docs/architecture.md draws them."""


def _imports() -> dict[str, set[str]]:
    """Each module's imports of dmsynth's own modules, those inside functions and for type checkers included."""
    files = {_module(file): file for file in HOUSE.rglob("*.py")}
    arrows: dict[str, set[str]] = {name: set() for name in files}
    for name, file in files.items():
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                named = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{file}: relative import; name the module in full"
                named = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            for each in named:  # a module, or a name in one
                found = each if each in files else each.rpartition(".")[0]
                if found in files and found != name:
                    arrows[name].add(found)
    return arrows


def _module(file: Path) -> str:
    parts = ("dmsynth", *file.relative_to(HOUSE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _floor(module: str) -> int:
    folder = module.split(".")[1:2]
    return FLOW.index(folder[0]) if folder else len(FLOW)  # dmsynth itself is the roof


def test_the_folders_are_the_flow() -> None:
    folders = {path.parent.relative_to(HOUSE).parts[0] for path in HOUSE.glob("*/**/*.py")}
    assert folders == set(FLOW)
    assert {path.name for path in HOUSE.glob("*.py")} == {"__init__.py"}


def test_no_folder_imports_a_later_one() -> None:
    back_up = [
        f"{name} imports {each}" for name, own in _imports().items() for each in own if _floor(each) > _floor(name)
    ]
    assert not back_up


def test_no_modules_import_each_other_in_a_circle() -> None:
    try:
        TopologicalSorter(_imports()).prepare()
    except CycleError as error:
        pytest.fail(f"circle: {' imports '.join(reversed(error.args[1]))}")


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
