"""Noise schedules: time t to a level (alpha, sigma), and log SNR back to t.

Numpy in, float64 numpy out (tables); jax in, float32 jax out (training), so a sampler's
coefficients never lose digits to float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import expit

from diffjax.diffusion.levels import Level, namespace


def variance_preserving(t: Any, logsnr: Any) -> Level:
    """alpha^2 = sigmoid(lambda), sigma^2 = sigmoid(-lambda) (Kingma et al. 2021, eq. 4)."""
    if namespace(logsnr) is np:
        return Level(t, np.sqrt(expit(logsnr)), np.sqrt(expit(-logsnr)))
    half = jax.nn.log_sigmoid(logsnr) / 2, jax.nn.log_sigmoid(-logsnr) / 2
    return Level(t, jnp.exp(half[0]), jnp.exp(half[1]))


@dataclass(frozen=True)
class Schedule:
    """A noise schedule.

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
