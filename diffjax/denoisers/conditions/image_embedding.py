"""A CLIP image embedding as a condition: unCLIP's decoder (Ramesh et al. 2022, section 2.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.denoisers.conditions.base import Surroundings, field_of
from diffjax.denoisers.embeddings import ImageTower
from diffjax.models.conditioning import Conditioning
from diffjax.nn.initialisers import torch_kernel
from diffjax.nn.linear import Dense
from diffjax.ranges import Amount, Probability, Width
from diffjax.task import Batch, Params

# The field of a batch that such a condition reads, unless it says another.
IMAGE_EMBEDDING = "image_embedding"


@dataclass(frozen=True)
class ImageEmbeddingCondition:
    """`image_embedding [B, E] float32`, scaled (see `embeddings.scaled`); the null is zeros.

    Training batches need not hold it: it is then computed of their `image`.

    Attributes:
      name, field, drop, has_null: see `Condition`.
      tower: the image tower; its variables are `frozen[name]`.
      to: "vector", added to the noise embedding, "context", as `tokens` extra tokens of context by
        a trained projection, or "both", as in the paper.
      width: of the tokens; None for E.
    """

    name: str
    tower: ImageTower
    drop: float = 0.0
    has_null: bool = True
    field: str = IMAGE_EMBEDDING
    to: Literal["vector", "context", "both"] = "both"
    tokens: int = 4
    width: int | None = None

    @property
    def _projection(self) -> Dense:
        width = self.width or self.tower.width
        return Dense(self.tokens * width, kernel_init=torch_kernel)

    def init(self, key: Array, batch_spec: Mapping[str, Any]) -> tuple[Params, Params]:
        """See `Condition.init`."""
        held = self.spec(batch_spec).shape
        if held[1:] != (self.tower.width,):
            raise ValueError(
                f"conditions.{self.name}: batches hold embeddings of {held[1:]}, but the tower's "
                f"have {self.tower.width} elements: they are of another CLIP"
            )
        frozen = self.tower.init()
        if self.to == "vector":
            return {}, frozen
        return self._projection.init(key, jnp.zeros((1, self.tower.width)))["params"], frozen

    def spec(self, batch_spec: Mapping[str, Any]) -> jax.ShapeDtypeStruct:
        """See `Condition.spec`."""
        if self.field in batch_spec:
            return batch_spec[self.field]
        how = f"it is computed of images of {self.tower.image_shape}"
        image = field_of(batch_spec, self.name, "image", how)
        if image.shape[1:] != self.tower.image_shape:
            raise ValueError(
                f"conditions.{self.name} embeds images of {self.tower.image_shape}, but batches "
                f"hold {image.shape[1:]}: data.cache_latents=True keeps embeddings beside latents; "
                "for images, add a resizing transform"
            )
        return jax.ShapeDtypeStruct((image.shape[0], self.tower.width), jnp.float32)

    def read(self, frozen: Params, batch: Batch) -> Array:
        """See `Condition.read`."""
        if self.field in batch:
            return batch[self.field]
        return self.tower.embed(frozen[self.name], batch["image"])

    def null(self, value: Array) -> Array:
        """Zeros."""
        return jnp.zeros_like(value)

    def encode(self, params: Params, frozen: Params, value: Array, x: Array) -> Conditioning:
        """See `Condition.encode`."""
        vector = value if self.to != "context" else None
        if self.to == "vector":
            return Conditioning(vector=vector)
        tokens: Any = self._projection.apply({"params": params[self.name]}, value)
        return Conditioning(vector=vector, context=tokens.reshape(len(value), self.tokens, -1))


def image_embedding_condition(
    around: Surroundings,
    *,
    tower: Mapping[str, Any],
    drop: Probability = 0.0,
    field: str = IMAGE_EMBEDDING,
    to: Literal["vector", "context", "both"] = "both",
    tokens: Amount = 4,
    width: Width | None = None,
) -> ImageEmbeddingCondition:
    """The condition of a config's section `dict(type="image_embedding", tower=..., ...)`.

    Args:
      tower: which image tower: `dict(run=..., config=..., ema=...)` of a CLIP run of ours, or
        `dict(clip=...)` of a released CLIP.
      drop: share of the training rows that are given no embedding.
      field, to, tokens, width: see `ImageEmbeddingCondition`.
    """
    del tower  # Opened by who assembles the run, and given as `around.tower`.
    return ImageEmbeddingCondition(
        around.name, around.tower, drop, drop > 0, field, to, tokens, width
    )
