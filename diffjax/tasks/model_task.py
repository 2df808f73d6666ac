"""Tasks that train a model which also draws without them: what these have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from diffjax.denoisers.conditions.base import Condition
from diffjax.keys import Rng, root, stream
from diffjax.task import Batch, LossOutput, Params, Variables


class ModelTask(ABC):
    """Attributes:
    model: its network, space and conditions; a `DiffusionModel` or an `AutoregressiveModel`.
    """

    model: Any

    @property
    def network(self) -> nn.Module:
        """The network that is trained."""
        return self.model.network

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The conditions of the network."""
        return self.model.conditions

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(H, W, C) of one `image` of a batch, or (D,) of one point."""
        return self.model.space.image_shape

    def init(self, key: Array, batch_spec: Mapping[str, Any]) -> Variables:
        """See `Task.init`."""
        return self.model.init(key, batch_spec)

    @abstractmethod
    def loss(
        self,
        params: Params,
        model_state: Params,
        frozen: Params,
        batch: Batch,
        rng: Rng,
        train: bool,
    ) -> LossOutput:
        """See `Task.loss`."""

    def validation_loss(self, variables: Variables, seed: Array, batch: Batch) -> dict[str, Array]:
        """The training loss with nothing dropped, [B]."""
        size = len(batch["image"])
        rng = Rng(stream(root(seed), "validation"), jnp.arange(size), size)
        out = self.loss(*variables, batch, rng, False)
        return {"loss": out.loss, **out.metrics}
