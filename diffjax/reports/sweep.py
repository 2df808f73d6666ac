"""A sweep's tables and plots: `table.md`, `table.csv` and a self-contained `report.html`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diffjax.evals.fidelity import FEW
from diffjax.reports import figures, page
from diffjax.results import Interval
from diffjax.runs.records import read_json
from diffjax.sweeps.claims import Claim, cards, lines
from diffjax.sweeps.grid import short
from diffjax.sweeps.published import beside
from diffjax.sweeps.table import (
    Row,
    Table,
    number,
    over_texts,
    read_table,
    to_csv,
    to_markdown,
)
from diffjax.train.progress import duration
from diffjax.train.writer import replace_file

_MOST_PICTURES = 64  # in one report; the others stay in cells/


def write_sweep_report(workdir: str | os.PathLike[str]) -> Path:
    """Writes `table.md`, `table.csv` and `report.html` of the sweep in `workdir`; returns the page.

    It can be written at any time: unfinished cells are counted, not waited for.
    """
    workdir = Path(workdir)
    table = read_table(workdir)
    replace_file(workdir / "table.md", to_markdown(table).encode())
    replace_file(workdir / "table.csv", to_csv(table).encode())
    name = str(table.sweep["name"])
    return page.render("sweep.html", workdir / "report.html", title=name, sweep=content(workdir))


def content(workdir: str | os.PathLike[str]) -> dict[str, Any]:
    """Variables of a sweep's template, for its own page or inside a run's report."""
    table = read_table(workdir)
    done = len(table.sweep["cells"]) - table.missing - len(table.failed)
    axes_named = {short(axis) for axis in table.axes} | {"nfe", FEW}
    axes_named |= set(table.sweep.get("varied", []))
    leaves = dict(table.differing)
    return {
        "name": table.sweep["name"],
        "run": table.sweep["run"],
        "command": table.sweep["command"],
        "axes": {short(axis): values for axis, values in table.sweep["axes"].items()},
        "seeds": table.sweep["seeds"],
        "baseline": {short(a): v for a, v in table.sweep["baseline"].items()},
        "cells": len(table.sweep["cells"]),
        "done": done,
        "missing": table.missing,
        "failed": table.failed,
        "time": duration(table.seconds),
        "table": table,
        "cells_of": [_row(table, row) for row in table.rows],
        "plots": [plot for spec in table.sweep["plots"] for plot in _plots(table, spec)],
        "claims": _claims(Path(workdir)),
        "published": table.shown,
        "over_texts": over_texts(table),
        "expected_keys": [key for key in leaves if key in axes_named],
        "odd_keys": {key: values for key, values in leaves.items() if key not in axes_named},
        "pictures": _pictures(Path(workdir), table),
    }


def _row(table: Table, row: Row) -> dict[str, Any]:
    """One line of the HTML table; `fill` is where the mean lies between the metric's extremes."""
    metrics = []
    for metric in table.metrics:
        summary = row.summaries[metric]
        others = [r.summaries[metric] for r in table.rows]
        means = [s.value for s in others if s is not None]
        span = max(means) - min(means) if means else 0
        fill = (summary.value - min(means)) / span if summary and span else 0
        metrics.append(
            {
                "summary": summary,
                "difference": row.differences[metric],
                "fill": round(100 * fill),
                "published": [beside(p, row.assignment) for p in table.published(metric)],
            }
        )
    labels = [row.assignment[axis] for axis in table.axes]
    return {"labels": labels, "metrics": metrics, "is_baseline": row.is_baseline}


def write_claims(workdir: str | os.PathLike[str], claims: Sequence[Claim]) -> list[str]:
    """Leaves `claims.json`, what the study claims and whether it is so, for the page; returns its
    lines for a terminal."""
    table = read_table(workdir)
    data = json.dumps(cards(claims, table), indent=1) + "\n"
    replace_file(Path(workdir) / "claims.json", data.encode())
    return lines(claims, table)


def _claims(workdir: Path) -> list[dict[str, Any]]:
    return read_json(workdir / "claims.json", missing=[], kind=list)


def _plots(table: Table, spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Ours, then the same plot of each paper that has its numbers."""
    found = _plot(table, spec)
    for name in dict.fromkeys(p["name"] for p in table.sweep.get("published", [])):
        for plot in _plot(table.as_published(name), spec) if found else []:
            found.append({**plot, "title": f"{plot['title']}: as published, {name}"})
    return found


def _plot(table: Table, spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    wanted = [spec["metric"]] if spec["kind"] == "AxisPlot" else [spec["x"], spec["y"]]
    wanted += [spec["right"]] if spec.get("right") else []
    if any(metric not in table.metrics for metric in wanted):
        return []
    return _axis_plots(table, spec) if spec["kind"] == "AxisPlot" else [_trade_off(table, spec)]


def _fixed(table: Table, named: Sequence[str | None]) -> dict[str, Any]:
    """The axes a plot does not name, at the baseline's value or their first."""
    axes, baseline = table.sweep["axes"], table.sweep["baseline"]
    return {a: baseline.get(a, values[0]) for a, values in axes.items() if a not in named}


def _values(table: Table, axis: str | None) -> list[Any]:
    return [None] if axis is None else list(table.sweep["axes"][axis])


def _along(
    table: Table, axis: str, fixed: Mapping[str, Any], metric: str
) -> list[tuple[Any, Interval]]:
    """(axis value, summary) of the cells that have one."""
    out = []
    for value in _values(table, axis):
        row = table.find({**fixed, axis: value})
        summary = row.summaries[metric] if row else None
        if summary is not None:
            out.append((value, summary))
    return out


def _axis_plots(table: Table, spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One plot per value of the `panels` axis, all on the same scale."""
    x, lines_axis, panels_axis = spec["x"], spec["lines"], spec["panels"]
    rest = _fixed(table, (x, lines_axis, panels_axis))
    panels: list[tuple[dict[str, Any], list[figures.Line]]] = []
    for panel in _values(table, panels_axis):
        where = rest if panels_axis is None else {**rest, panels_axis: panel}
        lines = []
        for value in _values(table, lines_axis):
            fixed = where if lines_axis is None else {**where, lines_axis: value}
            points = _along(table, x, fixed, spec["metric"])
            if points:
                label = "" if lines_axis is None else str(value)
                lines.append(_line(label, points))
        panels.append((where, lines))
    drawn = [line for _, lines in panels for line in lines]
    scale = _range(drawn) if panels_axis is not None and drawn else None
    return [
        {
            "title": f"{spec['metric']} by {short(x)}",
            "where": {short(a): v for a, v in where.items()},
            "lines": short(lines_axis or ""),
            "svg": page.svg(
                figures.line_plot(
                    lines, short(x), spec["metric"], y_range=scale, values_as_ticks=True
                )
            ),
        }
        for where, lines in panels
        if lines
    ]


def _line(label: str, points: Sequence[tuple[Any, Interval]]) -> figures.Line:
    x, summaries = zip(*points, strict=True)
    return figures.Line(label, x, [s.value for s in summaries], [s.half_width for s in summaries])


def _range(lines: Sequence[figures.Line]) -> tuple[float, float]:
    """A y range that holds every mean with its error bar, with a little air.

    An interval over two seeds can be many times the spread of the cells; it is then cut by the
    frame, so that the means stay readable.
    """
    means = [y for line in lines for y in line.y]
    span = (max(means) - min(means)) or abs(means[0]) or 1.0
    ends = [
        y + sign * min(e or 0.0, span)
        for line in lines
        for y, e in zip(line.y, line.error or [], strict=True)
        for sign in (-1, 1)
    ]
    low, high = min(ends), max(ends)
    air = 0.05 * (high - low) or 0.1 * span
    return low - air, high + air


def _trade_off(table: Table, spec: Mapping[str, Any]) -> dict[str, Any]:
    along, lines_axis, right = spec["along"], spec["lines"], spec.get("right")
    rest = _fixed(table, (along, lines_axis))
    drawn = _trade_off_lines(table, spec, spec["y"])
    other = _trade_off_lines(table, spec, right) if right else []
    title = f"{spec['y']}{f' and {right}' if right else ''} against {spec['x']}"
    return {
        "title": f"{title}, along {short(along)}",
        "where": {short(a): v for a, v in rest.items()},
        "lines": short(lines_axis or ""),
        "svg": page.svg(figures.trade_off(drawn, spec["x"], spec["y"], other, right or "")),
    }


def _trade_off_lines(table: Table, spec: Mapping[str, Any], metric: str) -> list[figures.Line]:
    along, lines_axis = spec["along"], spec["lines"]
    rest = _fixed(table, (along, lines_axis))
    lines = []
    for value in _values(table, lines_axis):
        fixed = rest if lines_axis is None else {**rest, lines_axis: value}
        xs = dict(_along(table, along, fixed, spec["x"]))
        ys = dict(_along(table, along, fixed, metric))
        common = [v for v in xs if v in ys]
        if common:
            label = "" if lines_axis is None else str(value)
            lines.append(
                figures.Line(
                    f"{metric} {label}".strip() if spec.get("right") else label,
                    [xs[v].value for v in common],
                    [ys[v].value for v in common],
                    error=[ys[v].std for v in common],
                    x_error=[xs[v].std for v in common],
                    notes=[str(v) for v in common],
                )
            )
    return lines


def _pictures(workdir: Path, table: Table) -> list[dict[str, Any]]:
    """The first seed's pictures of each cell, with its settings and headline values."""
    out = []
    for row in table.rows:
        first = [p for p in row.pictures if p["seed"] == row.pictures[0]["seed"]]
        for p in first:
            path = workdir / "cells" / p["file"]
            if len(out) < _MOST_PICTURES and path.exists():
                values = {
                    metric: number(s.value)
                    for metric in table.metrics[:2]
                    if (s := row.summaries[metric]) is not None
                }
                label = {short(axis): value for axis, value in row.assignment.items()}
                shown = page.picture(path, largest=220)
                out.append({**shown, "label": label, "values": values, "caption": p["caption"]})
    return out
