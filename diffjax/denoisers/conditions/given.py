"""What a network is conditioned by, given as it is: of a stage of a chain, by those before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jax import Array

from diffjax.models.conditioning import Conditioning
from diffjax.task import Params


@dataclass(frozen=True)
class GivenCondition:
    """A whole `Conditioning`, computed beforehand. There is no null: guidance moves away from what
    is given as its negative.

    Attributes:
      name, field, drop, has_null: see `Condition`.
    """

    name: str = "given"
    field: str = "given"
    drop: float = 0.0
    has_null: bool = False

    def init(self, key: Array, batch_spec: Mapping[str, Any]) -> tuple[Params, Params]:
        """See `Condition.init`."""
        return {}, {}

    def null(self, value: Any) -> Any:
        """What is given: there is no null."""
        return value

    def encode(self, params: Params, frozen: Params, value: Any, x: Array) -> Conditioning:
        """The value itself, a conditioning."""
        return value
