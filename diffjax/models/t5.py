"""T5's encoder: a text tower of relative positions (Raffel et al. 2020, section 2.1)."""

from __future__ import annotations

import math
from typing import Literal

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array
from jax.typing import DTypeLike

from diffjax.models.text_masks import check_text, mean_of_seen, seen_tokens
from diffjax.nn.activations import ACTIVATIONS
from diffjax.nn.attention import attend, split_heads
from diffjax.nn.linear import Dense
from diffjax.nn.normalisation import RMSNorm
from diffjax.nn.partition import constrain_batch
from diffjax.ranges import Depth, Dtype, Length, Positive, Vocabulary, Whole, Width

normal = nn.initializers.normal


def relative_buckets(length: int, buckets: int, distance: int) -> np.ndarray:
    """The bucket `[L, L] int32` of each query's (first axis) distance to each key.

    Half of the `buckets` are for keys after the query. Of each half, half hold one distance each
    and the rest lie evenly in its logarithm up to `distance`, from where on all is one bucket.
    The logarithm is taken in float32, as it was when the weights were trained.
    """
    place = np.arange(length)
    ahead = place[None, :] - place[:, None]
    side = buckets // 2
    exact = side // 2
    far = np.abs(ahead)
    share = np.log(np.maximum(far, 1).astype(np.float32) / np.float32(exact))
    share = share / np.float32(math.log(distance / exact)) * np.float32(side - exact)
    coarse = np.minimum(exact + share.astype(np.int32), side - 1)
    return (np.where(far < exact, far, coarse) + side * (ahead > 0)).astype(np.int32)


class T5Attention(nn.Module):
    """`x [B, L, D]`, `bias [1, N, L, L]`, `mask [B, L] -> [B, L, D]`, the products not divided by
    sqrt(`head_dim`), which the initialisation of the queries makes up for."""

    heads: int
    head_dim: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Array, bias: Array, mask: Array) -> Array:
        width, inner = x.shape[-1], self.heads * self.head_dim
        stds = {"query": (width * self.head_dim) ** -0.5, "key": width**-0.5, "value": width**-0.5}
        q, k, v = (
            split_heads(
                Dense(inner, False, normal(std), dtype=self.dtype, name=name)(x), self.heads
            )
            for name, std in stds.items()
        )
        y = attend(q, k, v, mask, bias=bias, scale=1.0).reshape(*x.shape[:-1], inner)
        return Dense(width, False, normal(inner**-0.5), dtype=self.dtype, name="proj")(y)


class T5Block(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x)), arguments as of `T5Attention`; the rest as of
    `T5Encoder`."""

    heads: int
    head_dim: int
    hidden: int
    activation: str
    gated: bool
    eps: float
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Array, bias: Array, mask: Array) -> Array:
        x = constrain_batch(x)
        width, std = x.shape[-1], x.shape[-1] ** -0.5
        attention = T5Attention(self.heads, self.head_dim, self.dtype, name="attention")
        x = x + attention(RMSNorm(self.eps, name="norm1")(x), bias, mask)
        y = RMSNorm(self.eps, name="norm2")(x)
        kinds = {"use_bias": False, "dtype": self.dtype}
        first = "gate" if self.gated else "layer1"
        h = Dense(self.hidden, kernel_init=normal(std), name=first, **kinds)(y)
        h = ACTIVATIONS[self.activation](h)
        if self.gated:
            h = h * Dense(self.hidden, kernel_init=normal(std), name="layer1", **kinds)(y)
        out = Dense(width, kernel_init=normal(self.hidden**-0.5), name="layer2", **kinds)
        return constrain_batch(x + out(h))


class T5Encoder(nn.Module):
    """`tokens [B, L] int32, mask [B, L] bool -> [B, L, width] float32`, L of any length.

    Every token sees all that `mask` does not hide; it is False at padding, and by default where the
    token is `pad`. Features at padding mean nothing.

    Attributes:
      vocab: rows of the table of tokens; an id beyond it gives NaN.
      width, depth, heads: of the transformer.
      head_dim: channels of a head; `heads * head_dim` need not be `width`.
      hidden: width of the MLPs.
      activation: "relu" in T5 1.0, "gelu_tanh" in 1.1.
      gated: whether the activation multiplies a second projection (Shazeer 2020), as in 1.1.
      buckets, distance: of the relative positions, see `relative_buckets`; all blocks share the
        biases.
      eps: of the norms.
      pad: the id that fills rows up.
      dtype: of the blocks; "bfloat16" in half precision, since the released weights, trained in it,
        overflow "float16", which is refused.
      remat: recompute blocks in the backward pass.
    """

    vocab: Vocabulary = 32128
    width: Width = 768
    depth: Depth = 12
    heads: Width = 12
    head_dim: Width = 64
    hidden: Width = 2048
    activation: Literal["relu", "gelu_tanh"] = "gelu_tanh"
    gated: bool = True
    buckets: Length = 32
    distance: Length = 128
    eps: Positive = 1e-6
    pad: Whole = 0
    dtype: Dtype = "float32"
    remat: bool = False

    @nn.compact
    def __call__(
        self, tokens: Array, mask: Array | None = None, *, pooled: bool = False, skip: int = 0
    ) -> Array:
        """Features of every token, of the last block but `skip`, after the final norm.

        With `pooled` their mean `[B, width]` over the tokens that are seen, a vector of the whole
        text.

        Raises:
          ValueError: tokens of another shape, too many blocks left out, float16, or buckets that
            do not divide.
        """
        self._check(tokens, skip)
        mask = seen_tokens(tokens, self.pad, mask)
        table = self.param("table", normal(1.0), (self.vocab, self.width))
        kinds = (self.buckets, self.heads)
        positions = self.param("positions", normal(self.width**-0.5), kinds)
        buckets = relative_buckets(tokens.shape[1], self.buckets, self.distance)
        bias = positions[buckets].transpose(2, 0, 1)[None]
        h = constrain_batch(jnp.take(table, tokens, axis=0)).astype(self.dtype)
        make = nn.remat(T5Block) if self.remat else T5Block
        for i in range(self.depth - skip):
            block = make(
                self.heads,
                self.head_dim,
                self.hidden,
                self.activation,
                self.gated,
                self.eps,
                self.dtype,
                name=f"block_{i}",
            )
            h = block(h, bias, mask)
        h = RMSNorm(self.eps, name="norm_out")(h.astype(jnp.float32))
        return mean_of_seen(h, mask) if pooled else h

    def _check(self, tokens: Array, skip: int) -> None:
        check_text("T5", tokens, self.depth, skip)
        if jnp.dtype(self.dtype) == jnp.float16:
            raise ValueError("T5 overflows float16: take dtype='bfloat16', or 'float32'")
        if self.buckets % 4 or self.distance <= self.buckets // 4:
            raise ValueError(
                f"T5 of buckets={self.buckets}, distance={self.distance}: they are four times a "
                "number that is less than the distance"
            )
