"""Latent diffusion's attention: transformer blocks over the pixels of a feature map."""

from __future__ import annotations

import jax
from flax import linen as nn
from jax import Array
from jax.typing import DTypeLike

from diffjax.nn.cpu import fence
from diffjax.nn.initialisers import BlockInit, Init
from diffjax.nn.linear import Dense
from diffjax.nn.normalisation import GroupNorm, LayerNorm
from diffjax.nn.transformer import CrossAttention, SelfAttention

# Whatever the epsilon of the residual blocks is.
GROUP_EPS, LAYER_EPS = 1e-6, 1e-5


class GatedMlp(nn.Module):
    """`[B, L, D] -> [B, L, D]`: W2 (a gelu(b)) with [a, b] = W1 x (Shazeer 2020, eq. 6: GEGLU).

    `hidden` is the width of a; the GELU is the one by the error function.
    """

    hidden: int
    init_family: BlockInit = BlockInit()
    dtype: DTypeLike = "float32"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        init = self.init_family
        kinds = {"bias_init": init.bias, "dtype": self.dtype}
        h = Dense(2 * self.hidden, kernel_init=init.layer1, name="layer1", **kinds)(x)
        value, gate = h[..., : self.hidden], h[..., self.hidden :]
        h = value * jax.nn.gelu(gate, approximate=False)
        return Dense(x.shape[-1], kernel_init=init.layer2, name="layer2", **kinds)(h)


class TransformerBlock(nn.Module):
    """Self-attention, attention to `context [B, S, E]` (where given), gated MLP of four widths;
    each is x + f(LN(x)), for `x [B, L, D]` (Rombach et al. 2022, appendix E.2.1)."""

    heads: int
    init_family: BlockInit = BlockInit()
    dtype: DTypeLike = "float32"

    @nn.compact
    def __call__(self, x: Array, context: Array | None, context_mask: Array | None) -> Array:
        kinds = {"init_family": self.init_family, "dtype": self.dtype}
        y = LayerNorm(LAYER_EPS, name="norm1")(x)
        x = x + SelfAttention(self.heads, qkv_bias=False, name="attention", **kinds)(y)
        if context is not None:
            y = LayerNorm(LAYER_EPS, name="norm2")(x)
            cross = CrossAttention(
                self.heads, norm_tokens=False, qkv_bias=False, name="cross", **kinds
            )
            x = x + cross(y, context, context_mask)
        y = LayerNorm(LAYER_EPS, name="norm3")(x)
        return x + GatedMlp(4 * x.shape[-1], name="mlp", **kinds)(y)


class SpatialTransformer(nn.Module):
    """x + proj_out(blocks(proj_in(GN(x)))) for `x [B, H, W, C]`.

    The projections are 1x1 convolutions in Stable Diffusion 1 and dense layers in 2: one thing.
    """

    heads: int
    depth: int
    groups: int
    init_family: Init
    dtype: DTypeLike = "float32"

    @nn.compact
    def __call__(self, x: Array, context: Array | None, context_mask: Array | None) -> Array:
        b, h, w, c = x.shape
        init = self.init_family
        kernel = init.kernel
        family = BlockInit(kernel, kernel, kernel, kernel, init.bias)
        kinds = {"bias_init": init.bias, "dtype": self.dtype}
        y = GroupNorm(self.groups, GROUP_EPS, name="norm")(x).reshape(b, h * w, c)
        y = Dense(c, kernel_init=kernel, name="proj_in", **kinds)(y)
        for i in range(self.depth):
            block = TransformerBlock(self.heads, family, self.dtype, name=f"block_{i}")
            y = block(y, context, context_mask)
        y = Dense(c, kernel_init=init.final, name="proj_out", **kinds)(y)
        return fence(x + y.reshape(b, h, w, c))
