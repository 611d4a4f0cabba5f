"""The report of a validation: one self-contained HTML page."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, StrictUndefined

from dmsynth.report import charts
from dmsynth.report.validation_figures import draw_answers, draw_coverage, still
from dmsynth.steering import SteerableFace
from dmsynth.support.files import write_text
from dmsynth.validation.rendering import Rendered
from dmsynth.validation.scenarios import Scenario
from dmsynth.validation.verdicts import MEASURED


@dataclass(frozen=True)
class ShownScenario:
    """A scenario, its video with the command, and the DMS's answers as a table; None: not tested."""

    scenario: Scenario
    rendered: Rendered | None = None
    answers: pd.DataFrame | None = None


def write_validation_report(
    path: Path, results: dict[str, Any], shown: Sequence[ShownScenario], face: SteerableFace
) -> None:
    """Write a self-contained ``report.html`` from the content of ``results.json``."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files("dmsynth.report").joinpath("validation.html.jinja").read_text("utf-8"))
    rows = [
        {
            "result": result,
            "windows": each.scenario.windows,
            "judges_warnings": each.scenario.warnings != "ignore",
        }
        | _drawn(each)
        for result, each in zip(results["scenarios"], shown, strict=True)
    ]
    overall = totals(results)
    coverage = draw_coverage(face, [each.rendered.table for each in shown if each.rendered])
    html = template.render(
        results=results,
        rows=rows,
        totals=overall,
        angles={axis: error for axis, error in overall["errors"].items() if axis != "eye_opening"},
        face_moves_eyes=face.trained.space.moves_eyes,
        outcomes={each["name"]: each["outcome"] for each in results["scenarios"]},
        coverage=_data_uri(coverage, "image/png"),
        script=charts.script(),
        policy=charts.policy(),
    )
    write_text(path, html)


def _drawn(each: ShownScenario) -> dict[str, str | None]:
    """Video, still and chart of a scenario that was tested."""
    if each.rendered is None or each.answers is None:
        return dict.fromkeys(("video", "still", "chart"))
    return {
        "video": _data_uri(each.rendered.video.read_bytes(), "video/mp4"),
        "still": _data_uri(still(each.rendered), "image/png"),
        "chart": draw_answers(each.scenario, each.rendered.table, each.answers, f"video-{each.scenario.name}"),
    }


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
