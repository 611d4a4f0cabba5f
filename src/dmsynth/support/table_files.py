"""Tables on disk: .csv or .parquet, by the name's ending."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import replacing

TABLE_SUFFIXES = (".csv", ".parquet")


def read_table(path: Path) -> pd.DataFrame:
    """A .csv or .parquet table. ``DmsynthError`` if it is missing or unreadable."""
    if not path.is_file():
        raise DmsynthError(f"{path}: no such table; check the path")
    try:
        return pd.read_csv(path) if path.suffix.lower() == ".csv" else pd.read_parquet(path)
    except (ValueError, OSError, TypeError, KeyError, NotImplementedError, MemoryError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DmsynthError(f"{path}: not a readable table ({reason}); give a .csv or .parquet file") from None


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a .csv or .parquet table (by the suffix), atomically."""
    check_table_name(path)
    with replacing(path) as temporary:
        if path.suffix.lower() == ".csv":
            table.to_csv(temporary, index=False, float_format="%.6g")
        else:
            table.to_parquet(temporary, index=False)


def check_table_name(path: Path) -> None:
    """Raise ``DmsynthError`` if ``path`` has no table suffix; to be called before long work."""
    if path.suffix.lower() not in TABLE_SUFFIXES:
        raise DmsynthError(f"{path}: a table is written as .csv or .parquet; change the name's ending")
