"""The command line: a door. It turns words into calls of the library and errors into one line."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import traceback
from typing import NoReturn

from dmsynth.cli import (
    cameras,
    casts,
    cockpit,
    datasets,
    experiments,
    faces,
    fetch,
    generation,
    people,
    playing,
    validation,
)
from dmsynth.cli.app import app, given_command, output
from dmsynth.support.errors import DmsynthError, explain_os_error
from dmsynth.support.files import write_text
from dmsynth.support.model_files import cache_folder
from dmsynth.support.processes import end_with_requested_parent
from dmsynth.support.system_libraries import KNOWN, how_to_install
from dmsynth.support.terminal import make_streams_safe, printable
from dmsynth.support.version import __version__

__all__ = [
    "app", "cameras", "casts", "cockpit", "datasets", "experiments", "faces", "fetch", "generation", "main", "people",
    "playing",
    "run", "validation",
]  # fmt: skip


@app.command("version")
def version_command() -> None:
    """Print the version."""
    output.print(__version__)


def main() -> None:
    """Run the command line.

    Exit codes: 0; 1 where a DMS fails; 2 for wrong use or input; 3 for a fault of dmsynth; 130 where it was
    interrupted. An error is one line on standard error.
    """
    status = 3  # until we know better: an error of ours

    def leave() -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)

    # Threads of native libraries (seen with MediaPipe) now and then abort the process while Python is taken down
    # around them, when all work is done. Registered first, so called last: after everybody's own farewell.
    atexit.register(leave)
    make_streams_safe()
    end_with_requested_parent()
    try:
        run()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 3
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
    except BrokenPipeError:  # whoever reads what we print has read enough
        sys.exit(0)
    except OSError as error:
        _fail(explain_os_error(error))
    except ImportError as error:
        lacking = [name for name in KNOWN if name in str(error)]
        if not lacking:
            _report_bug(error)
        _fail(f"this system lacks {lacking[0]}: {how_to_install(lacking)}")
    except Exception as error:
        _report_bug(error)


def _fail(message: str, code: int = 2) -> NoReturn:
    print(f"error: {printable(' '.join(message.split()))}", file=sys.stderr)  # noqa: T201
    sys.exit(code)


def _report_bug(error: Exception) -> NoReturn:
    """One line for what should not have happened, with the details where whoever mends it finds them."""
    details = "".join(traceback.format_exception(error))
    if os.environ.get("DMSYNTH_TRACEBACK"):
        _fail(f"{type(error).__name__}: {error}\n{details}", code=3)
    kept = cache_folder() / "fault.txt"
    try:
        write_text(kept, f"{given_command()}\n\n{details}")
        where = f"the details are in {kept}"
    except OSError:
        where = "set DMSYNTH_TRACEBACK=1 to see the details"
    _fail(f"a fault of dmsynth, not yours: {type(error).__name__}: {error}; {where}: please report them", code=3)
