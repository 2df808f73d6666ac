"""Memory of a contrastive loss and its gradient per device, compiled but not run.

    python -m experiments.benchmarks.contrastive_memory

prints mebibytes of temporary arrays for every kind and spread at CLIP's batch of 32,768 pairs over
eight devices, which need not be there; half a minute on two cores.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from absl import app, flags
from jax import Array

from diffjax.objectives.contrastive import KINDS
from diffjax.objectives.spread import SPREADS, Contrastive
from diffjax.train.sharding import batch_sharding, make_mesh, replicated

_BATCH = flags.DEFINE_integer("batch", 32_768, "Pairs in the global batch.")
_WIDTH = flags.DEFINE_integer("width", 512, "Of the embeddings.")
_DEVICES = flags.DEFINE_integer("devices", 8, "Host devices to compile for.")


def temporary_bytes(kind: str, spread: str, batch: int, width: int) -> int:
    """Temporary bytes per device of loss and gradient, rows lying over all devices there are."""
    mesh = make_mesh()
    loss = Contrastive(kind, spread)

    def mean(image: Array, text: Array, log_scale: Array, bias: Array) -> Array:
        return loss(image, text, log_scale, bias)[0].mean()

    rows, whole = batch_sharding(mesh, stacked=False), replicated(mesh)
    embedding = jax.ShapeDtypeStruct((batch, width), jnp.float32, sharding=rows)
    number = jax.ShapeDtypeStruct((), jnp.float32, sharding=whole)
    gradient = jax.jit(
        jax.value_and_grad(mean, (0, 1, 2, 3)), out_shardings=(whole, (rows, rows, whole, whole))
    )
    with jax.set_mesh(mesh):
        compiled = gradient.lower(embedding, embedding, number, number).compile()
    analysis = compiled.memory_analysis()
    if analysis is None:
        raise ValueError("this backend says nothing of a program's memory")
    return analysis.temp_size_in_bytes


def main(_) -> None:
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", _DEVICES.value)
    print(f"{_BATCH.value} pairs of width {_WIDTH.value} over {_DEVICES.value} devices: MiB each")
    for kind in KINDS:
        sizes = {s: temporary_bytes(kind, s, _BATCH.value, _WIDTH.value) for s in SPREADS}
        for spread, size in sizes.items():
            share = size / sizes["global"]
            print(f"{kind:8} {spread:8} {size / 2**20:10,.1f}  {share:6.1%} of global")


if __name__ == "__main__":
    app.run(main)
