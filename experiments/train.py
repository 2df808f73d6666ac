"""Train, resume, evaluate, report: `python -m experiments.train --config=... --workdir=...`.

A workdir that holds a checkpoint is resumed; one that another run writes in is refused. What a run
leaves behind is listed in the README.
"""

from __future__ import annotations

import time
from pathlib import Path

import jax
from absl import flags

from diffjax.assembly import stages
from diffjax.assembly.experiment import Experiment
from diffjax.launch import distributed
from diffjax.launch.cli import overrides, run_main
from diffjax.launch.flag_types import define_path
from diffjax.launch.lock import writing
from diffjax.launch.settings import load_config
from diffjax.reports.run import write_report

FLAGS = flags.FLAGS


def define_flags() -> None:
    """The command line."""
    define_path("config", None, "Config file, `file.py` or `file.py:argument`.", required=True)
    define_path("workdir", None, "Folder of the run; made when missing.", required=True)
    distributed.define_flags()


def train_run(config_path: str, changes: list[str], workdir: Path) -> Experiment:
    """The whole run of a config file that the user names, see `stages.train_run`."""
    return stages.train_run(load_config(config_path, changes), workdir, named=True)


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
