"""Heat maps of a matrix: by two factors, how a DMS does. The redder, the worse."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dmsynth.validation.factors import Row, figures, grid, level_of, rate_in_words

_ALL = "all"
_WHITE, _RED, _DARK = (255, 255, 255), (214, 63, 46), (122, 16, 16)  # best, bad, worst
_LIGHT_TEXT = 0.62  # from this badness on text is white
_WORST_ERROR, _SLOWEST, _LEAST = 8.0, 2.0, 0.5  # degrees and seconds above the best; share of the time


@dataclass(frozen=True)
class Square:
    """One field of a map: its ``text``, a smaller one ``below``, a ``title`` that says all, and colours; with an empty
    ``back`` there is nothing."""

    text: str = ""
    below: str = ""
    title: str = ""
    back: str = ""
    ink: str = ""


@dataclass(frozen=True)
class HeatMap:
    """A figure by two factors: ``columns``, and for each level of ``down`` its squares, the last of which is that of
    all; so is the last row."""

    figure: str
    down: str
    across: str
    columns: list[str]
    rows: list[tuple[str, list[Square]]]


@dataclass(frozen=True)
class _Figure:
    """A figure of cells as a square; ``bad`` is 0 to 1, given the values of the whole map."""

    name: str
    of: str
    text: Callable[[float], str]
    bad: Callable[[float, Sequence[float]], float]


_FIGURES = (
    _Figure("Pass rate", "rate", lambda v: f"{100 * v:.0f} %", lambda v, those: 1 - v),
    _Figure("Availability", "availability", lambda v: f"{100 * v:.0f} %", lambda v, those: (1 - v) / (1 - _LEAST)),
    _Figure(
        "Mean error of the head pose", "error", lambda v: f"{v:.1f}°", lambda v, those: (v - min(those)) / _WORST_ERROR
    ),
    _Figure(
        "Mean latency of warnings", "latency", lambda v: f"{v:.2f} s", lambda v, those: (v - min(those)) / _SLOWEST
    ),
    _Figure("Tells that it cannot see", "unavailable", lambda v: f"{100 * v:.0f} %", lambda v, those: v / _LEAST),
)


def heat_maps(results: Mapping[str, Any]) -> list[tuple[str, list[HeatMap]]]:
    """Titles, and the maps of each pair of factors; with one factor, by factor and scenario. None without a matrix.

    Args:
        results: the content of ``results.json``.
    """
    if "matrix" not in results:
        return []
    rows = results["scenarios"]
    factors = {each["name"]: [level["level"] for level in each["levels"]] for each in results["by_factor"]}
    pairs = list(itertools.combinations(factors, 2))
    if not pairs:
        pairs = [("scenario", next(iter(factors)))]
        factors = {"scenario": list(dict.fromkeys(row["name"] for row in rows))} | factors
    found = []
    for one, other in pairs:
        down, across = (one, other) if len(factors[one]) >= len(factors[other]) else (other, one)
        maps = [_map(each, rows, (down, factors[down]), (across, factors[across])) for each in _FIGURES]
        found.append((f"{down} × {across}", [each for each in maps if each is not None]))
    return found


def _map(
    figure: _Figure, rows: Sequence[Row], down: tuple[str, Sequence[str]], across: tuple[str, Sequence[str]]
) -> HeatMap | None:
    """None if no cell has the figure, or if it tells nothing: no DMS that never tells that it cannot see."""
    there = [row for row in rows if level_of(row, down[0]) and level_of(row, across[0])]
    at = grid(there, down[0], across[0])
    values = [each[figure.of] for each in at.values() if each[figure.of] is not None]
    if not values or (figure.of == "unavailable" and not any(values)):
        return None

    def square(found: Mapping[str, Any] | None, place: str) -> Square:
        return Square() if found is None else _square(figure, found, values, place)

    lines = []
    for level in down[1]:
        of_row = [row for row in there if level_of(row, down[0]) == level]
        squares = [square(at.get((level, column)), f"{level}, {column}") for column in across[1]]
        lines.append((level, [*squares, square(figures(of_row) if of_row else None, level)]))
    columns = [[row for row in there if level_of(row, across[0]) == column] for column in across[1]]
    last = [square(figures(those) if those else None, column) for column, those in zip(across[1], columns, strict=True)]
    lines.append((_ALL, [*last, square(figures(there), "all")]))
    return HeatMap(figure.name, down[0], across[0], [*across[1], _ALL], lines)


def _square(figure: _Figure, found: Mapping[str, Any], values: Sequence[float], place: str) -> Square:
    counts = ", ".join(f"{found[outcome]} {outcome}" for outcome in ("pass", "fail", "inconclusive") if found[outcome])
    value = found[figure.of]
    if value is None:
        return Square("–", "?" * (found["cells"] if figure.of == "rate" else 0), f"{place}: {counts}", "#eef1f4")
    is_rate = figure.of == "rate"
    said = f"passes {rate_in_words(found)}" if is_rate else f"{figure.name.lower()} {figure.text(value)}"
    bad = min(max(figure.bad(value, values), 0.0), 1.0)
    below = f"{found['pass']}/{found['pass'] + found['fail']}" if is_rate else ""
    ink = "#fff" if bad >= _LIGHT_TEXT else ""
    return Square(figure.text(value), below, f"{place}: {said}; {counts}", _colour(bad), ink)


def _colour(bad: float) -> str:
    """From white over red to dark red."""
    low, high, share = (_WHITE, _RED, bad / 0.7) if bad < 0.7 else (_RED, _DARK, (bad - 0.7) / 0.3)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in zip(low, high, strict=True))
