"""GLIDE's text transformer, trained with the U-Net that reads it (Nichol et al. 2021, sec. 2.3)."""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from diffjax.models.text import text_init
from diffjax.models.text_masks import check_text
from diffjax.nn.attention import count_heads
from diffjax.nn.normalisation import LayerNorm
from diffjax.nn.partition import constrain_batch
from diffjax.nn.transformer import pre_norm_blocks
from diffjax.ranges import Depth, Dtype, Length, Positive, Ratio, Vocabulary, Whole, Width


class GlideText(nn.Module):
    """`tokens [B, context] int32 -> [B, context, width] float32`; pooled `[B, width]`, the last.

    All tokens see all. Nothing is masked: where a text has ended stands a learned embedding of that
    place in the place of a token's, which attention reads as any other. So the empty text, by which
    classifier-free guidance moves away, is a row of these.

    Attributes:
      width, depth, mlp_ratio: of the transformer.
      heads: of its attention; None for 64 channels each, as released.
      context: tokens of a row, its padding among them.
      vocab: number of tokens; an id beyond it gives NaN.
      end: id that ends a text: in its place and in all after it stands the padding. None shows
        rows as they are.
      final_norm: whether the output is normalised.
      activation, eps, dtype, remat: see `ViT`.
    """

    vocab: Vocabulary
    width: Width = 512
    depth: Depth = 16
    heads: Width | None = None
    mlp_ratio: Ratio = 4.0
    context: Length = 128
    end: Whole | None = None
    final_norm: bool = True
    activation: str = "gelu"
    eps: Positive = 1e-5
    dtype: Dtype = "float32"
    remat: bool = False

    @nn.compact
    def __call__(self, tokens: Array, *, pooled: bool = False, skip: int = 0) -> Array:
        """Features of every token of the last block but `skip`, or of the last token alone."""
        check_text("GLIDE's text transformer", tokens, self.depth, skip)
        if tokens.shape[1] != self.context:
            raise ValueError(
                f"GLIDE's text transformer of {self.context} tokens got tokens of shape "
                f"{tokens.shape}: fill rows up"
            )
        normal = nn.initializers.normal
        table = self.param("table", normal(0.02), (self.vocab, self.width))
        positions = self.param("positions", normal(0.01), (self.context, self.width))
        h = jnp.take(table, tokens, axis=0) + positions
        if self.end is not None:
            padding = self.param("padding", normal(0.02), (self.context, self.width))
            seen = jnp.cumsum(tokens == self.end, axis=1) == 0
            h = jnp.where(seen[..., None], h, padding)
        h = pre_norm_blocks(
            constrain_batch(h).astype(self.dtype),
            self.depth - skip,
            self.remat,
            heads=count_heads(self.width, self.heads or 1, None if self.heads else 64),
            hidden=round(self.width * self.mlp_ratio),
            activation=self.activation,
            eps=self.eps,
            init_family=text_init(self.width, self.depth),
            dtype=self.dtype,
        )
        h = h.astype(jnp.float32)
        h = LayerNorm(self.eps, name="norm_out")(h) if self.final_norm else h
        return h[:, -1] if pooled else h
