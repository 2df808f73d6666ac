"""Measures of the study, as numbers: of a denoiser `(z, level, label) -> Estimate`, trained or
exact."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax.diffusion.grids import level_at_ratio, make_grid
from diffjax.diffusion.guidance import Guidance, classifier_free
from diffjax.diffusion.levels import Level
from diffjax.diffusion.samplers import ancestral, ddim
from diffjax.diffusion.sampling import initial_noise, sample
from diffjax.diffusion.schedules import Schedule
from diffjax.diffusion.step_table import StepTable
from diffjax.keys import per_row, root
from experiments.studies.spiral.points import ARMS, BOTH, PointDenoiser, Spiral

RATIOS = (0.1, 0.3, 1.0, 3.0)  # sigma / alpha of the fields shown
SCALES = (0.0, 1.0, 2.0, 4.0, 8.0)  # of guidance
STEPS = 100
SEGMENTS = 20  # of each arm, for coverage


def without_noise(rows: StepTable) -> StepTable:
    """Ancestral sampling that goes from posterior mean to posterior mean."""
    return rows._replace(noise_coef=np.zeros_like(rows.noise_coef))


SAMPLERS: dict[str, Callable[..., StepTable]] = {
    "ddpm": ancestral,
    "ddim": ddim,
    "ddpm without noise": lambda grid: without_noise(ancestral(grid)),
}


@dataclass(frozen=True, eq=False)
class Walks:
    """Trajectories of a denoiser; samples of one seed start from the same noise."""

    denoise: PointDenoiser
    schedule: Schedule
    count: int = 1000
    seed: int = 0

    @cached_property
    def _run(self) -> Callable:
        @partial(jax.jit, static_argnums=4)
        def run(
            rows: StepTable, std: Array, label: Array, scale: Array | None, stochastic: bool
        ) -> Array:
            keys = per_row(root(self.seed), jnp.arange(self.count))
            z = initial_noise(std, keys, (2,))
            null = jnp.full_like(label, BOTH)
            choice = Guidance() if scale is None else Guidance(scale=scale)
            denoise = lambda z, at, _, label: self.denoise(z, at, label)  # noqa: E731
            guided = classifier_free(denoise, label, null, choice)
            got = sample(guided, rows, z, keys, trajectory=True, stochastic=stochastic)
            return jnp.concatenate([z[None], got[1]])

        return run

    def __call__(
        self, sampler: str, arm: int = BOTH, scale: float | None = None, steps: int = STEPS
    ) -> np.ndarray:
        """States `[steps + 1, count, 2]`; `scale` guides towards `arm`, None does not guide."""
        grid = make_grid(self.schedule, steps)
        rows = SAMPLERS[sampler](grid)
        std = jnp.float32(self.schedule.prior_std(Level(*(a[0] for a in grid.t))))
        label = jnp.full((self.count,), arm, jnp.int32)
        table = jax.tree.map(np.float32, rows)
        strength = None if scale is None else jnp.float32(scale)
        return np.asarray(self._run(table, std, label, strength, rows.stochastic))


def level_of(schedule: Schedule, ratio: float) -> Level:
    """The level at `sigma / alpha`, [] float32."""
    return Level(*(jnp.float32(a) for a in level_at_ratio(schedule, np.asarray(ratio))))


def displacement(
    denoise: PointDenoiser, points: np.ndarray, level: Level, label: int
) -> np.ndarray:
    """The field at points z `[N, 2]`: from z's place in the picture to its clean estimate,
    `x_hat - z / alpha`. It is the score times `sigma^2 / alpha`."""
    z = jnp.asarray(points, jnp.float32)
    x = denoise(z, level, jnp.full((len(z),), label, jnp.int32)).x
    return np.asarray(x - z / level.alpha, np.float64)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Of two fields `[N, 2]` as wholes: large vectors count more than vanishing ones; 0 where one
    of them vanishes altogether."""
    lengths = np.sqrt(np.sum(a**2) * np.sum(b**2))
    return float(np.sum(a * b) / lengths) if lengths > 0 else 0.0


def field_fits(
    denoise: PointDenoiser, spiral: Spiral, schedule: Schedule, count: int = 4000
) -> dict[str, dict[str, float]]:
    """By noise level: cosine and relative error of the field against the exact one, at noised
    points; and cosine of the conditional minus unconditional field."""
    rng = np.random.default_rng(1)
    found = {}
    for ratio in RATIOS:
        level = level_of(schedule, ratio)
        x, _ = spiral.draw(count, rng)
        z = float(level.alpha) * x + float(level.sigma) * rng.standard_normal(x.shape)
        ours, exact = (displacement(d, z, level, BOTH) for d in (denoise, spiral.estimate))
        towards = [
            displacement(d, z, level, 0) - f for d, f in ((denoise, ours), (spiral.estimate, exact))
        ]
        found[f"{ratio:g}"] = {
            "cosine": cosine(ours, exact),
            "relative_error": float(np.sqrt(np.sum((ours - exact) ** 2) / np.sum(exact**2))),
            "difference_cosine": cosine(*towards),
        }
    return found


def spread(x: np.ndarray) -> float:
    """Root of the total variance of points `[N, 2]`."""
    return float(np.sqrt(np.sum(np.var(x, axis=0))))


def coverage(spiral: Spiral, x: np.ndarray, arms: tuple[int, ...]) -> float:
    """Share of the segments of `arms` that hold at least one of `x [N, 2]` within 4 deviations."""
    distance, arm, node = spiral.nearest(x)
    close = distance < 4 * spiral.noise
    visited = set(zip(arm[close], node[close] * SEGMENTS // spiral.nodes, strict=True))
    return sum(a in arms for a, _ in visited) / (SEGMENTS * len(arms))


def ways(walks: Walks, spiral: Spiral) -> dict[str, dict[str, float]]:
    """By sampler: length of the way, length over distance (1 is straight), and where it ends."""
    data, _ = spiral.draw(4000, np.random.default_rng(2))
    found = {}
    for name in SAMPLERS:
        states = walks(name)
        length = np.linalg.norm(np.diff(states, axis=0), axis=-1).sum(0)
        apart = np.linalg.norm(states[-1] - states[0], axis=-1)
        distance, _, _ = spiral.nearest(states[-1])
        found[name] = {
            "length": float(length.mean()),
            "tortuosity": float(np.median(length / apart)),
            "spread_ratio": spread(states[-1]) / spread(data),
            "coverage": coverage(spiral, states[-1], tuple(range(ARMS))),
            "distance_to_spiral": float(distance.mean()),
            "distance_to_mean": float(np.linalg.norm(states[-1] - data.mean(0), axis=-1).mean()),
        }
    return found


def guidance(walks: Walks, spiral: Spiral, arm: int = 0) -> dict[str, dict[str, float]]:
    """By guidance scale: the share of samples on the arm asked for, how much of it they cover, and
    their spread over that of the arm itself."""
    own = spiral.centres[arm]
    found = {}
    for scale in SCALES:
        x = walks("ddim", arm, scale, 50)[-1]
        _, nearest, _ = spiral.nearest(x)
        found[f"{scale:g}"] = {
            "share_on_arm": float(np.mean(nearest == arm)),
            "coverage_of_arm": coverage(spiral, x, (arm,)),
            "spread_ratio": spread(x) / spread(own),
        }
    return found


def measure(walks: Walks, spiral: Spiral) -> dict[str, Mapping[str, Mapping[str, float]]]:
    """All of them: `fields`, `ways`, `guidance`."""
    return {
        "fields": field_fits(walks.denoise, spiral, walks.schedule),
        "ways": ways(walks, spiral),
        "guidance": guidance(walks, spiral),
    }
