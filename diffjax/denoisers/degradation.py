"""Low-resolution images of high-resolution ones, and what upsamplers are trained to bear of them:
blur, other filters, noise."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import Array

# Filters that images are made smaller by, all widened to the factor: the mean of each square, and
# the triangle and Keys' cubic (a = -1/2) of `jax.image.resize`.
KERNELS = ("area", "linear", "cubic")


def reduced(image: Array, factor: int, kernel: str = "area") -> Array:
    """`image [B, H, W, C]` as `[B, H / factor, W / factor, C]` by a filter of `KERNELS`."""
    b, h, w, c = image.shape
    small = (h // factor, w // factor)
    if kernel == "area":
        return image.reshape(b, small[0], factor, small[1], factor, c).mean(axis=(2, 4))
    return jax.image.resize(image, (b, *small, c), kernel, antialias=True)


def enlarged(image: Array, size: tuple[int, int], kernel: str = "cubic") -> Array:
    """`image [B, h, w, C]` brought to `size` by "linear" or "cubic" interpolation (Keys 1981,
    a = -1/2), as Pillow's bilinear and bicubic do; a network in latents may be smaller than it."""
    shape = (len(image), *size, image.shape[-1])
    return jax.image.resize(image, shape, kernel, antialias=True)


def blurred(image: Array, std: Array, most: float) -> Array:
    """`image [B, H, W, C]` under a Gaussian of standard deviation `std [B]` pixels, edges repeated;
    0 leaves a row untouched.

    Args:
      most: the greatest `std`; the filter ends at three of it.
    """
    reach = max(1, math.ceil(3 * most))
    place = jnp.arange(-reach, reach + 1, dtype=jnp.float32)
    taps = jnp.exp(-0.5 * jnp.square(place[None] / jnp.maximum(std, 1e-3)[:, None]))
    taps = taps / taps.sum(axis=1, keepdims=True)
    for axis in (1, 2):
        pad = [(reach, reach) if a == axis else (0, 0) for a in range(4)]
        wide, size = jnp.pad(image, pad, mode="edge"), image.shape[axis]
        parts = (jax.lax.slice_in_dim(wide, k, k + size, axis=axis) for k in range(2 * reach + 1))
        image = sum(taps[:, k, None, None, None] * part for k, part in enumerate(parts))  # type: ignore[assignment]
    return image


def noised(image: Array, level: Array, noise: Array) -> Array:
    """Conditioning augmentation: `cos(pi s / 2) image + sin(pi s / 2) noise` at the level s [B] in
    [0, 1], the cosine schedule's forward process (Ho et al. 2021, section 4.1; Saharia et al. 2022,
    section 2.4); level 0 leaves the image untouched, and of level 1 nothing is left of it."""
    turn = 0.5 * jnp.pi * level.reshape(-1, *[1] * (image.ndim - 1))
    return jnp.cos(turn) * image + jnp.sin(turn) * noise
