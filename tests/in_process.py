"""Mains in the test's own process: what `experiments.train` does between the command line and its
exit code, without a process for each (tests/processes.py has those)."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffjax.assembly import stages
from diffjax.launch.cli import ERRORS
from diffjax.launch.one_line import one_line
from diffjax.launch.settings import load_config
from diffjax.reports.run import write_report

USER = tuple(kind for kind, code in ERRORS.items() if code == 2)


def train(config: Path | str, workdir: Path, *changes: str) -> None:
    """`experiments.train --config=CONFIG --workdir=WORKDIR --config.CHANGE ...`."""
    stages.train_run(load_config(str(config), changes), workdir, named=True)
    write_report(workdir)


def refusal(config: Path | str, workdir: Path, *changes: str) -> str:
    """The line with which the same command ends with exit code 2."""
    with pytest.raises(USER) as error:
        train(config, workdir, *changes)
    return one_line(error.value)
