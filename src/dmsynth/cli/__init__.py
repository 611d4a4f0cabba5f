"""The command line: a door. It turns words into calls of the library and errors into one line."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys

import dmsynth
from dmsynth.cli import cockpit, datasets, experiments, faces, fetch, validation
from dmsynth.cli.app import app, output
from dmsynth.errors import DmsynthError, explain_os_error

__all__ = ["app", "cockpit", "datasets", "experiments", "faces", "fetch", "main", "run", "validation"]


@app.command("version")
def version_command() -> None:
    """Print the version."""
    output.print(dmsynth.__version__)


def main() -> None:
    """Run the command line. A user's mistake is one line on standard error and exit code 1."""
    status = 1  # until we know better: an error of ours

    def leave() -> None:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)

    # Threads of native libraries (seen with MediaPipe) now and then abort the process while Python is taken down
    # around them, when all work is done. Registered first, so called last: after everybody's own farewell.
    atexit.register(leave)
    try:
        run()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        raise
    status = 0


def run() -> None:
    """Run the command line and raise ``SystemExit`` with its exit code."""
    try:
        app()
    except SystemExit as end:  # how typer says that Ctrl-C was pressed
        if end.code == 130:
            _fail("interrupted; run the same command again to go on", code=130)
        raise
    except DmsynthError as error:
        _fail(str(error))
    except OSError as error:
        _fail(explain_os_error(error))


def _fail(message: str, code: int = 1) -> None:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)  # noqa: T201
    sys.exit(code)
