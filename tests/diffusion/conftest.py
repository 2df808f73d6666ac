"""Distributions whose denoisers are known in closed form, and a float64 reading of `Rows`."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp as np_logsumexp

from diffjax.diffusion.levels import CLEAN, namespace
from diffjax.diffusion.samplers import StepTable
from diffjax.diffusion.sampling import Estimate
from diffjax.diffusion.schedules import SCHEDULES


@dataclass(frozen=True)
class Mixture:
    """A mixture of isotropic Gaussians in D dimensions; numpy in float64, jax in float32."""

    weights: tuple[float, ...]
    means: tuple[tuple[float, ...], ...]
    stds: tuple[float, ...]

    def _parts(self, z, level):
        """Log of each component's weighted density at z, [K, B], and its posterior mean of x."""
        xp = namespace(z)
        logs, guesses = [], []
        for weight, mean, std in zip(self.weights, self.means, self.stds, strict=True):
            mean = xp.asarray(mean)
            var = (level.alpha * std) ** 2 + level.sigma**2
            gap = z - level.alpha * mean
            logs.append(
                np.log(weight)
                - xp.sum(gap**2, -1) / (2 * var)
                - len(mean) / 2 * xp.log(2 * np.pi * var)
            )
            guesses.append(mean + level.alpha * std**2 / var * gap)
        return xp.stack(logs), xp.stack(guesses)

    def denoise(self, z, level):
        """E[x | z], the exact denoiser."""
        xp = namespace(z)
        logs, guesses = self._parts(z, level)
        share = xp.exp(logs - xp.max(logs, 0))
        share = share / xp.sum(share, 0)
        return xp.sum(share[..., None] * guesses, 0)

    def estimate(self, z, at, to):
        return Estimate(self.denoise(z, at))

    def log_prob(self, z, level=CLEAN):
        logs, _ = self._parts(z, level)
        if namespace(z) is np:
            return np_logsumexp(logs, axis=0)
        return jax.nn.logsumexp(logs, axis=0)

    def draw(self, n, seed=0):
        rng = np.random.default_rng(seed)
        which = rng.choice(len(self.weights), n, p=self.weights)
        noise = rng.standard_normal((n, len(self.means[0])))
        return np.array(self.means)[which] + np.array(self.stds)[which, None] * noise


def run64(rows: StepTable, denoise, z, noise=None):
    """The rule written in `Rows`, read in float64 numpy: an implementation of its own."""
    z = np.asarray(z, np.float64)
    memory = np.zeros((rows.past_coef.shape[1], *z.shape))
    for i in range(rows.nfe):
        drawn = 0.0 if noise is None else noise[i]
        z = rows.scale[i] * z + rows.churn[i] * drawn
        at = type(rows.at)(*(field[i] for field in rows.at))
        x_hat = denoise(z, at)
        after = rows.z_coef[i] * z + rows.x_coef[i] * x_hat + rows.noise_coef[i] * drawn
        after = after + np.tensordot(rows.past_coef[i], memory, axes=1)
        kept = rows.keep_z[i] * z + rows.keep_x[i] * x_hat
        if len(memory):
            memory = np.concatenate([kept[None], memory[:-1]])
        z = after
    return z


# One of every schedule, and the spacing in which a few dozen steps cover it well.
SPACING_OF = {
    "linear": "trailing",
    "scaled_linear": "trailing",
    "cosine": "trailing",
    "sigmoid": "trailing",
    "sigmoid_beta": "trailing",
    "vp_sde": "trailing",
    "continuous_cosine": "trailing",
    "ve": "log_snr",
    "edm": "karras",
    "rectified_flow": "trailing",
}


@pytest.fixture(params=sorted(SCHEDULES))
def schedule(request):
    return SCHEDULES[request.param]()


@pytest.fixture
def spacing(schedule):
    """The grid's spacing that suits `schedule`."""
    return {SCHEDULES[name]: spacing for name, spacing in SPACING_OF.items()}[type(schedule)]


@pytest.fixture(scope="session")
def gaussian():
    return Mixture((1.0,), ((0.4,),), (0.5,))


@pytest.fixture(scope="session")
def bimodal():
    return Mixture((0.3, 0.7), ((-1.0,), (0.8,)), (0.3, 0.2))


@pytest.fixture(scope="session")
def plane():
    """Two blobs in two dimensions."""
    return Mixture((0.5, 0.5), ((-0.6, 0.2), (0.7, -0.3)), (0.25, 0.35))


@pytest.fixture(scope="session")
def reading():
    """`run64(rows, denoise, z, noise=None)`."""
    return run64


@pytest.fixture(scope="session")
def normals():
    """`(shape, seed) -> float32 standard normals`."""
    return lambda shape, seed=0: jnp.asarray(
        np.random.default_rng(seed).standard_normal(shape), jnp.float32
    )
