"""Runs any sampler's table in one `lax.scan`."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax import keys as keys_lib
from diffjax.diffusion.grids import Grid
from diffjax.diffusion.levels import Level, broadcast_to, take
from diffjax.diffusion.samplers import StepTable


class Estimate(NamedTuple):
    """A denoiser's output for `z_t`.

    Attributes:
      x: the clean image `[B, ...] float32`.
      v: with learned variance, where the log variance lies between its bounds, `[B, ...]` in about
        [-1, 1] (Nichol & Dhariwal 2021, eq. 15); else None.
    """

    x: Array
    v: Array | None = None


# (z [B, ...], at [], to []) -> Estimate: the one seam between networks, guidance and samplers. `at`
# is the level of z, `to` the one that the step goes to, see `Rows`, or `at` itself where there is
# no step. Flow maps and consistency models read it, ordinary networks do not.
Denoiser = Callable[[Array, Level, Level], Estimate]


def start_std(grid: Grid) -> float:
    """Standard deviation of the noise that sampling along the grid starts from."""
    if grid.std is not None:
        return grid.std
    return float(np.asarray(grid.schedule.prior_std(take(grid.t, 0))))


def initial_noise(std: Grid | float | Array, keys: Array, shape: tuple[int, ...]) -> Array:
    """The state that sampling starts from, `[B, *shape]`, sample n from `keys[n]` alone; `std` is
    the grid, or its `start_std`."""
    std = start_std(std) if isinstance(std, Grid) else std
    return std * keys_lib.normal(jax.vmap(lambda k: keys_lib.stream(k, "prior"))(keys), shape)


def _noise_scale(row: StepTable, estimate: Estimate) -> Array:
    """The standard deviation of the step's noise: a number, or the network's own (eq. 15)."""
    if row.log_variance is None:
        return broadcast_to(row.noise_coef, estimate.x)
    if estimate.v is None:
        raise ValueError(
            "variance='learned' needs a network that was trained to predict it "
            "(task.learned_variance=True); this one predicts the image alone"
        )
    share = (estimate.v + 1) / 2
    return jnp.exp(0.5 * (share * row.log_variance[1] + (1 - share) * row.log_variance[0]))


def _advance(
    denoise: Denoiser, row: StepTable, z: Array, memory: Array, noise: Array | None
) -> tuple[Array, Array, Array]:
    """One row of the table: `(z', memory', x_hat)`; the rule is written in `samplers.Rows`."""
    z = row.scale * z if noise is None else row.scale * z + row.churn * noise
    estimate = denoise(z, row.at, row.to)
    x_hat = estimate.x.astype(jnp.float32)
    after = row.z_coef * z + row.x_coef * x_hat
    depth = memory.shape[0]
    if depth:
        after = after + jnp.tensordot(row.past_coef, memory, axes=1, precision="highest")
        kept = row.keep_z * z + row.keep_x * x_hat
        memory = jnp.concatenate([kept[None], memory[:-1]])
    if noise is not None:
        after = after + _noise_scale(row, estimate) * noise
    return after, memory, x_hat


def sample(
    denoise: Denoiser,
    rows: StepTable,
    z: Array,
    keys: Array,
    trajectory: bool = False,
    stochastic: bool | None = None,
) -> Array | tuple[Array, Array, Array]:
    """Run a sampler from the state z.

    Args:
      denoise: the estimate of the clean image at a level, for a step to another.
      rows: a sampler's table.
      z: `[B, ...] float32` the first state.
      keys: `[B]`, one per sample. The noise of row i of sample n depends on `keys[n]` and i alone,
        so a sample does not depend on the batch it is drawn in.
      trajectory: also return the way.
      stochastic: whether noise is drawn; read off the table where it is numpy, as it is unless
        the table is an argument of a jitted function.

    Returns:
      The last state `[B, ...]`; with `trajectory`, also the states after each row and the
      estimates of each row, `[N, B, ...]` each.
    """
    stochastic = rows.stochastic if stochastic is None else stochastic
    table = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), rows)
    noise_keys = jax.vmap(lambda k: keys_lib.stream(k, "sampler"))(keys)
    memory = jnp.zeros((rows.past_coef.shape[1], *z.shape), jnp.float32)

    def body(carry: tuple[Array, Array], scanned: tuple[Array, StepTable]):
        i, row = scanned
        noise = None
        if stochastic:
            row_keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(noise_keys, i)
            noise = keys_lib.normal(row_keys, z.shape[1:])
        after, memory, x_hat = _advance(denoise, row, *carry, noise)
        return (after, memory), (after, x_hat) if trajectory else None

    (last, _), states = jax.lax.scan(body, (z, memory), (jnp.arange(rows.nfe), table))
    return last if states is None else (last, states[0], states[1])
