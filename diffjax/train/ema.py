"""Exponential moving averages of the parameters, their length stated in images."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.ranges import Images, Positive
from diffjax.task import Params


@dataclass(frozen=True)
class EMA:
    """One average.

    Attributes:
      half_life: images over which an old value loses half its weight, so the average means the
        same at every batch size. A decay per step is `B ln 2 / -ln(decay)` images at batch
        B: 887,184 of decay 0.9999 at batch 128.
      ramp: the half-life is at most `ramp` times the images seen (EDM: 0.05), so that the
        initial values are forgotten early; None for none (Ho et al. 2020).
    """

    half_life: Images
    ramp: Positive | None = None

    def __post_init__(self) -> None:
        if self.half_life <= 0 or (self.ramp is not None and self.ramp <= 0):
            raise ValueError(
                f"an ema needs half_life > 0 images and ramp > 0 (or None), not {self.half_life} "
                f"and {self.ramp}"
            )

    def share(self, step: Array, batch_size: int) -> Array:
        """The weight of the new parameters at update number `step` (from 0), [] float32: 1 minus
        the decay, without the loss of digits that 1 - 0.9999 has."""
        half_life = jnp.float32(self.half_life)
        if self.ramp is not None:
            seen = step.astype(jnp.float32) * batch_size
            half_life = jnp.minimum(half_life, jnp.maximum(self.ramp * seen, 1e-8))
        return -jnp.expm1(-batch_size * math.log(2) / half_life)

    def update(self, average: Params, params: Params, step: Array, batch_size: int) -> Params:
        """The average after update number `step`."""
        share = self.share(step, batch_size)
        return jax.tree.map(lambda a, p: a + share * (p - a), average, params)
