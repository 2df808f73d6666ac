"""The frozen networks that a diffusion run rests on: its codec and its conditions' towers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffjax.data.tokenizer_joint import AnyTokenizer, JointTokenizer, join
from diffjax.denoisers.conditions.base import Condition
from diffjax.denoisers.conditions.image_embedding import IMAGE_EMBEDDING
from diffjax.denoisers.conditions.text import FrozenTower
from diffjax.denoisers.embeddings import EMBEDDING, EmbeddingSpace, ImageTower
from diffjax.denoisers.spaces import DataSpace, LatentSpace, Space
from diffjax.pretrained.codec import Codec, load_codec
from diffjax.pretrained.guide import Guide, load_guide
from diffjax.pretrained.image_tower import EmbeddingConfig, LoadedImageTower, load_image_tower
from diffjax.pretrained.init_from import recorded
from diffjax.pretrained.prior import LoadedPrior, load_prior
from diffjax.pretrained.text import TextTower, TextTowerConfig, load_text_tower
from diffjax.runs.pieces import describe_pieces
from diffjax.task import Task
from diffjax.train.init_from import Collections, InitFrom

# The sections that name frozen networks, beside those of conditions.
FROZEN = ("codec", EMBEDDING, "guide", "prior")


@dataclass(frozen=True, eq=False)
class Frozen:
    """Attributes:
    codec: config section `codec`, loaded; None without one.
    embedding: config section `embedding`, loaded; None without one.
    towers: name of a condition -> the text or image tower that it reads, loaded.
    guide, prior: config sections `guide` and `prior`, loaded; None without one.
    origins: name -> where it comes from, for messages.
    """

    codec: Codec | None
    towers: Mapping[str, TextTower | LoadedImageTower]
    origins: Mapping[str, str]
    guide: Guide | None = None
    embedding: LoadedImageTower | None = None
    prior: LoadedPrior | None = None

    @property
    def tokenizer(self) -> AnyTokenizer | None:
        """Of the towers and the prior, see `join`; None without one.

        Raises:
          ValueError: a prior that reads other rows of ids than the towers.
        """
        found = join([tower.tokenizer for tower in self._texts.values()])
        if self.prior is None:
            return found
        own = self.prior.tokenizer
        if found is not None and found.fingerprint != own.fingerprint:
            raise ValueError(
                "the prior reads other ids of a text than the towers of conditions do: take towers "
                "that read the prior's"
            )
        return own

    @property
    def _texts(self) -> dict[str, TextTower]:
        return {n: tower for n, tower in self.towers.items() if isinstance(tower, TextTower)}

    def space(self, image_shape: tuple[int, ...], codec_of_data: str | None) -> Space:
        """The space of diffusion; `codec_of_data` is the `DatasetInfo.codec` of the batches.

        Raises:
          ValueError: data that hold another codec's moments, or moments and no codec.
        """
        own = self.codec or self.embedding
        own = None if own is None else own.fingerprint
        if codec_of_data not in (None, own):
            raise ValueError(
                f"the data hold latents of the codec {codec_of_data}, but the config's codec "
                f"section is {own or 'missing'}: name the codec that they were made with"
            )
        if self.embedding is not None:
            if codec_of_data is None:
                self.embedding.tower.check(image_shape)
            return EmbeddingSpace(self.embedding.tower)
        if self.codec is None:
            return DataSpace(image_shape)
        return LatentSpace(self.codec.network, image_shape, codec_of_data is not None)

    def encoders(self, conditions: Mapping[str, Any]) -> dict[str, LoadedImageTower]:
        """Field of a batch -> the tower whose embeddings it may hold, of the diffusion's space as
        `image` and of `conditions`, the config's sections."""
        found = {} if self.embedding is None else {"image": self.embedding}
        for name, tower in self.towers.items():
            if isinstance(tower, LoadedImageTower):
                found[str(conditions[name].get("field", IMAGE_EMBEDDING))] = tower
        return found

    @property
    def read_towers(self) -> dict[str, FrozenTower | ImageTower]:
        """The towers as conditions read them, by name, each text tower at its own ids of a row."""
        whole, found = self.tokenizer, {n: tower.tower for n, tower in self.towers.items()}
        if not isinstance(whole, JointTokenizer):
            return found
        starts = {p.fingerprint: at for p, at in zip(whole.parts, whole.starts, strict=True)}
        return found | {
            name: dataclasses.replace(
                tower.tower, place=(starts[tower.tokenizer.fingerprint], whole.context)
            )
            for name, tower in self._texts.items()
        }

    def pieces(self, conditions: tuple[Condition, ...], space: Space) -> dict[str, Any]:
        """Arguments of a task, by its names for them, of what there is."""
        guide = None if self.guide is None else self.guide.model
        prior = {} if self.prior is None else {"prior": self.prior.model,
                                               "prior_recipe": self.prior.recipe}  # fmt: skip
        within = None if isinstance(space, DataSpace) else space
        found = {"conditions": conditions, "space": within, "guide": guide, **prior}
        return {name: piece for name, piece in found.items() if piece}

    def describe(self, task: Task, conditions: Mapping[str, Any]) -> dict[str, Any]:
        """The pieces of a diffusion task as a run keeps them, see `runs.pieces`; {} of another
        task. `conditions` are the config's sections."""
        model = getattr(task, "model", None)
        if model is None:
            return {}
        guide = self.guide and self.guide.resolved
        prior = self.prior and (self.prior.resolved, dict(self.prior.recipe))
        return describe_pieces(model.space, conditions, self.read_towers, guide, prior)

    def init_from(self, workdir: Path) -> InitFrom | None:
        """Gives the frozen networks their weights; None where there are none."""
        held: dict[str, Any] = {} if self.codec is None else {"codec": self.codec}
        held |= {} if self.embedding is None else {EMBEDDING: self.embedding}
        held |= self.towers
        held |= {} if self.guide is None else {"guide": self.guide}
        held |= {} if self.prior is None else {"prior": self.prior}
        if not held:
            return None

        def load() -> Collections:
            for name, part in held.items():
                file = workdir / f"{name}.json"
                recorded(file, name, {"origin": self.origins[name]}, part.variables)
            return {"params": {name: part.variables for name, part in held.items()}}

        return InitFrom(load, " and ".join(self.origins[n] for n in held), tuple(held), True)


def load_frozen(
    reference: Callable[[str], Mapping[str, Any] | None], conditions: Mapping[str, Any]
) -> Frozen:
    """The networks of a config's `codec`, `embedding`, `guide` and `prior` sections and of its
    conditions' towers.

    Args:
      reference: the section of a name as it may be followed, None where there is none.
      conditions: the config's.

    Raises:
      ValueError: whatever `load_codec`, `load_guide` and `load_text_tower` refuse.
    """
    said = {n: section for n in FROZEN if (section := reference(n))}
    codec, embedding, guide, prior = (said.get(n) for n in FROZEN)
    towers = {}
    for name, condition in conditions.items():
        where = f"conditions.{name}.tower"
        section = reference(where)
        if section:
            said[name] = section
            towers[name] = _tower(condition, section, where)
    keys = ("run", *TextTowerConfig.released)
    origins = {n: next((str(s[k]) for k in keys if s.get(k)), n) for n, s in said.items()}
    return Frozen(
        load_codec(codec) if codec else None,
        towers,
        origins,
        load_guide(guide) if guide else None,
        load_image_tower(embedding, EMBEDDING, EmbeddingConfig) if embedding else None,
        load_prior(prior) if prior else None,
    )


def _tower(
    condition: Mapping[str, Any], section: Mapping[str, Any], where: str
) -> TextTower | LoadedImageTower:
    if condition.get("type") == "image_embedding":
        return load_image_tower(section, where)
    return load_text_tower(section, where, condition.get("to") in ("vector", "both"))
