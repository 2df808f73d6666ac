"""A sampler's table: one row of float64 coefficients per network evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from diffjax.diffusion.levels import Level

# From this sigma / alpha on, z holds no signal to speak of and x_hat is the mean of the data: a
# first-order step in x_hat is exact there, while rules that weigh differences of eps multiply
# them by sigma / alpha and return rounding errors (cosine tables end at 2e4, flow at infinity).
FULL_NOISE = 1000.0


class StepTable(NamedTuple):
    """One row per evaluation; all `[N]`, float64 numpy when built. A row does

        z     <- scale z + churn noise           before the evaluation
        x_hat <- denoise(z, at, to)
        z'    <- z_coef z + x_coef x_hat + past_coef . memory + noise_coef noise
        memory' <- [keep_z z + keep_x x_hat, *memory[:-1]]

    Attributes:
      at: the level of the state that is evaluated, churn included.
      to: the level of the state z' that the row leaves behind: of a stage of a multi-stage sampler
        what the stage's own step goes to, of a corrector at the end of its step that end itself,
        where `to` is `at`. So it is where the next row begins, before churn, unless a grid's own
        steps overlap (`scheduler_grids`); the last is the grid's end.
      past_coef: `[N, K]`, latest first; K is the length of the memory, 0 for one-step samplers.
      log_variance: `[N, 2]` log of the smallest and largest variance between which a network with
        learned variance interpolates (it then replaces noise_coef), or None.
    """

    at: Level
    to: Level
    scale: Any
    churn: Any
    z_coef: Any
    x_coef: Any
    past_coef: Any
    noise_coef: Any
    keep_z: Any
    keep_x: Any
    log_variance: Any = None

    @property
    def nfe(self) -> int:
        """Network evaluations of a whole trajectory."""
        return len(self.z_coef)

    @property
    def stochastic(self) -> bool:
        return bool(self.noise_coef.any() or self.churn.any()) or self.log_variance is not None


def stack(levels: Sequence[Level]) -> Level:
    """Levels [] as one of `[N] float64`."""
    return Level(*(np.array(field, np.float64) for field in zip(*levels, strict=True)))


def make_step_table(
    at: Level, to: Level, z: np.ndarray, x: np.ndarray, **more: np.ndarray | None
) -> StepTable:
    """A table of `z' = z z + x x_hat`, plus whatever fields are given."""
    zero = np.zeros_like(z)
    fields = dict(
        scale=np.ones_like(z),
        churn=zero,
        past_coef=np.zeros((len(z), 0)),
        noise_coef=zero,
        keep_z=zero,
        keep_x=zero,
    )
    return StepTable(at=at, to=to, z_coef=z, x_coef=x, **{**fields, **more})
