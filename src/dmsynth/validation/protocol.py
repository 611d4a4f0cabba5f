"""Parse a DMS's output: JSON Lines, possibly mixed with other output.

Real programs log, show progress, write a byte-order mark, or put numbers in quotes. A line that is no answer is only
counted; in strict mode it is an error. Valid answers are used unchanged in both modes.
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
KINDS = ("distraction", "drowsiness", "sleep", "unresponsive")
"""Kinds of warnings. A microsleep is drowsiness."""
WIDEST = 360.0  # degrees; a larger value is no angle
MOST_UNCERTAIN = 60.0  # seconds
WIDE_OPEN = 3.0  # times the opening at rest; a larger value is no opening
_LONGEST_LINE = 65_536  # characters; an answer has some hundred
_HEAD = 4096  # bytes from which the encoding is detected
_SHOWN = 60  # characters of a wrong line
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


class DmsFailedError(DmsynthError):
    """The DMS under test failed. Not a user error: it becomes part of the verdict."""


class NotTestedError(DmsFailedError):
    """There are no answers to judge, for example no log of this scenario."""


@dataclass(frozen=True)
class Answer:
    """A DMS's output at one time.

    Attributes:
        time: seconds after the video's first frame.
        pitch, yaw, roll: the head's rotation in degrees (``dmsynth.controls.pose``); None: not given.
        gaze_pitch, gaze_yaw: the line of sight in the camera's frame, degrees, signs as for the head: (0, 0) is that of
            eyes at rest in a head at (0, 0, 0).
        eye_opening: of both eyes together: 0 closed, 1 as at rest.
        warning: whether the warning is on at this time. A warning begins when it becomes true.
        warning_kind: one of ``KINDS``; counts while the warning is on. None: the DMS does not say.
        unavailable: whether it tells the driver at this time that it cannot see him or her.
        time_uncertainty: half of the 95 % interval of the time, seconds, of a log that was aligned afterwards; None:
            the time is exact.
    """

    time: float
    pitch: float | None = None
    yaw: float | None = None
    roll: float | None = None
    gaze_pitch: float | None = None
    gaze_yaw: float | None = None
    eye_opening: float | None = None
    warning: bool = False
    warning_kind: str | None = None
    unavailable: bool = False
    time_uncertainty: float | None = None

    def to_json(self) -> str:
        """One line of the protocol."""
        content = {name: value for name, value in asdict(self).items() if value is not None}
        if not self.unavailable:
            del content["unavailable"]
        return json.dumps(content)


@dataclass(frozen=True)
class NoAnswer:
    """A line of a DMS's output that is no answer; ``said`` gives its place, the reason and its beginning."""

    said: str


class Dms(Protocol):
    """A driver monitoring system under test.

    Answers before an exception count; the exception becomes part of the verdict (``dms.run_dms``).
    """

    @property
    def name(self) -> str:
        """Name and version, for reports. A plain attribute suffices."""
        ...

    def __call__(self, video: Path, speed: float) -> Iterable[Answer | NoAnswer]:
        """Answers about ``video``, in order of time. ``speed`` is the vehicle's, in km/h. A DMS whose output is parsed
        yields a ``NoAnswer`` for every other line of the output."""
        ...


def read_answers(lines: Iterable[str], where: str, strict: bool = True) -> Iterator[Answer | NoAnswer]:
    """Answers from JSON Lines. Any other line becomes a ``NoAnswer``, or if ``strict`` a ``DmsFailedError`` that names
    ``where`` and the line. ``strict`` also rejects numbers in quotes, 0 and 1 for a warning, and NaN."""
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
    """The lines of a file from its start, with line ends, in constant memory. Decoded as UTF-8 if ``strict``, else by
    the encoding detected from the first bytes. Overlong lines are truncated."""
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
    """An error message if one of its angles is no valid angle, or if its opening, kind or uncertainty is none."""
    for name in ANGLES:
        value = getattr(answer, name)
        if value is not None and not abs(value) <= WIDEST:
            return f"its {name} of {value:g} is no angle in degrees"
    if answer.eye_opening is not None and not 0 <= answer.eye_opening <= WIDE_OPEN:
        return f"its eye_opening of {answer.eye_opening:g} is none: 0 is closed, 1 as at rest"
    if answer.time_uncertainty is not None and not 0 <= answer.time_uncertainty <= MOST_UNCERTAIN:
        return f"its time_uncertainty of {answer.time_uncertainty:g} is none: seconds, at most {MOST_UNCERTAIN:g}"
    if answer.warning_kind is not None and answer.warning_kind not in KINDS:
        return f"its warning_kind is none of {', '.join(KINDS)}"
    return None


def _encoding(head: bytes) -> str:
    """Detected by the byte-order mark, or by the zero bytes of UTF-16 between ASCII characters."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if len(head) > 3 and head.count(0) > len(head) // 4:
        return "utf-16-le" if head[1] == 0 else "utf-16-be"
    return "utf-8-sig"


def _answer(content: Any, strict: bool) -> Answer:
    """Parse a line's content; ``ValueError`` says what is wrong with it."""
    if not isinstance(content, dict):
        raise ValueError("is no JSON object")
    numbers = (*ANGLES, "eye_opening", "time_uncertainty")
    values = {name: _number(content[name], name, strict) for name in numbers if content.get(name) is not None}
    if content.get("time") is None:
        raise ValueError("has no time")
    time = _number(content["time"], "time", strict)
    if math.isnan(time):
        raise ValueError("its time is no number")
    known = {name: value for name, value in values.items() if not math.isnan(value)}
    kind = content.get("warning_kind")
    if isinstance(kind, str):
        kind = (kind if strict else kind.strip().lower()) or None
    elif kind is not None:
        raise ValueError(f"its warning_kind is none of {', '.join(KINDS)}")
    warning, unavailable = (_flag(content.get(name), name, strict) for name in ("warning", "unavailable"))
    answer = Answer(time=time, warning=warning, warning_kind=kind, unavailable=unavailable, **known)
    wrong = impossible(answer)
    if wrong:
        raise ValueError(wrong)
    return answer


def _flag(value: Any, name: str, strict: bool) -> bool:
    value = value or False
    if not strict and (isinstance(value, str) or value == 1):
        value = _BOOLEANS.get(str(int(value) if isinstance(value, float) else value).strip().lower())
    if not isinstance(value, bool):
        raise ValueError(f"its {name} is neither true nor false")
    return value


def _number(value: Any, name: str, strict: bool) -> float:
    """Parse a number. NaN is allowed unless ``strict``: some programs print it if there is no face."""
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
