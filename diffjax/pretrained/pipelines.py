"""Trained runs as they are drawn from: diffusion by the recipe of the config's `sampling`, a VAE by
its prior."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from diffjax.evals.drawing import draw
from diffjax.generate.pipeline import Pipeline
from diffjax.interop.pipelines import is_pipeline
from diffjax.pretrained.released import open_released, stable_diffusion_pipeline
from diffjax.runs import TrainedRun, open_run
from diffjax.runs.config import read_config
from diffjax.task import Variables
from diffjax.tasks.diffusion import DiffusionTask


def open_pipeline(
    name: str | Path, *, step: int | None = None, ema: str | None = "sampling", **released: Any
) -> Pipeline:
    """A pipeline of a run's workdir, or of a released model.

    Args:
      name: a workdir; a Stable Diffusion (folder, name on the hub, or `.safetensors` or `.ckpt`
        file); or a `DDPMPipeline` or `DiTPipeline`, see `open_released`.
      step, ema: of a run: its checkpoint, the latest by default, and which average of its weights,
        by default that of its config's `sampling`; None for the weights themselves.
      released: of released files: `tokenizer` and `clip_skip`, or `release` and `codec`.

    Raises:
      ValueError: nothing there, or whatever is wrong with it, in one line.
    """
    if (Path(name) / "config.json").is_file() and (Path(name) / "checkpoints").is_dir():
        if ema == "sampling":
            ema = read_config(Path(name)).get("sampling", {}).get("ema")
        return pipeline_of_run(open_run(name, step, ema))
    if "release" in released or "codec" in released or is_pipeline(name):
        return open_released(name, **released)
    return stable_diffusion_pipeline(str(name), **released)


def pipeline_of_run(run: TrainedRun) -> Pipeline:
    """The pipeline of a run.

    Raises:
      ValueError: a run of another task.
    """
    task = run.task
    if not isinstance(task, DiffusionTask):
        raise ValueError(f"{run.workdir} is a run of task {run.kind!r}, not of diffusion")
    recipe = {k: v for k, v in run.config.get("sampling", {}).items() if k != "ema"}
    model, words = task.model.of_images(), run.tokenizer
    return Pipeline(
        model,
        run.variables,
        recipe,
        {"run": str(run.workdir), "step": run.step, "ema": run.ema},
        None if words is None else words.allowing_empty().encode,
        tuple(run.class_names) if "label" in model.fields else (),
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


def drawn_by(run: TrainedRun) -> Pipeline | Prior:
    """The recipe that a run draws by.

    Raises:
      ValueError: a run that draws nothing.
    """
    task: Any = run.task
    if isinstance(task, DiffusionTask):
        return pipeline_of_run(run)
    if "sample" not in task.predict_fns():
        raise ValueError(f"{run.workdir} is a run of task {run.kind!r}, which draws nothing")
    facts = {"run": str(run.workdir), "step": run.step, "ema": run.ema}
    return Prior(task, run.variables, facts)
