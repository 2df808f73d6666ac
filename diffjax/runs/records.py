"""A run directory read back: config, curves, measured values and pictures."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffjax.results import Result, current_name, in_current_names
from diffjax.train.writer import read_records, read_text


@dataclass(frozen=True, kw_only=True)
class Record(Result):
    """A result of a run: at which step, by which evaluator, of which average of the weights (None
    for the weights themselves). What was not finite is NaN."""

    step: int
    eval: str
    ema: str | None

    @property
    def key(self) -> str:
        return f"{self.eval}/{self.name}"


@dataclass(frozen=True)
class Plate:
    """One picture of an evaluation, as a PNG file."""

    path: Path
    eval: str
    name: str
    step: int
    ema: str
    caption: str


@dataclass(frozen=True)
class Run:
    """Records of a workdir. `metrics` are the objects of `metrics.jsonl`, by step."""

    workdir: Path
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    metrics: Sequence[Mapping[str, Any]]
    results: Sequence[Record]
    plates: Sequence[Plate]

    def latest(self) -> list[Record]:
        """The last record of each (eval, name, ema), in the order they first appeared."""
        last: dict[tuple[str, str, str | None], Record] = {}
        for m in self.results:
            known = last.get((m.eval, m.name, m.ema))
            if known is None or m.step >= known.step:
                last[m.eval, m.name, m.ema] = m
        return list(last.values())


def read_run(workdir: str | os.PathLike[str]) -> Run:
    """Reads a run directory; of an evaluation repeated at a step, the later record stands.

    Raises:
      ValueError: `workdir` holds no readable `config.json`.
    """
    workdir = Path(workdir)
    path = workdir / "config.json"
    if not path.exists():
        raise ValueError(f"{workdir} is not a run directory: it holds no config.json")
    found: dict[tuple[Any, ...], Record] = {}
    for r in read_records(workdir / "evals.jsonl"):
        if not {"eval", "name"} <= r.keys():
            raise ValueError(
                f"{workdir / 'evals.jsonl'} has a line of step {r['step']} without eval or name: "
                "remove the line"
            )
        key = (r["step"], r["eval"], r.get("ema"), current_name(r["name"]))
        step, evaluator, ema, name = key
        value = float("nan") if r.get("value") is None else r["value"]
        how = r.get("protocol") or {}
        found[key] = Record(name, value, r.get("std"), how, step=step, eval=evaluator, ema=ema)
    config = read_json(path)
    if isinstance(config.get("expected"), dict):
        config["expected"] = in_current_names(config["expected"])
    return Run(
        workdir=workdir,
        config=config,
        environment=read_json(workdir / "environment.json", missing={}),
        metrics=read_records(workdir / "metrics.jsonl"),
        results=sorted(found.values(), key=lambda m: m.step),
        plates=[_plate(path) for path in sorted((workdir / "figures").glob("*/*_*.png"))],
    )


def read_json(path: Path, missing: Any = None, kind: type = dict) -> Any:
    """The object (or list, of another `kind`) in `path`; `missing` where there is no such file and
    `missing` is not None."""
    if missing is not None and not path.exists():
        return missing
    try:
        found = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error}): restore or remove it") from error
    if not isinstance(found, kind):
        what = "object" if kind is dict else kind.__name__
        raise ValueError(f"{path} holds no JSON {what}: restore or remove it")
    return found


def _plate(path: Path) -> Plate:
    step, _, stem = path.stem.partition("_")
    text = read_text(path)
    return Plate(
        path=path,
        eval=path.parent.name,
        name=text.get("name", stem),
        step=int(step) if step.isdigit() else 0,
        ema=text.get("ema", ""),
        caption=text.get("caption", ""),
    )
