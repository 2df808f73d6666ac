"""The network of a diffusion prior: text to CLIP image embedding (Ramesh et al. 2022, sec. 2.2)."""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from diffjax.models.conditioning import (
    NO_CONDITIONING,
    Conditioning,
    check_unread,
    check_vector,
)
from diffjax.nn.embeddings import NoiseMLP, sinusoid
from diffjax.nn.initialisers import Init, torch_bias, torch_kernel
from diffjax.nn.linear import Dense
from diffjax.nn.normalisation import LayerNorm
from diffjax.nn.partition import constrain_batch
from diffjax.nn.transformer import pre_norm_blocks
from diffjax.ranges import Depth, Dtype, MaybeWidth, Positive, Ratio, Width

normal = nn.initializers.normal(0.01)
PRIOR_INIT = Init(torch_kernel, torch_bias, torch_kernel, torch_kernel, torch_kernel)


def sequence_mask(cond: Conditioning, length: int) -> Array | None:
    """`[B, length] bool` of a sequence that begins with the context, False at its padding; None
    where there is none."""
    mask = cond.context_mask
    if mask is None:
        return None
    return jnp.pad(mask, ((0, 0), (0, length - mask.shape[1])), constant_values=True)


def check_sequence(context_length: int, vector_dim: int, cond: Conditioning) -> None:
    """Refuses a conditioning that is not a prior's: a context of so many tokens, a vector of that
    width, no more.

    Raises:
      ValueError: says both.
    """
    reads = ["context", "context_mask"] if context_length else []
    check_unread("this prior", cond, [*reads, "vector"])
    check_vector(vector_dim, cond)
    length = 0 if cond.context is None else cond.context.shape[1]
    if length != context_length:
        raise ValueError(
            f"model.context_length={context_length}, but the conditions give a context of "
            f"{length} tokens: set it to their number"
        )


class PriorTransformer(nn.Module):
    """`x [B, E], c_noise [B], cond -> [B, E] float32`: a noisy embedding in, a clean one out.

    A transformer over a sequence of the conditioning's `context` (the encoded text, a token each),
    its `vector` (the text's CLIP embedding), the noise level, the noisy image embedding, and a
    learned query, from whose output the embedding is projected. A token sees those before it and
    no padding; the query, which is the last, sees all.

    Attributes:
      out_channels: E, the width of the embeddings.
      width, depth, heads, mlp_ratio: of the transformer.
      context_length: tokens of the encoded text, padding among them; 0 for no context.
      vector_dim: width of the text's embedding; 0 for none.
      causal: False to let all tokens see all.
      activation, eps, dtype, remat: see `ViT`.
    """

    out_channels: Width
    width: Width = 2048
    depth: Depth = 20
    heads: Width = 32
    mlp_ratio: Ratio = 4.0
    context_length: MaybeWidth = 77
    vector_dim: MaybeWidth = 768
    causal: bool = True
    activation: str = "gelu"
    eps: Positive = 1e-5
    dtype: Dtype = "float32"
    remat: bool = False

    @nn.compact
    def __call__(
        self,
        x: Array,
        c_noise: Array,
        cond: Conditioning = NO_CONDITIONING,
        *,
        augment_labels: Array | None = None,
        train: bool = False,
    ) -> Array:
        """The network's raw output; `c_noise [B]` is what the time embedding sees."""
        del train  # There is no dropout.
        self._check(x, cond, augment_labels)
        kinds = {"kernel_init": torch_kernel, "bias_init": torch_bias, "dtype": self.dtype}
        features = sinusoid(c_noise, self.width, "cos")
        noise = NoiseMLP(self.width, PRIOR_INIT, self.dtype, name="time")(features)
        noisy = Dense(self.width, name="embedding", **kinds)(x.astype(self.dtype))
        query = self.param("query", normal, (self.width,))
        tokens = [noise, noisy, jnp.broadcast_to(query.astype(noisy.dtype), noisy.shape)]
        if cond.vector is not None:
            tokens = [Dense(self.width, name="vector", **kinds)(cond.vector), *tokens]
        h = jnp.stack(tokens, axis=1)
        if cond.context is not None:
            context = Dense(self.width, name="context", **kinds)(cond.context)
            h = jnp.concatenate([context, h], axis=1)
        positions = self.param("positions", normal, (h.shape[1], self.width))
        h = pre_norm_blocks(
            constrain_batch(h + positions).astype(self.dtype),
            self.depth,
            self.remat,
            mask=sequence_mask(cond, self.context_length + len(tokens)),
            heads=self.heads,
            hidden=round(self.width * self.mlp_ratio),
            activation=self.activation,
            eps=self.eps,
            causal=self.causal,
            dtype=self.dtype,
        )
        at_query = LayerNorm(self.eps, name="norm_out")(h[:, -1].astype(jnp.float32))
        return Dense(self.out_channels, name="out", kernel_init=torch_kernel)(at_query)

    def _check(self, x: Array, cond: Conditioning, augment_labels: Array | None) -> None:
        if x.ndim != 2 or x.shape[1] != self.out_channels:
            raise ValueError(
                f"a prior of embeddings of {self.out_channels} got x of shape {x.shape}; it needs "
                f"[B, {self.out_channels}]"
            )
        if augment_labels is not None:
            raise ValueError("a prior takes no augment_labels: embeddings are not augmented")
        check_sequence(self.context_length, self.vector_dim, cond)
