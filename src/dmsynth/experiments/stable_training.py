"""The thesis's open problem, spikes in training (3.2.2, 3.2.3): its optimization against the stable one."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pandas as pd

from dmsynth.experiments.grid import Engine
from dmsynth.experiments.position import Study, facts, read_curves, run_study
from dmsynth.report.figures import save
from dmsynth.report.position_figures import STABILITY_COLOURS, stability
from dmsynth.report.study import Picture, StudyReport, write_study_report
from dmsynth.sources.cutout import Layout
from dmsynth.trackers import Tracker

# Small frames, because the thesis's recipe spikes in late epochs too and needs all of its 250.
STUDY = Study((64, 48), 1000, 200, 8, (32,), 3, {"SPE": 250})


def compare(
    out: Path,
    tracker: Tracker,
    photo: Path | None = None,
    engine: Engine | None = None,
    seed: int = 0,
    study: Study = STUDY,
) -> StudyReport:
    """Train SPE both ways on the same data from the same seeds; writes ``report.html`` and ``report.md``.

    The folders ``thesis`` and ``stable`` in ``out`` hold the trainings; interrupted, the same call goes on.
    """
    cells, curves = {}, {}
    for name in STABILITY_COLOURS:
        way = replace(study, optimization=name)
        cells[name] = run_study(out / name, way, tracker, photo, engine, seed)
        curves[name] = read_curves(out / name, way)
    picture = out / "figures" / "stability.png"
    save(stability(curves), picture, also=".svg")
    command = ["dmsynth", "reproduce", "stability", "--seed", str(seed), "--out", str(out)]
    report = StudyReport(
        title="Stable training: before and after",
        summary="Swap-Position-Encoding trained as in the thesis (Adam at a fixed step size) and with the stable "
        "optimization, on the same splits from the same seeds. Spike factor: the largest validation loss over the "
        "median of the five epochs before it; 1 is a curve that never rises.",
        findings=[],
        pictures=[
            Picture(
                "S.1",
                picture,
                "Validation losses of every training.",
                "the position loss spikes throughout training, and the spikes seem to spread to the swap loss (3.2.3).",
            )
        ],
        tables={"Each training": _table(cells, Layout(*study.size))},
        facts=facts(out / "thesis", study, seed) | {"optimization": "thesis and stable"},
        command=shlex.join(command + (["--photo", str(photo)] if photo else [])),
    )
    write_study_report(out, report)
    return report


def _table(cells: dict[str, pd.DataFrame], layout: Layout) -> pd.DataFrame:
    rows = []
    for name, table in cells.items():
        for cell in table.itertuples(index=False):
            found = dict(zip(table.columns, cell, strict=True))
            rows.append(
                {
                    "optimization": name,
                    "split": str(found["split"]),
                    "spike factor, position loss": f"{found['spike/validation/control']:.2f}",
                    "spike factor, swap loss": f"{found['spike/validation/swap']:.3f}",
                    "position loss": f"{found['validation/control']:.2e}",
                    "swap loss": f"{found['validation/swap']:.3e}",
                    "gain x, y": f"{found['gain_x']:.3f}, {found['gain_y']:.3f}",
                    "control error (px of 640×480)": f"{found['control_error'] / layout.scale:.2f}",
                }
            )
    return pd.DataFrame(rows)
