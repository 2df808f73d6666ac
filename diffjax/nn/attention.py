"""Attention: the softmax kernel chosen by backend, and the blocks that U-Nets use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.typing import DTypeLike

from diffjax.nn.cpu import fence
from diffjax.nn.initialisers import Init, parts
from diffjax.nn.linear import Dense
from diffjax.nn.normalisation import GroupNorm, LayerNorm

_FUSED = ContextVar("fused", default=True)


@contextmanager
def plain_attention() -> Iterator[None]:
    """Attention that is traced within is made of plain operations, on a GPU in half precision too.

    So networks are differentiated forwards there: cuDNN's kernel has no tangent map.
    """
    before = _FUSED.set(False)
    try:
        yield
    finally:
        _FUSED.reset(before)


def attend(
    query: Array,
    key: Array,
    value: Array,
    mask: Array | None = None,
    *,
    causal: bool = False,
    bias: Array | None = None,
    scale: float | None = None,
) -> Array:
    """softmax(scale q k^T + bias) v for `query [B, L, N, D]`, `key`, `value [B, S, N, D]`.

    `mask [B, S] bool`, or `[B, L, S]` of each query's own, is False where a key must not be seen;
    `causal` hides from query i the keys after i. `bias [1, N, L, S]` is by default 0, `scale`
    1 / sqrt(D). The softmax is taken in float32.
    On a GPU in half precision this is cuDNN's fused kernel, but with a bias or within
    `plain_attention`; `jax.nn.dot_product_attention` never picks it by itself.
    """
    full = None
    if mask is not None:
        each = mask[:, None, None, :] if mask.ndim == 2 else mask[:, None]
        full = jnp.broadcast_to(each, (query.shape[0], 1, query.shape[1], key.shape[1]))
    return jax.nn.dot_product_attention(
        query,
        key,
        value,
        bias,
        full,
        scale=scale,
        is_causal=causal,
        implementation=_implementation(query) if bias is None else "xla",
    )


def _implementation(query: Array) -> Literal["xla", "cudnn"]:
    half = query.dtype in (jnp.bfloat16, jnp.float16)
    width = query.shape[-1]
    fits = half and width % 8 == 0 and width <= 128
    return "cudnn" if fits and _FUSED.get() and jax.default_backend() == "gpu" else "xla"


def split_heads(x: Array, heads: int) -> Array:
    """`[B, L, N * D] -> [B, L, N, D]`."""
    if x.shape[-1] % heads:
        raise ValueError(f"{x.shape[-1]} channels do not divide into {heads} attention heads")
    return x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads)


def count_heads(channels: int, num_heads: int, head_channels: int | None) -> int:
    """Heads of a layer: `channels / head_channels` where that is given, else `num_heads`."""
    return num_heads if head_channels is None else max(1, channels // head_channels)


class SpatialAttention(nn.Module):
    """Self-attention over the pixels of `x [B, H, W, C]`, with the residual added.

    x -> skip_scale (x + proj(attend(qkv(GN(x))))), Ho et al. 2020, appendix B. Keys and values of
    a `context [B, S, D]`, where one is given, stand beside the pixels' own under one softmax
    (Nichol et al. 2021, GLIDE); `mask [B, S] bool` is False at padding.
    """

    heads: int
    groups: int
    eps: float
    init_family: Init
    min_channels: int = 1
    skip_scale: float = 1.0
    dtype: DTypeLike = "float32"

    @nn.compact
    def __call__(self, x: Array, context: Array | None = None, mask: Array | None = None) -> Array:
        b, h, w, c = x.shape
        init = self.init_family
        kinds = {"bias_init": init.bias, "dtype": self.dtype}
        y = GroupNorm(self.groups, self.eps, self.min_channels, name="norm")(x)
        qkv = Dense(3 * c, kernel_init=init.qkv, name="qkv", **kinds)(y.reshape(b, h * w, c))
        q, k, v = (split_heads(z, self.heads) for z in jnp.split(qkv, 3, axis=-1))
        if context is not None:
            pair = parts(init.kernel, 2)
            kv = Dense(2 * c, kernel_init=pair, name="context_kv", **kinds)(context)
            more = (split_heads(z, self.heads) for z in jnp.split(kv, 2, axis=-1))
            k, v = (jnp.concatenate(both, axis=1) for both in zip(more, (k, v), strict=True))
            if mask is not None:
                mask = jnp.pad(mask, ((0, 0), (0, h * w)), constant_values=True)
        y = attend(q, k, v, mask).reshape(b, h, w, c)
        y = Dense(c, kernel_init=init.final, dtype=self.dtype, name="proj")(y)
        return fence((x + y) * jnp.asarray(self.skip_scale, x.dtype))


class SpatialCrossAttention(nn.Module):
    """Pixels of `x [B, H, W, C]` attend to `context [B, S, D]`, with the residual added.

    `mask [B, S] bool` is False at padding. The closing layer starts at zero, so a network that
    gains a context starts as the one without.
    """

    heads: int
    groups: int
    eps: float
    init_family: Init
    min_channels: int = 1
    skip_scale: float = 1.0
    dtype: DTypeLike = "float32"

    @nn.compact
    def __call__(self, x: Array, context: Array, mask: Array | None) -> Array:
        b, h, w, c = x.shape
        init = self.init_family
        kinds = {"kernel_init": init.kernel, "use_bias": False, "dtype": self.dtype}
        y = GroupNorm(self.groups, self.eps, self.min_channels, name="norm")(x)
        context = LayerNorm(1e-5, name="norm_tokens")(context.astype(self.dtype))
        q = split_heads(Dense(c, name="query", **kinds)(y.reshape(b, h * w, c)), self.heads)
        k = split_heads(Dense(c, name="key", **kinds)(context), self.heads)
        v = split_heads(Dense(c, name="value", **kinds)(context), self.heads)
        y = attend(q, k, v, mask).reshape(b, h, w, c)
        y = Dense(c, kernel_init=init.final, dtype=self.dtype, name="proj")(y)
        return fence((x + y) * jnp.asarray(self.skip_scale, x.dtype))
