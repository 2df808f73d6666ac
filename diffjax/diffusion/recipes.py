"""A sampling recipe: sampler, grid and guidance chosen by flat, named options."""

from __future__ import annotations

import inspect
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from diffjax.choices import unknown
from diffjax.diffusion.grids import Grid, make_grid
from diffjax.diffusion.guidance import Guidance
from diffjax.diffusion.levels import take
from diffjax.diffusion.rows import Rows
from diffjax.diffusion.samplers import SAMPLERS
from diffjax.diffusion.sampling import start_std
from diffjax.diffusion.schedules import Schedule

_GRID = ("steps", "spacing", "offset", "final")
# The guidance scale goes by the field's name for it.
_GUIDANCE = {
    "guidance": "scale",
    "guidance_low": "low",
    "guidance_high": "high",
    "guidance_channels": "channels",
    "rescale": "rescale",
    "threshold": "threshold",
    "clip": "clip",
}


class Plan(NamedTuple):
    """What of a recipe is numbers, float32: recipes that differ in nothing else share one
    compiled sampler. The table `rows`, the first state's `std` [], the guidance `scale` []."""

    rows: Rows
    std: Any
    scale: Any


@dataclass(frozen=True)
class Recipe:
    """How to draw samples.

    Attributes:
      sampler: a name in SAMPLERS.
      grid: options of `make_grid`.
      options: options of the sampler (eta, variance, churn, ...).
      guidance: guidance, thresholding and clipping.
    """

    sampler: str
    grid: Mapping[str, Any]
    options: Mapping[str, Any]
    guidance: Guidance

    def make_grid(self, schedule: Schedule, strength: float = 1.0) -> Grid:
        """The levels that are visited: of the whole grid, or the last `strength` of its steps."""
        return last_steps(make_grid(schedule, **self.grid), strength)

    def rows(self, schedule: Schedule, strength: float = 1.0) -> Rows:
        return SAMPLERS[self.sampler](self.make_grid(schedule, strength), **self.options)

    def passes(self, schedule: Schedule, strength: float = 1.0) -> int:
        """How often the network sees one image: twice in an evaluation that is guided."""
        ratio, g = self.rows(schedule, strength).at.ratio, self.guidance
        return len(ratio) + g.guided * int(((ratio > g.low) & (ratio <= g.high)).sum())

    def plan(self, schedule: Schedule) -> Plan:
        """The numbers of the recipe, as arguments of a jitted function."""
        grid = self.make_grid(schedule)
        rows = SAMPLERS[self.sampler](grid, **self.options)
        rows = jax.tree.map(lambda a: np.asarray(a, np.float32), rows)
        return Plan(rows, np.float32(start_std(grid)), np.float32(self.guidance.scale))

    def describe(self, schedule: Schedule, strength: float = 1.0) -> dict[str, Any]:
        """The recipe as a flat protocol, the evaluations that are run counted."""
        guidance = {k: getattr(self.guidance, v) for k, v in _GUIDANCE.items()}
        nfe = self.rows(schedule, strength).nfe
        return {"sampler": self.sampler, **self.grid, **self.options, **guidance, "nfe": nfe}


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
    last = slice(grid.steps - taken, None)
    return Grid(take(grid.t, last), take(grid.s, last), grid.schedule)


def make_recipe(sampler: str = "ddim", **options: Any) -> Recipe:
    """A recipe from flat options, each of which must be one of the grid's, the guidance's or that
    sampler's own.

    Args:
      sampler: ddpm, ddim, euler, heun, ode, dpmpp_2m, plms or pndm.
      **options: steps, spacing, offset, final, rho; guidance, guidance_low, guidance_high,
        guidance_channels, rescale, threshold, clip; and what the sampler takes (eta of ddim,
        variance of ddpm, ...).

    Raises:
      ValueError: a sampler or an option that does not exist, the nearest named.
    """
    if sampler not in SAMPLERS:
        raise unknown("sampler", sampler, SAMPLERS)
    own = [p for p in inspect.signature(SAMPLERS[sampler]).parameters if p != "grid"]
    known = [*_GRID, "rho", *_GUIDANCE, *own]
    for name in options:
        if name not in known:
            raise unknown(f"option of sampler {sampler!r}:", name, known)
    defaults = {"steps": 50, "spacing": "trailing", "offset": 0, "final": "clean"}
    grid = {k: options.get(k, defaults[k]) for k in _GRID}
    grid |= {"rho": options["rho"]} if "rho" in options else {}
    guidance = Guidance(**{_GUIDANCE[k]: options[k] for k in _GUIDANCE if k in options})
    return Recipe(sampler, grid, {k: options[k] for k in own if k in options}, guidance)


def recipe_over(
    own: Mapping[str, Any], given: Mapping[str, Any], kept: Collection[str]
) -> dict[str, Any]:
    """Options of `make_recipe`: those `given` over a model's `own`, of which another sampler than
    the model's takes over those `kept` alone."""
    if given.get("sampler", own.get("sampler")) != own.get("sampler"):
        own = {name: value for name, value in own.items() if name in kept}
    return {**own, **given}
