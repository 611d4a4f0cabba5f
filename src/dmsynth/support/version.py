"""The version of dmsynth, written into every output file."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("dmsynth")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+source"
