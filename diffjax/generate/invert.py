"""DDIM inversion: images to their codes, the noise that they are drawn from, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.denoisers.model import DiffusionModel
from diffjax.diffusion.grids import Grid, forward_grid, inverse_grid
from diffjax.diffusion.recipes import make_recipe
from diffjax.diffusion.samplers import ddim
from diffjax.diffusion.sampling import sample as run_sampler
from diffjax.keys import per_row
from diffjax.task import Variables


def encode(
    model: DiffusionModel,
    variables: Variables,
    image: Array,
    cond: Any = None,
    **recipe: Any,
) -> Array:
    """DDIM inversion: `image [B, ...]` (its latents by their mode), taken to lie at the grid's
    least level, to its noisiest (Song et al. 2021a, section 4.3)."""
    x = model.space.encode(variables.frozen, image)
    return _transport(model, inverse_grid, variables, x, cond, recipe)


def decode(
    model: DiffusionModel,
    variables: Variables,
    code: Array,
    cond: Any = None,
    **recipe: Any,
) -> Array:
    """The way back of `encode` over the same recipe."""
    x = _transport(model, forward_grid, variables, code, cond, recipe)
    return model.space.decode(variables.frozen, x)


def _transport(
    model: DiffusionModel,
    direction: Callable[[Grid], Grid],
    variables: Variables,
    z: Array,
    cond: Any,
    recipe: Mapping[str, Any],
) -> Array:
    choice = make_recipe(**recipe)
    if choice.sampler != "ddim" or choice.options.get("eta", 0.0) != 0.0:
        raise ValueError("encode and decode run ddim with eta=0, the deterministic sampler")
    if choice.clip.on:
        raise ValueError("encode and decode follow the model alone: leave clip_guidance out")
    rows = ddim(direction(choice.make_grid(model.schedule)))
    keys = per_row(jax.random.key(0), jnp.arange(len(z)))  # never drawn from: eta is 0
    denoise = model.denoiser(variables, cond, choice.guidance, None, z)
    last = run_sampler(denoise, rows, z, keys)
    assert not isinstance(last, tuple)  # no trajectory was asked for
    return last
