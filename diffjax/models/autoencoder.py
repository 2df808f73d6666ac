"""Latent diffusion's autoencoder: one network, its bottleneck Gaussian or quantised.

Esser et al. 2021 (VQGAN), Rombach et al. 2022, section 3.1. With f = patch 2^(levels - 1), the
usual sizes are f4 `channel_mult=(1, 2, 4)`, f8 `(1, 2, 4, 4)` and f16 `(1, 1, 2, 2, 4)` with
`attention_levels=(4,)`; Stable Diffusion has f8, all of patch 1. A larger `patch` takes the
outermost levels away, as ViT-VQGAN does (Yu et al. 2022, section 3.1): they are most of the
arithmetic.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from diffjax.choices import pick
from diffjax.nn.blocks import Block
from diffjax.nn.convolution import Conv
from diffjax.nn.initialisers import INITS
from diffjax.nn.normalisation import GroupNorm
from diffjax.nn.patches import patchify, unpatchify
from diffjax.nn.quantiser import Quantised, Quantiser
from diffjax.nn.resampling import upsample
from diffjax.nn.resnet import BlockStyle
from diffjax.ranges import (
    Decay,
    Depth,
    Dtype,
    Factor,
    MaybeDepth,
    Pixels,
    Positive,
    Real,
    Vocabulary,
    Width,
)

# What log variances are held to, as in the released models' code.
LOG_VARIANCE = (-30.0, 20.0)


class Posterior(NamedTuple):
    """`q(z | x)`, a diagonal Gaussian over `[B, H / f, W / f, C] float32`; its mode is `mean`."""

    mean: Array
    log_variance: Array

    def sample(self, noise: Array) -> Array:
        """`mean + exp(log_variance / 2) noise` (Kingma & Welling 2014, section 2.4)."""
        return self.mean + jnp.exp(0.5 * self.log_variance) * noise


class Stack(nn.Module):
    """The encoder or the decoder: levels of residual blocks about a middle that attends.

    Attributes:
      out_channels: of the last convolution.
      direction: "down" (encoder: `blocks` per level, halving between) or "up" (decoder: one block
        more per level, doubling between).
      the rest: see `Autoencoder`.
    """

    out_channels: int
    direction: Literal["down", "up"]
    channels: int
    channel_mult: tuple[int, ...]
    blocks: int
    attention_levels: tuple[int, ...]
    style: BlockStyle
    remat: bool

    @nn.compact
    def __call__(self, x: Array) -> Array:
        s, levels = self.style, list(enumerate(self.channel_mult))
        kinds = {"kernel_init": s.init.kernel, "bias_init": s.init.bias}
        x = x.astype(s.dtype)
        if self.direction == "down":
            h = Conv(self.channels, dtype=s.dtype, name="conv_in", **kinds)(x)
            for level, mult in levels:
                if level:
                    down = {"stride": 2, "padding": (0, 1), "dtype": s.dtype, **kinds}
                    h = Conv(h.shape[-1], name=f"down_{level}", **down)(h)
                for i in range(self.blocks):
                    h = self._block(h, f"down_{level}_{i}", mult, level in self.attention_levels)
            h = self._middle(h)
        else:
            width = self.channels * self.channel_mult[-1]
            h = Conv(width, dtype=s.dtype, name="conv_in", **kinds)(x)
            h = self._middle(h)
            for level, mult in reversed(levels):
                if level < len(levels) - 1:
                    wide = Conv(h.shape[-1], dtype=s.dtype, name=f"up_{level}", **kinds)
                    h = wide(upsample(h))
                for i in range(self.blocks + 1):
                    h = self._block(h, f"up_{level}_{i}", mult, level in self.attention_levels)
        norm = (s.groups, s.eps, s.min_channels, True)
        h = GroupNorm(*norm, name="norm_out")(h.astype(jnp.float32))
        return Conv(self.out_channels, name="conv_out", **kinds)(h)

    def _middle(self, h: Array) -> Array:
        h = self._block(h, "mid_0", self.channel_mult[-1], True)
        return self._block(h, "mid_1", self.channel_mult[-1], False)

    def _block(self, h: Array, name: str, mult: int, attends: bool) -> Array:
        # Argument 5 (counting self) is `train`, a Python bool; nothing here depends on it.
        make = nn.remat(Block, static_argnums=(5,)) if self.remat else Block
        block = make(self.channels * mult, self.style, heads=int(attends), name=name)
        return block(h, None, None, None, False)


class Autoencoder(nn.Module):
    """Images `[B, H, W, 3]` in [-1, 1] to latents `[B, H / f, W / f, C]` and back.

    Attributes:
      channels: width of the first convolution; level i has `channels * channel_mult[i]`.
      blocks: residual blocks per level of the encoder; the decoder has one more.
      attention_levels: levels that attend, beside the middle; single heads.
      latent_channels: C.
      image_channels: of the images, 3.
      patch: side of the squares of pixels that the first and last convolutions see as one place;
        f is so many times larger. 1 in every released model.
      bottleneck: "kl", a Gaussian posterior, or "vq", the nearest of `codes` code vectors.
      codes, code_norm, code_decay: of "vq", see `Quantiser`.
      scale, shift: diffusion sees `(z - shift) scale`; Rombach et al. 2022, appendix G, take
        for the scale one over the standard deviation of z.
      norm_groups, norm_eps: of every GroupNorm.
      init_style: a key of `INITS`.
      dtype: of the arithmetic; parameters, moments and images are float32.
      remat: recompute blocks in the backward pass to save memory.
    """

    channels: Width = 128
    channel_mult: tuple[Factor, ...] = (1, 2, 4, 4)
    blocks: Depth = 2
    attention_levels: tuple[MaybeDepth, ...] = ()
    latent_channels: Width = 4
    image_channels: Width = 3
    patch: Pixels = 1
    bottleneck: Literal["kl", "vq"] = "kl"
    codes: Vocabulary = 8192
    code_norm: bool = False
    code_decay: Decay | None = None
    scale: Positive = 0.18215
    shift: Real = 0.0
    norm_groups: Width = 32
    norm_eps: Positive = 1e-6
    init_style: str = "adm"
    dtype: Dtype = "float32"
    remat: bool = False

    def setup(self) -> None:
        gaussian = pick("bottleneck", self.bottleneck, ("kl", "vq")) == "kl"
        init = INITS[pick("init_style", self.init_style, INITS)]
        style = BlockStyle(init, self.norm_groups, self.norm_eps, dtype=self.dtype)
        moments = self.latent_channels * (2 if gaussian else 1)
        levels = (self.channels, self.channel_mult, self.blocks, self.attention_levels)
        self.encoder = Stack(moments, "down", *levels, style, self.remat)
        pixels = self.image_channels * self.patch**2
        self.decoder = Stack(pixels, "up", *levels, style, self.remat)
        kinds = {"kernel": 1, "kernel_init": init.kernel, "bias_init": init.bias}
        self.quant = Conv(moments, **kinds)
        self.post_quant = Conv(self.latent_channels, **kinds)
        if not gaussian:
            self.quantiser = Quantiser(self.codes, self.code_norm, self.code_decay)

    @property
    def factor(self) -> int:
        """f: pixels per latent, along a side."""
        return self.patch * 2 ** (len(self.channel_mult) - 1)

    def __call__(
        self, x: Array, noise: Array | None = None, train: bool = False
    ) -> tuple[Array, Posterior | Quantised]:
        """The reconstruction `[B, H, W, 3] float32` of `x`, and what passed the bottleneck.

        `noise [B, H / f, W / f, C]` draws from the posterior of "kl"; None takes its mode. `train`
        moves codes that are averages.
        """
        z: Any = self.encode(x)
        if isinstance(z, Posterior):
            return self.decode(z.mean if noise is None else z.sample(noise)), z
        quantised = self.quantise(z, train)
        return self.decode(quantised.z), quantised

    def quantise(self, z: Array, train: bool = False) -> Quantised:
        """The codes of "vq" nearest to `z [B, h, w, C]`; `train` moves those that are averages."""
        return self.quantiser(z, train)

    def encode(self, x: Array) -> Posterior | Array:
        """The posterior of "kl"; of "vq", what is to be quantised, `[B, H / f, W / f, C]`."""
        f = self.factor
        if x.ndim != 4 or x.shape[1] % f or x.shape[2] % f or x.shape[3] != self.image_channels:
            raise ValueError(
                f"autoencoder got images of shape {x.shape}; it needs [B, H, W, "
                f"{self.image_channels}] with H and W divisible by {f}"
            )
        p, (b, h, w, _) = self.patch, x.shape
        moments = self.quant(self.encoder(patchify(x, p).reshape(b, h // p, w // p, -1)))
        if self.bottleneck == "vq":
            return moments
        mean, log_variance = jnp.split(moments, 2, axis=-1)
        return Posterior(mean, jnp.clip(log_variance, *LOG_VARIANCE))

    def decode(self, z: Array) -> Array:
        """Images `[B, H, W, 3] float32`, about [-1, 1], of `z [B, H / f, W / f, C]`."""
        if z.ndim != 4 or z.shape[-1] != self.latent_channels:
            raise ValueError(
                f"autoencoder got latents of shape {z.shape}; it needs [B, h, w, "
                f"{self.latent_channels}]"
            )
        y = self.decoder(self.post_quant(z.astype(jnp.float32)))
        return unpatchify(y, y.shape[1], y.shape[2], self.patch)

    def to_latents(self, x: Array, noise: Array | None = None) -> Array:
        """Latents of images `x` as diffusion sees them: their mode or (given `noise`) a sample;
        under "vq" what is to be quantised, `[B, H / f, W / f, C] float32`."""
        z = self.encode(x)
        if isinstance(z, Posterior):
            z = z.mean if noise is None else z.sample(noise)
        return (z - self.shift) * self.scale

    def from_latents(self, z: Array) -> Array:
        """The images of what diffusion has drawn; under "vq" it is quantised first."""
        z = z / self.scale + self.shift
        return self.decode(z if self.bottleneck == "kl" else self.quantise(z).z)
