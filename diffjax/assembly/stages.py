"""The stages of a run: what its config names in other runs, trained first where it is missing.

    codec, embedding, conditions' towers, guide, prior, base,
    perceptual, init_from, clip_guide                                before assembly
    features, clip_scorer, factor_classifier                         before it is evaluated

Each of these runs may rest on others in turn: the plan goes through them depth first. What opens a
section later (`Reference.open`) trains nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from diffjax.assembly import experiment as assemble
from diffjax.assembly.experiment import Experiment
from diffjax.assembly.outline import check_state
from diffjax.assembly.sections import check_sections
from diffjax.choices import as_section
from diffjax.data.evaluation import as_arrays
from diffjax.data.transforms import make_transforms
from diffjax.evals.features import FeatureExtractor, from_classifier
from diffjax.launch import distributed
from diffjax.launch.lock import writing
from diffjax.launch.settings import load_config
from diffjax.pretrained.clip_scorer import make_scorers
from diffjax.pretrained.codec import keep_scale
from diffjax.pretrained.factor_classifier import factor_classifier
from diffjax.pretrained.reference import check_there, followed, is_finished, is_pinned
from diffjax.runs import TrainedRun, environment, open_run
from diffjax.runs.config import check_config, check_workdir, plain, read_config
from diffjax.runs.resolved import FILE
from diffjax.runs.tokenizer import keep_tokenizer
from diffjax.train.loop import build_state, train

TASK = ("codec", "embedding", "conditions", "guide", "prior", "base", "perceptual", "init_from",
        "clip_guide")  # fmt: skip
EVALUATION = ("features", "clip_scorer", "factor_classifier")
# Of a run that another rests on, not all need be there: it may begin from any step.
UNFINISHED = ("init_from",)


@dataclass(frozen=True)
class Stage:
    """A run that another rests on.

    Attributes:
      section: which names it.
      workdir: its folder.
      config: what it is trained from, as it is trained; None where that is not known.
      source: the config's file, for people.
      named: whether the config, and those that it names, are the user's.
      finished: whether its last step is on disk.
      recorded: whether it has a `resolved.json`.
    """

    section: str
    workdir: Path
    config: ConfigDict | None
    source: str | None
    named: bool
    finished: bool
    recorded: bool

    def describe(self) -> str:
        """One line of the plan."""
        if self.config is None or self.finished:
            return f"{self.section}: {self.workdir} is there"
        return f"{self.section}: {self.workdir} is to be trained from {self.source}"


def plan(
    config: Mapping[str, Any], workdir: Path, named: bool, sections: Sequence[str]
) -> list[Stage]:
    """The stages of a run, each after those that it rests on itself.

    Args:
      config: its sections.
      workdir: its folder, beside which those without a folder of their own lie.
      named: whether it is of a config file that the user named.
      sections: which of `TASK` and `EVALUATION`.

    Raises:
      ValueError: a run that is not there and of which no config is named, one of another config, or
        runs that rest on one another.
    """
    found: dict[Path, Stage] = {}
    _visit(config, workdir, named, sections, found, (workdir.resolve(),))
    return list(found.values())


def _visit(
    config: Mapping[str, Any],
    workdir: Path,
    named: bool,
    sections: Sequence[str],
    found: dict[Path, Stage],
    above: tuple[Path, ...],
) -> None:
    for name, section in _referred(config, workdir, named, sections):
        home = Path(section["run"])
        place = home.resolve()
        if place in above:
            raise ValueError(f"{workdir}: {name} names {home}, which rests on this run itself")
        if place in found:
            continue
        stage = _stage(name, section, home)
        inner = stage.config or (read_config(home) if not stage.recorded else {})
        if stage.config is not None:
            check_sections(plain(stage.config))
            check_config(plain(stage.config), home)
        if not (stage.finished and stage.recorded):
            more = () if stage.finished or stage.config is None else EVALUATION
            _visit(plain(inner), home, stage.named, (*TASK, *more), found, (*above, place))
        found[place] = stage


def _referred(
    config: Mapping[str, Any], workdir: Path, named: bool, sections: Sequence[str]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The sections that name a run."""
    for name, section in _references(config, sections):
        if section and as_section(name, section):
            section = followed(name, section, workdir, named)
            if section.get("run"):
                yield name, section


def _references(config: Mapping[str, Any], sections: Sequence[str]) -> Iterator[tuple[str, Any]]:
    for name in sections:
        if name != "conditions":
            yield name, config.get(name)
            continue
        for condition, section in config.get(name, {}).items():
            yield f"conditions.{condition}.tower", section.get("tower")


def _stage(name: str, section: Mapping[str, Any], home: Path) -> Stage:
    source = section.get("config")
    finished = is_finished(home)
    if source is None:
        check_there(name, home, finished=name not in UNFINISHED)
    return Stage(
        section=name,
        workdir=home,
        config=None if source is None else load_config(source, section.get("overrides") or ()),
        source=source,
        named=source is not None and not is_pinned(source),
        finished=finished,
        recorded=distributed.by_first(lambda: (home / FILE).exists()),
    )


def complete(
    config: Mapping[str, Any],
    workdir: Path,
    named: bool,
    sections: Sequence[str] = (*TASK, *EVALUATION),
) -> None:
    """Has all that a run rests on there, trained where it is not, so that its assembly opens it.

    The plan is printed where anything is to be trained. Where another process trains a stage, this
    one waits, and uses what that has left. Arguments and errors are those of `plan`.
    """
    stages = plan(config, workdir, named, sections)
    if any(s.config is not None and not s.finished for s in stages) and jax.process_index() == 0:
        for number, stage in enumerate(stages, start=1):
            print(f"{workdir}, stage {number} of {len(stages)}, {stage.describe()}", flush=True)
    for stage in stages:
        if stage.config is not None and not stage.finished:
            _train(stage)
        elif not stage.recorded:
            record(stage.workdir)
    for _, section in _referred(config, workdir, named, [s for s in sections if s == "codec"]):
        run = open_run(section["run"], ema=section.get("ema"))
        keep_scale(run, lambda count, home=run.workdir: _images(home, count))


def _train(stage: Stage) -> None:
    assert stage.config is not None
    with writing(stage.workdir, wait=True):
        if not is_finished(stage.workdir):
            train_run(stage.config, stage.workdir, stage.named)


def record(workdir: Path) -> None:
    """Writes `resolved.json` and `frozen/` of a run of before there were such, from its assembly.

    Raises:
      ValueError: it can no longer be assembled.
    """
    complete(read_config(workdir), workdir, False, TASK)
    experiment = assemble.open_run(workdir)
    with jax.set_mesh(experiment.mesh):
        _, frozen, _ = build_state(experiment.run, replaced=True)
    experiment.record(frozen)


def opened(workdir: Path, step: int | None = None, ema: str | None = None) -> TrainedRun:
    """`diffjax.runs.open_run`, of a run of before there was a `resolved.json` too."""
    old = lambda: (workdir / "config.json").exists() and not (workdir / FILE).exists()  # noqa: E731
    if distributed.by_first(old):
        record(workdir)
    return open_run(workdir, step, ema)


def _images(workdir: Path, count: int) -> Any:
    """The first `count` training images of a run, as it evaluates them."""
    experiment = assemble.open_run(workdir)
    transforms = make_transforms(experiment.data.eval_transforms, experiment.tokenizer)
    return as_arrays(experiment.source, transforms, count)["image"]


def train_run(config: ConfigDict, workdir: Path, named: bool) -> Experiment:
    """A whole run: what it rests on, then itself, assembled, checked, trained to its end and
    evaluated.

    Args:
      named: whether it is of a config file that the user named.

    Raises:
      ValueError: whatever is wrong with the config, before anything is computed that shows it.
    """
    check_sections(plain(config))
    check_config(plain(config), workdir)
    complete(plain(config), workdir, named, TASK)
    experiment = Experiment(config, workdir, named)
    check_workdir(experiment.config, workdir)
    environment.write(workdir, environment.command_line("experiments.train"))
    if experiment.tokenizer is not None and jax.process_index() == 0:
        keep_tokenizer(experiment.tokenizer, workdir)
    check_state(experiment.run)
    experiment.check_evaluations(**outline_scorers(experiment))
    complete(experiment.config, workdir, named, EVALUATION)
    evaluations = experiment.evaluations(**make_scorers(experiment.reference, experiment.mesh))
    experiment.try_evaluations(evaluations)
    train(experiment.run, evaluations)
    return experiment


def train_config(config: str, workdir: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """The whole run of a config file, as `python -m experiments.train` trains it, see `train_run`.

    Args:
      config: `file.py` or `file.py:argument`, whose code is run.
      workdir: its folder; a run that is there goes on.
      overrides: `train.steps=100`, ...
    """
    with writing(Path(workdir)):
        return train_run(load_config(config, overrides), Path(workdir), named=True)


def outline_scorers(experiment: Experiment) -> dict[str, Any]:
    """`features` and `factor_classifier` of a run by shape, which may be trained only later."""
    section, judge = experiment.reference("factor_classifier"), None
    if section:
        of = _classifier("factor_classifier", section)
        judge = factor_classifier(of.task, of.outline, of.workdir.name)
    return {"features": outline_features(experiment), "factor_classifier": judge}


def outline_features(experiment: Experiment) -> FeatureExtractor | None:
    """The extractor of a run's `features` section by shape, where it is a classifier of ours, which
    may be trained only later; None for others. See `FeatureExtractor.shapes`."""
    section = experiment.reference("features")
    if not section or section.get("type", "classifier") != "classifier":
        return None
    of, how = _classifier("features", section), section.get("quantise", "round")
    return from_classifier(of.task.predict_fns(), of.outline, of.workdir.name, quantise=how)


def _classifier(name: str, section: Mapping[str, Any]) -> Experiment:
    """The assembly of the run that a section names."""
    home, source = Path(section["run"]), section.get("config")
    if source is None:
        check_there(name, home, finished=True)
        return assemble.open_run(home)
    chosen = load_config(source, section.get("overrides") or ())
    return Experiment(chosen, home, named=not is_pinned(source))
