"""Likelihoods of images under a trained diffusion model, in bits per dimension."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from diffjax.denoisers.conditions.base import read_fields
from diffjax.denoisers.model import DiffusionModel
from diffjax.diffusion import likelihood
from diffjax.diffusion.grids import make_grid
from diffjax.diffusion.levels import take
from diffjax.diffusion.recipes import make_recipe
from diffjax.keys import per_row, root, stream, uniform
from diffjax.objectives.likelihoods import snap
from diffjax.ranges import Amount, GreyLevels, Steps
from diffjax.task import Batch, Variables


def bits_per_dim(
    model: DiffusionModel,
    variables: Variables,
    seed: Array,
    batch: Batch,
    steps: Steps | None = None,
    variance: str = "large",
    levels: GreyLevels = 256,
) -> dict[str, Array]:
    """The variational bound of `batch` in bits per dimension, [B] each: total, prior,
    diffusion, decoder. `steps`: None for the whole table; `levels`: values that a pixel takes."""
    steps = int(model.schedule.t_max + 1) if steps is None else steps
    grid = make_grid(model.schedule, steps, "linspace")
    x = snap(batch["image"], levels)
    keys = per_row(stream(root(seed), "bits"), jnp.arange(len(x)))
    cond = read_fields(model.conditions, variables.frozen, batch, None)
    clipped = make_recipe(clip=True).guidance
    denoise = model.denoiser(variables, cond, clipped, None, x)
    bound = likelihood.variational_bound(denoise, grid, x, keys, variance, levels)
    return {k: bound[k] for k in ("total", "prior", "diffusion", "decoder")}


def flow_bits_per_dim(
    model: DiffusionModel,
    variables: Variables,
    seed: Array,
    batch: Batch,
    steps: Steps = 50,
    spacing: str = "log_snr",
    probes: Amount | None = 1,
    levels: GreyLevels = 256,
) -> dict[str, Array]:
    """The probability flow's likelihood of uniformly dequantised images, in bits per dimension
    [B] (Song et al. 2021b, section 4.3), and the state at the noisy end."""
    grid = make_grid(model.schedule, steps, spacing)
    keys = per_row(stream(root(seed), "flow"), jnp.arange(len(batch["image"])))
    width = 2 / (levels - 1)
    shift = uniform(keys, model.shape) - 0.5
    x = batch["image"] + width * shift
    cond = read_fields(model.conditions, variables.frozen, batch, None)
    denoise = model.denoiser(variables, cond, make_recipe().guidance, None, x)
    first = take(grid.t, -1)
    log_p, z = likelihood.flow_log_likelihood(denoise, grid, float(first.alpha) * x, keys, probes)
    size = x[0].size
    # p of x from p of alpha x, then the mass of one pixel value from its density.
    nats = -(log_p / size + jnp.log(float(first.alpha)) + jnp.log(width))
    return {"total": nats / likelihood.LOG2, "code": z}
