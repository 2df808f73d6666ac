"""A prior as a decoder holds it: a model of image embeddings (Ramesh et al. 2022, section 2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from jax import Array

from diffjax.denoisers.conditions.base import Condition
from diffjax.denoisers.conditions.image_embedding import ImageEmbeddingCondition
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


def check_prior(conditions: tuple[Condition, ...], prior: EmbeddingModel | None) -> None:
    """Refuses a prior of other embeddings than the conditions read.

    Raises:
      ValueError: says both.
    """
    if prior is None:
        return
    read = [c for c in conditions if isinstance(c, ImageEmbeddingCondition)]
    if not read:
        raise ValueError(
            "a prior draws image embeddings, and no condition reads them: add "
            "clip=dict(type='image_embedding', tower=...) to conditions, or leave `prior` out"
        )
    for c in read:
        if prior.shape != (c.tower.width,):
            raise ValueError(
                f"the prior draws states of shape {prior.shape}, but conditions.{c.name} reads "
                f"embeddings of {(c.tower.width,)}: take a prior of the same CLIP"
            )
