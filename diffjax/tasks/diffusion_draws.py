"""What is drawn from a trained diffusion model: samples, their way, codes and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial
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
from diffjax.keys import per_row, root, stream
from diffjax.tasks.base import Variables

if TYPE_CHECKING:
    from diffjax.tasks.diffusion import DiffusionTask


def sample(
    task: DiffusionTask,
    variables: Variables,
    seed: Array,
    index: Array,
    asked: Any = None,
    negative: Any = None,
    **recipe: Any,
) -> Array:
    """Samples `[B, *image_shape] float32`, in about [-1, 1]; of latents, the images they decode to.

    Compiled here, once for all recipes that differ in numbers alone (guidance scale, spacing,
    eta): an evaluator need not jit it.

    Args:
      seed: [] int; index: `[B] int32`. Sample n is a function of (seed, index n, asked n).
      asked, negative: what is wanted, and what is not: `label [B] int32`, `tokens [B, L] int32`,
        ..., or a mapping of these by name; see `tasks.conditions.as_given`.
      **recipe: see `diffusion.recipes.make_recipe`.
    """
    return _drawn(task, False, recipe, variables, seed, index, asked, negative)


def trajectory(
    task: DiffusionTask,
    variables: Variables,
    seed: Array,
    index: Array,
    asked: Any = None,
    negative: Any = None,
    which: str = "states",
    **recipe: Any,
) -> Array:
    """The way of `sample`, `[T, B, *image_shape]`: the "states" z from the first noise to the
    sample (T = NFE + 1), or the "estimates" x_hat of each evaluation (T = NFE)."""
    if which not in ("states", "estimates"):
        raise ValueError(f"which={which!r} is unknown; known: states, estimates")
    states, estimates = _drawn(task, True, recipe, variables, seed, index, asked, negative)
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
    asked: Any = None,
    **recipe: Any,
) -> Array:
    """DDIM inversion: `image [B, ...]` (its latents by their mode), taken to lie at the grid's
    least level, to its noisiest (Song et al. 2021a, section 4.3)."""
    if task.latents is not None:
        image = task.latents.encode(variables.frozen, image, None)
    return _transport(task, inverse_grid, variables, image, asked, recipe)


def decode(
    task: DiffusionTask,
    variables: Variables,
    code: Array,
    asked: Any = None,
    **recipe: Any,
) -> Array:
    """The way back of `encode` over the same recipe."""
    x = _transport(task, forward_grid, variables, code, asked, recipe)
    return _shown(task, variables, x)


def _transport(
    task: DiffusionTask,
    direction: Callable[[Grid], Grid],
    variables: Variables,
    z: Array,
    asked: Any,
    recipe: Mapping[str, Any],
) -> Array:
    choice = make_recipe(**recipe)
    if choice.sampler != "ddim" or choice.options.get("eta", 0.0) != 0.0:
        raise ValueError("encode and decode run ddim with eta=0, the deterministic sampler")
    rows = ddim(direction(choice.make_grid(task.schedule)))
    keys = per_row(jax.random.key(0), jnp.arange(len(z)))  # never drawn from: eta is 0
    denoise = task.denoiser(variables, asked, choice.guidance, None, z)
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
    asked: Any,
    negative: Any,
) -> Any:
    """Samples `[B, ...]`; with `trajectory`, states `[T + 1, B, ...]` and estimates."""
    if guidance.guided:
        guidance = replace(guidance, scale=plan.scale)
    keys = per_row(stream(root(seed), "sample"), index)
    z = prior(plan.std, keys, task.shape)
    denoise = task.denoiser(variables, asked, guidance, negative, z)
    if not trajectory:
        last = run_sampler(denoise, plan.rows, z, keys, stochastic=stochastic)
        assert not isinstance(last, tuple)
        return _shown(task, variables, last)
    _, states, estimates = run_sampler(denoise, plan.rows, z, keys, True, stochastic)
    ways = jnp.concatenate([z[None], states]), estimates
    if task.latents is None:
        return ways
    # One frame is decoded at a time.
    return tuple(jax.lax.map(partial(_shown, task, variables), way) for way in ways)


def _shown(task: DiffusionTask, variables: Variables, x: Array) -> Array:
    """The images that diffused `x [B, ...]` stand for."""
    return x if task.latents is None else task.latents.decode(variables.frozen, x)
