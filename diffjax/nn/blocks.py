"""Blocks of U-Nets and convolutional autoencoders: a residual block, then attention."""

from __future__ import annotations

from flax import linen as nn
from jax import Array

from diffjax.nn.attention import SpatialAttention, SpatialCrossAttention
from diffjax.nn.partition import constrain_batch
from diffjax.nn.resnet import BlockStyle, ResBlock
from diffjax.nn.spatial_transformer import SpatialTransformer


class Block(nn.Module):
    """A residual block, then (`heads` > 0) self-attention and cross-attention (`cross`).

    Attention is one layer each, or one of both (`style.added_kv`), or transformer blocks of both
    (`style.transformer_depth`).
    """

    features: int
    style: BlockStyle
    heads: int = 0
    cross: bool = False
    resample: str | None = None

    @nn.compact
    def __call__(
        self,
        x: Array,
        embedding: Array | None,
        context: Array | None,
        context_mask: Array | None,
        train: bool,
    ) -> Array:
        s = self.style
        x = constrain_batch(x)
        h = ResBlock(self.features, s, self.resample, name="resnet")(x, embedding, train)
        if not self.cross:
            context = None
        if self.heads and s.transformer_depth:
            shared = (s.transformer_depth, s.groups, s.init, s.dtype)
            transformer = SpatialTransformer(self.heads, *shared, name="transformer")
            return constrain_batch(transformer(h, context, context_mask))
        shared = (s.groups, s.eps, s.init, s.min_channels, s.skip_scale, s.dtype)
        seen = (context, context_mask) if s.added_kv and context is not None else ()
        if self.heads:
            h = SpatialAttention(self.heads, *shared, name="attention")(h, *seen)
        if self.heads and context is not None and not s.added_kv:
            h = SpatialCrossAttention(self.heads, *shared, name="cross")(h, context, context_mask)
        return constrain_batch(h)
