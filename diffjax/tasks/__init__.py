"""Tasks by name: a network and an objective, as pure functions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from diffjax.choices import build, unknown
from diffjax.diffusion.predictions import PREDICTIONS
from diffjax.diffusion.schedules import SCHEDULES
from diffjax.diffusion.timesteps import TIMES
from diffjax.diffusion.weightings import WEIGHTINGS
from diffjax.objectives.likelihoods import LIKELIHOODS
from diffjax.tasks.base import Task
from diffjax.tasks.classification import ClassificationTask
from diffjax.tasks.clip import ClipTask
from diffjax.tasks.conditions import ByText
from diffjax.tasks.diffusion import DiffusionTask
from diffjax.tasks.latents import Latents
from diffjax.tasks.vae import VaeTask

TASKS: dict[str, type] = {
    "diffusion": DiffusionTask,
    "classification": ClassificationTask,
    "clip": ClipTask,
    "vae": VaeTask,
}
# Sections inside a task's section, each a choice from a table of its own.
PARTS: dict[str, dict] = {
    "schedule": SCHEDULES,
    "prediction": PREDICTIONS,
    "weighting": WEIGHTINGS,
    "times": TIMES,
    "likelihood": LIKELIHOODS,
}


def make_task(
    section: Mapping[str, Any],
    network: nn.Module,
    image_shape: tuple[int, ...],
    num_classes: int,
    text: ByText | None = None,
    latents: Latents | None = None,
) -> Task:
    """The task of a config's `task` section.

    Args:
      section: `type` and its options; `schedule`, `prediction`, `weighting`, `times` and
        `likelihood` are sections themselves.
      network: the network that it trains.
      image_shape: of one example of the data.
      num_classes: of the data; the section may say otherwise (0: unconditional).
      text: the tower that reads the captions, for a diffusion task; the section's `caption_drop`
        is its share of empty ones.
      latents: the codec in whose latents a diffusion task works.

    Raises:
      ValueError: an unknown name, the nearest valid one named.
    """
    section = dict(section)
    for name, table in PARTS.items():
        if isinstance(section.get(name), str):
            raise ValueError(f"task.{name} is a section: dict(type={section[name]!r}, ...)")
        if isinstance(section.get(name), Mapping):
            section[name] = build(table, f"task.{name}", section[name])
    given: dict[str, Any] = {"network": network, "image_shape": image_shape}
    if section.get("type") == "diffusion":
        drop = section.pop("caption_drop", 0.0)
        if text is None and drop:
            raise ValueError(f"task.caption_drop={drop} without a text section: add it, or set 0")
        text = None if text is None else dataclasses.replace(text, drop=drop)
        given |= {"text": text, "latents": latents}
    elif text is not None or latents is not None:
        raise ValueError(f"task {section.get('type')!r} reads no text and no codec section")
    clash = [k for k in given if k in section]
    if clash:
        raise unknown("key of task:", clash[0], [k for k in section if k not in clash])
    kind = TASKS.get(str(section.get("type")))
    if kind is not None and "num_classes" in {f.name for f in dataclasses.fields(kind)}:
        section = {"num_classes": num_classes, **section}
    return build(TASKS, "task", {**section, **given})
