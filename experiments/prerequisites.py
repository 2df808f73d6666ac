"""Runs that other runs rest on: opened where they are finished, trained first where they are not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from absl import logging

from diffjax.evals.features import FeatureExtractor
from diffjax.train.loop import train
from experiments.assemble import Assembly
from experiments.settings import check_workdir, load_config


def run_name(config: str) -> str:
    """`configs/classifier/digits.py` is the run `classifier_digits`."""
    path = Path(config.partition(":")[0]).with_suffix("")
    return "_".join(path.parts[-2:])


def finished_run(
    config: str,
    overrides: Sequence[str],
    workdir: Path,
    features: Callable[[Assembly], FeatureExtractor | None] = lambda assembly: None,
) -> Assembly:
    """The run of `config` in `workdir`, trained to its end there where it has not been.

    Args:
      config: its config file, `file.py` or `file.py:argument`.
      overrides: `a.b=value` changes of it.
      workdir: its folder.
      features: gives the feature extractor of its evaluators.

    Raises:
      ValueError: `workdir` holds a run of another config.
    """
    assembly = Assembly(load_config(config, overrides), workdir)
    check_workdir(assembly.config, workdir)
    if not is_finished(assembly):
        logging.info("Training %s in %s, which another run rests on", config, workdir)
        train(assembly.run, assembly.evaluations(features(assembly)))
    return assembly


def is_finished(assembly: Assembly) -> bool:
    """Whether the run's last step is on disk."""
    return (assembly.workdir / "checkpoints" / str(assembly.choices.steps)).exists()
