"""Grids as diffusers' schedulers make them: a model that comes with one is drawn by its rule.

Where these differ from `grids`, which is our own rule:

- DDIM and PNDM step by T // n whatever the next time is: pairs (t, s) overlap or leave gaps with
  linspace, and with trailing where n does not divide T.
- Euler and Heun keep the fractional times of linspace, with sigma / alpha linear between those of
  the table; with linspace and trailing they start from noise of the first level's sigma, not 1.
- DPM-Solver leaves out the last of n + 1 times, and tells the network whole times.
- Euler, Heun and DPM-Solver take a last level without signal to hold `LEAST_SIGNAL`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from diffjax.choices import pick
from diffjax.diffusion.grids import RATIO_SPACINGS, Grid
from diffjax.diffusion.levels import CLEAN, Level
from diffjax.diffusion.schedules import Schedule
from diffjax.diffusion.tables import Cosine, Table

# alpha^2 of a last level without signal, where a rule divides by alpha.
LEAST_SIGNAL = 2.0**-24
_TIMES = ("leading", "trailing", "linspace")
_RATIOS = ("karras", "log_snr")


class _Choice(NamedTuple):
    """Settings of a grid that are the user's or the file's; `size` is T. See `scheduler_grid`."""

    size: int
    steps: int
    spacing: str
    offset: int
    final: str
    between: str
    rho: float | None


def _times(c: _Choice, whole: bool = True, points: int | None = None) -> np.ndarray:
    """The first n of `points` times (n by default), falling; of karras and log_snr, those whose
    ends are theirs."""
    n, points = c.steps, points or c.steps
    spacing = c.between if c.spacing in _RATIOS else c.spacing
    if spacing == "trailing":
        return np.arange(c.size, 0, -c.size / n)[:n].round() - 1
    if spacing == "leading":
        return (np.arange(points) * (c.size // points))[::-1][:n] + float(c.offset)
    t = np.linspace(0, c.size - 1, points)
    return (t.round() if whole else t)[::-1][:n]


def _end(schedule: Schedule, c: _Choice) -> Level:
    return CLEAN if c.final == "clean" else schedule.level(np.float64(0))


def _chain(t: Level, end: Level) -> Level:
    """The levels that steps go to, each to the next one, the last to the `end`."""
    return Level(*(np.append(a[1:], b) for a, b in zip(t, end, strict=True)))


def _ancestral(schedule: Schedule, c: _Choice) -> Grid:
    t = schedule.level(_times(c))
    return Grid(t, _chain(t, _end(schedule, c)), schedule)


def _strides(schedule: Schedule, c: _Choice) -> Grid:
    t = _times(c)
    below = t - c.size // c.steps
    landed, end = schedule.level(np.maximum(below, 0)), _end(schedule, c)
    s = Level(*(np.where(below >= 0, a, b) for a, b in zip(landed, end, strict=True)))
    return Grid(schedule.level(t), s, schedule)


def _pseudo_numerical(schedule: Schedule, c: _Choice) -> Grid:
    return _strides(schedule, c)._replace(stride=c.size // c.steps)


def _ratios(schedule: Schedule, c: _Choice) -> np.ndarray:
    """`sigma / alpha [T]` of the table, that of the last level without signal put down."""
    ratio = schedule.level(np.arange(c.size, dtype=np.float64)).ratio
    if isinstance(schedule, Table) and schedule.zero_terminal_snr:
        ratio[-1] = np.sqrt(1 / LEAST_SIGNAL - 1)
    return ratio


def _at_ratio(t: np.ndarray, ratio: np.ndarray) -> Level:
    norm = np.hypot(1.0, ratio)
    return Level(t, 1 / norm, ratio / norm)


def _spaced(c: _Choice, ratios: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(t, sigma / alpha) of karras and log_snr between the greatest and the least of `ends`."""
    options = {} if c.rho is None else {"rho": c.rho}
    ratio = RATIO_SPACINGS[c.spacing](ends[0], ends[-1], c.steps, **options)
    return np.interp(np.log(ratio), np.log(ratios), np.arange(c.size)), ratio


def _sigmas(schedule: Schedule, c: _Choice) -> Grid:
    """Euler's and Heun's."""
    ratios, t = _ratios(schedule, c), _times(c, whole=False)
    ratio = np.interp(t, np.arange(c.size), ratios)
    if c.spacing in _RATIOS:
        t, ratio = _spaced(c, ratios, ratio)
    level = _at_ratio(t, ratio)
    spacing = c.between if c.spacing in _RATIOS else c.spacing
    std = None if spacing == "leading" else float(level.sigma[0])
    return Grid(level, _chain(level, _end(schedule, c)), schedule, std)


def _solver(schedule: Schedule, c: _Choice) -> Grid:
    """DPM-Solver's. On levels that are spaced in sigma it tells the network the time below, or
    with karras on tables other than the cosine the nearest."""
    ratios = _ratios(schedule, c)
    if c.spacing in _RATIOS:
        t, ratio = _spaced(c, ratios, ratios[::-1])
        nearest = c.spacing == "karras" and not isinstance(schedule, Cosine)
        t = np.round(t) if nearest else np.floor(t)
    else:
        t = _times(c, points=c.steps + 1)
        ratio = np.interp(t, np.arange(c.size), ratios)
    level = _at_ratio(t, ratio)
    return Grid(level, _chain(level, _end(schedule, c)), schedule)


class _Rule(NamedTuple):
    make: Callable[[Schedule, _Choice], Grid]
    spacings: tuple[str, ...]


# diffusers' class -> its rule, and the spacings that it has.
RULES = {
    "DDPMScheduler": _Rule(_ancestral, _TIMES),
    "DDIMScheduler": _Rule(_strides, _TIMES),
    "PNDMScheduler": _Rule(_pseudo_numerical, _TIMES),
    "EulerDiscreteScheduler": _Rule(_sigmas, _TIMES + _RATIOS),
    "HeunDiscreteScheduler": _Rule(_sigmas, _TIMES + _RATIOS),
    "DPMSolverMultistepScheduler": _Rule(_solver, _TIMES + _RATIOS),
}


def scheduler_grid(
    schedule: Schedule,
    steps: int,
    scheduler: str,
    spacing: str,
    offset: int = 0,
    final: str = "clean",
    between: str = "linspace",
    rho: float | None = None,
) -> Grid:
    """The grid that a scheduler of diffusers' makes (version 0.42).

    Args:
      schedule: a table.
      steps: num_inference_steps, n.
      scheduler: the class, a name in `RULES`.
      spacing: timestep_spacing, or karras or log_snr (use_karras_sigmas, use_exponential_sigmas)
        where the class has them.
      offset: steps_offset, which leading alone reads.
      final: "clean", or "first" (set_alpha_to_one = False, final_sigmas_type = "sigma_min").
      between: timestep_spacing with karras and log_snr: Euler and Heun take its first and last
        level for their ends. DPM-Solver does not read it.
      rho: of karras, 7 where it is not given, as theirs is always.

    Raises:
      ValueError: a schedule that is no table, a choice that is unknown, or steps that leave the
        table or visit a level twice; theirs raise an IndexError there, or draw NaN.
    """
    rule = RULES[pick("scheduler", scheduler, RULES)]
    pick(f"spacing of {scheduler}:", spacing, rule.spacings)
    pick("between:", between, _TIMES)
    pick("final:", final, ("clean", "first"))
    if not schedule.discrete:
        raise ValueError(
            f"scheduler={scheduler!r} needs a table of betas, which {type(schedule).__name__} is "
            "not: leave it out"
        )
    if rho is not None and (spacing != "karras" or rho <= 0):
        raise ValueError(f"rho={rho} with spacing={spacing!r}: it is karras's, and above 0")
    size = int(schedule.t_max + 1)
    if not 1 <= steps <= size:
        raise ValueError(f"steps={steps}: {scheduler} takes 1 to {size}, its table's levels")
    choice = _Choice(size, steps, spacing, offset, final, between, rho)
    times = _times(choice, points=steps + (rule.make is _solver))
    if spacing in _TIMES and (np.any(np.diff(times) >= 0) or not 0 <= times[-1] <= times[0] < size):
        raise ValueError(
            f"spacing={spacing!r} with steps={steps}, offset={offset} visits a level twice or "
            f"leaves the table of {size}: take fewer steps, offset=0 or another spacing"
        )
    return rule.make(schedule, choice)
