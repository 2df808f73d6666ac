"""CLIP's embeddings as the conditioning of unCLIP's decoder (Ramesh et al. 2022, section 2.1)."""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from diffjax.models.conditioning import Conditioning
from diffjax.nn.initialisers import torch_bias, torch_kernel, zeros
from diffjax.nn.linear import Dense
from diffjax.nn.normalisation import LayerNorm
from diffjax.ranges import Depth, Dtype, Positive, Width


class ClipProjection(nn.Module):
    """An image's embedding and a text's, as a `vector` and a `context` of `Conditioning`.

    The vector is the sum of a projection of each, for the decoder's noise embedding. The context
    begins with tokens that are projected from the image's embedding; the encoded text, projected
    and normalised, follows. A learned null stands for the image's embedding where there is none.

    Attributes:
      vector_width: of the vector, the decoder's `embed_channels` (with `project_vector=False`).
      context_width: of a token of the context.
      tokens: those that stand for the image.
      eps: of the text's norm.
      dtype: of the arithmetic; parameters are float32.
    """

    vector_width: Width
    context_width: Width
    tokens: Depth = 4
    eps: Positive = 1e-5
    dtype: Dtype = "float32"

    @nn.compact
    def __call__(
        self,
        image: Array,
        text: Array,
        context: Array,
        context_mask: Array | None = None,
        dropped: Array | None = None,
    ) -> Conditioning:
        """The decoder's conditioning.

        Args:
          image, text: `[B, E]`, embeddings in CLIP's joint space.
          context: `[B, L, D]`, features of the text's tokens.
          context_mask: `[B, L] bool`, False at padding; None sees it all.
          dropped: `[B] bool`, True where the null stands for the image; None nowhere.
        """
        if image.ndim != 2 or image.shape != text.shape or context.ndim != 3:
            raise ValueError(
                f"embeddings of an image and a text of shapes {image.shape} and {text.shape} with "
                f"a context of {context.shape}: they are [B, E], [B, E] and [B, L, D]"
            )
        kinds = {"kernel_init": torch_kernel, "bias_init": torch_bias, "dtype": self.dtype}
        null = self.param("null", zeros, (image.shape[-1],))
        if dropped is not None:
            image = jnp.where(dropped[:, None], null, image)
        vector = Dense(self.vector_width, name="image_vector", **kinds)(image)
        vector = vector + Dense(self.vector_width, name="text_vector", **kinds)(text)
        n = self.tokens
        extra = Dense(n * self.context_width, name="image_tokens", **kinds)(image)
        # Channels before tokens, as in the released weights.
        extra = extra.reshape(len(image), self.context_width, n).swapaxes(1, 2)
        words = Dense(self.context_width, name="context", **kinds)(context)
        words = LayerNorm(self.eps, name="context_norm")(words)
        if context_mask is not None:
            context_mask = jnp.pad(context_mask, ((0, 0), (n, 0)), constant_values=True)
        return Conditioning(
            vector=vector.astype(jnp.float32),
            context=jnp.concatenate([extra, words], axis=1),
            context_mask=context_mask,
        )
