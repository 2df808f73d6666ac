"""The outline of a run's state, before anything is trained: shapes and bytes, nothing computed."""

from __future__ import annotations

import os
from typing import Any

import jax
import numpy as np
from flax.errors import FlaxError

from diffjax.train.optim import make_optimizer
from diffjax.train.run import Run
from diffjax.train.step import init_state

GIB = 2**30
# What shapes that do not fit raise inside JAX and Flax, whose own words say which.
MISFITS = (TypeError, ZeroDivisionError, OverflowError, IndexError, FlaxError)


def check_state(run: Run) -> None:
    """Traces the initialisation of the run's state.

    Raises:
      ValueError: a network that cannot be built or does not fit the data, or a state that is larger
        than the memory.
    """
    optimizer = make_optimizer(run.optimizer, run.choices.steps)

    def init(key: jax.Array) -> Any:
        return init_state(run.task, optimizer, run.emas, key, run.loader.batch_spec())

    try:
        state, frozen = jax.eval_shape(init, jax.random.key(0))
    except MISFITS as error:
        raise ValueError(
            f"model, task and data do not fit together: {type(error).__name__}: {error}"
        ) from error
    need = sum(_bytes(leaf) for leaf in jax.tree.leaves((state, frozen)))
    ways = run.mesh.shape["fsdp"] * run.mesh.shape["tensor"]
    have = device_memory()
    if have is not None and need / ways > have:
        raise ValueError(
            f"the weights, their averages and the optimizer's slots take {need / ways / GIB:,.0f} "
            f"GiB on each device, which has {have / GIB:,.0f}: make the model smaller, or raise "
            "mesh.fsdp"
        )


def _bytes(leaf: Any) -> int:
    return int(np.prod(leaf.shape, dtype=object)) * leaf.dtype.itemsize


def device_memory() -> float | None:
    """Bytes of each device of this process; None where nobody says."""
    device = jax.local_devices()[0]
    if device.platform != "cpu":
        return ((device.memory_stats() or {}).get("bytes_limit")) or None
    try:
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return None
    return pages / len(jax.local_devices())
