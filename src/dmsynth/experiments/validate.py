"""A DMS against scenarios: render or reuse the videos, run it, judge it, and hand over the evidence.

OUT/results.json      everything, for programs (and for `dmsynth compare`)
OUT/report.html       everything, for people: one page that can be mailed
OUT/junit.xml         for a CI server
OUT/openlabel/        the ground truth of every scenario
OUT/jobs/             one folder a scenario: the verdict, and the DMS's answers as a table
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

import dmsynth
from dmsynth.baselines.face_spec import FaceSpec, opened
from dmsynth.errors import DmsynthError
from dmsynth.experiments.grid import Engine, Job, run_grid
from dmsynth.files import read_json, write_json
from dmsynth.machine import describe_machine
from dmsynth.provenance import consent_of, face_sha256
from dmsynth.report.validation import ShownScenario, write_validation_report
from dmsynth.steering import SteerableFace
from dmsynth.trajectory import read_table, write_table
from dmsynth.validation.dms import DmsSpec, open_dms, run_dms
from dmsynth.validation.junit import write_junit
from dmsynth.validation.openlabel import write_openlabel
from dmsynth.validation.rendering import Rendered, render, video_key
from dmsynth.validation.scenarios import Scenario
from dmsynth.validation.verdicts import judge

FORMAT = 1


def validate(
    scenarios: Sequence[Scenario],
    face: FaceSpec,
    spec: DmsSpec,
    out: Path,
    command: str,
    videos: Path | None = None,
    engine: Engine | None = None,
) -> dict[str, Any]:
    """Judge a DMS by scenarios; what is in ``out`` already and rests on the same input is not done again.

    Args:
        face: what plays the driver.
        command: how to repeat it, for the report.
        videos: where videos are kept, to be shared by runs; by default ``videos`` beside ``out``.

    Returns:
        The content of ``results.json``.

    Raises:
        DmsynthError: a face that does not turn its head, a DMS that cannot be had. One that breaks down is no error.
    """
    steerable = opened(face)
    if steerable.trained.space.name != "rotation":
        steers = ", ".join(steerable.trained.space.names)
        raise DmsynthError(f"{face.face}: steers {steers}; scenarios need a face that turns its head")
    open_dms(spec, scenarios[0].name)  # before anything is rendered
    videos = videos or out.parent / "videos"
    sha256 = face_sha256(steerable.path, steerable.trained)
    fingerprint = spec.fingerprint()
    jobs = [_job(scenario, face, sha256, spec, fingerprint, videos) for scenario in scenarios]
    run_grid(
        "validating", validate_one, jobs, out / "jobs", engine or Engine(), lambda folder, job: 0.0, things="scenarios"
    )
    results = _collect(scenarios, jobs, steerable, sha256, fingerprint, videos, out, command)
    write_json(out / "results.json", results)
    write_junit(out / "junit.xml", results)
    shown = []
    for scenario, job in zip(scenarios, jobs, strict=True):
        rendered = _rendered(scenario, sha256, videos)
        write_openlabel(out / "openlabel" / f"{scenario.name}.json", scenario, rendered)
        shown.append(ShownScenario(scenario, rendered, read_table(out / "jobs" / job.name / "answers.parquet")))
    write_validation_report(out / "report.html", results, shown, steerable)
    return results


def validate_one(folder: Path, arguments: dict[str, Any]) -> None:
    """The work of one job: a scenario, rendered or found, shown to the DMS, judged."""
    scenario = Scenario.model_validate(arguments["scenario"])
    rendered = render(scenario, opened(FaceSpec(**arguments["face"])), Path(arguments["videos"]))
    dms = open_dms(DmsSpec(**arguments["dms"]), scenario.name)
    begun = time.perf_counter()
    run = run_dms(dms, rendered.video, scenario.speed, rendered.seconds)
    seconds = time.perf_counter() - begun
    verdict = judge(scenario, rendered.table, run)
    folder.mkdir(parents=True, exist_ok=True)
    columns = ["time", "pitch", "yaw", "roll", "gaze_pitch", "gaze_yaw", "warning"]
    answers = pd.DataFrame([asdict(answer) for answer in run.answers], columns=columns)
    write_table(folder / "answers.parquet", answers.astype(dict.fromkeys(columns[:-1], float)))
    write_json(folder / "result.json", {"dms": dms.name, "dms_seconds": round(seconds, 3), **verdict.to_dict()})


def _job(
    scenario: Scenario, face: FaceSpec, sha256: str, spec: DmsSpec, fingerprint: dict[str, Any], videos: Path
) -> Job:
    """A scenario's job; its name changes with everything that the verdict rests on."""
    content = scenario.model_dump(mode="json", exclude_none=True)
    rests_on = json.dumps([dmsynth.__version__, content, sha256, fingerprint], sort_keys=True)
    key = hashlib.sha256(rests_on.encode()).hexdigest()[:12]
    arguments = {
        "scenario": content,
        "face": asdict(face),
        "videos": str(videos.resolve()),
        "dms": asdict(spec),
    }
    return Job(f"{scenario.name}-{key}", scenario.seconds * scenario.frame_rate, arguments)


def _rendered(scenario: Scenario, sha256: str, videos: Path) -> Rendered:
    video = videos / f"{scenario.name}-{video_key(scenario, sha256)}.mp4"
    return Rendered(video, read_table(video.with_suffix(".parquet")))


def _collect(
    scenarios: Sequence[Scenario],
    jobs: Sequence[Job],
    face: SteerableFace,
    sha256: str,
    fingerprint: dict[str, Any],
    videos: Path,
    out: Path,
    command: str,
) -> dict[str, Any]:
    """The content of ``results.json``."""
    rows, name = [], ""
    for scenario, job in zip(scenarios, jobs, strict=True):
        result = read_json(out / "jobs" / job.name / "result.json")
        name = result.pop("dms")
        rows.append(
            {
                "name": scenario.name,
                "title": scenario.title,
                "group": scenario.group,
                "source": scenario.source,
                "speed": scenario.speed,
                "seconds": scenario.seconds,
                "frame_rate": scenario.frame_rate,
                "video": f"{scenario.name}-{video_key(scenario, sha256)}.mp4",
                "answers": f"jobs/{job.name}/answers.parquet",
                **result,
            }
        )
    counts = Counter(row["outcome"] for row in rows)
    about = face.trained.about
    return {
        "format": FORMAT,
        "made_by": f"dmsynth {dmsynth.__version__}",
        "command": command,
        "summary": {outcome: counts[outcome] for outcome in ("pass", "fail", "inconclusive")},
        "dms": {"name": name, **fingerprint},
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
