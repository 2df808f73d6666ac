"""State that a run carries from step to step: arrays alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.struct
import jax.numpy as jnp
from jax import Array

from diffjax.task import Params, Variables

RUNNING = -1


class TrainState(flax.struct.PyTreeNode):
    """A checkpoint holds this and the position of the data, nothing else.

    Attributes:
      step: [] int32, updates done.
      params: trained parameters, float32.
      ema: name -> averaged parameters, float32.
      opt_state: the optimizer's slots.
      model_state: batch statistics and the like.
      halted_at: [] int32, the step whose loss or gradient was not finite under
        `on_nonfinite="stop"`; RUNNING until then. A halted state changes no more, so it still is
        the state that met the fault.
    """

    step: Array
    params: Params
    ema: Mapping[str, Params]
    opt_state: Any
    model_state: Params
    halted_at: Array

    def variables(self, frozen: Params, ema: str | None = None) -> Variables:
        """The networks' values: the trained parameters, or an average by name.

        Raises:
          ValueError: no average of that name.
        """
        if ema is not None and ema not in self.ema:
            known = ", ".join(self.ema) or "none"
            raise ValueError(f"ema={ema!r} is not kept by this run; kept: {known}")
        params = self.params if ema is None else self.ema[ema]
        return Variables(params, self.model_state, frozen)


def counter(value: int) -> Array:
    """`value` as [] int32."""
    return jnp.asarray(value, jnp.int32)
