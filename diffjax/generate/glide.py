"""GLIDE from a text to a large image, or from an image and its mask: base, then upsampler (Nichol
et al. 2021).

Each is a diffusion model of its own conditions: the text, the small image, the image around a mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.image import resize

from diffjax.choices import pick
from diffjax.denoisers.model import DiffusionModel
from diffjax.diffusion.recipes import recipe_over
from diffjax.diffusion.sampling import initial_noise
from diffjax.generate.inpaint import inpaint
from diffjax.generate.sample import sample
from diffjax.generate.unclip import KEPT
from diffjax.keys import per_row, root, stage_seed, stream
from diffjax.task import Variables

BASE, UPSAMPLER = "base", "upsampler"
STAGES = (BASE, UPSAMPLER)


@dataclass(frozen=True, eq=False)
class Glide:
    """Attributes:
    models: stage -> its model; the upsampler's reads `cond_image`.
    variables: stage -> its variables.
    recipes: stage -> what it is drawn by unless a user says otherwise, options of `make_recipe`.
    temperature: of the noise that the upsampler starts from; below 1 its images are smoother.
    """

    models: Mapping[str, DiffusionModel]
    variables: Mapping[str, Variables]
    recipes: Mapping[str, Mapping[str, Any]]
    temperature: float = 0.997


def draw_glide(
    model: Glide,
    tokens: Array,
    seed: Any,
    index: Array,
    negative: Array | None = None,
    noise: Mapping[str, Array] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    image: Array | None = None,
    mask: Array | None = None,
) -> Array:
    """Images `[B, H, W, 3] float32` of texts, in [-1, 1].

    Args:
      model: the stages.
      tokens: `[B, L] int32`, texts.
      seed: see `sample`; index: `[B] int32`. Image n is a function of (seed, index n, texts n).
      negative: `[B, L] int32`, texts that guidance moves away from; by default the empty one.
      noise: stage -> what it starts from, `[B, ...]` standard normal, in place of its own.
      options: stage -> options of its recipe (steps, guidance, ...) over its own.
      image: `[B, H, W, 3]` in [-1, 1], of the upsampler's size, to be inpainted; with it
      mask: `[B, h, w, 1]`, of the base's size, 1 where to draw anew.

    Raises:
      ValueError: a stage that there is not, or whatever does not fit its stage.
    """
    noise, options = noise or {}, options or {}
    for name in (*noise, *options):
        pick("stage of GLIDE", name, STAGES)
    if (image is None) != (mask is None):
        raise ValueError("inpainting needs both an image and a mask")
    own = {stage: {"noise": noise.get(stage), **options.get(stage, {})} for stage in STAGES}
    drawn = {"negative": negative, "image": image, "mask": mask}
    small = draw_base(model, tokens, seed, index, **drawn, **own[BASE])
    return draw_upsampled(model, small, tokens, seed, index, **drawn, **own[UPSAMPLER])


def draw_base(model: Glide, tokens: Array, seed: Any, index: Array, **drawn: Any) -> Array:
    """Images `[B, h, w, 3] float32` of texts, in [-1, 1]; arguments as `draw_glide`, with its
    stage's noise and options."""
    return _draw(model, BASE, {"tokens": tokens}, seed, index, **drawn)


def draw_upsampled(
    model: Glide, small: Array, tokens: Array, seed: Any, index: Array, **drawn: Any
) -> Array:
    """Images `[B, H, W, 3] float32` of small ones `[B, h, w, 3]` and their texts, in [-1, 1]; other
    arguments as `draw_base`. The small ones are rounded to 256 levels, as in training."""
    rounded = jnp.round((small + 1) * 127.5) / 127.5 - 1
    given = {"tokens": tokens, "cond_image": rounded}
    return _draw(model, UPSAMPLER, given, seed, index, **drawn)


def _draw(
    model: Glide,
    stage: str,
    cond: Mapping[str, Array],
    seed: Any,
    index: Array,
    negative: Array | None = None,
    image: Array | None = None,
    mask: Array | None = None,
    noise: Array | None = None,
    **options: Any,
) -> Array:
    network, variables = model.models[stage], model.variables[stage]
    recipe = recipe_over(model.recipes[stage], options, KEPT)
    words = stage_seed(seed, stage)
    if stage == UPSAMPLER:
        if noise is None:
            # The samples' own, see `sample`.
            noise = initial_noise(1.0, per_row(stream(root(words), "sample"), index), network.shape)
        noise = model.temperature * noise
    unwanted = None if negative is None else {"tokens": negative}
    if image is None or mask is None:
        found = sample(network, variables, words, index, cond, unwanted, noise, **recipe)
    else:
        small = model.models[BASE].shape[:2]
        if mask.shape[1:3] != small:
            raise ValueError(
                f"a mask {mask.shape} of GLIDE's base is [B, {small[0]}, {small[1]}, 1]"
            )
        shape = (len(image), *network.shape)
        known = jnp.clip(resize(image, shape, "cubic"), -1, 1)
        hidden = resize(mask, (*shape[:3], 1), "nearest")
        found = inpaint(
            network, variables, words, index, known, hidden, cond, unwanted, noise=noise, **recipe
        )
    return jnp.clip(found, -1.0, 1.0)
