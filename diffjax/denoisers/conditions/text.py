"""Text as a condition: captions read by a frozen text tower."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from diffjax.denoisers.conditions.base import BatchField, Surroundings, field_of
from diffjax.denoisers.frozen import placeholder_variables
from diffjax.models.conditioning import Conditioning
from diffjax.nn.initialisers import torch_kernel
from diffjax.nn.linear import Dense
from diffjax.ranges import Probability, Whole, Width
from diffjax.task import Params


@dataclass(frozen=True)
class FrozenTower:
    """A text tower as a condition reads it.

    Attributes:
      network: `(token_ids [B, L], pooled=..., skip=...) -> [B, L, D]`, pooled `[B, D]`; see
        `models.text.TextTransformer`, `models.t5.T5Encoder`, `models.bert.BertEncoder`. The last
        two have a `pad`, which they mask.
      null_ids: token ids of the empty caption, `[L]`.
      skip: blocks left out at the end of the tower; its final norm stays (Stable Diffusion 2: 1,
        or 0 where the weights come without that block). "CLIP skip" n of other programs is n - 1
        more.
      place: where the tower's ids begin in a row, and the row's length, where other towers' ids
        stand beside them; None where the row is the tower's.
    """

    network: nn.Module
    null_ids: tuple[int, ...]
    skip: int = 0
    place: tuple[Whole, Whole] | None = None

    @property
    def columns(self) -> slice:
        """The tower's ids of a row."""
        if self.place is None:
            return slice(None)
        return slice(self.place[0], self.place[0] + len(self.null_ids))

    @property
    def row(self) -> int:
        """Ids in a row."""
        return self.place[1] if self.place else len(self.null_ids)


@dataclass(frozen=True)
class TextCondition(BatchField):
    """Token ids `[B, L] int32`, read by a frozen tower; the null is the empty caption.

    Attributes:
      name, field, drop, has_null: see `Condition`.
      tower: the text tower; its variables are `frozen[name]`.
      to: "context", the features of every token, "vector", those of the whole text, or "both",
        which are dropped together (a prior's: Ramesh et al. 2022, section 2.2).
      project: width that a trained projection brings the features to (under "both" the tokens');
        None for their own.
      pad: id that fills rows up and is masked, for towers that have one (T5, BERT); None shows it
        all, as Stable Diffusion does.
    """

    name: str
    tower: FrozenTower
    drop: float = 0.0
    has_null: bool = True
    field: str = "tokens"
    to: Literal["context", "vector", "both"] = "context"
    project: int | None = None
    pad: int | None = None

    @property
    def null_ids(self) -> tuple[int, ...]:
        return self.tower.null_ids

    @property
    def _static(self) -> dict[str, Any]:
        """Of the features that a projection reads, where there is one."""
        return {"pooled": self.to == "vector", "skip": self.tower.skip}

    @property
    def _projection(self) -> Dense:
        return Dense(self.project or 1, kernel_init=torch_kernel)

    def init(self, key: Array, batch_spec: Mapping[str, Any]) -> tuple[Params, Params]:
        """See `Condition.init`."""
        how = "add a `tokenize` transform to data.transforms"
        length = field_of(batch_spec, self.name, self.field, how).shape[-1]
        if length != self.tower.row:
            raise ValueError(
                f"conditions.{self.name}: texts of {length} tokens, but the empty caption has "
                f"{self.tower.row}"
            )
        ids = jnp.zeros((1, len(self.null_ids)), jnp.int32)
        # A pooled text reads all that its tokens do, and a projection.
        static = {"pooled": True, "skip": 0} if self.to == "both" else self._static
        frozen = placeholder_variables(self.tower.network, ids, **static)
        if self.project is None:
            return {}, frozen
        features = jax.eval_shape(lambda: self._features(frozen, ids))
        init = self._projection.init(key, jnp.zeros(features.shape))
        return init["params"], frozen

    def null(self, value: Array) -> Array:
        """The empty caption; ids of other towers stay as they are."""
        blank = jnp.asarray(self.null_ids, value.dtype)
        return jnp.asarray(value).at[:, self.tower.columns].set(blank)

    def _features(self, variables: Params, ids: Array) -> Array:
        out: Any = self.tower.network.apply(variables, ids, **self._static)
        return jax.lax.stop_gradient(out)

    def _whole(self, variables: Params, ids: Array) -> Array:
        out: Any = self.tower.network.apply(variables, ids, pooled=True)
        return jax.lax.stop_gradient(out)

    def embedding(self, frozen: Params, value: Array) -> Array:
        """The tower's own embeddings `[B, E]` of whole texts, of a condition to "vector" or "both";
        `frozen` as in `encode`."""
        return self._whole(frozen[self.name], value[:, self.tower.columns])

    def encode(self, params: Params, frozen: Params, value: Array, x: Array) -> Conditioning:
        """See `Condition.encode`."""
        value = value[:, self.tower.columns]
        out: Any = self._features(frozen[self.name], value)
        if self.project is not None:
            out = self._projection.apply({"params": params[self.name]}, out)
        if self.to == "vector":
            return Conditioning(vector=out)
        vector = self._whole(frozen[self.name], value) if self.to == "both" else None
        mask = None if self.pad is None else value != self.pad
        return Conditioning(vector=vector, context=out, context_mask=mask)


def text_condition(
    around: Surroundings,
    *,
    tower: Mapping[str, Any],
    drop: Probability = 0.0,
    field: str = "tokens",
    to: Literal["context", "vector", "both"] = "context",
    project: Width | None = None,
) -> TextCondition:
    """The condition of a config's section `dict(type="text", tower=..., ...)`.

    Args:
      tower: which text tower: `dict(run=..., config=..., ema=...)` of a run of ours,
        `dict(clip=...)` of a released CLIP, `dict(model=...)` of a Stable Diffusion,
        `dict(t5=..., length=...)` and `dict(bert=..., length=...)` of these; and `skip`.
      drop: share of the training rows that are given the empty caption.
      field: of a batch.
      to, project: see `TextCondition`.
    """
    del tower  # Opened by who assembles the run, and given as `around.tower`.
    pad = getattr(around.tower.network, "pad", None)
    return TextCondition(around.name, around.tower, drop, drop > 0, field, to, project, pad)
