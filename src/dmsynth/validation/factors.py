"""Verdicts of a matrix by factor: how a DMS does at each level, in which it fails, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from dmsynth.controls import HEAD
from dmsynth.validation.statistics import LEVEL, holm

Row = Mapping[str, Any]
"""One entry of ``scenarios`` in ``results.json``."""


def level_of(row: Row, factor: str) -> str | None:
    """The level of a factor at which an entry was played; ``person`` and ``scenario`` are factors, too."""
    if factor in ("person", "scenario"):
        found = row.get("person") if factor == "person" else row["name"]
    else:
        found = row["factors"].get(factor)
    return None if found is None else str(found)


def figures(rows: Sequence[Row]) -> dict[str, Any]:
    """What a DMS does in some cells; None for what none of them has.

    ``cells``; how many ``pass``, ``fail`` and are ``inconclusive``; ``rate``, the share of passes among those that are
    not, with its 95 % ``interval`` (Wilson 1927); means over cells of ``error`` (head pose, degrees, the mean of
    three axes), ``latency`` (seconds, over warnings that came), ``availability`` and ``unavailable`` (shares of the
    time).
    """
    outcomes = [row["outcome"] for row in rows]
    passed, failed = outcomes.count("pass"), outcomes.count("fail")
    rate, interval = None, None
    if passed + failed:
        rate = passed / (passed + failed)
        found = stats.binomtest(passed, passed + failed).proportion_ci(1 - LEVEL, "wilson")
        interval = [float(found.low), float(found.high)]
    latencies = [
        warning["latency"]
        for row in rows
        for warning in row["warnings"]
        if warning["trusted"] and warning["latency"] is not None
    ]
    errors = [[row["errors"][axis]["mae"] for axis in HEAD if axis in row["errors"]] for row in rows]
    return {
        "cells": len(rows),
        "pass": passed,
        "fail": failed,
        "inconclusive": len(rows) - passed - failed,
        "rate": rate,
        "interval": interval,
        "error": _mean([float(np.mean(each)) for each in errors if each]),
        "latency": _mean(latencies),
        "availability": _mean([row["availability"] for row in rows if row["availability"] is not None]),
        "unavailable": _mean([row["unavailable"] for row in rows if row["video"]]),
    }


def by_factor(rows: Sequence[Row], factors: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """For each factor its ``name``, and for each of its ``levels`` the name and ``figures``, with ``p``: whether its
    pass rate is that of the factor's other levels (Fisher's exact test), corrected for all levels of all factors (Holm
    1979). ``in_words``: in which level it fails most, as a sentence.

    Args:
        factors: the levels of each, in their order.
    """
    found: list[dict[str, Any]] = []
    for name, levels in factors.items():
        at = {level: [row for row in rows if level_of(row, name) == level] for level in levels}
        found.append(
            {"name": name, "levels": [{"level": level} | figures(those) for level, those in at.items() if those]}
        )
    tested = [(factor["levels"], level) for factor in found for level in factor["levels"]]
    if tested:
        p = np.array([_differs(level, levels) for levels, level in tested])
        for (_, level), corrected in zip(tested, holm(p[:, None])[:, 0], strict=True):
            level["p"] = float(corrected)
    return [factor | {"in_words": _in_words(factor)} for factor in found]


def grid(rows: Sequence[Row], down: str, across: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Figures by the levels of two factors."""
    at: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        one, other = level_of(row, down), level_of(row, across)
        if one is not None and other is not None:
            at.setdefault((one, other), []).append(row)
    return {levels: figures(those) for levels, those in at.items()}


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _differs(level: Mapping[str, Any], levels: Sequence[Mapping[str, Any]]) -> float:
    """p of Fisher's exact test: passes and failures at a level against those at the others."""
    others = [sum(each[outcome] for each in levels) - level[outcome] for outcome in ("pass", "fail")]
    return float(stats.fisher_exact([[level["pass"], level["fail"]], others]).pvalue)


def _in_words(factor: Mapping[str, Any]) -> str:
    """Where it fails most, and whether that is more than chance."""
    judged = [level for level in factor["levels"] if level["rate"] is not None]
    name = factor["name"]
    if not judged:
        return f"By {name}: nothing could be judged."
    if all(level["rate"] == judged[0]["rate"] for level in judged):
        counts = sorted(level["pass"] + level["fail"] for level in judged)
        cells = f"{counts[0]} to {counts[-1]}" if counts[0] < counts[-1] else f"{counts[0]}"
        return f"By {name}: every level passes {100 * judged[0]['rate']:.0f} % of its {cells} cells."
    worst, best = (end(judged, key=lambda level: level["rate"]) for end in (min, max))
    least = [level for level in judged if level["rate"] == worst["rate"]]
    others = [f"{level['level']} {rate_in_words(level)}" for level in [*least, best] if level is not worst]
    ends = ", ".join([f"{worst['level']} passes {rate_in_words(worst)}", *others])
    sure = [level["level"] for level in judged if level["p"] < LEVEL]
    if sure:
        verb = "differ" if len(sure) > 1 else "differs"
        told = f"{' and '.join(sure)} {verb} from the other levels"
    else:
        told = "no level can be told from the others, so this may be chance"
    return f"By {name}: {ends}; {told}."


def rate_in_words(found: Mapping[str, Any]) -> str:
    """A pass rate with its count and its interval."""
    if found["rate"] is None:
        return "–"
    low, high = found["interval"]
    judged = found["pass"] + found["fail"]
    return f"{found['pass']} of {judged} ({100 * found['rate']:.0f} %; {100 * low:.0f} to {100 * high:.0f} %)"
