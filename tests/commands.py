"""The command line as a user types it, asked in this process, which takes milliseconds."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import warnings
from pathlib import Path
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


def fails(result: Done) -> str:
    """The one line of a refused command."""
    assert result.returncode != 0
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.stderr
    return lines[0]
