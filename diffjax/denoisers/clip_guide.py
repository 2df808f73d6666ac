"""A CLIP by which images are drawn towards their texts: its likelihood of a text, as a function of
an image, or of a noised one and its level."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.denoisers.cutouts import cut_out, whole
from diffjax.denoisers.embeddings import EmbeddingSpace
from diffjax.denoisers.spaces import DataSpace, Space
from diffjax.diffusion.gradient_guidance import ClipGuidance, LogLikelihood
from diffjax.diffusion.levels import Level
from diffjax.models.clip import CLIP
from diffjax.task import Params

NO_CLIP = (
    "clip_guidance={} needs a CLIP: add a section clip_guide=dict(run=..., config=...) to the "
    "config, or leave clip_guidance out"
)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("variables",),
    meta_fields=("network", "size", "name"),
)
@dataclass(frozen=True)
class ClipGuide:
    """Attributes:
    network: the two towers.
    variables: of the network, `params` and others.
    size: side in pixels of what its image tower takes.
    name: which CLIP, for protocols.
    """

    network: CLIP
    variables: Params
    size: int
    name: str = "CLIP"

    @property
    def noised(self) -> bool:
        """Whether the image tower was trained on noised images and is told their level."""
        return getattr(self.network.image, "noised", False)

    def check(self, space: Space, choices: ClipGuidance) -> None:
        """Refuses states whose images the CLIP cannot read.

        Raises:
          ValueError: says why.
        """
        if isinstance(space, EmbeddingSpace):
            raise ValueError(
                "clip_guidance moves images, and this model draws embeddings: leave it out"
            )
        shape = space.image_shape
        if len(shape) != 3 or (isinstance(space, DataSpace) and shape[-1] not in (1, 3)):
            raise ValueError(f"clip_guidance moves images, and this model draws {shape}")
        if not self.noised:
            return
        if not isinstance(space, DataSpace) or shape != (self.size, self.size, 3):
            raise ValueError(
                f"{self.name} is told the level of noised images {(self.size, self.size, 3)}, and "
                f"this model's states are {space.shape}: take a CLIP of clean images"
            )
        if choices.cutouts:
            raise ValueError(
                f"cutouts={choices.cutouts}: {self.name} is told the level of whole noised images; "
                "set cutouts=0"
            )

    def texts(self, tokens: Array) -> Array:
        """Unit rows `[B, E]` of `tokens [B, L] int32`."""
        return _unit(self.network.apply(self.variables, tokens, method="encode_text"))

    def fit(self, image: Array, text: Array, logsnr: Array | None = None) -> Array:
        """The logit `[B]` of images `[B, S, S, 3]` in [-1, 1] and unit rows of texts `[B, E]`;
        `logsnr [B]` of noised images of variance-preserving scale."""
        encode = partial(self.network.apply, self.variables, method="encode_image")
        found = encode(image) if logsnr is None else encode(image, logsnr=logsnr)
        scale = jnp.exp(self.variables["params"]["logit_scale"])
        return scale * (_unit(found) * text).sum(axis=-1)

    def log_likelihood(
        self, space: Space, frozen: Params, choices: ClipGuidance, text: Array, keys: Array
    ) -> LogLikelihood:
        """The logit of `text [B, E]` as a function of a state, its estimate and its level: of the
        state itself where the CLIP is told the level, else of the image of the estimate, in the
        mean over its cut-outs.

        Args:
          space, frozen: of the states.
          keys: `[B]`; the cut-outs of a row depend on its key and the level.
        """

        def of_noised(z: Array, x: Array, at: Level) -> Array:
            del x
            norm = jnp.hypot(at.alpha, at.sigma)
            logsnr = jnp.broadcast_to(at.logsnr, (len(z),))
            return self.fit(z / norm, text, logsnr)

        def of_estimate(z: Array, x: Array, at: Level) -> Array:
            del z
            image = space.decode(frozen, x)
            image = jnp.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image
            if not choices.cutouts:
                return self.fit(whole(image, self.size), text)
            word = jax.lax.bitcast_convert_type(jnp.float32(at.t), jnp.uint32)
            own = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, word)
            seen = cut_out(image, own, choices.cutouts, self.size, choices.cutout_power)
            fits = jax.vmap(lambda one: self.fit(one, text), in_axes=1)(seen)
            return fits.mean(axis=0)

        return of_noised if self.noised else of_estimate


def _unit(x: Any) -> Array:
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
