"""Keeping activations sharded by batch."""

from __future__ import annotations

import jax
from jax import Array
from jax.sharding import PartitionSpec

BATCH_AXES = ("data", "fsdp")


def constrain_batch(x: Array) -> Array:
    """`x [B, ...]` held sharded along its batch over the mesh axes 'data' and 'fsdp'.

    Called at block edges. Without it the compiler is free to gather activations where parameters
    are sharded (fsdp), at ten times the memory and with the same numbers, so no equality test
    shows it. Without a mesh, or on a mesh that lacks these axes, `x` is returned as it is.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or not set(BATCH_AXES) <= set(mesh.axis_names):
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(BATCH_AXES, *(None,) * (x.ndim - 1)))
