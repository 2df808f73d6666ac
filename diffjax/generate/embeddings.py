"""Embeddings of images and texts by the frozen towers of priors and decoders."""

from __future__ import annotations

from typing import cast

import jax.numpy as jnp
from jax import Array

from diffjax.denoisers.conditions.base import PARAMS
from diffjax.denoisers.conditions.image_embedding import ImageEmbeddingCondition
from diffjax.denoisers.conditions.text import TextCondition
from diffjax.denoisers.embeddings import EmbeddingSpace, scaled
from diffjax.denoisers.frozen import variables_of
from diffjax.denoisers.model import DiffusionModel
from diffjax.denoisers.prior import EmbeddingModel
from diffjax.task import Variables


def image_condition(model: EmbeddingModel) -> ImageEmbeddingCondition:
    """The condition by which a decoder reads image embeddings.

    Raises:
      ValueError: it reads none.
    """
    for c in model.conditions:
        if isinstance(c, ImageEmbeddingCondition):
            return c
    raise ValueError(
        "this model reads no image embedding: it needs a condition of type image_embedding"
    )


def encode_image(model: EmbeddingModel, variables: Variables, image: Array) -> Array:
    """The scaled embeddings `[B, E] float32` of images `[B, H, W, 3]`: those that a prior's samples
    stand for, or that a decoder is conditioned by.

    Raises:
      ValueError: a model without image embeddings.
    """
    if isinstance(model.space, EmbeddingSpace):
        return model.space.encode(variables.frozen, image)
    condition = image_condition(model)
    return condition.tower.embed(variables.frozen[condition.name], image)


def encode_text(model: EmbeddingModel, variables: Variables, tokens: Array) -> Array:
    """The embeddings `[B, E] float32` of whole texts by which a prior, or a decoder's prior, draws.

    Raises:
      ValueError: it reads none.
    """
    if isinstance(model, DiffusionModel) and model.prior is not None:
        return encode_text(model.prior, variables_of(variables.frozen["prior"]), tokens)
    for c in model.conditions:
        if isinstance(c, TextCondition) and c.to in ("vector", "both"):
            x = jnp.zeros((len(tokens), *model.shape))
            got = c.encode(variables.params.get(PARAMS, {}), variables.frozen, tokens, x)
            return cast(Array, got.vector)
    raise ValueError(
        "this model has no embedding of a whole text: a prior needs a text condition with "
        "to='both', a decoder a section `prior`"
    )


def text_direction(
    model: DiffusionModel, variables: Variables, tokens: Array, source: Array
) -> Array:
    """`[B, E] float32`: the scaled difference of the embeddings of two texts, from `source` to
    `tokens [B, L]` (Ramesh et al. 2022, section 3.3)."""
    a, b = (scaled(encode_text(model, variables, ids)) for ids in (source, tokens))
    return scaled(b - a)
