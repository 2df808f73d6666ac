"""The distribution of training times p(t). Sampling grids are a separate axis: `grids`."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import ndtri

from diffjax.diffusion.schedules import Schedule
from diffjax.keys import Rng, uniform
from diffjax.ranges import Exponent, Positive


def _spread(schedule: Schedule, u: Array) -> Array:
    """u in [0, 1) to a time: an integer of a table, or a point of [t_min, t_max]."""
    if schedule.discrete:
        return jnp.floor(u * (schedule.t_max + 1))
    return schedule.t_min + u * (schedule.t_max - schedule.t_min)


@dataclass(frozen=True)
class Times:
    """Training times; `antithetic` puts the batch on a stratified grid with one random offset,
    `u_i = u_0 + i / B mod 1` (Kingma et al. 2021, appendix I.1), which lowers the variance."""

    antithetic: bool = False

    def quantiles(self, rng: Rng) -> Array:
        """`u [B]` in [0, 1); row i of the global batch, however it is split."""
        if self.antithetic:
            offset = jax.random.uniform(rng.batch("times"))
            return (offset + rng.rows / rng.size) % 1.0
        return uniform(rng.rowwise("times"))

    def __call__(self, schedule: Schedule, rng: Rng) -> Array:
        """`t [B] float32`, in the schedule's units."""
        return _spread(schedule, self.quantiles(rng))


@dataclass(frozen=True)
class Uniform(Times):
    """Uniform over the schedule (Ho et al. 2020, algorithm 1)."""


@dataclass(frozen=True)
class LogNormal(Times):
    """`log(sigma / alpha) ~ N(mean, std^2)` (Karras et al. 2022, table 1), on any schedule."""

    mean: Exponent = -1.2
    std: Positive = 1.2

    def __call__(self, schedule: Schedule, rng: Rng) -> Array:
        log_ratio = self.mean + self.std * ndtri(jnp.clip(self.quantiles(rng), 1e-6, 1 - 1e-6))
        t = schedule.time_of(-2 * log_ratio)
        if schedule.open_ended:
            return t
        t = jnp.round(t) if schedule.discrete else t
        return jnp.clip(t, schedule.t_min, schedule.t_max)


@dataclass(frozen=True)
class LogitNormal(Times):
    """`logit(t) ~ N(mean, std^2)` (Esser et al. 2024, eq. 19), spread over the schedule."""

    mean: Exponent = 0.0
    std: Positive = 1.0

    def __call__(self, schedule: Schedule, rng: Rng) -> Array:
        u = jnp.clip(self.quantiles(rng), 1e-6, 1 - 1e-6)
        share = jax.nn.sigmoid(self.mean + self.std * ndtri(u))
        # In float32 a sigmoid reaches 1, which is no time that a table has.
        return _spread(schedule, jnp.minimum(share, 1 - 2.0**-24))


TIMES: dict[str, type[Times]] = {
    "uniform": Uniform,
    "log_normal": LogNormal,
    "logit_normal": LogitNormal,
}
