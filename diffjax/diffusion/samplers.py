"""Samplers, each a table of float64 coefficients with one row per network evaluation.

Every sampler here is linear in the current state z, the estimate x_hat, what earlier evaluations
left behind, and fresh noise. So a sampler is a function from a grid to `Rows`, `sampling.sample`
runs any of them in one `lax.scan`, and the number of rows is the number of function evaluations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from diffjax.diffusion.grids import Grid, level_at_ratio
from diffjax.diffusion.levels import Level, take


class Rows(NamedTuple):
    """One row per evaluation; all float64 numpy `[N]` unless said otherwise. A row does

        z     <- scale z + churn noise           before the evaluation
        x_hat <- denoise(z, at)
        z'    <- z_coef z + x_coef x_hat + past_coef . memory + noise_coef noise
        memory' <- [keep_z z + keep_x x_hat, *memory[:-1]]

    Attributes:
      past_coef: `[N, K]`, latest first; K is the length of the memory, 0 for one-step samplers.
      log_variance: `[N, 2]` log of the smallest and largest variance between which a network with
        learned variance interpolates (it then replaces noise_coef), or None.
    """

    at: Level
    scale: np.ndarray
    churn: np.ndarray
    z_coef: np.ndarray
    x_coef: np.ndarray
    past_coef: np.ndarray
    noise_coef: np.ndarray
    keep_z: np.ndarray
    keep_x: np.ndarray
    log_variance: np.ndarray | None = None

    @property
    def nfe(self) -> int:
        """Network evaluations of a whole trajectory."""
        return len(self.z_coef)

    @property
    def stochastic(self) -> bool:
        return bool(self.noise_coef.any() or self.churn.any()) or self.log_variance is not None


Sampler = Callable[[Grid], Rows]


def _rows(at: Level, z: np.ndarray, x: np.ndarray, **given: np.ndarray | None) -> Rows:
    zero = np.zeros_like(z)
    fields = dict(
        scale=np.ones_like(z),
        churn=zero,
        past_coef=np.zeros((len(z), 0)),
        noise_coef=zero,
        keep_z=zero,
        keep_x=zero,
    )
    return Rows(at=at, z_coef=z, x_coef=x, **{**fields, **given})


def _log_snr_gap(t: Level, s: Level) -> np.ndarray:
    """`1 - SNR_t / SNR_s`, in [0, 1] when noise falls: sigma_{t|s}^2 / sigma_t^2."""
    with np.errstate(invalid="ignore"):
        return np.where(s.sigma == 0, 1.0, -np.expm1(t.logsnr - s.logsnr))


def ddim(grid: Grid, eta: float = 0.0) -> Rows:
    """`z_s = alpha_s x_hat + sqrt(sigma_s^2 - tau^2) eps_hat + tau noise` with `tau = eta` times
    the ancestral standard deviation (Song et al. 2021a, eq. 12 and 16)."""
    t, s = grid.t, grid.s
    tau = eta * s.sigma * np.sqrt(np.clip(_log_snr_gap(t, s), 0, None))
    if np.any(tau > s.sigma * (1 + 1e-12)):
        raise ValueError(f"eta={eta} adds more noise than the grid's levels hold: take eta <= 1")
    z = np.sqrt(np.maximum(s.sigma**2 - tau**2, 0)) / t.sigma
    return _rows(t, z, s.alpha - t.alpha * z, noise_coef=tau)


def euler(grid: Grid) -> Rows:
    """Euler in `r = sigma / alpha` (Karras et al. 2022, alg. 1 without its corrector), which is
    DDIM at eta = 0: one rule under its two names."""
    return ddim(grid, eta=0.0)


def ancestral(grid: Grid, variance: str = "small") -> Rows:
    """DDPM: the posterior mean given x_hat, plus noise (Ho et al. 2020, algorithm 2, eq. 7).

    Args:
      grid: pairs (t, s).
      variance: "small" (posterior, beta-tilde), "large" (beta), or "learned": the network's v
        interpolates their logarithms (Nichol & Dhariwal 2021, eq. 15).
    """
    t, s = grid.t, grid.s
    gap = _log_snr_gap(t, s)
    alpha_ts = t.alpha / s.alpha
    z = alpha_ts * s.sigma**2 / t.sigma**2
    x = s.alpha * gap
    small, large = gap * s.sigma**2, gap * t.sigma**2
    noisy = s.sigma > 0  # the last step returns the mean
    if variance == "small":
        return _rows(t, z, x, noise_coef=np.sqrt(small))
    if variance == "large":
        return _rows(t, z, x, noise_coef=np.sqrt(large) * noisy)
    if variance == "learned":
        tiny = 1e-40
        logs = np.log(np.maximum(np.stack([small, large], -1), tiny))
        logs[~noisy] = np.log(tiny)
        return _rows(t, z, x, log_variance=logs)
    raise ValueError(f"variance={variance!r} is unknown; known: small, large, learned")


def heun(
    grid: Grid,
    churn: float = 0.0,
    churn_min: float = 0.0,
    churn_max: float = float("inf"),
    churn_noise: float = 1.0,
) -> Rows:
    """Heun's method in `r = sigma / alpha`, with EDM's churn (Karras et al. 2022, algorithm 2).

    Two evaluations a step, one where the step ends without noise (or starts without signal).
    Churn raises the level from r to `r (1 + gamma)` before a step, `gamma = min(churn / N,
    sqrt(2) - 1)` where r is in [churn_min, churn_max]; `churn_noise` is S_noise.
    """
    rows = []
    for i in range(grid.steps):
        t, s = take(grid.t, i), take(grid.s, i)
        scale, noise = 1.0, 0.0
        gamma = min(churn / grid.steps, 2**0.5 - 1)
        # At full noise (alpha = 0) there is no more noise to add.
        if gamma > 0 and t.alpha > 1e-8 and churn_min <= t.ratio <= churn_max:
            hat = level_at_ratio(grid.schedule, np.asarray(t.ratio * (1 + gamma)))
            scale = hat.alpha / t.alpha
            noise = churn_noise * hat.alpha * np.sqrt(hat.ratio**2 - t.ratio**2)
            t = hat
        z = s.sigma / t.sigma
        corrected = s.sigma > 0 and t.alpha > 1e-8
        rows.append([t, scale, noise, z, s.alpha - t.alpha * z, 0.0, 1 / t.sigma])
        if corrected:
            half = s.alpha * (s.ratio - t.ratio) / 2
            # z_s + half (eps_s - eps_t), with eps_s = (z_s - alpha_s x_hat) / sigma_s.
            rows.append([s, 1.0, 0.0, 1 + half / s.sigma, -half * s.alpha / s.sigma, -half, 0.0])
    at = Level(*(np.array([row[0][k] for row in rows]) for k in range(3)))
    scale, noise, z, x, past, keep = np.array([row[1:] for row in rows], np.float64).T
    return _rows(
        at, z, x, scale=scale, churn=noise, past_coef=past[:, None],
        keep_z=keep, keep_x=-keep * at.alpha,
    )  # fmt: skip


def dpmpp_2m(grid: Grid, stochastic: bool = False) -> Rows:
    """DPM-Solver++ of order two, multistep (Lu et al. 2022b, algorithm 2), midpoint form.

    First order on the first step, and on the last when it lands on the clean end, or when there
    are fewer than 15 steps (the authors' stabilisation). `stochastic`: the SDE form of the paper's
    section 4.3 (SDE-DPM-Solver++ 2M).
    """
    t, s, n = grid.t, grid.s, grid.steps
    with np.errstate(invalid="ignore"):
        h = (s.logsnr - t.logsnr) / 2
    decay = s.sigma / t.sigma
    gap = _log_snr_gap(t, s)  # 1 - exp(-2 h)
    # 1 - exp(-h) and 1 - exp(-2 h); an infinite h leaves nothing of z.
    gain = s.alpha * (gap if stochastic else np.where(s.sigma == 0, 1.0, -np.expm1(-h)))
    z = decay * (np.exp(-h) if stochastic else np.ones(n))
    half_slope = np.zeros(n)
    if n > 1:
        half_slope[1:] = 0.5 * gain[1:] * h[1:] / h[:-1]
    if s.sigma[-1] == 0 or n < 15:
        half_slope[-1] = 0.0
    half_slope = np.where(np.isfinite(half_slope), half_slope, 0.0)
    noise = s.sigma * np.sqrt(gap) if stochastic else np.zeros(n)
    return _rows(
        t, z, gain + half_slope, past_coef=-half_slope[:, None],
        noise_coef=noise, keep_x=np.ones(n),
    )  # fmt: skip


# Adams-Bashforth weights of eps, latest first (Liu et al. 2022, eq. 12).
_ADAMS = (
    [1.0],
    [3 / 2, -1 / 2],
    [23 / 12, -16 / 12, 5 / 12],
    [55 / 24, -59 / 24, 37 / 24, -9 / 24],
)


class _EpsRows:
    """Collects rows of a sampler that moves by `z_s = (alpha_s/alpha_t) z + c eps` (Liu et al.
    2022, eq. 11), with eps a weighted sum over named earlier evaluations."""

    def __init__(self) -> None:
        self.at: list[Level] = []
        self.z: list[float] = []
        self.eps: list[dict[int, float]] = []

    def add(self, at: Level, z: float, weights: dict[int, float]) -> int:
        """`z' = z_coef z + sum_j weights[j] eps_j`; returns this evaluation's own number, which
        `weights` may name."""
        self.at.append(at)
        self.z.append(z)
        self.eps.append(weights)
        return len(self.at) - 1

    def rows(self) -> Rows:
        n = len(self.at)
        at = Level(*(np.array([level[k] for level in self.at], np.float64) for k in range(3)))
        memory = max(i - j for i in range(n) for j in self.eps[i])
        now, past = np.zeros(n), np.zeros((n, memory))
        for i in range(n):
            for j, weight in self.eps[i].items():
                if j == i:
                    now[i] += weight
                else:
                    past[i, i - j - 1] += weight
        keep = 1 / at.sigma
        # eps = (z - alpha x_hat) / sigma
        return _rows(
            at, np.array(self.z) + now * keep, -now * keep * at.alpha, past_coef=past,
            keep_z=keep, keep_x=-keep * at.alpha,
        )  # fmt: skip


def _transfer(t: Level, s: Level) -> tuple[float, float]:
    """`(A, B)` of `z_s = A z_t + B eps`."""
    if t.alpha < 1e-8:
        raise ValueError(
            "plms and pndm extrapolate the noise estimate, which is undefined at the grid's first "
            "level (alpha = 0): use ddim, heun or dpmpp_2m there"
        )
    a = s.alpha / t.alpha
    return a, s.sigma - a * t.sigma


def plms(grid: Grid) -> Rows:
    """Pseudo linear multistep, started by one pseudo Heun step (Liu et al. 2022, section 3.3): the
    PNDM of Stable Diffusion, N + 1 evaluations for N steps."""
    rows = _EpsRows()
    t, s = take(grid.t, 0), take(grid.s, 0)
    a, b = _transfer(t, s)
    history = [rows.add(t, a, {0: b})]
    if grid.steps > 1:
        # From the provisional z_s, put (eps_0 + eps_1) / 2 in eps_0's place.
        rows.add(take(grid.t, 1), 1.0, {0: -b / 2, 1: b / 2})
    _multistep(rows, grid, range(1, grid.steps), history)
    return rows.rows()


def pndm(grid: Grid) -> Rows:
    """Pseudo numerical methods: three pseudo Runge-Kutta steps of four evaluations, then linear
    multistep (Liu et al. 2022, algorithm 2): N + 9 evaluations for N steps."""
    if grid.steps < 4:
        raise ValueError(
            f"pndm needs at least 4 steps (three of them Runge-Kutta), got {grid.steps}"
        )
    rows, history = _EpsRows(), []
    for i in range(3):
        t, s = take(grid.t, i), take(grid.s, i)
        middle = grid.schedule.level((t.t + s.t) / 2)
        (a, b), (a_mid, b_mid) = _transfer(t, s), _transfer(t, middle)
        k = len(rows.at)
        # Each stage restarts from z_t, which is recovered from the stage before.
        rows.add(t, a_mid, {k: b_mid})
        rows.add(middle, 1.0, {k: -b_mid, k + 1: b_mid})
        back = a / a_mid
        rows.add(middle, back, {k + 1: -back * b_mid, k + 2: b})
        rows.add(s, 1.0, {k: b / 6, k + 1: b / 3, k + 2: b / 3 - b, k + 3: b / 6})
        history.append(k)
    _multistep(rows, grid, range(3, grid.steps), history)
    return rows.rows()


def _multistep(rows: _EpsRows, grid: Grid, steps: Sequence[int], history: list[int]) -> None:
    for i in steps:
        t = take(grid.t, i)
        a, b = _transfer(t, take(grid.s, i))
        history.append(len(rows.at))
        weights = _ADAMS[min(len(history), 4) - 1]
        latest = history[::-1][: len(weights)]
        rows.add(t, a, {j: b * w for j, w in zip(latest, weights, strict=True)})


SAMPLERS: dict[str, Callable[..., Rows]] = {
    "ddpm": ancestral,
    "ddim": ddim,
    "euler": euler,
    "heun": heun,
    "dpmpp_2m": dpmpp_2m,
    "plms": plms,
    "pndm": pndm,
}
