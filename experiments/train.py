"""Train, resume, evaluate, report: `python -m experiments.train --config=... --workdir=...`.

A workdir that holds a checkpoint is resumed; one that another run writes in is refused. What a run
leaves behind is listed in the README.
"""

from __future__ import annotations

import time
from pathlib import Path

import jax
from absl import flags

from diffjax.runs import environment
from diffjax.runs.config import check_workdir
from diffjax.runs.tokenizer import keep_tokenizer
from diffjax.train.loop import train
from experiments import distributed
from experiments.assemble import Assembly
from experiments.cli import overrides, run_main
from experiments.features import outline_features
from experiments.flag_types import define_path
from experiments.judge import make_judges
from experiments.lock import writing
from experiments.outline import check_state
from experiments.prerequisites import train_prerequisites
from experiments.report import write_report
from experiments.settings import load_config

FLAGS = flags.FLAGS


def define_flags() -> None:
    """The command line."""
    define_path("config", None, "Config file, `file.py` or `file.py:argument`.", required=True)
    define_path("workdir", None, "Folder of the run; made when missing.", required=True)
    distributed.define_flags()


def train_run(config_path: str, changes: list[str], workdir: Path) -> Assembly:
    """A whole run: assembled, checked, trained to its end, evaluated, reported."""
    assembly = Assembly(load_config(config_path, changes), workdir, named=True)
    check_workdir(assembly.config, workdir)
    environment.write(workdir, environment.command_line("experiments.train"))
    if assembly.tokenizer is not None and jax.process_index() == 0:
        keep_tokenizer(assembly.tokenizer, workdir)
    check_state(assembly.run)
    assembly.check_evaluations(outline_features(assembly))
    train_prerequisites(assembly)
    evaluations = assembly.evaluations(**make_judges(assembly))
    assembly.try_evaluations(evaluations)
    train(assembly.run, evaluations)
    return assembly


def main() -> None:
    begun = time.monotonic()
    workdir = Path(FLAGS.workdir)
    distributed.join(workdir)
    with writing(workdir):
        train_run(FLAGS.config, overrides(), workdir)
        if jax.process_index() == 0:
            report = write_report(workdir)
            print(f"finished in {time.monotonic() - begun:.0f} s; report: {report}")


if __name__ == "__main__":
    define_flags()
    run_main(main)
