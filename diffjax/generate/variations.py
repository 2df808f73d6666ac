"""What a decoder of image embeddings can do with a picture (Ramesh et al. 2022, sections 3 and 4).

A picture has two codes: its embedding, which says what it shows, and the noise that DDIM inversion
under that embedding leads to, which holds all the rest. Drawn from both without fresh noise it
comes back; every function here changes one of them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.compiler import compiler_options
from diffjax.denoisers.conditions.text import TextCondition
from diffjax.denoisers.model import DiffusionModel
from diffjax.diffusion.interpolation import between
from diffjax.generate.embeddings import encode_image, image_condition, text_direction
from diffjax.generate.invert import encode
from diffjax.generate.sample import sample
from diffjax.task import Variables


def codes(
    model: DiffusionModel, variables: Variables, image: Array, **recipe: Any
) -> tuple[Array, Array]:
    """The embedding `[B, E]` and the noise `[B, *shape]` of `image [B, H, W, 3]`.

    Args:
      recipe: options of `make_recipe`, of ddim; both ways should be of one recipe.
    """
    static = tuple(sorted(_ddim(recipe).items()))
    return _codes(model, static)(variables, jnp.asarray(image))


@lru_cache(maxsize=32)
def _codes(model: DiffusionModel, recipe: tuple[tuple[str, Any], ...]) -> Callable[..., Any]:
    def both(variables: Variables, image: Array) -> tuple[Array, Array]:
        embedding = encode_image(model, variables, image)
        cond = conditions_of(model, embedding)
        return embedding, encode(model, variables, image, cond, **dict(recipe))

    return jax.jit(both, compiler_options=compiler_options())


def conditions_of(model: DiffusionModel, embedding: Array) -> dict[str, Array]:
    """What a decoder draws by where there is an image embedding `[B, E]` and no text: the fields of
    its text conditions are empty captions.

    Raises:
      ValueError: another condition, whose null nobody gave.
    """
    found = {image_condition(model).field: embedding}
    for c in model.conditions:
        if isinstance(c, TextCondition):
            blank = found.get(c.field, jnp.zeros((len(embedding), c.tower.row), jnp.int32))
            found[c.field] = c.null(blank)
        elif c.field not in found:
            raise ValueError(
                f"this model also draws by {c.field}: variations are of decoders that read image "
                "embeddings, and texts"
            )
    return found


def variations(
    model: DiffusionModel,
    variables: Variables,
    seed: Array,
    index: Array,
    image: Array,
    eta: float = 1.0,
    **recipe: Any,
) -> Array:
    """Images `[B, H, W, 3] float32` that share what is essential of `image [B, H, W, 3]`: its
    embedding and its noise, and fresh noise on the way (section 3.1).

    Args:
      seed, index: of the fresh noise, see `sample`.
      eta: of ddim; 0 gives the image back, the larger the more is new.
      recipe: of ddim, see `make_recipe`.
    """
    embedding, noise = codes(model, variables, image, **recipe)
    cond = conditions_of(model, embedding)
    return sample(model, variables, seed, index, cond, noise=noise, **_ddim(recipe), eta=eta)


def interpolate(
    model: DiffusionModel,
    variables: Variables,
    image: Array,
    other: Array,
    shares: Array,
    **recipe: Any,
) -> Array:
    """`[B, T, H, W, 3] float32`, from `image` to `other [B, H, W, 3]` at `shares [T]` of the way:
    embeddings and noises both on their great circles (section 3.2)."""
    shares = jnp.asarray(shares, jnp.float32)
    (za, na), (zb, nb) = (codes(model, variables, x, **recipe) for x in (image, other))
    noise = between(na.reshape(len(na), -1), nb.reshape(len(nb), -1), shares, "spherical")
    embedding = between(za, zb, shares, "spherical")
    return _drawn(model, variables, embedding, noise.reshape(*noise.shape[:2], *na.shape[1:]),
                  recipe)  # fmt: skip


def text_difference(
    model: DiffusionModel,
    variables: Variables,
    image: Array,
    tokens: Array,
    source: Array,
    shares: Array,
    **recipe: Any,
) -> Array:
    """`[B, T, H, W, 3] float32`: `image`, its embedding turned towards the difference of two texts,
    its noise kept (section 3.3).

    Args:
      tokens, source: `[B, L] int32`, what it is to show and what it shows.
      shares: `[T]`, of the way from the embedding to the difference; 0.25 to 0.5 in the paper.
    """
    shares = jnp.asarray(shares, jnp.float32)
    embedding, noise = codes(model, variables, image, **recipe)
    turned = between(
        embedding, text_direction(model, variables, tokens, source), shares, "spherical"
    )
    noise = jnp.broadcast_to(noise[:, None], (*turned.shape[:2], *noise.shape[1:]))
    return _drawn(model, variables, turned, noise, recipe)


def _drawn(
    model: DiffusionModel,
    variables: Variables,
    embedding: Array,
    noise: Array,
    recipe: dict[str, Any],
) -> Array:
    """Images of `embedding [B, T, E]` and `noise [B, T, *shape]`, without fresh noise."""
    rows, columns = embedding.shape[:2]
    flat = partial(jnp.reshape, shape=(rows * columns, -1))
    cond = conditions_of(model, flat(embedding))
    noise = noise.reshape(rows * columns, *noise.shape[2:])
    index = jnp.arange(rows * columns, dtype=jnp.int32)
    images = sample(model, variables, jnp.int32(0), index, cond, noise=noise, **_ddim(recipe))
    return images.reshape(rows, columns, *images.shape[1:])


def _ddim(recipe: dict[str, Any]) -> dict[str, Any]:
    return {"sampler": "ddim", **recipe}
