"""Run an ablation: `python -m experiments.sweep --study=experiments/studies/sampler_steps`; or a
paper's table with the weights that were released:

    python -m experiments.sweep --study=experiments/studies/sampler_steps:cifar10 \\
        --weights=pt_inception-2015-12-05-6726825d.pth --set=reference=cifar10_train.npz \\
        --workdir=runs/ddim_table1

Every cell is a file, so a sweep that was killed goes on where it stopped; tables, plots and
`report.html` are written at the end.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from absl import flags

from diffjax.launch.cli import run_main
from diffjax.launch.flag_types import define_path
from diffjax.launch.lock import writing
from diffjax.launch.settings import assignments
from diffjax.reports.sweep import write_claims, write_sweep_report
from diffjax.runs import environment
from diffjax.sweeps.grid import Outcome, make_cells, run_grid, save_sweep
from diffjax.sweeps.study import Cells, Study, load_study, with_run, with_weights

FLAGS = flags.FLAGS


def define_flags() -> None:
    """The command line."""
    define_path("study", None, "Folder of a study, FOLDER:FORM or its file.", required=True)
    define_path("run", None, "Trained run, or released model, instead of the study's own.")
    define_path("weights", None, "FID's InceptionV3, of a study that compares in it.")
    flags.DEFINE_string(
        "release", None, "Of a released model that is a file: dit, edm, adm_64, ..."
    )
    define_path("codec", None, "Of a DiT's file: folder of its autoencoder.")
    define_path("workdir", None, "Folder of the sweep; <run>/sweeps/<name> by default.")
    flags.DEFINE_multi_string("set", [], "Option of the evaluator, name=value.")


def changed(study: Study, options: list[str]) -> Study:
    """The study with options of its evaluator replaced."""
    return replace(study, evaluator={**study.evaluator, **assignments(options)})


def run_sweep(study: Study, workdir: Path, command: str = "") -> Outcome:
    """All cells of a study, then its tables and report."""
    with writing(workdir):
        runner = Cells(study, workdir)
        cells = make_cells(study.sweep, runner.base)
        save_sweep(study.sweep, cells, workdir, command)
        outcome = run_grid(cells, runner.run, workdir, lambda line: print(line, flush=True))
        for line in write_claims(workdir, study.claims):
            print(line)
        write_sweep_report(workdir)
    return outcome


def main() -> None:
    study = changed(with_run(load_study(FLAGS.study), FLAGS.run), FLAGS.set)
    networks = {name: FLAGS[name].value for name in ("weights", "release", "codec")}
    study = with_weights(study, **networks)
    if study.features is not None and not FLAGS.workdir:
        raise ValueError(
            "this study may measure a released model, no folder of runs: give --workdir"
        )
    default = Path(study.sweep.run) / "sweeps" / study.sweep.name
    workdir = Path(FLAGS.workdir) if FLAGS.workdir else default
    outcome = run_sweep(study, workdir, environment.command_line("experiments.sweep"))
    print(outcome)
    print(f"report: {workdir / 'report.html'}")
    sys.exit(outcome.exit_code)


if __name__ == "__main__":
    define_flags()
    run_main(main)
