"""Runs that other runs rest on: opened, and trained first where they are not finished."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import jax
from absl import logging
from ml_collections import ConfigDict

from diffjax.evals.features import FeatureExtractor
from diffjax.runs.config import check_workdir
from diffjax.runs.tokenizer import keep_tokenizer
from diffjax.train.loop import train
from experiments import distributed
from experiments.assemble import Assembly, open_run
from experiments.lock import writing
from experiments.outline import check_state
from experiments.references import is_pinned
from experiments.settings import load_config, run_name


def finished_run(
    config: str,
    overrides: Sequence[str],
    workdir: Path,
    features: Callable[[Assembly], FeatureExtractor | None] = lambda assembly: None,
) -> Assembly:
    """The run of `config` in `workdir`, trained to its end there where it has not been. Where
    another process trains it, this one waits, and uses what that has left.

    Args:
      config: its config file, `file.py` or `file.py:argument`; the user's, or an installed one by
        its absolute path.
      overrides: `a.b=value` changes of it.
      workdir: its folder.
      features: gives the feature extractor of its evaluators.

    Raises:
      ValueError: `workdir` holds a run of another config.
    """
    chosen, named = load_config(config, overrides), not is_pinned(config)
    section = chosen.get("train")
    steps: Any = section.get("steps") if isinstance(section, ConfigDict) else None
    if distributed.by_first(lambda: _has_step(workdir, steps)):
        return _opened(chosen, workdir, named)
    with writing(workdir, wait=True):
        assembly = _opened(chosen, workdir, named)
        if not is_finished(assembly):
            check_state(assembly.run)
            logging.info("Training %s in %s, which another run rests on", config, workdir)
            evaluations = assembly.evaluations(features(assembly))
            assembly.try_evaluations(evaluations)
            train(assembly.run, evaluations)
    return assembly


def _opened(config: ConfigDict, workdir: Path, named: bool) -> Assembly:
    assembly = Assembly(config, workdir, named)
    check_workdir(assembly.config, workdir)
    if assembly.tokenizer is not None and jax.process_index() == 0:
        keep_tokenizer(assembly.tokenizer, workdir)
    train_prerequisites(assembly)
    return assembly


def opened_run(workdir: Path, section: str) -> Assembly:
    """The finished run in `workdir`, which a config section names.

    Raises:
      ValueError: no run, or an unfinished one.
    """
    if not (workdir / "config.json").exists():
        raise ValueError(
            f"{section}.run={workdir} holds no run: train it, or name the config file "
            f"that it is to be trained from in {section}.config"
        )
    assembly = open_run(workdir)
    if not is_finished(assembly):
        raise ValueError(
            f"{section}.run={workdir} is not finished: go on with it, or name its config "
            f"file in {section}.config"
        )
    return assembly


@dataclass(frozen=True)
class Reference:
    """A config section that names another network: that of a run of ours, or a released one.

    Attributes:
      run: a workdir.
      config: of `run`: the config file that a missing or unfinished run is trained from.
      ema: of `run`: which average of the weights; None for the weights themselves.
      section: its name.
      released: the fields that name released weights instead.
    """

    run: str | None = None
    config: str | None = None
    ema: str | None = None
    section: ClassVar[str]
    released: ClassVar[tuple[str, ...]]

    def __post_init__(self) -> None:
        options = ("run", *self.released)
        if sum(getattr(self, name) is not None for name in options) != 1:
            others = " and ".join(self.released)
            raise ValueError(
                f"{self.section} needs one of run (a workdir) and {others} (released weights)"
            )
        for name in ("config", "ema"):
            if self.run is None and getattr(self, name) is not None:
                raise ValueError(f"{self.section}.{name} is not read without {self.section}.run")

    def open(
        self, features: Callable[[Assembly], FeatureExtractor | None] = lambda assembly: None
    ) -> Assembly:
        """The finished run, trained first where `config` is given and it is not.

        Raises:
          ValueError: no run, or an unfinished one, and no `config`.
        """
        workdir = Path(str(self.run))
        if self.config is not None:
            return finished_run(self.config, (), workdir, features)
        return opened_run(workdir, self.section)


def is_finished(assembly: Assembly) -> bool:
    """Whether the run's last step is on disk."""
    return distributed.by_first(lambda: _has_step(assembly.workdir, assembly.choices.steps))


def _has_step(workdir: Path, step: int | None) -> bool:
    return (workdir / "checkpoints" / str(step)).exists()


def train_prerequisites(assembly: Assembly) -> None:
    """Trains the classifier in whose layers the run compares images, where it is not finished."""
    section = assembly.reference("perceptual") or {}
    if section.get("config"):
        workdir = assembly.workdir.parent / run_name(section["config"])
        finished_run(section["config"], section.get("overrides", ()), workdir)
