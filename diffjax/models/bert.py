"""BERT's encoder: a text tower of learned positions and post-norm blocks (Devlin et al. 2019)."""

from __future__ import annotations

from typing import Literal

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.typing import DTypeLike

from diffjax.models.text_masks import check_text, seen_tokens
from diffjax.nn.initialisers import BlockInit
from diffjax.nn.linear import Dense
from diffjax.nn.normalisation import LayerNorm
from diffjax.nn.partition import constrain_batch
from diffjax.nn.transformer import Mlp, SelfAttention
from diffjax.ranges import Count, Depth, Dtype, Length, Positive, Vocabulary, Whole, Width

normal = nn.initializers.normal(0.02)
BERT_INIT = BlockInit(normal, normal, normal, normal)


class PostNormBlock(nn.Module):
    """LN(x + attention(x)), then LN(x + MLP(x)), for `x [B, L, D]`, `mask [B, L]` False at padding
    (Vaswani et al. 2017, section 3.1); attributes as of `PreNormBlock`."""

    heads: int
    hidden: int
    activation: str
    eps: float
    init_family: BlockInit = BlockInit()
    dtype: DTypeLike = "float32"

    @nn.compact
    def __call__(self, x: Array, mask: Array | None = None) -> Array:
        kinds = {"init_family": self.init_family, "dtype": self.dtype}
        x = constrain_batch(x)
        y = SelfAttention(self.heads, name="attention", **kinds)(x, mask)
        x = LayerNorm(self.eps, name="norm1")(x + y)
        y = Mlp(self.hidden, self.activation, name="mlp", **kinds)(x)
        return constrain_batch(LayerNorm(self.eps, name="norm2")(x + y))


class BertEncoder(nn.Module):
    """`tokens [B, L] int32, mask [B, L] bool -> [B, L, width] float32`, L at most `context`.

    Every token sees all that `mask` does not hide; it is False at padding, and by default where the
    token is `pad`. Features at padding mean nothing. All tokens are of the first sentence.

    Attributes:
      vocab: rows of the table of tokens; an id beyond it gives NaN.
      width, depth, heads: of the transformer.
      hidden: width of the MLPs.
      context: the longest text, in tokens with its start and end.
      types: rows of the table of sentences, of which the first is read.
      activation: of the MLPs; "gelu" by the error function in every published model.
      eps: of the norms.
      pad: the id that fills rows up.
      dtype, remat: see `ViT`.
    """

    vocab: Vocabulary = 30522
    width: Width = 768
    depth: Depth = 12
    heads: Width = 12
    hidden: Width = 3072
    context: Length = 512
    types: Count = 2
    activation: Literal["gelu", "gelu_tanh", "relu"] = "gelu"
    eps: Positive = 1e-12
    pad: Whole = 0
    dtype: Dtype = "float32"
    remat: bool = False

    @nn.compact
    def __call__(
        self, tokens: Array, mask: Array | None = None, *, pooled: bool = False, skip: int = 0
    ) -> Array:
        """Features of every token, of the last block but `skip`; with `pooled` those of the first,
        `[B, width]`, through BERT's own projection and tanh.

        Raises:
          ValueError: tokens of another shape or more of them than `context`.
        """
        check_text("BERT", tokens, self.depth, skip)
        length = tokens.shape[1]
        if length > self.context:
            raise ValueError(f"BERT of {self.context} positions got texts of {length} tokens")
        mask = seen_tokens(tokens, self.pad, mask)
        table = self.param("table", normal, (self.vocab, self.width))
        positions = self.param("positions", normal, (self.context, self.width))
        types = self.param("types", normal, (self.types, self.width))
        h = jnp.take(table, tokens, axis=0) + types[0] + positions[:length]
        h = LayerNorm(self.eps, name="norm_in")(constrain_batch(h)).astype(self.dtype)
        make = nn.remat(PostNormBlock) if self.remat else PostNormBlock
        for i in range(self.depth - skip):
            block = make(
                self.heads,
                self.hidden,
                self.activation,
                self.eps,
                BERT_INIT,
                self.dtype,
                name=f"block_{i}",
            )
            h = block(h, mask)
        h = h.astype(jnp.float32)
        if not pooled:
            return h
        return jnp.tanh(Dense(self.width, kernel_init=normal, name="pool")(h[:, 0]))
