"""A frozen image tower of CLIP, for embeddings: of a run of ours, or of released weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax

from diffjax.choices import construct
from diffjax.denoisers.embeddings import ImageTower
from diffjax.fingerprints import fingerprint, to_host
from diffjax.models.clip import CLIP, ImageEncoder
from diffjax.pretrained.clip import released_encoders
from diffjax.pretrained.reference import Reference


@dataclass(frozen=True)
class ImageTowerConfig(Reference):
    """The `tower` of an image embedding: that of a run (see `Reference`) or a released one.

    Attributes:
      clip: a released CLIP, see `interop.clip.load_clip`.
    """

    clip: str | None = None
    section: ClassVar[str] = "tower"
    released: ClassVar[tuple[str, ...]] = ("clip",)


@dataclass(frozen=True)
class EmbeddingConfig(ImageTowerConfig):
    """The section `embedding`: diffusion works in the embeddings of this tower."""

    section: ClassVar[str] = "embedding"


@dataclass(frozen=True, eq=False)
class LoadedImageTower:
    """Attributes:
    tower: as conditions and spaces read it.
    variables: of the tower, arrays on the host.
    fingerprint: of the variables.
    """

    tower: ImageTower
    variables: Mapping[str, Any]
    fingerprint: str


def load_image_tower(
    reference: Mapping[str, Any], what: str, kind: type[ImageTowerConfig] = ImageTowerConfig
) -> LoadedImageTower:
    """The tower of a config section, see `ImageTowerConfig`.

    Args:
      what: where the section stands, for errors.
      kind: of the section.

    Raises:
      ValueError: no such run, a run without an image tower, or whatever is wrong with released
        weights.
    """
    choices: ImageTowerConfig = construct(kind, what, reference)
    if choices.clip is not None:
        encoders = released_encoders(choices.clip, None, None)
        network, variables = encoders.task.network, encoders.variables
    else:
        run = choices.open()
        network, variables = run.network, run.variables
        if not isinstance(network, CLIP):
            raise ValueError(
                f"{what}.run={choices.run} is a run of task {run.kind!r}, without an image tower"
            )
    # A tower that was locked in its run lies among the frozen.
    params = {**variables.params, **variables.frozen}["image"]
    held = {"params": {"image": params}}
    for name, state in variables.model_state.items():
        if "image" in state:
            held[name] = {"image": state["image"]}
    held = jax.tree.map(to_host, held)
    tower = ImageTower(ImageEncoder(network.image.clone(), network.mean, network.std))
    return LoadedImageTower(tower, held, fingerprint(held))
