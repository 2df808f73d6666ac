"""A study: a sweep, the evaluator that measures each of its cells, and what it claims."""

from __future__ import annotations

import importlib.util
import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from diffjax.assembly.experiment import Experiment, open_run
from diffjax.assembly.stages import EVALUATION, TASK, complete, outline_scorers
from diffjax.choices import build, unknown
from diffjax.evals import EVALUATORS, make_evaluator
from diffjax.evals.context import EvalContext
from diffjax.evals.features import STAND_IN, FeatureExtractor
from diffjax.fingerprints import fingerprint, short_hash
from diffjax.launch.settings import ROOT, load_config
from diffjax.pretrained.clip_scorer import make_scorers
from diffjax.pretrained.features import FEATURES
from diffjax.pretrained.released import open_released
from diffjax.runs.config import check_workdir, plain, read_config
from diffjax.sweeps.claims import Claim
from diffjax.sweeps.grid import Cell, Sweep
from diffjax.task import Variables
from diffjax.train.loop import train

EVAL, CONFIG = "eval.", "config."


@dataclass(frozen=True)
class Study:
    """Attributes:
    sweep: axes `eval.<predict argument>` and `config.<dotted key>`; `run` is a trained workdir,
      or, where a `config.` axis is swept, the config that every cell trains.
    evaluator: section of `make_evaluator`; the axes go into its `pred_kw`, the seed into
      its `seeds`, or its `seed` where it takes one.
    ema: which average of the weights is measured; None for the weights themselves.
    config: of a trained workdir: the config that a missing one is trained from.
    features: section `features` of FID's network, in place of the run's own; the user gives its
      `weights`. Then `run` may also be a released model, which needs no data here.
    release, codec: of a released model that is a file, see `open_released`.
    claims: what the sweep's `Table` must show.
    """

    sweep: Sweep
    evaluator: Mapping[str, Any] = field(default_factory=lambda: {"type": "generation"})
    ema: str | None = None
    config: str | None = None
    features: Mapping[str, Any] | None = None
    release: str | None = None
    codec: str | None = None
    claims: Sequence[Claim] = ()

    def __post_init__(self) -> None:
        for axis, values in self.sweep.axes.items():
            keys = [axis]
            for value in values:
                keys = list(getattr(value, "settings", {})) or keys
                for key in keys:
                    if not key.startswith((EVAL, CONFIG)):
                        raise unknown("sweep axis", key, [EVAL + "steps", CONFIG + "optim.lr"])


def load_study(path: str) -> Study:
    """The study of a folder's `study.py`, or of a file: its `get_study()`, or its `get_study(form)`
    of `folder:form`.

    Raises:
      ValueError: there is no such study, or it has no such form.
    """
    name, _, form = path.partition(":")
    candidates = [Path(name), ROOT / name]
    files = [c / "study.py" if c.is_dir() else c for c in candidates]
    file = next((f for f in files if f.is_file()), None)
    if file is None:
        raise ValueError(f"--study={path}: no such study (looked for {files[0]} and {files[1]})")
    spec = importlib.util.spec_from_file_location(f"study_{file.parent.name}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if form and not inspect.signature(module.get_study).parameters:
        raise ValueError(f"--study={path}: {name} has one form: leave :{form} out")
    return module.get_study(form) if form else module.get_study()


def with_run(study: Study, run: str | None) -> Study:
    """The study of another trained run, or of another released model."""
    return study if run is None else replace(study, sweep=replace(study.sweep, run=run))


def with_weights(study: Study, **networks: Any) -> Study:
    """The study with `weights` of FID's network, `release` and `codec`, of those that are not None.

    Raises:
      ValueError: one is given to a study that does not read it, or the weights are missing.
    """
    networks = {k: v for k, v in networks.items() if v is not None}
    if study.features is None:
        for name in networks:
            raise ValueError(
                f"--{name} is read by studies in FID's features alone, not by this one"
            )
        return study
    if study.evaluator.get("type") == "fid" and "reference" not in study.evaluator:
        raise ValueError(
            "this study compares with a file of statistics: give --set=reference=FILE.npz, see its "
            "README"
        )
    weights = networks.pop("weights", study.features.get("weights"))
    if weights is None:
        raise ValueError(
            "this study compares in FID's features: give --weights, InceptionV3 as a file, a "
            "folder or a name on the hub"
        )
    return replace(study, features={**study.features, "weights": weights}, **networks)


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
        """Facts that all cells share: the trained weights or the config, and the evaluator."""
        if self._trains:
            shared: Any = load_config(self.study.sweep.run).to_dict()
        else:
            context, variables = self._loaded({}, 0)
            shared = fingerprint(variables)
            if self.study.features is not None:
                shared = [shared, context.extractor().protocol]
        return short_hash([json.loads(json.dumps(shared)), dict(self.study.evaluator)])

    def run(self, cell: Cell) -> Iterator[Any]:
        """The records of one cell."""
        changes = {k: v for k, v in cell.settings.items() if k.startswith(CONFIG)}
        section = dict(self.study.evaluator)
        drawn = {k.removeprefix(EVAL): v for k, v in cell.settings.items() if k.startswith(EVAL)}
        section["pred_kw"] = {**section.get("pred_kw", {}), **drawn}
        repeated = "seeds" in {f.name for f in fields(EVALUATORS[section["type"]])}
        section |= {"seeds": (cell.seed,)} if repeated else {"seed": cell.seed}
        if self._trains:
            self._try(changes, cell.seed, section)
        context, variables = self._loaded(changes, cell.seed)
        yield from make_evaluator(context=context, **section).run(variables)

    def _try(self, changes: Mapping[str, Any], seed: int, section: Mapping[str, Any]) -> None:
        """Raises ValueError where a cell could not be measured: then it is not trained."""
        experiment = self._cell_experiment(changes, seed)
        scorers = {"features": self._fid} if self._fid else outline_scorers(experiment)
        context = experiment.context(**{**scorers, "features": scorers["features"] or STAND_IN})
        make_evaluator(context=context, **section).trial(experiment.outline)

    def _loaded(self, changes: Mapping[str, Any], seed: int) -> tuple[EvalContext, Variables]:
        key = self._key(changes, seed)
        if key not in self._open:
            # One run is held at a time: a sweep over configs may be long.
            self._open = {key: self._released() or self._trained(changes, seed)}
        return self._open[key]

    def _key(self, changes: Mapping[str, Any], seed: int) -> str:
        """Of the run of some cells."""
        return short_hash([dict(changes), seed if self._trains else None])

    def _trained(self, changes: Mapping[str, Any], seed: int) -> tuple[EvalContext, Variables]:
        experiment = self._experiment(changes, seed)
        _, state, frozen = experiment.trained()
        scorers: dict[str, Any] = {"features": self._fid}
        if self._fid is None:
            scorers = make_scorers(experiment.reference, experiment.mesh)
        return experiment.context(**scorers), state.variables(frozen, self.study.ema)

    @cached_property
    def _fid(self) -> FeatureExtractor | None:
        """The network of the study's own `features`."""
        section = self.study.features
        if section is None:
            return None
        return build(FEATURES, "features", {"type": "inception", **section}).load()

    def _released(self) -> tuple[EvalContext, Variables] | None:
        """A released model, where the run is none of ours."""
        study, run = self.study, Path(self.study.sweep.run)
        if study.features is None or self._trains or (run / "checkpoints").is_dir():
            return None
        model = open_released(study.sweep.run, study.release, study.codec)
        context = EvalContext(
            predict_fns=model.predict_fns(),
            train={},
            test={},
            features=self._fid,
            class_names=[str(k) for k in range(model.num_classes)],
            conditional=bool(model.num_classes),
            nfe=model.nfe,
            noise_levels=model.noise_levels,
        )
        return context, model.variables

    def _cell_experiment(self, changes: Mapping[str, Any], seed: int) -> Experiment:
        """Of a cell that is trained."""
        overrides = [f"{k.removeprefix(CONFIG)}={v}" for k, v in changes.items()]
        chosen = load_config(self.study.sweep.run, [*overrides, f"seed={seed}"])
        workdir = self.workdir / "runs" / self._key(changes, seed)
        complete(plain(chosen), workdir, True, TASK)
        return Experiment(chosen, workdir, named=True)

    def _experiment(self, changes: Mapping[str, Any], seed: int) -> Experiment:
        run, config = self.study.sweep.run, self.study.config
        if not self._trains:
            if config is not None:
                there = (Path(run) / "config.json").exists()
                section = {"run": run} | ({} if there else {"config": config})
                complete({"study": section}, self.workdir, True, ("study",))
            measured = EVALUATION if self.study.features is None else ()
            complete(read_config(Path(run)), Path(run), False, (*TASK, *measured))
            return open_run(Path(run))
        experiment = self._cell_experiment(changes, seed)
        if self.study.features is None:
            complete(experiment.config, experiment.workdir, True, EVALUATION)
        check_workdir(experiment.config, experiment.workdir)
        train(experiment.run)
        return experiment
