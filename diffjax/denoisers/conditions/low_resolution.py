"""A low-resolution image as a condition: the upsamplers of cascades (Ho et al. 2021; Saharia et al.
2022, section 2.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.choices import pick
from diffjax.denoisers.conditions.base import Surroundings
from diffjax.denoisers.degradation import KERNELS, blurred, enlarged, noised, reduced
from diffjax.denoisers.spaces import LatentSpace
from diffjax.keys import Rng, normal, uniform
from diffjax.models.conditioning import Conditioning
from diffjax.nn.embeddings import NoiseMLP, sinusoid
from diffjax.nn.initialisers import INITS
from diffjax.ranges import Factor, NonNegative, Probability, Rising, Width
from diffjax.task import Batch, Params

LOW_RESOLUTION = "low_resolution"


@dataclass(frozen=True)
class LowResolutionCondition:
    """`low_resolution [B, h, w, C] float32` in [-1, 1]: the image at 1 / `factor` of its size; or
    with one channel more, the level of the noise in it, `[B, h, w, C + 1]`.

    The network is given it at its own size, as further channels, and the level, by an embedding of
    its own that is added to that of the time. Training batches need not hold it: it is then made
    of their `image`, of which a share is blurred, by a filter drawn among `kernels`, and noised at
    a level drawn evenly from [0, `noise`]. What is given without a level has none of the noise.

    Attributes:
      name, drop, has_null: see `Condition`; the null is no image, at level 1.
      image_shape: (H, W, C) of the images at full size.
      factor: how many times smaller a side is.
      noise: the highest level of noise conditioning augmentation (Ho et al. 2021, section 4.1), see
        `degradation.noised`; 0 for a network that is not given the level.
      width: of the level's embedding.
      enlarge: how it is brought to the network's size, see `degradation.enlarged`.
      blur: range of the standard deviation of the Gaussian before it is made smaller, in pixels of
        the large image, and `blur_share` of the rows that are blurred (Ho et al. 2021, section 4.2:
        half of them).
      kernels: filters that it is made smaller by, one drawn for each row. With a blur they are the
        light degradation of Rombach et al. 2022, section 4.4, less its compression: the blur and
        the filters of Zhang et al. 2021 (BSRGAN), section 3, its noise being the augmentation's.
    """

    name: str
    image_shape: tuple[int, int, int]
    factor: int = 2
    drop: float = 0.0
    has_null: bool = False
    noise: float = 1.0
    width: int = 64
    enlarge: Literal["linear", "cubic"] = "cubic"
    blur: tuple[float, float] = (0.0, 0.0)
    blur_share: float = 0.5
    kernels: tuple[str, ...] = ("area",)

    @property
    def field(self) -> str:
        """See `Condition`: always the same, for a model has one such image."""
        return LOW_RESOLUTION

    @property
    def shape(self) -> tuple[int, int, int]:
        """(h, w, C) of a low-resolution image."""
        h, w, c = self.image_shape
        return h // self.factor, w // self.factor, c

    @property
    def _embedding(self) -> NoiseMLP:
        return NoiseMLP(self.width, INITS["adm"])

    def resized(self, height: int, width: int) -> LowResolutionCondition:
        """The condition of images of another size.

        Raises:
          ValueError: one that `factor` does not divide.
        """
        check_factor(self.name, self.factor, (height, width))
        return replace(self, image_shape=(height, width, self.image_shape[2]))

    def init(self, key: Array, batch_spec: Mapping[str, Any]) -> tuple[Params, Params]:
        """See `Condition.init`."""
        if not self.noise:
            return {}, {}
        return self._embedding.init(key, jnp.zeros((1, self.width)))["params"], {}

    def spec(self, batch_spec: Mapping[str, Any]) -> jax.ShapeDtypeStruct:
        """See `Condition.spec`: without a level."""
        return jax.ShapeDtypeStruct((1, *self.shape), jnp.float32)

    def read(self, frozen: Params, batch: Batch, rng: Rng | None) -> Array:
        """See `Condition.read`."""
        if LOW_RESOLUTION in batch:
            small = batch[LOW_RESOLUTION]
            self.check(small)
        elif rng is None:
            small = reduced(batch["image"], self.factor, self.kernels[0])
        else:
            small = self._degraded(batch["image"], rng)
        if not self.noise or rng is None:
            return small
        level = self.noise * uniform(rng.rowwise(f"{self.name}_level"))
        return self.augmented(small, level, rng.rowwise(f"{self.name}_noise"))

    def _degraded(self, image: Array, rng: Rng) -> Array:
        low, high = self.blur
        if high:
            std = low + (high - low) * uniform(rng.rowwise(f"{self.name}_blur"))
            blurs = uniform(rng.rowwise(f"{self.name}_blurs")) < self.blur_share
            image = blurred(image, jnp.where(blurs, std, 0.0), high)
        if len(self.kernels) == 1:
            return reduced(image, self.factor, self.kernels[0])
        each = jnp.stack([reduced(image, self.factor, k) for k in self.kernels], axis=1)
        drawn = uniform(rng.rowwise(f"{self.name}_kernel")) * len(self.kernels)
        place = jnp.minimum(drawn.astype(jnp.int32), len(self.kernels) - 1)
        return jnp.take_along_axis(each, place[:, None, None, None, None], axis=1)[:, 0]

    def augmented(self, small: Array, level: Array, keys: Array) -> Array:
        """Images `small [B, h, w, C]` noised to the levels `[B]`, each row by its own key of `keys
        [B]`, with the level as a further channel."""
        noisy = noised(small, level, normal(keys, small.shape[1:]))
        plane = jnp.broadcast_to(level[:, None, None, None], (*small.shape[:3], 1))
        return jnp.concatenate([noisy, plane.astype(noisy.dtype)], axis=-1)

    def check(self, small: Array) -> None:
        """Raises ValueError for low-resolution images that are not of the model's."""
        if small.shape[1:] != self.shape:
            raise ValueError(
                f"{LOW_RESOLUTION} {tuple(small.shape[1:])}: this model makes images of "
                f"{self.image_shape} of ones of {self.shape}"
            )

    def null(self, value: Array) -> Array:
        """No image: zeros, at level 1."""
        if not self.noise:
            return jnp.zeros_like(value)
        blank = jnp.zeros((*value.shape[:3], self.image_shape[2] + 1), value.dtype)
        return blank.at[..., -1].set(1.0)

    def encode(self, params: Params, frozen: Params, value: Array, x: Array) -> Conditioning:
        """See `Condition.encode`."""
        channels = self.image_shape[2]
        small = value[..., :channels]
        large = enlarged(small, (x.shape[1], x.shape[2]), self.enlarge)
        if not self.noise:
            return Conditioning(concat=large)
        leveled = value.shape[-1] > channels
        level = value[:, 0, 0, channels] if leveled else jnp.zeros(len(value))
        # Levels as far apart as times of a thousand steps are.
        features = sinusoid(1000.0 * level, self.width, "cos")
        vector: Any = self._embedding.apply({"params": params[self.name]}, features)
        return Conditioning(concat=large, vector=vector)


def check_factor(name: str, factor: int, size: Sequence[int]) -> None:
    """Raises ValueError where a factor makes nothing smaller, or does not divide the sides."""
    if factor < 2:
        raise ValueError(f"conditions.{name}.factor={factor} makes nothing smaller: 2 or more")
    if any(side % factor or side == factor for side in size):
        raise ValueError(
            f"conditions.{name}.factor={factor} does not divide images of {size[0]} x {size[1]}"
        )


def low_resolution_condition(
    around: Surroundings,
    *,
    factor: Factor = 2,
    drop: Probability = 0.0,
    noise: Probability = 1.0,
    width: Width = 64,
    enlarge: Literal["linear", "cubic"] = "cubic",
    blur: Annotated[tuple[NonNegative, NonNegative], Rising()] = (0.0, 0.0),
    blur_share: Probability = 0.5,
    kernels: Sequence[str] = ("area",),
) -> LowResolutionCondition:
    """The condition of a config's section `dict(type="low_resolution", ...)`, see
    `LowResolutionCondition`.

    Raises:
      ValueError: data without a size, or that `factor` does not divide; moments in place of images;
        filters that there are not.
    """
    where, shape = f"conditions.{around.name}", around.space.image_shape
    if len(shape) != 3:
        raise ValueError(f"{where}: data of shape {shape} have no resolution")
    if isinstance(around.space, LatentSpace) and around.space.cached:
        raise ValueError(f"{where} is made of images: set data.cache_latents=False")
    check_factor(around.name, factor, shape[:2])
    if not kernels:
        raise ValueError(f"{where}.kernels is empty: known: {', '.join(KERNELS)}")
    for kernel in kernels:
        pick(f"kernel of {where}:", kernel, KERNELS)
    if width % 2:
        raise ValueError(f"{where}.width={width}: sines and cosines need an even one")
    return LowResolutionCondition(
        around.name, shape, factor, drop, drop > 0, noise, width, enlarge, (blur[0], blur[1]),
        blur_share, tuple(kernels),
    )  # fmt: skip
