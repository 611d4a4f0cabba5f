"""Errors: one line that tells the user what is wrong and what to do."""

from __future__ import annotations

import errno
from pathlib import Path


class DmsynthError(Exception):
    """An error in the input or on the machine, not in dmsynth.

    The message is one line: what is wrong, where (file and frame), and how to fix it. The command line prints
    it without a traceback and ends with a non-zero exit code.
    """


def explain_os_error(error: OSError, path: Path | str | None = None) -> str:
    """One line for a full disk, an unwritable folder or a missing file, with what to do about it."""
    where = path or error.filename or "the output"
    if error.errno == errno.ENOSPC:
        return f"{where}: the disk is full; free some space and run the same command again"
    if error.errno in (errno.EFBIG, errno.EDQUOT):
        return f"{where}: over this system's limit on file size or quota; raise it or choose another place"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{where}: not allowed to write or read here; choose another folder or change its permissions"
    if error.errno == errno.ENOENT:
        return f"{where}: no such file or folder; check the path"
    if error.errno in (errno.ENOTDIR, errno.EISDIR, errno.EEXIST):
        return f"{where}: a file stands where a folder is needed, or the other way round; choose another path"
    return f"{where}: {error.strerror or error}"
