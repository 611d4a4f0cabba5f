"""Validate a DMS with scenarios: render or reuse the videos, run it, judge it, and write the evidence.

OUT/results.json      everything, for programs (and for `dmsynth compare`)
OUT/report.html       everything, for people: one page that can be mailed
OUT/junit.xml         for a CI server
OUT/openlabel/        the ground truth of every scenario
OUT/jobs/             one folder per scenario: the verdict, and the DMS's answers as a table

Every verdict contains the hashes of the video, of the command table and of the answers. If one of these files has
changed since, the scenario is rendered and judged again.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from dmsynth.experiments.grid import Engine, Job, is_finished, run_grid
from dmsynth.report.validation import ShownScenario, write_validation_report
from dmsynth.steering import FACE, FaceSpec, SteerableFace, opened
from dmsynth.steering.provenance import consent_of, face_sha256
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import remove_leftovers, sha256_of, write_json
from dmsynth.support.machine import describe_machine
from dmsynth.support.progress import console
from dmsynth.support.records import all_printable
from dmsynth.support.table_files import read_table, write_table
from dmsynth.support.version import __version__
from dmsynth.validation.dms import DmsRun, DmsSpec, open_dms, run_dms, version_of
from dmsynth.validation.junit import write_junit
from dmsynth.validation.openlabel import write_openlabel
from dmsynth.validation.rendering import (
    Rendered,
    is_unchanged,
    read_pins,
    render,
    shown,
    video_path,
    what_differs,
    why_not,
)
from dmsynth.validation.results import FORMAT, by_requirement, read_job_result
from dmsynth.validation.scenarios import Scenario
from dmsynth.validation.verdicts import Verdict, judge

_ROUNDS = 3  # attempts if a DMS modifies videos
_NUMBERS = ("time", "pitch", "yaw", "roll", "gaze_pitch", "gaze_yaw", "eye_opening")
_ANSWERS = (*_NUMBERS, "warning", "warning_kind")


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


def validate(
    scenarios: Sequence[Scenario],
    face: FaceSpec,
    spec: DmsSpec,
    out: Path,
    order: Order,
    videos: Path | None = None,
    engine: Engine | None = None,
) -> dict[str, Any]:
    """Judge a DMS by scenarios; results in ``out`` from the same input are reused.

    Args:
        face: the synthetic driver.
        order: how to repeat it, for the report.
        videos: folder for videos, which runs can share; by default ``videos`` beside ``out``.

    Returns:
        The content of ``results.json``.

    Raises:
        DmsynthError: a face without head rotation, or one that can play none of the scenarios; a DMS that cannot be
            found. A DMS that fails is no error. A scenario that the face cannot play becomes inconclusive.
    """
    if face.kind == FACE and face.source is not None:
        raise DmsynthError(
            f"--source {face.source}: scenarios are played from the face's own source frames; leave it out"
        )
    steerable = opened(face)
    if not steerable.trained.space.turns_head:
        steers = ", ".join(steerable.trained.space.names)
        raise DmsynthError(f"{face.face}: steers {steers}; scenarios need a face that turns its head")
    open_dms(spec, scenarios[0].name)  # before anything is rendered
    played = [scenario for scenario in scenarios if why_not(scenario, steerable) is None]
    if not played:
        raise DmsynthError(f"{face.face}: {why_not(scenarios[0], steerable)}")
    videos, engine = videos or out.parent / "videos", engine or Engine()
    sha256 = face_sha256(steerable.path, steerable.trained)
    fingerprint = spec.fingerprint()
    jobs = [_job(scenario, face, sha256, spec, fingerprint, videos) for scenario in played]
    folders = [videos, out, out / "openlabel", *(out / "jobs" / job.name for job in jobs)]
    for folder in folders:
        remove_leftovers(folder)
    for scenario, job in zip(played, jobs, strict=True):
        _forget_what_changed(scenario, job, out, videos, sha256)
    judged = {each[0].name: each for each in _judged(played, jobs, steerable, videos, out, engine)}
    shown_scenarios, rows = [], []
    for scenario in scenarios:
        if scenario.name not in judged:
            shown_scenarios.append(ShownScenario(scenario))
            rows.append(_not_tested(scenario, why_not(scenario, steerable) or ""))
            continue
        _, job, rendered = judged[scenario.name]
        write_openlabel(out / "openlabel" / f"{scenario.name}.json", scenario, rendered)
        answers = read_table(out / "jobs" / job.name / "answers.parquet")
        shown_scenarios.append(ShownScenario(scenario, rendered, answers))
        result = read_job_result(out / "jobs" / job.name / "result.json")
        rows.append(_row(scenario, rendered.video.name, f"jobs/{job.name}/answers.parquet", result))
    if face_sha256(steerable.path, steerable.trained) != sha256:
        raise DmsynthError(f"{steerable.path}: changed while scenarios were rendered; run the same command again")
    results = all_printable(_collect(rows, steerable, sha256, spec, fingerprint, videos, order))
    write_json(out / "results.json", results)
    write_junit(out / "junit.xml", results)
    write_validation_report(out / "report.html", results, shown_scenarios, steerable)
    return dict(results)


def validate_one(folder: Path, arguments: dict[str, Any]) -> None:
    """The work of one job: render or reuse a scenario's video, run the DMS on it, judge its answers."""
    scenario = Scenario.model_validate(arguments["scenario"])
    rendered = render(scenario, opened(FaceSpec(**arguments["face"])), Path(arguments["videos"]))
    dms = open_dms(DmsSpec(**arguments["dms"]), scenario.name)
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
    result = {"dms": dms.name, "dms_seconds": round(seconds, 3), **evidence, **verdict.to_dict()}
    write_json(folder / "result.json", all_printable(result))


def _check_unmodified(run: DmsRun, video: Path, rendered: Rendered) -> DmsRun:
    """The run, with a problem added if the DMS modified its copy of the video (``video``) or the shared original."""
    for file, what in ((video, "the video that it was shown"), (rendered.video, f"{rendered.video}, which is not its")):
        if not is_unchanged(file, rendered.video_sha256):
            said = f"changed or removed {what}: its answers are no evidence"
            return replace(run, problem=f"{run.problem}; it {said}" if run.problem else said, tested=True)
    return run


def _forget_what_changed(scenario: Scenario, job: Job, out: Path, videos: Path, sha256: str) -> None:
    """Delete the result of a finished job if its inputs or outputs have changed, so that it is run again."""
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


def _judged(
    scenarios: Sequence[Scenario], jobs: list[Job], face: SteerableFace, videos: Path, out: Path, engine: Engine
) -> list[tuple[Scenario, Job, Rendered]]:
    """Run the unfinished jobs; returns each scenario with its job and the video that was judged.

    If a DMS modified a shared video, it is rendered again; if the new rendering differs from the judged one, the job is
    run again. ``DmsynthError`` if this repeats ``_ROUNDS`` times.
    """
    for _ in range(_ROUNDS):
        run_grid("validating", validate_one, jobs, out / "jobs", engine, lambda folder, job: 0.0, things="scenarios")
        found, changed = [], None
        for scenario, job in zip(scenarios, jobs, strict=True):
            file, rendered = out / "jobs" / job.name / "result.json", render(scenario, face, videos)
            if rendered.video_sha256 != read_job_result(file)["video_sha256"]:
                changed = rendered.video
                file.unlink()
            found.append((scenario, job, rendered))
        if changed is None:
            return found
    raise DmsynthError(f"{changed}: changed each time that it was judged; give this DMS --videos of its own")


def _job(
    scenario: Scenario, face: FaceSpec, sha256: str, spec: DmsSpec, fingerprint: dict[str, Any], videos: Path
) -> Job:
    """A scenario's job; its name contains a hash of everything that the verdict depends on."""
    content = scenario.model_dump(mode="json", exclude_none=True)
    rests_on = json.dumps([__version__, content, sha256, fingerprint], sort_keys=True)
    key = hashlib.sha256(rests_on.encode()).hexdigest()[:12]
    arguments = {
        "scenario": content,
        "face": asdict(face),
        "videos": str(videos.resolve()),
        "dms": asdict(spec),
    }
    return Job(f"{scenario.name}-{key}", scenario.seconds * scenario.frame_rate, arguments)


def _not_tested(scenario: Scenario, reason: str) -> dict[str, Any]:
    """The entry of a scenario that the face cannot play: no video, no answers."""
    hashes = dict.fromkeys(("video_sha256", "table_sha256", "answers_sha256"))
    verdict = Verdict("inconclusive", [reason], reason, trusted=0.0).to_dict()
    return _row(scenario, "", "", {"dms_seconds": 0.0, "judged": _now(), **hashes, **verdict})


def _row(scenario: Scenario, video: str, answers: str, result: dict[str, Any]) -> dict[str, Any]:
    """One entry of ``scenarios`` in ``results.json``."""
    return {
        "name": scenario.name,
        "title": scenario.title,
        "group": scenario.group,
        "source": scenario.source,
        "requirements": scenario.requirements,
        "speed": scenario.speed,
        "seconds": scenario.seconds,
        "frame_rate": scenario.frame_rate,
        "video": video,
        "answers": answers,
        **result,
    }


def _collect(
    rows: list[dict[str, Any]],
    face: SteerableFace,
    sha256: str,
    spec: DmsSpec,
    fingerprint: dict[str, Any],
    videos: Path,
    order: Order,
) -> dict[str, Any]:
    """The content of ``results.json``."""
    counts = Counter(row["outcome"] for row in rows)
    own_name = [row.pop("dms") for row in rows if "dms" in row][-1]
    about = face.trained.about
    return {
        "format": FORMAT,
        "made_by": f"dmsynth {__version__}",
        "run": {"id": str(uuid.uuid4()), "date": _now()},
        "command": order.command,
        "summary": {outcome: counts[outcome] for outcome in ("pass", "fail", "inconclusive")},
        "requirements": by_requirement(rows),
        "dms": {
            "name": order.dms_name or own_name,
            "version": order.dms_version or version_of(spec),
            "says_its_name_is": own_name,
            **fingerprint,
        },
        "face": {
            "name": face.path.name,
            "sha256": sha256,
            "consent": consent_of(about),
            "tracker": about.get("tracker"),
            "dataset_sha256": about.get("settings", {}).get("dataset_sha256"),
        },
        "videos": str(videos),
        "machine": describe_machine(),
        "scenarios": rows,
    }


def _now() -> str:
    """The time in UTC, to the second, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
