"""The forward process, its posterior, and the training loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax.diffusion.levels import Level, broadcast_to, namespace
from diffjax.diffusion.predictions import Prediction
from diffjax.diffusion.schedules import Schedule
from diffjax.diffusion.weightings import Weighting


def diffuse(x: Array, eps: Array, level: Level) -> Array:
    """`z = alpha x + sigma eps` (Ho et al. 2020, eq. 4); x, eps `[B, ...]`, level [B]."""
    return broadcast_to(level.alpha, x) * x + broadcast_to(level.sigma, x) * eps


def posterior(z: Array, x: Array, t: Level, s: Level) -> tuple[Array, Any, Any]:
    """`q(z_s | z_t, x)`, s cleaner than t (Kingma et al. 2021, appendix A; Ho et al. 2020, eq. 7).

    Returns:
      mean `[B, ...]`; log of the posterior variance (beta-tilde) and of `sigma_{t|s}^2` (beta),
      each shaped like the levels.
    """
    xp = namespace(t.alpha)
    gap = -xp.expm1(t.logsnr - s.logsnr)
    mean = (
        broadcast_to(t.alpha / s.alpha * (s.sigma / t.sigma) ** 2, z) * z
        + broadcast_to(s.alpha * gap, z) * x
    )
    tiny = 1e-37
    log_small = xp.log(xp.maximum(gap * s.sigma**2, tiny))
    log_large = xp.log(xp.maximum(gap * t.sigma**2, tiny))
    return mean, log_small, log_large


def mean_flat(values: Array) -> Array:
    """`[B, ...]` to its mean per example `[B]`."""
    return jnp.mean(values, axis=tuple(range(1, values.ndim)))


def network_output(
    network: Callable[[Array, Array], Any],
    z: Array,
    level: Level,
    schedule: Schedule,
    prediction: Prediction,
) -> Array:
    """The output of a network `(x, c_noise [B]) -> [B, ...]` for `z [B, ...]` at a level ([] or
    [B]), float32."""
    c_noise = jnp.asarray(prediction.c_noise(schedule, level), jnp.float32)
    x = broadcast_to(prediction.input_scale(level), z) * z
    return network(x, jnp.broadcast_to(c_noise, (len(z),))).astype(jnp.float32)


def denoising_loss(
    output: Array,
    x: Array,
    eps: Array,
    level: Level,
    schedule: Schedule,
    prediction: Prediction,
    weighting: Weighting,
) -> tuple[Array, Array]:
    """`w(lambda) (alpha / D)^2 mean((output - target)^2)`: the weighted MSE of eps.

    Args:
      output: the network's, `[B, ...]`, any float type.
      x, eps: the clean image and its noise `[B, ...] float32`.
      level: [B].

    Returns:
      loss [B] and the plain MSE of the network's own target [B], float32.
    """
    error = output.astype(jnp.float32) - prediction.target(x, eps, level)
    mse = mean_flat(error**2)
    weight = loss_weight(schedule, level, prediction, weighting)
    return jax.lax.stop_gradient(weight) * mse, mse


def loss_weight(
    schedule: Schedule, level: Level, prediction: Prediction, weighting: Weighting
) -> Array:
    """The weight of the MSE of the network's own target, shaped like the level."""
    return weighting(schedule, level) * prediction.eps_loss_scale(level)


def check_weights(schedule: Schedule, prediction: Prediction, weighting: Weighting) -> None:
    """Refuse, before any compute, a loss that is not finite at an end of the schedule, or that
    never trains the noisy end, from which samples start.

    Raises:
      ValueError: the weight of the network's MSE is above 1e24 or NaN at an end, or below 1e-24 at
        the greatest time that training draws.
    """
    first, last = schedule.t_min, schedule.t_max
    if not schedule.discrete:  # Times are drawn below t_max.
        last = first + (last - first) * (1 - 2.0**-24)
    level = schedule.level(np.array([first, last]))
    with np.errstate(all="ignore"):
        clean, noisy = np.asarray(loss_weight(schedule, level, prediction, weighting), np.float64)
    names = [type(choice).__name__ for choice in (weighting, prediction, schedule)]
    said = (
        "the loss of task.weighting {} and task.prediction {} has the weight {:.2g} at t={:g} of {}"
    )
    if not clean <= 1e24:
        raise ValueError(
            said.format(*names[:2], clean, first, names[2]) + ", where nothing is noise: begin "
            "later (task.schedule.epsilon), or use another weighting"
        )
    if not 1e-24 <= noisy <= 1e24:
        right = "simple" if type(prediction).__name__ == "Eps" else "v_mse"
        raise ValueError(
            said.format(*names[:2], noisy, last, names[2])
            + f", where samples start: use task.weighting.type={right}"
        )
