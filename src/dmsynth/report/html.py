"""The report: one self-contained HTML file."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from jinja2 import Environment, StrictUndefined

from dmsynth.controls import ControlSpace
from dmsynth.evaluation import Evaluation, judged
from dmsynth.report import figures
from dmsynth.report.charts import Panel, Series, policy, script, side_by_side, stacked
from dmsynth.steering import SteerableFace
from dmsynth.support.files import write_text
from dmsynth.video import Image, to_rgb

_COMMAND, _TRACKED, _LOST = "#1f4e79", "#e4572e", "#c9c9c9"


@dataclass(frozen=True)
class SteeredRun:
    """A trajectory that was rendered and tracked.

    Attributes:
        video: the steered video.
        table: ``time``, ``found``, and ``target_*`` (command) and ``tracked_*`` per control.
        errors: ``mae``, ``bias``, ``gain``, ``correlation`` per control, as in ``metrics.json``.
        description: the trajectory in words.
    """

    video: Path
    table: pd.DataFrame
    errors: dict[str, dict[str, float | None]]
    description: str


def write_report(
    path: Path,
    face: SteerableFace,
    evaluation: Evaluation,
    commands: Sequence[str],
    run: SteeredRun | None = None,
) -> None:
    """Write ``report.html``: figures, curves, pictures, coverage, and how to repeat it. It is self-contained, so it can
    be mailed. ``faces.png``, ``curves.png`` and, with two judges, ``judges.png`` are written beside it for use in
    documents."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["figure"] = _figure_text
    template = environment.from_string(files("dmsynth.report").joinpath("report.html.jinja").read_text("utf-8"))
    space = judged(evaluation.table, face.trained.space)
    names = space.names
    charts = []
    if run is not None:
        charts.append(("run", curves(run.table, space, "time", "seconds")))
    held_out = figures.ordered(evaluation.table, names)
    charts.append(("held_out", curves(held_out, space, "order", "held-out frame, ordered by target")))
    charts.append(("coverage", coverage(face, evaluation, run)))
    judges = evaluation.metrics.get("judges")
    by_both = space.only([name for name in names if f"second_target_{name}" in evaluation.table.columns])
    if judges:
        charts.append(("judges", two_judges(evaluation.table, by_both, evaluation.metrics["frames_are"])))
    html = template.render(
        metrics=evaluation.metrics,
        judges=judges,
        names=names,
        names_of_both=by_both.names,
        units=[control.unit for control in space.controls],
        about=face.trained.about,
        face=face,
        run=run,
        video=_data_uri(run.video.read_bytes(), "video/mp4") if run else None,
        examples=_examples(evaluation, names),
        worst=_worst(evaluation),
        rival=evaluation.metrics.get("rival"),
        source=_picture(evaluation.source),
        charts=dict(charts),
        script=script(),
        policy=policy(),
        commands=commands,
    )
    write_text(path, html)
    figures.faces(evaluation, names, path.with_name("faces.png"))
    shown, x, x_title = (
        (run.table, "time", "seconds") if run else (held_out, "order", "held-out frame, ordered by target")
    )
    figures.curves(shown, space, x, x_title, path.with_name("curves.png"))
    if judges:
        picture = path.with_name("judges.png")
        figures.judges(evaluation.table, by_both, picture, evaluation.metrics["frames_are"])


def curves(table: pd.DataFrame, space: ControlSpace, x: str, x_title: str) -> str:
    """SVG: command and tracker's answer per control, one above the other (Fig. 4.4). Lost frames are grey dots."""
    lost = table[~table["found"].astype(bool)]
    panels = []
    for control in space.controls:
        name = control.name
        series = [
            Series("target", _COMMAND, table[x], table[f"target_{name}"], width=2.5),
            Series("tracked in the steered frame", _TRACKED, table[x], table[f"tracked_{name}"]),
        ]
        if len(lost):
            gaps = table[f"target_{name}"].where(~table["found"].astype(bool))
            series.append(Series("face lost", _LOST, table[x], gaps, "dots", 7))
        panels.append(Panel(f"{name} ({control.unit})", series, 165.0))
    return stacked(panels, x_title)


def two_judges(table: pd.DataFrame, space: ControlSpace, targets: str) -> str:
    """SVG: the second judge's answer against the first one's, per control, on the ``targets`` (real or posed frames)
    and on the steered ones."""
    panels = []
    for control in space.controls:
        name = control.name
        low, high = table[f"target_{name}"].min(), table[f"target_{name}"].max()
        series = [Series("the same answer", _LOST, [low, high], [low, high], dashed=True, width=1)]
        for kind, title, colour in (("target", f"{targets} frames", _COMMAND), ("tracked", "steered frames", _TRACKED)):
            first, second = table[f"{kind}_{name}"], table[f"second_{kind}_{name}"]
            series.append(Series(title, colour, first, second.where(first.notna()), "dots", 4.5))
        panels.append(Panel("second judge", series, 300.0, x_title=f"{name}, first judge ({control.unit})"))
    return side_by_side(panels)


def coverage(face: SteerableFace, evaluation: Evaluation, run: SteeredRun | None) -> str:
    """SVG: training poses, held-out poses and the commanded path in the two controls with the widest range."""
    space = face.trained.space
    wide = np.argsort(space.high - space.low)[::-1][:2]
    x, y = sorted(wide, key=lambda i: space.names[i] not in ("yaw", "x"))
    seen, held = space.decode(face.trained.coverage.codes), evaluation.table
    series = [
        Series("training frames", "#9db4c8", seen[:, x], seen[:, y], "dots", 4.5),
        Series(
            "held-out frames", _COMMAND, held[f"target_{space.names[x]}"], held[f"target_{space.names[y]}"], "dots", 4
        ),
    ]
    if run is not None:
        path = run.table
        x_path, y_path = path[f"target_{space.names[x]}"], path[f"target_{space.names[y]}"]
        series.append(Series("commanded path", _TRACKED, x_path, y_path, width=2))
    titles = [f"{space.names[i]} ({space.controls[i].unit})" for i in (x, y)]
    return side_by_side([Panel(titles[1], series, 380.0, x_title=titles[0])], width=860)


def _examples(evaluation: Evaluation, names: Sequence[str], count: int = 6) -> list[dict[str, Any]]:
    """Held-out poses from one extreme to the other: target and steered frame with their poses (Fig. 4.3)."""
    result = []
    for index in figures.examples(evaluation.table, names, count):
        row = evaluation.table.iloc[index]
        result.append(
            {
                "target": _picture(evaluation.targets[row["position"]]),
                "steered": _picture(evaluation.steered[row["position"]]),
                "wanted": [float(row[f"target_{name}"]) for name in names],
                "got": [float(row[f"tracked_{name}"]) for name in names] if row["found"] else None,
            }
        )
    return result


def _worst(evaluation: Evaluation, count: int = 12) -> list[dict[str, Any]]:
    """The frames with the largest geometry error: real, steered, heat map, and the rival's where there is one."""
    if evaluation.metrics["geometry"] is None:
        return []
    result = []
    for _, row in evaluation.table.nlargest(count, "geometry").iterrows():
        position = int(row["position"])
        if position not in evaluation.moved:
            continue
        target, steered = evaluation.targets[position], evaluation.steered[position]
        rival = evaluation.rival.get(position)
        result.append(
            {
                "error": float(row["geometry"]),
                "target": _picture(target),
                "steered": _picture(steered),
                "heat": _picture(figures.heat_map(target, evaluation.moved[position])),
                "rival": None if rival is None else _picture(rival),
            }
        )
    return result


def _picture(image: Image) -> str:
    _, content = cv2.imencode(".jpg", cv2.cvtColor(to_rgb(image), cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92])
    return _data_uri(content.tobytes(), "image/jpeg")


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _figure_text(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
