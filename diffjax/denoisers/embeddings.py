"""CLIP image embeddings, as priors diffuse them and decoders are conditioned by them (Ramesh et al.
2022, section 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from diffjax.denoisers.frozen import placeholder_variables
from diffjax.keys import Rng
from diffjax.task import Params

# Of the frozen variables of an `EmbeddingSpace`.
EMBEDDING = "embedding"


def scaled(embedding: Array) -> Array:
    """`[..., E] -> [..., E] float32` of length sqrt(E), so that elements are about 1 in size.

    What priors diffuse and decoders read; a zero embedding stays zero.
    """
    x = embedding.astype(jnp.float32)
    size = jnp.linalg.norm(x, axis=-1, keepdims=True)
    return x * (x.shape[-1] ** 0.5 / jnp.maximum(size, 1e-12))


@dataclass(frozen=True)
class ImageTower:
    """A frozen image tower as embeddings are read off it.

    Attributes:
      network: `image [B, H, W, 3] in [-1, 1] -> [B, E]`, see `models.clip.ImageEncoder`.
    """

    network: nn.Module

    @property
    def width(self) -> int:
        """E."""
        return self.network.image.embed  # type: ignore[attr-defined]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, 3) of the images that it takes."""
        size = self.network.image.image_size  # type: ignore[attr-defined]
        return size, size, 3

    def check(self, image_shape: tuple[int, ...]) -> None:
        """Raises ValueError for images that are not its own."""
        if image_shape != self.image_shape:
            raise ValueError(
                f"the image tower takes images of {self.image_shape}, not {image_shape}: add a "
                "resizing transform, or take another tower"
            )

    def init(self) -> Params:
        """See `placeholder_variables`."""
        return placeholder_variables(self.network, jnp.zeros((1, *self.image_shape)))

    def embed(self, variables: Params, image: Array) -> Array:
        """Scaled embeddings `[B, E] float32`; no gradient reaches the tower."""
        out: Any = self.network.apply(variables, image)
        return scaled(jax.lax.stop_gradient(out))


@dataclass(frozen=True)
class EmbeddingSpace:
    """A space of diffusion, see `Space`: scaled embeddings of a batch's images, or a batch's
    `image`s themselves where these are embeddings that were kept.

    Attributes:
      tower: its variables are `frozen["embedding"]`.
    """

    tower: ImageTower
    bounded: ClassVar[bool] = False

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, 3) of an image, see `ImageTower.image_shape`."""
        return self.tower.image_shape

    @property
    def shape(self) -> tuple[int]:
        return (self.tower.width,)

    def init(self) -> Params:
        """The tower's variables, see `placeholder_variables`."""
        return {EMBEDDING: self.tower.init()}

    def encode(self, frozen: Params, image: Array, rng: Rng | None = None) -> Array:
        """Scaled embeddings `[B, E] float32` of images, or those that `image [B, E]` are."""
        return image if image.ndim == 2 else self.tower.embed(frozen[EMBEDDING], image)

    def decode(self, frozen: Params, x: Array) -> Array:
        """`x`, of the length that embeddings have; images of it are a decoder's to draw."""
        return scaled(x)

    def shrink_mask(self, mask: Array) -> Array:
        """Raises ValueError: embeddings have no places."""
        raise ValueError("an embedding cannot be inpainted: it has no places")

    def resized(self, height: int, width: int) -> EmbeddingSpace:
        """Raises ValueError: a tower takes images of one size."""
        raise ValueError("a prior draws embeddings, which have no height and width")
