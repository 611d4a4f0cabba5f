"""System libraries that our packages need and a minimal system may lack, and the command that installs them.

Runs before anything is installed (``python src/dmsynth/support/system_libraries.py``, as ``make install`` does), so it
needs only the standard library, of any Python version.
"""

import ctypes
import shutil
import sys

# Libraries that MediaPipe's wheel links to and PyPI does not provide; all others come in the wheels or with glibc.
WANTED = {"libEGL.so.1": ("libegl1", "libglvnd-egl"), "libGLESv2.so.2": ("libgles2", "libglvnd-gles")}

# Needed by packages that are not in our lock file but may replace one of it, such as OpenCV with GUI.
KNOWN = dict(
    WANTED,
    **{
        "libGL.so.1": ("libgl1", "libglvnd-glx"),
        "libgthread-2.0.so.0": ("libglib2.0-0", "glib2"),
        "libglib-2.0.so.0": ("libglib2.0-0", "glib2"),
    },
)


def missing_libraries() -> list[str]:
    """Those of ``WANTED`` that cannot be loaded; none on other systems than Linux."""
    return [name for name in WANTED if not _loads(name)] if sys.platform == "linux" else []


def how_to_install(libraries: list[str]) -> str:
    """The command that installs them, for the system's own package manager."""
    if shutil.which("dnf"):
        return "sudo dnf install -y " + " ".join(KNOWN[name][1] for name in libraries)
    return "sudo apt-get install -y " + " ".join(KNOWN[name][0] for name in libraries)


def _loads(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    lacking = missing_libraries()
    if lacking:
        sys.exit(f"dmsynth needs {' and '.join(lacking)}, which this system lacks: {how_to_install(lacking)}")
