"""Embeddings of images and texts by a prior's frozen towers."""

from __future__ import annotations

from typing import cast

import jax.numpy as jnp
from jax import Array

from diffjax.denoisers.conditions.base import PARAMS
from diffjax.denoisers.conditions.text import TextCondition
from diffjax.denoisers.prior import EmbeddingModel
from diffjax.task import Variables


def encode_image(model: EmbeddingModel, variables: Variables, image: Array) -> Array:
    """The embeddings `[B, E] float32` that a prior's samples stand for."""
    return model.space.encode(variables.frozen, image)


def encode_text(model: EmbeddingModel, variables: Variables, tokens: Array) -> Array:
    """The embeddings `[B, E] float32` of whole texts by which a prior draws.

    Raises:
      ValueError: it reads none.
    """
    for c in model.conditions:
        if isinstance(c, TextCondition) and c.to in ("vector", "both"):
            x = jnp.zeros((len(tokens), *model.shape))
            got = c.encode(variables.params.get(PARAMS, {}), variables.frozen, tokens, x)
            return cast(Array, got.vector)
    raise ValueError("this prior reads no whole text: give it a text condition with to='both'")
