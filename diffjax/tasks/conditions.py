"""What a denoising network is told: a class, a text, another image. Each has its null, what stands
for "nothing", which training shows at times and classifier-free guidance asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from diffjax.diffusion.levels import over
from diffjax.keys import Rng, uniform
from diffjax.tasks.base import Params
from diffjax.tasks.latents import awaited

# Field of a batch -> `[B, ...]`, as the data have it: labels, token ids, images.
Given = Mapping[str, Array]
# Keyword of a network -> what it is told; "beside" holds further channels of its input.
Told = dict[str, Array]


class Condition(Protocol):
    """One thing that a network is told.

    Attributes:
      field: of a batch, and of what samples are drawn by.
      drop: share of the training rows that are told the null instead; at 0 there is no null, and
        guidance keeps what is given on both its sides.
      knob: where `drop` is set.
    """

    field: ClassVar[str]
    knob: ClassVar[str]

    @property
    def drop(self) -> float: ...

    def init(self, batch_spec: Mapping[str, Any]) -> Params:
        """Its frozen network's variables, `awaited`, by its name; {} where it has none.

        Raises:
          ValueError: a batch without the field.
        """
        ...

    def null(self, given: Array) -> Array:
        """The null in place of `given [B, ...]`."""
        ...

    def tell(self, frozen: Params, given: Array, x: Array) -> Told:
        """What the network is told of `given [B, ...]`; `x [B, ...]` has the shape of its input."""
        ...


@dataclass(frozen=True)
class ByClass:
    """`label [B] int32` below `classes`; the null class is number `classes`."""

    classes: int
    drop: float = 0.0
    field: ClassVar[str] = "label"
    knob: ClassVar[str] = "task.label_drop"

    def init(self, batch_spec: Mapping[str, Any]) -> Params:
        if "label" not in batch_spec:
            raise ValueError(
                f"task.num_classes={self.classes}, but the data have no labels: set it to 0"
            )
        return {}

    def null(self, given: Array) -> Array:
        return jnp.full_like(given, self.classes)

    def tell(self, frozen: Params, given: Array, x: Array) -> Told:
        return {"label": given}


@dataclass(frozen=True)
class ByText:
    """`tokens [B, L] int32`, read by a frozen tower; the null is the empty caption.

    Attributes:
      tower: `(ids [B, L], pooled=False, skip=...) -> [B, L, D]`, see `TextTransformer` and `T5`.
      blank: ids of the empty caption `[L]`.
      skip: blocks left out at the end of the tower.
      pad: id that fills rows up and that the network is not to see; None shows it all, as Stable
        Diffusion does.
    """

    tower: nn.Module
    blank: tuple[int, ...]
    drop: float = 0.0
    skip: int = 0
    pad: int | None = None
    field: ClassVar[str] = "tokens"
    knob: ClassVar[str] = "task.caption_drop"

    def init(self, batch_spec: Mapping[str, Any]) -> Params:
        if "tokens" not in batch_spec:
            raise ValueError(
                "the config has a text section, but batches have no `tokens`: add a `tokenize` "
                "transform to data.transforms"
            )
        length = batch_spec["tokens"].shape[-1]
        if length != len(self.blank):
            raise ValueError(
                f"texts of {length} tokens, but the empty caption has {len(self.blank)}"
            )
        ids = jnp.zeros((1, length), jnp.int32)
        return {"text": awaited(self.tower, ids, pooled=False, skip=self.skip)}

    def null(self, given: Array) -> Array:
        return jnp.broadcast_to(jnp.asarray(self.blank, given.dtype), given.shape)

    def tell(self, frozen: Params, given: Array, x: Array) -> Told:
        out: Any = self.tower.apply(frozen["text"], given, pooled=False, skip=self.skip)
        told = {"tokens": jax.lax.stop_gradient(out)}
        return told if self.pad is None else {**told, "token_mask": given != self.pad}


@dataclass(frozen=True)
class ByImage:
    """`hint [B, h, w, C] float32`: another image; the null is zeros.

    Attributes:
      seen: "beside", as further channels of the input, brought to its size (Saharia et al. 2022,
        SR3: super-resolution), or "tokens", each pixel of it a token with its place (Rombach et
        al. 2022, section 3.3).
    """

    seen: Literal["beside", "tokens"] = "beside"
    drop: float = 0.0
    field: ClassVar[str] = "hint"
    knob: ClassVar[str] = "task.hint_drop"

    def init(self, batch_spec: Mapping[str, Any]) -> Params:
        if "hint" not in batch_spec:
            raise ValueError(
                f"task.hint={self.seen!r}, but batches have no `hint`: add a `low_resolution` "
                "transform to data.transforms"
            )
        return {}

    def null(self, given: Array) -> Array:
        return jnp.zeros_like(given)

    def tell(self, frozen: Params, given: Array, x: Array) -> Told:
        b, h, w, c = given.shape
        if self.seen == "beside":
            size = (b, *x.shape[1:3], c)
            return {"beside": jax.image.resize(given, size, "linear", antialias=True)}
        down, across = jnp.meshgrid(jnp.linspace(-1, 1, h), jnp.linspace(-1, 1, w), indexing="ij")
        place = jnp.stack([down, across], -1).reshape(1, h * w, 2)
        pixels = given.reshape(b, h * w, c)
        return {"tokens": jnp.concatenate([pixels, jnp.repeat(place, b, 0)], -1)}


def as_given(conditions: Sequence[Condition], asked: Any, partial: bool = False) -> Given:
    """What samples are asked for, by field: a mapping, or the array of the only condition.

    Raises:
      ValueError: a field too many, or (unless `partial`) too few.
    """
    fields = [c.field for c in conditions]
    if not fields:
        return {}
    if not isinstance(asked, Mapping):
        if asked is None or len(fields) > 1:
            what = "a class-conditional model" if fields == ["label"] else "this model"
            raise ValueError(f"{what} draws by {' and '.join(fields)}: give {', '.join(fields)}")
        return {fields[0]: asked}
    wrong = [k for k in asked if k not in fields]
    missing = [k for k in fields if k not in asked and not partial]
    if wrong or missing:
        found = f"has no {wrong[0]}" if wrong else f"lacks {missing[0]}"
        raise ValueError(f"this model draws by {' and '.join(fields)}: what is asked for {found}")
    return asked


def dropped(conditions: Sequence[Condition], given: Given, rng: Rng) -> Given:
    """`given`, of every condition a share of the rows put to its null, each row by its own key."""
    out = dict(given)
    for c in conditions:
        if c.drop:
            stream = c.knob.removeprefix("task.")
            drop = uniform(rng.rowwise(stream)) < c.drop
            x = given[c.field]
            # As a mask [B, 1, ...]: rows of any rank.
            out[c.field] = jnp.where(over(drop, x) > 0, c.null(x), x)
    return out


def against(conditions: Sequence[Condition], given: Given, negative: Given) -> Given:
    """The other side of guidance: `negative` where it says something, else the null of what
    training dropped, else what is given."""
    return {
        c.field: negative.get(c.field, c.null(given[c.field]) if c.drop else given[c.field])
        for c in conditions
    }


def tell(conditions: Sequence[Condition], frozen: Params, given: Given, x: Array) -> Told:
    """All that a network is told of `given`; `x [B, ...]` is shaped like its input."""
    told: Told = {}
    for c in conditions:
        said = c.tell(frozen, given[c.field], x)
        clash = [k for k in said if k in told]
        if clash:
            raise ValueError(
                f"text and hint cannot both be told as {clash[0]}: set task.hint='beside'"
            )
        told |= said
    return told
