"""Benchmark worker: our U-Net: forward, train step (mean squared error, Adam), DDIM of 50 steps."""

from __future__ import annotations

import sys
from typing import Any

import jax
import jax.numpy as jnp
import optax

from diffjax.compiler import Options, compiler_options
from diffjax.diffusion.grids import make_grid
from diffjax.diffusion.predictions import Eps
from diffjax.diffusion.samplers import ddim
from diffjax.diffusion.sampling import Estimate, initial_noise, sample
from diffjax.diffusion.schedules import Linear
from diffjax.models import build_model
from experiments.benchmarks.interleave import serve
from experiments.benchmarks.shapes import SHAPES


def build(shape_name: str, dtype: str, names: list[str], options: Options | None = None):
    """(facts, operations) of the shape, those called `names`, compiled with `options`: by default
    those that this machine runs fastest with."""
    shape = SHAPES[shape_name]
    model = build_model(**shape.model, dtype=dtype)
    x = jax.random.normal(
        jax.random.key(0), (shape.batch, shape.size, shape.size, shape.channels_in)
    )
    t = jnp.arange(shape.batch, dtype=jnp.float32)
    params: Any = jax.jit(model.init)(jax.random.key(1), x[:1], t[:1])
    optimizer = optax.adam(1e-4)

    def network(params: Any, z: Any, c_noise: Any, train: bool = False) -> Any:
        return model.apply(params, z, c_noise, train=train)

    def loss(params):
        return jnp.mean((network(params, x, t, True) - x) ** 2)

    def step(params, opt_state):
        value, grads = jax.value_and_grad(loss)(params)
        updates, opt_state = optimizer.update(grads, opt_state)
        return optax.apply_updates(params, updates), opt_state, value

    options = compiler_options() if options is None else options
    forward = jax.jit(lambda p: network(p, x, t), compiler_options=options)
    step = jax.jit(step, donate_argnums=(0, 1), compiler_options=options)
    held: dict[str, Any] = {"state": (jax.tree.map(jnp.copy, params), optimizer.init(params))}

    def run_step():
        *state, value = step(*held["state"])
        held["state"] = tuple(state)
        jax.block_until_ready(value)

    schedule, prediction = Linear(), Eps()
    grid = make_grid(schedule, 50, "leading")
    rows = ddim(grid)

    def denoise(params, z, level):
        c_noise = jnp.broadcast_to(level.t, (len(z),))
        return Estimate(prediction.to_x(network(params, z, c_noise), z, level))

    def draw(params, keys):
        z = initial_noise(grid, keys, x.shape[1:])
        return sample(lambda z, at, _: denoise(params, z, at), rows, z, keys)

    draw_jit: Any = jax.jit(draw, compiler_options=options)
    keys = jax.random.split(jax.random.key(2), shape.batch)

    facts = {
        "parameters": sum(p.size for p in jax.tree.leaves(params)),
        "backend": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
    }
    operations = {
        "forward": lambda: forward(params).block_until_ready(),
        "train step": run_step,
        "ddim 50": lambda: draw_jit(params, keys).block_until_ready(),
    }
    return facts, {name: operations[name] for name in names}


if __name__ == "__main__":
    serve(lambda: build(sys.argv[1], sys.argv[2], sys.argv[3].split(",")))
