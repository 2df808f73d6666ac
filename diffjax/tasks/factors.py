"""The task of naming several factors of an image at once: one network, a head for each factor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax.ranges import Decay
from diffjax.task import Batch, Variables
from diffjax.tasks.classification import Classifier, smoothed_cross_entropy


@dataclass(frozen=True)
class FactorsTask(Classifier):
    """Classification by factors that are independent of each other: so a combination that training
    never shows can be named.

    Attributes:
      network, image_shape: see `Classifier`; its logits are those of every word of every factor,
        factor after factor.
      factors: fields `[B] int32` of a batch, indices into the words of each; -1 says nothing.
      words: those of each factor.
      label_smoothing: in [0, 1), of every factor.
    """

    factors: tuple[str, ...]
    words: tuple[tuple[str, ...], ...]
    label_smoothing: Decay = 0.0

    def __post_init__(self) -> None:
        if not self.factors or len(self.factors) != len(self.words):
            raise ValueError(
                f"task.factors={self.factors}: at least one, and words for each, not "
                f"{len(self.words)}"
            )

    def init(self, key: Array, batch_spec: Mapping[str, Any]) -> Variables:
        for name in self.factors:
            if name not in batch_spec or len(batch_spec[name].shape) != 1:
                raise ValueError(f"task.factors: the data hold no one number {name!r} an image")
        return super().init(key, batch_spec)

    def heads(self, logits: Array) -> dict[str, Array]:
        """Factor -> its columns of `logits [B, K]`."""
        parts = jnp.split(logits, np.cumsum([len(w) for w in self.words])[:-1], axis=-1)
        return dict(zip(self.factors, parts, strict=True))

    def compare(self, logits: Array, batch: Batch) -> tuple[Array, Array]:
        """The sum over the factors that an example has of their cross-entropies in nats."""
        loss, right = jnp.zeros(len(logits)), jnp.ones(len(logits), bool)
        for name, head in self.heads(logits).items():
            value = batch[name]
            one = smoothed_cross_entropy(head, value, self.label_smoothing)
            loss += jnp.where(value >= 0, one, 0.0)
            right &= (value < 0) | (head.argmax(-1) == value)
        return loss, right.astype(jnp.float32)

    def factor_logits(self, variables: Variables, image: Array) -> dict[str, Array]:
        """Factor -> its logits, `[B, words] float32`."""
        return self.heads(self.logits(variables, image))

    def predict_fns(self) -> Mapping[str, Callable[..., Any]]:
        return {
            "factor_logits": self.factor_logits,
            "features": self.features,
            "validation_loss": self.validation_loss,
        }
