"""The command line as a user types it: in this process, which takes milliseconds, or in one of its own."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any
from unittest.mock import patch

from dmsynth import cli

Done = subprocess.CompletedProcess[str]


def dmsynth(*arguments: object, cwd: Path | None = None) -> Done:
    """What the command prints and its exit code, asked in this process."""
    command = ["dmsynth", *map(str, arguments)]
    out, error, status = io.StringIO(), io.StringIO(), 0
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(error),
        contextlib.chdir(cwd or Path.cwd()),
        patch.object(sys, "argv", command),
        warnings.catch_warnings(action="ignore"),
    ):
        try:
            cli.run()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 0
    return subprocess.CompletedProcess(command, status, out.getvalue(), error.getvalue())


def dmsynth_process(*arguments: object, **options: Any) -> Done:
    """The same in a process of its own, for what a process alone can show: its limits, its end."""
    command = [sys.executable, "-m", "dmsynth.cli", *map(str, arguments)]
    environment = os.environ | {"PYTHONWARNINGS": "ignore"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, **options)


def fails(result: Done) -> str:
    """The one line of a refused command."""
    assert result.returncode != 0
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.stderr
    return lines[0]
