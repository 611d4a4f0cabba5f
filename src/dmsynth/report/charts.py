"""Charts for self-contained pages: SVG, and a small script (``charts.js``) for interaction.

Hovering shows values, a click on a legend entry hides its curve, and a chart over a video's time is synchronized with
the video. Without scripts the chart is static. A page with a dozen charts takes about a hundred kilobytes.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from typing import Literal

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_LEFT, _RIGHT, _TOP, _BOTTOM, _GAP = 58.0, 12.0, 30.0, 40.0, 14.0  # margins and the gap between panels, in pixels
_MOST = 1500  # points of a curve that are drawn; a screen shows no more side by side
_FAR = 1e6  # pixels: coordinates are clipped to this
_HUGE = 1e9  # larger values do not widen an axis


@dataclass(frozen=True)
class Series:
    """The data of one legend entry.

    Attributes:
        x, y: (n,); NaN in ``y`` is a gap.
        kind: ``line``; ``dots``; or ``on``: filled from one x to the next wherever y is above zero.
        width: of the line, or of a dot, in pixels.
    """

    name: str
    colour: str
    x: ArrayLike
    y: ArrayLike
    kind: Literal["line", "dots", "on"] = "line"
    width: float = 1.5
    dashed: bool = False


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        bands: (from, to, colour) in x, behind everything.
        y_range: by default the range of the series, within ``y_limits``.
        plain: no numbers at the y axis.
    """

    y_title: str
    series: Sequence[Series]
    height: float = 130.0
    bands: Sequence[tuple[float, float, str]] = ()
    y_range: tuple[float, float] | None = None
    y_limits: tuple[float, float] = (-np.inf, np.inf)
    x_title: str = ""
    x_range: tuple[float, float] | None = None
    plain: bool = False


@dataclass(frozen=True)
class _Axes:
    """Position and scales of a panel."""

    panel: Panel
    left: float
    top: float
    width: float
    x: tuple[float, float]
    y: tuple[float, float] = field(default=(0.0, 1.0))

    def px(self, x: ArrayLike) -> Floats:
        low, high = self.x
        return np.clip(self.left + (np.asarray(x, dtype=float) - low) / (high - low) * self.width, -_FAR, _FAR)

    def py(self, y: ArrayLike) -> Floats:
        low, high = self.y
        share = (np.asarray(y, dtype=float) - low) / (high - low)
        return np.clip(self.top + (1 - share) * self.panel.height, -_FAR, _FAR)


def script() -> str:
    """The script that a page with charts must include once."""
    return files("dmsynth.report").joinpath("charts.js").read_text("utf-8")


def policy(linked_videos: bool = False) -> str:
    """Content Security Policy of a page with charts: run only that script, load nothing, or nothing but videos that lie
    where the page does. A second defence besides escaping every text."""
    digest = base64.b64encode(hashlib.sha256(script().encode()).digest()).decode()
    videos = "'self' file:" if linked_videos else "data:"
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
        f"media-src {videos}"
    )


def stacked(panels: Sequence[Panel], x_title: str, width: float = 740, video: str | None = None) -> str:
    """SVG: panels one below the other over a common x. ``video``: the id of a video whose seconds x is."""
    x = panels[0].x_range or _range([series.x for panel in panels for series in panel.series])
    top, axes = _TOP, []
    for panel in panels:
        axes.append(_Axes(panel, _LEFT, top, width - _LEFT - _RIGHT, x, _y_range(panel)))
        top += panel.height + _GAP
    return _svg(axes, width, top - _GAP + _BOTTOM, x_title, video)


def side_by_side(panels: Sequence[Panel], width: float = 1000) -> str:
    """SVG: panels beside each other, each with its own x axis (``Panel.x_title``)."""
    each = (width - _RIGHT) / len(panels)
    axes = []
    for number, panel in enumerate(panels):
        x = panel.x_range or _widened(_range([series.x for series in panel.series]), 0.03)
        axes.append(_Axes(panel, number * each + _LEFT, _TOP, each - _LEFT, x, _y_range(panel)))
    return _svg(axes, width, _TOP + panels[0].height + _BOTTOM, None, None)


# --- drawing -------------------------------------------------------------------------------------------------------


def _svg(axes: Sequence[_Axes], width: float, height: float, x_title: str | None, video: str | None) -> str:
    linked = f' data-video="{escape(video)}"' if video else ""
    parts = [
        f'<svg class="chart" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'font-family="system-ui, sans-serif" font-size="12" data-near="{"point" if x_title is None else "x"}"{linked}>'
    ]
    for number, each in enumerate(axes):
        last = x_title is None or number == len(axes) - 1
        parts.append(_panel(each, each.panel.x_title if x_title is None else x_title, last))
    parts += [_legend(axes), "</svg>"]
    return "".join(parts)


def _panel(axes: _Axes, x_title: str, with_x: bool) -> str:
    panel, bottom, right = axes.panel, axes.top + axes.panel.height, axes.left + axes.width
    scale = " ".join(f"{value:.6g}" for value in (*axes.x, *axes.y))
    box = f"{axes.left:.1f} {axes.top:.1f} {axes.width:.1f} {panel.height:.1f}"
    parts = [f'<svg class="panel" data-scale="{scale}" data-box="{box}" data-title="{escape(panel.y_title)}">']
    for begin, end, colour in panel.bands:
        first, last = (float(x) for x in np.clip(axes.px([begin, end]), axes.left, right))
        parts.append(_rectangle(first, axes.top, last - first, panel.height, colour))
    for tick in _ticks(axes.x, max(int(axes.width / 80), 2)):
        x = float(axes.px(tick))
        parts.append(f'<path d="M{x:.1f} {axes.top:.1f}V{bottom:.1f}" stroke="#e6e6e6"/>')
        if with_x:
            parts.append(_text(x, bottom + 15, f"{tick:g}"))
    if not panel.plain:
        for tick in _ticks(axes.y, max(int(panel.height / 32), 2)):
            y = float(axes.py(tick))
            parts.append(f'<path d="M{axes.left:.1f} {y:.1f}H{right:.1f}" stroke="#e6e6e6"/>')
            parts.append(_text(axes.left - 5, y + 4, f"{tick:g}", "end"))
    parts.append(f'<path d="M{axes.left:.1f} {axes.top:.1f}V{bottom:.1f}H{right:.1f}" stroke="#5b6b7a" fill="none"/>')
    middle = axes.top + panel.height / 2
    turned = f' transform="rotate(-90 {axes.left - 42:.1f} {middle:.1f})"'
    parts.append(_text(axes.left - 42, middle, panel.y_title, "middle", turned))
    if with_x:
        parts.append(_text(axes.left + axes.width / 2, bottom + 33, x_title))
    # A nested svg clips curves at its border.
    view = (
        f'viewBox="{box}" x="{axes.left:.1f}" y="{axes.top:.1f}" width="{axes.width:.1f}" height="{panel.height:.1f}"'
    )
    parts.append(f"<svg {view}>{''.join(_series(axes, each) for each in panel.series)}</svg></svg>")
    return "".join(parts)


def _series(axes: _Axes, series: Series) -> str:
    known = f'data-series="{escape(series.name)}" data-kind="{series.kind}"'
    x, y = np.asarray(series.x, dtype=float), np.asarray(series.y, dtype=float)
    if series.kind == "on":
        return f'<path {known} d="{_on(axes, x, y)}" fill="{series.colour}"/>'
    if series.kind == "dots":
        points = np.unique(np.stack([axes.px(x), axes.py(y)], axis=1)[np.isfinite(y)].round(1), axis=0)
        path = "".join(f"M{px:g} {py:g}h0" for px, py in points)
        return (
            f'<path {known} d="{path}" stroke="{series.colour}" stroke-width="{series.width:g}" '
            'stroke-linecap="round" stroke-opacity="0.75"/>'
        )
    dashes = ' stroke-dasharray="5 4"' if series.dashed else ""
    return (
        f'<path {known} d="{_line(axes, x, y)}" fill="none" stroke="{series.colour}" '
        f'stroke-width="{series.width:g}" stroke-linejoin="round"{dashes}/>'
    )


def _line(axes: _Axes, x: Floats, y: Floats) -> str:
    if len(x) > _MOST:  # the extremes of each interval, in order
        stretches = np.array_split(np.arange(len(x)), _MOST // 2)
        filled = np.where(np.isfinite(y), y, 0.0)
        kept = {int(s[int(f(filled[s]))]) for s in stretches for f in (np.argmin, np.argmax)}
        chosen = sorted(kept)
        x, y = x[chosen], y[chosen]
    parts, pen_down = [], False
    for px, py, drawn in zip(axes.px(x), axes.py(np.nan_to_num(y)), np.isfinite(y), strict=True):
        if drawn:
            parts.append(f"{'L' if pen_down else 'M'}{px:.1f} {py:.1f}")
        pen_down = bool(drawn)
    return "".join(parts)


def _on(axes: _Axes, x: Floats, y: Floats) -> str:
    """Rectangles over the intervals where y is above zero, at most up to the last point."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], y > 0, [False]]).astype(int))).reshape(-1, 2)
    low, high = axes.top + 0.2 * axes.panel.height, axes.top + 0.8 * axes.panel.height
    parts = []
    for begin, end in edges[:_MOST]:
        left, right = axes.px([x[begin], x[min(end, len(x) - 1)]])
        parts.append(f"M{left:.1f} {low:.1f}H{right:.1f}V{high:.1f}H{left:.1f}Z")
    return "".join(parts)


def _legend(axes: Sequence[_Axes]) -> str:
    names = {series.name: series.colour for each in axes for series in each.panel.series}
    parts, left = [], _LEFT
    for name, colour in names.items():
        parts.append(
            f'<g class="name" data-names="{escape(name)}">{_rectangle(left, 8, 14, 10, colour)}'
            f"{_text(left + 19, 17, name, 'start')}</g>"
        )
        left += 38 + 7.2 * len(name)
    return "".join(parts)


def _rectangle(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height:.1f}" fill="{colour}"/>'


def _text(x: float, y: float, text: str, anchor: str = "middle", more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#1b2733"{more}>{escape(text)}</text>'


def _ticks(span: tuple[float, float], count: int) -> list[float]:
    found = MaxNLocator(count, steps=[1, 2, 5, 10]).tick_values(*span)
    return [float(each) for each in found if span[0] - 1e-9 <= each <= span[1] + 1e-9]


def _range(values: Sequence[ArrayLike]) -> tuple[float, float]:
    """From the lowest to the highest finite value; never empty."""
    finite = [each[np.isfinite(each)] for each in (np.asarray(value, dtype=float).ravel() for value in values)]
    together = np.concatenate([*finite, np.zeros(0)])
    together = np.clip(together, -_HUGE, _HUGE)
    low, high = (float(together.min()), float(together.max())) if len(together) else (0.0, 1.0)
    return (low, high) if high - low > 1e-9 else (low - 0.5, high + 0.5)


def _y_range(panel: Panel) -> tuple[float, float]:
    if panel.y_range:
        return panel.y_range
    values = [np.clip(np.asarray(series.y, dtype=float), *panel.y_limits) for series in panel.series]
    return _widened(_range(values), 0.06)


def _widened(span: tuple[float, float], share: float) -> tuple[float, float]:
    edge = share * (span[1] - span[0])
    return span[0] - edge, span[1] + edge
