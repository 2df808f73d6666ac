"""A denoiser of two sets of weights, each for levels of its own (Balaji et al. 2022: eDiff-I)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.denoisers.model import DiffusionModel
from diffjax.diffusion.levels import Level
from diffjax.diffusion.sampling import Estimate
from diffjax.models.conditioning import Conditioning
from diffjax.task import Params

FIRST, LAST = "first", "last"


@dataclass(frozen=True)
class TwoExperts(DiffusionModel):
    """A model whose network has two sets of parameters, `params["first"]` and `params["last"]`,
    the second for times t <= `boundary`, in the schedule's own units; drawn from, not trained.
    """

    boundary: float = 0.0

    def estimate(
        self, params: Params, z: Array, level: Level, cond: Conditioning, **kw: Any
    ) -> Estimate:
        """See `DiffusionModel.estimate`; the level is one for all rows.

        Raises:
          ValueError: a level of each row's own.
        """
        if jnp.ndim(level.t):
            raise ValueError(f"two experts take one level for all rows, not {jnp.shape(level.t)}")
        one = partial(DiffusionModel.estimate, self, **kw)
        branches = (partial(one, params[LAST]), partial(one, params[FIRST]))
        return jax.lax.cond(level.t <= self.boundary, *branches, z, level, cond)
