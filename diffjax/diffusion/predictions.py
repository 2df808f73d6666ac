"""Predictions: a network's target, and how its output becomes an estimate of the clean image.

A prediction is one line: the target as a mix `F = a x + b eps` of the image and its noise. With
`z = alpha x + sigma eps` that is a 2 x 2 linear system of determinant `D = alpha b - sigma a`, so

    x_hat   = (b z - sigma F) / D        c_skip = b / D,  c_out = -sigma / D
    eps_hat = (alpha F - a z) / D
    eps-MSE = (alpha / D)^2 MSE(F)

for every prediction at once: nothing else about them is written anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jax import Array

from diffjax.diffusion.levels import Level, broadcast_to, namespace
from diffjax.diffusion.schedules import Schedule
from diffjax.ranges import Positive


@dataclass(frozen=True)
class Prediction:
    """A prediction; subclasses give `mix`."""

    def mix(self, level: Level) -> tuple[Any, Any]:
        """`(a, b)` of the target `a x + b eps`, each shaped like the level."""
        raise TypeError("Prediction is abstract: pick eps, x0, v, flow or edm")

    def input_scale(self, level: Level) -> Any:
        """`c_in`: the network sees `c_in z`."""
        return namespace(level.alpha).ones_like(level.alpha)

    def c_noise(self, schedule: Schedule, level: Level) -> Any:
        """`c_noise`: what the network's time embedding sees."""
        return schedule.time_scale * level.t

    def determinant(self, level: Level) -> Any:
        """`D = alpha b - sigma a`."""
        a, b = self.mix(level)
        return level.alpha * b - level.sigma * a

    def target(self, x: Array, eps: Array, level: Level) -> Array:
        """The network's target, `[B, ...] float32`."""
        a, b = self.mix(level)
        return broadcast_to(a, x) * x + broadcast_to(b, x) * eps

    def to_x(self, output: Array, z: Array, level: Level) -> Array:
        """`x_hat` from the network's output at `z`."""
        _, b = self.mix(level)
        d = self.determinant(level)
        return broadcast_to(b / d, z) * z - broadcast_to(level.sigma / d, z) * output

    def from_x(self, x_hat: Array, z: Array, level: Level) -> Array:
        """The output that a network with estimate `x_hat` would have given (inverse of `to_x`)."""
        _, b = self.mix(level)
        d = self.determinant(level)
        return broadcast_to(b / level.sigma, z) * z - broadcast_to(d / level.sigma, z) * x_hat

    def eps_loss_scale(self, level: Level) -> Any:
        """`(alpha / D)^2`: multiplies the network's MSE to give the MSE of eps."""
        return (level.alpha / self.determinant(level)) ** 2


@dataclass(frozen=True)
class Eps(Prediction):
    """The noise (Ho et al. 2020, eq. 14). Undefined where alpha = 0."""

    def mix(self, level: Level) -> tuple[Any, Any]:
        xp = namespace(level.alpha)
        return xp.zeros_like(level.alpha), xp.ones_like(level.alpha)


@dataclass(frozen=True)
class X0(Prediction):
    """The clean image. Its eps-MSE is unbounded where sigma = 0."""

    def mix(self, level: Level) -> tuple[Any, Any]:
        xp = namespace(level.alpha)
        return xp.ones_like(level.alpha), xp.zeros_like(level.alpha)

    def determinant(self, level: Level) -> Any:
        # -sigma, held off zero so that x_hat = output at the clean end too.
        return -namespace(level.sigma).maximum(level.sigma, 1e-12)


@dataclass(frozen=True)
class V(Prediction):
    """`v = alpha eps - sigma x` (Salimans & Ho 2022, appendix D)."""

    def mix(self, level: Level) -> tuple[Any, Any]:
        return -level.sigma, level.alpha


@dataclass(frozen=True)
class Flow(Prediction):
    """`eps - x`: the velocity of the straight path (Lipman et al. 2023)."""

    def mix(self, level: Level) -> tuple[Any, Any]:
        xp = namespace(level.alpha)
        return -xp.ones_like(level.alpha), xp.ones_like(level.alpha)


@dataclass(frozen=True)
class EDMPrecondition(Prediction):
    """EDM's preconditioning (Karras et al. 2022, table 1), for any alpha; for alpha = 1 it gives
    `c_skip = sd^2 / (sigma^2 + sd^2)`, `c_out = sigma sd / sqrt(sigma^2 + sd^2)`.

    Attributes:
      sigma_data: standard deviation sd of the data.
    """

    sigma_data: Positive = 0.5

    def _norm(self, level: Level) -> Any:
        return namespace(level.alpha).sqrt(level.sigma**2 + (level.alpha * self.sigma_data) ** 2)

    def mix(self, level: Level) -> tuple[Any, Any]:
        n = self._norm(level)
        return level.sigma / (self.sigma_data * n), -level.alpha * self.sigma_data / n

    def input_scale(self, level: Level) -> Any:
        return 1 / self._norm(level)

    def c_noise(self, schedule: Schedule, level: Level) -> Any:
        return namespace(level.alpha).log(level.ratio) / 4


PREDICTIONS: dict[str, type[Prediction]] = {
    "eps": Eps,
    "x0": X0,
    "v": V,
    "flow": Flow,
    "edm": EDMPrecondition,
}


def check_ends(schedule: Schedule, prediction: Prediction) -> None:
    """Refuse, before any compute, a pair that divides by zero at an end of the schedule.

    Raises:
      ValueError: eps-prediction where the last level holds no signal.
    """
    alpha = float(schedule.level(np.float64(schedule.t_max)).alpha)
    if isinstance(prediction, Eps) and alpha < 1e-8:
        raise ValueError(
            f"eps-prediction is undefined at t={schedule.t_max:g} of {type(schedule).__name__}, "
            "where alpha = 0: use prediction v, x0 or flow"
        )
