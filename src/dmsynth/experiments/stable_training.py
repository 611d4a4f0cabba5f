"""The thesis's open problem, spikes in training (3.2.2, 3.2.3): its optimization against the stable one."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from dmsynth.datasets.cutout import Layout
from dmsynth.experiments.grid import Engine
from dmsynth.experiments.position import STUDIES, Study, facts, read_curves, run_study
from dmsynth.report.figures import save
from dmsynth.report.position_figures import STABILITY_COLOURS, stability
from dmsynth.report.study import Picture, StudyReport, write_study_report
from dmsynth.trackers import Tracker

# A case with spikes in the thesis: SPE at the latent size above which more dimensions do not help (3.2.3).
STUDY = replace(STUDIES["laptop"], latents=(32,), epochs={"SPE": 20})


def compare(
    out: Path,
    tracker: Tracker,
    photo: Path | None = None,
    engine: Engine | None = None,
    seed: int = 0,
    study: Study = STUDY,
) -> StudyReport:
    """Train SPE with both optimizations on the same data and seeds; writes ``report.html`` and ``report.md``.

    The folders ``thesis`` and ``stable`` in ``out`` hold the trainings; after an interruption the same call resumes.
    """
    cells, curves = {}, {}
    for name in STABILITY_COLOURS:
        way = replace(study, optimization=name)
        # one by one and in float32, as only this way both can be trained: else the arithmetic would differ, too
        cells[name] = run_study(out / name, way, tracker, photo, engine, seed, together=False)
        curves[name] = read_curves(out / name, way)
    times = {name: facts(out / name, study, seed)["training time"] for name in cells}
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
        tables={"Before and after": _means(cells, curves), "Each training": _each(cells, curves, Layout(*study.size))},
        facts=facts(out / "thesis", study, seed)
        | {"optimization": "thesis and stable", **{f"training time, {name}": times[name] for name in times}},
        command=shlex.join(command + (["--photo", str(photo)] if photo else [])),
    )
    write_study_report(out, report)
    return report


def _each(cells: dict[str, pd.DataFrame], curves: dict[str, pd.DataFrame], layout: Layout) -> pd.DataFrame:
    """One row per training, as text; losses are those of the last epoch."""
    rows = []
    for name, table in cells.items():
        for cell in table.to_dict("records"):
            last = curves[name][curves[name]["split"] == cell["split"]].iloc[-1]
            gains = (_text(cell["gain_x"], ".3f"), _text(cell["gain_y"], ".3f"))
            error = cell["control_error"]
            rows.append(
                {
                    "optimization": name,
                    "split": str(cell["split"]),
                    "spike factor, position": f"{cell['spike/validation/control']:.2f}",
                    "spike factor, swap": f"{cell['spike/validation/swap']:.3f}",
                    "final position loss": f"{last['validation/control']:.2e}",
                    "final swap loss": f"{last['validation/swap']:.3e}",
                    "gain x, y": ", ".join(gains),
                    "control error (px of 640×480)": _text(None if error is None else error / layout.scale, ".2f"),
                }
            )
    return pd.DataFrame(rows)


def _means(cells: dict[str, pd.DataFrame], curves: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Means over trainings, and the factor by which the stable one is lower."""
    rows = []
    for title, loss in (("position loss", "control"), ("swap loss", "swap")):
        excess = {name: float((table[f"spike/validation/{loss}"] - 1).mean()) for name, table in cells.items()}
        final = {name: _final(table, f"validation/{loss}") for name, table in curves.items()}
        for what, values, form in ((f"excess, {title}", excess, ".3f"), (f"final {title}", final, ".2e")):
            lower = values["thesis"] / values["stable"] if values["stable"] else float("nan")
            rows.append(
                {
                    "mean over trainings": what,
                    **{name: f"{value:{form}}" for name, value in values.items()},
                    "times lower": _text(lower, ".1f"),
                }
            )
    return pd.DataFrame(rows)


def _final(curves: pd.DataFrame, loss: str) -> float:
    """Mean over splits of the last epoch's loss."""
    return float(curves[curves["epoch"] == curves["epoch"].max()][loss].mean())


def _text(value: float | None, form: str) -> str:
    return "–" if value is None or np.isnan(value) else f"{value:{form}}"
