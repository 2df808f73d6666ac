"""Plots as inline SVG that take their colours from the page, so they follow light and dark."""

from __future__ import annotations

import hashlib
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import matplotlib.ticker
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Stand-ins drawn by matplotlib and replaced by the page's CSS variables in the SVG text.
_INK, _MUTED, _LINE, _GOOD = "#0b0c01", "#0b0c02", "#0b0c03", "#0b0c04"
_SERIES = [f"#0b0d{n:02x}" for n in range(1, 9)]
_CSS = {_INK: "--ink", _MUTED: "--muted", _LINE: "--line", _GOOD: "--good"} | {
    colour: f"--s{n}" for n, colour in enumerate(_SERIES, start=1)
}
_MARKERS = "osD^vPX*"
_WIDTH, _HEIGHT = 4.5, 2.95  # inches: 324 points, so that text stays readable on a phone

_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "diffjax",
    "font.size": 9.5,
    "axes.edgecolor": _LINE,
    "axes.labelcolor": _MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _LINE,
    "grid.linewidth": 0.5,
    "xtick.color": _LINE,
    "ytick.color": _LINE,
    "xtick.labelcolor": _MUTED,
    "ytick.labelcolor": _MUTED,
    "text.color": _INK,
    "legend.labelcolor": _INK,
    "legend.fontsize": 9,
    "figure.constrained_layout.use": True,
}


@dataclass(frozen=True)
class Line:
    """One series: `x`, `y` and error bars (None or NaN where there is none), equally long.

    `x` may be words (they are placed evenly). `x_error` is for trade-offs; `notes` are printed
    beside the points.
    """

    label: str
    x: Sequence[Any]
    y: Sequence[float]
    error: Sequence[float | None] | None = None
    x_error: Sequence[float | None] | None = None
    notes: Sequence[str] = ()


def smooth(values: np.ndarray, span: int) -> np.ndarray:
    """Exponential average `[N]` over about `span` values, without the pull of its start.

    What is not finite is passed over.
    """
    decay = 1 - 2 / (span + 1)
    total = weight = 0.0
    out = np.full(len(values), np.nan)
    for n, value in enumerate(values):
        if np.isfinite(value):
            total, weight = decay * total + value, decay * weight + 1
        if weight:
            out[n] = total / weight
    return out


def thin(x: np.ndarray, y: np.ndarray, most: int = 800) -> tuple[np.ndarray, np.ndarray]:
    """At most `most` points `[N]`, each the mean of a bucket of neighbours."""
    if len(x) <= most:
        return x, y
    buckets = np.array_split(np.arange(len(x)), most)
    mean = np.array([np.nanmean(y[b]) if np.isfinite(y[b]).any() else np.nan for b in buckets])
    return np.array([x[b].mean() for b in buckets]), mean


def training_curve(
    steps: Sequence[float], values: Sequence[float], ylabel: str, noisy: bool = True
) -> str:
    """A training signal; of a noisy one every value faint, its running average in front."""
    x, y = np.asarray(steps, np.float64), np.asarray(values, np.float64)
    span = max(1, len(y) // 25) if noisy else 1
    smoothed = smooth(y, span)
    with matplotlib.rc_context(_STYLE):
        figure, ax = _axes("step", ylabel)
        if span > 1:
            ax.plot(*thin(x, y), color=_SERIES[0], linewidth=0.8, alpha=0.35, label="each record")
        ax.plot(*thin(x, smoothed), color=_SERIES[0], linewidth=1.8, label=f"over {span} records")
        finite = smoothed[np.isfinite(smoothed)]
        # A high start would press the rest of the run flat.
        if len(finite) and finite.min() > 0 and finite.max() > 4 * np.median(finite):
            ax.set_yscale("log")
            _plain_log(ax)
        if span > 1:
            _legend(ax)
        _thousands(ax)
        return _svg(figure, f"{ylabel} by step")


def line_plot(
    lines: Sequence[Line],
    xlabel: str,
    ylabel: str,
    *,
    band: tuple[float | None, float | None] | None = None,
    y_range: tuple[float, float] | None = None,
    values_as_ticks: bool = False,
) -> str:
    """Lines with error bars; `band` is the expected range, shaded.

    `values_as_ticks`: x has few values (a sweep's axis): each is a tick, on a logarithmic axis
    when they span a factor of eight or are words placed evenly.
    """
    with matplotlib.rc_context(_STYLE):
        figure, ax = _axes(xlabel, ylabel)
        values = list(dict.fromkeys(x for line in lines for x in line.x))
        numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        place: dict[Any, float] = {v: (v if numeric else n) for n, v in enumerate(values)}
        for n, line in enumerate(lines):
            x = [place[v] for v in line.x]
            _errorbar(ax, n, line, x)
        if band is not None:
            _band(ax, band)
        if values_as_ticks and y_range is None and _far_apart([y for li in lines for y in li.y]):
            ax.set_yscale("log")
            _plain_log(ax)
        if values_as_ticks or not numeric:
            _value_ticks(ax, place, numeric)
        else:
            _thousands(ax)
        if y_range is not None:
            ax.set_ylim(*y_range)
        if len(lines) > 1:
            _legend(ax)
        return _svg(figure, f"{ylabel} by {xlabel}")


def trade_off(
    lines: Sequence[Line],
    xlabel: str,
    ylabel: str,
    right: Sequence[Line] = (),
    right_label: str = "",
) -> str:
    """One metric against another, with error bars both ways and each point named; lines of a
    third metric, `right`, on an axis of their own."""
    with matplotlib.rc_context(_STYLE):
        figure, ax = _axes(xlabel, ylabel)
        places = [(ax, line) for line in lines]
        if right:
            other = ax.twinx()
            other.set_ylabel(right_label)
            other.spines["right"].set_visible(True)
            other.grid(False)
            places += [(other, line) for line in right]
        for n, (where, line) in enumerate(places):
            _errorbar(where, n, line, list(line.x))
            for x, y, note in zip(line.x, line.y, line.notes, strict=True):
                where.annotate(
                    note, (x, y), (4, 4), textcoords="offset points", fontsize=7.5, color=_MUTED
                )
            where.margins(0.1)
        if len(places) > 1:
            _legend(ax, *{where for where, _ in places if where is not ax})
        return _svg(figure, f"{ylabel} against {xlabel}")


def _far_apart(values: Sequence[float]) -> bool:
    """Whether the least of positive values would lie on the axis under the largest."""
    return len(values) > 0 and min(values) > 0 and max(values) > 30 * min(values)


def _axes(xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH, _HEIGHT))
    ax = figure.add_subplot()
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    return figure, ax


def _errorbar(ax: Axes, n: int, line: Line, x: Sequence[float]) -> None:
    colour = _SERIES[n % len(_SERIES)]
    ax.errorbar(
        x,
        line.y,
        yerr=_bars(line.error),
        xerr=_bars(line.x_error),
        color=colour,
        marker=_MARKERS[n % len(_MARKERS)],
        markersize=4.5,
        linewidth=1.5,
        elinewidth=1,
        capsize=2.5,
        label=line.label,
    )


def _bars(error: Sequence[float | None] | None) -> np.ndarray | None:
    if error is None or all(e is None for e in error):
        return None
    return np.array([math.nan if e is None else e for e in error])


def _band(ax: Axes, band: tuple[float | None, float | None]) -> None:
    low, high = band
    bottom, top = ax.get_ylim()
    # The data decide the range; an edge beyond them is shown with a little of the band inside.
    air = 0.07 * (top - bottom)
    if low is not None:
        bottom, top = min(bottom, low - air), max(top, low + air)
    if high is not None:
        bottom, top = min(bottom, high - air), max(top, high + air)
    first = bottom if low is None else low
    last = top if high is None else high
    ax.axhspan(first, last, color=_GOOD, alpha=0.13, linewidth=0)
    for edge in (low, high):
        if edge is not None:
            ax.axhline(edge, color=_GOOD, linewidth=1, linestyle=(0, (4, 3)))
    ax.set_ylim(bottom, top)


def _value_ticks(ax: Axes, place: dict[Any, float], numeric: bool) -> None:
    numbers = sorted(place.values())
    if numeric and numbers[0] > 0 and numbers[-1] >= 8 * numbers[0]:
        ax.set_xscale("log")
    words = [f"{v:g}" if numeric else str(v) for v in place]
    ax.set_xticks(list(place.values()), words)
    ax.minorticks_off()
    if not numeric:
        ax.margins(x=0.15)


def _plain_log(ax: Axes) -> None:
    """Ticks at 1, 2 and 5 of each decade, as plain numbers."""
    ax.yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(lambda v, _: f"{v:g}")
    ax.yaxis.set_minor_locator(matplotlib.ticker.NullLocator())


def _thousands(ax: Axes) -> None:
    ax.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    ax.xaxis.set_major_formatter(lambda v, _: f"{v / 1000:g}k" if abs(v) >= 1000 else f"{v:g}")


def _legend(*axes: Axes) -> None:
    """Above the axes, in as many columns as the words leave room for."""
    found = [ax.get_legend_handles_labels() for ax in axes]
    handles = [handle for each in found for handle in each[0]]
    labels = [label for each in found for label in each[1]]
    columns = max(1, min(len(labels), 46 // (max(map(len, labels)) + 6)))
    figure = axes[0].get_figure()
    assert isinstance(figure, Figure)
    figure.legend(
        handles, labels, loc="outside upper left", ncols=columns, frameon=False,
        handlelength=1.4, columnspacing=1.2, borderaxespad=0.1,
    )  # fmt: skip


def _svg(figure: Figure, title: str) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # The page sets size and font; namespaces are not needed inside HTML.
    text = re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r' xmlns(:xlink)?="[^"]*"| version="[^"]*"', "", text)
    text = re.sub(r"<defs>\s*<style.*?</defs>", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r" font-family: [^;]*;", "", text).replace("xlink:href", "href")
    # Ids are shared by the whole page: drop those of groups, make the others this figure's own.
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    own = hashlib.sha256(text.encode()).hexdigest()[:8]
    text = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{own}-", text)
    text = re.sub(r"\s*\n\s*", " ", text)
    for stand_in, name in _CSS.items():
        text = text.replace(stand_in, f"var({name})")
    label = title.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return text.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
