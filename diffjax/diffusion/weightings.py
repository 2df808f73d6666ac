"""Loss weights `w(lambda)`, all in one unit: they multiply the MSE of eps, so w = 1 is L_simple.

An x0-MSE is the eps-MSE over the SNR, a v-MSE is the eps-MSE times (SNR + 1) / SNR.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.diffusion.levels import Level
from diffjax.diffusion.schedules import Schedule
from diffjax.ranges import Exponent, NonNegative, Positive


@dataclass(frozen=True)
class Weighting:
    """`w(schedule, level) -> [B] float32 > 0`."""

    def __call__(self, schedule: Schedule, level: Level) -> Array:
        raise TypeError("Weighting is abstract: pick simple, min_snr, ...")


@dataclass(frozen=True)
class Simple(Weighting):
    """Ho et al. 2020, eq. 14. Also "SNR weighting": the x0-MSE times its SNR."""

    def __call__(self, schedule: Schedule, level: Level) -> Array:
        return jnp.ones_like(level.alpha)


@dataclass(frozen=True)
class SNR(Weighting):
    """`SNR^power` on the x0-MSE: power 1 is `simple`, 0 the plain x0-MSE.

    With `truncated`, `max(SNR^power, 1)`: the paper's truncated SNR at power 1 (Salimans & Ho 2022,
    section 4).

    Raises:
      ValueError: truncated at power 0, where there is nothing to cut.
    """

    power: Exponent = 0.0
    truncated: bool = False

    def __post_init__(self) -> None:
        if self.truncated and self.power == 0:
            raise ValueError(
                "weighting snr: truncated=True cuts nothing of SNR^power at power=0, which is 1 "
                "everywhere: set power=1 for max(SNR, 1), or truncated=False"
            )

    def __call__(self, schedule: Schedule, level: Level) -> Array:
        log_w = (self.power - 1) * level.logsnr
        return jnp.exp(jnp.maximum(log_w, -level.logsnr) if self.truncated else log_w)


@dataclass(frozen=True)
class VMSE(Weighting):
    """The v-MSE, "SNR + 1" on the x0-MSE (Salimans & Ho 2022, section 4)."""

    def __call__(self, schedule: Schedule, level: Level) -> Array:
        return 1 + jnp.exp(-level.logsnr)


@dataclass(frozen=True)
class MinSNR(Weighting):
    """`min(SNR, gamma) / SNR` (Hang et al. 2023, eq. 8)."""

    gamma: Positive = 5.0

    def __call__(self, schedule: Schedule, level: Level) -> Array:
        return jnp.minimum(1.0, self.gamma * jnp.exp(-level.logsnr))


@dataclass(frozen=True)
class P2(Weighting):
    """`1 / (k + SNR)^gamma` (Choi et al. 2022, eq. 8)."""

    k: NonNegative = 1.0
    gamma: Exponent = 1.0

    def __call__(self, schedule: Schedule, level: Level) -> Array:
        return (self.k + jnp.exp(level.logsnr)) ** -self.gamma


@dataclass(frozen=True)
class EDMWeighting(Weighting):
    """`(sigma^2 + sd^2) / (sigma sd)^2` on the x0-MSE (Karras et al. 2022, table 1)."""

    sigma_data: Positive = 0.5

    def __call__(self, schedule: Schedule, level: Level) -> Array:
        return 1 + jnp.exp(-level.logsnr) / self.sigma_data**2


@dataclass(frozen=True)
class VLB(Weighting):
    """`-1/2 d lambda / dt` times the length of time: with uniform t its mean is the continuous
    variational bound in nats per dimension (Kingma et al. 2021, eq. 17), up to its two ends."""

    def __call__(self, schedule: Schedule, level: Level) -> Array:
        t = jnp.asarray(level.t, jnp.float32)
        _, slope = jax.jvp(lambda u: schedule.level(u).logsnr, (t,), (jnp.ones_like(t),))
        return -slope / 2 * (schedule.t_max - schedule.t_min)


@dataclass(frozen=True)
class SigmoidWeighting(Weighting):
    """`sigmoid(bias - lambda)` of the bound's own weight, `-1/2 d lambda / dt` on the MSE of eps:
    with uniform t the loss is one integral over lambda, whatever the schedule (Kingma & Gao 2023;
    Hoogeboom et al. 2024)."""

    bias: Exponent = 2.0

    def __call__(self, schedule: Schedule, level: Level) -> Array:
        return VLB()(schedule, level) * jax.nn.sigmoid(self.bias - level.logsnr)


WEIGHTINGS: dict[str, type[Weighting]] = {
    "simple": Simple,
    "snr": SNR,
    "v_mse": VMSE,
    "min_snr": MinSNR,
    "p2": P2,
    "edm": EDMWeighting,
    "sigmoid": SigmoidWeighting,
    "vlb": VLB,
}
