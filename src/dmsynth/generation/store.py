"""Where a set of labelled frames lies: a folder of this machine, or an address that fsspec opens.

An object store has no rename: files are drawn in a folder here, and go there whole, each after those that it speaks of.
A shard's result follows its archive, the hashes of all follow everything. So what is named is there.
"""

from __future__ import annotations

import hashlib
import posixpath
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

from pydantic import BaseModel

from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import sha256_of
from dmsynth.support.model_files import cache_folder
from dmsynth.support.records import LARGEST, checked, json_of

_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(frozen=True)
class Store:
    """A set's files by their names, such as ``data/cabin-000000.tar``.

    Attributes:
        where: the folder or the address, as it was given.
        work: the folder in which files are made: that of the set itself, or of an address one in the user's cache.
    """

    where: str
    work: Path
    _files: Any = None  # fsspec's file system; None: the folder ``work`` is the set
    _root: str = ""

    @staticmethod
    def of(where: str | Path) -> Store:
        """Of a folder, or an address with ``://``.

        Raises:
            DmsynthError: an address of an unknown kind, or of one whose package is missing.
        """
        text = str(where)
        if "://" not in text:
            return Store(text, Path(where))
        import fsspec

        with _told(text):
            try:
                files, root = fsspec.core.url_to_fs(text)
            except ImportError as error:
                raise DmsynthError(f"{text}: needs another package: {error}; install it") from None
            except ValueError as error:
                raise DmsynthError(f"{text}: cannot be opened ({error}); give a folder, or such as s3://…") from None
        key = hashlib.sha256(text.rstrip("/").encode()).hexdigest()[:16]
        return Store(text, cache_folder() / "generate" / key, files, root.rstrip("/"))

    @property
    def is_here(self) -> bool:
        """Whether it is a folder of this machine, in which files are made in their places."""
        return self._files is None

    def check_shared(self) -> None:
        """``DmsynthError`` for an address that other processes would not find."""
        if self._files is not None and "memory" in (self._files.protocol, *self._files.protocol):
            raise DmsynthError(
                f"{self.where}: is the memory of one process, and frames are drawn in others; give a folder or a bucket"
            )

    def has(self, name: str) -> bool:
        if self.is_here:
            return (self.work / name).is_file()
        with _told(self.where):
            return bool(self._files.isfile(self._at(name)))

    def size(self, name: str) -> int:
        """Bytes of a file that is there."""
        if self.is_here:
            return (self.work / name).stat().st_size
        with _told(self.where):
            return int(self._files.info(self._at(name))["size"])

    def names(self, folder: str) -> list[str]:
        """What lies in a folder of it, sorted; nothing if the folder is not there."""
        if self.is_here:
            at = self.work / folder
            return sorted(file.name for file in at.iterdir()) if at.is_dir() else []
        with _told(self.where):
            at_root = self._at(folder)
            if not self._files.isdir(at_root):
                return []
            found = sorted(posixpath.basename(each.rstrip("/")) for each in self._files.ls(at_root, detail=False))
            self._files.invalidate_cache()  # other processes put more there: a listing that is kept lacks it
            return found

    @contextmanager
    def opened(self, name: str) -> Iterator[IO[bytes]]:
        """A file to be read; it can be sought in."""
        if self.is_here:
            with (self.work / name).open("rb") as file:
                yield file
            return
        with _told(self.where):
            file = self._files.open(self._at(name), "rb")
        with file, _told(self.where, OSError):  # what else goes wrong is the content's fault
            yield file

    def read(self, name: str, largest: int = LARGEST) -> bytes:
        """The content of a file of bounded size."""
        with self.opened(name) as file:
            content = file.read(largest + 1)
        if len(content) > largest:
            raise DmsynthError(f"{self.named(name)}: has more than {largest} bytes, which it cannot have")
        return content

    def record(self, name: str, model: type[_Model], mend: str) -> _Model:
        """A JSON file as ``model``. ``DmsynthError`` for a missing or damaged one; ``mend``: advice."""
        where = self.named(name)
        if not self.has(name):
            raise DmsynthError(f"{where}: no such file; check the path")
        return checked(json_of(self.read(name), where, mend), model, where, mend)

    def sha256(self, name: str) -> str:
        """SHA-256 of a file's bytes, 64 hexadecimal digits: all of it is read, wherever it lies."""
        if self.is_here:
            return sha256_of(self.work / name)
        with self.opened(name) as file:
            digest = hashlib.sha256()
            while content := file.read(2**20):
                digest.update(content)
        return digest.hexdigest()

    def put(self, name: str) -> None:
        """Send a file that was made in ``work`` to its place, whole; nothing is to be done in a folder here.

        Raises:
            DmsynthError: it cannot be written, or has another size there.
        """
        if self.is_here:
            return
        at, file = self._at(name), self.work / name
        with _told(self.where):
            self._files.makedirs(posixpath.dirname(at), exist_ok=True)
            self._files.put_file(str(file), at)
            self._files.invalidate_cache()
            size = self._files.info(at)["size"]
        if size != file.stat().st_size:
            raise DmsynthError(f"{self.named(name)}: has {size} bytes there; run the same command again")

    def tidy(self) -> None:
        """Remove what was made here and lies there now."""
        if not self.is_here:
            shutil.rmtree(self.work, ignore_errors=True)

    def named(self, name: str) -> str:
        """A file's name in messages."""
        return str(self.work / name) if self.is_here else f"{self.where.rstrip('/')}/{name}"

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root


@contextmanager
def _told(where: str, kind: type[Exception] = Exception) -> Iterator[None]:
    """Errors of whatever serves an address, each of its own ``kind``, in one line."""
    try:
        yield
    except DmsynthError:
        raise
    except kind as error:
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise DmsynthError(f"{where}: cannot be read or written ({said}); check the address and your access") from None
