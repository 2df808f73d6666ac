"""An image that is known, in whole or around a mask, while another is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.denoisers.model import DiffusionModel
from diffjax.diffusion.levels import Level, broadcast_to
from diffjax.diffusion.sampling import Denoiser, Estimate


@partial(jax.tree_util.register_dataclass, data_fields=("image", "mask"), meta_fields=("start",))
@dataclass(frozen=True)
class Known:
    """Attributes:
    image: `[B, H, W, C] float32` in [-1, 1].
    mask: `[B, H, W, 1]` of 0 and 1, 1 where the image is drawn anew; None for no mask.
    start: whether sampling starts from the image, noised to the first level that is visited.
    """

    image: Array
    mask: Array | None = None
    start: bool = True


def make_known(
    model: DiffusionModel, image: Array, mask: Array | None = None, start: bool = True
) -> Known:
    """The known image of a drawing, checked; a mask of grey levels is 1 from a half on.

    Raises:
      ValueError: an image that is not what the model draws, or a mask that does not fit it.
    """
    image = jnp.asarray(image, jnp.float32)
    if image.shape[1:] != model.space.image_shape:
        wanted = ", ".join(map(str, ("B", *model.space.image_shape)))
        raise ValueError(f"images of shape {image.shape}: they must be [{wanted}]")
    if mask is None:
        return Known(image, None, start)
    mask = jnp.asarray(mask)
    if mask.shape != (*image.shape[:3], 1):
        raise ValueError(f"a mask {mask.shape} does not fit images {image.shape}: [B, H, W, 1]")
    return Known(image, (mask >= 0.5).astype(jnp.float32), start)


def hold_estimate(denoise: Denoiser, clean: Array, mask: Array) -> Denoiser:
    """A denoiser whose estimate is `clean` where `mask` is 0 (Nichol et al. 2021, its code)."""

    def inside(z: Array, at: Level, to: Level) -> Estimate:
        x, v = denoise(z, at, to)
        return Estimate(mask * x + (1 - mask) * clean, v)

    return inside


def hold_known(denoise: Denoiser, clean: Array, mask: Array, noise: Array) -> Denoiser:
    """A denoiser that sees `clean` states, noised to the level at hand, where `mask` is 0.

    Samplers treat every element by itself, so nothing of what they make of the known region
    reaches the rest: this is the same as putting it back after every step (Lugmayr et al. 2022,
    eq. 8, without its resampling; always by the same `noise`).
    """

    def inside(z: Array, at: Level, to: Level) -> Estimate:
        held = broadcast_to(at.alpha, z) * clean + broadcast_to(at.sigma, z) * noise
        return denoise(mask * z + (1 - mask) * held, at, to)

    return inside
