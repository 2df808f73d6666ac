"""Samplers, each a table of float64 coefficients with one row per network evaluation.

Every sampler here is linear in the current state z, the estimate x_hat, what earlier evaluations
left behind, and fresh noise. So a sampler is a function from a grid to a `StepTable`,
`sampling.sample` runs any of them in one `lax.scan`, and the number of rows is the number of
function evaluations.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from diffjax.diffusion.grids import Grid, level_at_ratio
from diffjax.diffusion.levels import Level, take
from diffjax.diffusion.ode import ode
from diffjax.diffusion.pseudo_numerical import plms, pndm
from diffjax.diffusion.step_table import FULL_NOISE, StepTable, make_step_table, stack
from diffjax.ranges import NonNegative, Reach


def _log_snr_gap(t: Level, s: Level) -> np.ndarray:
    """`1 - SNR_t / SNR_s`, in [0, 1] when noise falls: sigma_{t|s}^2 / sigma_t^2."""
    with np.errstate(invalid="ignore"):
        return np.where(s.sigma == 0, 1.0, -np.expm1(t.logsnr - s.logsnr))


def ddim(grid: Grid, eta: NonNegative = 0.0) -> StepTable:
    """`z_s = alpha_s x_hat + sqrt(sigma_s^2 - tau^2) eps_hat + tau noise` with `tau = eta` times
    the ancestral standard deviation (Song et al. 2021a, eq. 12 and 16)."""
    t, s = grid.t, grid.s
    tau = eta * s.sigma * np.sqrt(np.clip(_log_snr_gap(t, s), 0, None))
    if np.any(tau > s.sigma * (1 + 1e-12)):
        raise ValueError(f"eta={eta} adds more noise than the grid's levels hold: take eta <= 1")
    z = np.sqrt(np.maximum(s.sigma**2 - tau**2, 0)) / t.sigma
    return make_step_table(t, s, z, s.alpha - t.alpha * z, noise_coef=tau)


def euler(grid: Grid) -> StepTable:
    """Euler in `r = sigma / alpha` (Karras et al. 2022, alg. 1 without its corrector), which is
    DDIM at eta = 0: one rule under its two names."""
    return ddim(grid, eta=0.0)


def ancestral(grid: Grid, variance: str = "small") -> StepTable:
    """DDPM: the posterior mean given x_hat, plus noise (Ho et al. 2020, algorithm 2, eq. 7).

    Args:
      grid: pairs (t, s).
      variance: "small" (posterior, beta-tilde), "large" (beta), or "learned": the network's v
        interpolates their logarithms (Nichol & Dhariwal 2021, eq. 15).
    """
    t, s = grid.t, grid.s
    gap = np.clip(_log_snr_gap(t, s), 0, None)
    alpha_ts = t.alpha / s.alpha
    z = alpha_ts * s.sigma**2 / t.sigma**2
    x = s.alpha * gap
    small, large = gap * s.sigma**2, gap * t.sigma**2
    noisy = s.sigma > 0  # the last step returns the mean
    if variance == "small":
        return make_step_table(t, s, z, x, noise_coef=np.sqrt(small))
    if variance == "large":
        return make_step_table(t, s, z, x, noise_coef=np.sqrt(large) * noisy)
    if variance == "learned":
        tiny = 1e-40
        logs = np.log(np.maximum(np.stack([small, large], -1), tiny))
        logs[~noisy] = np.log(tiny)
        return make_step_table(t, s, z, x, log_variance=logs)
    raise ValueError(f"variance={variance!r} is unknown; known: small, large, learned")


def heun(
    grid: Grid,
    churn: NonNegative = 0.0,
    churn_min: NonNegative = 0.0,
    churn_max: Reach = float("inf"),
    churn_noise: NonNegative = 1.0,
) -> StepTable:
    """Heun's method in `r = sigma / alpha`, with EDM's churn (Karras et al. 2022, algorithm 2).

    Two evaluations a step, one where the step ends without noise, or starts where z holds no
    signal (`rows.FULL_NOISE`).
    Churn raises the level from r to `r (1 + gamma)` before a step, `gamma = min(churn / N,
    sqrt(2) - 1)` where r is in [churn_min, churn_max]; `churn_noise` is S_noise.
    """
    rows = []
    for i in range(grid.steps):
        t, s = take(grid.t, i), take(grid.s, i)
        scale, noise = 1.0, 0.0
        gamma = min(churn / grid.steps, 2**0.5 - 1)
        if gamma > 0 and t.ratio < FULL_NOISE and churn_min <= t.ratio <= churn_max:
            hat = level_at_ratio(grid.schedule, np.asarray(t.ratio * (1 + gamma)))
            scale = hat.alpha / t.alpha
            noise = churn_noise * hat.alpha * np.sqrt(hat.ratio**2 - t.ratio**2)
            t = hat
        z = s.sigma / t.sigma
        corrected = s.sigma > 0 and t.ratio < FULL_NOISE
        rows.append([t, s, scale, noise, z, s.alpha - t.alpha * z, 0.0, 1 / t.sigma])
        if corrected:
            half = s.alpha * (s.ratio - t.ratio) / 2
            # z_s + half (eps_s - eps_t), with eps_s = (z_s - alpha_s x_hat) / sigma_s.
            rows.append([s, s, 1.0, 0.0, 1 + half / s.sigma, -half * s.alpha / s.sigma, -half, 0.0])
    at, to = (stack([row[k] for row in rows]) for k in range(2))
    scale, noise, z, x, past, keep = np.array([row[2:] for row in rows], np.float64).T
    return make_step_table(
        at, to, z, x, scale=scale, churn=noise, past_coef=past[:, None],
        keep_z=keep, keep_x=-keep * at.alpha,
    )  # fmt: skip


def dpmpp_2m(grid: Grid, stochastic: bool = False) -> StepTable:
    """DPM-Solver++ of order two, multistep (Lu et al. 2022b, algorithm 2), midpoint form.

    First order on the first step, and on the last when it lands on the clean end, or when there
    are fewer than 15 steps in the whole grid (the authors' stabilisation). `stochastic`: the SDE
    form of the paper's section 4.3 (SDE-DPM-Solver++ 2M).
    """
    t, s, n = grid.t, grid.s, grid.steps
    with np.errstate(invalid="ignore"):
        h = (s.logsnr - t.logsnr) / 2
    decay = s.sigma / t.sigma
    gap = np.clip(_log_snr_gap(t, s), 0, None)  # 1 - exp(-2 h)
    # 1 - exp(-h) and 1 - exp(-2 h); an infinite h leaves nothing of z.
    gain = s.alpha * (gap if stochastic else np.where(s.sigma == 0, 1.0, -np.expm1(-h)))
    z = decay * (np.exp(-h) if stochastic else np.ones(n))
    half_slope = np.zeros(n)
    if n > 1:
        half_slope[1:] = 0.5 * gain[1:] * h[1:] / h[:-1]
    if s.sigma[-1] == 0 or (grid.planned or n) < 15:
        half_slope[-1] = 0.0
    half_slope = np.where(np.isfinite(half_slope), half_slope, 0.0)
    noise = s.sigma * np.sqrt(gap) if stochastic else np.zeros(n)
    return make_step_table(
        t, s, z, gain + half_slope, past_coef=-half_slope[:, None],
        noise_coef=noise, keep_x=np.ones(n),
    )  # fmt: skip


SAMPLERS: dict[str, Callable[..., StepTable]] = {
    "ddpm": ancestral,
    "ddim": ddim,
    "euler": euler,
    "heun": heun,
    "ode": ode,
    "dpmpp_2m": dpmpp_2m,
    "plms": plms,
    "pndm": pndm,
}
