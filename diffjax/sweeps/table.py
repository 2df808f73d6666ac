"""A sweep's cells gathered into one table: means over seeds, paired differences, protocols."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from diffjax.results import Interval, current_name, differing
from diffjax.runs.records import read_json
from diffjax.sweeps.grid import read_cell, short
from diffjax.sweeps.intervals import Difference, paired, summarise
from diffjax.sweeps.published import beside, values_of


@dataclass(frozen=True)
class Row:
    """One assignment: metric -> its mean over seeds, its `Difference` from the baseline, and of how
    many texts each seed's value is a mean (None where the seeds share none)."""

    assignment: Mapping[str, Any]
    summaries: Mapping[str, Interval | None]
    differences: Mapping[str, Difference | None]
    texts: Mapping[str, int | None]
    pictures: Sequence[Mapping[str, str]]
    is_baseline: bool


@dataclass(frozen=True)
class Table:
    """Rows in the sweep's order.

    `differing`: protocol key -> its values, for the keys that differ between cells (repeats of
    one protocol with other seeds do not).
    `failed`: cell name -> error. `missing`: cells without a file.
    """

    sweep: Mapping[str, Any]
    axes: Sequence[str]
    metrics: Sequence[str]
    rows: Sequence[Row]
    differing: Mapping[str, Sequence[Any]]
    failed: Mapping[str, str]
    missing: int
    seconds: float

    def find(self, assignment: Mapping[str, Any]) -> Row | None:
        wanted = key_of(assignment)
        return next((row for row in self.rows if key_of(row.assignment) == wanted), None)

    def value(self, metric: str, **where: Any) -> float | None:
        """The mean of a metric in the row at `where`, axes by the last part of their names; None
        where it has not been measured.

        Raises:
          ValueError: no such row.
        """
        row = self.find({axis: where.get(short(axis)) for axis in self.axes})
        if row is None or len(where) != len(self.axes):
            raise ValueError(f"{self.sweep['name']}: no row at {where}")
        summary = row.summaries.get(metric)
        return None if summary is None else summary.value

    def published(self, metric: str) -> list[Mapping[str, Any]]:
        """Papers' numbers of a metric."""
        return [p for p in self.sweep.get("published", []) if p["metric"] == metric]

    @property
    def shown(self) -> list[Mapping[str, Any]]:
        """Papers' numbers of the table's metrics, in its order."""
        return [p for metric in self.metrics for p in self.published(metric)]

    def as_published(self, name: str) -> Table:
        """The table that stands in the paper: all of its numbers of one name, without errors."""
        mine = [p for p in self.sweep.get("published", []) if p["name"] == name]
        axes = {
            axis: list(
                dict.fromkeys(v for p in mine if axis in p["axes"] for v in values_of(p, axis))
            )
            or list(values)[:1]
            for axis, values in self.sweep["axes"].items()
        }
        metrics = [p["metric"] for p in mine]
        rows = []
        for values in itertools.product(*axes.values()):
            at = dict(zip(axes, values, strict=True))
            found = {p["metric"]: beside(p, at) for p in mine}
            said = {m: None if v is None else summarise({0: v}) for m, v in found.items()}
            rows.append(Row(at, said, {}, {}, (), False))
        return replace(self, sweep={**self.sweep, "axes": axes}, metrics=metrics, rows=rows)


def key_of(assignment: Mapping[str, Any]) -> str:
    """An assignment as a key: the same whatever the order of its axes."""
    return json.dumps(assignment, sort_keys=True)


def read_table(workdir: str | os.PathLike[str]) -> Table:
    """The table of the sweep in `workdir`: what is finished so far, of the cells it now has.

    Raises:
      ValueError: `workdir` holds no readable `sweep.json`.
    """
    workdir = Path(workdir)
    if not (workdir / "sweep.json").exists():
        raise ValueError(f"{workdir} is not a sweep: it holds no sweep.json")
    sweep = _in_current_names(read_json(workdir / "sweep.json"))
    results = [(cell, read_cell(workdir / "cells", cell["id"])) for cell in sweep["cells"]]
    done = [r for _, r in results if r and r["status"] == "done"]
    seen = list(dict.fromkeys(name for r in done for name in r["values"]))
    metrics = [m for m in sweep["metrics"] if m in seen] or seen
    groups: dict[str, list[dict[str, Any]]] = {key_of(c["assignment"]): [] for c, _ in results}
    assignments = {key_of(c["assignment"]): c["assignment"] for c, _ in results}
    for result in done:
        groups[key_of(result["assignment"])].append(result)
    failed = {_name(c): r["error"] for c, r in results if r and r["status"] == "failed"}
    return Table(
        sweep=sweep,
        axes=list(sweep["axes"]),
        metrics=metrics,
        rows=[_row(a, groups, metrics, sweep["baseline"]) for a in assignments.values()],
        differing=_differing(done, metrics),
        failed=failed,
        missing=sum(r is None for _, r in results),
        seconds=sum(r["seconds"] for r in done),
    )


def _in_current_names(sweep: dict[str, Any]) -> dict[str, Any]:
    def renamed(section: Mapping[str, Any]) -> dict[str, Any]:
        return {k: current_name(v) if isinstance(v, str) else v for k, v in section.items()}

    metrics = [current_name(metric) for metric in sweep["metrics"]]
    return {**sweep, "metrics": metrics, "plots": [renamed(plot) for plot in sweep["plots"]]}


def _row(
    assignment: Mapping[str, Any],
    groups: Mapping[str, list[dict[str, Any]]],
    metrics: Sequence[str],
    baseline: Mapping[str, Any],
) -> Row:
    mine = groups[key_of(assignment)]
    reference = {**assignment, **baseline}
    is_baseline = bool(baseline) and key_of(reference) == key_of(assignment)
    theirs = groups.get(key_of(reference), []) if baseline and not is_baseline else []
    texts = {metric: _texts(mine, metric) for metric in metrics}
    summaries, differences = {}, {}
    for metric in metrics:
        values = _values(mine, metric)
        stds = [r["values"][metric].get("std") for r in mine if metric in r["values"]]
        summaries[metric] = summarise(values, _own_error(stds), texts[metric])
        differences[metric] = paired(values, _values(theirs, metric))
    pictures = [{**p, "seed": r["seed"]} for r in mine for p in r["pictures"]]
    return Row(assignment, summaries, differences, texts, pictures, is_baseline)


def _own_error(stds: Sequence[float | None]) -> float | None:
    """A seed's own error, as root mean square over seeds; None where one has none."""
    known = [std for std in stds if std is not None]
    if not known or len(known) < len(stds):
        return None
    return math.sqrt(sum(std**2 for std in known) / len(known))


def _texts(results: Sequence[Mapping[str, Any]], metric: str) -> int | None:
    """The number of texts that a metric is a mean over, where all seeds share them."""
    protocols = [r["values"][metric]["protocol"] for r in results if metric in r["values"]]
    same = {(p.get("num_texts"), p.get("data")) for p in protocols if "num_samples" in p}
    return next(iter(same))[0] if len(same) == 1 else None


def _values(results: Sequence[Mapping[str, Any]], metric: str) -> dict[int, float]:
    """Seed -> value; what was not finite has no value and lowers n."""
    pairs = ((r["seed"], r["values"].get(metric, {}).get("value")) for r in results)
    return {seed: value for seed, value in pairs if value is not None}


def _differing(results: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> dict[str, list]:
    found: dict[str, list] = {}
    for metric in metrics:
        values = [r["values"][metric] for r in results if metric in r["values"]]
        found |= differing(value["protocol"] for value in values)
    return found


def _name(cell: Mapping[str, Any]) -> str:
    parts = [f"{short(axis)}={value}" for axis, value in cell["assignment"].items()]
    return " ".join([*parts, f"seed={cell['seed']}"])


def number(value: float | None, digits: int = 4) -> str:
    """`digits` significant digits, in exponent form outside 1e-4 to 1e7; "–" for None and NaN."""
    if value is None or math.isnan(value):
        return "–"
    if value != 0 and not 1e-4 <= abs(value) < 1e7:
        return f"{value:.{digits - 1}g}"
    magnitude = math.floor(math.log10(abs(value))) if value else 0
    return f"{value:,.{max(digits - 1 - magnitude, 0)}f}"


def with_error(summary: Interval | None) -> str:
    """`value ± half width of the 95 % interval`."""
    if summary is None:
        return "–"
    if summary.half_width is None:
        return number(summary.value)
    mean, half = summary.value, summary.half_width
    if half <= 1e-9 * abs(mean):  # nothing but rounding
        return f"{number(mean)} ± 0"
    if not 1e-6 < half < 1e6:
        return f"{number(mean)} ± {number(half, 2)}"
    # The error has two digits and the mean as many decimals as the error.
    decimals = max(1 - math.floor(math.log10(half)), 0)
    return f"{mean:,.{decimals}f} ± {half:,.{decimals}f}"


def to_markdown(table: Table) -> str:
    """The table as Markdown: mean ± half width, and the paired difference where there is one."""
    compared = bool(table.sweep["baseline"])
    head = [short(axis) for axis in table.axes]
    for metric in table.metrics:
        head += [metric, f"Δ {metric}"] if compared else [metric]
        head += [f"{metric}, {p['name']}" for p in table.published(metric)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in table.rows:
        cells = [str(row.assignment[axis]) for axis in table.axes]
        for metric in table.metrics:
            cells.append(with_error(row.summaries[metric]))
            if compared:
                difference = row.differences[metric]
                cells.append("baseline" if row.is_baseline else with_error(difference))
            cells += [number(beside(p, row.assignment)) for p in table.published(metric)]
        lines.append("| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |")
    seeds = len(table.sweep["seeds"])
    lines += ["", f"Mean ± half width of the 95 % interval over {seeds} seed(s)."]
    lines += [s for s in [over_texts(table)] if s]
    lines += [f"{p['metric']}, {p['name']}: as published, {p['source']}." for p in table.shown]
    return "\n".join(lines) + "\n"


def over_texts(table: Table) -> str:
    """A sentence on the metrics whose intervals are over texts too, and their number; "" for
    none."""
    texts: dict[int, list[str]] = {}
    for metric in table.metrics:
        counts = [row.texts.get(metric) for row in table.rows if row.summaries.get(metric)]
        for count in dict.fromkeys(n for n in counts if n):
            texts.setdefault(count, []).append(metric)
    if not texts:
        return ""
    said = "; ".join(f"{', '.join(names)}: {count}" for count, names in texts.items())
    return (
        "All seeds draw the same texts: intervals of means are over texts and seeds, differences "
        f"are for these texts. Number of texts: {said}."
    )


# Column -> attribute.
_SUMMARY = {"n": "count", "mean": "value", "se": "std", "low": "low", "high": "high"}
_DIFFERENCE = {"mean": "value", "low": "low", "high": "high", "p": "p"}


def to_csv(table: Table) -> str:
    """The table as CSV at full precision, one row per assignment."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    head = list(table.axes)
    for metric in table.metrics:
        head += [f"{metric}:{part}" for part in _SUMMARY]
        head += [f"{metric}:difference_{part}" for part in _DIFFERENCE]
        head += [f"{metric}:published:{p['name']}" for p in table.published(metric)]
    writer.writerow(head)
    for row in table.rows:
        line = [row.assignment[axis] for axis in table.axes]
        for metric in table.metrics:
            line += [getattr(row.summaries[metric], part, None) for part in _SUMMARY.values()]
            line += [getattr(row.differences[metric], part, None) for part in _DIFFERENCE.values()]
            line += [beside(p, row.assignment) for p in table.published(metric)]
        writer.writerow(line)
    return out.getvalue()
