"""Run a step again whose loss or gradient was not finite, and say what was so first:

    python -m experiments.replay runs/digits/nonfinite/step_00000042

The bundle holds the state before the step, its batch and the run's config; a run under
`train.on_nonfinite=stop` leaves it behind. What is named first is nearest to the cause: the batch,
the parameters, the optimizer's state, the loss and other metrics, the gradients, their norm, the
update. The exit code is 0 where the fault is seen again, and 1 where it is not.
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import jax
import numpy as np

from diffjax.assembly.experiment import open_run
from diffjax.launch.cli import arguments, run_main
from diffjax.launch.flag_types import expand
from diffjax.runs.records import read_json
from diffjax.train.checkpoint import Checkpoints
from diffjax.train.guard import diagnose
from diffjax.train.run import Run, build_state

ARGUMENTS = ("BUNDLE",)


def define_flags() -> None:
    """There are none."""


def replay(bundle: Path) -> tuple[int, list[str]]:
    """The step of a bundle, and what is not finite when it is run again, cause first.

    Raises:
      ValueError: no bundle, or one of which something is missing or damaged.
    """
    report = _report(bundle)
    # A bundle of older versions has no config of its own: its run's lies two folders above.
    home = bundle if (bundle / "config.json").exists() else bundle.resolve().parent.parent
    run = open_run(home).run
    step, batch = report["step"], _batch(bundle / "batch.npz", run)
    with jax.set_mesh(run.mesh):
        fresh, frozen, _ = build_state(run, replaced=True)
        kept = Checkpoints(bundle / "state", read_only=True)
        try:
            restored = kept.restore(fresh)
        finally:
            kept.close()
    if restored is None:
        raise ValueError(f"{bundle / 'state'} holds no state: the bundle is not whole")
    return step, diagnose(run, restored[0], frozen, step, batch)


def _report(bundle: Path) -> dict:
    file = bundle / "report.json"
    if not file.is_file():
        inside = sorted(f.parent for f in bundle.glob("**/nonfinite/*/report.json"))
        raise ValueError(
            f"{bundle} is no bundle of a step (no report.json)"
            + (f": give {' or '.join(map(str, inside))}" if inside else "")
        )
    report = read_json(file)
    if not isinstance(report, dict) or type(report.get("step")) is not int:
        raise ValueError(f"{file} names no step: the bundle is damaged")
    return report


def _batch(file: Path, run: Run) -> dict[str, np.ndarray]:
    """The global batch of a bundle, of the shapes that the run's batches have."""
    try:
        with np.load(file, allow_pickle=False) as saved:
            batch = dict(saved)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{file} cannot be read: {error}") from None
    wanted = {k: (v.shape, v.dtype) for k, v in run.loader.batch_spec().items()}
    found = {k: (v.shape, v.dtype) for k, v in batch.items()}
    if found != wanted:
        raise ValueError(f"{file} holds {found}, but a batch of the run is {wanted}")
    return batch


def main() -> None:
    bundle = Path(expand(arguments()[0]))
    step, leaves = replay(bundle)
    if not leaves:
        print(
            f"step {step}: all is finite when the step is run again: the fault lies in neither "
            "the state, the batch nor the config, but in the machine or the versions of libraries"
        )
        sys.exit(1)
    print(f"step {step}: first not finite: {leaves[0]}")
    for leaf in leaves[1:]:
        print(f"  then {leaf}")


if __name__ == "__main__":
    define_flags()
    run_main(main, ARGUMENTS)
