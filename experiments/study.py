"""A study: a sweep, and the evaluator that measures each of its cells."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from diffjax.choices import unknown
from diffjax.evals import EVALUATORS, make_evaluator
from diffjax.evals.context import EvalContext
from diffjax.evals.protocol import fingerprint, short_hash
from diffjax.tasks.base import Variables
from diffjax.train.loop import train
from experiments.assemble import Assembly, open_run
from experiments.grid import Cell, Sweep
from experiments.judge import make_judges
from experiments.settings import ROOT, check_workdir, load_config

EVAL, CONFIG = "eval.", "config."


@dataclass(frozen=True)
class Study:
    """Attributes:
    sweep: axes `eval.<predict argument>` and `config.<dotted key>`; `run` is a trained workdir,
      or, where a `config.` axis is swept, the config that every cell trains.
    evaluator: section of `make_evaluator`; the axes go into its `pred_kw`, the seed into
      its `seeds`, or its `seed` where it takes one.
    ema: which average of the weights is measured; None for the weights themselves.
    """

    sweep: Sweep
    evaluator: Mapping[str, Any] = field(default_factory=lambda: {"type": "generation"})
    ema: str | None = None

    def __post_init__(self) -> None:
        for axis, values in self.sweep.axes.items():
            keys = [axis]
            for value in values:
                keys = list(getattr(value, "settings", {})) or keys
                for key in keys:
                    if not key.startswith((EVAL, CONFIG)):
                        raise unknown("sweep axis", key, [EVAL + "steps", CONFIG + "optim.lr"])


def load_study(path: str) -> Study:
    """The study of a folder's `study.py`, or of a file: its `get_study()`.

    Raises:
      ValueError: there is no such study.
    """
    candidates = [Path(path), ROOT / path]
    files = [c / "study.py" if c.is_dir() else c for c in candidates]
    file = next((f for f in files if f.is_file()), None)
    if file is None:
        raise ValueError(f"--study={path}: no such study (looked for {files[0]} and {files[1]})")
    spec = importlib.util.spec_from_file_location(f"study_{file.parent.name}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_study()


def with_run(study: Study, run: str | None) -> Study:
    """The study of another trained run."""
    return study if run is None else replace(study, sweep=replace(study.sweep, run=run))


class Cells:
    """Runs the cells of a study; the trained runs and feature extractors are loaded once."""

    def __init__(self, study: Study, workdir: Path):
        self.study, self.workdir = study, workdir
        self._open: dict[str, tuple[EvalContext, Variables]] = {}
        self._trains = any(
            key.startswith(CONFIG)
            for axis, values in study.sweep.axes.items()
            for value in values
            for key in getattr(value, "settings", {axis: None})
        )

    @property
    def base(self) -> str:
        """What all cells share: the trained weights or the config, and the evaluator."""
        if self._trains:
            shared: Any = load_config(self.study.sweep.run).to_dict()
        else:
            context, variables = self._loaded({}, 0)
            del context
            shared = fingerprint(variables)
        return short_hash([json.loads(json.dumps(shared)), dict(self.study.evaluator)])

    def run(self, cell: Cell) -> Iterator[Any]:
        """The records of one cell."""
        changes = {k: v for k, v in cell.settings.items() if k.startswith(CONFIG)}
        context, variables = self._loaded(changes, cell.seed)
        section = dict(self.study.evaluator)
        drawn = {k.removeprefix(EVAL): v for k, v in cell.settings.items() if k.startswith(EVAL)}
        section["pred_kw"] = {**section.get("pred_kw", {}), **drawn}
        repeated = "seeds" in {f.name for f in fields(EVALUATORS[section["type"]])}
        section |= {"seeds": (cell.seed,)} if repeated else {"seed": cell.seed}
        yield from make_evaluator(context=context, **section).run(variables)

    def _loaded(self, changes: Mapping[str, Any], seed: int) -> tuple[EvalContext, Variables]:
        key = short_hash([dict(changes), seed if self._trains else None])
        if key not in self._open:
            assembly = self._assembly(changes, seed, key)
            _, state, frozen = assembly.trained()
            context = assembly.context(**make_judges(assembly))
            # One run is held at a time: a sweep over configs may be long.
            self._open = {key: (context, state.variables(frozen, self.study.ema))}
        return self._open[key]

    def _assembly(self, changes: Mapping[str, Any], seed: int, key: str) -> Assembly:
        if not self._trains:
            return open_run(Path(self.study.sweep.run))
        overrides = [f"{k.removeprefix(CONFIG)}={v}" for k, v in changes.items()]
        config = load_config(self.study.sweep.run, [*overrides, f"seed={seed}"])
        assembly = Assembly(config, self.workdir / "runs" / key)
        check_workdir(assembly.config, assembly.workdir)
        train(assembly.run)
        return assembly
