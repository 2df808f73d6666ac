"""CLIP's text tower: a causal transformer read off at the end of the text (Radford et al. 2021)."""

from __future__ import annotations

from typing import Literal

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from diffjax.nn.attention import count_heads
from diffjax.nn.initialisers import BlockInit, torch_bias
from diffjax.nn.linear import Dense
from diffjax.nn.normalisation import LayerNorm
from diffjax.nn.partition import constrain_batch
from diffjax.nn.transformer import pre_norm_blocks
from diffjax.ranges import Depth, Dtype, Length, Positive, Ratio, Vocabulary, Whole, Width


def text_init(width: int, depth: int) -> BlockInit:
    """Normal kernels that keep the residual stream's size over `depth` blocks (paper's code)."""
    attn_std, fc_std = width**-0.5, (2 * width) ** -0.5
    proj_std = attn_std * (2 * depth) ** -0.5
    qkv, proj, layer1, layer2 = (
        nn.initializers.normal(std) for std in (attn_std, proj_std, fc_std, proj_std)
    )
    return BlockInit(qkv, proj, layer1, layer2, torch_bias)


class TextTransformer(nn.Module):
    """`tokens [B, L] int32 -> [B, embed] float32`, L at most `context`.

    A token sees those before it alone and there is no padding mask, so what follows the end of the
    text changes nothing at it.

    Attributes:
      embed: width of the joint space.
      width, depth, mlp_ratio: of the transformer.
      heads: of its attention; None for 64 channels each, as in every published model.
      context: the longest text, in tokens with its start and end.
      vocab: number of tokens; an id beyond it gives NaN.
      pool: where the end of the text is: "argmax", at the largest id (the paper's code), or
        "first_eos", at the first `eos` (Hugging Face, for vocabularies with added tokens).
      eos: the id of the end of the text, under "first_eos".
      activation, eps, dtype, remat: see `ViT`.
    """

    embed: Width
    width: Width = 512
    depth: Depth = 12
    heads: Width | None = None
    mlp_ratio: Ratio = 4.0
    context: Length = 77
    vocab: Vocabulary = 49408
    pool: Literal["argmax", "first_eos"] = "argmax"
    eos: Whole = 49407
    activation: str = "quick_gelu"
    eps: Positive = 1e-5
    dtype: Dtype = "float32"
    remat: bool = False

    @nn.compact
    def __call__(
        self, tokens: Array, *, pooled: bool = True, skip: int = 0, norm: bool = True
    ) -> Array:
        """Unnormalised embeddings; with `pooled` False the features of every token.

        Those are `[B, L, width] float32`, before the projection: of the last block but `skip`,
        after the final norm or (`norm` False) before it. Stable Diffusion 1 takes the default,
        Stable Diffusion 2 `skip=1`.
        """
        if tokens.ndim != 2 or tokens.shape[1] > self.context:
            raise ValueError(
                f"text of at most {self.context} tokens got tokens of shape {tokens.shape}; it "
                f"needs [B, L] with L <= {self.context}"
            )
        if not 0 <= skip < self.depth or (skip and pooled):
            raise ValueError(f"skip={skip} of {self.depth} blocks, with pooled={pooled}")
        normal = nn.initializers.normal
        table = self.param("table", normal(0.02), (self.vocab, self.width))
        positions = self.param("positions", normal(0.01), (self.context, self.width))
        h = jnp.take(table, tokens, axis=0) + positions[: tokens.shape[1]]
        h = pre_norm_blocks(
            constrain_batch(h).astype(self.dtype),
            self.depth - skip,
            self.remat,
            heads=count_heads(self.width, self.heads or 1, None if self.heads else 64),
            hidden=round(self.width * self.mlp_ratio),
            activation=self.activation,
            eps=self.eps,
            causal=True,
            init_family=text_init(self.width, self.depth),
            dtype=self.dtype,
        )
        final = LayerNorm(self.eps, name="norm_out")
        if not pooled:
            h = h.astype(jnp.float32)
            return final(h) if norm else h
        # The norm acts on each token by itself, so only the pooled one needs it.
        at_end = jnp.take_along_axis(h, self._end(tokens)[:, None, None], axis=1)[:, 0]
        project = Dense(self.embed, False, kernel_init=normal(self.width**-0.5), name="project")
        return project(final(at_end.astype(jnp.float32)))

    def _end(self, tokens: Array) -> Array:
        """The position `[B]` where each text ends; 0 under "first_eos" where none does."""
        if self.pool not in ("argmax", "first_eos"):
            raise ValueError(f"pool must be 'argmax' or 'first_eos', not {self.pool!r}")
        return (tokens if self.pool == "argmax" else tokens == self.eos).argmax(axis=-1)
