"""An autoregressive model of image embeddings: a network of their codes, its space and conditions
(Ramesh et al. 2022, section 2.2).

What training and drawing share. Pure: it holds networks and choices, never their values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.denoisers.codes import CODES, Codes
from diffjax.denoisers.conditions.base import (
    PARAMS,
    ByName,
    Condition,
    encode,
    fields_of,
    init_conditions,
    zeros_of,
)
from diffjax.denoisers.conditions.text import TextCondition
from diffjax.denoisers.embeddings import EmbeddingSpace
from diffjax.keys import stream
from diffjax.models.conditioning import Conditioning
from diffjax.models.prior_ar import AutoregressivePrior
from diffjax.task import Params, Variables


class Prefix(NamedTuple):
    """What codes are predicted by beside those before them: the buckets of cosines `dots [B]`, and
    the encoded conditions."""

    dots: Array
    cond: Conditioning


@dataclass(frozen=True)
class AutoregressiveModel:
    """A model of image embeddings, see `EmbeddingModel`; the variables of its codes are
    `frozen["codes"]`.

    Attributes:
      network: see `AutoregressivePrior`.
      space: of the embeddings.
      conditions: what it is conditioned by.

    Raises:
      ValueError: a network or a space of another kind, more components than embeddings have, or
        cosines of no text.
    """

    network: AutoregressivePrior
    space: EmbeddingSpace
    conditions: tuple[Condition, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.network, AutoregressivePrior):
            raise ValueError(
                "task 'autoregressive_prior' trains a model of type 'prior_ar', not "
                f"{type(self.network).__name__}"
            )
        if not isinstance(self.space, EmbeddingSpace):
            raise ValueError(
                "task 'autoregressive_prior' is of image embeddings: add a section embedding="
                "dict(run=...), the CLIP that they are of"
            )
        if self.codes.dot_buckets and self.text is None:
            raise ValueError(
                "model.dot_buckets are of cosines with a whole text's embedding, which no "
                "condition reads: add a text condition with to='both', or set model.dot_buckets=0"
            )

    @property
    def codes(self) -> Codes:
        """How embeddings are sequences."""
        n = self.network
        return Codes(self.shape[0], n.components, n.buckets, n.dot_buckets)

    @property
    def shape(self) -> tuple[int]:
        """(E,) of one embedding."""
        return self.space.shape

    @property
    def fields(self) -> list[str]:
        """Fields of a batch that samples are drawn by."""
        return fields_of(self.conditions)

    @property
    def text(self) -> TextCondition | None:
        """The condition whose text is compared with the image; None without one."""
        return whole_text(self.conditions)

    def init(self, key: Array, batch_spec: Mapping[str, Any]) -> Variables:
        """Fresh variables; `batch_spec` name -> ShapeDtypeStruct of one batch. The network's
        parameters, those of conditions among them under `conditions`.

        Raises:
          ValueError: a text's embedding of another width than the image's.
        """
        own, frozen = init_conditions(self.conditions, stream(key, "conditions"), batch_spec)
        frozen = {**self.space.init(), **frozen, CODES: self.codes.init()}
        zeros = zeros_of(self.conditions, batch_spec)
        params = {PARAMS: own} if own else {}
        x = jnp.zeros((1, *self.shape))
        prefix = self.prefix(params, frozen, zeros, self.dots(frozen, zeros, x))
        codes = jnp.zeros((1, self.codes.components - 1), jnp.int32)
        fresh = self.network.init(key, codes, *prefix)["params"]
        return Variables({**fresh, **params}, {}, frozen)

    def dots(self, frozen: Params, cond: ByName, x: Array) -> Array:
        """Buckets `[B] int32` of the cosines of embeddings `x [B, E]` with those of their texts."""
        codes, held = self.codes, frozen[CODES]
        if not codes.dot_buckets:
            return codes.dots(held, x, x)
        assert self.text is not None
        text = self.text.embedding(frozen, cond[self.text.name])
        check_widths(text.shape[-1], x.shape[-1])
        return codes.dots(held, text, x)

    def prefix(self, params: Params, frozen: Params, cond: ByName, dots: Array) -> Prefix:
        """The network's inputs for `cond`, by name, and `dots [B]`, which where the text says
        nothing say nothing either: at sampling nobody knows the cosine of an image with no text."""
        x = jnp.zeros((len(dots), *self.shape))
        if self.codes.dot_buckets:
            assert self.text is not None
            ids = cond[self.text.name]
            silent = (ids == self.text.null(ids)).all(axis=-1)
            dots = jnp.where(silent, self.codes.no_dot, dots)
        return Prefix(dots, encode(self.conditions, params, frozen, cond, x))

    def logits(self, params: Params, codes: Array, prefix: Prefix) -> Array:
        """Logits `[B, n + 1, V]` by codes `[B, n]`, see `AutoregressivePrior`."""
        return self._apply(params, {}, codes, prefix)

    def further(
        self, params: Params, state: Params, codes: Array, prefix: Prefix, at: Array | None = None
    ) -> tuple[Params, Array]:
        """The state (keys and values of the tokens so far) and the logits `[B, V]` of the next
        code. Without `at` codes `[B, 0]` and an empty `state` begin a sequence; with it `[B, 1]` is
        its code number `at`."""
        out, state = self._apply(
            params, state, codes, prefix, cached=True, mutable=["cache"], at=at
        )
        return state, out[:, -1]

    def _apply(self, params: Params, state: Params, codes: Array, prefix: Prefix, **kw: Any) -> Any:
        weights = {k: v for k, v in params.items() if k != PARAMS}
        return self.network.apply({"params": weights, **state}, codes, *prefix, **kw)

    def nats(self, params: Params, codes: Array, prefix: Prefix) -> Array:
        """`[B, K] float32`, minus the logarithm of what the network finds each of `codes [B, K]`
        probable."""
        logits = self.logits(params, codes[:, :-1], prefix)
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), codes[..., None], axis=-1)
        return -chosen[..., 0]


def whole_text(conditions: tuple[Condition, ...]) -> TextCondition | None:
    """The first condition that reads the embedding of a whole text; None without one."""
    found = (c for c in conditions if isinstance(c, TextCondition) and c.to != "context")
    return next(found, None)


def check_widths(text: int, image: int) -> None:
    """Raises ValueError where a text's embedding has another width than an image's."""
    if text != image:
        raise ValueError(
            f"a text's embedding has {text} elements, an image's {image}, so that they have no "
            "cosine: take both towers of one CLIP, or set model.dot_buckets=0"
        )
