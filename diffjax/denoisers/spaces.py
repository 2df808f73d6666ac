"""The space that diffusion works in: the data themselves, or the latents of a frozen codec."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, Self

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.denoisers.frozen import placeholder_variables
from diffjax.keys import Rng, normal
from diffjax.models.autoencoder import Autoencoder, Posterior
from diffjax.task import Params


class Space(Protocol):
    """A space of diffusion's states.

    Attributes:
      image_shape: (H, W, C) of one `image` of a batch; (D,) of a point or an embedding.
      shape: of one state.
      bounded: whether clean states lie in [-1, 1], so that estimates may be clipped.
    """

    bounded: ClassVar[bool]

    @property
    def image_shape(self) -> tuple[int, ...]: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    def init(self) -> Params:
        """The frozen networks' `placeholder_variables` by name; {} where there are none."""
        ...

    def encode(self, frozen: Params, image: Array, rng: Rng | None = None) -> Array:
        """Clean states `[B, *shape] float32` of a batch's `image`s; without `rng` no chance."""
        ...

    def decode(self, frozen: Params, x: Array) -> Array:
        """Images `[B, *image_shape] float32`, in about [-1, 1], of clean states."""
        ...

    def shrink_mask(self, mask: Array) -> Array:
        """A mask of images `[B, H, W, 1]` as a mask of states."""
        ...

    def resized(self, height: int, width: int) -> Self:
        """The space of images of another size.

        Raises:
          ValueError: data without height and width, or a size that the codec cannot take.
        """
        ...


@dataclass(frozen=True)
class DataSpace:
    """The data themselves: pixels in [-1, 1], points, embeddings."""

    image_shape: tuple[int, ...]
    bounded: ClassVar[bool] = True

    @property
    def shape(self) -> tuple[int, ...]:
        return self.image_shape

    def init(self) -> Params:
        """See `Space.init`."""
        return {}

    def encode(self, frozen: Params, image: Array, rng: Rng | None = None) -> Array:
        """`image` itself."""
        return image

    def decode(self, frozen: Params, x: Array) -> Array:
        """`x` itself."""
        return x

    def shrink_mask(self, mask: Array) -> Array:
        """`mask` itself."""
        return mask

    def resized(self, height: int, width: int) -> DataSpace:
        """See `Space.resized`."""
        if len(self.image_shape) != 3:
            raise ValueError(f"data of shape {self.image_shape} have no height and width")
        return replace(self, image_shape=(height, width, self.image_shape[2]))


@dataclass(frozen=True)
class LatentSpace:
    """The latents of a frozen autoencoder (Rombach et al. 2022, section 3.1).

    Attributes:
      codec: the autoencoder; its variables are `frozen["codec"]`.
      image_shape: (H, W, C) of one `image` of a batch.
      cached: batches hold the codec's moments in place of images.

    Raises:
      ValueError: images that the codec cannot take, or moments of another codec.
    """

    codec: Autoencoder
    image_shape: tuple[int, ...]
    cached: bool = False
    bounded: ClassVar[bool] = False

    def __post_init__(self) -> None:
        h, w, channels = self.image_shape
        c, f = self.codec.latent_channels, self.codec.factor
        gaussian = self.codec.bottleneck == "kl"
        if self.cached and channels != c * (1 + gaussian):
            raise ValueError(
                f"the data hold latents of {channels} channels, but the codec's moments have "
                f"{c * (1 + gaussian)}: they were made by another codec"
            )
        fits = channels == self.codec.image_channels and h % f == 0 and w % f == 0
        if not self.cached and not fits:
            raise ValueError(
                f"images of shape {self.image_shape}, but the codec takes "
                f"{self.codec.image_channels} channels and sides that are multiples of {f}"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        h, w, _ = self.image_shape
        f = 1 if self.cached else self.codec.factor
        return h // f, w // f, self.codec.latent_channels

    @property
    def decoded_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of the images that latents decode to."""
        h, w, _ = self.shape
        return h * self.codec.factor, w * self.codec.factor, self.codec.image_channels

    def init(self) -> Params:
        """The codec's variables, see `placeholder_variables`."""
        image = jnp.zeros((1, *self.decoded_shape))
        return {"codec": placeholder_variables(self.codec, image)}

    def moments(self, frozen: Params, image: Array) -> Array:
        """Moments of `image [B, H, W, 3]` in [-1, 1]: mean and log variance of its posterior
        `[B, h, w, 2 C] float32`, or under "vq" what is to be quantised, `[B, h, w, C]`."""
        z: Any = self.codec.apply(frozen["codec"], image, method="encode")
        z = jnp.concatenate(z, axis=-1) if isinstance(z, Posterior) else z
        return jax.lax.stop_gradient(z)

    def sample(self, moments: Array, rng: Rng | None) -> Array:
        """Latents `[B, h, w, C] float32` as diffusion sees them: a sample of the posterior, each
        row by its own key, or without `rng` its mode."""
        z: Any = moments
        if self.codec.bottleneck == "kl":
            z = Posterior(*jnp.split(moments, 2, axis=-1))
            if rng is None:
                z = z.mean
            else:
                z = z.sample(normal(rng.rowwise("posterior"), z.mean.shape[1:]))
        return (z - self.codec.shift) * self.codec.scale

    def encode(self, frozen: Params, image: Array, rng: Rng | None = None) -> Array:
        """Latents of a batch's `image`s, whether these are images or moments."""
        return self.sample(image if self.cached else self.moments(frozen, image), rng)

    def decode(self, frozen: Params, x: Array) -> Array:
        """Images `[B, H, W, 3] float32` in [-1, 1] of latents."""
        out: Any = self.codec.apply(frozen["codec"], x, method="from_latents")
        return jnp.clip(out, -1.0, 1.0)

    def shrink_mask(self, mask: Array) -> Array:
        """Latents take the corner of their pixels."""
        f = self.codec.factor
        return mask[:, ::f, ::f]

    def resized(self, height: int, width: int) -> LatentSpace:
        """The latents of images of another size, though the batches held moments."""
        return LatentSpace(self.codec, (height, width, self.codec.image_channels))
