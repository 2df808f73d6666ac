"""Noise schedules: time t to a level (alpha, sigma), and log SNR back to t.

Numpy in, float64 numpy out (tables); jax in, float32 jax out (training), so a sampler's
coefficients never lose digits to float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import expit

from diffjax.diffusion.levels import Level, namespace

# log SNR that stands for "no signal" where a zero terminal SNR needs interpolating (alpha 4e-18).
NO_SIGNAL = -80.0


def _variance_preserving(t: Any, logsnr: Any) -> Level:
    """alpha^2 = sigmoid(lambda), sigma^2 = sigmoid(-lambda) (Kingma et al. 2021, eq. 4)."""
    if namespace(logsnr) is np:
        return Level(t, np.sqrt(expit(logsnr)), np.sqrt(expit(-logsnr)))
    half = jax.nn.log_sigmoid(logsnr) / 2, jax.nn.log_sigmoid(-logsnr) / 2
    return Level(t, jnp.exp(half[0]), jnp.exp(half[1]))


@dataclass(frozen=True)
class Schedule:
    """What every schedule offers.

    Attributes (on subclasses):
      t_min, t_max: the ends of time, least and most noise.
      time_scale: what a network's time embedding sees is `time_scale * t`, about [0, 1000).
      discrete: whether training draws integers t.
      open_ended: whether the path goes on beyond t_min and t_max, which then bind sampling alone.
    """

    @property
    def t_min(self) -> float:
        return 0.0

    @property
    def t_max(self) -> float:
        return 1.0

    @property
    def time_scale(self) -> float:
        return 1000.0

    @property
    def discrete(self) -> bool:
        return False

    @property
    def open_ended(self) -> bool:
        return False

    def level(self, t: Any) -> Level:
        """The level at time t, numbers or arrays of any shape."""
        raise TypeError(f"{type(self).__name__} has no path: pick a concrete schedule")

    def time_of(self, logsnr: Any) -> Any:
        """Inverse of `level(t).logsnr` on [t_min, t_max]."""
        raise TypeError(f"{type(self).__name__} has no path: pick a concrete schedule")

    def prior_std(self, level: Level) -> Any:
        """Standard deviation of the noise that sampling starts from: 1 on variance-preserving
        paths (Ho et al. 2020), sigma elsewhere (Karras et al. 2022)."""
        return np.ones_like(level.sigma)


@dataclass(frozen=True)
class Table(Schedule):
    """T levels given by betas (Ho et al. 2020, eq. 4); log SNR is linear between integers.

    Attributes:
      steps: T.
      zero_terminal_snr: shift and scale the table so that the last level holds no signal
        (Lin et al. 2023, algorithm 1).
    """

    steps: int = 1000
    zero_terminal_snr: bool = False

    def betas(self) -> np.ndarray:
        """`beta [T] float64`, each in (0, 1)."""
        raise TypeError("Table has no betas of its own: pick linear, cosine, ...")

    @property
    def t_max(self) -> float:
        return self.steps - 1.0

    @property
    def time_scale(self) -> float:
        return 1000.0 / self.steps

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
        return _variance_preserving(t, logsnr)

    def time_of(self, logsnr: Any) -> Any:
        xp = namespace(logsnr)
        return xp.interp(logsnr, self._logsnrs[::-1], np.arange(self.steps, dtype=np.float64)[::-1])


@dataclass(frozen=True)
class Linear(Table):
    """Linear betas (Ho et al. 2020, section 4); ADM's and DiT's too."""

    beta_start: float = 1e-4
    beta_end: float = 0.02

    def betas(self) -> np.ndarray:
        return np.linspace(self.beta_start, self.beta_end, self.steps)


@dataclass(frozen=True)
class ScaledLinear(Table):
    """Linear in sqrt(beta) (Rombach et al. 2022), the "linear" of latent diffusion's code."""

    beta_start: float = 0.00085
    beta_end: float = 0.012

    def betas(self) -> np.ndarray:
        return np.linspace(self.beta_start**0.5, self.beta_end**0.5, self.steps) ** 2


def _betas_of(alpha_bar: Any, steps: int, beta_max: float) -> np.ndarray:
    grid = np.arange(steps + 1) / steps
    values = alpha_bar(grid)
    return np.minimum(1 - values[1:] / values[:-1], beta_max)


@dataclass(frozen=True)
class Cosine(Table):
    """alpha_bar = cos^2((t/T + s) / (1 + s) pi/2), betas capped (Nichol & Dhariwal 2021, 17)."""

    s: float = 0.008
    beta_max: float = 0.999

    def betas(self) -> np.ndarray:
        return _betas_of(
            lambda u: np.cos((u + self.s) / (1 + self.s) * np.pi / 2) ** 2,
            self.steps,
            self.beta_max,
        )


@dataclass(frozen=True)
class Sigmoid(Table):
    """alpha_bar a clipped sigmoid of time (Jabri et al. 2023, algorithm 1)."""

    start: float = -3.0
    end: float = 3.0
    tau: float = 1.0
    beta_max: float = 0.999

    def betas(self) -> np.ndarray:
        low, high = expit(self.start / self.tau), expit(self.end / self.tau)

        def alpha_bar(u: np.ndarray) -> np.ndarray:
            value = expit((u * (self.end - self.start) + self.start) / self.tau)
            return np.clip((high - value) / (high - low), 1e-9, 1.0)

        return _betas_of(alpha_bar, self.steps, self.beta_max)


@dataclass(frozen=True)
class SigmoidBeta(Table):
    """Betas a sigmoid of time (Xu et al. 2022, GeoDiff): what diffusers calls "sigmoid"."""

    beta_start: float = 1e-4
    beta_end: float = 0.02

    def betas(self) -> np.ndarray:
        ramp = expit(np.linspace(-6, 6, self.steps))
        return ramp * (self.beta_end - self.beta_start) + self.beta_start


@dataclass(frozen=True)
class VPSDE(Schedule):
    """beta(t) linear on t in [0, 1] (Song et al. 2021b, eq. 33): log alpha is quadratic in t."""

    beta_min: float = 0.1
    beta_max: float = 20.0
    epsilon: float = 1e-3

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

    logsnr_min: float = -20.0
    logsnr_max: float = 20.0
    shift: float = 0.0

    @cached_property
    def _line(self) -> tuple[float, float]:
        b = np.arctan(np.exp(-self.logsnr_max / 2))
        return np.arctan(np.exp(-self.logsnr_min / 2)) - b, b

    def level(self, t: Any) -> Level:
        a, b = self._line
        return _variance_preserving(
            t, -2 * namespace(t).log(namespace(t).tan(a * t + b)) + self.shift
        )

    def time_of(self, logsnr: Any) -> Any:
        a, b = self._line
        xp = namespace(logsnr)
        return (xp.arctan(xp.exp(-(logsnr - self.shift) / 2)) - b) / a


@dataclass(frozen=True)
class VE(Schedule):
    """sigma geometric in t in [0, 1], alpha = 1 (Song et al. 2021b, eq. 31)."""

    sigma_min: float = 0.01
    sigma_max: float = 50.0

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

    sigma_min: float = 0.002
    sigma_max: float = 80.0

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

    shift: float = 1.0
    epsilon: float = 1e-3

    @property
    def t_min(self) -> float:
        return self.epsilon

    def level(self, t: Any) -> Level:
        sigma = self.shift * t / (1 + (self.shift - 1) * t)
        return Level(t, 1 - sigma, sigma)

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
