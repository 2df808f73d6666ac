"""Noise schedules: the continuous ones, and all by name. The tables are in `tables`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from diffjax.diffusion.levels import Level, namespace
from diffjax.diffusion.paths import Schedule, variance_preserving
from diffjax.diffusion.tables import Cosine, Linear, ScaledLinear, Sigmoid, SigmoidBeta, Table
from diffjax.ranges import Beta, Exponent, NonNegative, Positive, check_order

__all__ = [
    "EDM",
    "SCHEDULES",
    "VE",
    "VPSDE",
    "ContinuousCosine",
    "Cosine",
    "Linear",
    "RectifiedFlow",
    "ScaledLinear",
    "Schedule",
    "Sigmoid",
    "SigmoidBeta",
    "Table",
]


@dataclass(frozen=True)
class VPSDE(Schedule):
    """beta(t) linear on t in [0, 1] (Song et al. 2021b, eq. 33): log alpha is quadratic in t."""

    beta_min: NonNegative = 0.1
    beta_max: Positive = 20.0
    epsilon: Beta = 1e-3

    def __post_init__(self) -> None:
        check_order("task.schedule", self, "beta_min", "beta_max")

    @property
    def t_min(self) -> float:
        return self.epsilon

    def level(self, t: Any) -> Level:
        xp = namespace(t)
        log_alpha = -(t**2) * (self.beta_max - self.beta_min) / 4 - t * self.beta_min / 2
        with np.errstate(divide="ignore"):
            return Level(t, xp.exp(log_alpha), xp.sqrt(-xp.expm1(2 * log_alpha)))

    def time_of(self, logsnr: Any) -> Any:
        xp = namespace(logsnr)
        log_alpha = -xp.logaddexp(0.0, -logsnr) / 2
        slope = self.beta_max - self.beta_min
        # The stable root of slope t^2 / 4 + beta_min t / 2 + log_alpha = 0.
        root = xp.sqrt(self.beta_min**2 / 4 - slope * log_alpha)
        return -2 * log_alpha / (self.beta_min / 2 + root)


@dataclass(frozen=True)
class ContinuousCosine(Schedule):
    """lambda = -2 log tan(a t + b) between two log SNRs (Ho & Salimans 2022, section 4;
    Hoogeboom et al. 2023). `shift`: 2 log(64 / resolution) moves it to a larger image."""

    logsnr_min: Exponent = -20.0
    logsnr_max: Exponent = 20.0
    shift: Exponent = 0.0

    def __post_init__(self) -> None:
        check_order("task.schedule", self, "logsnr_min", "logsnr_max")

    @cached_property
    def _line(self) -> tuple[float, float]:
        b = np.arctan(np.exp(-self.logsnr_max / 2))
        return np.arctan(np.exp(-self.logsnr_min / 2)) - b, b

    def level(self, t: Any) -> Level:
        a, b = self._line
        return variance_preserving(
            t, -2 * namespace(t).log(namespace(t).tan(a * t + b)) + self.shift
        )

    def time_of(self, logsnr: Any) -> Any:
        a, b = self._line
        xp = namespace(logsnr)
        return (xp.arctan(xp.exp(-(logsnr - self.shift) / 2)) - b) / a


@dataclass(frozen=True)
class VE(Schedule):
    """sigma geometric in t in [0, 1], alpha = 1 (Song et al. 2021b, eq. 31)."""

    sigma_min: Positive = 0.01
    sigma_max: Positive = 50.0

    def __post_init__(self) -> None:
        check_order("task.schedule", self, "sigma_min", "sigma_max")

    def level(self, t: Any) -> Level:
        xp = namespace(t)
        sigma = self.sigma_min * (self.sigma_max / self.sigma_min) ** t
        return Level(t, xp.ones_like(sigma), sigma)

    def time_of(self, logsnr: Any) -> Any:
        log_sigma = -logsnr / 2
        return (log_sigma - np.log(self.sigma_min)) / np.log(self.sigma_max / self.sigma_min)

    def prior_std(self, level: Level) -> Any:
        return level.sigma


@dataclass(frozen=True)
class EDM(Schedule):
    """t is sigma itself, alpha = 1 (Karras et al. 2022, table 1)."""

    sigma_min: Positive = 0.002
    sigma_max: Positive = 80.0

    def __post_init__(self) -> None:
        check_order("task.schedule", self, "sigma_min", "sigma_max")

    @property
    def t_min(self) -> float:
        return self.sigma_min

    @property
    def t_max(self) -> float:
        return self.sigma_max

    @property
    def time_scale(self) -> float:
        return 1.0

    @property
    def open_ended(self) -> bool:
        return True

    def level(self, t: Any) -> Level:
        xp = namespace(t)
        return Level(t, xp.ones_like(t, dtype=float), xp.asarray(t, dtype=float))

    def time_of(self, logsnr: Any) -> Any:
        return namespace(logsnr).exp(-logsnr / 2)

    def prior_std(self, level: Level) -> Any:
        return level.sigma


@dataclass(frozen=True)
class RectifiedFlow(Schedule):
    """z = (1 - t) x + t eps (Liu et al. 2023; Lipman et al. 2023). `shift` s > 1 spends more of
    the time at high noise: t -> s t / (1 + (s - 1) t) (Esser et al. 2024, eq. 23); `epsilon` is
    the least time trained and visited."""

    shift: Positive = 1.0
    epsilon: Beta = 1e-3

    @property
    def t_min(self) -> float:
        return self.epsilon

    def level(self, t: Any) -> Level:
        stretch = 1 + (self.shift - 1) * t
        # Not 1 - sigma, which in float32 is 0 before the end.
        return Level(t, (1 - t) / stretch, self.shift * t / stretch)

    def time_of(self, logsnr: Any) -> Any:
        xp = namespace(logsnr)
        sigma = 1 / (1 + xp.exp(logsnr / 2))
        return sigma / (self.shift - (self.shift - 1) * sigma)


SCHEDULES: dict[str, type[Schedule]] = {
    "linear": Linear,
    "scaled_linear": ScaledLinear,
    "cosine": Cosine,
    "sigmoid": Sigmoid,
    "sigmoid_beta": SigmoidBeta,
    "vp_sde": VPSDE,
    "continuous_cosine": ContinuousCosine,
    "ve": VE,
    "edm": EDM,
    "rectified_flow": RectifiedFlow,
}
