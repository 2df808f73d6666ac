"""A sampling recipe: sampler, grid and guidance chosen by flat, named options."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import numpy as np

from diffjax.choices import check_values, hints_of, pick, unknown
from diffjax.diffusion.gradient_guidance import ClipGuidance
from diffjax.diffusion.grids import Grid, last_steps, make_grid
from diffjax.diffusion.guidance import Guidance, Scales
from diffjax.diffusion.levels import Level, take
from diffjax.diffusion.samplers import SAMPLERS
from diffjax.diffusion.sampling import start_std
from diffjax.diffusion.scheduler_grids import RULES, scheduler_grid
from diffjax.diffusion.schedules import Schedule
from diffjax.diffusion.step_table import StepTable
from diffjax.ranges import Guided, Probability

_GRID = ("steps", "spacing", "offset", "final")
_SCHEDULER = ("scheduler", "between")
_AUGMENTATION = "augmentation"
# The scheduler that stands for our own rule of spacing.
OWN = "own"
# The guidance scales go by the field's names for them.
_BY = "guidance_by"
_GUIDANCE = {
    "guidance": "scale",
    "autoguidance": "autoguidance",
    _BY: "by",
    "guidance_low": "low",
    "guidance_high": "high",
    "guidance_channels": "channels",
    "rescale": "rescale",
    "threshold": "threshold",
    "clip": "clip",
    "clip_range": "clip_range",
}
# Those of a CLIP's gradient; "clip" alone is clamping.
_CLIP = {"clip_guidance": "scale", "cutouts": "cutouts", "cutout_power": "cutout_power"}


class CompiledRecipe(NamedTuple):
    """The numbers of a recipe, float32: recipes that differ in nothing else share one
    compiled sampler. The table `rows`, the first state's `std` [] and level, the guidance's
    `scales` and `clip_scale`, and the `augmentation` []."""

    rows: StepTable
    std: Any
    scales: Scales
    first: Level
    clip_scale: Any = 0.0
    augmentation: Any = 0.0


@dataclass(frozen=True)
class Recipe:
    """Sampler, grid and guidance that samples are drawn by.

    Attributes:
      sampler: a name in SAMPLERS.
      grid: options of `make_grid`, or with a `scheduler` of `scheduler_grid`.
      options: options of the sampler (eta, variance, churn, ...).
      guidance: guidance, thresholding and clipping.
      clip: guidance by a CLIP's gradient.
      augmentation: level in [0, 1] of the noise in the low-resolution image that an upsampler is
        given (Saharia et al. 2022, section 2.4, `aug_level`).
    """

    sampler: str
    grid: Mapping[str, Any]
    options: Mapping[str, Any]
    guidance: Guidance
    clip: ClipGuidance = field(default_factory=ClipGuidance)
    augmentation: Probability = 0.0

    def make_grid(self, schedule: Schedule, strength: float = 1.0) -> Grid:
        """The levels that are visited: of the whole grid, or the last `strength` of its steps."""
        maker = scheduler_grid if "scheduler" in self.grid else make_grid
        return last_steps(maker(schedule, **self.grid), strength)

    def rows(self, schedule: Schedule, strength: float = 1.0) -> StepTable:
        return SAMPLERS[self.sampler](self.make_grid(schedule, strength), **self.options)

    def passes(self, schedule: Schedule, strength: float = 1.0) -> int:
        """Evaluations of a network for one image: one per branch in an evaluation that is
        guided."""
        ratio, g = self.rows(schedule, strength).at.ratio, self.guidance
        inside = int(((ratio > g.low) & (ratio <= g.high)).sum())
        return len(ratio) + (len(g.branches) - 1) * inside

    def plan(self, schedule: Schedule, strength: float = 1.0) -> CompiledRecipe:
        """The numbers of the recipe, as arguments of a jitted function; of the last `strength` of
        its steps."""
        grid = self.make_grid(schedule, strength)
        rows = SAMPLERS[self.sampler](grid, **self.options)
        rows = jax.tree.map(lambda a: np.asarray(a, np.float32), rows)
        first = Level(*(np.float32(x) for x in take(grid.t, 0)))
        std, level = np.float32(start_std(grid)), np.float32(self.augmentation)
        clip_scale = np.float32(self.clip.scale)
        return CompiledRecipe(rows, std, self.guidance.scales, first, clip_scale, level)

    def describe(self, schedule: Schedule, strength: float = 1.0) -> dict[str, Any]:
        """The recipe as a flat protocol, the evaluations that are run counted."""
        g = self.guidance
        guidance: dict[str, Any] = {k: getattr(g, v) for k, v in _GUIDANCE.items()}
        guidance[_BY] = dict(g.by)
        for name, none in (("autoguidance", 1.0), (_BY, {}), ("clip_range", 1.0)):
            if guidance[name] == none:  # said where it is used, as protocols without it do not
                del guidance[name]
        if self.clip.on:
            guidance |= {name: getattr(self.clip, v) for name, v in _CLIP.items()}
        nfe = self.rows(schedule, strength).nfe
        if self.augmentation:
            guidance[_AUGMENTATION] = self.augmentation
        return {"sampler": self.sampler, **self.grid, **self.options, **guidance, "nfe": nfe}


def make_recipe(sampler: str = "ddim", **options: Any) -> Recipe:
    """A recipe from flat options, each of which must be one of the grid's, the guidance's or that
    sampler's own.

    Args:
      sampler: ddpm, ddim, euler, heun, ode, dpmpp_2m, plms or pndm.
      **options: steps, spacing, offset, final, rho; scheduler and between, see `scheduler_grid`
        ("own", the default, is our own rule: `make_grid`); guidance, guidance_low, guidance_high,
        guidance_channels, rescale, threshold, clip, clip_range; autoguidance, the scale of another
        network's guidance; guidance_by, a mapping from condition to scale in place of guidance,
        dropped from its end (InstructPix2Pix: dict(image=1.5, text=7.5)), see `Guidance`;
        clip_guidance, cutouts and cutout_power of a CLIP's gradient, see `ClipGuidance`;
        augmentation, see `Recipe`; and what the sampler takes (eta of ddim, variance of ddpm,
        ...).

    Raises:
      ValueError: a sampler or an option that does not exist, the nearest named; a value outside
        its range.
    """
    pick("sampler", sampler, SAMPLERS)
    own = [p for p in inspect.signature(SAMPLERS[sampler]).parameters if p != "grid"]
    known = [*_GRID, *_SCHEDULER, "rho", *_GUIDANCE, *_CLIP, _AUGMENTATION, *own]
    for name in options:
        if name not in known:
            raise unknown(f"option of sampler {sampler!r}:", name, known)
    guiding, gradient = hints_of(Guidance), hints_of(ClipGuidance)
    hints = {**hints_of(scheduler_grid), **hints_of(make_grid), **hints_of(SAMPLERS[sampler])}
    hints |= {k: guiding[v] for k, v in _GUIDANCE.items()}
    hints |= {k: gradient[v] for k, v in _CLIP.items()}
    hints |= {_BY: Mapping[str, Guided], _AUGMENTATION: Probability}
    check_values("sampling", options, hints)
    defaults = {"steps": 50, "spacing": "trailing", "offset": 0, "final": "clean"}
    grid = {k: options.get(k, defaults[k]) for k in _GRID}
    grid |= {"rho": options["rho"]} if "rho" in options else {}
    if options.get("scheduler", OWN) != OWN:
        grid |= {k: options[k] for k in _SCHEDULER if k in options}
    elif "between" in options:
        raise ValueError(
            "between is read by a scheduler of diffusers' alone: give both, or neither"
        )
    chosen: dict[str, Any] = {_GUIDANCE[k]: options[k] for k in _GUIDANCE if k in options}
    chosen["by"] = tuple(options.get(_BY, {}).items())
    guidance = Guidance(**chosen)
    clip = ClipGuidance(**{_CLIP[k]: options[k] for k in _CLIP if k in options})
    taken, level = {k: options[k] for k in own if k in options}, options.get(_AUGMENTATION, 0.0)
    return Recipe(sampler, grid, taken, guidance, clip, level)


def recipe_over(
    own: Mapping[str, Any], options: Mapping[str, Any], kept: Collection[str]
) -> dict[str, Any]:
    """Options of `make_recipe`: the `options` of a call over a model's `own`.

    Another sampler than the model's takes over those `kept` alone. One scale of all conditions and
    one of each stand for each other. What belongs to a spacing goes
    with it: given another one, the offset stays behind, and a scheduler that does not have it, or
    that is given up for our own rule.
    """
    if options.get("sampler", own.get("sampler")) != own.get("sampler"):
        own = {name: value for name, value in own.items() if name in kept}
    left: set[str] = {"guidance"} if _BY in options else {_BY} if "guidance" in options else set()
    spacing = options.get("spacing", own.get("spacing"))
    scheduler = options.get("scheduler", own.get("scheduler", OWN))
    if scheduler not in RULES or spacing not in RULES[scheduler].spacings:
        left |= {"scheduler", "between"}
        moved = spacing != own.get("spacing") or scheduler != own.get("scheduler", scheduler)
        if moved and not str(spacing).startswith("leading"):
            left.add("offset")
    return {**{name: value for name, value in own.items() if name not in left}, **options}
