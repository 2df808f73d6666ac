"""One random network in torch and in jax, and the trajectories that samplers draw with it.

The same numpy weights stand for the model on both sides, and noise is drawn once and given to both.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import torch

from diffjax.diffusion.guidance import Guidance, bounded
from diffjax.diffusion.predictions import X0, Eps, Prediction, V
from diffjax.diffusion.sampling import Estimate, sample
from diffjax.diffusion.schedules import (
    Cosine,
    Linear,
    ScaledLinear,
    Schedule,
    SigmoidBeta,
)
from diffjax.keys import normal, per_row, stream

SHAPE = (3, 2, 4, 4)  # torch's B, C, H, W; samplers do not care which axis is which
STEPS = 10  # divides 1000, and 999 / 9 is an integer: all spacings land on whole times
TOLERANCE = 1e-4
PREDICTIONS = {"epsilon": Eps(), "sample": X0(), "v_prediction": V()}
_SIZE = int(np.prod(SHAPE[1:]))
_RNG = np.random.default_rng(7)
_W1, _W2 = (_RNG.standard_normal((_SIZE, _SIZE)).astype(np.float32) / 6 for _ in range(2))
_TIME = _RNG.standard_normal(_SIZE).astype(np.float32)


def network(z, t, xp):
    """A random smooth function of the state and the time, of jnp, torch or numpy."""
    array = torch.as_tensor if xp is torch else xp.asarray
    flat = z.reshape(len(z), -1)
    hidden = xp.tanh(flat @ array(_W1) + array(_TIME) * (t * 0.004))
    return (0.9 * flat + 0.8 * hidden @ array(_W2)).reshape(z.shape)


def torch_network(z, t):
    return network(z, torch.as_tensor(t, dtype=torch.float32), torch)


@dataclass(frozen=True)
class Model:
    """The same network as a denoiser. It sees the level's own time, `c_noise` of `schedule`, or
    1000 sigma."""

    prediction: Prediction
    schedule: Schedule | None = None
    learned: bool = False
    sees_sigma: bool = False
    guidance: Guidance = field(default_factory=Guidance)

    def estimate(self, z, level):
        scaled = z * self.prediction.input_scale(level)
        t = level.t if self.schedule is None else self.prediction.c_noise(self.schedule, level)
        t = 1000 * level.sigma if self.sees_sigma else t
        v = jnp.tanh(network(scaled, t + 100.0, jnp)) if self.learned else None
        return Estimate(self.prediction.to_x(network(scaled, t, jnp), z, level), v)


def keys():
    return per_row(jax.random.key(3), jnp.arange(SHAPE[0]))


def draws(count):
    """The noise `sample` draws for these keys, `[count, *SHAPE] float32`."""
    noise_keys = jax.vmap(lambda k: stream(k, "sampler"))(keys())
    fold = jax.vmap(jax.random.fold_in, in_axes=(0, None))
    return np.stack([normal(fold(noise_keys, i), SHAPE[1:]) for i in range(count)])


@partial(jax.jit, static_argnums=(0, 3))
def run(model, rows, z, stochastic):
    """The table is an argument, so that cases of one shape share one compiled sampler."""
    denoise = bounded(model.estimate, model.guidance)
    return sample(denoise, rows, z, keys(), trajectory=True, stochastic=stochastic)[1]


def ours(model, rows, z):
    """States after each row `[N, *SHAPE]` float64."""
    table = jax.tree.map(np.float32, rows)
    return np.asarray(run(model, table, jnp.asarray(z), rows.stochastic), np.float64)


def theirs(scheduler, z, scale_input=False, **step):
    states, sample = [], torch.from_numpy(z)
    for t in scheduler.timesteps:
        inputs = scheduler.scale_model_input(sample, t) if scale_input else sample
        sample = scheduler.step(torch_network(inputs, t), t, sample, **step).prev_sample
        states.append(sample.numpy())
    return np.stack(states).astype(np.float64)


def agree(a, b, record_property):
    """The largest error over the trajectory, relative to the largest value of each state."""
    assert a.shape == b.shape
    axes = tuple(range(1, a.ndim))
    error = np.max(np.max(np.abs(a - b), axes) / np.max(np.abs(b), axes))
    record_property("relative_error", f"{error:.1e}")
    assert error < TOLERANCE


def levels(schedule, times):
    return schedule.level(np.asarray(times, np.float64))


TABLES = {
    "linear": (Linear(), dict(beta_schedule="linear", beta_start=1e-4, beta_end=0.02)),
    "scaled_linear": (
        ScaledLinear(),
        dict(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012),
    ),
    "cosine": (Cosine(), dict(beta_schedule="squaredcos_cap_v2")),
    "sigmoid": (SigmoidBeta(), dict(beta_schedule="sigmoid")),
}


SIGMA_SPACINGS = {
    "leading": ("leading", dict(timestep_spacing="leading")),
    "trailing": ("trailing", dict(timestep_spacing="trailing")),
    "linspace": ("linspace", dict(timestep_spacing="linspace")),
    "karras": ("karras", dict(use_karras_sigmas=True)),
    "log_snr": ("log_snr", dict(use_exponential_sigmas=True)),
}
