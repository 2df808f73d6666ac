"""unCLIP from a text to a large image: prior, decoder, upsampler (Ramesh et al. 2022).

Each stage is drawn alone as well, so that an embedding or a small image may be another's: that of a
picture, of a mixture of two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.choices import pick
from diffjax.denoisers.model import DiffusionModel
from diffjax.denoisers.unclip import UnCLIPInputs
from diffjax.diffusion.recipes import recipe_over
from diffjax.generate.sample import sample
from diffjax.keys import stage_seed
from diffjax.task import Params, Variables

PRIOR, DECODER, UPSAMPLER = "prior", "decoder", "upsampler"
STAGES = (PRIOR, DECODER, UPSAMPLER)
# What another sampler than a stage's own takes over of its recipe.
KEPT = ("steps", "spacing", "offset", "final", "guidance", "clip", "clip_range")


@dataclass(frozen=True, eq=False)
class UnCLIP:
    """Attributes:
    inputs: the networks between the stages.
    models: stage -> its model, conditioned by what `inputs` makes of the stages before it.
    variables: stage -> its variables.
    text, projection: variables of the networks of `inputs`.
    mean, std: `[E]` of image embeddings, which the prior draws standardised.
    recipes: stage -> what it is drawn by unless a user says otherwise, options of `make_recipe`.
    """

    inputs: UnCLIPInputs
    models: Mapping[str, DiffusionModel]
    variables: Mapping[str, Variables]
    text: Params
    projection: Params
    mean: Array
    std: Array
    recipes: Mapping[str, Mapping[str, Any]]


def draw_unclip(
    model: UnCLIP,
    tokens: Array,
    negative: Array,
    seed: Any,
    index: Array,
    noise: Mapping[str, Array] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> Array:
    """Images `[B, H, W, C] float32` of texts, in [-1, 1].

    Args:
      model: the stages.
      tokens: `[B, L] int32`, texts.
      negative: `[B, L] int32`, those that guidance moves away from: the empty one, as trained.
      seed: see `sample`; index: `[B] int32`. Image n is a function of (seed, index n, texts n).
      noise: stage -> what it starts from, `[B, ...]` standard normal, in place of its own.
      options: stage -> options of its recipe (steps, guidance, ...) over its own.

    Raises:
      ValueError: a stage that there is not, or an option that does not fit its stage.
    """
    noise, options = noise or {}, options or {}
    for name in (*noise, *options):
        pick("stage of unCLIP", name, STAGES)
    own = {stage: {"noise": noise.get(stage), **options.get(stage, {})} for stage in STAGES}
    drawn = (seed, index)
    embedding = draw_embedding(model, tokens, negative, *drawn, **own[PRIOR])
    small = draw_small(model, embedding, tokens, negative, *drawn, **own[DECODER])
    return draw_large(model, small, *drawn, **own[UPSAMPLER])


def draw_embedding(
    model: UnCLIP, tokens: Array, negative: Array, seed: Any, index: Array, **drawn: Any
) -> Array:
    """Image embeddings `[B, E] float32` of texts, by the prior; arguments as `draw_unclip`, `drawn`
    being its stage's noise and options."""
    made = model.inputs.of_prior
    wanted, other = (made(_read(model.inputs, model.text, ids)) for ids in (tokens, negative))
    return _sample(model, PRIOR, seed, index, (wanted, other), **drawn) * model.std + model.mean


def draw_small(
    model: UnCLIP,
    embedding: Array,
    tokens: Array,
    negative: Array,
    seed: Any,
    index: Array,
    **drawn: Any,
) -> Array:
    """Images `[B, h, w, C] float32` of image embeddings `[B, E]` and texts, by the decoder, in
    [-1, 1]; other arguments as `draw_embedding`. Guidance moves away from the learned null in place
    of the embedding, and from the texts `negative`."""
    texts = (_read(model.inputs, model.text, ids) for ids in (tokens, negative))
    wanted, other = (
        _of_decoder(model.inputs, model.projection, embedding, text, dropped)
        for text, dropped in zip(texts, (False, True), strict=True)
    )
    return jnp.clip(_sample(model, DECODER, seed, index, (wanted, other), **drawn), -1.0, 1.0)


def draw_large(model: UnCLIP, small: Array, seed: Any, index: Array, **drawn: Any) -> Array:
    """Images `[B, H, W, C] float32` of small ones `[B, h, w, C]`, by the upsampler, in [-1, 1];
    other arguments as `draw_embedding`."""
    height, width, _ = model.models[UPSAMPLER].shape
    given = model.inputs.of_upsampler(small, (height, width))
    return jnp.clip(_sample(model, UPSAMPLER, seed, index, (given, None), **drawn), -1.0, 1.0)


_read = jax.jit(UnCLIPInputs.read, static_argnums=0)
_of_decoder = jax.jit(UnCLIPInputs.of_decoder, static_argnums=(0, 4))


def _sample(
    model: UnCLIP,
    stage: str,
    seed: Any,
    index: Array,
    given: tuple[Any, Any],
    noise: Array | None = None,
    **options: Any,
) -> Array:
    """A stage's samples, by what it is `given`, and what guidance moves away from."""
    network, variables = model.models[stage], model.variables[stage]
    recipe = recipe_over(model.recipes[stage], options, KEPT)
    words = stage_seed(seed, stage)
    return sample(network, variables, words, index, *given, noise, **recipe)
