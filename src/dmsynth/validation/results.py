"""Validated reading of ``results.json`` and a job's ``result.json``, with bounded size.

Such files are copied, mailed and edited before they are read again. A file is either valid, or rejected with one line
that names the file, the position and what to do.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from dmsynth.support.errors import DmsynthError
from dmsynth.support.records import Record, Sha256, Text, checked, content_of, printable, read_record
from dmsynth.validation.scenarios import WarningKind

FORMAT = 1
MOST_SCENARIOS = 50_000  # of all persons together
MOST_PERSONS = 1000
_AGAIN = "make it again"

Moment = Annotated[float, Field(ge=-7200, le=7200)]
Degrees = Annotated[float, Field(ge=-360, le=360)]
Share = Annotated[float, Field(ge=0, le=1)]
Outcome = Literal["pass", "fail", "inconclusive"]


class Figures(Record):
    """Statistics of errors over ``frames`` frames: degrees, and shares of the opening at rest."""

    mae: Degrees
    bias: Degrees
    rms: Degrees
    frames: Annotated[int, Field(ge=1, le=10**7)]


class Band(Figures):
    """Error statistics for commands between two angles."""

    low: Degrees = Field(alias="from")
    high: Degrees = Field(alias="to")


class AxisError(Figures):
    """Error statistics of an axis, overall and by angle band."""

    bands: Annotated[list[Band], Field(max_length=20)]
    gain: Annotated[float, Field(ge=-1000, le=1000)] | None = None
    lag: Moment | None = None
    available: Share | None = None


class Warned(Record):
    """``verdicts.WarningResult``."""

    since: Moment
    opens: Moment
    closes: Moment
    onset: Moment | None
    latency: Moment | None
    outcome: Literal["in time", "early", "late", "missed", "other kind"]
    trusted: bool
    asked: WarningKind | None = None
    kind: WarningKind | None = None


class Told(Record):
    """``verdicts.ToldResult``."""

    since: Moment
    due: Moment
    until: Moment
    onset: Moment | None
    delay: Moment | None
    outcome: Literal["in time", "late", "never"]


class JobResult(Record):
    """Result of judging one scenario: ``verdicts.Verdict``, and the hashes of its inputs."""

    dms: Text
    dms_seconds: Annotated[float, Field(ge=0, le=10**7)]
    draw_seconds: Annotated[float, Field(ge=0, le=10**7)] | None = None  # None: the video was there
    frames: Annotated[int, Field(ge=0, le=10**7)] = 0
    judged: Text
    video_sha256: Sha256 | None  # None: not tested
    table_sha256: Sha256 | None
    answers_sha256: Sha256 | None
    outcome: Outcome
    reasons: Annotated[list[Text], Field(max_length=1000)]
    problem: Text | None
    no_answers: Annotated[int, Field(ge=0)]
    first_no_answer: Text | None
    warnings: Annotated[list[Warned], Field(max_length=10_000)]
    false_alarms: Annotated[list[Moment], Field(max_length=100_000)]
    doubtful_alarms: Annotated[list[Moment], Field(max_length=100_000)]
    errors: dict[Literal["pitch", "yaw", "roll", "gaze_pitch", "gaze_yaw", "eye_opening"], AxisError]
    availability: Share | None
    unavailable: Share = 0.0
    told: Annotated[list[Told], Field(max_length=100)] = Field(default_factory=list)
    told_wrongly: Annotated[list[Moment], Field(max_length=100_000)] = Field(default_factory=list)
    lag: Moment | None
    trusted: Share
    time_uncertainty: Annotated[float, Field(ge=0, le=60)] | None = None


class ScenarioResult(JobResult):
    """One entry of ``scenarios``; ``person`` is None in a validation with a single face."""

    dms: Text = ""
    name: Annotated[str, Field(min_length=1, max_length=200)]
    person: Text | None = None
    title: Text
    group: Text
    source: Text
    requirements: Annotated[list[Text], Field(max_length=1000)]
    speed: Annotated[float, Field(ge=0, le=1000)]
    seconds: Annotated[float, Field(ge=0, le=7200)]
    frame_rate: Annotated[float, Field(ge=1, le=1000)]
    camera: Text | None = None
    worn: Text | None = None
    factors: dict[Text, Text] = Field(default_factory=dict)
    video: Text
    answers: Text


class Named(Record):
    """Name and version of a DMS."""

    name: Text
    version: Text | None


class Driver(Record):
    """A synthetic driver: its name (of a single face, that of its file), and the hash of its face."""

    name: Text
    sha256: Text


class Run(Record):
    """The run's ID, and when it ended (UTC)."""

    id: Text
    date: Text


class Varied(Record):
    """A matrix: the levels of each factor."""

    factors: dict[Text, Annotated[list[Text], Field(max_length=1000)]]


class Results(Record):
    """``results.json``: the entries that are read.

    ``face``: of a validation with a single face; ``persons``: of one with a cast, whose ``scenarios`` name each person.
    """

    format: Literal[1]
    made_by: Text
    run: Run
    command: Text
    dms: Named
    face: Driver | None = None
    persons: Annotated[list[Driver], Field(max_length=MOST_PERSONS)] = Field(default_factory=list)
    matrix: Varied | None = None
    scenarios: Annotated[list[ScenarioResult], Field(max_length=MOST_SCENARIOS)]


def read_results(path: Path) -> dict[str, Any]:
    """Read ``results.json`` of a validation, given the file or its folder, fully validated.

    Raises:
        DmsynthError: it is missing, damaged, or of another version; one line with the position.
    """
    file = path / "results.json" if path.is_dir() else path
    content = content_of(file, _AGAIN)
    if not isinstance(content, dict) or content.get("format") != FORMAT or "scenarios" not in content:
        raise DmsynthError(f"{file}: holds no results of this version; run `dmsynth validate` to make some")
    results = checked(
        content, Results, str(file), "run the `dmsynth validate` that made it again: what is whole is kept"
    )
    _refuse_doubles(results, file)
    return results.model_dump(mode="json", by_alias=True)


def _refuse_doubles(results: Results, file: Path) -> None:
    """Reject a scenario that stands in it twice for one person at the same levels, a person twice, and a scenario of
    nobody."""
    played = Counter((each.person, each.name, tuple(sorted(each.factors.items()))) for each in results.scenarios)
    names = Counter(each.name for each in results.persons)
    twice = [("scenarios", name) for (_, name, _), count in played.items() if count > 1]
    twice += [("persons", name) for name, count in names.items() if count > 1]
    if twice:
        raise DmsynthError(f"{file}: {twice[0][0]}: {printable(twice[0][1])!r} stands in it twice; make it again")
    for person, name, _ in played:
        if person not in names if names else person is not None:
            raise DmsynthError(
                f"{file}: scenarios: {printable(name)!r} is played by {printable(str(person))!r}, who is none of its "
                "persons; make it again"
            )


def read_job_result(path: Path) -> dict[str, Any]:
    """A job's ``result.json``. ``DmsynthError`` if it is missing or damaged."""
    result = read_record(path, JobResult, "remove it, and it is made again")
    return result.model_dump(mode="json", by_alias=True)


def by_requirement(scenarios: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each requirement that scenarios name: its ``id``, the ``scenarios``, and the ``outcome`` over all of them:
    fail if one failed, else inconclusive if one was inconclusive, else pass. Of a cast: over all persons."""
    named: dict[str, list[dict[str, Any]]] = {}
    for scenario in scenarios:
        for requirement in dict.fromkeys(scenario["requirements"]):
            named.setdefault(requirement, []).append(scenario)
    rows = []
    for requirement, those in sorted(named.items()):
        outcomes = {each["outcome"] for each in those}
        outcome = next(each for each in ("fail", "inconclusive", "pass") if each in outcomes)
        rows.append(
            {"id": requirement, "outcome": outcome, "scenarios": list(dict.fromkeys(each["name"] for each in those))}
        )
    return rows
