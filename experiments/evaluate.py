"""Evaluate a trained run again: `python -m experiments.evaluate --run=runs/digits`.

Runs the evaluators of the run's config, with any option changed on the command line
(`--config.evals.generation.num_samples=5000`), and writes the report anew.
"""

from __future__ import annotations

from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from diffjax.train.writer import Writer
from experiments.assemble import Assembly, open_run
from experiments.cli import overrides, run_main
from experiments.judge import make_judges
from experiments.report import write_report
from experiments.settings import apply_override

FLAGS = flags.FLAGS


def define_flags() -> None:
    """The command line."""
    flags.DEFINE_string("run", None, "Workdir of a trained run.", required=True)
    flags.DEFINE_integer("step", None, "Checkpoint; the latest by default.")
    flags.DEFINE_list("only", [], "Evaluators to run, by name; all by default.")


def main() -> None:
    workdir = Path(FLAGS.run)
    config = ConfigDict(open_run(workdir).config)
    for override in overrides():
        if not override.startswith("evals."):
            raise ValueError(f"--config.{override}: only evals.* can change after training")
        apply_override(config, override)
    assembly = Assembly(config, workdir)
    evaluations = assembly.evaluations(**make_judges(assembly))
    step, state, frozen = assembly.trained(FLAGS.step)
    names = FLAGS.only or list(evaluations.evaluators)
    with Writer(workdir) as writer:
        for name in names:
            ema, records = evaluations.one(name, state, frozen)
            values = writer.evaluation(step, name, ema, records)
            print(f"{name}: " + "  ".join(f"{k} {v:.4g}" for k, v in values.items()), flush=True)
    print(f"report: {write_report(workdir)}")


if __name__ == "__main__":
    define_flags()
    run_main(main)
