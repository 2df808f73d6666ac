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
from diffjax.denoisers.chain import check_augmentation
from diffjax.denoisers.clip_guide import NO_CLIP, ClipGuide
from diffjax.denoisers.conditions.base import fields_of
from diffjax.denoisers.conditions.image import MaskedImageCondition, masked_image
from diffjax.denoisers.conditions.low_resolution import LOW_RESOLUTION
from diffjax.denoisers.model import DiffusionModel
from diffjax.diffusion.gradient_guidance import ClipGuidance, guide_by_gradient
from diffjax.diffusion.guidance import Guidance
from diffjax.diffusion.levels import broadcast_to
from diffjax.diffusion.recipes import CompiledRecipe, make_recipe
from diffjax.diffusion.sampling import initial_noise
from diffjax.diffusion.sampling import sample as run_sampler
from diffjax.generate.known import Known, hold_estimate, hold_known
from diffjax.generate.stages import augmented, by_field, draw_base, from_stages
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
      **recipe: see `diffusion.recipes.make_recipe`; and `clip_guide`, the `ClipGuide` of its
        `clip_guidance`, which reads `clip_tokens` of `cond`, or where there are none its `tokens`.
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
      recipe: options of `make_recipe`, and `clip_guide`.
      known: the image to start from, or to hold to; None for neither.
      strength: share in [0, 1] of the grid's steps that are taken, the last ones.
      trajectory: whether states `[T + 1, B, ...]` and estimates are returned in place of samples.
    """
    if known is None and strength < 1:
        raise ValueError(f"strength={strength} needs an image to start from")
    recipe = dict(recipe)
    guide: ClipGuide | None = recipe.pop("clip_guide", None)
    choice = make_recipe(**recipe)
    check_augmentation(model.conditions, choice.augmentation)
    plan = choice.plan(model.schedule, strength)
    own, tokens = _clip_tokens(model, cond)
    guide = _checked_guide(model, choice.clip, guide, tokens) if choice.clip.on else None
    # Scales are numbers of the plan; what is left says which branches there are.
    choices = (choice.guidance.static, choice.clip.static)
    static = (model, choices, plan.rows.stochastic, trajectory, "sample")
    texts = None if guide is None else (guide, tokens)
    args = (variables, seed, index, own, negative, noise, known, texts)
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(args)):
        return _draw(*static, plan, *args)  # the caller compiles
    return _compiled_draw()(*static, plan, *args)


def _clip_tokens(model: DiffusionModel, cond: Any) -> tuple[Any, Any]:
    """`cond` without what a CLIP alone reads of it, and the ids of the texts that it reads."""
    if not isinstance(cond, Mapping):
        return cond, cond if model.fields == ["tokens"] else None
    own = {field: value for field, value in cond.items() if field != "clip_tokens"}
    return own or None, cond.get("clip_tokens", cond.get("tokens"))


def _checked_guide(
    model: DiffusionModel, choices: ClipGuidance, guide: ClipGuide | None, tokens: Any
) -> ClipGuide:
    """Raises ValueError where a CLIP cannot guide the model, or has no texts."""
    if guide is None:
        raise ValueError(NO_CLIP.format(choices.scale))
    guide.check(model.space, choices)
    if tokens is None:
        raise ValueError(
            "clip_guidance moves images towards texts: give `tokens`, or `clip_tokens` of the "
            "CLIP's own tokenizer"
        )
    return guide


@cache
def _compiled_draw() -> Callable[..., Any]:
    return jax.jit(_draw, static_argnums=(0, 1, 2, 3, 4), compiler_options=compiler_options())


def _draw(
    model: DiffusionModel,
    choices: tuple[Guidance, ClipGuidance],
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
    texts: tuple[ClipGuide, Array] | None = None,
) -> Any:
    guidance, clip = choices[0].scaled(plan.scales), choices[1].scaled(plan.clip_scale)
    keys = per_row(stream(root(seed), stream_name), index)
    if noise is None:
        noise = initial_noise(1.0, keys, model.shape)
    elif noise.shape != (len(index), *model.shape):
        raise ValueError(f"noise {noise.shape} of samples {(len(index), *model.shape)}")
    z = plan.std * noise
    masks = [c for c in model.conditions if isinstance(c, MaskedImageCondition)]
    if known is not None and known.mask is not None and masks:
        seen = masked_image(known.image, known.mask)
        cond = {**_beside_masks(model, cond, masks), **{c.field: seen for c in masks}}
    cond = from_stages(_draw, model, variables, seed, index, cond)
    noisy = per_row(stream(root(seed), f"{stream_name} {LOW_RESOLUTION}"), index)
    cond = augmented(model, plan.augmentation, noisy, cond)
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
    if texts is not None:
        guide, tokens = texts
        cuts = jax.vmap(lambda key: stream(key, "cutouts"))(keys)
        wanted = (guide.texts(tokens), cuts)
        fit = guide.log_likelihood(model.space, variables.frozen, clip, *wanted)
        denoise = guide_by_gradient(denoise, fit, clip.scale)
    if known is not None and known.mask is not None and any(c.holds for c in masks):
        denoise = hold_estimate(denoise, clean, model.space.shrink_mask(known.mask))
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


def _beside_masks(model: DiffusionModel, cond: Any, masks: list[MaskedImageCondition]) -> Any:
    """`cond` by field, where it is the array of the only one beside the masked image, or None."""
    if isinstance(cond, Mapping):
        return cond
    fields = [f for f in fields_of(model.conditions) if f not in {c.field for c in masks}]
    return {} if cond is None else {fields[0]: cond}


def sample_base(
    model: DiffusionModel, variables: Variables, seed: Array, index: Array, cond: Any = None
) -> Array:
    """The low-resolution images `[B, h, w, C] float32` in [-1, 1] that `sample` with the same
    arguments makes its images of, drawn by the stages before the model.

    Raises:
      ValueError: a model without a base.
    """
    if model.base is None:
        raise ValueError("the model has no base, so its low-resolution images are given")
    return draw_base(_draw, model, variables, seed, index, by_field(model, cond))
