"""Clocks of the probability flow: in what time, and at what scale, its curve is followed.

A noise level r = sigma / alpha says where on the curve a state lies. A clock gives that place a
time t, and the state y = s(r) z / alpha a scale (Karras et al. 2022, eq. 4 and table 1): the curve
is the same, a solver's steps along it are not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Linear:
    """`sigma(t) = t, s = 1`: Karras et al. 2022, and DDIM."""

    def time(self, r: Any) -> Any:
        return r

    def ratio(self, t: Any) -> Any:
        """Inverse of `time`."""
        return t

    def speed(self, r: Any) -> Any:
        """`d log r / dt`."""
        return 1 / r

    def scale(self, r: Any) -> Any:
        """s."""
        return np.ones_like(r)

    def growth(self, r: Any) -> Any:
        """`d log s / dt`."""
        return np.zeros_like(r)


@dataclass(frozen=True)
class VE(Linear):
    """`sigma(t) = sqrt(t), s = 1`: Song et al. 2021b's variance-exploding equation."""

    def time(self, r: Any) -> Any:
        return r**2

    def ratio(self, t: Any) -> Any:
        return np.sqrt(t)

    def speed(self, r: Any) -> Any:
        return 1 / (2 * r**2)


@dataclass(frozen=True)
class VP(Linear):
    """`sigma(t) = sqrt(exp(beta_d t^2 / 2 + beta_min t) - 1), s = 1 / sqrt(1 + sigma^2)`: Song et
    al. 2021b's variance-preserving equation.

    Attributes:
      r_max, r_min: levels at t = 1 and t = epsilon, which the betas follow from.
      epsilon: the paper's epsilon_s.
    """

    r_max: float
    r_min: float
    epsilon: float = 1e-3

    @property
    def _betas(self) -> tuple[float, float]:
        high, low = np.log1p(np.square([self.r_max, self.r_min]))
        beta_d = 2 * (low / self.epsilon - high) / (self.epsilon - 1)
        return beta_d, high - beta_d / 2

    def time(self, r: Any) -> Any:
        """0 at r = 0. Where beta_min is negative, as at EDM's own ends, no level lies between that
        and the time at which sigma is 0 again, and other levels come after."""
        beta_d, beta_min = self._betas
        height = np.log1p(np.square(r))
        root = np.sqrt(np.maximum(beta_min**2 + 2 * beta_d * height, 0))
        if beta_min < 0:
            return np.where(height == 0, 0.0, (root - beta_min) / beta_d)
        return 2 * height / (root + beta_min)

    def ratio(self, t: Any) -> Any:
        beta_d, beta_min = self._betas
        return np.sqrt(np.expm1(beta_d * t**2 / 2 + beta_min * t))

    def speed(self, r: Any) -> Any:
        beta_d, beta_min = self._betas
        return (beta_min + beta_d * self.time(r)) * (1 + r**-2.0) / 2

    def scale(self, r: Any) -> Any:
        return 1 / np.sqrt(1 + r**2)

    def growth(self, r: Any) -> Any:
        return -(r**2) / (1 + r**2) * self.speed(r)


# Name -> the clock of levels between r_max and r_min.
CLOCKS: dict[str, Callable[[float, float], Linear]] = {
    "linear": lambda r_max, r_min: Linear(),
    "ve": lambda r_max, r_min: VE(),
    "vp": VP,
}
