"""PLMS and PNDM: linear multistep and Runge-Kutta on the noise estimate (Liu et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from diffjax.diffusion.grids import Grid
from diffjax.diffusion.levels import Level, take
from diffjax.diffusion.step_table import FULL_NOISE, StepTable, make_step_table, stack

# Adams-Bashforth weights, latest first (Liu et al. 2022, eq. 12).
_ADAMS = (
    [1.0],
    [3 / 2, -1 / 2],
    [23 / 12, -16 / 12, 5 / 12],
    [55 / 24, -59 / 24, 37 / 24, -9 / 24],
)


class _Extrapolation:
    """Collects rows of a sampler that moves by `z_s = A z + B f` (Liu et al. 2022, eq. 11), with f
    a weighted sum over numbered evaluations of eps, or of v."""

    def __init__(self, grid: Grid, of: str) -> None:
        if of not in ("eps", "v"):
            raise ValueError(f"extrapolate={of!r} is unknown; known: eps, v")
        self.of_v = of == "v"
        self.at: list[Level] = []
        self.to: list[Level] = []
        self.z: list[float] = []
        self.x: list[float] = []
        self.f: list[dict[int, float]] = []
        # Steps of the grid before eps is worth extrapolating: DDIM's.
        self.started = 0 if self.of_v else int(np.sum(grid.t.ratio >= FULL_NOISE))
        for i in range(self.started):
            t, s = take(grid.t, i), take(grid.s, i)
            z = s.sigma / t.sigma
            self.add(t, s, z, {}, x=s.alpha - t.alpha * z)

    def add(self, at: Level, to: Level, z: float, weights: dict[int, float], x: float = 0.0) -> int:
        """`z' = z z + x x_hat + sum_j weights[j] f_j`; returns this evaluation's own number, which
        `weights` may name."""
        self.at.append(at)
        self.to.append(to)
        self.z.append(z)
        self.x.append(x)
        self.f.append(weights)
        return len(self.at) - 1

    def transfer(self, t: Level, s: Level) -> tuple[float, float]:
        """`(A, B)` of `z_s = A z_t + B f`."""
        if self.of_v:
            norm2 = t.alpha**2 + t.sigma**2
            return (
                (s.alpha * t.alpha + s.sigma * t.sigma) / norm2,
                (s.sigma * t.alpha - s.alpha * t.sigma) / norm2,
            )
        a = s.alpha / t.alpha
        return a, s.sigma - a * t.sigma

    def rows(self) -> StepTable:
        n = len(self.at)
        at = stack(self.at)
        memory = max((i - j for i in range(n) for j in self.f[i]), default=0)
        now, past = np.zeros(n), np.zeros((n, memory))
        for i in range(n):
            for j, weight in self.f[i].items():
                if j == i:
                    now[i] += weight
                else:
                    past[i, i - j - 1] += weight
        # f = keep_z z + keep_x x_hat
        keep_z, keep_x = 1 / at.sigma, -at.alpha / at.sigma
        if self.of_v:
            keep_z, keep_x = at.alpha / at.sigma, -(at.alpha**2 + at.sigma**2) / at.sigma
        return make_step_table(
            at, stack(self.to), np.array(self.z) + now * keep_z, np.array(self.x) + now * keep_x,
            past_coef=past, keep_z=keep_z, keep_x=keep_x,
        )  # fmt: skip

    def multistep(self, grid: Grid, steps: Sequence[int], history: list[int]) -> None:
        """Adams-Bashforth steps; `history` numbers the evaluations at earlier levels."""
        for i in steps:
            t, s = take(grid.t, i), take(grid.s, i)
            a, b = self.transfer(t, s)
            history.append(len(self.at))
            weights = _ADAMS[min(len(history), 4) - 1]
            latest = history[::-1][: len(weights)]
            self.add(t, s, a, {j: b * w for j, w in zip(latest, weights, strict=True)})


def plms(grid: Grid, extrapolate: str = "eps") -> StepTable:
    """Pseudo linear multistep, started by one pseudo Heun step (Liu et al. 2022, section 3.3): the
    PNDM of Stable Diffusion, N + 1 evaluations for N steps.

    Args:
      grid: pairs (t, s).
      extrapolate: "eps" as in the paper, or "v", as diffusers does with v-prediction networks.
    """
    rows = _Extrapolation(grid, extrapolate)
    i = rows.started
    if i == grid.steps:
        return rows.rows()
    t, s = take(grid.t, i), take(grid.s, i)
    a, b = rows.transfer(t, s)
    k = rows.add(t, s, a, {len(rows.at): b})
    if i + 1 < grid.steps:
        # From the provisional z_s back to z_t, and on with (eps_k + eps_k+1) / 2 in eps_k's place.
        at = take(grid.t, i + 1)
        above = t if grid.stride is None else grid.schedule.level(at.t + grid.stride)
        end = s if grid.stride is None else at
        again, mean = rows.transfer(above, end)
        back = again / a
        rows.add(at, end, back, {k: mean / 2 - back * b, k + 1: mean / 2})
    rows.multistep(grid, range(i + 1, grid.steps), [k])
    return rows.rows()


def _halves(grid: Grid, i: int) -> tuple[Level, Level, Level, Level]:
    """Of a Runge-Kutta step: its ends, the level that its first stage moves to, and the one that
    the middle stages are at, which by diffusers' stride are not always the same."""
    t = take(grid.t, i)
    if grid.stride is None:
        s = take(grid.s, i)
        middle = grid.schedule.level((t.t + s.t) / 2)
        return t, s, middle, middle
    s, half = take(grid.t, i + 1), grid.stride // 2
    return t, s, grid.schedule.level(t.t - half), grid.schedule.level(s.t + half)


def pndm(grid: Grid, extrapolate: str = "eps") -> StepTable:
    """Pseudo numerical methods: three pseudo Runge-Kutta steps of four evaluations, then linear
    multistep (Liu et al. 2022, algorithm 2): N + 9 evaluations for N steps. Arguments as `plms`.

    Raises:
      ValueError: too few steps for the three and one after them.
    """
    rows, history = _Extrapolation(grid, extrapolate), []
    first = rows.started
    if grid.steps < first + 4:
        raise ValueError(
            f"pndm needs at least {first + 4} steps on this grid (three of them Runge-Kutta), "
            f"got {grid.steps}"
        )
    for i in range(first, first + 3):
        t, s, first_to, middle = _halves(grid, i)
        (a, b), (a_mid, b_mid) = rows.transfer(t, s), rows.transfer(t, middle)
        a_first, b_first = rows.transfer(t, first_to)
        k = len(rows.at)
        # Each stage restarts from z_t, which is recovered from the stage before.
        rows.add(t, first_to, a_first, {k: b_first})
        back = a_mid / a_first
        rows.add(middle, middle, back, {k: -back * b_first, k + 1: b_mid})
        back = a / a_mid
        rows.add(middle, s, back, {k + 1: -back * b_mid, k + 2: b})
        rows.add(s, s, 1.0, {k: b / 6, k + 1: b / 3, k + 2: b / 3 - b, k + 3: b / 6})
        history.append(k)
    rows.multistep(grid, range(first + 3, grid.steps), history)
    return rows.rows()
