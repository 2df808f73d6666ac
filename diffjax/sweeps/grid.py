"""The sweep engine: a grid of settings x paired seeds, run cell by cell, resumable at each.

A cell is one assignment of every axis and one seed. Its file `cells/<id>.json` appears whole or
not at all, so a killed sweep goes on at the first cell that is not there.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from diffjax.keys import check_seed
from diffjax.launch.one_line import one_line
from diffjax.results import in_current_names
from diffjax.sweeps.published import Published
from diffjax.train.writer import encode_png, plain, replace_file


@dataclass(frozen=True)
class Choice:
    """A named value of an axis that sets several keys at once: `Choice("DDIM", {...})`."""

    label: str | int | float
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class AxisPlot:
    """`metric` against the axis `x`; one line per value of `lines`, one panel per `panels`."""

    metric: str
    x: str
    lines: str | None = None
    panels: str | None = None


@dataclass(frozen=True)
class TradeOff:
    """`y` against `x`, two metrics, moving along the axis `along`; one line per `lines`.

    `right` is a third metric against the same `x`, on an axis of its own at the right.
    """

    x: str
    y: str
    along: str
    lines: str | None = None
    right: str | None = None


@dataclass(frozen=True)
class Sweep:
    """A grid over predict arguments (`eval.steps`) and config values (`config.optim.lr`).

    Attributes:
      name: a short name for titles.
      run: the workdir of a trained run, or the path of a config that every cell trains.
      axes: dotted key -> its values, outermost first.
      seeds: every assignment is run with each of them, so that cells pair by seed.
      metrics: the ones to tabulate, in order; () for all.
      baseline: axis -> value. Each cell is compared with the cell that differs from it by taking
        these values; giving every axis compares all cells with one.
      plots: axes that a plot does not name stay at the baseline's value, or at their first.
      published: papers' numbers on these axes.
    """

    name: str
    run: str
    axes: Mapping[str, Sequence[Any]]
    seeds: tuple[int, ...] = (0,)
    metrics: tuple[str, ...] = ()
    baseline: Mapping[str, Any] = field(default_factory=dict)
    plots: tuple[AxisPlot | TradeOff, ...] = ()
    published: tuple[Published, ...] = ()

    def __post_init__(self):
        seeds = [check_seed(seed) for seed in self.seeds]
        if not self.axes or not seeds:
            raise ValueError(f"sweep {self.name}: it needs at least one axis and one seed")
        for axis, values in self.axes.items():
            labels = [_label(value) for value in values]
            if not labels or len(set(map(_key, labels))) < len(labels):
                raise ValueError(f"sweep {self.name}: axis {axis} has no or repeated values")
        for axis, value in self.baseline.items():
            labels = [_label(v) for v in self.axes.get(axis, ())]
            if value not in labels:
                raise ValueError(
                    f"sweep {self.name}: baseline {axis}={value!r} is no cell of it; "
                    + (f"choose from {labels}" if labels else f"axes are {list(self.axes)}")
                )
        named = {axis: "a plot" for plot in self.plots for axis in _axes_of(plot)}
        named |= {axis: f"published {p.name}" for p in self.published for axis in p.axes}
        for axis, who in named.items():
            if axis not in self.axes:
                raise ValueError(
                    f"sweep {self.name}: {who} names the axis {axis}; axes are {list(self.axes)}"
                )

    def describe(self) -> dict[str, Any]:
        """The sweep as JSON holds it."""
        return {
            "name": self.name,
            "run": str(self.run),
            "axes": {axis: [plain(_label(v)) for v in vs] for axis, vs in self.axes.items()},
            "seeds": list(self.seeds),
            "metrics": list(self.metrics),
            "baseline": plain(self.baseline),
            "plots": [{"kind": type(plot).__name__, **asdict(plot)} for plot in self.plots],
            "varied": sorted(
                {short(key) for values in self.axes.items() for key in _keys(*values)}
            ),
            "published": [plain(p.describe()) for p in self.published],
        }


@dataclass(frozen=True)
class Cell:
    """One run of the grid.

    Attributes:
      id: a hash of the base fingerprint, the assignment and the seed.
      assignment: axis -> label, for tables.
      settings: dotted key -> value, to apply (a `Choice` is spread out).
      seed: the seed shared by all cells of one column of pairs.
    """

    id: str
    assignment: Mapping[str, Any]
    settings: Mapping[str, Any]
    seed: int

    def __str__(self) -> str:
        parts = [f"{short(axis)}={value}" for axis, value in self.assignment.items()]
        return " ".join([*parts, f"seed={self.seed}"])


@dataclass(frozen=True)
class Outcome:
    """Outcome of the cells: counts, and each failed cell with its error."""

    total: int
    skipped: int
    failed: Mapping[str, str]

    @property
    def exit_code(self) -> int:
        return 1 if self.failed else 0

    def __str__(self) -> str:
        done = self.total - len(self.failed)
        lines = [f"{done} of {self.total} cells done ({self.skipped} were there already)"]
        lines += [f"failed: {cell}: {error}" for cell, error in self.failed.items()]
        return "\n".join(lines)


def short(axis: str) -> str:
    """The last part of a dotted key: `eval.steps` is read as `steps`."""
    return axis.rpartition(".")[2]


def make_cells(sweep: Sweep, fingerprint: str) -> list[Cell]:
    """Every cell in order: first axis outermost, seeds innermost.

    `fingerprint` names what the cells share (the run's config and step, say): cells of another
    base have other ids, so that results of two bases never mix.
    """
    cells = []
    for values in itertools.product(*sweep.axes.values()):
        assignment, settings = {}, {}
        for axis, value in zip(sweep.axes, values, strict=True):
            assignment[axis] = _label(value)
            settings |= value.settings if isinstance(value, Choice) else {axis: value}
        for seed in sweep.seeds:
            identity = _key([fingerprint, assignment, settings, seed])
            name = hashlib.sha256(identity.encode()).hexdigest()[:16]
            cells.append(Cell(name, assignment, settings, seed))
    return cells


def run_grid(
    cells: Sequence[Cell],
    run_cell: Callable[[Cell], Iterable[Any]],
    workdir: str | os.PathLike[str],
    progress: Callable[[str], None] | None = None,
) -> Outcome:
    """Runs the cells that have no finished file, in order, one file each.

    Args:
      run_cell: yields records, objects with (name, value, std, protocol) or (name, image [H, W,
        3] uint8, caption). Its exception is recorded as the cell's failure, the other cells run,
        and a later call tries the failed ones again.
      progress: takes one line of text per cell, and one at the start when cells are skipped.
    """
    folder = Path(workdir) / "cells"
    folder.mkdir(parents=True, exist_ok=True)
    done = {cell.id for cell in cells if _finished(read_cell(folder, cell.id))}
    say = progress or (lambda _: None)
    if done:
        say(f"{len(done)} of {len(cells)} cells are there already")
    failed: dict[str, str] = {}
    for number, cell in enumerate(cells, start=1):
        if cell.id in done:
            continue
        result = _run_one(cell, run_cell, folder)
        data = json.dumps(plain(result), indent=1) + "\n"
        replace_file(folder / f"{cell.id}.json", data.encode())
        if result["status"] == "failed":
            failed[str(cell)] = result["error"]
        say(f"[{number}/{len(cells)}] {cell}  {_one_line(result)}")
    return Outcome(len(cells), len(done), failed)


def read_cell(folder: str | os.PathLike[str], cell_id: str) -> dict[str, Any] | None:
    """A cell's file; None where it is absent or torn (it will be computed again)."""
    try:
        result = json.loads((Path(folder) / f"{cell_id}.json").read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(result, dict) or result.get("id") != cell_id:
        return None
    return {**result, "values": in_current_names(result.get("values", {}))}


def save_sweep(
    sweep: Sweep, cells: Sequence[Cell], workdir: str | os.PathLike[str], command: str = ""
) -> None:
    """Leaves `sweep.json`: the description and the cells that belong to it, for the report."""
    Path(workdir).mkdir(parents=True, exist_ok=True)
    members = [{"id": c.id, "assignment": c.assignment, "seed": c.seed} for c in cells]
    data = {**sweep.describe(), "command": command, "cells": members}
    text = json.dumps(plain(data), indent=1) + "\n"
    replace_file(Path(workdir) / "sweep.json", text.encode())


def _run_one(cell: Cell, run_cell: Callable[[Cell], Iterable[Any]], folder: Path) -> dict[str, Any]:
    start = time.perf_counter()
    values: dict[str, Any] = {}
    pictures: list[tuple[str, bytes, str]] = []
    try:
        for record in run_cell(cell):
            if hasattr(record, "image"):
                png = encode_png(record.image, {"caption": record.caption})
                pictures.append((record.name, png, record.caption))
            else:
                number = {"value": float(record.value), "std": record.std}
                values[record.name] = number | {"protocol": dict(record.protocol)}
        outcome: dict[str, Any] = {"status": "done"}
    except Exception as error:
        # One bad cell must not cost the others; a kill (BaseException) still ends the sweep.
        what = f"{type(error).__name__}: {one_line(error) or 'no message'}"
        outcome = {"status": "failed", "error": what, "traceback": traceback.format_exc()}
    files = []
    for name, png, caption in pictures:
        path = folder / f"{cell.id}_{name.replace('/', '-')}.png"
        replace_file(path, png)
        files.append({"name": name, "file": path.name, "caption": caption})
    base = {"id": cell.id, "assignment": cell.assignment, "seed": cell.seed, **outcome}
    return {**base, "values": values, "pictures": files, "seconds": time.perf_counter() - start}


def _finished(result: Mapping[str, Any] | None) -> bool:
    return result is not None and result.get("status") == "done"


def _one_line(result: Mapping[str, Any]) -> str:
    if result["status"] == "failed":
        return f"FAILED {result['error']}"
    values = [f"{name} {r['value']:.4g}" for name, r in result["values"].items()]
    return "  ".join([*values, f"({result['seconds']:.1f} s)"])


def _axes_of(plot: AxisPlot | TradeOff) -> list[str]:
    trade = isinstance(plot, TradeOff)
    named = (plot.along, plot.lines) if trade else (plot.x, plot.lines, plot.panels)
    return [axis for axis in named if axis is not None]


def _keys(axis: str, values: Sequence[Any]) -> list[str]:
    """All that an axis sets."""
    return [k for v in values for k in (v.settings if isinstance(v, Choice) else (axis,))]


def _label(value: Any) -> Any:
    return value.label if isinstance(value, Choice) else value


def _key(value: Any) -> str:
    """Canonical JSON; refuses what would not read back as it was written."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"))
    except TypeError as error:
        raise ValueError(f"a sweep's values are numbers, strings or lists: {error}") from error
