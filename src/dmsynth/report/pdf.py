"""A report as PDF, printed by a Chromium that is there: pages for those who file paper, or sign it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import replacing
from dmsynth.support.processes import run

_BROWSERS = (
    "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge", "msedge",
    "brave-browser",
)  # fmt: skip
_MACS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
_PATIENCE = 180.0  # seconds


def find_browser() -> str:
    """A Chromium on this machine. ``DmsynthError`` if there is none."""
    found = next((path for name in (*_BROWSERS, *_MACS) if (path := shutil.which(name))), None)
    if found is None:
        raise DmsynthError(
            "--pdf: no Chromium or Chrome is installed to print with; install one (Debian: apt-get install chromium), "
            "or open report.html in any browser and print it from there"
        )
    return found


def print_as_pdf(browser: str, page: Path, pdf: Path) -> None:
    """Print a page that loads nothing from elsewhere. ``DmsynthError`` if the browser makes no PDF of it."""
    with tempfile.TemporaryDirectory() as profile, replacing(pdf) as temporary:
        arguments = [
            browser, "--headless", "--disable-gpu", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync", f"--user-data-dir={profile}", "--no-pdf-header-footer",
            f"--print-to-pdf={temporary.resolve()}",
        ]  # fmt: skip
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            arguments.append("--no-sandbox")  # as root Chromium refuses to start with it
        try:
            done = run([*arguments, page.resolve().as_uri()], _PATIENCE)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise DmsynthError(f"{pdf}: {browser} could not print it ({error}); print {page} by hand") from None
        if done.returncode or not temporary.is_file() or not temporary.stat().st_size:
            said = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
            raise DmsynthError(f"{pdf}: {browser} could not print it ({said[0]}); print {page} by hand")
