"""Trained runs as they are drawn from: diffusion by the recipe of the config's `sampling`, a VAE by
its prior."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from diffjax.denoisers.spaces import LatentSpace
from diffjax.evals.drawing import draw
from diffjax.generate.pipeline import Pipeline
from diffjax.runs import TrainedRun
from diffjax.runs.config import read_config
from diffjax.task import Variables
from diffjax.tasks.diffusion import DiffusionTask
from experiments.evaluations import KEPT
from experiments.stages import opened


def pipeline_of_run(run: TrainedRun) -> Pipeline:
    """The pipeline of a run.

    Raises:
      ValueError: a run of another task.
    """
    task = run.task
    if not isinstance(task, DiffusionTask):
        raise ValueError(f"{run.workdir} is a run of task {run.kind!r}, not of diffusion")
    recipe = {k: v for k, v in run.config.get("sampling", {}).items() if k != "ema"}
    model, words = task.model, run.tokenizer
    if isinstance(model.space, LatentSpace):
        model = model.resized(*model.space.decoded_shape[:2])
    return Pipeline(
        model,
        run.variables,
        recipe,
        {"run": str(run.workdir), "step": run.step, "ema": run.ema},
        None if words is None else dataclasses.replace(words, empty="allow").encode,
        tuple(run.class_names) if "label" in model.fields else (),
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


def drawn_of_run(workdir: Path, step: int | None, ema: str | None) -> Pipeline | Prior:
    """What a run draws by.

    Args:
      step: its checkpoint; the latest by default.
      ema: which average of the weights; by default what `sampling.ema` says, "none" for the weights
        themselves.

    Raises:
      ValueError: a run that draws nothing, or not trained yet.
    """
    own = read_config(workdir).get("sampling", {}).get("ema")
    run = opened(workdir, step, None if ema == "none" else ema or own)
    task: Any = run.task
    if isinstance(task, DiffusionTask):
        return pipeline_of_run(run)
    if "sample" not in task.predict_fns():
        raise ValueError(f"{run.workdir} is a run of task {run.kind!r}, which draws nothing")
    facts = {"run": str(run.workdir), "step": run.step, "ema": run.ema}
    return Prior(task, run.variables, facts)
