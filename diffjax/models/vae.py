"""Encoder and decoder of a variational autoencoder (Kingma & Welling 2014), by configuration."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.typing import DTypeLike

from diffjax.choices import LINEN, build
from diffjax.nn.convolution import Conv
from diffjax.nn.initialisers import torch_bias, torch_kernel, zeros
from diffjax.nn.linear import Dense
from diffjax.nn.normalisation import GroupNorm
from diffjax.nn.partition import constrain_batch
from diffjax.nn.resampling import upsample
from diffjax.ranges import Decay, Depth, Dtype, Exponent, MaybeDepth, Pixels, Positive, Width

KINDS: dict[str, Any] = {"kernel_init": torch_kernel, "bias_init": torch_bias}


class MLPStack(nn.Module):
    """`x [B, n] -> [B, width]`: `depth` dense layers, each with a SiLU; depth 0 is x itself."""

    width: int
    depth: int
    dropout: float
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        x = constrain_batch(x.astype(self.dtype))
        for i in range(self.depth):
            x = jax.nn.silu(Dense(self.width, dtype=self.dtype, name=f"dense_{i}", **KINDS)(x))
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return x


class ConvLayer(nn.Module):
    """`x [B, H, W, C] -> [B, H / stride, W / stride, width]`: convolution, GroupNorm, SiLU."""

    width: int
    groups: int
    eps: float
    stride: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kinds = {"dtype": self.dtype, **KINDS}
        h = Conv(self.width, stride=self.stride, padding=(1, 1), name="conv", **kinds)(x)
        return constrain_batch(GroupNorm(self.groups, self.eps, activate=True, name="norm")(h))


class MLPEncoder(nn.Module):
    """`image [B, ...] -> [B, outputs] float32` by dense layers alone; depth 0 is linear."""

    outputs: Width
    width: Width = 256
    depth: MaybeDepth = 2
    dropout: Decay = 0.0
    dtype: Dtype = "float32"

    @nn.compact
    def __call__(self, image: Array, train: bool = False) -> Array:
        flat = image.reshape(len(image), -1)
        h = MLPStack(self.width, self.depth, self.dropout, self.dtype, name="stack")(flat, train)
        return Dense(self.outputs, kernel_init=zeros, name="out")(h.astype(jnp.float32))


class MLPDecoder(nn.Module):
    """`z [B, D] -> [B, *shape] float32` by dense layers alone; depth 0 is linear."""

    shape: tuple[Pixels, ...]
    width: Width = 256
    depth: MaybeDepth = 2
    dropout: Decay = 0.0
    dtype: Dtype = "float32"

    @nn.compact
    def __call__(self, z: Array, train: bool = False) -> Array:
        h = MLPStack(self.width, self.depth, self.dropout, self.dtype, name="stack")(z, train)
        out = Dense(math.prod(self.shape), name="out", **KINDS)(h.astype(jnp.float32))
        return out.reshape(len(z), *self.shape)


class ConvEncoder(nn.Module):
    """`image [B, H, W, C] -> [B, outputs] float32`: convolutions, then two dense layers.

    Attributes:
      channels: width of each level; a convolution of stride 2 lies between levels.
      blocks: convolutions per level.
      hidden: width of the dense layer.
      dropout: rate before the last layer.
    """

    outputs: Width
    channels: tuple[Width, ...] = (32, 64)
    blocks: Depth = 1
    hidden: Width = 128
    dropout: Decay = 0.0
    norm_groups: Width = 8
    norm_eps: Positive = 1e-5
    dtype: Dtype = "float32"

    @nn.compact
    def __call__(self, image: Array, train: bool = False) -> Array:
        _check_levels(image.shape[1:], self.channels)
        norm = (self.norm_groups, self.norm_eps)
        h = constrain_batch(image.astype(self.dtype))
        for level, width in enumerate(self.channels):
            for i in range(self.blocks):
                stride = 2 if level and not i else 1
                h = ConvLayer(width, *norm, stride, self.dtype, name=f"down_{level}_{i}")(h)
        flat = h.reshape(len(h), -1)
        h = MLPStack(self.hidden, 1, self.dropout, self.dtype, name="stack")(flat, train)
        return Dense(self.outputs, kernel_init=zeros, name="out")(h.astype(jnp.float32))


class ConvDecoder(nn.Module):
    """`z [B, D] -> [B, *shape] float32`: `ConvEncoder` backwards, repetition for stride.

    Attributes: see `ConvEncoder`; `channels` in the same order, the image's own level first.
    """

    shape: tuple[Pixels, ...]
    channels: tuple[Width, ...] = (32, 64)
    blocks: Depth = 1
    hidden: Width = 128
    dropout: Decay = 0.0
    norm_groups: Width = 8
    norm_eps: Positive = 1e-5
    dtype: Dtype = "float32"

    @nn.compact
    def __call__(self, z: Array, train: bool = False) -> Array:
        _check_levels(self.shape, self.channels)
        norm = (self.norm_groups, self.norm_eps)
        step = 2 ** (len(self.channels) - 1)
        low = (self.shape[0] // step, self.shape[1] // step, self.channels[-1])
        h = MLPStack(self.hidden, 1, self.dropout, self.dtype, name="stack")(z, train)
        h = Dense(math.prod(low), dtype=self.dtype, name="low", **KINDS)(h).reshape(len(z), *low)
        for level, width in reversed(list(enumerate(self.channels))):
            for i in range(self.blocks):
                h = ConvLayer(width, *norm, 1, self.dtype, name=f"up_{level}_{i}")(h)
            h = upsample(h) if level else h
        return Conv(self.shape[2], name="out", **KINDS)(h.astype(jnp.float32))


def _check_levels(shape: tuple[int, ...], channels: tuple[int, ...]) -> None:
    step = 2 ** (len(channels) - 1)
    if len(shape) != 3 or shape[0] % step or shape[1] % step:
        raise ValueError(
            f"a convolutional VAE of {len(channels)} levels got images {tuple(shape)}; it needs "
            f"(H, W, C) with H and W divisible by {step} (or shorter channels)"
        )


ENCODERS: dict[str, type[nn.Module]] = {"mlp": MLPEncoder, "conv": ConvEncoder}
DECODERS: dict[str, type[nn.Module]] = {"mlp": MLPDecoder, "conv": ConvDecoder}


class VAE(nn.Module):
    """q(z | x) and the parameters of p(x | z); the latent is a vector.

    Attributes:
      encoder: `image [B, ...] -> [B, 2 latent]`.
      decoder: `z [B, latent] -> [B, ...]`, with scales by "pixel" of twice the image's channels.
      latent: D, dimensions of z.
      scale: what is learned of the likelihood's scale: "none", one number ("shared"), or one for
        each "pixel".
      log_scale: where the learned log scale starts.
    """

    encoder: nn.Module
    decoder: nn.Module
    latent: int
    scale: Literal["none", "shared", "pixel"] = "none"
    log_scale: float = 0.0

    def setup(self) -> None:
        if self.scale == "shared":
            start = nn.initializers.constant(self.log_scale)
            self.shared = self.param("log_scale", start, ())

    def encode(self, image: Array, train: bool = False) -> tuple[Array, Array]:
        """Mean and log variance of q(z | x), `[B, latent] float32` each."""
        mean, log_var = jnp.split(self.encoder(image, train), 2, axis=-1)
        return mean, log_var

    def decode(self, z: Array, train: bool = False) -> tuple[Array, Array | None]:
        """Location `[B, ...] float32` and log scale, which broadcasts to it, or None."""
        out = self.decoder(z, train)
        if self.scale == "pixel":
            location, log_scale = jnp.split(out, 2, axis=-1)
            return location, log_scale + self.log_scale
        return out, self.shared if self.scale == "shared" else None

    def __call__(self, image: Array, train: bool = False) -> tuple[Array, Array | None]:
        """`decode` of the posterior's mean."""
        return self.decode(self.encode(image, train)[0], train)


def build_vae(
    *,
    image_shape: tuple[Pixels, ...],
    latent: Width,
    encoder: Mapping[str, Any],
    decoder: Mapping[str, Any],
    scale: Literal["none", "shared", "pixel"] = "none",
    log_scale: Exponent = 0.0,
    dtype: Dtype = "float32",
) -> VAE:
    """The network of a config's `model=dict(type="vae", ...)`.

    Args:
      image_shape: (H, W, C) of the data.
      encoder, decoder: sections themselves, `dict(type="conv", ...)` or `dict(type="mlp", ...)`.
      latent, scale, log_scale: see `VAE`.
      dtype: of the arithmetic of both; parameters and outputs are float32.

    Raises:
      ValueError: a key that a part lacks or needs; the nearest valid one is named.
    """
    if latent < 1:
        raise ValueError(f"model.latent={latent} must be at least 1")
    shape = tuple(image_shape)
    if scale == "pixel":
        shape = (*shape[:-1], 2 * shape[-1])
    own = {
        "encoder": (ENCODERS, encoder, {"outputs": 2 * latent, "dtype": dtype}),
        "decoder": (DECODERS, decoder, {"shape": shape, "dtype": dtype}),
    }
    parts = {}
    for name, (table, section, inferred) in own.items():
        if not hasattr(section, "keys"):  # a ConfigDict is no Mapping
            raise ValueError(f"model.{name} is a section, dict(type='conv', ...), not {section!r}")
        for key in inferred:
            if key in section:
                raise ValueError(f"model.{name}.{key} follows from the rest: leave it out")
        parts[name] = build(table, f"model.{name}", {**section, **inferred}, LINEN)
    return VAE(latent=latent, scale=scale, log_scale=log_scale, **parts)
