"""A prior as a decoder holds it: a model of image embeddings (Ramesh et al. 2022, section 2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from jax import Array

from diffjax.denoisers.conditions.base import Condition
from diffjax.denoisers.spaces import Space
from diffjax.task import Variables


class EmbeddingModel(Protocol):
    """A model whose samples are image embeddings: a diffusion model in an `EmbeddingSpace`, or one
    of their codes. `generate.sample` draws from either.

    Attributes:
      space: of the embeddings.
      conditions: what it draws by.
      shape: (E,) of one embedding.
      fields: of a batch that samples are drawn by.
    """

    @property
    def space(self) -> Space: ...

    @property
    def conditions(self) -> tuple[Condition, ...]: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def fields(self) -> list[str]: ...

    def init(self, key: Array, batch_spec: Mapping[str, Any]) -> Variables:
        """Fresh variables; `batch_spec` name -> ShapeDtypeStruct of one batch."""
        ...
