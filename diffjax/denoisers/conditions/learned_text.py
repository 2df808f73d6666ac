"""Text as a condition whose encoder is trained with the network (Nichol et al. 2021, GLIDE)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from diffjax.choices import LINEN, build
from diffjax.denoisers.conditions.base import BatchField, Surroundings, field_of
from diffjax.models.conditioning import Conditioning
from diffjax.models.glide_text import GlideText
from diffjax.models.text import TextTransformer
from diffjax.ranges import Probability, Whole
from diffjax.task import Params

TEXT_ENCODERS: dict[str, type[nn.Module]] = {"glide_text": GlideText, "text": TextTransformer}


@dataclass(frozen=True)
class LearnedTextCondition(BatchField):
    """Token ids `[B, L] int32`, read by a text encoder that is trained with the network and whose
    parameters are the condition's own; the null is the empty caption.

    Attributes:
      name, field, drop, has_null: see `Condition`.
      encoder: of `TEXT_ENCODERS`.
      null_ids: token ids of the empty caption, `[L]`.
      to: "context", the features of every token, "vector", those of the whole text, or "both", as
        in GLIDE.
    """

    name: str
    encoder: nn.Module
    null_ids: tuple[int, ...]
    drop: float = 0.0
    has_null: bool = True
    field: str = "tokens"
    to: Literal["context", "vector", "both"] = "both"

    def init(self, key: Array, batch_spec: Mapping[str, Any]) -> tuple[Params, Params]:
        """See `Condition.init`."""
        how = "add a `tokenize` transform to data.transforms"
        length = field_of(batch_spec, self.name, self.field, how).shape[-1]
        if length != len(self.null_ids):
            raise ValueError(
                f"conditions.{self.name}: texts of {length} tokens, but the empty caption has "
                f"{len(self.null_ids)}"
            )
        ids = jnp.zeros((1, length), jnp.int32)
        # A pooled text reads all that its tokens do, and a projection.
        made = self.encoder.init(key, ids, pooled=self.to != "context")
        return made["params"], {}

    def null(self, value: Array) -> Array:
        """The empty caption."""
        return jnp.broadcast_to(jnp.asarray(self.null_ids, value.dtype), value.shape)

    def encode(self, params: Params, frozen: Params, value: Array, x: Array) -> Conditioning:
        """See `Condition.encode`."""

        def read(pooled: bool) -> Any:
            return self.encoder.apply({"params": params[self.name]}, value, pooled=pooled)

        # Both are one pass through the blocks: compilers see that they are the same.
        vector = None if self.to == "context" else read(True)
        return Conditioning(vector=vector, context=None if self.to == "vector" else read(False))


def learned_text_condition(
    around: Surroundings,
    *,
    encoder: Mapping[str, Any],
    null_ids: tuple[Whole, ...] = (),
    drop: Probability = 0.0,
    field: str = "tokens",
    to: Literal["context", "vector", "both"] = "both",
) -> LearnedTextCondition:
    """The condition of a config's section `dict(type="learned_text", encoder=dict(...), ...)`.

    Args:
      encoder: a section of `TEXT_ENCODERS`, `dict(type="glide_text", width=..., ...)`; the run's
        tokenizer decides its vocabulary and length.
      null_ids: of the run's tokenizer, which fills them in.
      drop: share of the training rows that are given the empty caption.
      field: of a batch.
      to: see `LearnedTextCondition`.
    """
    network = build(TEXT_ENCODERS, f"conditions.{around.name}.encoder", encoder, LINEN)
    return LearnedTextCondition(around.name, network, null_ids, drop, drop > 0, field, to)
