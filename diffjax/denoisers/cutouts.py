"""Random cut-outs of images, of the size that an image tower takes: what the CLIP of CLIP-guided
diffusion sees (Crowson 2021; Disco Diffusion)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.image import resize, scale_and_translate


def whole(image: Array, size: int) -> Array:
    """`image [B, H, W, C]` brought to `[B, size, size, C]`."""
    return resize(image, (len(image), size, size, image.shape[-1]), "linear", antialias=True)


def cut_out(image: Array, keys: Array, count: int, size: int, power: float) -> Array:
    """Squares of `image [B, H, W, C]`, `[B, count, size, size, C]`, each brought to `size`.

    A side is `least + u^power (most - least)` pixels for u uniform, `most` the image's shorter side
    and `least` the smaller of that and `size`; the place is uniform. Row i depends on `keys[i]`
    alone.
    """
    height, width, channels = image.shape[1:]
    most = min(height, width)
    least = min(most, size)

    def one(image: Array, key: Array) -> Array:
        u, down, across = jax.random.uniform(key, (3,))
        side = jnp.floor(least + u**power * (most - least))
        corner = jnp.stack([jnp.floor(down * (height - side + 1)),
                            jnp.floor(across * (width - side + 1))])  # fmt: skip
        scale = jnp.full(2, size / side)
        shape = (size, size, channels)
        return scale_and_translate(image, shape, (0, 1), scale, -corner * scale, "linear")

    def row(image: Array, key: Array) -> Array:
        own = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(count))
        return jax.vmap(one, in_axes=(None, 0))(image, own)

    return jax.vmap(row)(image, keys)
