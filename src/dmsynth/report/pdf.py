"""A report as PDF, printed by an installed Chromium: for paper files and signatures."""

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
_TIMEOUT = 180.0  # seconds


def find_browser() -> str:
    """Path of an installed Chromium. ``DmsynthError`` if there is none."""
    found = next((path for name in (*_BROWSERS, *_MACS) if (path := shutil.which(name))), None)
    if found is None:
        raise DmsynthError(
            "--pdf: no Chromium or Chrome is installed to print with; install one (Debian: apt-get install chromium), "
            "or open report.html in any browser and print it from there"
        )
    return found


def print_as_pdf(browser: str, page: Path, pdf: Path) -> None:
    """Print a self-contained page. ``DmsynthError`` if the browser does not produce a PDF."""
    with tempfile.TemporaryDirectory() as profile, replacing(pdf) as temporary:
        arguments = [
            browser, "--headless", "--disable-gpu", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync", f"--user-data-dir={profile}", "--no-pdf-header-footer",
            f"--print-to-pdf={temporary.resolve()}",
        ]  # fmt: skip
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            arguments.append("--no-sandbox")  # as root Chromium does not start with its sandbox
        try:
            done = run([*arguments, page.resolve().as_uri()], _TIMEOUT)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise DmsynthError(f"{pdf}: {browser} could not print it ({error}); print {page} by hand") from None
        if done.returncode or not temporary.is_file() or not temporary.stat().st_size:
            said = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
            raise DmsynthError(f"{pdf}: {browser} could not print it ({said[0]}); print {page} by hand")
