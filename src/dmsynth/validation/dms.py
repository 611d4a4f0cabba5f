"""The DMS under test: any software that analyses a video and reports when it would warn.

A DMS is any callable object with a ``name`` that takes a video and the vehicle's speed and gives answers:

    class MyDms:
        name = "my-dms 2.1"
        def __call__(self, video, speed): ...   # → answers in order of time

It is specified by one word, which is one of ``BUILT_IN`` or an entry point of the group ``dmsynth.dms`` of your package
(run in a separate process); or by a command line with ``{video}`` in it; or by a log of answers recorded elsewhere
(``docs/validate-a-dms.md``). Angles follow ``dmsynth.controls.pose``; the adapter must convert to it.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np

from dmsynth.camera import Camera
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import sha256_of
from dmsynth.support.version import __version__
from dmsynth.validation.protocol import (
    ENTRY_POINTS,
    Answer,
    Dms,
    DmsFailedError,
    NoAnswer,
    NotTestedError,
    impossible,
    read_answers,
)

__all__ = [
    "BUILT_IN", "ENTRY_POINTS", "Answer", "Dms", "DmsFailedError", "DmsRun", "DmsSpec", "NoAnswer", "NotTestedError",
    "dms_names", "open_dms", "read_answers", "run_dms", "split_command", "version_of",
]  # fmt: skip

TIME_LIMIT = 300.0  # seconds a video


@dataclass(frozen=True)
class DmsSpec:
    """Specification of a DMS, serializable for jobs in another process or on another machine.

    Attributes:
        dms: a name, or a command line with ``{video}`` and optionally ``{speed}`` (km/h).
        log: instead of running anything: a folder with one ``SCENARIO.jsonl`` per scenario, or one such file.
        options: settings of a built-in DMS.
        time_limit: seconds a program may take for one video.
        strict_output: whether the DMS fails if a line of its output or log is no answer.
    """

    dms: str = "reference"
    log: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    time_limit: float = TIME_LIMIT
    strict_output: bool = False

    def of_person(self, person: str | None) -> DmsSpec:
        """The same for one person of a cast, whose logs are in a folder of the person's name. ``DmsynthError`` for a
        log that is one file."""
        if self.log is None or person is None:
            return self
        if Path(self.log).is_file():
            raise DmsynthError(f"--dms-log {self.log}: is one file; with --cast give a folder that has one per person")
        return replace(self, log=str(Path(self.log) / person))

    def before(self, camera: Camera | None) -> DmsSpec:
        """The same with a camera at a place in the car. A built-in DMS is told of it, as the maker of any DMS knows
        where its camera is; a program knows it by itself."""
        if camera is None or self.log is not None or self.dms not in BUILT_IN:
            return self
        place = camera.place
        ahead = camera.sees(np.zeros((1, 3)))[0]
        told = {
            "reference": {"place": f"{place.pitch:g},{place.yaw:g},{place.roll:g}"},
            "openpilot": {"neutral": f"{ahead[0]:.4f},{ahead[1]:.4f}"},
        }
        return replace(self, options=told.get(self.dms, {}) | dict(self.options))

    def fingerprint(self) -> dict[str, Any]:
        """Everything the answers depend on: this specification, and the content of every file that it names."""
        parts = split_command(self.dms)
        program = shutil.which(parts[0]) if "{video}" in self.dms else None
        named = [Path(self.log)] if self.log else [Path(part) for part in [*([program] if program else []), *parts]]
        named += [Path(value) for value in self.options.values()]
        found = [path for name in named for path in ([name] if name.is_file() else sorted(name.glob("*.jsonl")))]
        return asdict(self) | {"files": {str(path): sha256_of(path) for path in found}}


@dataclass(frozen=True)
class DmsRun:
    """A DMS's answers about one video.

    Attributes:
        problem: what went wrong; None: nothing.
        tested: whether it ran at all.
        no_answers: number of output lines that were no answers; ``first_no_answer`` gives place and reason of the
            first.
    """

    answers: list[Answer]
    problem: str | None = None
    tested: bool = True
    no_answers: int = 0
    first_no_answer: str | None = None


def run_dms(dms: Dms, video: Path, speed: float, seconds: float) -> DmsRun:
    """Run a DMS on a video of ``seconds`` length. A failure of the DMS becomes part of the result.

    The times of its answers must increase and lie within the video.
    """
    answers: list[Answer] = []
    count, first, problem = 0, None, None
    try:
        for each in dms(video, speed):
            if isinstance(each, NoAnswer):
                count += 1
                first = first or each.said
            else:
                _check(each, answers, seconds)
                answers.append(each)
    except NotTestedError as error:
        return DmsRun([], str(error), tested=False)
    except DmsFailedError as failure:
        problem = f"{failure} (after {len(answers)} answers)"
    except DmsynthError:  # a video that cannot be read, a model that is missing: not the DMS's fault
        raise
    except Exception as error:  # third-party code may raise anything
        problem = f"raised {type(error).__name__}: {error} (after {len(answers)} answers)"
    if problem is None and not answers:
        problem = "gave no answer" + (f"; {count} lines are none, the first: {first}" if count else "")
    return DmsRun(answers, problem, True, count, first)


def _check(answer: Answer, before: list[Answer], seconds: float) -> None:
    """``DmsFailedError`` for an answer that is invalid for a video of ``seconds`` length."""
    if not -1e-6 <= answer.time <= seconds + 0.05:
        raise DmsFailedError(
            f"answers about {answer.time:g} s, but the video runs from 0 to {seconds:g} s: no such frame"
        )
    if before and answer.time < before[-1].time:
        raise DmsFailedError(f"answers about {answer.time:g} s after {before[-1].time:g} s: time goes back")
    wrong = impossible(answer)
    if wrong:
        raise DmsFailedError(f"answers about {answer.time:g} s, but {wrong}")


# --- opening one by its name ---------------------------------------------------------------------------------------


def _reference(options: Mapping[str, str]) -> Dms:
    from dmsynth.validation.reference_dms import ReferenceDms

    return ReferenceDms.from_options(options)


def _openpilot(options: Mapping[str, str]) -> Dms:
    from dmsynth.validation.openpilot_dms import OpenpilotDms

    return OpenpilotDms.from_options(options)


BUILT_IN: dict[str, Callable[[Mapping[str, str]], Dms]] = {
    "openpilot": _openpilot,
    "reference": _reference,
}
"""Built-in DMSs: functions from options to the DMS. They run in the job's own process."""


def dms_names() -> list[str]:
    """Names that ``open_dms`` accepts, including those of installed packages."""
    return sorted({*BUILT_IN, *(entry.name for entry in entry_points(group=ENTRY_POINTS))})


def version_of(spec: DmsSpec) -> str | None:
    """The version of a built-in DMS, or of the installed package that provides it; None for a program or log."""
    if spec.log is not None or "{video}" in spec.dms:
        return None
    if spec.dms in BUILT_IN:
        return __version__
    packages = (entry.dist for entry in entry_points(group=ENTRY_POINTS) if entry.name == spec.dms)
    return next((package.version for package in packages if package is not None), None)


def open_dms(spec: DmsSpec, scenario: str) -> Dms:
    """The DMS that ``spec`` specifies, for the scenario of this name.

    Raises:
        DmsynthError: no such DMS, program or log; an option that it does not have.
    """
    from dmsynth.validation.programs import Log, Program

    if spec.log is not None:
        return Log(Path(spec.log), scenario, spec.strict_output)
    if "{video}" in spec.dms:
        _no_options(spec)
        arguments = split_command(spec.dms)
        if shutil.which(arguments[0]) is None:  # before anything is rendered
            raise DmsynthError(f"--dms {spec.dms}: no program {arguments[0]}; check its path and that it is executable")
        return Program(spec.dms, arguments, spec.time_limit, strict=spec.strict_output)
    if spec.dms in BUILT_IN:
        return BUILT_IN[spec.dms](spec.options)
    if spec.dms not in dms_names():
        raise DmsynthError(
            f"--dms {spec.dms}: no such DMS; give one of {', '.join(dms_names())}, or a command line with {{video}}"
        )
    _no_options(spec)
    # In a separate process, so that a hang or crash does not affect this one.
    arguments = [sys.executable, "-m", "dmsynth.validation.programs", spec.dms, "{video}", "{speed}"]
    return Program(spec.dms, arguments, spec.time_limit, strict=spec.strict_output)


def split_command(text: str) -> list[str]:
    """A command line as its arguments; no shell is used. ``DmsynthError`` for an unclosed quote."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise DmsynthError(f"--dms {text}: cannot be split into arguments ({error}); close the quotes") from None


def _no_options(spec: DmsSpec) -> None:
    if spec.options:
        raise DmsynthError(f"--dms {spec.dms} has no options ({', '.join(spec.options)}); put them into the command")
