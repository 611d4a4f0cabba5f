"""Validate a DMS with scenarios: render or reuse the videos, run it, judge it, and write the evidence.

OUT/results.json      everything, for programs (and for `dmsynth compare`)
OUT/report.html       everything, for people: one page that can be mailed
OUT/junit.xml         for a CI server
OUT/openlabel/        the ground truth of every scenario
OUT/jobs/             one folder per scenario: the verdict, and the DMS's answers as a table

With a cast every person plays every scenario: an entry, a test case and a job each, and the ground truth is in a folder
per person. In a matrix a scenario has one of each for every cell that is played.

Every verdict contains the hashes of the video, of the command table and of the answers. If one of these files has
changed since, the scenario is rendered and judged again.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from dmsynth.experiments.drivers import Driver, open_drivers
from dmsynth.experiments.grid import Engine, Job, is_finished, run_grid
from dmsynth.experiments.planning import Part, Plan, planned, tell
from dmsynth.report.validation import ShownScenario, write_validation_report
from dmsynth.steering import FaceSpec, opened
from dmsynth.steering.provenance import face_sha256
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import remove_leftovers, sha256_of, write_json
from dmsynth.support.machine import describe_machine
from dmsynth.support.progress import console
from dmsynth.support.records import all_printable
from dmsynth.support.table_files import read_table, write_table
from dmsynth.support.version import __version__
from dmsynth.validation.dms import DmsRun, DmsSpec, open_dms, run_dms, version_of
from dmsynth.validation.factors import by_factor
from dmsynth.validation.junit import write_junit
from dmsynth.validation.matrix import Matrix, file_name
from dmsynth.validation.openlabel import write_openlabel
from dmsynth.validation.rendering import (
    Rendered,
    is_unchanged,
    read_pins,
    render,
    shown,
    video_path,
    what_differs,
)
from dmsynth.validation.results import FORMAT, by_requirement, read_job_result
from dmsynth.validation.scenarios import Scenario
from dmsynth.validation.verdicts import Verdict, judge

_ROUNDS = 3  # attempts if a DMS modifies videos
_NUMBERS = ("time", "pitch", "yaw", "roll", "gaze_pitch", "gaze_yaw", "eye_opening", "time_uncertainty")
_ANSWERS = (*_NUMBERS, "warning", "warning_kind", "unavailable")


@dataclass(frozen=True)
class Order:
    """The command of a validation and the identification of the DMS, for the evidence.

    Attributes:
        command: the command as it was given, with every option.
        dms_name, dms_version: the DMS's name and version in reports; by default as reported by the DMS.
    """

    command: str
    dms_name: str | None = None
    dms_version: str | None = None


@dataclass(frozen=True)
class _Played:
    """A scenario played by a driver, the job that judges it, and, when that has ended, the video that was judged."""

    part: Part
    job: Job
    rendered: Rendered | None = None

    @property
    def scenario(self) -> Scenario:
        return self.part.scenario


def validate(
    scenarios: Sequence[Scenario],
    face: FaceSpec | Mapping[str, FaceSpec],
    spec: DmsSpec,
    out: Path,
    order: Order,
    videos: Path | None = None,
    engine: Engine | None = None,
    matrix: Matrix | None = None,
) -> dict[str, Any]:
    """Judge a DMS by scenarios; results in ``out`` from the same input are reused.

    Args:
        face: the synthetic driver, or several by name: then each plays every scenario.
        order: how to repeat it, for the report.
        videos: folder for videos, which runs can share; by default ``videos`` beside ``out``.
        matrix: what is varied; None: every scenario is played as it is.

    Returns:
        The content of ``results.json``.

    Raises:
        DmsynthError: a face without head rotation, or none that can play any of the scenarios; a DMS that cannot be
            found; a sample that is larger than the matrix. A DMS that fails is no error. A scenario that a face cannot
            play becomes inconclusive.
    """
    drivers = open_drivers(face, scenarios)
    plan = planned(drivers, scenarios, matrix)
    dms = open_dms(spec, scenarios[0].name)  # before anything is rendered
    videos, engine = videos or out.parent / "videos", engine or Engine()
    specs = {driver.person: spec.of_person(driver.person) for driver in drivers}
    fingerprints = {person: of_person.fingerprint() for person, of_person in specs.items()}
    fingerprint = spec.fingerprint() | {
        "files": {k: v for each in fingerprints.values() for k, v in each["files"].items()}
    }
    played = [
        _Played(part, _job(part, specs[part.driver.person], fingerprints[part.driver.person], videos))
        for part in plan.parts
        if part.reason is None
    ]
    truths = [driver.folder(out / "openlabel") for driver in drivers]
    for folder in [videos, out, *truths, *(out / "jobs" / each.job.name for each in played)]:
        remove_leftovers(folder)
    for each in played:
        _forget_what_changed(each, out, videos)
    _tell(plan, played, out, videos, engine)
    judged = iter(_judged(played, videos, out, engine))
    shown_scenarios, rows = [], []
    for part in plan.parts:
        shown_scenario, row = _evidence(part, None if part.reason else next(judged), out)
        shown_scenarios.append(shown_scenario)
        rows.append(row)
    for driver in drivers:
        driver.check_unchanged()
    results = _collect(rows, drivers, spec, fingerprint, videos, order, dms.name)
    results = all_printable(results if plan.matrix is None else results | _varied(plan.matrix, results))
    write_json(out / "results.json", results)
    write_junit(out / "junit.xml", results)
    write_validation_report(out / "report.html", results, shown_scenarios, [driver.face for driver in drivers])
    return dict(results)


def _tell(plan: Plan, played: Sequence[_Played], out: Path, videos: Path, engine: Engine) -> None:
    """Say how much a matrix is before it is drawn."""
    left = [each.part for each in played if not is_finished(out / "jobs", each.job)]
    done = [
        out / "jobs" / each.job.name / "result.json" for each in played if is_finished(out / "jobs", each.job)
    ]  # of this plan: another scenario takes another time
    tell(plan, left, done, videos, engine.at_once)


def _varied(matrix: dict[str, Any], results: dict[str, Any]) -> dict[str, Any]:
    """What ``results.json`` says of a matrix, besides."""
    factors = dict(matrix["factors"])
    if "persons" in results:
        factors["person"] = [each["name"] for each in results["persons"]]
    return {"matrix": matrix, "by_factor": by_factor(results["scenarios"], factors)}


def _evidence(part: Part, judged: _Played | None, out: Path) -> tuple[ShownScenario, dict[str, Any]]:
    """What is shown and told of a scenario, and its ground truth written; ``judged`` None: the face cannot play it."""
    if judged is None or judged.rendered is None:
        return ShownScenario(part.scenario), _not_tested(part)
    folder, rendered = out / "jobs" / judged.job.name, judged.rendered
    truth = part.driver.folder(out / "openlabel") / f"{file_name(part.scenario.name, part.levels)}.json"
    write_openlabel(truth, part.scenario, rendered)
    answers = read_table(folder / "answers.parquet")
    result = read_job_result(folder / "result.json")
    row = _row(part, rendered.video.name, f"jobs/{folder.name}/answers.parquet", result)
    return ShownScenario(part.scenario, rendered, answers), row


def validate_one(folder: Path, arguments: dict[str, Any]) -> None:
    """The work of one job: render or reuse a scenario's video, run the DMS on it, judge its answers."""
    scenario = Scenario.model_validate(arguments["scenario"])
    face, videos, begun = opened(FaceSpec(**arguments["face"])), Path(arguments["videos"]), time.perf_counter()
    was_there = read_pins(video_path(videos, scenario, face_sha256(face.path, face.trained))) is not None
    rendered = render(scenario, face, videos)
    drawn = None if was_there else round(time.perf_counter() - begun, 3)
    dms = open_dms(DmsSpec(**arguments["dms"]).before(scenario.camera), arguments["log"])
    with shown(rendered, folder / "shown") as video:
        begun = time.perf_counter()
        run = run_dms(dms, video, scenario.speed, rendered.seconds)
        seconds = time.perf_counter() - begun
        run = _check_unmodified(run, video, rendered)
    verdict = judge(scenario, rendered.table, run)
    answers = pd.DataFrame([asdict(answer) for answer in run.answers], columns=list(_ANSWERS))
    write_table(folder / "answers.parquet", answers.astype(dict.fromkeys(_NUMBERS, float) | {"warning_kind": "string"}))
    evidence = {
        "judged": _now(),
        "video_sha256": rendered.video_sha256,
        "table_sha256": rendered.table_sha256,
        "answers_sha256": sha256_of(folder / "answers.parquet"),
    }
    took = {"dms_seconds": round(seconds, 3), "draw_seconds": drawn, "frames": len(rendered.table)}
    result = {"dms": dms.name, **took, **evidence, **verdict.to_dict()}
    write_json(folder / "result.json", all_printable(result))


def _check_unmodified(run: DmsRun, video: Path, rendered: Rendered) -> DmsRun:
    """The run, with a problem added if the DMS modified its copy of the video (``video``) or the shared original."""
    for file, what in ((video, "the video that it was shown"), (rendered.video, f"{rendered.video}, which is not its")):
        if not is_unchanged(file, rendered.video_sha256):
            said = f"changed or removed {what}: its answers are no evidence"
            return replace(run, problem=f"{run.problem}; it {said}" if run.problem else said, tested=True)
    return run


def _forget_what_changed(played: _Played, out: Path, videos: Path) -> None:
    """Delete the result of a finished job if its inputs or outputs have changed, so that it is run again."""
    scenario, job, sha256 = played.scenario, played.job, played.part.driver.sha256
    if not is_finished(out / "jobs", job):
        return
    file = out / "jobs" / job.name / "result.json"
    video = video_path(videos, scenario, sha256)
    try:
        result = read_job_result(file)
    except DmsynthError as error:
        changed: str | None = str(error).partition("; ")[0]
    else:
        pins = read_pins(video)
        changed = f"{video}: is gone" if pins is None else what_differs(video, pins, sha256)
        if pins is not None and pins.video_sha256 != result["video_sha256"]:
            changed = f"{video}: was rendered anew since, and is another video"
        if not is_unchanged(file.with_name("answers.parquet"), result["answers_sha256"]):
            changed = f"{file.with_name('answers.parquet')}: is damaged or gone"
    if changed:
        console.print(f"{changed}; {scenario.name} is judged again", style="yellow")
        file.unlink()


def _judged(played: Sequence[_Played], videos: Path, out: Path, engine: Engine) -> list[_Played]:
    """Run the unfinished jobs; returns each with the video that was judged.

    If a DMS modified a shared video, it is rendered again; if the new rendering differs from the judged one, the job is
    run again. ``DmsynthError`` if this repeats ``_ROUNDS`` times.
    """
    jobs = [each.job for each in played]
    for _ in range(_ROUNDS):
        run_grid("validating", validate_one, jobs, out / "jobs", engine, lambda folder, job: 0.0, things="scenarios")
        found, changed = [], None
        for each in played:
            file, rendered = (
                out / "jobs" / each.job.name / "result.json",
                render(each.scenario, each.part.driver.face, videos),
            )
            if rendered.video_sha256 != read_job_result(file)["video_sha256"]:
                changed = rendered.video
                file.unlink()
            found.append(replace(each, rendered=rendered))
        if changed is None:
            return found
    raise DmsynthError(f"{changed}: changed each time that it was judged; give this DMS --videos of its own")


def _job(part: Part, spec: DmsSpec, fingerprint: dict[str, Any], videos: Path) -> Job:
    """A scenario's job; its name contains a hash of everything that the verdict depends on."""
    scenario, driver = part.scenario, part.driver
    content = scenario.model_dump(mode="json", exclude_none=True)
    rests_on = json.dumps([__version__, content, driver.sha256, fingerprint], sort_keys=True)
    key = hashlib.sha256(rests_on.encode()).hexdigest()[:12]
    arguments = {
        "scenario": content,
        "face": asdict(driver.spec),
        "videos": str(videos.resolve()),
        "dms": asdict(spec),
        "log": file_name(scenario.name, part.levels),
    }
    name = "-".join(part for part in (driver.person, scenario.name, key) if part)
    return Job(name, scenario.seconds * scenario.video_rate, arguments)


def _not_tested(part: Part) -> dict[str, Any]:
    """The entry of a scenario that the face cannot play: no video, no answers."""
    hashes = dict.fromkeys(("video_sha256", "table_sha256", "answers_sha256"))
    verdict = Verdict("inconclusive", [part.reason or ""], part.reason, trusted=0.0).to_dict()
    return _row(part, "", "", {"dms_seconds": 0.0, "judged": _now(), **hashes, **verdict})


def _row(part: Part, video: str, answers: str, result: dict[str, Any]) -> dict[str, Any]:
    """One entry of ``scenarios`` in ``results.json``."""
    scenario, person = part.scenario, part.driver.person
    return {
        "name": scenario.name,
        **({} if person is None else {"person": person}),
        "title": scenario.title,
        "group": scenario.group,
        "source": scenario.source,
        "requirements": scenario.requirements,
        "speed": scenario.speed,
        "seconds": scenario.seconds,
        "frame_rate": scenario.video_rate,
        **({} if scenario.camera is None else {"camera": scenario.camera.identity}),
        **({"worn": ", ".join(map(str, scenario.worn))} if scenario.wear else {}),
        "factors": dict(part.levels),
        "video": video,
        "answers": answers,
        **result,
    }


def _collect(
    rows: list[dict[str, Any]],
    drivers: Sequence[Driver],
    spec: DmsSpec,
    fingerprint: dict[str, Any],
    videos: Path,
    order: Order,
    opened_dms: str,
) -> dict[str, Any]:
    """The content of ``results.json``."""
    names = [row.pop("dms") for row in rows if "dms" in row]
    own_name = opened_dms if spec.log is not None else names[-1]  # of a log by person, the whole
    who: dict[str, Any] = {"face": drivers[0].about()}
    if drivers[0].person is not None:
        who = {"persons": [each.about() | {"summary": _summary(rows, each.person)} for each in drivers]}
    return {
        "format": FORMAT,
        "made_by": f"dmsynth {__version__}",
        "run": {"id": str(uuid.uuid4()), "date": _now()},
        "command": order.command,
        "summary": _summary(rows),
        "requirements": by_requirement(rows),
        "dms": {
            "name": order.dms_name or own_name,
            "version": order.dms_version or version_of(spec),
            "says_its_name_is": own_name,
            **fingerprint,
        },
        **who,
        "videos": str(videos),
        "machine": describe_machine(),
        "scenarios": rows,
    }


def _summary(rows: Sequence[dict[str, Any]], person: str | None = None) -> dict[str, int]:
    """How many entries have which outcome: of all, or of one person."""
    counts = Counter(row["outcome"] for row in rows if person in (None, row.get("person")))
    return {outcome: counts[outcome] for outcome in ("pass", "fail", "inconclusive")}


def _now() -> str:
    """The time in UTC, to the second, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
