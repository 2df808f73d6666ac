"""What is left behind when a loss or gradient is not finite: which step, which tensor, and a bundle
from which the faulty step can be run again."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffjax.keys import root, stream
from diffjax.tasks.base import Params
from diffjax.train import sharding
from diffjax.train.run import Run
from diffjax.train.state import TrainState
from diffjax.train.step import gradients
from diffjax.train.writer import replace_file


class NonFiniteError(RuntimeError):
    """A run met a loss or gradient that is not finite and was told to stop."""


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
            found.append(f"{label}/{name}: {int(bad)} of {size}")
    return found


def diagnose(
    run: Run,
    state: TrainState,
    frozen: Params,
    step: int,
    batch: Mapping[str, np.ndarray] | None = None,
) -> list[str]:
    """Runs the faulty step once more and names what is not finite: batch, parameters, metrics or
    gradients, in that order, so that the first entry is nearest to the cause.

    Args:
      state: the state before the step.
      batch: this process's rows of the step's batch; by default the loader's.
    """
    choices = run.choices.step_choices()
    key = jax.random.fold_in(stream(root(run.seed), "train"), step)

    def parts(state: TrainState, frozen: Params, batch: Mapping[str, jax.Array]) -> dict[str, Any]:
        grads, metrics, _ = gradients(run.task, state, frozen, batch, key, choices)
        return {"batch": batch, "params": state.params, "metrics": metrics, "gradient": grads}

    local = run.loader.batch(step) if batch is None else batch
    given = (
        state,
        frozen,
        sharding.to_devices(local, run.mesh, choices.batch_size, stacked=False),
    )
    with jax.set_mesh(run.mesh):
        counted = jax.jit(
            lambda *a: count_nonfinite(parts(*a)), out_shardings=sharding.replicated(run.mesh)
        )(*given)
        sizes = jax.tree.map(lambda a: a.size, jax.eval_shape(parts, *given))
    return [
        leaf
        for label in ("batch", "params", "metrics", "gradient")
        for leaf in nonfinite_leaves(counted[label], sizes[label], label)
    ]


def write_bundle(folder: Path, run: Run, step: int, leaves: list[str]) -> Path:
    """`<folder>/step_<n>/`: the global batch as npz, and what was found as json; the caller adds
    the state that met it."""
    target = folder / f"step_{step:08d}"
    if jax.process_index() == 0:
        target.mkdir(parents=True, exist_ok=True)
        batch: dict[str, Any] = dict(run.loader.batch(step, np.arange(run.choices.batch_size)))
        packed = io.BytesIO()
        np.savez(packed, **batch)
        replace_file(target / "batch.npz", packed.getvalue())
        report = {"step": step, "seed": run.seed, "nonfinite": leaves}
        replace_file(target / "report.json", (json.dumps(report, indent=2) + "\n").encode())
    return target
