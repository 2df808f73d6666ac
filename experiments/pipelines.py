"""The pipeline of a trained diffusion run: drawn from by the recipe of its config's `sampling`."""

from __future__ import annotations

import dataclasses
from typing import Any

from diffjax.generate.pipeline import Pipeline
from diffjax.tasks.diffusion import DiffusionTask
from experiments.assemble import Assembly
from experiments.evaluations import KEPT


def pipeline_of_run(
    assembly: Assembly, step: int | None = None, ema: str | None = None
) -> Pipeline:
    """The pipeline of a run.

    Args:
      step: its checkpoint; the latest by default.
      ema: which average of the weights; by default what `sampling.ema` says, "none" for the weights
        themselves.

    Raises:
      ValueError: a run of another task, or not trained yet.
    """
    task = assembly.task
    if not isinstance(task, DiffusionTask):
        kind = assembly.config["task"].get("type")
        raise ValueError(f"{assembly.workdir} is a run of task {kind!r}, not of diffusion")
    recipe: dict[str, Any] = dict(assembly.config.get("sampling", {}))
    own = recipe.pop("ema", None)
    ema = None if ema == "none" else ema or own
    at, state, frozen = assembly.trained(step)
    words = assembly.tokenizer if assembly.frozen.towers else None
    return Pipeline(
        task.model.resized(*_size(task)) if not task.model.space.bounded else task.model,
        state.variables(frozen, ema),
        recipe,
        {"run": str(assembly.workdir), "step": at, "ema": ema},
        None if words is None else dataclasses.replace(words, empty="allow").encode,
        tuple(assembly.source.info.class_names or ()) if assembly.conditional else (),
        kept=KEPT,
    )


def _size(task: DiffusionTask) -> tuple[int, int]:
    """(height, width) of the images that latents decode to."""
    height, width, _ = task.model.space.decoded_shape  # type: ignore[attr-defined]
    return height, width
