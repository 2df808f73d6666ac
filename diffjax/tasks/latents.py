"""The frozen codec of latent diffusion: images in and out of the space that diffusion sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from diffjax.keys import Rng, normal
from diffjax.models.autoencoder import Autoencoder, Posterior
from diffjax.tasks.base import Params


def awaited(network: nn.Module, *inputs: Any, **static: Any) -> Params:
    """The variables of a frozen network before they are given: NaN, so that a run to which nobody
    gives them stops at its first step."""
    init = lambda *x: network.init(jax.random.key(0), *x, **static)  # noqa: E731
    shapes = jax.eval_shape(init, *inputs)
    return jax.tree.map(lambda s: jnp.full(s.shape, jnp.nan, s.dtype), shapes)


@dataclass(frozen=True)
class Latents:
    """Attributes:
    codec: the autoencoder; its variables are `frozen["codec"]`.
    cached: batches hold the codec's moments in place of images (`moments_shape`).
    """

    codec: Autoencoder
    cached: bool = False

    def init(self, image_shape: tuple[int, ...]) -> Params:
        """The codec's variables, `awaited`, by its name."""
        h, w, _ = self.shape(image_shape)
        f = self.codec.factor
        image = jnp.zeros((1, h * f, w * f, self.codec.image_channels))
        return {"codec": awaited(self.codec, image)}

    def shape(self, image_shape: tuple[int, ...]) -> tuple[int, int, int]:
        """(h, w, C) of the latents of a batch's `image`s.

        Raises:
          ValueError: images that the codec cannot take.
        """
        h, w, channels = image_shape
        c, f = self.codec.latent_channels, self.codec.factor
        gaussian = self.codec.bottleneck == "kl"
        if self.cached:
            if channels != c * (1 + gaussian):
                raise ValueError(
                    f"the data hold latents of {channels} channels, but the codec's moments have "
                    f"{c * (1 + gaussian)}: they were made by another codec"
                )
            return h, w, c
        if channels != self.codec.image_channels or h % f or w % f:
            raise ValueError(
                f"images of shape {image_shape}, but the codec takes {self.codec.image_channels} "
                f"channels and sides that are multiples of {f}"
            )
        return h // f, w // f, c

    def moments(self, frozen: Params, image: Array) -> Array:
        """What is kept of `image [B, H, W, 3]` in [-1, 1]: mean and log variance of its posterior
        `[B, h, w, 2 C] float32`, or under "vq" what is to be quantised, `[B, h, w, C]`."""
        z: Any = self.codec.apply(frozen["codec"], image, method="encode")
        z = jnp.concatenate(z, axis=-1) if isinstance(z, Posterior) else z
        return jax.lax.stop_gradient(z)

    def draw(self, moments: Array, rng: Rng | None) -> Array:
        """Latents `[B, h, w, C] float32` as diffusion sees them: a sample of the posterior, each
        row by its own key, or without `rng` its mode."""
        z: Any = moments
        if self.codec.bottleneck == "kl":
            z = Posterior(*jnp.split(moments, 2, axis=-1))
            if rng is None:
                z = z.mean
            else:
                z = z.sample(normal(rng.rowwise("posterior"), z.mean.shape[1:]))
        return (z - self.codec.shift) * self.codec.scale

    def encode(self, frozen: Params, image: Array, rng: Rng | None) -> Array:
        """Latents of a batch's `image`s, whether these are images or moments."""
        return self.draw(image if self.cached else self.moments(frozen, image), rng)

    def decode(self, frozen: Params, z: Array) -> Array:
        """Images `[B, H, W, 3] float32` in [-1, 1] of latents."""
        out: Any = self.codec.apply(frozen["codec"], z, method="from_latents")
        return jnp.clip(out, -1.0, 1.0)
