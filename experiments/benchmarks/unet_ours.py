"""Benchmark worker: our U-Net, forward and train step (mean squared error, Adam)."""

from __future__ import annotations

import sys

import jax
import jax.numpy as jnp
import optax

from diffjax.compiler import compiler_options
from diffjax.models import build_model
from experiments.benchmarks.interleave import serve
from experiments.benchmarks.shapes import SHAPES


def build(shape_name: str, dtype: str):
    """(facts, operations) of the shape."""
    shape = SHAPES[shape_name]
    model = build_model(**shape.model, dtype=dtype)
    x = jax.random.normal(
        jax.random.key(0), (shape.batch, shape.size, shape.size, shape.channels_in)
    )
    t = jnp.arange(shape.batch, dtype=jnp.float32)
    params = jax.jit(model.init)(jax.random.key(1), x[:1], t[:1])
    optimizer = optax.adam(1e-4)

    def loss(params):
        return jnp.mean((jnp.asarray(model.apply(params, x, t, train=True)) - x) ** 2)

    def step(params, opt_state):
        value, grads = jax.value_and_grad(loss)(params)
        updates, opt_state = optimizer.update(grads, opt_state)
        return optax.apply_updates(params, updates), opt_state, value

    options = compiler_options()
    forward = jax.jit(lambda p: model.apply(p, x, t), compiler_options=options)
    step = jax.jit(step, donate_argnums=(0, 1), compiler_options=options)
    held = {"state": (jax.tree.map(jnp.copy, params), optimizer.init(params))}

    def run_step():
        params, opt_state, value = step(*held["state"])
        held["state"] = (params, opt_state)
        jax.block_until_ready(value)

    facts = {
        "parameters": sum(p.size for p in jax.tree.leaves(params)),
        "backend": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
    }
    return facts, {"forward": lambda: forward(params).block_until_ready(), "train step": run_step}


if __name__ == "__main__":
    serve(lambda: build(sys.argv[1], sys.argv[2]))
