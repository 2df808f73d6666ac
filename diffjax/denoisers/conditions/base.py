"""Conditions of a denoising network: their contract, their null, where they are dropped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.denoisers.spaces import Space
from diffjax.diffusion.levels import broadcast_to
from diffjax.keys import Rng, uniform
from diffjax.models.conditioning import Conditioning, combine
from diffjax.task import Batch, Params

# Field of a batch -> `[B, ...]`, as the data have it: labels, token ids, images.
Cond = Mapping[str, Array]
# Name of a condition -> `[B, ...]` of its field, some rows of it perhaps put to the null.
ByName = Mapping[str, Array]


@dataclass(frozen=True)
class Surroundings:
    """Arguments of a condition's maker beside its section.

    Attributes:
      name: of the condition; its frozen variables, its parameters and its random stream go by it.
      num_classes: of the data's labels; 0 for none.
      space: that diffusion works in.
      tower: the frozen network that the section's `tower` names; None without one.
    """

    name: str
    num_classes: int
    space: Space
    tower: Any = None


class Condition(Protocol):
    """One thing that a network is conditioned by.

    Attributes:
      name: see `Surroundings`.
      field: of a batch, and of what samples are drawn by.
      drop: share of the training rows that are given the null instead.
      has_null: whether the network knows the null, which guidance asks for; without it guidance
        keeps what is given on both its sides.
    """

    @property
    def name(self) -> str: ...

    @property
    def field(self) -> str: ...

    @property
    def drop(self) -> float: ...

    @property
    def has_null(self) -> bool: ...

    def init(self, key: Array, batch_spec: Mapping[str, Any]) -> tuple[Params, Params]:
        """Fresh parameters of its own, and its frozen network's `placeholder_variables`; {} each
        where it has none.

        Raises:
          ValueError: a batch without the field, or one that does not fit.
        """
        ...

    def spec(self, batch_spec: Mapping[str, Any]) -> Any:
        """The shape of its field of a batch; what batches do not hold is computed by `read`."""
        ...

    def read(self, frozen: Params, batch: Batch, rng: Rng | None) -> Array:
        """Its field `[B, ...]` of a training batch; without `rng` no chance."""
        ...

    def null(self, value: Array) -> Array:
        """The null in place of `value [B, ...]`."""
        ...

    def encode(self, params: Params, frozen: Params, value: Array, x: Array) -> Conditioning:
        """The network's inputs for `value [B, ...]`.

        Args:
          params, frozen: of all conditions by name; `frozen` also of the space.
          x: `[B, *shape]`, shaped like the states.
        """
        ...


class BatchField:
    """What a condition whose field batches hold has in common with the others."""

    field: str

    def spec(self, batch_spec: Mapping[str, Any]) -> Any:
        """See `Condition.spec`."""
        return batch_spec[self.field]

    def read(self, frozen: Params, batch: Batch, rng: Rng | None) -> Array:
        """See `Condition.read`."""
        del frozen, rng
        return batch[self.field]


# Where conditions' own parameters lie among those of the network.
PARAMS = "conditions"


def init_conditions(
    conditions: Sequence[Condition], key: Array, batch_spec: Mapping[str, Any]
) -> tuple[Params, Params]:
    """Parameters and frozen variables of all conditions, by name, of those that have any."""
    params, frozen = {}, {}
    for i, c in enumerate(conditions):
        own, fixed = c.init(jax.random.fold_in(key, i), batch_spec)
        params |= {c.name: own} if own else {}
        frozen |= {c.name: fixed} if fixed else {}
    return params, frozen


def fields_of(conditions: Sequence[Condition]) -> list[str]:
    """Fields of a batch that the conditions read, each once."""
    return list(dict.fromkeys(c.field for c in conditions))


def zeros_of(conditions: Sequence[Condition], batch_spec: Mapping[str, Any]) -> dict[str, Array]:
    """One row of zeros by name, shaped like what a batch holds of each condition's field."""
    specs = {c.name: c.spec(batch_spec) for c in conditions}
    return {name: jnp.zeros((1, *s.shape[1:]), s.dtype) for name, s in specs.items()}


def read_fields(
    conditions: Sequence[Condition], frozen: Params, batch: Batch, rng: Rng | None
) -> dict[str, Array]:
    """The fields of a training batch that the conditions read; without `rng` no chance."""
    return {c.field: c.read(frozen, batch, rng) for c in conditions}


def check_cond(conditions: Sequence[Condition], cond: Any, partial: bool = False) -> Cond:
    """Checks the conditions of samples, by field: a mapping, or the array of the only field.

    Raises:
      ValueError: a field too many, or (unless `partial`) too few.
    """
    fields = fields_of(conditions)
    if not fields:
        return {}
    if not isinstance(cond, Mapping):
        if cond is None or len(fields) > 1:
            what = "a class-conditional model" if fields == ["label"] else "this model"
            raise ValueError(f"{what} draws by {' and '.join(fields)}: give {', '.join(fields)}")
        return {fields[0]: cond}
    wrong = [k for k in cond if k not in fields]
    missing = [k for k in fields if k not in cond and not partial]
    if wrong or missing:
        found = f"has no {wrong[0]}" if wrong else f"lacks {missing[0]}"
        raise ValueError(f"this model draws by {' and '.join(fields)}: what is given {found}")
    return cond


def by_name(conditions: Sequence[Condition], cond: Cond) -> dict[str, Array]:
    """`cond`, by the name of the condition that reads each field."""
    return {c.name: cond[c.field] for c in conditions}


def drop_conditions(conditions: Sequence[Condition], cond: Cond, rng: Rng) -> dict[str, Array]:
    """`cond` by name, of every condition a share of the rows put to its null, each row by its own
    key: the one place where conditions are dropped."""
    out = by_name(conditions, cond)
    for c in conditions:
        if c.drop:
            drop = uniform(rng.rowwise(f"{c.name}_drop")) < c.drop
            x = out[c.name]
            # As a mask [B, 1, ...]: rows of any rank.
            out[c.name] = jnp.where(broadcast_to(drop, x) > 0, c.null(x), x)
    return out


def negative_cond(conditions: Sequence[Condition], cond: Cond, negative: Cond) -> dict[str, Array]:
    """The other side of guidance, by name: `negative` where it says something, else the null where
    the network knows one, else what is given."""
    out = {}
    for c in conditions:
        value = cond[c.field]
        out[c.name] = negative.get(c.field, value)
        if c.field not in negative and c.has_null:
            out[c.name] = c.null(value)
    return out


def check_null(conditions: Sequence[Condition]) -> None:
    """Refuses conditions without a null, which guidance moves away from.

    Raises:
      ValueError: there are none, or none of them has one.
    """
    if not conditions:
        raise ValueError(
            "guidance needs a conditional model; this one has no conditions: add them to the "
            "config (conditions=dict(label=dict(type='class', drop=0.1)))"
        )
    if not any(c.has_null for c in conditions):
        raise ValueError(
            "guidance needs a null condition, but the model was trained with "
            f"conditions.{conditions[0].name}.drop=0: train with drop > 0, or say what is not "
            "wanted (negative)"
        )


def encode(
    conditions: Sequence[Condition], params: Params, frozen: Params, cond: ByName, x: Array
) -> Conditioning:
    """The network's inputs for `cond`, by name; `x [B, ...]` is shaped like the states.

    Raises:
      ValueError: conditions that cannot be given together.
    """
    own = params.get(PARAMS, {})
    return combine([c.encode(own, frozen, cond[c.name], x) for c in conditions])


def inputs_of(
    conditions: Sequence[Condition], batch_spec: Mapping[str, Any], space: Space
) -> dict[str, Any]:
    """Settings of a network that follow from its conditions: `num_classes` of its table,
    `vector_dim` where they give a vector, `context_length` where they give a context. Only shapes
    are computed."""
    table = [getattr(c, "classes", 0) for c in conditions if getattr(c, "to", "") == "label"]
    found: dict[str, Any] = {"num_classes": table[0] if table else 0}

    def encoded() -> Conditioning:
        own, frozen = init_conditions(conditions, jax.random.key(0), batch_spec)
        cond = zeros_of(conditions, batch_spec)
        x = jnp.zeros((1, *space.shape))
        return encode(conditions, {PARAMS: own}, {**space.init(), **frozen}, cond, x)

    shapes = jax.eval_shape(encoded)
    if shapes.vector is not None:
        found["vector_dim"] = shapes.vector.shape[-1]
    if shapes.context is not None:
        found["context_length"] = shapes.context.shape[1]
    return found


def field_of(batch_spec: Mapping[str, Any], name: str, field: str, how: str) -> Any:
    """The shape of a condition's field of a batch.

    Raises:
      ValueError: there is none; `how` says how it comes there.
    """
    if field not in batch_spec:
        raise ValueError(f"conditions.{name} reads `{field}`, which batches have not: {how}")
    return batch_spec[field]
