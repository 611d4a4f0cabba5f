"""The report of a study: figures with the thesis's statements, findings, tables, and how to repeat it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import pandas as pd
from jinja2 import Environment, StrictUndefined

from dmsynth.support.files import write_text


@dataclass(frozen=True)
class Finding:
    """A claim as a statistic.

    Attributes:
        claim: what is claimed.
        where: the section or figure of the claim.
        statistic: what was computed, and the threshold for the claim to hold.
        measured: the statistic's value, as text.
        holds: whether it passes the threshold; None: undecided.
    """

    claim: str
    where: str
    statistic: str
    measured: str
    holds: bool | None

    @property
    def verdict(self) -> str:
        return {True: "holds", False: "does not hold", None: "undecided"}[self.holds]


@dataclass(frozen=True)
class Picture:
    """A figure, what it shows, and what the thesis says about it, if anything."""

    number: str
    path: Path
    shows: str
    thesis: str


@dataclass(frozen=True)
class StudyReport:
    """The content of a report. ``tables`` and ``videos`` by title; ``facts`` are machine, seed, time and the like."""

    title: str
    summary: str
    findings: Sequence[Finding]
    pictures: Sequence[Picture]
    tables: dict[str, pd.DataFrame]
    facts: dict[str, str]
    command: str
    videos: dict[str, Path] = field(default_factory=dict)


def write_study_report(folder: Path, report: StudyReport) -> None:
    """Write ``report.html``, a self-contained file, and ``report.md``, which links to the pictures beside it."""
    for name in ("report.html", "report.md"):
        environment = Environment(
            autoescape=name.endswith("html"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        environment.filters["embedded"] = _embedded
        environment.filters["relative"] = lambda path: path.relative_to(folder).as_posix()
        source = files("dmsynth.report").joinpath(f"study.{name.partition('.')[2]}.jinja").read_text("utf-8")
        write_text(folder / name, environment.from_string(source).render(report=report))


def _embedded(path: Path) -> str:
    kind = "video/mp4" if path.suffix == ".mp4" else "image/png"
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
