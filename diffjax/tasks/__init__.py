"""Tasks by name: a network and an objective, as pure functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn

from diffjax.choices import LINEN, build, unknown
from diffjax.diffusion.predictions import PREDICTIONS
from diffjax.diffusion.schedules import SCHEDULES
from diffjax.diffusion.timesteps import TIMES
from diffjax.diffusion.weightings import WEIGHTINGS
from diffjax.models.discriminator import DISCRIMINATORS
from diffjax.objectives.likelihoods import LIKELIHOODS
from diffjax.task import Task
from diffjax.tasks.autoencoder import AutoencoderTask
from diffjax.tasks.autoregressive import autoregressive_prior_task
from diffjax.tasks.classification import ClassificationTask
from diffjax.tasks.clip import ClipTask
from diffjax.tasks.diffusion import diffusion_task
from diffjax.tasks.factors import FactorsTask
from diffjax.tasks.vae import VaeTask

TASKS: dict[str, Callable[..., Task]] = {
    "diffusion": diffusion_task,
    "classification": ClassificationTask,
    "factors": FactorsTask,
    "clip": ClipTask,
    "vae": VaeTask,
    "autoencoder": AutoencoderTask,
    "autoregressive_prior": autoregressive_prior_task,
}
# Sections inside a task's section, each a choice from a table of its own.
PARTS: dict[str, dict] = {
    "schedule": SCHEDULES,
    "noise": SCHEDULES,
    "prediction": PREDICTIONS,
    "weighting": WEIGHTINGS,
    "times": TIMES,
    "likelihood": LIKELIHOODS,
    "discriminator": DISCRIMINATORS,
}


def make_task(
    section: Mapping[str, Any],
    network: nn.Module,
    image_shape: tuple[int, ...],
    num_classes: int,
    pieces: Mapping[str, Any] | None = None,
) -> Task:
    """The task of a config's `task` section.

    Args:
      section: `type` and its options; those called as in `PARTS` are sections themselves.
      network: the network that it trains.
      image_shape: of one example of the data.
      num_classes: of the data; the section may say otherwise (0: unconditional).
      pieces: further arguments of the task, which no section can hold: its conditions, its space,
        a frozen network, ...

    Raises:
      ValueError: an unknown name, the nearest valid one named.
    """
    section = dict(section)
    for name, table in PARTS.items():
        if isinstance(section.get(name), str):
            raise ValueError(f"task.{name} is a section: dict(type={section[name]!r}, ...)")
        if isinstance(section.get(name), Mapping):
            section[name] = build(table, f"task.{name}", section[name], LINEN)
    pieces = {"network": network, "image_shape": image_shape, **(pieces or {})}
    clash = [k for k in pieces if k in section]
    if clash:
        raise unknown("key of task:", clash[0], [k for k in section if k not in clash])
    kind = TASKS.get(str(section.get("type")))
    if kind is not None and "num_classes" in inspect.signature(kind).parameters:
        section = {"num_classes": num_classes, **section}
    return build(TASKS, "task", {**section, **pieces})
