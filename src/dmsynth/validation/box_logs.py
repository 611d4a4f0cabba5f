"""Logs of a DMS in its own format: tables, JSON Lines, MDF4 and ROS 2 bags. One function and one entry a format."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dmsynth.support.errors import DmsynthError
from dmsynth.support.records import printable
from dmsynth.validation.log_map import LogMap, StateColumn, TimeColumn, Value, WarningColumn
from dmsynth.validation.protocol import ANGLES

_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_SHOWN = 30  # columns in messages
_LONGEST_SHOWN = 60  # characters of a value in messages
_DECIMAL_COMMA = re.compile(r'(?:^|[;\t])[ "]*[-+]?\d+,\d+(?:[eE][-+]?\d+)?[ "]*(?:[;\t]|$)')  # a whole cell: -1,5
_SPELLINGS = {"true": "1", "false": "0"}


@dataclass(frozen=True)
class Signal:
    """What a log says of one thing: ``times`` (n,) in seconds of its clock, increasing or equal; ``values`` (n,):
    degrees, shares or numbers, NaN where there is none; of ``warning`` the kind, "" for one without, None for none."""

    times: NDArray[np.float64]
    values: NDArray[Any]


Raw = dict[str, tuple[NDArray[Any], NDArray[Any]]]
"""By the log's column: its times, as they are in the log, or in seconds; and its values."""


def read_box_log(path: Path, meaning: LogMap) -> dict[str, Signal]:
    """The signals of a log, by our names: those of ``LogMap.columns``.

    Raises:
        DmsynthError: no such log or format; a missing package; no time; no such column; a clock that jumps back.
    """
    if not path.exists():
        raise DmsynthError(f"{path}: no such log; check the path")
    reader = READERS.get("" if path.is_dir() else path.suffix.lower())
    if reader is None:
        raise DmsynthError(f"{path}: no log that can be read; give one of {', '.join(filter(None, READERS))}, or a bag")
    try:
        raw = reader(path, list(meaning.columns.values()), meaning.time)
    except (ValueError, TypeError, KeyError, OSError, MemoryError) as error:
        raise _unreadable(path, error) from None
    return {
        name: _with_meaning(str(path), name, *raw[column], getattr(meaning, name))
        for name, column in meaning.columns.items()
    }


def _unreadable(path: Path, error: Exception) -> DmsynthError:
    reason = printable(" ".join(str(error).split())[:200]) or type(error).__name__
    return DmsynthError(f"{path}: not a readable log ({reason}); export it again")


@contextmanager
def _any_error_said(path: Path) -> Iterator[None]:
    """asammdf and rosbags have errors of their own, and raise others from within on damaged files."""
    try:
        yield
    except DmsynthError:
        raise
    except Exception as error:
        raise _unreadable(path, error) from None


def _with_meaning(where: str, name: str, times: NDArray[Any], raw: NDArray[Any], column: Any) -> Signal:
    values: NDArray[Any]
    if isinstance(column, WarningColumn):
        kinds = column.values if isinstance(column.values, dict) else dict.fromkeys(column.values, "")
        known = {_plain(value): kind for value, kind in kinds.items()}
        values = np.array([known.get(_plain(each)) for each in raw], dtype=object)
        if len(raw) and all(each is None for each in values):  # a DMS may never warn; a wrong map looks the same
            seen = sorted({_plain(each) for each in raw})
            if len(seen) > 1:
                raise DmsynthError(
                    f"{where}: {column.column} never has a value that means a warning; it has {', '.join(seen[:10])}; "
                    "name them in the map"
                )
    elif isinstance(column, StateColumn):
        known_values = {_plain(value) for value in column.values}
        values = np.array([_plain(each) in known_values for each in raw])
    else:
        values = pd.to_numeric(pd.Series(raw).map(_number), errors="coerce").to_numpy(float)
        if name in ANGLES:
            values = (np.degrees(values) if column.unit == "rad" else values) * column.sign
        if name == "eye_opening" and column.unit == "percent":
            values = values / 100
        if not np.isfinite(values).any():
            raise DmsynthError(f"{where}: {column.column} holds no number; correct the map's {name}")
    if not len(times) or not np.isfinite(times).all():
        row = int(np.argmin(np.isfinite(times))) if len(times) else 0
        raise DmsynthError(
            f"{where}: has no time in entry {row + 1} of {column.column}; correct the map's time, or the log"
        )
    back = np.flatnonzero(np.diff(times) < 0)
    if len(back):
        at = int(back[0]) + 1
        raise DmsynthError(
            f"{where}: the clock jumps back in entry {at + 1}, from {times[at - 1]:.3f} to {times[at]:.3f} s; "
            "cut the log there, and give the part of one play"
        )
    return Signal(times, values)


def _plain(value: Value | Any) -> str:
    """A value as a text by which it is compared: 1, 1.0, true and "1" are the same."""
    if isinstance(value, bool | np.bool_ | int | float | np.number):
        return f"{float(value):.10g}"
    text = (value.decode(errors="replace") if isinstance(value, bytes) else str(value)).strip().lower()
    return _SPELLINGS.get(text, text)


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, bool) else value


# --- formats -------------------------------------------------------------------------------------------------------


def _lacks(where: str, missing: Sequence[str], there: Sequence[Any], what: str = "column") -> DmsynthError:
    shown = ", ".join(printable(str(name)) for name in there[:_SHOWN]) + (" …" if len(there) > _SHOWN else "")
    return DmsynthError(f"{where}: has no {what} {', '.join(missing)}; it has {shown}; correct the map")


def _from_table(where: str, table: pd.DataFrame, wanted: Sequence[str], time: TimeColumn | None) -> Raw:
    if time is None:
        raise DmsynthError(f"{where}: the map names no time, and this log has none of its own; add time: COLUMN")
    missing = [name for name in (time.column, *wanted) if name not in table.columns]
    if missing:
        raise _lacks(where, missing, list(table.columns))
    column = table[time.column]
    if time.unit == "iso":
        moments = pd.to_datetime(column, format="ISO8601", utc=True, errors="coerce")
        seconds = (moments - pd.Timestamp(0, tz="UTC")).dt.total_seconds().to_numpy(float)
    else:
        seconds = pd.to_numeric(column, errors="coerce").to_numpy(float) * _SECONDS[time.unit]
    wrong = np.flatnonzero(~np.isfinite(seconds))
    if len(wrong):
        said = str(column.iloc[wrong[0]])[:_LONGEST_SHOWN]
        raise DmsynthError(
            f"{where}: has no time in entry {wrong[0] + 1} of {time.column} ({said!r}); correct the map's time and its "
            "unit, or the log"
        )
    return {name: (seconds, table[name].to_numpy()) for name in wanted}


def _csv(path: Path, wanted: Sequence[str], time: TimeColumn | None) -> Raw:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        head = file.readline()
        separator = max(",;\t", key=head.count)
        comma = separator != "," and any(_DECIMAL_COMMA.search(line) for line in file)
    table = pd.read_csv(
        path, sep=separator, decimal="," if comma else ".", encoding="utf-8-sig", skipinitialspace=True,
        low_memory=False,
    )  # fmt: skip
    return _from_table(str(path), table, wanted, time)


def _parquet(path: Path, wanted: Sequence[str], time: TimeColumn | None) -> Raw:
    return _from_table(str(path), pd.read_parquet(path), wanted, time)


def _json_lines(path: Path, wanted: Sequence[str], time: TimeColumn | None) -> Raw:
    rows = []
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    rows.append(json.loads(line))
                except (ValueError, RecursionError):
                    raise DmsynthError(
                        f"{path}, line {number}: is no JSON; cut it out, or export the log again"
                    ) from None
                if not isinstance(rows[-1], dict):
                    raise DmsynthError(f"{path}, line {number}: is no JSON object; export the log with names")
    return _from_table(str(path), pd.json_normalize(rows), wanted, time)


def _mdf(path: Path, wanted: Sequence[str], time: TimeColumn | None) -> Raw:
    try:
        from asammdf import MDF
    except ModuleNotFoundError:
        raise DmsynthError(f"{path}: needs the package asammdf; pip install 'dmsynth[mdf]'") from None
    _no_time(path, time)
    with _any_error_said(path), MDF(path) as log:
        missing = [name for name in wanted if name not in log.channels_db]
        if missing:
            raise _lacks(str(path), missing, sorted(log.channels_db), "channel")
        begun = log.header.start_time.timestamp()
        found = {
            name: log.get(name, group=log.channels_db[name][0][0], index=log.channels_db[name][0][1]) for name in wanted
        }
        return {name: (begun + each.timestamps.astype(float), each.samples) for name, each in found.items()}


def _bag(path: Path, wanted: Sequence[str], time: TimeColumn | None) -> Raw:
    try:
        from rosbags.highlevel import AnyReader
        from rosbags.typesys import Stores, get_typestore
    except ModuleNotFoundError:
        raise DmsynthError(f"{path}: needs the package rosbags; pip install 'dmsynth[ros]'") from None
    _no_time(path, time)
    parts = {name: name.partition(":")[::2] for name in wanted}
    found: dict[str, tuple[list[float], list[Any]]] = {name: ([], []) for name in wanted}
    store = get_typestore(Stores.ROS2_HUMBLE)
    with _any_error_said(path), AnyReader([path], default_typestore=store) as bag:
        topics = {connection.topic for connection in bag.connections}
        missing = [name for name, (topic, _) in parts.items() if topic not in topics]
        if missing:
            raise _lacks(str(path), missing, sorted(topics), "topic")
        chosen = [each for each in bag.connections if each.topic in {topic for topic, _ in parts.values()}]
        for connection, stamp, content in bag.messages(connections=chosen):
            message = bag.deserialize(content, connection.msgtype)
            for name, (topic, field) in parts.items():
                if topic == connection.topic:
                    found[name][0].append(stamp * 1e-9)
                    found[name][1].append(_field(path, name, message, field))
    return {name: (np.array(times), np.array(values, dtype=object)) for name, (times, values) in found.items()}


def _field(path: Path, name: str, message: Any, field: str) -> Any:
    for part in field.split("."):
        if not hasattr(message, part):
            raise _lacks(str(path), [name], [each for each in dir(message) if not each.startswith("_")], "field")
        message = getattr(message, part)
    return message


def _no_time(path: Path, time: TimeColumn | None) -> None:
    if time is not None:
        raise DmsynthError(f"{path}: has times of its own; leave time out of the map")


READERS: Mapping[str, Callable[[Path, Sequence[str], TimeColumn | None], Raw]] = {
    ".csv": _csv,
    ".parquet": _parquet,
    ".jsonl": _json_lines,
    ".mf4": _mdf,
    ".mcap": _bag,
    ".db3": _bag,
    "": _bag,  # a folder
}
"""Readers of logs by the ending of their name."""
