"""What is drawn from a trained diffusion model: samples, their way, codes and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.core import Tracer

from diffjax.compiler import compiler_options
from diffjax.diffusion.grids import Grid, forward_grid, inverse_grid
from diffjax.diffusion.guidance import Guidance
from diffjax.diffusion.recipes import Plan, make_recipe
from diffjax.diffusion.samplers import ddim
from diffjax.diffusion.sampling import prior
from diffjax.diffusion.sampling import sample as run_sampler
from diffjax.keys import per_row, stream
from diffjax.tasks.base import Variables

if TYPE_CHECKING:
    from diffjax.tasks.diffusion import DiffusionTask


def sample(
    task: DiffusionTask,
    variables: Variables,
    seed: Array,
    index: Array,
    label: Array | None = None,
    negative: Array | None = None,
    **recipe: Any,
) -> Array:
    """Samples `[B, *image_shape] float32`, in about [-1, 1].

    Compiled here, once for all recipes that differ in numbers alone (guidance scale, spacing,
    eta): an evaluator need not jit it.

    Args:
      seed: [] int; index: `[B] int32`. Sample n is a function of (seed, index n, label n).
      label, negative: `[B] int32` for class-conditional models.
      **recipe: see `diffusion.recipes.make_recipe`.
    """
    return _drawn(task, False, recipe, variables, seed, index, label, negative)


def trajectory(
    task: DiffusionTask,
    variables: Variables,
    seed: Array,
    index: Array,
    label: Array | None = None,
    negative: Array | None = None,
    which: str = "states",
    **recipe: Any,
) -> Array:
    """The way of `sample`, `[T, B, *image_shape]`: the "states" z from the first noise to the
    sample (T = NFE + 1), or the "estimates" x_hat of each evaluation (T = NFE)."""
    if which not in ("states", "estimates"):
        raise ValueError(f"which={which!r} is unknown; known: states, estimates")
    states, estimates = _drawn(task, True, recipe, variables, seed, index, label, negative)
    return states if which == "states" else estimates


def _drawn(task: DiffusionTask, trajectory: bool, recipe: Mapping[str, Any], *args: Any) -> Any:
    choice = make_recipe(**recipe)
    plan = choice.plan(task.schedule)
    # The scale is a number of the plan; what is left says which branches there are.
    shape = choice.guidance if not choice.guidance.guided else replace(choice.guidance, scale=0)
    static = (task, shape, plan.rows.stochastic, trajectory)
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(args)):
        return _draw(*static, plan, *args)  # the caller compiles
    return _compiled_draw()(*static, plan, *args)


def encode(
    task: DiffusionTask,
    variables: Variables,
    image: Array,
    label: Array | None = None,
    **recipe: Any,
) -> Array:
    """DDIM inversion: `image [B, ...]`, taken to lie at the grid's least level, to its
    noisiest (Song et al. 2021a, section 4.3)."""
    return _transport(task, inverse_grid, variables, image, label, recipe)


def decode(
    task: DiffusionTask,
    variables: Variables,
    code: Array,
    label: Array | None = None,
    **recipe: Any,
) -> Array:
    """The way back of `encode` over the same recipe."""
    return _transport(task, forward_grid, variables, code, label, recipe)


def _transport(
    task: DiffusionTask,
    direction: Callable[[Grid], Grid],
    variables: Variables,
    z: Array,
    label: Array | None,
    recipe: Mapping[str, Any],
) -> Array:
    choice = make_recipe(**recipe)
    if choice.sampler != "ddim" or choice.options.get("eta", 0.0) != 0.0:
        raise ValueError("encode and decode run ddim with eta=0, the deterministic sampler")
    rows = ddim(direction(choice.make_grid(task.schedule)))
    keys = per_row(jax.random.key(0), jnp.arange(len(z)))  # never drawn from: eta is 0
    denoise = task.denoiser(variables, label, choice.guidance, None)
    last = run_sampler(denoise, rows, z, keys)
    assert not isinstance(last, tuple)  # no trajectory was asked for
    return last


@cache
def _compiled_draw() -> Callable[..., Any]:
    return jax.jit(_draw, static_argnums=(0, 1, 2, 3), compiler_options=compiler_options())


def _draw(
    task: DiffusionTask,
    guidance: Guidance,
    stochastic: bool,
    trajectory: bool,
    plan: Plan,
    variables: Variables,
    seed: Array,
    index: Array,
    label: Array | None,
    negative: Array | None,
) -> Any:
    """Samples `[B, ...]`; with `trajectory`, states `[T + 1, B, ...]` and estimates."""
    if guidance.guided:
        guidance = replace(guidance, scale=plan.scale)
    keys = per_row(stream(jax.random.key(seed), "sample"), index)
    z = prior(plan.std, keys, task.image_shape)
    denoise = task.denoiser(variables, label, guidance, negative)
    if not trajectory:
        return run_sampler(denoise, plan.rows, z, keys, stochastic=stochastic)
    _, states, estimates = run_sampler(denoise, plan.rows, z, keys, True, stochastic)
    return jnp.concatenate([z[None], states]), estimates
