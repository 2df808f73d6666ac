"""Pieces of a diffusion task beside its own network, as sections: its space, its conditions.

A network in a section is a section itself, under "network"; towers stand by their condition's name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from diffjax.choices import as_section, check, construct
from diffjax.denoisers.conditions import make_conditions
from diffjax.denoisers.conditions.text import FrozenTower
from diffjax.denoisers.embeddings import EmbeddingSpace, ImageTower
from diffjax.denoisers.spaces import DataSpace, LatentSpace, Space
from diffjax.interop.sizes import check_buildable
from diffjax.models import build_model, section_of
from diffjax.models.clip import ImageEncoder
from diffjax.runs.resolved import Resolved
from diffjax.task import Task
from diffjax.tasks import make_task

NETWORK = "network"
# Frozen networks that training's loss alone reads.
UNREAD = ("perceptual",)
# Of a guiding run or a prior's, which have the same data.
GUIDE = ("image_shape", "model", "task", "pieces")


def describe_pieces(
    space: Space,
    conditions: Mapping[str, Any],
    towers: Mapping[str, FrozenTower | ImageTower],
    guide: Resolved | None = None,
    prior: tuple[Resolved, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """The pieces of a diffusion task.

    Args:
      space: of the task.
      conditions: the config's sections.
      towers: of those that have one, by name.
      guide: how the guiding run was built; None without one.
      prior: how the prior's run was built, and its recipe; None without one.
    """
    found: dict[str, Any] = {"conditions": dict(conditions)}
    if isinstance(space, LatentSpace):
        found["space"] = {NETWORK: section_of(space.codec), "cached": space.cached}
    if isinstance(space, EmbeddingSpace):
        found["embedding"] = {NETWORK: section_of(space.tower.network)}
    found["towers"] = {name: _described(tower) for name, tower in towers.items()}
    if guide is not None:
        found["guide"] = {name: getattr(guide, name) for name in GUIDE}
    if prior is not None:
        found["prior"] = {name: getattr(prior[0], name) for name in GUIDE}
        found["prior_recipe"] = dict(prior[1])
    return found


def _described(tower: FrozenTower | ImageTower) -> dict[str, Any]:
    rest = {f.name: getattr(tower, f.name) for f in dataclasses.fields(tower)}
    if rest.get("place") is None:  # as records of before there was one have it
        rest.pop("place", None)
    return {**rest, NETWORK: section_of(rest[NETWORK])}


def _tower(what: str, section: Any) -> FrozenTower | ImageTower:
    rest = _with_network(what, section)
    kind = ImageTower if isinstance(rest[NETWORK], ImageEncoder) else FrozenTower
    return construct(kind, what, rest)


def build_task(resolved: Resolved) -> Task:
    """The task of a run as it was built, but for what training's loss alone reads.

    Raises:
      ValueError: a section that builds nothing.
    """
    parts: dict[str, Any] = {}
    pieces = as_section("pieces", resolved.pieces)
    if pieces:
        space: Any = DataSpace(resolved.image_shape)
        if "space" in pieces:
            rest = _with_network("pieces.space", pieces["space"])
            space = LatentSpace(rest[NETWORK], resolved.image_shape, bool(rest.get("cached")))
        if "embedding" in pieces:
            tower: Any = _tower("pieces.embedding", pieces["embedding"])
            space = EmbeddingSpace(tower)
        towers = {
            name: _tower(f"pieces.towers.{name}", section)
            for name, section in as_section("pieces.towers", pieces.get("towers", {})).items()
        }
        sections = as_section("pieces.conditions", pieces.get("conditions", {}))
        made = make_conditions(sections, resolved.num_classes, space, towers)
        parts = {"conditions": made, "space": space}
        for name in ("guide", "prior"):
            if name in pieces:
                section = check(Resolved, f"pieces.{name}", pieces[name], whole=False)
                task: Any = build_task(dataclasses.replace(resolved, **section))
                parts[name] = task.model
        if "prior_recipe" in pieces:
            recipe = as_section("pieces.prior_recipe", pieces["prior_recipe"])
            parts["prior_recipe"] = tuple(sorted(recipe.items()))
    network = _build("model", resolved.model)
    return make_task(
        _typed("task", resolved.task), network, resolved.image_shape, resolved.num_classes, parts
    )


def _with_network(what: str, section: Any) -> dict[str, Any]:
    rest = dict(as_section(what, section))
    return {**rest, NETWORK: _build(f"{what}.{NETWORK}", rest.get(NETWORK))}


def _typed(what: str, section: Any) -> dict[str, Any]:
    section = dict(as_section(what, section))
    if "type" not in section:
        raise ValueError(f"{what} has no type")
    return section


def _build(what: str, section: Any) -> nn.Module:
    section = _typed(what, section)
    check_buildable(section)
    return build_model(**section)
