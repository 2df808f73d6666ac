"""Classes as a condition: by the network's own table, or by a table of the condition's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax.numpy as jnp
from jax import Array

from diffjax.denoisers.conditions.base import Surroundings, field_of
from diffjax.models.conditioning import Conditioning
from diffjax.nn.embeddings import LabelTable
from diffjax.nn.initialisers import INITS
from diffjax.ranges import Classes, Probability, Width
from diffjax.task import Params


@dataclass(frozen=True)
class ClassCondition:
    """A class `[B] int32` below `classes`; the null class is number `classes`.

    Attributes:
      name, field, drop, has_null: see `Condition`.
      to: "label", read by the network's own table, or "vector", the row of a trained table of its
        own.
      width: of the rows of that table.
    """

    name: str
    classes: int
    drop: float = 0.0
    has_null: bool = True
    field: str = "label"
    to: Literal["label", "vector"] = "label"
    width: int = 128

    @property
    def _table(self) -> LabelTable:
        return LabelTable(self.classes, self.width, INITS["adm"])

    def init(self, key: Array, batch_spec: Mapping[str, Any]) -> tuple[Params, Params]:
        """See `Condition.init`."""
        how = f"leave conditions.{self.name} out, or name a field of the data"
        field_of(batch_spec, self.name, self.field, how)
        if self.to == "label":
            return {}, {}
        return self._table.init(key, jnp.zeros((1,), jnp.int32), 1)["params"], {}

    def null(self, value: Array) -> Array:
        """The null class."""
        return jnp.full_like(value, self.classes)

    def encode(self, params: Params, frozen: Params, value: Array, x: Array) -> Conditioning:
        """See `Condition.encode`."""
        if self.to == "label":
            return Conditioning(label=value)
        row: Any = self._table.apply({"params": params[self.name]}, value, len(value))
        return Conditioning(vector=row)


def class_condition(
    around: Surroundings,
    *,
    classes: Classes | None = None,
    drop: Probability = 0.0,
    field: str = "label",
    to: Literal["label", "vector"] = "label",
    width: Width = 128,
    required: bool = True,
) -> ClassCondition | None:
    """The condition of a config's section `dict(type="class", ...)`.

    Args:
      classes: how many there are; None for those of the data's labels, 0 leaves the condition out.
      drop: share of the training rows that are given the null class.
      field: of a batch: "label", or a factor of the data.
      to, width: see `ClassCondition`.
      required: False leaves the condition out where the data have no classes.

    Raises:
      ValueError: data without classes.
    """
    if classes is None:
        if not around.num_classes and not required:
            return None
        if not around.num_classes or field != "label":
            raise ValueError(
                f"conditions.{around.name}: the data do not say how many classes `{field}` has: "
                "set `classes`, or leave the condition out"
            )
        classes = around.num_classes
    if classes == 0:
        return None
    if field == "label" and classes < around.num_classes:
        raise ValueError(
            f"conditions.{around.name}.classes={classes}, but the data have "
            f"{around.num_classes} classes"
        )
    return ClassCondition(around.name, classes, drop, drop > 0, field, to, width)
