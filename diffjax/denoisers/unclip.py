"""What the stages of unCLIP are given, each by those before it (Ramesh et al. 2022, section 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.image import resize

from diffjax.models.conditioning import Conditioning
from diffjax.task import Params


class EncodedText(NamedTuple):
    """Texts as CLIP's tower reads them.

    Attributes:
      embedding: `[B, E]`, in the joint space, not normalised.
      features: `[B, L, D]` of every token, after the final norm.
      mask: `[B, L] bool`, False after the end of the text.
    """

    embedding: Array
    features: Array
    mask: Array


@dataclass(frozen=True)
class UnCLIPInputs:
    """The networks between the stages.

    Attributes:
      text: a `TextTransformer` with its projection.
      projection: a `ClipProjection`.
      eot: id of the end of a text.
    """

    text: nn.Module
    projection: nn.Module
    eot: int

    def read(self, variables: Params, tokens: Array) -> EncodedText:
        """Texts `tokens [B, L] int32` by the tower of these `variables`."""
        embedding: Any = self.text.apply(variables, tokens)
        features: Any = self.text.apply(variables, tokens, pooled=False)
        end = tokens == self.eot
        return EncodedText(embedding, features, jnp.cumsum(end, axis=1) - end == 0)

    def of_prior(self, text: EncodedText) -> Conditioning:
        """The prior's: the text's embedding and its tokens."""
        return Conditioning(vector=text.embedding, context=text.features, context_mask=text.mask)

    def of_decoder(
        self, variables: Params, image: Array, text: EncodedText, dropped: bool = False
    ) -> Conditioning:
        """The decoder's: embeddings of an image `[B, E]` and a text, and its tokens; `dropped` puts
        the learned null in the image's place."""
        rows = jnp.full(len(image), dropped)
        found: Any = self.projection.apply(
            variables, image, text.embedding, text.features, text.mask, rows
        )
        return found

    def of_upsampler(self, image: Array, size: tuple[int, int]) -> Conditioning:
        """An upsampler's: the image `[B, h, w, C]` enlarged to `size` by Keys' bicubic (a = -1/2),
        as Pillow does."""
        shape = (len(image), *size, image.shape[-1])
        return Conditioning(concat=resize(image, shape, "cubic"))
