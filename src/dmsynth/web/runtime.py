"""ONNX Runtime Web, taken from npm when dmsynth is built, and shipped with it: ``python -m dmsynth.web.runtime``."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from dmsynth.errors import DmsynthError
from dmsynth.files import replacing

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"  # Microsoft, MIT licence
INTEGRITY = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="  # sha512
FOLDER = Path(__file__).parent / "runtime"
SCRIPT, LOADER, WASM = "ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"


def runtime_files() -> dict[str, Path]:
    """The runtime's files by name. ``DmsynthError`` where they were not fetched when dmsynth was built."""
    files = {name: FOLDER / name for name in (SCRIPT, LOADER, WASM)}
    if not all(path.is_file() for path in files.values()):
        raise DmsynthError(
            f"{PACKAGE} is not here, which draws in the browser; with npm installed, `python -m {__spec__.name}` "
            "fetches it once"
        )
    return files


def fetch() -> bool:
    """Fetch the runtime's files with npm, unless they are there; whether they are there now.

    Raises ``DmsynthError`` if npm delivers something else than the pinned package.
    """
    if all((FOLDER / name).is_file() for name in (SCRIPT, LOADER, WASM)):
        return True
    npm = shutil.which("npm")
    if npm is None:
        return False
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--silent", "--pack-destination", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        packed = list(Path(folder).glob("*.tgz"))
        if done.returncode or len(packed) != 1:
            raise DmsynthError(f"npm could not fetch {PACKAGE}@{VERSION}: {done.stderr.strip()[-300:] or 'no file'}")
        digest = base64.b64encode(hashlib.sha512(packed[0].read_bytes()).digest()).decode()
        if digest != INTEGRITY:
            raise DmsynthError(f"npm delivered another {PACKAGE}@{VERSION} than the pinned one; nothing was unpacked")
        with tarfile.open(packed[0]) as archive:
            for name in (SCRIPT, LOADER, WASM):
                content = archive.extractfile(f"package/dist/{name}")
                assert content is not None
                with replacing(FOLDER / name) as temporary:
                    temporary.write_bytes(content.read())
    return True


if __name__ == "__main__":
    try:
        if not fetch():
            print("npm is not installed: `dmsynth export --web` and its tests do without", file=sys.stderr)  # noqa: T201
    except DmsynthError as error:
        print(f"{error}; `dmsynth export --web` does without", file=sys.stderr)  # noqa: T201
