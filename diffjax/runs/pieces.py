"""What a task is given beside its own network, as sections: its codec's latents, its text tower.

The section of a piece is that of its network, under "network", and its other attributes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from diffjax.choices import as_section, construct, pick
from diffjax.interop.sizes import check_buildable
from diffjax.models import build_model, section_of
from diffjax.runs.resolved import Resolved
from diffjax.tasks import make_task
from diffjax.tasks.base import Task
from diffjax.tasks.conditions import ByText
from diffjax.tasks.latents import Latents

# By the argument of `make_task`. What is left out is read by training's loss alone.
PIECES: dict[str, Any] = {"latents": Latents, "text": ByText}
NETWORK = "network"


def describe_pieces(pieces: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The sections of a task's pieces, by name."""
    return {name: _described(one) for name, one in pieces.items() if name in PIECES}


def _described(piece: Any) -> dict[str, Any]:
    section: dict[str, Any] = {}
    for field in dataclasses.fields(piece):
        value = getattr(piece, field.name)
        if isinstance(value, nn.Module):
            section[NETWORK] = section_of(value)
        elif field.default is dataclasses.MISSING or value != field.default:
            section[field.name] = value
    return section


def build_task(resolved: Resolved) -> Task:
    """The task of a run as it was built, but for what training's loss alone reads.

    Raises:
      ValueError: a section that builds nothing.
    """
    pieces = {}
    for name, section in resolved.pieces.items():
        maker = PIECES[pick("piece of the task", name, PIECES)]
        rest = dict(as_section(f"pieces.{name}", section))
        network = _build(f"pieces.{name}.{NETWORK}", rest.pop(NETWORK, None))
        fields = dataclasses.fields(maker)
        slot = next(f.name for f in fields if f.default is dataclasses.MISSING)
        pieces[name] = construct(maker, f"pieces.{name}", {slot: network, **rest})
    network = _build("model", resolved.model)
    return make_task(
        _typed("task", resolved.task), network, resolved.image_shape, resolved.num_classes, pieces
    )


def _typed(what: str, section: Any) -> dict[str, Any]:
    section = dict(as_section(what, section))
    if "type" not in section:
        raise ValueError(f"{what} has no type")
    return section


def _build(what: str, section: Any) -> nn.Module:
    section = _typed(what, section)
    check_buildable(section)
    return build_model(**section)
