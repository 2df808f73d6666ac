"""Euler's and Heun's steps of the probability flow by any clock: the deterministic ablation of
Karras et al. 2022, section 3. `samplers.euler` and `samplers.heun` are its linear clock."""

from __future__ import annotations

import numpy as np

from diffjax.choices import pick
from diffjax.diffusion.edm_time import CLOCKS, Linear
from diffjax.diffusion.grids import Grid
from diffjax.diffusion.levels import Level, take
from diffjax.diffusion.step_table import FULL_NOISE, StepTable, make_step_table, stack
from diffjax.ranges import Factor


def ode(grid: Grid, clock: str = "linear", order: Factor = 2) -> StepTable:
    """`dy/dt = s ((d log s + d log r) z / alpha - (d log r) x_hat)` of `y = s z / alpha` (eq. 4 in
    terms of x_hat), solved over the grid's levels.

    Args:
      grid: pairs (t, s); levels without signal (`rows.FULL_NOISE`) are left by DDIM's step, which
        is exact there.
      clock: linear, ve or vp.
      order: 1, Euler; 2, Heun, whose last step onto the clean end is Euler's (algorithm 1).

    Raises:
      ValueError: an unknown clock or order.
    """
    if order not in (1, 2):
        raise ValueError(f"order={order} is unknown; known: 1 (Euler), 2 (Heun)")
    make_time = CLOCKS[pick("clock", clock, CLOCKS)]
    signal = grid.t.ratio[grid.t.ratio < FULL_NOISE]
    edm_time = make_time(float(signal[0]), float(signal[-1])) if len(signal) else Linear()
    rows = []
    for i in range(grid.steps):
        t, s = take(grid.t, i), take(grid.s, i)
        rows += _step(edm_time, t, s, order) if t.ratio < FULL_NOISE else [_ddim(t, s)]
    at, to = (stack([row[k] for row in rows]) for k in range(2))
    z, x, past, keep_z, keep_x = np.array([row[2:] for row in rows], np.float64).T
    return make_step_table(at, to, z, x, past_coef=past[:, None], keep_z=keep_z, keep_x=keep_x)


def _ddim(t: Level, s: Level) -> list:
    z = s.sigma / t.sigma
    return [t, s, z, s.alpha - t.alpha * z, 0.0, 0.0, 0.0]


def _step(edm_time: Linear, t: Level, s: Level, order: int) -> list[list]:
    """The rows of one step: levels, z and x_hat, what the first slope adds, and the slope kept."""
    h = edm_time.time(s.ratio) - edm_time.time(t.ratio)
    here, there = edm_time.scale(t.ratio), edm_time.scale(s.ratio)
    pull = edm_time.speed(t.ratio)
    push = edm_time.growth(t.ratio) + pull
    move = s.alpha * here / there
    z, x = move / t.alpha * (1 + h * push), -move * h * pull
    first = [t, s, z, x, 0.0, here * push / t.alpha, -here * pull]
    if order == 1 or s.sigma == 0:
        return [first]
    pull = edm_time.speed(s.ratio)
    push = edm_time.growth(s.ratio) + pull
    half = s.alpha * h / 2
    return [first, [s, s, 1 + h * push / 2, -half * pull, -half / there, 0.0, 0.0]]
