"""One self-contained `report.html` of a run.

Headline values against what the config expects, samples through training, curves, every measured
value with its protocol, sweeps, the whole config.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diffjax.reports import figures, page
from diffjax.reports import sweep as sweep_report
from diffjax.results import differing, same_protocol
from diffjax.runs import environment
from diffjax.runs.records import Plate, Record, Run, read_run
from diffjax.sweeps.table import number
from diffjax.train.progress import duration

_MOST_FRAMES = 16  # pictures of one kind in the report; the others stay in figures/
_CURVES = ("loss", "grad_norm", "learning_rate")  # shown first; the others can be opened
_NOT_CURVES = ("step", "images", "seconds")


def write_report(workdir: str | os.PathLike[str]) -> Path:
    """Writes `report.html` into the run directory `workdir` and returns its path.

    Sweeps below `workdir/sweeps/` are included. It can be written at any time of a run.

    Raises:
      ValueError: `workdir` is not a run directory, or a record in it is broken.
    """
    run = read_run(workdir)
    first, others = _curves(run)
    recorded = bool(run.environment)
    return page.render(
        "report.html",
        run.workdir / "report.html",
        title=run.workdir.resolve().name,
        subtitle=_subtitle(run),
        cards=_cards(run),
        command=run.environment.get("command", ""),
        films=_films(run.plates),
        measures=_measure_plots(run),
        rows=_measure_rows(run),
        curves=first,
        other_curves=others,
        sweeps=[sweep_report.content(path.parent) for path in _sweeps(run.workdir)],
        config=run.config,
        environment=run.environment or environment.describe(),
        environment_recorded=recorded,
    )


def _sweeps(workdir: Path) -> list[Path]:
    return sorted((workdir / "sweeps").glob("*/sweep.json"))


def _subtitle(run: Run) -> str:
    """Task, network and data set: "diffusion · unet · on digits"."""
    data = _section(run.config, "data")
    kinds = [_section(run.config, name).get("type") for name in ("task", "model")]
    source = _section(data, "train")
    # Prepared sets are told apart by their name, folders by their path, the others by their type.
    data_set = source.get("name") or Path(str(source.get("path") or "")).name or source.get("type")
    return " · ".join(str(part) for part in [*kinds, data_set and f"on {data_set}"] if part)


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = config.get(name)
    return found if isinstance(found, Mapping) else {}


def _cards(run: Run) -> list[dict[str, str]]:
    """Expected values first (the last measure of each name when none are expected), then the run's
    own numbers."""
    latest: dict[str, Record] = {}
    for m in run.latest():
        latest.setdefault(m.key, m)  # the average evaluated first speaks for the run
        latest[f"{m.key}@{m.ema}"] = m
    expected = run.config.get("expected") or {}
    names = list(expected) or [key for key in latest if "@" not in key][:4]
    cards = [_card(name, latest.get(name), expected.get(name)) for name in names]
    if not run.metrics:
        return cards
    last = run.metrics[-1]
    of = _section(run.config, "train").get("steps")
    cards.append(_fact("steps", f"{last['step']:,}", f"of {of:,}" if of else ""))
    if last.get("seconds") is not None:
        cards.append(_fact("time", duration(last["seconds"]), "training and evaluation"))
    if skipped := last.get("train/skipped"):
        cards.append(_fact("updates left out", f"{int(skipped):,}", "loss or gradient not finite"))
    rates = [r.get("train/images_per_second") for r in run.metrics[len(run.metrics) // 2 :]]
    rates = sorted(rate for rate in rates if rate is not None)
    if rates:
        cards.append(_fact("images per second", f"{rates[len(rates) // 2]:,.0f}", "median"))
    return cards


def _fact(label: str, value: str, note: str) -> dict[str, str]:
    return {"label": label, "group": "", "value": value, "note": note, "state": "", "error": ""}


def _card(name: str, m: Record | None, band: Sequence[float | None] | None) -> dict[str, str]:
    group, _, label = name.rpartition("/")
    card = {"label": label.replace("_", " "), "group": group, "value": "–", "error": ""}
    card |= {"note": "", "state": ""}
    if m is not None:
        card["value"] = number(m.value)
        card["error"] = f"± {number(m.std, 2)}" if m.std is not None else ""
        card["note"] = f"step {m.step:,}" + (f", {m.ema} average" if m.ema else "")
    if band is None:
        return card
    where = f" ({m.ema} average)" if m is not None and m.ema else ""
    card["note"] = f"expected {_words(band)}{where}"
    if m is None or math.isnan(m.value):
        return card | {"state": "missing"}
    return card | {"state": "met" if _inside(m.value, band) else "unmet"}


def _inside(value: float, band: Sequence[float | None]) -> bool:
    low, high = band
    return (low is None or value >= low) and (high is None or value <= high)


def _words(band: Sequence[float | None]) -> str:
    low, high = band
    if low is None:
        return f"at most {high:g}" if high is not None else "anything"
    return f"at least {low:g}" if high is None else f"{low:g} to {high:g}"


def _curves(run: Run) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The curves everybody wants, and the rest."""
    names = dict.fromkeys(name for record in run.metrics for name in record)
    names = [name for name in names if name not in _NOT_CURVES]
    plots: dict[str, dict[str, Any]] = {}
    for name in names:
        points = [(r["step"], r[name]) for r in run.metrics if name in r]
        values = [float("nan") if v is None else v for _, v in points]
        label = name.removeprefix("train/")
        steps, noisy = [step for step, _ in points], label != "learning_rate"
        svg = figures.training_curve(steps, values, label.replace("_", " "), noisy)
        plots[label] = {"title": label.replace("_", " "), "svg": page.svg(svg)}
    first = [plots.pop(name) for name in _CURVES if name in plots]
    return first, list(plots.values())


def _measure_plots(run: Run) -> list[dict[str, Any]]:
    """Each (eval, name) over training, one line per average of the weights, with error bars."""
    expected = run.config.get("expected") or {}
    plots = []
    for key in dict.fromkeys(m.key for m in run.results):
        mine = [m for m in run.results if m.key == key and not math.isnan(m.value)]
        if len({m.step for m in mine}) < 2:
            continue
        lines = []
        for ema in dict.fromkeys(m.ema for m in mine):
            points = [m for m in mine if m.ema == ema]
            steps, stds = [m.step for m in points], [m.std for m in points]
            values = [m.value for m in points]
            lines.append(figures.Line(ema or "trained weights", steps, values, stds))
        label = mine[0].name.replace("_", " ")
        svg = figures.line_plot(lines, "step", label, band=expected.get(key))
        warned = not same_protocol(*(m.protocol for m in mine))
        title = {"eval": mine[0].eval, "title": label}
        plots.append({**title, "svg": page.svg(svg), "warned": warned, "band": key in expected})
    return plots


def _measure_rows(run: Run) -> list[dict[str, Any]]:
    """The last value of each measure; `differing` are its protocol's keys that were not the same
    in every record of that measure."""
    expected = run.config.get("expected") or {}
    rows = []
    for m in run.latest():
        same = [other.protocol for other in run.results if other.key == m.key]
        band = expected.get(m.key)
        state = ""
        if band is not None and not math.isnan(m.value):
            state = "met" if _inside(m.value, band) else "unmet"
        rows.append(
            {
                "measure": m,
                "expected": "" if band is None else _words(band),
                "state": state,
                "protocol": {k: _text(v) for k, v in m.protocol.items()},
                "differing": list(differing(same)),
            }
        )
    return rows


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _films(plates: Sequence[Plate]) -> list[dict[str, Any]]:
    """Pictures of one (eval, name, ema), by step; those with several steps come first."""
    groups: dict[tuple[str, str, str], list[Plate]] = {}
    for plate in plates:
        groups.setdefault((plate.eval, plate.name, plate.ema), []).append(plate)
    films = []
    for (eval_name, name, ema), members in groups.items():
        members = sorted(members, key=lambda p: p.step)
        kept = members
        if len(members) > _MOST_FRAMES:
            last = len(members) - 1
            kept = [members[round(n * last / (_MOST_FRAMES - 1))] for n in range(_MOST_FRAMES)]
        frames = [{**page.picture(p.path), "step": p.step, "caption": p.caption} for p in kept]
        wide = frames[-1]["width"] > 2 * frames[-1]["height"]
        title = {"eval": eval_name, "name": name.replace("_", " "), "ema": ema, "wide": wide}
        films.append({**title, "frames": frames, "total": len(members)})
    return sorted(films, key=lambda film: len(film["frames"]) == 1)
