"""Evaluate a trained run again: `python -m experiments.evaluate --run=runs/digits`; or a released
model:

    python -m experiments.evaluate --model=google/ddpm-cifar10-32 \\
        --config=configs/ddpm/cifar10.py --workdir=runs/released_ddpm_cifar10

Of a run, the evaluators of its config run once more. Of a released model, those of `--config`, a
run on the data that it is compared with: they draw by the model's own scheduler, with `--set`
options over it. Any of their options can be changed on the command line
(`--config.evals.generation.num_samples=5000`). The report is written anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from diffjax.assembly.experiment import Experiment
from diffjax.assembly.released_run import ReleasedRun
from diffjax.assembly.run_config import config_of
from diffjax.assembly.stages import complete, outline_scorers
from diffjax.choices import unknown
from diffjax.evals.samples import caption
from diffjax.launch.cli import overrides, run_main
from diffjax.launch.flag_types import define_path
from diffjax.launch.lock import writing
from diffjax.launch.settings import apply_override, assignments, load_config
from diffjax.pretrained.clip_scorer import make_scorers
from diffjax.pretrained.released import open_released
from diffjax.reports.run import write_report
from diffjax.runs.config import plain, read_config
from diffjax.train.writer import Writer

FLAGS = flags.FLAGS


def define_flags() -> None:
    """The command line."""
    define_path("run", None, "Workdir of a trained run.")
    flags.DEFINE_integer("step", None, "Of --run: its checkpoint; the latest by default.")
    define_path("model", None, "Released model: a folder, a file or a name on the hub.")
    flags.DEFINE_string("release", None, "Of a --model that is a file: dit, edm, adm_256, ...")
    define_path("codec", None, "Of a DiT's file: folder of its autoencoder.")
    define_path("config", None, "Of --model: config of the data and the evaluators.")
    define_path("workdir", None, "Of --model: where its records go.")
    flags.DEFINE_multi_string("set", [], "Of --model: sampling option, name=value: steps=50, ...")
    flags.DEFINE_list("only", [], "Evaluators to run, by name; all by default.")


def main() -> None:
    if bool(FLAGS.run) == bool(FLAGS.model):
        raise ValueError("give one of --run (a workdir) and --model (released weights)")
    flags_of = {
        "run": {"step": FLAGS.step},
        "model": {k: FLAGS[k].value for k in ("release", "codec", "config", "workdir", "set")},
    }
    foreign = flags_of["model" if FLAGS.run else "run"]
    for name, value in foreign.items():
        if value:
            raise ValueError(f"--{name} is not read with --{'run' if FLAGS.run else 'model'}")
    if FLAGS.run:
        read_config(Path(FLAGS.run))  # A folder without a run is no place for a lock.
        with writing(Path(FLAGS.run)):
            _run()
        return
    missing = [f"--{name}" for name in ("config", "workdir") if not FLAGS[name].value]
    if missing:
        raise ValueError(f"--model needs {' and '.join(missing)}")
    with writing(Path(FLAGS.workdir)):
        _released()


def _run() -> None:
    workdir = Path(FLAGS.run)
    config = config_of(workdir)
    for override in overrides():
        if not override.startswith("evals."):
            raise ValueError(f"--config.{override}: only evals.* can change after training")
        apply_override(config, override)
    complete(plain(config), workdir, named=False)
    experiment = Experiment(config, workdir)
    evaluations = experiment.evaluations(**make_scorers(experiment.reference, experiment.mesh))
    evaluations.trial(experiment.outline, FLAGS.only)
    step, state, frozen = experiment.trained(FLAGS.step)
    experiment.record(frozen)
    _write(
        workdir,
        step,
        FLAGS.only or evaluations.evaluators,
        lambda name: evaluations.one(name, state, frozen),
    )


def _released() -> None:
    model = open_released(FLAGS.model, FLAGS.release, FLAGS.codec)
    origin = {"model": FLAGS.model, "release": FLAGS.release, "codec": FLAGS.codec}
    recipe, workdir = assignments(FLAGS.set), Path(FLAGS.workdir)
    how = model.nfe(**recipe)
    print(f"{FLAGS.model}: {model.image_shape} by {caption(how)}, NFE {how['nfe']}", flush=True)
    config = load_config(FLAGS.config, overrides())
    _keep(config, FLAGS.only)
    complete(plain(config), workdir, named=True)
    experiment = ReleasedRun(config, workdir, model, origin, recipe)
    experiment.check_evaluations(**outline_scorers(experiment))
    experiment.write_config()
    evaluations = experiment.evaluations(**make_scorers(experiment.reference, experiment.mesh))
    evaluations.trial(experiment.outline)
    evaluators = evaluations.evaluators
    _write(workdir, 0, evaluators, lambda name: (None, evaluators[name].run(model.variables)))


def _keep(config: ConfigDict, only: Sequence[str]) -> None:
    """Leaves no evaluators in the config but those called for by name, where any are."""
    evals: Any = config.get("evals", {})
    for name in only:
        if name not in evals:
            raise unknown("evaluator", name, evals)
    if only:
        config.evals = {name: evals[name] for name in only}


def _write(
    workdir: Path,
    step: int,
    names: Iterable[str],
    one: Callable[[str], tuple[str | None, Iterable[Any]]],
) -> None:
    """Runs evaluators by name, each giving the average of the weights and its records."""
    with Writer(workdir) as writer:
        for name in names:
            ema, records = one(name)
            values = writer.evaluation(step, name, ema, records)
            print(f"{name}: " + "  ".join(f"{k} {v:.4g}" for k, v in values.items()), flush=True)
    print(f"report: {write_report(workdir)}")


if __name__ == "__main__":
    define_flags()
    run_main(main)
