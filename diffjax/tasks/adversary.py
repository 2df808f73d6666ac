"""The discriminator inside a task that trains it beside what it judges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
from jax import Array

from diffjax.task import Params

# Its name in `params` and in the collections of `model_state`.
DISCRIMINATOR = "discriminator"


@dataclass(frozen=True, eq=False)
class Discriminator:
    """A discriminator in training, with its variables of one step.

    Attributes:
      network: `(image, train) -> logits`.
      params, model_state: the task's.
    """

    network: nn.Module
    params: Params
    model_state: Mapping[str, Params]

    @property
    def _held(self) -> dict[str, Params]:
        state = {k: t[DISCRIMINATOR] for k, t in self.model_state.items() if DISCRIMINATOR in t}
        return {"params": self.params[DISCRIMINATOR], **state}

    def logits(self, image: Array, made: Array) -> tuple[Array, Array, dict[str, Params]]:
        """The logits of `image` and of `made`, and the model state that both moved."""
        held, logits = self._held, []
        moving = [name for name in held if name != "params"]
        for x in (image, made):
            got, moved = self.network.apply(held, x, True, mutable=moving)
            logits.append(got)
            held = {**held, **moved}
        moved = {name: {**self.model_state[name], DISCRIMINATOR: held[name]} for name in moving}
        return logits[0], logits[1], {**self.model_state, **moved}

    def fake_logits(self, made: Array) -> Array:
        """The logits of `made`; the discriminator is a constant, and is not moved."""
        held = jax.lax.stop_gradient(self._held)
        moving = [name for name in held if name != "params"]
        logits: Any = self.network.apply(held, made, True, mutable=moving)[0]
        return logits
