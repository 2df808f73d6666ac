"""Transformer blocks: DiT's, modulated by the noise embedding, and the plain pre-norm one."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.typing import DTypeLike

from diffjax.choices import unknown
from diffjax.nn.activations import ACTIVATIONS
from diffjax.nn.attention import attend, split_heads
from diffjax.nn.initialisers import BlockInit, zeros
from diffjax.nn.linear import Dense
from diffjax.nn.normalisation import LayerNorm, layer_norm
from diffjax.nn.partition import constrain_batch


def modulate(x: Array, shift: Array, scale: Array) -> Array:
    """`x [B, L, D] (1 + scale) + shift`, with `scale`, `shift [B, D]`."""
    return x * (1.0 + scale[:, None, :]) + shift[:, None, :]


class Mlp(nn.Module):
    """`[B, L, D] -> [B, L, D]` through `hidden` units and an activation of `ACTIVATIONS`."""

    hidden: int
    activation: str = "gelu_tanh"
    init_family: BlockInit = BlockInit()
    dtype: DTypeLike = "float32"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        init = self.init_family
        kinds = {"bias_init": init.bias, "dtype": self.dtype}
        h = Dense(self.hidden, kernel_init=init.layer1, name="layer1", **kinds)(x)
        if self.activation not in ACTIVATIONS:
            raise unknown("activation", self.activation, ACTIVATIONS)
        h = ACTIVATIONS[self.activation](h)
        return Dense(x.shape[-1], kernel_init=init.layer2, name="layer2", **kinds)(h)


class SelfAttention(nn.Module):
    """`[B, L, D] -> [B, L, D]`; the fused kernel is drawn as one matrix, as torch and timm do.

    `causal`: a token sees itself and those before it. `mask [B, L] bool` is False at padding.
    With `room` for so many tokens a causal sequence may come in parts, call after call: keys and
    values of those before stay in the collection `cache`, and `mask` is `[B, room]`.
    """

    heads: int
    causal: bool = False
    qkv_bias: bool = True
    init_family: BlockInit = BlockInit()
    dtype: DTypeLike = "float32"
    room: int = 0

    @nn.compact
    def __call__(self, x: Array, mask: Array | None = None) -> Array:
        width, init = x.shape[-1], self.init_family
        qkv = Dense(3 * width, self.qkv_bias, init.qkv, dtype=self.dtype, name="qkv")(x)
        q, k, v = (split_heads(z, self.heads) for z in jnp.split(qkv, 3, axis=-1))
        causal = self.causal
        if self.room:
            start = self.variable("cache", "count", jnp.zeros, (), jnp.int32)
            k, v = (self._kept(name, z, start.value) for name, z in (("key", k), ("value", v)))
            place = start.value + jnp.arange(x.shape[1])
            start.value = start.value + x.shape[1]
            before = (jnp.arange(self.room) <= place[:, None])[None]
            mask = before if mask is None else before & mask[:, None, :]
            causal = False  # `before` says it, of the whole sequence.
        y = attend(q, k, v, mask, causal=causal).reshape(x.shape)
        return Dense(width, kernel_init=init.proj, dtype=self.dtype, name="proj")(y)

    def _kept(self, name: str, new: Array, start: Array) -> Array:
        """Keys or values `[B, room, N, D]` of the whole sequence, the `new [B, L, N, D]` among them
        from `start` on."""
        shape = (new.shape[0], self.room, *new.shape[2:])
        kept = self.variable("cache", name, jnp.zeros, shape, new.dtype)
        kept.value = jax.lax.dynamic_update_slice_in_dim(kept.value, new, start, axis=1)
        return kept.value


class CrossAttention(nn.Module):
    """`x [B, L, D]` attends to `context [B, S, E]`; by default the closing layer starts at zero.

    `mask [B, S] bool` is False at padding.
    """

    heads: int
    norm_tokens: bool = True
    qkv_bias: bool = True
    init_family: BlockInit = BlockInit(proj=zeros)
    dtype: DTypeLike = "float32"

    @nn.compact
    def __call__(self, x: Array, context: Array, mask: Array | None) -> Array:
        width, init = x.shape[-1], self.init_family
        context = context.astype(self.dtype)
        if self.norm_tokens:
            context = LayerNorm(1e-6, name="norm_tokens")(context)
        of = (width, self.qkv_bias, init.qkv)
        q = Dense(*of, dtype=self.dtype, name="query")(x)
        k = Dense(*of, dtype=self.dtype, name="key")(context)
        v = Dense(*of, dtype=self.dtype, name="value")(context)
        q, k, v = (split_heads(z, self.heads) for z in (q, k, v))
        y = attend(q, k, v, mask).reshape(x.shape)
        return Dense(width, kernel_init=init.proj, dtype=self.dtype, name="proj")(y)


class DiTBlock(nn.Module):
    """Attention and MLP under adaLN-Zero (Peebles & Xie 2023, section 3.2).

    `x [B, L, D], embedding [B, D]` (after its SiLU). Shifts, scales and gates come from one dense
    layer that starts at zero, so the block starts as the identity. Cross-attention, where
    wanted, sits between the two and is not modulated (as in PixArt-alpha). `mlp_eps` is the
    epsilon of the norm before the MLP; None for `eps`.
    """

    heads: int
    mlp_ratio: float = 4.0
    cross_attention: bool = False
    dropout: float = 0.0
    eps: float = 1e-6
    mlp_eps: float | None = None
    dtype: DTypeLike = "float32"

    @nn.compact
    def __call__(
        self,
        x: Array,
        embedding: Array,
        context: Array | None,
        context_mask: Array | None,
        train: bool,
    ) -> Array:
        width = x.shape[-1]
        x = constrain_batch(x)
        modulation = Dense(6 * width, kernel_init=zeros, dtype=self.dtype, name="modulation")(
            embedding
        )
        shift1, scale1, gate1, shift2, scale2, gate2 = jnp.split(modulation, 6, axis=-1)
        drop = nn.Dropout(self.dropout, deterministic=not train)

        y = modulate(layer_norm(x, self.eps), shift1, scale1)
        y = SelfAttention(self.heads, dtype=self.dtype, name="attention")(y)
        x = x + gate1[:, None, :] * drop(y)
        if self.cross_attention and context is not None:
            cross = CrossAttention(self.heads, dtype=self.dtype, name="cross")
            x = x + cross(x, context, context_mask)
        eps = self.eps if self.mlp_eps is None else self.mlp_eps
        y = modulate(layer_norm(x, eps), shift2, scale2)
        y = Mlp(int(width * self.mlp_ratio), dtype=self.dtype, name="mlp")(y)
        return constrain_batch(x + gate2[:, None, :] * drop(y))


class PreNormBlock(nn.Module):
    """x + attention(LN(x)), then x + MLP(LN(x)), for `x [B, L, D]` (Radford et al. 2019, sec. 2.3).

    `mask [B, L] bool` is False at padding, which no token attends to.

    Attributes:
      heads: of the attention, which is `causal` or not.
      hidden: width of the MLP.
      activation: a key of `ACTIVATIONS`.
      eps: of the layer norms.
      room: tokens of a sequence that comes in parts, see `SelfAttention`; 0 for a whole one.
    """

    heads: int
    hidden: int
    activation: str
    eps: float
    causal: bool = False
    init_family: BlockInit = BlockInit()
    dtype: DTypeLike = "float32"
    room: int = 0

    @nn.compact
    def __call__(self, x: Array, mask: Array | None = None) -> Array:
        kinds = {"init_family": self.init_family, "dtype": self.dtype}
        x = constrain_batch(x)
        y = LayerNorm(self.eps, name="norm1")(x)
        attention = SelfAttention(
            self.heads, self.causal, room=self.room, name="attention", **kinds
        )
        x = x + attention(y, mask)
        y = LayerNorm(self.eps, name="norm2")(x)
        return constrain_batch(x + Mlp(self.hidden, self.activation, name="mlp", **kinds)(y))


def pre_norm_blocks(
    x: Array, depth: int, remat: bool, mask: Array | None = None, **choices: Any
) -> Array:
    """`x [B, L, D]` through `depth` blocks, called `block_0` ..., of the module that calls this.

    `remat` recomputes blocks in the backward pass; `mask` and `choices` are those of
    `PreNormBlock`.
    """
    make = nn.remat(PreNormBlock) if remat else PreNormBlock
    for i in range(depth):
        x = make(**choices, name=f"block_{i}")(x, mask)
    return x
