"""What killed processes leave beside files that they were writing: ``.NAME.PID.partial.SUFFIX``."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_PARTIAL = re.compile(r"^\..*\.(?P<process>\d+)\.partial(\.[^.]*)?$")


def remove_leftovers(folders: Iterable[Path], older_than: float = 0.0) -> list[Path]:
    """Remove half-written files whose writer is gone; what a living process writes is left alone.

    Args:
        folders: where to look; not below them. One that does not exist holds none.
        older_than: seconds that nobody has written to a file; for folders that other machines write to as well, whose
            processes cannot be seen from here.

    Returns:
        What was removed.
    """
    removed = []
    for folder in folders:
        for file in sorted(folder.glob(".*.partial*")):
            match = _PARTIAL.match(file.name)
            with suppress(OSError):
                if match and not _lives(int(match["process"])) and time.time() - file.stat().st_mtime >= older_than:
                    file.unlink()
                    removed.append(file)
    return removed


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
