"""The report: one self-contained HTML file that people look at rather than read."""

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
import plotly.graph_objects as go
from jinja2 import Environment, StrictUndefined
from plotly.subplots import make_subplots

from dmsynth.evaluation import Evaluation
from dmsynth.files import write_text
from dmsynth.report import figures
from dmsynth.steering import SteerableFace
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
    """Write ``report.html``: figures, curves, pictures, coverage, and how to repeat it. Nothing is loaded from
    outside, so it can be mailed. ``faces.png``, ``curves.png`` and, with two judges, ``judges.png`` beside it are its
    pictures for documents."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["figure"] = _figure_text
    template = environment.from_string(files("dmsynth.report").joinpath("report.html.jinja").read_text("utf-8"))
    names = face.trained.space.names
    charts = []
    if run is not None:
        charts.append(("run", curves(run.table, names, face, "time", "seconds")))
    held_out = figures.ordered(evaluation.table, names)
    charts.append(("held_out", curves(held_out, names, face, "order", "held-out frame, ordered by target")))
    charts.append(("coverage", coverage(face, evaluation, run)))
    judges = evaluation.metrics.get("judges")
    if judges:
        charts.append(("judges", two_judges(evaluation.table, face)))
    html = template.render(
        metrics=evaluation.metrics,
        judges=judges,
        names=names,
        units=[control.unit for control in face.trained.space.controls],
        about=face.trained.about,
        face=face,
        run=run,
        video=_data_uri(run.video.read_bytes(), "video/mp4") if run else None,
        examples=_examples(evaluation, names),
        source=_picture(evaluation.source),
        charts={name: chart.to_html(full_html=False, include_plotlyjs=False, config=_CONFIG) for name, chart in charts},
        plotly=_plotly_source(),
        commands=commands,
    )
    write_text(path, html)
    figures.faces(evaluation, names, path.with_name("faces.png"))
    shown, x, x_title = (
        (run.table, "time", "seconds") if run else (held_out, "order", "held-out frame, ordered by target")
    )
    figures.curves(shown, face.trained.space, x, x_title, path.with_name("curves.png"))
    if judges:
        figures.judges(evaluation.table, face.trained.space, path.with_name("judges.png"))


_CONFIG = {"displaylogo": False, "responsive": True, "modeBarButtonsToRemove": ["lasso2d", "select2d"]}


def curves(table: pd.DataFrame, names: Sequence[str], face: SteerableFace, x: str, x_title: str) -> go.Figure:
    """Command and tracker's answer per control, one above the other (Fig. 4.4). Lost frames are grey bands."""
    figure = make_subplots(rows=len(names), cols=1, shared_xaxes=True, vertical_spacing=0.06)
    lost = table[~table["found"].astype(bool)]
    for row, name in enumerate(names, start=1):
        first = row == 1
        figure.add_trace(
            go.Scatter(x=table[x], y=table[f"target_{name}"], name="target", legendgroup="target", showlegend=first,
                       line={"color": _COMMAND, "width": 3}),
            row=row, col=1,
        )  # fmt: skip
        figure.add_trace(
            go.Scatter(x=table[x], y=table[f"tracked_{name}"], name="tracked in the steered frame",
                       legendgroup="tracked", showlegend=first, line={"color": _TRACKED, "width": 1.5}),
            row=row, col=1,
        )  # fmt: skip
        if len(lost):
            figure.add_trace(
                go.Scatter(x=lost[x], y=lost[f"target_{name}"], name="face lost", legendgroup="lost",
                           showlegend=first, mode="markers", marker={"color": _LOST, "size": 9, "symbol": "x"}),
                row=row, col=1,
            )  # fmt: skip
        unit = face.trained.space.controls[row - 1].unit
        figure.update_yaxes(title_text=f"{name} ({unit})", row=row, col=1)
    figure.update_xaxes(title_text=x_title, row=len(names), col=1)
    return _styled(figure, 190 * len(names) + 60)


def two_judges(table: pd.DataFrame, face: SteerableFace) -> go.Figure:
    """The second judge's answer over the first one's, per control, on the real and on the steered frames."""
    names = face.trained.space.names
    figure = make_subplots(rows=1, cols=len(names), horizontal_spacing=0.07)
    for column, name in enumerate(names, start=1):
        first = column == 1
        low, high = table[f"target_{name}"].min(), table[f"target_{name}"].max()
        figure.add_trace(
            go.Scatter(x=[low, high], y=[low, high], mode="lines", name="the same answer", legendgroup="same",
                       showlegend=first, line={"color": _LOST, "width": 1, "dash": "dash"}),
            row=1, col=column,
        )  # fmt: skip
        for kind, title, colour in (("target", "real frames", _COMMAND), ("tracked", "steered frames", _TRACKED)):
            figure.add_trace(
                go.Scatter(x=table[f"{kind}_{name}"], y=table[f"second_{kind}_{name}"], mode="markers", name=title,
                           legendgroup=kind, showlegend=first, marker={"color": colour, "size": 5, "opacity": 0.7}),
                row=1, col=column,
            )  # fmt: skip
        unit = face.trained.space.controls[column - 1].unit
        figure.update_xaxes(title_text=f"{name}, first judge ({unit})", row=1, col=column)
        figure.update_yaxes(title_text="second judge" if first else None, row=1, col=column)
    return _styled(figure, 380)


def coverage(face: SteerableFace, evaluation: Evaluation, run: SteeredRun | None) -> go.Figure:
    """Training poses, held-out poses and the commanded path in the two controls with the widest range."""
    space = face.trained.space
    wide = np.argsort(space.high - space.low)[::-1][:2]
    x, y = sorted(wide, key=lambda i: space.names[i] not in ("yaw", "x"))
    seen = space.decode(face.trained.coverage.codes)
    figure = go.Figure()
    figure.add_trace(go.Scatter(x=seen[:, x], y=seen[:, y], mode="markers", name="training frames",
                                marker={"size": 5, "color": "#9db4c8"}))  # fmt: skip
    held = evaluation.table
    figure.add_trace(go.Scatter(x=held[f"target_{space.names[x]}"], y=held[f"target_{space.names[y]}"],
                                mode="markers", name="held-out frames",
                                marker={"size": 6, "color": _COMMAND, "symbol": "diamond-open"}))  # fmt: skip
    if run is not None:
        path = run.table
        figure.add_trace(go.Scatter(x=path[f"target_{space.names[x]}"], y=path[f"target_{space.names[y]}"],
                                    mode="lines", name="commanded path",
                                    line={"color": _TRACKED, "width": 2}))  # fmt: skip
    figure.update_xaxes(title_text=f"{space.names[x]} ({space.controls[x].unit})")
    figure.update_yaxes(title_text=f"{space.names[y]} ({space.controls[y].unit})", scaleanchor="x")
    return _styled(figure, 460)


def _styled(figure: go.Figure, height: int) -> go.Figure:
    figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 60, "r": 20, "t": 40, "b": 45},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
        font={"family": "system-ui, sans-serif", "size": 13},
        hovermode="x unified" if height != 460 else "closest",
    )
    return figure


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


def _picture(image: Image) -> str:
    _, content = cv2.imencode(".jpg", cv2.cvtColor(to_rgb(image), cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92])
    return _data_uri(content.tobytes(), "image/jpeg")


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _plotly_source() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def _figure_text(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
