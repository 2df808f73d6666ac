"""The network of an autoregressive prior: text to the codes of a CLIP image embedding (Ramesh et
al. 2022, section 2.2)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from diffjax.models.conditioning import NO_CONDITIONING, Conditioning
from diffjax.models.prior import check_sequence, normal, sequence_mask
from diffjax.nn.initialisers import torch_kernel, zeros
from diffjax.nn.linear import Dense
from diffjax.nn.normalisation import LayerNorm
from diffjax.nn.partition import constrain_batch
from diffjax.nn.transformer import pre_norm_blocks
from diffjax.ranges import Depth, Dtype, MaybeWidth, Positive, Ratio, Vocabulary, Width


class AutoregressivePrior(nn.Module):
    """`codes [B, n] int32, dots [B] int32, cond -> [B, n + 1, V] float32`: the first n codes in,
    logits of the first n + 1 out, each by the codes before it.

    A causal transformer over a sequence of the conditioning's `context` (the encoded text, a token
    each), its `vector` (the text's CLIP embedding), the bucket of the embeddings' cosine, and the
    codes. Logits start at zero: an untrained network finds all buckets equally probable.

    Attributes:
      components: K, codes of an embedding; n is less.
      buckets: V, values of a code.
      dot_buckets: values of `dots`, beside one, the last, for a text that says nothing; 0 for that
        one alone.
      width, depth, heads, mlp_ratio: of the transformer.
      context_length: tokens of the encoded text, padding among them; 0 for no context.
      vector_dim: width of the text's embedding; 0 for none.
      activation, eps, dtype, remat: see `ViT`.
    """

    components: Width
    buckets: Vocabulary = 1024
    dot_buckets: MaybeWidth = 64
    width: Width = 2048
    depth: Depth = 24
    heads: Width = 32
    mlp_ratio: Ratio = 4.0
    context_length: MaybeWidth = 77
    vector_dim: MaybeWidth = 768
    activation: str = "gelu"
    eps: Positive = 1e-5
    dtype: Dtype = "float32"
    remat: bool = False

    @property
    def prefix(self) -> int:
        """Tokens before the codes."""
        return self.context_length + bool(self.vector_dim) + 1

    @nn.compact
    def __call__(
        self,
        codes: Array,
        dots: Array,
        cond: Conditioning = NO_CONDITIONING,
        *,
        cached: bool = False,
        at: Array | None = None,
    ) -> Array:
        """Logits, see above.

        Args:
          cached: keep keys and values in the collection `cache`, so that further codes may follow.
          at: [] int32; `codes [B, 1]` are then number `at`, all before them are in the cache, and
            the logits `[B, 1, V]` are of number `at + 1`.
        """
        self._check(codes, cond)
        kinds = {"kernel_init": torch_kernel, "dtype": self.dtype}
        length = self.prefix + self.components - 1
        positions = self.param("positions", normal, (length, self.width))
        h = jnp.take(self.param("codes", normal, (self.buckets, self.width)), codes, axis=0)
        if at is None:
            table = self.param("dots", normal, (self.dot_buckets + 1, self.width))
            tokens = [jnp.take(table, dots, axis=0)[:, None], h]
            if cond.vector is not None:
                vector = Dense(self.width, name="vector", **kinds)(cond.vector)
                tokens = [vector[:, None], *tokens]
            if cond.context is not None:
                tokens = [Dense(self.width, name="context", **kinds)(cond.context), *tokens]
            h = jnp.concatenate(tokens, axis=1)
            h = h + positions[: h.shape[1]]
        else:
            h = h + jax.lax.dynamic_slice_in_dim(positions, self.prefix + at, 1)
        h = pre_norm_blocks(
            constrain_batch(h).astype(self.dtype),
            self.depth,
            self.remat and not cached,
            mask=sequence_mask(cond, length if cached else h.shape[1]),
            heads=self.heads,
            hidden=round(self.width * self.mlp_ratio),
            activation=self.activation,
            eps=self.eps,
            causal=True,
            dtype=self.dtype,
            room=length if cached else 0,
        )
        # The token before a code tells it: the first is told by the last of the prefix.
        h = h[:, -1 - codes.shape[1] :] if at is None else h
        h = LayerNorm(self.eps, name="norm_out")(h.astype(jnp.float32))
        return Dense(self.buckets, name="out", kernel_init=zeros)(h)

    def _check(self, codes: Array, cond: Conditioning) -> None:
        if codes.ndim != 2 or codes.shape[1] >= self.components:
            raise ValueError(
                f"a prior of {self.components} codes got codes of shape {codes.shape}; it needs "
                f"[B, n] with n < {self.components}"
            )
        check_sequence(self.context_length, self.vector_dim, cond)
