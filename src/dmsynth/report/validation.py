"""The report of a validation: one HTML page, self-contained; of a cast, with the videos beside it."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
from jinja2 import Environment, StrictUndefined

from dmsynth.report import charts
from dmsynth.report.heat_maps import heat_maps
from dmsynth.report.validation_figures import draw_answers, draw_coverage, still
from dmsynth.steering import SteerableFace
from dmsynth.support.files import write_text
from dmsynth.validation.matrix import file_name
from dmsynth.validation.rendering import Rendered
from dmsynth.validation.results import by_requirement
from dmsynth.validation.scenarios import Scenario
from dmsynth.validation.verdicts import MEASURED


@dataclass(frozen=True)
class ShownScenario:
    """A scenario, its video with the command, and the DMS's answers as a table; None: not tested."""

    scenario: Scenario
    rendered: Rendered | None = None
    answers: pd.DataFrame | None = None


def write_validation_report(
    path: Path, results: dict[str, Any], shown: Sequence[ShownScenario], faces: Sequence[SteerableFace]
) -> None:
    """Write ``report.html`` from the content of ``results.json``.

    With a single face it is self-contained. With a cast or a matrix, videos are linked: with all of them in it, its
    size would grow with every person and cell.

    Args:
        shown: an entry for each of ``scenarios`` in the results.
        faces: one for each of ``persons``, or the single one.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files("dmsynth.report").joinpath("validation.html.jinja").read_text("utf-8"))
    persons = [each["name"] for each in results.get("persons", [])]
    linked = bool(persons) or "matrix" in results
    entries = list(zip(results["scenarios"], shown, strict=True))
    rows = [
        {"result": result, "id": _anchor(result), "who": _who(result), "scenario": each.scenario}
        | _drawn(result, each, path, linked)
        for result, each in entries
    ]
    overall = totals(results)
    played = [[each for result, each in entries if result.get("person") == person] for person in persons or [None]]
    html = template.render(
        results=results,
        persons=persons,
        linked=linked,
        matrix=results.get("matrix"),
        maps=heat_maps(results),
        drivers=results.get("persons") or [results["face"]],
        rows=rows,
        sections=_by_scenario(rows),
        totals=overall,
        angles={axis: error for axis, error in overall["errors"].items() if axis != "eye_opening"},
        moves_eyes=[face.trained.space.moves_eyes for face in faces],
        outcomes=_worst(results["scenarios"]),
        coverages=list(zip(persons or [""], map(_coverage, faces, played), strict=True)),
        script=charts.script(),
        policy=charts.policy(linked_videos=linked),
    )
    write_text(path, html)


def _anchor(result: dict[str, Any]) -> str:
    """The ID of an entry in the page."""
    name = file_name(result["name"], result["factors"])
    return f"{result['person']}:{name}" if result.get("person") else name


def _who(result: dict[str, Any]) -> str:
    """What tells an entry from others of its scenario: the person, and the levels of the factors."""
    return ", ".join([*([result["person"]] if result.get("person") else []), *result["factors"].values()])


def _by_scenario(rows: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The rows of each scenario, one per person."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["result"]["name"], []).append(row)
    return list(found.values())


def _worst(scenarios: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The outcome of each scenario over all persons, as of a requirement."""
    return {
        each["id"]: each["outcome"] for each in by_requirement([s | {"requirements": [s["name"]]} for s in scenarios])
    }


def _coverage(face: SteerableFace, shown: Sequence[ShownScenario]) -> str | None:
    """A picture of the coverage; None if the face plays nothing."""
    tables = [each.rendered.table for each in shown if each.rendered]
    return _data_uri(draw_coverage(face, tables), "image/png") if tables else None


def _drawn(result: dict[str, Any], each: ShownScenario, page: Path, linked: bool) -> dict[str, str | None]:
    """Video, still and chart of a scenario that was tested."""
    if each.rendered is None or each.answers is None:
        return dict.fromkeys(("video", "still", "chart"))
    video = each.rendered.video
    return {
        "video": _link(video, page.parent) if linked else _data_uri(video.read_bytes(), "video/mp4"),
        "still": _data_uri(still(each.rendered), "image/jpeg"),
        "chart": draw_answers(each.scenario, each.rendered.table, each.answers, f"video-{_anchor(result)}"),
    }


def _link(file: Path, folder: Path) -> str:
    """A link from a page in ``folder`` to a file."""
    try:
        return quote(Path(os.path.relpath(file.resolve(), folder.resolve())).as_posix())
    except ValueError:  # on another drive
        return file.resolve().as_uri()


def totals(results: dict[str, Any]) -> dict[str, Any]:
    """Figures over all scenarios: expected warnings and their outcomes, false alarms, median latency, errors by axis
    and angle band (means over frames), availability, lag. None for figures that no scenario has."""
    scenarios = results["scenarios"]
    warnings = [warning for scenario in scenarios for warning in scenario["warnings"] if warning["trusted"]]
    latencies = [warning["latency"] for warning in warnings if warning["outcome"] == "in time"]
    errors = {}
    for axis in MEASURED:
        figures = [scenario["errors"][axis] for scenario in scenarios if axis in scenario["errors"]]
        bands: dict[tuple[float, float], list[dict[str, Any]]] = {}
        for band in (band for figure in figures for band in figure["bands"]):
            bands.setdefault((band["from"], band["to"]), []).append(band)
        if figures:
            errors[axis] = _mean(figures) | {"bands": {edges: _mean(parts) for edges, parts in sorted(bands.items())}}
            for name in ("gain", "lag"):
                known = [figure[name] for figure in figures if figure.get(name) is not None]
                errors[axis][name] = float(np.median(known)) if known else None
    available = [scenario["availability"] for scenario in scenarios if scenario["availability"] is not None]
    lags = [scenario["lag"] for scenario in scenarios if scenario["lag"] is not None]
    return {
        "expected": len(warnings),
        "in_time": len(latencies),
        "missed": sum(warning["outcome"] == "missed" for warning in warnings),
        "other_kind": sum(warning["outcome"] == "other kind" for warning in warnings),
        "late": sum(warning["outcome"] == "late" for warning in warnings),
        "false_alarms": sum(len(scenario["false_alarms"]) for scenario in scenarios),
        "latency": float(np.median(latencies)) if latencies else None,
        "errors": errors,
        "availability": float(np.mean(available)) if available else None,
        "lag": float(np.median(lags)) if lags else None,
    }


def _mean(figures: Sequence[dict[str, Any]]) -> dict[str, Any]:
    frames = [figure["frames"] for figure in figures]
    means = {name: float(np.average([figure[name] for figure in figures], weights=frames)) for name in ("mae", "bias")}
    return means | {"frames": sum(frames)}


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
