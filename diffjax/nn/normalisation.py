"""Group, layer, root-mean-square and batch normalisation; statistics in float32 in any dtype."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.nn.initializers import Initializer

from diffjax.nn.cpu import affine, moments
from diffjax.nn.initialisers import ones, zeros


class GroupNorm(nn.Module):
    """Group normalisation of `x [B, H, W, C]` with an affine map (Wu & He 2018, eq. 1 to 3).

    `groups` is capped so that each holds at least `min_channels` (Karras et al. 2022 keep 4).
    A conditional `scale`, `shift [B, C]`, as in ADM's GN(x) (1 + scale) + shift, costs nothing:
    everything ends in one multiplication and one addition per element. `activate` appends a SiLU.
    """

    groups: int
    eps: float
    min_channels: int = 1
    activate: bool = False

    @nn.compact
    def __call__(self, x: Array, scale: Array | None = None, shift: Array | None = None) -> Array:
        channels = x.shape[-1]
        gamma = self.param("scale", ones, (channels,))
        beta = self.param("bias", zeros, (channels,))
        groups = max(1, min(self.groups, channels // self.min_channels))
        if channels % groups:
            raise ValueError(
                f"GroupNorm {self.name}: {channels} channels do not divide into {groups} groups; "
                "set norm_groups to a divisor of every level's channels"
            )
        flat = x.reshape(x.shape[0], -1, channels)
        mean, var = _group_moments(flat, groups)
        a = gamma * jax.lax.rsqrt(var + self.eps)
        b = beta - mean * a
        if scale is not None and shift is not None:
            gain = 1.0 + scale.astype(jnp.float32)
            a, b = a * gain, b * gain + shift.astype(jnp.float32)
        y: Any = affine(flat, a, b, self.activate)
        return y.reshape(x.shape)


def _group_moments(x: Array, groups: int) -> tuple[Array, Array]:
    """Mean and variance of `x [B, N, C]` over N and each group, given per channel `[B, C]`.

    Moments are taken per channel first, which needs no transposition, and mixed afterwards.
    """
    b, _, channels = x.shape
    first, second = (m.reshape(b, groups, -1).mean(axis=-1) for m in moments(x))
    # Rounding can make the difference slightly negative where the group is constant.
    var = jnp.maximum(second - jnp.square(first), 0.0)
    repeat = channels // groups
    return jnp.repeat(first, repeat, axis=-1), jnp.repeat(var, repeat, axis=-1)


def layer_norm(x: Array, eps: float) -> Array:
    """`x [..., D]` to mean 0 and variance 1 along D, without parameters."""
    y = x.astype(jnp.float32)
    y = y - y.mean(axis=-1, keepdims=True)
    y = y * jax.lax.rsqrt(jnp.square(y).mean(axis=-1, keepdims=True) + eps)
    return y.astype(x.dtype)


class LayerNorm(nn.Module):
    """`layer_norm` followed by a learned scale and bias `[D]`."""

    eps: float

    @nn.compact
    def __call__(self, x: Array) -> Array:
        scale = self.param("scale", ones, (x.shape[-1],))
        bias = self.param("bias", zeros, (x.shape[-1],))
        y = layer_norm(x.astype(jnp.float32), self.eps) * scale + bias
        return y.astype(x.dtype)


class RMSNorm(nn.Module):
    """`x [..., D]` over its root mean square along D, times a learned scale `[D]` (Zhang & Sennrich
    2019, eq. 4): a layer norm that neither subtracts the mean nor adds a bias."""

    eps: float

    @nn.compact
    def __call__(self, x: Array) -> Array:
        scale = self.param("scale", ones, (x.shape[-1],))
        y = x.astype(jnp.float32)
        y = y * jax.lax.rsqrt(jnp.square(y).mean(axis=-1, keepdims=True) + self.eps)
        return (y * scale).astype(x.dtype)


class BatchNorm(nn.Module):
    """Batch normalisation of `x [B, H, W, C]` with an affine map (Ioffe & Szegedy 2015, alg. 1).

    In training the statistics are those of the whole batch that the program sees (of all devices
    under a mesh), and the collection `batch_stats` must be mutable: it takes
    `momentum old + (1 - momentum) new`, the new variance unbiased, as torch does. Otherwise the
    running statistics are used.
    """

    momentum: float
    eps: float
    scale_init: Initializer = ones

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        channels = x.shape[-1]
        scale = self.param("scale", self.scale_init, (channels,))
        bias = self.param("bias", zeros, (channels,))
        mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,))
        var = self.variable("batch_stats", "var", jnp.ones, (channels,))
        flat = x.reshape(1, -1, channels)
        now, spread = mean.value, var.value
        if train:
            now, second = (m[0] for m in moments(flat))
            spread = jnp.maximum(second - jnp.square(now), 0.0)
            if not self.is_initializing():
                count, new = flat.shape[1], 1.0 - self.momentum
                mean.value = self.momentum * mean.value + new * now
                var.value = self.momentum * var.value + new * spread * (count / max(count - 1, 1))
        a = scale * jax.lax.rsqrt(spread + self.eps)
        y: Any = affine(flat, a[None], (bias - now * a)[None], False)
        return y.reshape(x.shape)
