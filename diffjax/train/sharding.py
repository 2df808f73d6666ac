"""The mesh, and where arrays lie on it.

One function places parameters, optimizer slots and every EMA, since all of them carry the
parameter's path. The same code runs on one CPU, forced host devices and pods.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from diffjax.ranges import Axis

AXES = ("data", "fsdp", "tensor")
BATCH = ("data", "fsdp")
# Path rules for tensor parallelism, right-aligned so that scanned layers fit: attention and MLP
# input projections are cut along their outputs, output projections along their inputs.
RULES: tuple[tuple[str, tuple[str | None, ...]], ...] = (
    (r"(qkv|query|key|value|context_kv|mlp/layer1|modulation)/kernel$", (None, "tensor")),
    (r"(attention/proj|cross/proj|mlp/layer2)/kernel$", ("tensor", None)),
)


def make_mesh(data: Axis = -1, fsdp: Axis = 1, tensor: Axis = 1) -> Mesh:
    """The mesh over all devices; one axis may be -1 and takes what is left.

    Raises:
      ValueError: the axes do not multiply to the number of devices.
    """
    sizes, count = [data, fsdp, tensor], len(jax.devices())
    if sizes.count(-1) == 1:
        known = int(np.prod([s for s in sizes if s != -1]))
        sizes[sizes.index(-1)] = max(count // max(known, 1), 1)
    if int(np.prod(sizes)) != count or min(sizes) < 1:
        axes = ", ".join(f"{a}={s}" for a, s in zip(AXES, sizes, strict=True))
        raise ValueError(
            f"mesh ({axes}) does not fit {count} devices: its axes must multiply to it"
        )
    return jax.make_mesh(tuple(sizes), AXES, axis_types=(AxisType.Auto,) * 3)


def check_batch(batch_size: int, grad_accum: int, mesh: Mesh) -> None:
    """Raises ValueError when a microbatch does not split evenly over the devices."""
    ways = mesh.shape["data"] * mesh.shape["fsdp"]
    if (batch_size // grad_accum) % ways:
        raise ValueError(
            f"train.batch_size={batch_size} in {grad_accum} microbatches does not split over "
            f"{ways} devices (data x fsdp): make it a multiple of {grad_accum * ways}"
        )


def shardings(
    tree: Any, mesh: Mesh, rules: Sequence[tuple[str, tuple]] = RULES, min_size: int = 2**14
) -> Any:
    """A sharding per leaf: a path rule where one matches, then fsdp over the largest free axis of
    leaves of at least `min_size` elements, else replicated."""

    def one(path: Any, leaf: Any) -> NamedSharding:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        spec: list[Any] = [None] * leaf.ndim
        for pattern, axes in rules:
            if leaf.ndim >= len(axes) and re.search(pattern, name):
                aligned = (None,) * (leaf.ndim - len(axes)) + tuple(axes)
                spec = [
                    a if a and leaf.shape[i] % mesh.shape[a] == 0 else None
                    for i, a in enumerate(aligned)
                ]
                break
        ways = mesh.shape["fsdp"]
        if ways > 1 and leaf.size >= min_size:
            for i in sorted(range(leaf.ndim), key=lambda i: -leaf.shape[i]):
                if spec[i] is None and leaf.shape[i] % ways == 0:
                    spec[i] = "fsdp"
                    break
        return NamedSharding(mesh, P(*spec))

    return jax.tree_util.tree_map_with_path(one, tree)


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, P())


def batch_sharding(mesh: Mesh, stacked: bool) -> NamedSharding:
    """Rows over data and fsdp; `stacked`: the leading axis counts steps of one dispatch."""
    return NamedSharding(mesh, P(None, BATCH) if stacked else P(BATCH))


def local_rows(mesh: Mesh, batch_size: int) -> np.ndarray:
    """The rows of the global batch that this process's devices hold, in the global order."""
    index = batch_sharding(mesh, stacked=False).addressable_devices_indices_map((batch_size,))
    return np.unique(np.concatenate([np.arange(batch_size)[i] for i in index.values()]))


def to_devices(
    batch: Mapping[str, np.ndarray], mesh: Mesh, batch_size: int, stacked: bool
) -> dict[str, jax.Array]:
    """The process's rows as one global array per field; the global shape is always stated, for
    without it a model axis that spans processes yields a batch of the wrong size."""
    sharding = batch_sharding(mesh, stacked)
    axis = 1 if stacked else 0

    def place(local: np.ndarray) -> jax.Array:
        shape = (*local.shape[:axis], batch_size, *local.shape[axis + 1 :])
        return jax.make_array_from_process_local_data(sharding, local, shape)

    return {name: place(local) for name, local in batch.items()}
