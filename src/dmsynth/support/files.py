"""Atomic file writes: a file is written under a temporary name, then renamed."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import platform
import re
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from dmsynth.support.errors import DmsynthError

_HERE = f"{zlib.crc32(platform.node().encode()):08x}"  # ID of this machine: others may share the folder


def temporary_beside(path: Path) -> Path:
    """A temporary file name in the folder of ``path``; the folder is created if missing.

    It keeps the suffix of ``path``, because writers choose their format by it. Temporary files left behind by killed
    processes are removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent, path.stem)
    return path.with_name(f".{path.stem}.{os.getpid()}-{_HERE}.partial{path.suffix}")


def remove_leftovers(folder: Path, stem: str | None = None) -> list[Path]:
    """Remove temporary files in a folder (not in subfolders) whose writing process has ended; return their paths.

    Files of a running process or another machine are kept. ``stem`` limits this to files with that name (no suffix).
    """
    removed = []
    for left in folder.glob(f".{glob.escape(stem) if stem else '*'}.*-{_HERE}.partial*"):
        owner = re.search(r"\.(\d+)-\w+\.partial(\.[^.]*)?$", left.name)
        if owner and not _lives(int(owner[1])):
            left.unlink(missing_ok=True)
            removed.append(left)
    return removed


def is_begun(folder: Path) -> bool:
    """Whether a folder holds anything but temporary files."""
    return any(not re.search(r"^\..*-\w+\.partial(\.[^.]*)?$", path.name) for path in folder.iterdir())


def put_in_place(temporary: Path, path: Path) -> None:
    """Rename a finished file or folder to ``path``; content and name survive a power loss (fsync)."""
    sync(temporary)
    temporary.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Flush a file's content, or a folder's directory entries, to the disk (fsync)."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.ENOTSUP):  # a file system that cannot sync
            raise
    finally:
        os.close(handle)


@contextmanager
def replacing(path: Path, lasting: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` if the block succeeds, else remove it.

    With ``lasting`` the file then survives a power loss; progress files need not.
    """
    temporary = temporary_beside(path)
    try:
        yield temporary
        if lasting:
            put_in_place(temporary, path)
        else:
            temporary.replace(path)
    except OSError as error:
        if error.errno is None or error.filename:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None  # errors of open files carry no name
    finally:
        temporary.unlink(missing_ok=True)


def check_output(path: Path) -> None:
    """Before long work: raise unless a file can be written at ``path``, in a folder that exists or can be created.

    ``DmsynthError`` for a folder, or a ``~`` that no shell expanded; ``OSError`` where the system does not allow it.
    """
    if path.parts[:1] and path.parts[0].startswith("~") and not Path(path.parts[0]).exists():
        raise DmsynthError(f"{path}: no shell replaced the ~ (it does after a blank: --out ~/…); give the whole path")
    if path.is_dir():
        raise DmsynthError(f"{path}: is a folder; give a file's name in it")
    there = next(folder for folder in path.absolute().parents if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # another user's process
        pass
    return True


def write_text(path: Path, text: str, lasting: bool = True) -> None:
    """Write ``text`` (UTF-8) to ``path`` atomically; ``lasting``: see ``replacing``."""
    with replacing(path, lasting) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any, lasting: bool = True) -> None:
    """Write ``content`` as indented JSON, atomically. NaN is rejected: it is not JSON."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n", lasting)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; a missing or damaged file raises ``DmsynthError`` naming it.

    Only for internal files whose entries are just compared; for all others use a typed ``records.read_record``.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DmsynthError(f"{path}: no such file; check the path") from None
    except (ValueError, RecursionError) as error:
        raise DmsynthError(f"{path}: not valid JSON ({str(error)[:200]}); make it again") from None
    if not isinstance(content, dict):
        raise DmsynthError(f"{path}: damaged: holds no JSON object; make it again")
    return content


def lock(file: IO[bytes], name: Path) -> None:
    """Lock ``file`` exclusively until it is closed; ``DmsynthError`` if another process holds the lock."""
    try:
        import fcntl
    except ImportError:  # Windows: nothing to lock with
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise DmsynthError(f"{name}: another process is working on it; wait for it or choose another name") from None


def wait_for_lock(file: IO[bytes]) -> None:
    """Wait for an exclusive lock on ``file``, held until it is closed; other threads of this process wait, too."""
    with suppress(ImportError):  # Windows: nothing to lock with
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)


def is_file(path: Path | str) -> bool:
    """Whether a text is the path of a file. False for texts that cannot be a path (``Path`` raises for some)."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path | str) -> bool:
    """The same for a folder."""
    try:
        return Path(path).is_dir()
    except (OSError, ValueError):
        return False


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
