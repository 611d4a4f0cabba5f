"""What a DMS prints, read: JSON Lines among whatever else a program says.

Real programs log, show progress, write a byte-order mark, or put numbers in quotes. A line that is no answer is
counted, and fails nothing; a strict reading refuses it. What is an answer is taken at its word either way.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Generator, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from dmsynth.support.errors import DmsynthError

ENTRY_POINTS = "dmsynth.dms"
"""The group under which an installed package names a DMS of its own."""
ANGLES = ("pitch", "yaw", "roll", "gaze_pitch", "gaze_yaw")
WIDEST = 360.0  # degrees; what lies beyond is no angle
_LONGEST_LINE = 65_536  # characters; an answer has some hundred
_HEAD = 4096  # bytes by which the encoding is told
_SHOWN = 60  # characters of a wrong line
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


class DmsFailedError(DmsynthError):
    """The DMS under test broke down. Not the user's mistake: it becomes part of the verdict."""


class NotTestedError(DmsFailedError):
    """There is nothing to judge the DMS by: no log of this scenario, say."""


@dataclass(frozen=True)
class Answer:
    """What a DMS says of one moment.

    Attributes:
        time: seconds after the video's first frame.
        pitch, yaw, roll: the head's rotation in degrees (``dmsynth.controls.pose``); None where it does not say.
        gaze_pitch, gaze_yaw: the gaze, likewise.
        warning: whether the driver is being warned at this moment. A warning begins where it turns true.
    """

    time: float
    pitch: float | None = None
    yaw: float | None = None
    roll: float | None = None
    gaze_pitch: float | None = None
    gaze_yaw: float | None = None
    warning: bool = False

    def to_json(self) -> str:
        """One line of the protocol."""
        return json.dumps({name: value for name, value in asdict(self).items() if value is not None})


@dataclass(frozen=True)
class NoAnswer:
    """A line of a DMS's output that is no answer: where it stands, why, and how it begins, in words."""

    said: str


class Dms(Protocol):
    """A driver monitoring system under test.

    What it answers before it raises counts; the exception becomes part of the verdict (``run_dms``).
    """

    @property
    def name(self) -> str:
        """Name and version, for reports. A plain attribute will do."""
        ...

    def __call__(self, video: Path, speed: float) -> Iterable[Answer | NoAnswer]:
        """Answers about ``video``, in order of time. ``speed`` is the vehicle's, in km/h. A DMS whose output is read
        puts a ``NoAnswer`` where something else stood in it."""
        ...


def read_answers(lines: Iterable[str], where: str, strict: bool = True) -> Iterator[Answer | NoAnswer]:
    """Answers from JSON Lines. A line that is none becomes a ``NoAnswer``; under ``strict`` a ``DmsFailedError`` that
    names ``where`` and the line, and then numbers in quotes, 0 and 1 for a warning, and NaN are none, either."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield _answer(json.loads(line), strict)
        except (ValueError, RecursionError) as error:
            shown = line.strip()[:_SHOWN]
            why = "is no JSON" if isinstance(error, json.JSONDecodeError | RecursionError) else str(error)
            said = f"{where}, line {number}: {why}: {shown!r}"
            if strict:
                raise DmsFailedError(
                    f'{said}; a line is an object such as {{"time": 1.28, "yaw": -31.5, "warning": true}}'
                ) from None
            yield NoAnswer(said)


def lines_of(file: IO[bytes], strict: bool) -> Generator[str, None, None]:
    """The lines of a file from its start, their ends included, in constant memory: in UTF-8, or unless ``strict`` in
    what its first bytes tell. The end of a line longer than any answer is left out."""
    file.seek(0)
    encoding = "utf-8" if strict else _encoding(file.read(_HEAD))
    file.seek(0)
    text = io.TextIOWrapper(file, encoding, errors="replace")  # ends lines at CR and LF, and at no other character
    try:
        while line := text.readline(_LONGEST_LINE):
            whole = line
            while whole and not whole.endswith("\n"):
                whole = text.readline(_LONGEST_LINE)
            yield line if line.endswith("\n") or not whole else f"{line}\n"
    finally:
        text.detach()


def impossible(answer: Answer) -> str | None:
    """Which of its angles is no angle, in words."""
    for name in ANGLES:
        value = getattr(answer, name)
        if value is not None and not abs(value) <= WIDEST:
            return f"its {name} of {value:g} is no angle in degrees"
    return None


def _encoding(head: bytes) -> str:
    """By the byte-order mark, or by the zeros of UTF-16 between ASCII characters."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if len(head) > 3 and head.count(0) > len(head) // 4:
        return "utf-16-le" if head[1] == 0 else "utf-16-be"
    return "utf-8-sig"


def _answer(content: Any, strict: bool) -> Answer:
    """``ValueError`` saying what is wrong with a line's content."""
    if not isinstance(content, dict):
        raise ValueError("is no JSON object")
    values = {name: _number(content[name], name, strict) for name in ANGLES if content.get(name) is not None}
    if content.get("time") is None:
        raise ValueError("has no time")
    time = _number(content["time"], "time", strict)
    if math.isnan(time):
        raise ValueError("its time is no number")
    known = {name: value for name, value in values.items() if not math.isnan(value)}
    answer = Answer(time=time, warning=_warning(content.get("warning"), strict), **known)
    wrong = impossible(answer)
    if wrong:
        raise ValueError(wrong)
    return answer


def _warning(value: Any, strict: bool) -> bool:
    value = value or False
    if not strict and (isinstance(value, str) or value == 1):
        value = _BOOLEANS.get(str(int(value) if isinstance(value, float) else value).strip().lower())
    if not isinstance(value, bool):
        raise ValueError("its warning is neither true nor false")
    return value


def _number(value: Any, name: str, strict: bool) -> float:
    """NaN, unless ``strict``, where a program says so: for a face that is not there, say."""
    if not strict and isinstance(value, str):
        value = _quoted(value)
    try:
        number = math.inf if isinstance(value, bool) or not isinstance(value, int | float) else float(value)
    except OverflowError:  # an integer of hundreds of digits
        number = math.inf
    if math.isinf(number) or (strict and math.isnan(number)):
        raise ValueError(f"its {name} is no number")
    return number


def _quoted(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
