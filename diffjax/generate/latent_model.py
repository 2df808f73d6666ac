"""Latent diffusion put together: a text tower, a conditional network and a codec, as functions.

Everything is pure: a `LatentModel` holds networks and choices, never their values, and a function
of it jits once for every recipe of the same options.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from diffjax import keys as keys_lib
from diffjax.diffusion.guidance import classifier_free
from diffjax.diffusion.levels import Level, over, take
from diffjax.diffusion.predictions import Prediction
from diffjax.diffusion.process import network_output
from diffjax.diffusion.recipes import Recipe
from diffjax.diffusion.samplers import SAMPLERS
from diffjax.diffusion.sampling import Denoiser, Estimate, sample, start_std
from diffjax.diffusion.schedules import Schedule
from diffjax.models.autoencoder import Autoencoder

# "unet", "vae", "text" -> the variables of each network.
Variables = Mapping[str, Any]


@dataclass(frozen=True)
class LatentModel:
    """Text to image in a latent space (Rombach et al. 2022).

    Attributes:
      unet: `(z, noise_input [B], tokens=[B, L, D]) -> [B, h, w, C]`.
      vae: the codec, whose latents `z` has.
      text: the tower, `(ids [B, L], pooled=False, skip=...) -> [B, L, D]`.
      schedule, prediction: of the U-Net.
      skip: blocks left out at the end of the tower; its final norm stays (Stable Diffusion 2: 1,
        or 0 where the weights come without that block). "CLIP skip" n of other programs is n - 1
        more.
    """

    unet: nn.Module
    vae: Autoencoder
    text: nn.Module
    schedule: Schedule
    prediction: Prediction
    skip: int = 0

    def encode_text(self, variables: Variables, ids: Array) -> Array:
        """What the U-Net attends to, `[B, L, D] float32`, of token ids `[B, L] int32`."""
        out: Any = self.text.apply(variables["text"], ids, pooled=False, skip=self.skip)
        return out

    def encode(self, variables: Variables, image: Array, noise: Array | None = None) -> Array:
        """Latents `[B, h, w, C]` of `image [B, H, W, 3]`: the mode, or a draw by `noise`."""
        out: Any = self.vae.apply(variables["vae"], image, noise, method="to_latents")
        return out

    def decode(self, variables: Variables, z: Array) -> Array:
        """Images `[B, H, W, 3] float32` in [-1, 1]."""
        out: Any = self.vae.apply(variables["vae"], z, method="from_latents")
        return jnp.clip(out, -1.0, 1.0)

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """`(h, w, C)` of an image of `height` times `width` pixels.

        Raises:
          ValueError: the networks cannot halve it so often.
        """
        f = self.vae.factor
        levels = len(getattr(self.unet, "channel_mult", (1,)))
        step = f * 2 ** (levels - 1)
        if height % step or width % step or min(height, width) < step:
            raise ValueError(
                f"an image of {height} x {width} pixels: both must be multiples of {step}"
            )
        return height // f, width // f, self.vae.latent_channels

    def denoiser(
        self,
        variables: Variables,
        prompt: Array,
        negative: Array,
        recipe: Recipe,
        seen: Array | None = None,
    ) -> Denoiser:
        """The guided denoiser of prompts.

        Args:
          variables: of the networks.
          prompt, negative: token ids `[B, L] int32` of what is wanted, and of the empty text or
            what is not wanted.
          recipe: its guidance is used.
          seen: `[B, h, w, n]`, further channels that the U-Net is shown beside z.
        """
        if prompt.shape != negative.shape:
            raise ValueError(
                f"prompts {prompt.shape} and negative prompts {negative.shape} must be as many, "
                "and as long"
            )
        both = self.encode_text(variables, jnp.concatenate([prompt, negative]))
        wanted, unwanted = ((tokens, seen) for tokens in jnp.split(both, 2))

        def estimate(z: Array, level: Level, cond: tuple[Array, Array | None]) -> Estimate:
            tokens, beside = cond
            network = partial(self.unet.apply, variables["unet"], tokens=tokens)
            out = network_output(network, z, level, self.schedule, self.prediction, beside)
            return Estimate(self.prediction.to_x(out, z, level))

        return classifier_free(estimate, wanted, unwanted, recipe.guidance)


def draw_noise(keys: Array, shape: tuple[int, ...]) -> Array:
    """Standard normal noise `[B, *shape]`, that of image n by `keys[n]` alone: its variation."""
    return keys_lib.normal(jax.vmap(lambda k: keys_lib.stream(k, "prior"))(keys), shape)


def run(
    model: LatentModel,
    denoise: Denoiser,
    recipe: Recipe,
    noise: Array,
    keys: Array,
    start: Array | None = None,
    strength: float = 1.0,
) -> Array:
    """Latents `[B, h, w, C]` that a recipe draws.

    Args:
      model: its schedule is used.
      denoise: the estimate of clean latents.
      recipe: sampler, grid and options.
      noise: `[B, h, w, C]`, standard normal.
      keys: `[B]`, of the noise that the sampler adds.
      start: latents to start from, noised to the first level that is visited; None for noise.
      strength: share in [0, 1] of the grid's steps that are taken, the last ones (Meng et al. 2022,
        SDEdit).

    Raises:
      ValueError: a strength outside [0, 1], one that leaves no step, or one without a start.
    """
    if start is None and strength < 1:
        raise ValueError(f"strength={strength} needs an image to start from")
    grid = recipe.make_grid(model.schedule, strength)
    if start is None:
        z = start_std(grid) * noise
    else:
        level = take(grid.t, 0)
        z = over(level.alpha, start) * start + over(level.sigma, start) * noise
    rows = SAMPLERS[recipe.sampler](grid, **recipe.options)
    out: Any = sample(denoise, rows, z, keys)
    return out
