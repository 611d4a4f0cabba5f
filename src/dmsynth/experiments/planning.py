"""What a validation plays: every driver in every scenario, or a matrix; how much that is, and how long it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from dmsynth.experiments.drivers import Driver
from dmsynth.support.errors import DmsynthError
from dmsynth.support.progress import console
from dmsynth.validation.matrix import Cell, Matrix, cells_of, stratified
from dmsynth.validation.rendering import read_pins, video_path, why_not
from dmsynth.validation.results import read_job_result
from dmsynth.validation.scenarios import Scenario


@dataclass(frozen=True)
class Part:
    """A scenario that a driver plays, or cannot play.

    Attributes:
        scenario: as it is played, at the ``levels`` of the factors.
        reason: why the driver cannot play it; None: he or she can.
    """

    driver: Driver
    scenario: Scenario
    levels: Mapping[str, str]
    reason: str | None = None


@dataclass(frozen=True)
class Plan:
    """All parts of a validation, driver by driver; ``matrix``: what ``results.json`` says of it, None without one."""

    parts: list[Part]
    matrix: dict[str, Any] | None = None


def planned(drivers: Sequence[Driver], scenarios: Sequence[Scenario], matrix: Matrix | None) -> Plan:
    """What is played. What a driver cannot play stands in it once, whatever the factors.

    Raises:
        DmsynthError: a sample that is larger than the matrix, or below 1.
    """
    each = [(driver, scenario, why_not(scenario, driver.face)) for driver in drivers for scenario in scenarios]
    if matrix is None:
        return Plan([Part(driver, scenario, {}, reason) for driver, scenario, reason in each])
    can = [(driver.person, scenario) for driver, scenario, reason in each if reason is None]
    cells = cells_of(can, matrix.factors)
    chosen = cells if matrix.sample is None else stratified(cells, matrix.sample, matrix.seed)
    parts = []
    for driver in drivers:
        parts += [Part(driver, cell.played, cell.levels) for cell in chosen if cell.person == driver.person]
        parts += [Part(driver, scenario, {}, reason) for of, scenario, reason in each if of is driver and reason]
    return Plan(parts, _about(matrix, cells, chosen))


def _about(matrix: Matrix, cells: Sequence[Cell], chosen: Sequence[Cell]) -> dict[str, Any]:
    return {
        "factors": {factor.name: list(factor.levels) for factor in matrix.factors},
        "cells": len(chosen),
        "of": len(cells),
        "seed": None if matrix.sample is None else matrix.seed,
    }


def size_in_words(plan: Plan) -> str:
    """How large a matrix is, and how many of its cells are played. Empty without one."""
    if plan.matrix is None:
        return ""
    can = [part for part in plan.parts if part.reason is None]
    persons = {part.driver.person for part in plan.parts}
    sizes = [f"{len(persons)} persons"] if len(persons) > 1 else []
    sizes.append(f"{len({part.scenario.name for part in can})} scenarios")
    size = " × ".join([*sizes, *(f"{len(levels)} {name}" for name, levels in plan.matrix["factors"].items())])
    chosen = "" if plan.matrix["seed"] is None else f", chosen with seed {plan.matrix['seed']}"
    return f"matrix of {size}: {plan.matrix['cells']} of {plan.matrix['of']} cells{chosen}"


def tell(plan: Plan, left: Sequence[Part], results: Sequence[Path], videos: Path, at_once: int) -> None:
    """Say how much of a matrix will be played and how long that takes, as far as earlier jobs of this folder tell.

    Args:
        left: the parts that are not judged yet.
        results: files of jobs that are.
        videos: the folder of videos, which may have some.
    """
    if plan.matrix is None:
        return
    judged = sum(part.reason is None for part in plan.parts) - len(left)
    minutes = sum(part.scenario.seconds for part in left) / 60
    frames = sum(part.scenario.seconds * part.scenario.video_rate for part in left)
    console.print(
        f"{size_in_words(plan)}; {judged} are judged already, {len(left)} are left: {minutes:.1f} minutes of video, "
        f"{frames:.0f} frames"
    )
    if left:
        console.print(_how_long(left, results, videos, at_once))


def _how_long(left: Sequence[Part], results: Sequence[Path], videos: Path, at_once: int) -> str:
    """By what a frame took in the jobs before: to be drawn, and to be judged."""
    took: dict[str, list[float]] = {"draw_seconds": [], "dms_seconds": []}
    for file in results:
        try:
            found = read_job_result(file)
        except DmsynthError:
            continue
        for name, known in took.items():
            if found[name] and found["frames"]:
                known.append(found[name] / found["frames"])
    to_draw = [p for p in left if read_pins(video_path(videos, p.scenario, p.driver.sha256)) is None]
    if not took["dms_seconds"] or (to_draw and not took["draw_seconds"]):
        return "how long that takes is not known before some are judged; the same command then says it, and goes on"
    seconds = 0.0
    for name, parts in (("draw_seconds", to_draw), ("dms_seconds", left)):
        frames = sum(part.scenario.seconds * part.scenario.video_rate for part in parts)
        seconds += frames * float(np.mean(took[name])) if parts else 0.0
    return f"about {timedelta(seconds=round(seconds / at_once))}, if it goes on as before ({at_once} at once)"
