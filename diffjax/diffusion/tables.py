"""Schedules that are tables of T betas: linear, scaled linear, cosine, sigmoid."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.special import expit

from diffjax.diffusion.levels import Level, namespace
from diffjax.diffusion.paths import Schedule, variance_preserving
from diffjax.ranges import Beta, Exponent, Positive, Probability, Steps, check_order

# log SNR that stands for "no signal" where a zero terminal SNR needs interpolating (alpha 4e-18).
NO_SIGNAL = -80.0


@dataclass(frozen=True)
class Table(Schedule):
    """T levels given by betas (Ho et al. 2020, eq. 4); log SNR is linear between integers.

    Attributes:
      steps: T.
      zero_terminal_snr: shift and scale the table so that the last level holds no signal
        (Lin et al. 2023, algorithm 1).
      rescaled: the network is told 1000 t / T, whatever T is (iDDPM); False: t itself.
    """

    steps: Steps = 1000
    zero_terminal_snr: bool = False
    rescaled: bool = True

    def betas(self) -> np.ndarray:
        """`beta [T] float64`, each in (0, 1)."""
        raise TypeError("Table has no betas of its own: pick linear, cosine, ...")

    @property
    def t_max(self) -> float:
        return self.steps - 1.0

    @property
    def time_scale(self) -> float:
        return 1000.0 / self.steps if self.rescaled else 1.0

    @property
    def discrete(self) -> bool:
        return True

    @cached_property
    def alphas_cumprod(self) -> np.ndarray:
        """`alpha_bar [T] float64`."""
        alpha_bar = np.cumprod(1 - self.betas())
        if self.zero_terminal_snr:
            root = np.sqrt(alpha_bar)
            root = (root - root[-1]) * root[0] / (root[0] - root[-1])
            alpha_bar = root**2
        return alpha_bar

    @cached_property
    def _logsnrs(self) -> np.ndarray:
        with np.errstate(divide="ignore"):
            logsnr = np.log(self.alphas_cumprod) - np.log1p(-self.alphas_cumprod)
        return np.maximum(logsnr, NO_SIGNAL)

    def level(self, t: Any) -> Level:
        xp = namespace(t)
        logsnr = xp.interp(t, np.arange(self.steps, dtype=np.float64), self._logsnrs)
        return variance_preserving(t, logsnr)

    def time_of(self, logsnr: Any) -> Any:
        xp = namespace(logsnr)
        return xp.interp(logsnr, self._logsnrs[::-1], np.arange(self.steps, dtype=np.float64)[::-1])


@dataclass(frozen=True)
class Linear(Table):
    """Linear betas (Ho et al. 2020, section 4); ADM's and DiT's too. For T other than 1,000 their
    code multiplies both ends by 1000 / T."""

    beta_start: Beta = 1e-4
    beta_end: Beta = 0.02

    def betas(self) -> np.ndarray:
        return np.linspace(self.beta_start, self.beta_end, self.steps)


@dataclass(frozen=True)
class ScaledLinear(Table):
    """Linear in sqrt(beta) (Rombach et al. 2022), the "linear" of latent diffusion's code."""

    beta_start: Beta = 0.00085
    beta_end: Beta = 0.012

    def betas(self) -> np.ndarray:
        return np.linspace(self.beta_start**0.5, self.beta_end**0.5, self.steps) ** 2


def _betas_of(alpha_bar: Any, steps: int, beta_max: float) -> np.ndarray:
    grid = np.arange(steps + 1) / steps
    values = alpha_bar(grid)
    return np.minimum(1 - values[1:] / values[:-1], beta_max)


@dataclass(frozen=True)
class Cosine(Table):
    """alpha_bar = cos^2((t/T + s) / (1 + s) pi/2), betas capped (Nichol & Dhariwal 2021, 17)."""

    s: Probability = 0.008
    beta_max: Beta = 0.999

    def betas(self) -> np.ndarray:
        return _betas_of(
            lambda u: np.cos((u + self.s) / (1 + self.s) * np.pi / 2) ** 2,
            self.steps,
            self.beta_max,
        )


@dataclass(frozen=True)
class Sigmoid(Table):
    """alpha_bar a clipped sigmoid of time (Jabri et al. 2023, algorithm 1)."""

    start: Exponent = -3.0
    end: Exponent = 3.0
    tau: Positive = 1.0
    beta_max: Beta = 0.999

    def __post_init__(self) -> None:
        check_order("task.schedule", self, "start", "end")

    def betas(self) -> np.ndarray:
        low, high = expit(self.start / self.tau), expit(self.end / self.tau)

        def alpha_bar(u: np.ndarray) -> np.ndarray:
            value = expit((u * (self.end - self.start) + self.start) / self.tau)
            return np.clip((high - value) / (high - low), 1e-9, 1.0)

        return _betas_of(alpha_bar, self.steps, self.beta_max)


@dataclass(frozen=True)
class SigmoidBeta(Table):
    """Betas a sigmoid of time (Xu et al. 2022, GeoDiff): what diffusers calls "sigmoid"."""

    beta_start: Beta = 1e-4
    beta_end: Beta = 0.02

    def betas(self) -> np.ndarray:
        ramp = expit(np.linspace(-6, 6, self.steps))
        return ramp * (self.beta_end - self.beta_start) + self.beta_start
