"""Configs of earlier runs in today's sections.

A diffusion task once said itself what its network was conditioned by, and two sections had other
names. Parameters, random streams and checkpoints have stayed as they were, so such a run goes on,
and is opened, as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Section of then -> of today.
RENAMED = {"start": "init_from", "judge": "clip_scorer"}
_MOVED = ("num_classes", "label_drop", "caption_drop", "hint", "hint_drop")


def migrated(config: Mapping[str, Any]) -> dict[str, Any]:
    """The `config.json` of a run in today's sections; as it is where it has them already."""
    config = {RENAMED.get(name, name): section for name, section in config.items()}
    task = config.get("task")
    if not isinstance(task, Mapping) or task.get("type") != "diffusion":
        return config
    if "text" not in config and not any(name in task for name in _MOVED):
        return config
    rest = {k: v for k, v in config.items() if k not in ("text", "task")}
    conditions = {**_label(task), **_caption(config, task), **_image(task)}
    kept = {k: v for k, v in task.items() if k not in _MOVED}
    found = {"conditions": conditions, "sampling": _sampling(config)}
    return {**rest, "task": kept, **{name: section for name, section in found.items() if section}}


def _sampling(config: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe of the first of the evaluators that drew."""
    evals = config.get("evals")
    sections = evals.values() if isinstance(evals, Mapping) else ()
    for section in sections:
        drawn = section.get("pred_kw") if isinstance(section, Mapping) else None
        if isinstance(drawn, Mapping) and "sampler" in drawn:
            return {**drawn, **({"ema": section["ema"]} if section.get("ema") else {})}
    return {}


def _drop(task: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {"drop": task[name]} if task.get(name) else {}


def _label(task: Mapping[str, Any]) -> dict[str, Any]:
    classes = task.get("num_classes")
    if classes == 0:
        return {}
    section = {"type": "class", **_drop(task, "label_drop")}
    if classes is not None:
        return {"label": {**section, "classes": classes}}
    # The classes were those of the data, if these had any.
    return {"label": section if "drop" in section else {**section, "required": False}}


def _caption(config: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, Any]:
    if not config.get("text"):
        return {}
    section = {"type": "text", "tower": config["text"], **_drop(task, "caption_drop")}
    return {"caption": section}


def _image(task: Mapping[str, Any]) -> dict[str, Any]:
    if not task.get("hint"):
        return {}
    to = {"beside": "concat", "tokens": "context"}.get(task["hint"], task["hint"])
    return {"hint": {"type": "image", "to": to, **_drop(task, "hint_drop")}}
