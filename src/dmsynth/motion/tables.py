"""Read a motion from a table of any program, if the meaning of its columns is certain; else an error lists them.

Certain are: dmsynth's own tables; columns called time and pitch, yaw, roll (x, y), in any case and spacing, with a
unit in the name (``yaw_rad``, ``time [ms]``) unless it is the default unit; OpenFace's tables; ISO 8601 dates and
times. Separators are commas, semicolons and tabs; decimal commas are read unless the comma is the separator; lines that
begin with # are comments. All else can be specified: ``--columns time=t,yaw=-head_yaw --unit rad,ms``.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from dmsynth.controls import CONTROL_SPACES, HEAD
from dmsynth.controls.pose import angles_from_matrix
from dmsynth.support.errors import DmsynthError
from dmsynth.support.progress import console
from dmsynth.support.records import printable

_LARGEST = 100 * 2**20  # bytes of a file; a million rows of a trajectory have about half of that
_MOST_COLUMNS = 5000  # OpenFace writes 714
_MOST_ROWS = 5_000_000
_SHOWN = 40  # columns in messages
_TIMES = ("time", "timestamp")
_OPENFACE = {"pitch": "pose_rx", "yaw": "pose_ry", "roll": "pose_rz"}
_DEGREES = {control.name for space in CONTROL_SPACES.values() for control in space.controls if control.unit == "°"}
_UNITS = {
    **dict.fromkeys(("rad", "radian", "radians"), "rad"),
    **dict.fromkeys(("deg", "degree", "degrees", "°"), "deg"),
    **dict.fromkeys(("s", "sec", "second", "seconds"), "s"),
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), "ms"),
    **dict.fromkeys(("us", "µs", "microseconds"), "us"),
    **dict.fromkeys(("ns", "nanoseconds"), "ns"),
    **dict.fromkeys(("px", "pixel", "pixels"), "px"),
}
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_SINCE_1970 = ((1e17, "ns"), (1e14, "us"), (1e11, "ms"))  # larger values are no seconds
_DATE = re.compile(r"^\s*\d{4}-\d\d-\d\d[T ]\d\d:\d\d")
_CLOCK = re.compile(r"^\s*\d{1,2}:\d\d:\d\d([.,]\d+)?\s*$")
_DECIMAL_COMMA = re.compile(r"^\s*[-+]?\d*,\d+([eE][-+]?\d+)?\s*$")


@dataclass(frozen=True)
class Columns:
    """The user's description of a table.

    Attributes:
        names: the table's column for ``time`` or a control; a minus before it inverts the sign of its values.
        angle, time: units, ``rad`` or ``deg``, and ``s``, ``ms``, ``us`` or ``ns``; None: as in the table.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    angle: str | None = None
    time: str | None = None

    @staticmethod
    def parse(columns: str | None, unit: str | None) -> Columns:
        """Parse ``time=NAME,yaw=NAME`` and ``rad,ms``. ``DmsynthError`` for anything else."""
        names = {}
        for part in (columns or "").split(",") if columns else []:
            ours, equals, theirs = (piece.strip() for piece in part.partition("="))
            if not (ours and equals and theirs.lstrip("-")):
                raise DmsynthError(f"--columns {columns}: give OURS=THEIRS, such as time=timestamp,yaw=head_yaw")
            if ours in names:
                raise DmsynthError(f"--columns {columns}: {ours} is given twice; keep one")
            names[ours] = theirs
        units = {_UNITS.get(part.strip().lower()) for part in (unit or "").split(",")} if unit else set()
        angles, times = units & {"rad", "deg"}, units & set(_SECONDS)
        if units - angles - times or len(angles) > 1 or len(times) > 1:
            raise DmsynthError(f"--unit {unit}: give rad or deg, and s or ms, such as rad,ms")
        return Columns(names, next(iter(angles), None), next(iter(times), None))


def read_motion_table(path: Path, names: Sequence[str], columns: Columns | None = None) -> pd.DataFrame:
    """Read a motion table into dmsynth's format: ``time`` in seconds, and those of the controls ``names`` that it has,
    angles in degrees.

    Non-numeric values become NaN; ``trajectory.from_table`` reports their rows. ``found`` and ``reason`` of dmsynth's
    and OpenFace's tables are kept. Prints a warning if the units look wrong.

    Raises:
        DmsynthError: missing, unreadable or too large; or the columns are not recognized (the message lists them).
    """
    columns = columns or Columns()
    if not path.is_file():
        raise DmsynthError(f"{path}: no such table; check the path")
    size = path.stat().st_size
    if size > _LARGEST:
        raise DmsynthError(f"{path}: has {size} bytes; a table of a motion has at most {_LARGEST}: leave columns out")
    try:
        read = _Csv(path) if path.suffix.lower() == ".csv" else _Parquet(path)
        return _with_meaning(read, tuple(names), columns, str(path))
    except DmsynthError:
        raise
    except OSError as error:
        raise DmsynthError(f"{path}: cannot be read ({error.strerror or _short(error)})") from None
    except (ValueError, TypeError, KeyError, NotImplementedError, csv.Error, MemoryError, OverflowError) as error:
        raise DmsynthError(f"{path}: not a readable table ({_short(error)}); give a .csv or .parquet file") from None


def _short(error: BaseException) -> str:
    return printable(" ".join(str(error).split()))[:200]


class _Csv:
    """A text table: the header is read at once, columns on request."""

    def __init__(self, path: Path) -> None:
        content = path.read_bytes()
        encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            text = content.decode("cp1252", "replace")
        lines = [line for line in text.splitlines() if line.strip() and line.lstrip()[0] not in "#%"]
        if not lines:
            raise DmsynthError(f"{path}: is empty; a trajectory needs at least one row")
        self.separator = next((mark for mark in ("\t", ";", ",") if mark in lines[0]), ",")
        self._lines = lines[1:]
        if lines[0].count(self.separator) >= _MOST_COLUMNS:
            raise DmsynthError(f"{path}: has more than {_MOST_COLUMNS} columns; leave out what is no motion")
        self.names = self._row(lines[0])
        if len(self._lines) > _MOST_ROWS:
            raise DmsynthError(f"{path}: has more than {_MOST_ROWS} rows; leave some out")

    def _row(self, line: str) -> list[str]:
        cells = next(csv.reader([line], delimiter=self.separator, skipinitialspace=True))
        return [cell.strip() for cell in cells]

    def columns(self, numbers: Sequence[int]) -> pd.DataFrame:
        """Columns by their indices, as text; the indices become their names."""
        if not self._lines:
            return pd.DataFrame({number: pd.Series(dtype=str) for number in numbers})
        width = len(self.names)
        for number, line in enumerate(self._lines):  # a decimal comma between commas is one cell too many
            if line.count(self.separator) >= width:
                cells = self._row(line)
                if len(cells) > width + (not cells[-1]):  # a separator at the end of each line is allowed
                    raise ValueError(f"row {number} has {len(cells)} cells, but there are {width} columns")
        table = pd.read_csv(
            io.StringIO("\n".join(self._lines)), sep=self.separator, header=None, usecols=sorted(set(numbers)),
            dtype=str, skipinitialspace=True, keep_default_na=False, na_values=[""],
        )  # fmt: skip
        return table.apply(lambda column: column.str.strip())

    def numbers(self, column: pd.Series) -> NDArray[np.float64]:
        if self.separator != "," and column.dropna().str.fullmatch(_DECIMAL_COMMA).any():
            column = column.str.replace(",", ".", regex=False)
        return pd.to_numeric(column, errors="coerce").to_numpy(dtype=float)


class _Parquet:
    """A .parquet table, with the interface of ``_Csv``."""

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet

        self._path = path
        with pyarrow.parquet.ParquetFile(path) as file:
            self.names = list(file.schema_arrow.names)
            if len(self.names) > _MOST_COLUMNS or file.metadata.num_rows > _MOST_ROWS:
                raise DmsynthError(
                    f"{path}: has more than {_MOST_COLUMNS} columns or {_MOST_ROWS} rows; leave some out"
                )

    def columns(self, numbers: Sequence[int]) -> pd.DataFrame:
        import pyarrow.parquet

        chosen = list(dict.fromkeys(self.names[number] for number in numbers))
        texts = [name for name in chosen if name == "reason"]  # few distinct texts
        table = pyarrow.parquet.read_table(self._path, columns=chosen, read_dictionary=texts).to_pandas()
        return pd.DataFrame({number: table[self.names[number]].to_numpy() for number in numbers})

    def numbers(self, column: pd.Series) -> NDArray[np.float64]:
        return pd.to_numeric(column, errors="coerce").to_numpy(dtype=float)


def _with_meaning(read: _Csv | _Parquet, names: tuple[str, ...], columns: Columns, where: str) -> pd.DataFrame:
    known = _Known(read.names, where)
    chosen = {ours: known.named(theirs) for ours, theirs in columns.names.items()}
    for ours in chosen:
        if ours not in ("time", *names):
            raise DmsynthError(f"--columns {ours}=…: there is no such control; there is time, {', '.join(names)}")
    openface = {name: known.one(_OPENFACE[name]) for name in names if name in _OPENFACE}
    is_openface = len(openface) == 3 and None not in openface.values() and not set(HEAD) & set(chosen)
    for name in {"time", *names} - set(chosen):
        spellings = _TIMES if name == "time" else (name,)
        found = next((place for place in map(known.one, spellings) if place is not None), None)
        if found is not None:
            chosen[name] = found
    if is_openface and not set(HEAD) & set(chosen):
        chosen |= {name: place for name, place in openface.items() if place is not None}
    else:
        is_openface = False
    if "time" not in chosen or not set(names) & set(chosen):
        raise DmsynthError(_unknown(read.names, names, "time" in chosen, where))
    extra = {name: place for name in ("found", "success", "reason") if (place := known.exactly(name)) is not None}
    raw = read.columns([*chosen.values(), *extra.values()])
    signs = {ours: -1.0 if known.turned(theirs) else 1.0 for ours, theirs in columns.names.items()}
    table = {"time": _seconds(read, raw[chosen["time"]], known.unit(chosen["time"]), columns.time, where)}
    for name in (name for name in names if name in chosen):
        unit = columns.angle or known.unit(chosen[name]) or ("rad" if is_openface else None)
        values = read.numbers(raw[chosen[name]]) * signs.get(name, 1.0)
        table[name] = np.degrees(values) if unit == "rad" and name in _DEGREES else values
        if unit is None and name in _DEGREES:
            known.bare.append(name)
    if is_openface:
        turns = np.stack([table[name] for name in HEAD], axis=1)
        table |= dict(zip(HEAD, _from_openface(turns).T, strict=True))
    result = pd.DataFrame({name: table[name] for name in ("time", *names) if name in table})
    for name in ("found", "success"):
        if name in extra and (name == "found" or is_openface):
            result["found"] = raw[extra[name]].map(_truth).to_numpy(dtype=bool)
            result["reason"] = raw[extra["reason"]].astype(str).to_numpy() if "reason" in extra else "no face"
            result.loc[result["found"], "reason"] = ""
            break
    is_ours = known.exactly("frame") is not None and bool({"found", "covered"} & set(read.names))
    if not is_ours:
        _warn_of_wrong_units(result, known.bare, known.unit(chosen["time"]) or columns.time, where)
    return result


class _Known:
    """Lookup of a table's columns by name."""

    def __init__(self, names: Sequence[str], where: str) -> None:
        self._names, self._where = [str(name) for name in names], where
        self._parts = [_name_and_unit(name) for name in self._names]
        self.bare: list[str] = []  # angles without a unit

    def one(self, name: str) -> int | None:
        """The column with this name, ignoring case and unit; None if there is none. ``DmsynthError`` if there are
        two."""
        places = [place for place, (known, _) in enumerate(self._parts) if known == name]
        if len(places) > 1:
            told = " and ".join(repr(printable(self._names[place])) for place in places[:3])
            raise DmsynthError(f"{self._where}: {told} could both be {name}; say which: --columns {name}=NAME")
        return places[0] if places else None

    def exactly(self, name: str) -> int | None:
        return next((place for place, known in enumerate(self._names) if known.strip().lower() == name), None)

    def named(self, theirs: str) -> int:
        """The column that the user gave, with or without a minus."""
        for name in (theirs, theirs.removeprefix("-")):
            if name in self._names:
                return self._names.index(name)
        shown = ", ".join(map(printable, self._names[:_SHOWN]))
        raise DmsynthError(f"--columns: {self._where} has no column {theirs.removeprefix('-')!r}; it has {shown}")

    def turned(self, theirs: str) -> bool:
        return theirs.startswith("-") and theirs not in self._names

    def unit(self, place: int) -> str | None:
        return self._parts[place][1]


def _name_and_unit(name: str) -> tuple[str, str | None]:
    """Split ``Yaw [rad]``, ``yaw_rad`` or ``yaw(rad)`` into yaw and rad; the unit is None if there is none."""
    plain = " ".join(name.strip().lower().split())
    bracketed = re.fullmatch(r"(.+?)[ _]?[\[(<]([^\])>]*)[\])>]", plain)
    for part in (bracketed, re.fullmatch(r"(.+)[ _]([^ _]+)", plain)):
        if part is not None and part[2].strip() in _UNITS:
            return part[1].strip(), _UNITS[part[2].strip()]
    return plain, None


def _unknown(found: Sequence[str], names: tuple[str, ...], has_time: bool, where: str) -> str:
    shown = ", ".join(repr(printable(str(name))[:60]) for name in found[:_SHOWN])
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    lacks = " nor ".join(map(repr, names)) if has_time else "'time'"
    return (
        f"{where}: has no column {lacks}, as far as names tell; it has {shown}{more}; say which it is, such as "
        f"--columns time=NAME,{names[-1] if len(names) < 2 else names[1]}=NAME --unit rad,ms "
        "(or deg, s; a minus before a NAME changes its sign)"
    )


def _seconds(
    read: _Csv | _Parquet, column: pd.Series, unit: str | None, given: str | None, where: str
) -> NDArray[np.float64]:
    """Times in seconds; dates and times of day become seconds since the first."""
    if pd.api.types.is_datetime64_any_dtype(column):
        return _since_first(column)
    filled = column.dropna()
    first = str(filled.iloc[0]) if len(filled) else ""
    if _DATE.match(first):
        return _since_first(pd.to_datetime(column.astype(str), format="ISO8601", utc=True, errors="coerce"))
    if _CLOCK.match(first):
        clock = pd.to_timedelta(column.astype(str).str.replace(",", "."), errors="coerce")
        return np.asarray(clock.dt.total_seconds(), dtype=float)
    values = read.numbers(column)
    finite = values[np.isfinite(values)]
    if given is None and unit is None and len(finite):
        unit = next((unit for most, unit in _SINCE_1970 if abs(finite[0]) > most), None)
    factor = _SECONDS.get(given or unit or "s")
    if factor is None:
        raise DmsynthError(f"{where}: its times are in {unit}; give seconds or milliseconds")
    return values * factor


def _since_first(moments: pd.Series) -> NDArray[np.float64]:
    return np.asarray((moments - moments.dropna().min()).dt.total_seconds(), dtype=float)


def _truth(value: object) -> bool:
    text = str(value).strip().lower()
    return text not in ("", "0", "0.0", "false", "nan", "none", "<na>")


def _from_openface(degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    """OpenFace's intrinsic rotations about x, y, z (n, 3), in the frame x right, y down, z away from the camera, as our
    pitch, yaw, roll (n, 3)."""
    result, whole = np.full(degrees.shape, np.nan), np.isfinite(degrees).all(axis=1)
    if whole.any():
        turns = Rotation.from_euler("XYZ", degrees[whole] * [1, -1, -1], degrees=True)
        result[whole] = angles_from_matrix(turns.as_matrix())
    return result


def _warn_of_wrong_units(table: pd.DataFrame, bare: Sequence[str], time_unit: str | None, where: str) -> None:
    """Radians read as degrees show almost no movement, milliseconds read as seconds very few rows a second."""
    with np.errstate(all="ignore"):
        angles = np.abs(table[list(bare)].to_numpy(dtype=float)) if bare else np.zeros((0, 1))
        angles = angles[np.isfinite(angles)]
        steps = np.diff(table["time"].to_numpy(dtype=float))
        steps = steps[np.isfinite(steps)]
    if len(table) >= 10 and angles.size and 0.02 < angles.max() <= np.pi / 2:
        console.print(
            f"warning: {where}: all angles lie within {angles.max():.2f}, and are taken as degrees; "
            "if they are radians, add --unit rad (deg, and nothing is said)",
            style="yellow",
        )
    if time_unit is None and steps.size >= 9 and np.median(steps) >= 4:
        total = float(steps.sum())
        console.print(
            f"warning: {where}: its rows are {np.median(steps):g} s apart, which makes {total / 60:.1f} minutes; "
            "if times are milliseconds, add --unit ms (s, and nothing is said)",
            style="yellow",
        )
