"""Inpainting: by masking, with any network, or by a network that sees the mask.

A mask is 1 where the image is drawn anew and 0 where it is kept.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from diffjax.diffusion.levels import Level, over
from diffjax.diffusion.recipes import Recipe
from diffjax.diffusion.sampling import Denoiser, Estimate
from diffjax.generate.image2image import check_image
from diffjax.generate.latent_model import LatentModel, Variables, run


def inpaint(
    model: LatentModel,
    variables: Variables,
    image: Array,
    mask: Array,
    prompt: Array,
    negative: Array,
    noise: Array,
    keys: Array,
    recipe: Recipe,
    strength: float = 1.0,
) -> Array:
    """Images `[B, H, W, 3] float32` in [-1, 1]; arguments as `image2image`.

    A U-Net of C channels is held to the image around the mask at every level; one of 2 C + 1
    (Stable Diffusion's inpainting weights) sees the mask and the masked image's latents.

    Args:
      mask: `[B, H, W, 1]`, 1 where to draw anew; latents take the corner of their pixels.
      strength: below 1, what lies under the mask is started from, too.

    Raises:
      ValueError: a mask that does not fit, or a U-Net of other channels.
    """
    check_image(image, noise, model)
    if mask.shape != (*image.shape[:3], 1):
        raise ValueError(f"a mask {mask.shape} does not fit images {image.shape}: [B, H, W, 1]")
    f, c = model.vae.factor, noise.shape[-1]
    mask = (mask >= 0.5).astype(jnp.float32)
    small = mask[:, ::f, ::f]
    channels = variables["unet"]["params"]["conv_in"]["kernel"].shape[2]
    start = model.encode(variables, image)
    if channels == c:
        denoise = model.denoiser(variables, prompt, negative, recipe)
        denoise = held(denoise, start, small, noise)
    elif channels == 2 * c + 1:
        around = model.encode(variables, image * (1 - mask))
        seen = jnp.concatenate([small, around], axis=-1)
        denoise = model.denoiser(variables, prompt, negative, recipe, seen)
    else:
        raise ValueError(
            f"a U-Net of {channels} channels inpaints neither by masking ({c}) nor by what it "
            f"sees ({2 * c + 1})"
        )
    begin = start if strength < 1 else None
    z = run(model, denoise, recipe, noise, keys, begin, strength)
    if channels == c:
        z = small * z + (1 - small) * start
    return model.decode(variables, z)


def held(denoise: Denoiser, known: Array, mask: Array, noise: Array) -> Denoiser:
    """A denoiser that sees `known` latents, noised to the level at hand, where `mask` is 0.

    Samplers treat every element by itself, so nothing of what they make of the known region
    reaches the rest: this is the same as putting it back after every step (Lugmayr et al. 2022,
    eq. 8, without its resampling; always by the same `noise`).
    """

    def inside(z: Array, level: Level) -> Estimate:
        told = over(level.alpha, z) * known + over(level.sigma, z) * noise
        return denoise(mask * z + (1 - mask) * told, level)

    return inside
