"""Sampling from a trained diffusion model: samples and their trajectories."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.core import Tracer

from diffjax.compiler import compiler_options
from diffjax.denoisers.conditions.base import fields_of
from diffjax.denoisers.conditions.image import MaskedImageCondition, masked_image
from diffjax.denoisers.conditions.image_embedding import ImageEmbeddingCondition
from diffjax.denoisers.embeddings import scaled
from diffjax.denoisers.model import DiffusionModel
from diffjax.diffusion.guidance import Guidance
from diffjax.diffusion.levels import broadcast_to
from diffjax.diffusion.recipes import CompiledRecipe, make_recipe
from diffjax.diffusion.sampling import initial_noise
from diffjax.diffusion.sampling import sample as run_sampler
from diffjax.generate.embeddings import encode_text, prior_variables
from diffjax.generate.known import Known, hold_known
from diffjax.keys import per_row, root, stream
from diffjax.task import Variables


def sample(
    model: DiffusionModel,
    variables: Variables,
    seed: Array,
    index: Array,
    cond: Any = None,
    negative: Any = None,
    noise: Array | None = None,
    **recipe: Any,
) -> Array:
    """Samples `[B, *image_shape] float32`, in about [-1, 1]; of latents, the images they decode to.

    Compiled here, once for all recipes that differ in numbers alone (guidance scale, spacing,
    eta): an evaluator need not jit it.

    Args:
      seed: [] int; index: `[B] int32`. Sample n is a function of (seed, index n, cond n).
      cond, negative: what is wanted, and what is not: `label [B] int32`, `tokens [B, L] int32`,
        ..., or a mapping of these by field; see `conditions.base.check_cond`.
      noise: `[B, *shape]` standard normal, what sampling starts from in place of the samples' own
        (diffusers' `latents`).
      **recipe: see `diffusion.recipes.make_recipe`.
    """
    return draw(model, recipe, variables, seed, index, cond, negative, noise)


def trajectory(
    model: DiffusionModel,
    variables: Variables,
    seed: Array,
    index: Array,
    cond: Any = None,
    negative: Any = None,
    which: str = "states",
    **recipe: Any,
) -> Array:
    """The trajectory of `sample`, `[T, B, *image_shape]`: the "states" z from the first noise to
    the sample (T = NFE + 1), or the "estimates" x_hat of each evaluation (T = NFE)."""
    if which not in ("states", "estimates"):
        raise ValueError(f"which={which!r} is unknown; known: states, estimates")
    frames = draw(model, recipe, variables, seed, index, cond, negative, None, trajectory=True)
    states, estimates = frames
    return states if which == "states" else estimates


def draw(
    model: DiffusionModel,
    recipe: Mapping[str, Any],
    variables: Variables,
    seed: Array,
    index: Array,
    cond: Any,
    negative: Any,
    noise: Array | None,
    known: Known | None = None,
    strength: float = 1.0,
    trajectory: bool = False,
) -> Any:
    """Sampling as `sample`, `trajectory`, `image2image` and `inpaint` share it.

    Args:
      model, variables, seed, index, cond, negative, noise: see `sample`.
      recipe: options of `make_recipe`.
      known: the image to start from, or to hold to; None for neither.
      strength: share in [0, 1] of the grid's steps that are taken, the last ones.
      trajectory: whether states `[T + 1, B, ...]` and estimates are returned in place of samples.
    """
    if known is None and strength < 1:
        raise ValueError(f"strength={strength} needs an image to start from")
    choice = make_recipe(**recipe)
    plan = choice.plan(model.schedule, strength)
    # Scales are numbers of the plan; what is left says which branches there are.
    static = (model, choice.guidance.static, plan.rows.stochastic, trajectory, "sample")
    args = (variables, seed, index, cond, negative, noise, known)
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(args)):
        return _draw(*static, plan, *args)  # the caller compiles
    return _compiled_draw()(*static, plan, *args)


@cache
def _compiled_draw() -> Callable[..., Any]:
    return jax.jit(_draw, static_argnums=(0, 1, 2, 3, 4), compiler_options=compiler_options())


def _draw(
    model: DiffusionModel,
    guidance: Guidance,
    stochastic: bool,
    trajectory: bool,
    stream_name: str,
    plan: CompiledRecipe,
    variables: Variables,
    seed: Array,
    index: Array,
    cond: Any,
    negative: Any,
    noise: Array | None,
    known: Known | None,
) -> Any:
    guidance = guidance.scaled(plan.scales)
    keys = per_row(stream(root(seed), stream_name), index)
    if noise is None:
        noise = initial_noise(1.0, keys, model.shape)
    elif noise.shape != (len(index), *model.shape):
        raise ValueError(f"noise {noise.shape} of samples {(len(index), *model.shape)}")
    z = plan.std * noise
    masks = [c for c in model.conditions if isinstance(c, MaskedImageCondition)]
    if known is not None and known.mask is not None and masks:
        seen = masked_image(known.image, known.mask)
        cond = {**cond, **{c.field: seen for c in masks}}
    if model.prior is not None:
        cond = _with_embedding(model, variables, seed, index, cond)
    denoise = model.denoiser(variables, cond, guidance, negative, z)
    clean, mask = jnp.zeros(()), None
    if known is not None:
        clean = model.space.encode(variables.frozen, known.image)
        if known.start:
            z = (
                broadcast_to(plan.first.alpha, z) * clean
                + broadcast_to(plan.first.sigma, z) * noise
            )
        if known.mask is not None and not masks:
            mask = model.space.shrink_mask(known.mask)
            denoise = hold_known(denoise, clean, mask, noise)
    decode = partial(model.space.decode, variables.frozen)
    if not trajectory:
        last = run_sampler(denoise, plan.rows, z, keys, stochastic=stochastic)
        assert not isinstance(last, tuple)
        return decode(last if mask is None else mask * last + (1 - mask) * clean)
    _, states, estimates = run_sampler(denoise, plan.rows, z, keys, True, stochastic)
    frames = jnp.concatenate([z[None], states]), estimates
    if model.space.bounded:
        return frames
    # One frame is decoded at a time.
    return tuple(jax.lax.map(decode, frame) for frame in frames)


def _with_embedding(
    model: DiffusionModel, variables: Variables, seed: Array, index: Array, cond: Any
) -> dict[str, Array]:
    """`cond` as the model's own conditions read it: image embeddings that are not given are drawn
    by the prior, of `best_of` those most like their texts (Ramesh et al. 2022, section 2.2)."""
    prior, recipe = model.prior, dict(model.prior_recipe)
    assert prior is not None
    cond = dict(cond) if isinstance(cond, Mapping) else {prior.fields[0]: cond}
    own = fields_of(model.conditions)
    missing = [c.field for c in model.conditions
               if isinstance(c, ImageEmbeddingCondition) and c.field not in cond]  # fmt: skip
    if missing:
        weights = prior_variables(variables)
        best_of = recipe.pop("best_of", 2)
        choice = make_recipe(**recipe)
        plan = choice.plan(prior.schedule)
        static = (prior, choice.guidance.static, plan.rows.stochastic, False)
        wanted = {f: cond[f] for f in prior.fields}
        args = (plan, weights, seed, index, wanted, None, None, None)
        drawn = jnp.stack([_draw(*static, f"prior {k}", *args) for k in range(best_of)], axis=1)
        if best_of > 1:
            text = scaled(encode_text(prior, weights, cond["tokens"]))
            best = jnp.einsum("bke,be->bk", drawn, text).argmax(axis=1)
            drawn = jnp.take_along_axis(drawn, best[:, None, None], axis=1)
        cond |= dict.fromkeys(missing, drawn[:, 0])
    return {f: v for f, v in cond.items() if f in own}
