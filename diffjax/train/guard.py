"""What is left behind when a loss or gradient is not finite: which step, which tensor, and a bundle
from which the faulty step can be run again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffjax.keys import stream
from diffjax.tasks.base import Params, Task
from diffjax.train.state import TrainState
from diffjax.train.step import StepChoices, gradients


class NonFiniteError(RuntimeError):
    """A run met a loss or gradient that is not finite and was told to stop."""


def nonfinite_leaves(tree: Any, label: str) -> list[str]:
    """Paths of the leaves that hold a NaN or an infinity, with how many."""
    found = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(leaf)
        if not np.issubdtype(array.dtype, np.inexact):
            continue
        bad = int((~np.isfinite(array.astype(np.float32))).sum())
        if bad:
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            found.append(f"{label}/{name}: {bad} of {array.size}")
    return found


def diagnose(
    task: Task,
    state: TrainState,
    frozen: Params,
    batch: Mapping[str, np.ndarray],
    choices: StepChoices,
    key: jax.Array,
) -> list[str]:
    """Runs the faulty step once more and names what is not finite: batch, parameters, metrics or
    gradients, in that order, so that the first entry is nearest to the cause."""
    step_key = jax.random.fold_in(stream(key, "train"), state.step)
    run = jax.jit(lambda s, f, b: gradients(task, s, f, b, step_key, choices)[:2])
    grads, metrics = run(state, frozen, {k: jnp.asarray(v) for k, v in batch.items()})
    return [
        *nonfinite_leaves(dict(batch), "batch"),
        *nonfinite_leaves(state.params, "params"),
        *nonfinite_leaves(metrics, "metrics"),
        *nonfinite_leaves(grads, "gradient"),
    ]


def write_bundle(
    folder: Path, step: int, batch: Mapping[str, np.ndarray], leaves: list[str], seed: int
) -> Path:
    """`<folder>/step_<n>/`: the batch as npz, and what was found as json. The state that met it is
    the run's checkpoint of the same step."""
    target = folder / f"step_{step:08d}"
    target.mkdir(parents=True, exist_ok=True)
    np.savez(target / "batch.npz", **{k: np.asarray(v) for k, v in batch.items()})
    report = {"step": step, "seed": seed, "nonfinite": leaves}
    (target / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    return target
