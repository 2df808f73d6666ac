"""Guard against a loss or gradient that is not finite: which step, which tensor, a bundle from
which the faulty step can be run again, and an end to runs that skip more than they do."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from diffjax.keys import root, stream
from diffjax.task import Params
from diffjax.train import sharding
from diffjax.train.optim import make_optimizer
from diffjax.train.run import Run
from diffjax.train.state import TrainState
from diffjax.train.step import gradients
from diffjax.train.writer import replace_file

# Where things first go wrong, from cause to effect.
ORDER = ("batch", "params", "model state", "optimizer state", "metrics", "gradient",
         "gradient norm", "update")  # fmt: skip
# Under train.on_nonfinite="skip": so many updates left out one after another, or more than this
# share of a whole run, and there is no training to speak of.
IN_A_ROW, SHARE = 100, 0.5


class NonFiniteError(RuntimeError):
    """A run met a loss or gradient that is not finite and was told to stop, or met little else."""


@dataclass
class Skips:
    """Updates left out for a loss or gradient that was not finite.

    Attributes:
      total: in the whole run so far.
      in_a_row: up to the last step; 0 where that counted.
    """

    total: int = 0
    in_a_row: int = 0

    def add(self, nonfinite: Iterable[float]) -> None:
        """The metric `nonfinite` of further steps, in their order."""
        for skipped in nonfinite:
            self.total += bool(skipped)
            self.in_a_row = self.in_a_row + 1 if skipped else 0

    def excess(self, step: int, steps: int) -> str:
        """The reason why the run should end after `step` of its `steps` updates; "" where it should
        not."""
        if step == steps and self.total > SHARE * steps:
            return f"{self.total} of {steps} updates were left out, more than {SHARE:.0%}"
        if self.in_a_row >= IN_A_ROW:
            return f"the last {self.in_a_row} updates, to step {step}, were left out"
        return ""


def count_nonfinite(tree: Any) -> Any:
    """The number of NaNs and infinities in each leaf, [] int32."""
    return jax.tree.map(lambda a: jnp.sum(~jnp.isfinite(a), dtype=jnp.int32), tree)


def nonfinite_leaves(counts: Any, sizes: Any, label: str) -> list[str]:
    """`label/path: n of N` for the leaves whose count is not 0."""
    found = []
    for (path, bad), size in zip(
        jax.tree_util.tree_leaves_with_path(counts), jax.tree.leaves(sizes), strict=True
    ):
        if bad:
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            found.append(f"{label}/{name}".rstrip("/") + f": {int(bad)} of {size}")
    return found


def diagnose(
    run: Run,
    state: TrainState,
    frozen: Params,
    step: int,
    batch: Mapping[str, np.ndarray] | None = None,
) -> list[str]:
    """Runs the faulty step once more and names what is not finite, in the order of `ORDER`, so that
    the first entry is nearest to the cause.

    Args:
      state: the state before the step.
      batch: this process's rows of the step's batch; by default the loader's.
    """
    choices = run.choices.step_choices()
    key = jax.random.fold_in(stream(root(run.seed), "train"), step)

    optimizer = make_optimizer(run.optimizer, run.choices.steps)

    def parts(state: TrainState, frozen: Params, batch: Mapping[str, jax.Array]) -> dict[str, Any]:
        grads, metrics, _ = gradients(run.task, state, frozen, batch, key, choices)
        update, _ = optimizer.update(grads, state.opt_state, state.params)
        before = (batch, state.params, state.model_state, state.opt_state)
        after = (metrics, grads, optax.tree.norm(grads), update)
        return dict(zip(ORDER, (*before, *after), strict=True))

    def counts(*inputs: Any) -> tuple[Any, jax.Array]:
        found = parts(*inputs)
        return count_nonfinite(found), optax.tree.norm(found["gradient"], ord=jnp.inf)

    local = run.loader.batch(step) if batch is None else batch
    inputs = (
        state,
        frozen,
        sharding.to_devices(local, run.mesh, choices.batch_size, stacked=False),
    )
    with jax.set_mesh(run.mesh):
        counted, largest = jax.jit(counts, out_shardings=sharding.replicated(run.mesh))(*inputs)
        sizes = jax.tree.map(lambda a: a.size, jax.eval_shape(parts, *inputs))
    found = {label: nonfinite_leaves(counted[label], sizes[label], label) for label in ORDER}
    if found["gradient norm"] and not found["gradient"]:
        found["gradient norm"] = [
            "gradient norm: overflows float32, though every gradient is finite (the largest is "
            f"{float(largest):.3g})"
        ]
    return [leaf for label in ORDER for leaf in found[label]]


def write_bundle(folder: Path, run: Run, step: int, leaves: list[str]) -> Path:
    """`<folder>/step_<n>/`: the global batch as npz, the run's config and what was found as json;
    the caller adds the state that met it. `experiments.replay` runs its step again."""
    target = folder / f"step_{step:08d}"
    if jax.process_index() == 0:
        target.mkdir(parents=True, exist_ok=True)
        batch: dict[str, Any] = dict(run.loader.batch(step, np.arange(run.choices.batch_size)))
        packed = io.BytesIO()
        np.savez(packed, **batch)
        replace_file(target / "batch.npz", packed.getvalue())
        config = json.dumps(dict(run.config), indent=2) + "\n"
        replace_file(target / "config.json", config.encode())
        report = {"step": step, "seed": run.seed, "nonfinite": leaves}
        replace_file(target / "report.json", (json.dumps(report, indent=2) + "\n").encode())
    return target
