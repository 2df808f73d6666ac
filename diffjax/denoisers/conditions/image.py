"""Images as a condition: another image beside the noisy one, or the image around a mask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.denoisers.conditions.base import BatchField, Surroundings, field_of
from diffjax.denoisers.spaces import Space
from diffjax.models.conditioning import Conditioning
from diffjax.ranges import Probability
from diffjax.task import Params

Layout = Literal["latent_diffusion", "glide"]


@dataclass(frozen=True)
class ImageCondition(BatchField):
    """`cond_image [B, h, w, C] float32`: another image; the null is zeros.

    Attributes:
      name, field, drop, has_null: see `Condition`.
      to: "concat", as further channels of the input, brought to its size (Saharia et al. 2022,
        SR3: super-resolution), or "context", each pixel of it a token with its place (Rombach et
        al. 2022, section 3.3).
    """

    name: str
    drop: float = 0.0
    has_null: bool = True
    field: str = "cond_image"
    to: Literal["concat", "context"] = "concat"

    def init(self, key: Array, batch_spec: Mapping[str, Any]) -> tuple[Params, Params]:
        """See `Condition.init`."""
        how = "add a `low_resolution` transform to data.transforms"
        field_of(batch_spec, self.name, self.field, how)
        return {}, {}

    def null(self, value: Array) -> Array:
        """Zeros."""
        return jnp.zeros_like(value)

    def encode(self, params: Params, frozen: Params, value: Array, x: Array) -> Conditioning:
        """See `Condition.encode`."""
        b, h, w, c = value.shape
        if self.to == "concat":
            size = (b, *x.shape[1:3], c)
            return Conditioning(concat=jax.image.resize(value, size, "linear", antialias=True))
        down, across = jnp.meshgrid(jnp.linspace(-1, 1, h), jnp.linspace(-1, 1, w), indexing="ij")
        place = jnp.stack([down, across], -1).reshape(1, h * w, 2)
        pixels = value.reshape(b, h * w, c)
        return Conditioning(context=jnp.concatenate([pixels, jnp.repeat(place, b, 0)], -1))


def image_condition(
    around: Surroundings,
    *,
    drop: Probability = 0.0,
    field: str = "cond_image",
    to: Literal["concat", "context"] = "concat",
) -> ImageCondition:
    """The condition of a config's section `dict(type="image", ...)`, see `ImageCondition`."""
    return ImageCondition(around.name, drop, drop > 0, field, to)


@dataclass(frozen=True)
class MaskedImageCondition(BatchField):
    """The image around a mask, for networks that inpaint (Rombach et al. 2022, section 4.5):
    `[B, H, W, C + 1] float32`, the image with zeros where it is to be drawn anew, and the mask, 1
    there. The network sees the mask and the masked image in its own space as further channels.

    Attributes:
      name, field, drop, has_null: see `Condition`.
      space: of the network.
      layout: "latent_diffusion", the mask, then the image; or "glide", the image, then a mask that
        is 1 where the image is kept (Nichol et al. 2021, section 2.4). Of the latter the estimate
        of the clean image is the known one where it is kept, as its code has it.
    """

    name: str
    space: Space
    drop: float = 0.0
    has_null: bool = False
    field: str = "masked_image"
    layout: Layout = "latent_diffusion"

    @property
    def holds(self) -> bool:
        """Whether estimates are held to the known image."""
        return self.layout == "glide"

    def init(self, key: Array, batch_spec: Mapping[str, Any]) -> tuple[Params, Params]:
        """See `Condition.init`."""
        how = "add a `random_mask` transform to data.transforms"
        field_of(batch_spec, self.name, self.field, how)
        return {}, {}

    def null(self, value: Array) -> Array:
        """No image: all of it is to be drawn."""
        return jnp.zeros_like(value).at[..., -1].set(1.0)

    def encode(self, params: Params, frozen: Params, value: Array, x: Array) -> Conditioning:
        """See `Condition.encode`."""
        # Of the size of the images at hand, which need not be that of training.
        space = self.space.resized(*value.shape[1:3])
        around = space.encode(frozen, value[..., :-1], None)
        mask = space.shrink_mask(value[..., -1:])
        parts = [around, 1 - mask] if self.layout == "glide" else [mask, around]
        return Conditioning(concat=jnp.concatenate(parts, axis=-1))


def masked_image_condition(
    around: Surroundings,
    *,
    drop: Probability = 0.0,
    field: str = "masked_image",
    layout: Layout = "latent_diffusion",
) -> MaskedImageCondition:
    """The condition of a config's section `dict(type="masked_image", ...)`, see
    `MaskedImageCondition`; `drop` is the share of the training rows that are shown no image."""
    return MaskedImageCondition(around.name, around.space, drop, drop > 0, field, layout)


def masked_image(image: Array, mask: Array) -> Array:
    """The field of `MaskedImageCondition` of `image [B, H, W, C]` and `mask [B, H, W, 1]`."""
    return jnp.concatenate([image * (1 - mask), mask], axis=-1)
