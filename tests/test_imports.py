"""What a command does not need it does not import: a clip of a second should not wait for what trains or tracks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


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
