"""A sampling recipe: sampler, grid and guidance chosen by flat, named options."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from diffjax.choices import check_values, hints_of, pick, unknown
from diffjax.diffusion.grids import Grid, make_grid
from diffjax.diffusion.guidance import Guidance
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

    def make_grid(self, schedule: Schedule) -> Grid:
        return make_grid(schedule, **self.grid)

    def rows(self, schedule: Schedule) -> Rows:
        return SAMPLERS[self.sampler](self.make_grid(schedule), **self.options)

    def plan(self, schedule: Schedule) -> Plan:
        """The numbers of the recipe, as arguments of a jitted function."""
        grid = self.make_grid(schedule)
        rows = SAMPLERS[self.sampler](grid, **self.options)
        rows = jax.tree.map(lambda a: np.asarray(a, np.float32), rows)
        return Plan(rows, np.float32(start_std(grid)), np.float32(self.guidance.scale))

    def describe(self, schedule: Schedule) -> dict[str, Any]:
        """The recipe as a flat protocol, its network evaluations counted."""
        guidance = {k: getattr(self.guidance, v) for k, v in _GUIDANCE.items()}
        nfe = self.rows(schedule).nfe
        return {"sampler": self.sampler, **self.grid, **self.options, **guidance, "nfe": nfe}


def make_recipe(sampler: str = "ddim", **options: Any) -> Recipe:
    """A recipe from flat options, each of which must be one of the grid's, the guidance's or that
    sampler's own.

    Args:
      sampler: ddpm, ddim, euler, heun, ode, dpmpp_2m, plms or pndm.
      **options: steps, spacing, offset, final, rho; guidance, guidance_low, guidance_high,
        guidance_channels, rescale, threshold, clip; and what the sampler takes (eta of ddim,
        variance of ddpm, ...).

    Raises:
      ValueError: a sampler or an option that does not exist, the nearest named; a value outside
        its range.
    """
    pick("sampler", sampler, SAMPLERS)
    own = [p for p in inspect.signature(SAMPLERS[sampler]).parameters if p != "grid"]
    known = [*_GRID, "rho", *_GUIDANCE, *own]
    for name in options:
        if name not in known:
            raise unknown(f"option of sampler {sampler!r}:", name, known)
    guiding = hints_of(Guidance)
    hints = {**hints_of(make_grid), **hints_of(SAMPLERS[sampler])}
    check_values("sampling", options, hints | {k: guiding[v] for k, v in _GUIDANCE.items()})
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
