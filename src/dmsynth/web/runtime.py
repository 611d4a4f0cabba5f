"""ONNX Runtime Web, downloaded with npm: when dmsynth is built (and included in the wheel), or when first needed."""

from __future__ import annotations

import base64
import hashlib
import shutil
import tarfile
import tempfile
from pathlib import Path

from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import replacing
from dmsynth.support.processes import run

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"  # Microsoft, MIT licence
INTEGRITY = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="  # sha512
FOLDER = Path(__file__).parent / "runtime"
SCRIPT, LOADER, WASM = "ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"
FILES = (SCRIPT, LOADER, WASM)


def runtime_files() -> dict[str, Path]:
    """The runtime's files by name. ``DmsynthError`` if they are not included and npm cannot download them."""
    if not _is_whole():
        try:
            fetch()
        except OSError as error:
            raise DmsynthError(f"{FOLDER}: {PACKAGE} cannot be kept here ({error.strerror})") from None
    return {name: FOLDER / name for name in FILES}


def _is_whole() -> bool:
    return all((FOLDER / name).is_file() for name in FILES)


def fetch() -> None:
    """Download the runtime's files with npm, unless they exist.

    Raises ``DmsynthError`` if there is no npm, or if the package's checksum is not the pinned one.
    """
    if _is_whole():
        return
    npm = shutil.which("npm")
    if npm is None:
        raise DmsynthError(f"{PACKAGE}, which draws in the browser, is fetched with npm; install npm and try again")
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--silent", "--pack-destination", folder]
        done = run(command)
        packed = list(Path(folder).glob("*.tgz"))
        if done.returncode or len(packed) != 1:
            raise DmsynthError(f"npm could not fetch {PACKAGE}@{VERSION}: {done.stderr.strip()[-300:] or 'no file'}")
        digest = base64.b64encode(hashlib.sha512(packed[0].read_bytes()).digest()).decode()
        if digest != INTEGRITY:
            raise DmsynthError(f"npm delivered another {PACKAGE}@{VERSION} than the pinned one; nothing was unpacked")
        with tarfile.open(packed[0]) as archive:
            for name in FILES:
                content = archive.extractfile(f"package/dist/{name}")
                assert content is not None
                with replacing(FOLDER / name) as temporary:
                    temporary.write_bytes(content.read())
