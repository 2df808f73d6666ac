"""Sampling grids: which levels a sampler visits. Separate from the training times.

The rules here are our own; `scheduler_grids` has those of diffusers' schedulers.

A grid holds pairs (t, s): step i goes from level t_i to level s_i. Usually s_i = t_{i+1} and the
last s is the clean end; a reference implementation's own pairing can be written down as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from diffjax.diffusion.edm_time import VP
from diffjax.diffusion.levels import CLEAN, Level, take
from diffjax.diffusion.schedules import Schedule
from diffjax.ranges import Positive, Steps, Whole


class Grid(NamedTuple):
    """Pairs of levels, noise falling (rising when inverting).

    Attributes:
      t, s: stacked levels, `[N] float64` each.
      schedule: that they are of.
      std: standard deviation of the noise to start from; None: the schedule's own.
      stride: what diffusers' PNDM takes a step to cover whatever the next level is, in times; None:
        a step covers its pair.
      planned: steps of the whole grid, where these are its last ones; None: these.
    """

    t: Level
    s: Level
    schedule: Schedule
    std: float | None = None
    stride: int | None = None
    planned: int | None = None

    @property
    def steps(self) -> int:
        return len(self.t.alpha)


def _leading(schedule: Schedule, n: int) -> np.ndarray:
    """Multiples of T // n from 0, as DDPM and DDIM respace; never starts at full noise."""
    if schedule.discrete:
        return np.arange(n)[::-1] * (int(schedule.t_max + 1) // n)
    return schedule.t_min + (schedule.t_max - schedule.t_min) * np.arange(n)[::-1] / n


def _trailing(schedule: Schedule, n: int) -> np.ndarray:
    """From full noise in equal strides, the clean end being the last (Lin et al. 2023)."""
    if schedule.discrete:
        size = schedule.t_max + 1
        return np.round(np.arange(n, 0, -1) * size / n) - 1
    return schedule.t_min + (schedule.t_max - schedule.t_min) * np.arange(n, 0, -1) / n


def _linspace(schedule: Schedule, n: int) -> np.ndarray:
    """n points with both ends: EDM's linear grid, and on tables the `space_timesteps` of iDDPM, ADM
    and DiT, whose strides add up in float64 before they are rounded."""
    if schedule.discrete:
        strides = np.full(n, schedule.t_max / max(n - 1, 1))
        strides[0] = schedule.t_min
        return np.round(np.cumsum(strides))[::-1]
    return np.linspace(schedule.t_min, schedule.t_max, n)[::-1]


def _quadratic(schedule: Schedule, n: int) -> np.ndarray:
    """Squares of an even grid, on tables up to 0.8 T (Song et al. 2021a, section D.2).

    On a table the small squares round to the same integers; a repeat would be an evaluation that
    moves nothing, so each level is visited once and NFE may be less than n.
    """
    if schedule.discrete:
        grid = np.floor(np.linspace(0, np.sqrt((schedule.t_max + 1) * 0.8), n) ** 2)
        return np.unique(grid)[::-1]
    return np.linspace(schedule.t_min**0.5, schedule.t_max**0.5, n)[::-1] ** 2


# Steps in each fifth of the table, from the clean end, of GLIDE's upsampler (its paper's code).
_FAST27 = (10, 10, 3, 2, 2)


def _fast27(schedule: Schedule, n: int) -> np.ndarray:
    """GLIDE's 27 steps: more of them at little noise, and the first one two times below the table's
    end, which is too noisy for DDIM.

    Raises:
      ValueError: another number of steps, or no table that divides by five.
    """
    size = int(schedule.t_max + 1) if schedule.discrete else 0
    if n != sum(_FAST27) or not size or size % len(_FAST27):
        raise ValueError(
            f"spacing='fast27' with steps={n}: it is 27 steps of a table that divides by five"
        )
    part = size // len(_FAST27)
    if part < max(_FAST27):
        raise ValueError(f"spacing='fast27' needs a table of 50 times or more, not {size}")
    fifths = [
        i * part + np.round(np.arange(count) * ((part - 1) / (count - 1)))
        for i, count in enumerate(_FAST27)
    ]
    t = np.concatenate(fifths)
    t[-1] -= 2
    return t[::-1]


def _open(points: Callable[[Schedule, int], np.ndarray]) -> Callable[[Schedule, int], np.ndarray]:
    """The first n of n + 1 points: the clean end stands for the last (DPM-Solver's code)."""
    return lambda schedule, n: points(schedule, n + 1)[:-1]


SPACINGS: dict[str, Callable[[Schedule, int], np.ndarray]] = {
    "leading": _leading,
    "trailing": _trailing,
    "linspace": _linspace,
    "quadratic": _quadratic,
    "leading_open": _open(_leading),
    "linspace_open": _open(_linspace),
}
# Of one number of steps each.
FIXED_SPACINGS = {"fast27": _fast27}


def _karras(r_max: float, r_min: float, n: int, rho: float = 7.0) -> np.ndarray:
    """Karras et al. 2022, eq. 5, in `r = sigma / alpha`."""
    ramp = np.linspace(0, 1, n)
    return (r_max ** (1 / rho) + ramp * (r_min ** (1 / rho) - r_max ** (1 / rho))) ** rho


def _log_snr(r_max: float, r_min: float, n: int) -> np.ndarray:
    """Even in log SNR (Lu et al. 2022); Karras et al. 2022 call it VE's."""
    return np.exp(np.linspace(np.log(r_max), np.log(r_min), n))


def _vp(r_max: float, r_min: float, n: int) -> np.ndarray:
    """Even in the time of Song et al. 2021b's variance-preserving equation between the same ends
    (Karras et al. 2022, table 1)."""
    clock = VP(r_max, r_min)
    return clock.ratio(np.linspace(1.0, clock.epsilon, n))


RATIO_SPACINGS: dict[str, Callable[..., np.ndarray]] = {
    "karras": _karras,
    "log_snr": _log_snr,
    "vp": _vp,
}


def level_at_ratio(schedule: Schedule, ratio: np.ndarray) -> Level:
    """The schedule's levels at given `sigma / alpha`, exact in alpha and sigma."""
    t = np.asarray(schedule.time_of(-2 * np.log(ratio)))
    if not schedule.discrete:
        return schedule.level(t)
    # A table's time stops at its ends; the path (alpha^2 + sigma^2 = 1) goes on beyond them.
    norm = np.hypot(1.0, ratio)
    return Level(t, 1 / norm, ratio / norm)


def visited(
    schedule: Schedule, steps: int, spacing: str, offset: int = 0, rho: float | None = None
) -> Level:
    """The levels at which a one-evaluation sampler calls the network, `[steps]`, noise falling.

    Raises:
      ValueError: unknown spacing, more steps than the table holds, a spacing in log SNR on a
        schedule whose end holds no signal, rho of another spacing than karras.
    """
    if rho is not None and (spacing != "karras" or rho <= 0):
        raise ValueError(f"rho={rho} with spacing={spacing!r}: it is karras's, and above 0")
    if steps < 1:
        raise ValueError(f"steps={steps}: a sampler needs at least one step")
    if schedule.discrete and steps > schedule.t_max + 1:
        raise ValueError(f"steps={steps}: the schedule's table holds {schedule.t_max + 1:.0f}")
    times = {**SPACINGS, **FIXED_SPACINGS}
    if spacing in times:
        t = np.asarray(times[spacing](schedule, steps), np.float64) + offset
        if np.any(np.diff(t) >= 0) or t[0] > schedule.t_max * (1 + 1e-9):
            raise ValueError(
                f"spacing={spacing!r} with steps={steps}, offset={offset} visits a level twice or "
                f"leaves the table of {schedule.t_max + 1:.0f}: take fewer steps or another spacing"
            )
        return schedule.level(t)
    if spacing not in RATIO_SPACINGS:
        known = ", ".join([*times, *RATIO_SPACINGS])
        raise ValueError(f"spacing={spacing!r} is unknown; known: {known}")
    ends = schedule.level(np.array([schedule.t_max, schedule.t_min]))
    if ends.alpha[0] < 1e-8:
        raise ValueError(
            f"spacing={spacing!r} needs signal at t_max, where {type(schedule).__name__} has none: "
            "use trailing or linspace"
        )
    r_max, r_min = ends.ratio
    options = {} if rho is None else {"rho": rho}
    ratio = RATIO_SPACINGS[spacing](r_max, r_min, steps, **options)
    if not np.all(np.diff(ratio) < 0):
        raise ValueError(
            f"spacing={spacing!r} does not fall from sigma / alpha = {r_max:g} to {r_min:g}, the "
            "ends of the schedule: take karras or log_snr"
        )
    return level_at_ratio(schedule, ratio)


def make_grid(
    schedule: Schedule,
    steps: Steps,
    spacing: str = "trailing",
    offset: Whole = 0,
    final: str = "clean",
    rho: Positive | None = None,
) -> Grid:
    """The grid of a sampler from noise to data.

    Args:
      schedule: the noise schedule.
      steps: number of levels visited.
      spacing: leading, trailing, linspace, quadratic, fast27, leading_open, linspace_open, karras,
        log_snr or vp.
      offset: added to a table's integer times (Stable Diffusion's steps_offset = 1).
      final: where the last step lands: "clean" (alpha = 1, sigma = 0), or "first", the
        schedule's least level (set_alpha_to_one = False of Stable Diffusion).
      rho: of karras, 7 where it is not given: the larger, the more of the steps at little noise.
    """
    t = visited(schedule, steps, spacing, offset, rho)
    if final not in ("clean", "first"):
        raise ValueError(f"final={final!r} is unknown; known: clean, first")
    end = CLEAN if final == "clean" else schedule.level(np.float64(schedule.t_min))
    s = Level(*(np.append(a[1:], b) for a, b in zip(t, end, strict=True)))
    return Grid(t, s, schedule)


def inverse_grid(grid: Grid) -> Grid:
    """The same levels with noise rising: DDIM encodes along it (Song et al. 2021a, section 4.3).

    The clean end is left out, for the network has no noise to name there: N levels, N - 1 steps.
    """
    order = np.arange(grid.steps)[::-1]
    up = take(grid.t, order)
    return Grid(take(up, slice(None, -1)), take(up, slice(1, None)), grid.schedule)


def last_steps(grid: Grid, strength: float) -> Grid:
    """The last steps of a grid, `strength` of them (Meng et al. 2022, SDEdit).

    Raises:
      ValueError: a strength outside [0, 1], or one that leaves no step.
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"strength={strength} lies outside [0, 1]: 1 takes all steps")
    taken = int(grid.steps * strength)  # as diffusers counts
    if not taken:
        places = 10 ** (len(str(grid.steps)) + 2)
        least = math.ceil(places / grid.steps) / places
        raise ValueError(
            f"strength={strength} leaves none of {grid.steps} step{'s' * (grid.steps != 1)}: "
            f"take {least:g} or more, or more steps"
        )
    if taken == grid.steps:
        return grid
    last = slice(grid.steps - taken, None)
    planned = grid.planned or grid.steps
    return grid._replace(t=take(grid.t, last), s=take(grid.s, last), std=None, planned=planned)


def forward_grid(grid: Grid) -> Grid:
    """The N - 1 steps between a grid's own levels, the way back of `inverse_grid`."""
    return Grid(take(grid.t, slice(None, -1)), take(grid.t, slice(1, None)), grid.schedule)
