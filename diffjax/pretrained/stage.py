"""A diffusion run that another holds: its weights, and the recipe that it draws by there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax

from diffjax.fingerprints import to_host
from diffjax.runs.trained import TrainedRun


def held_variables(run: TrainedRun) -> dict[str, Any]:
    """Its `params`, and `frozen` where there are any, on the host, see `frozen.variables_of`."""
    params, _, frozen = jax.tree.map(to_host, run.variables)
    return {"params": params} | ({"frozen": frozen} if frozen else {})


def stage_recipe(section: str, run: TrainedRun, options: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe of a stage before a model: that of the run's `sampling`, and `options` over it.

    Args:
      section: of the config that names the run, for messages.

    Raises:
      ValueError: an option that a stage cannot follow.
    """
    own = {k: v for k, v in run.config.get("sampling", {}).items() if k != "ema"}
    recipe = {**own, **options}
    where = f"{section}.run={run.workdir}"
    if recipe.get("clip_guidance"):
        raise ValueError(
            f"{where}: clip_guidance moves the last stage's images alone: set "
            f"{section}.recipe.clip_guidance=0"
        )
    for name, value in recipe.items():
        if isinstance(value, Mapping) and value:
            raise ValueError(
                f"{where}: a stage takes one scale, and {name} is a mapping: set "
                f"{section}.recipe.{name}={{}} and guidance"
            )
    return {name: value for name, value in recipe.items() if not isinstance(value, Mapping)}
