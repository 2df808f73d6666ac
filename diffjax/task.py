"""The contract between a task (network + objective) and the train loop, the one seam of `train`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from jax import Array

from diffjax.keys import Rng

Params = Any
Batch = Mapping[str, Array]


class Variables(NamedTuple):
    """Variables of a task's networks.

    Attributes:
      params: trained by the optimizer, averaged by the EMAs.
      model_state: changed by the forward pass (batch statistics); {} where there is none.
      frozen: towers that get neither gradients nor optimizer slots; {} where there are none.
    """

    params: Params
    model_state: Params
    frozen: Params


class LossOutput(NamedTuple):
    """`loss [B] float32` one value per example, `metrics` name -> [B] or [], new `model_state`."""

    loss: Array
    metrics: Mapping[str, Array]
    model_state: Params


class Task(Protocol):
    """Pure functions only: a task holds its networks and choices, never their values."""

    def init(self, key: Array, batch_spec: Mapping[str, Any]) -> Variables:
        """Fresh variables; `batch_spec` name -> ShapeDtypeStruct of one batch."""
        ...

    def loss(
        self,
        params: Params,
        model_state: Params,
        frozen: Params,
        batch: Batch,
        rng: Rng,
        train: bool,
    ) -> LossOutput:
        """One loss per example of `batch`."""
        ...

    def predict_fns(self) -> Mapping[str, Callable[..., Any]]:
        """Named pure functions `(variables, ...) -> arrays`: `sample`, `features`, ..."""
        ...
