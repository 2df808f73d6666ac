"""Trained runs as they are drawn from: diffusion by the recipe of the config's `sampling`, a VAE by
its prior."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import numpy as np

from diffjax.evals.drawing import draw
from diffjax.generate.pipeline import Pipeline
from diffjax.task import Variables
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


@dataclasses.dataclass(frozen=True, eq=False)
class Prior:
    """A run that draws from a prior without a recipe, in a `Pipeline`'s place.

    Attributes:
      task, variables: of the run; the task has `sample` and `nfe`.
      facts: where it comes from.
    """

    task: Any
    variables: Variables
    facts: Mapping[str, Any]
    fields: ClassVar[list[str]] = []
    num_classes: ClassVar[int] = 0
    class_names: ClassVar[tuple[str, ...]] = ()
    tokenize: ClassVar[None] = None

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(H, W, C) of what it draws."""
        return self.task.image_shape

    def describe(self, strength: float = 1.0, **options: Any) -> dict[str, Any]:
        """See `Pipeline.describe`."""
        del strength
        return self.task.nfe(**options)

    def draw(
        self,
        cond: Mapping[str, np.ndarray],
        seed: int,
        index: np.ndarray,
        *whole: Any,
        batch_size: int = 100,
        **options: Any,
    ) -> np.ndarray:
        """See `Pipeline.draw`; there is no image to start from."""
        del cond, whole
        sample = partial(self.task.predict_fns()["sample"], **options)
        rows = min(batch_size, len(index))
        return draw(sample, self.variables, seed, np.zeros(len(index)), rows, index=index)


def drawn_of_run(assembly: Assembly, step: int | None, ema: str | None) -> Pipeline | Prior:
    """What a run draws by, see `pipeline_of_run`.

    Raises:
      ValueError: a run that draws nothing, or not trained yet.
    """
    task: Any = assembly.task
    if isinstance(task, DiffusionTask):
        return pipeline_of_run(assembly, step, ema)
    if "sample" not in task.predict_fns():
        kind = assembly.config["task"].get("type")
        raise ValueError(f"{assembly.workdir} is a run of task {kind!r}, which draws nothing")
    ema = None if ema == "none" else ema or assembly.config.get("sampling", {}).get("ema")
    at, state, frozen = assembly.trained(step)
    facts = {"run": str(assembly.workdir), "step": at, "ema": ema}
    return Prior(task, state.variables(frozen, ema), facts)


def _size(task: DiffusionTask) -> tuple[int, int]:
    """(height, width) of the images that latents decode to."""
    height, width, _ = task.model.space.decoded_shape  # type: ignore[attr-defined]
    return height, width
