"""CLIP: an image tower and a text tower into one space (Radford et al. 2021, figure 3)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from diffjax.choices import LINEN, build, construct
from diffjax.models.resnet_clip import ModifiedResNet
from diffjax.models.text import TextTransformer
from diffjax.models.vit import ViT
from diffjax.ranges import Dtype, Positive, Real, Width

# Of the paper's training images, per channel, in [0, 1].
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
IMAGE_TOWERS: dict[str, type[nn.Module]] = {"vit": ViT, "resnet": ModifiedResNet}


def standardise(image: Array, mean: tuple[float, ...], std: tuple[float, ...]) -> Array:
    """`image [B, H, W, 3]` in [-1, 1] to zero mean and unit deviation, given in [0, 1] units."""
    m, s = jnp.asarray(mean, jnp.float32), jnp.asarray(std, jnp.float32)
    # ((x + 1) / 2 - mean) / std, as one multiplication and one addition.
    return image.astype(jnp.float32) * (0.5 / s) + (0.5 - m) / s


class CLIP(nn.Module):
    """Two towers, and the scale (and bias) of the logits between them.

    Attributes:
      image: the image tower, of `IMAGE_TOWERS`.
      text: the text tower.
      mean, std: of the pixels, per channel, in [0, 1] units; divided out before the image tower.
      temperature: the parameter `logit_scale` starts at ln(1 / temperature).
      bias: the parameter `logit_bias` starts here (SigLIP, Zhai et al. 2023, section 3.2: -10);
        None for none.
    """

    image: nn.Module
    text: nn.Module
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    temperature: float = 0.07
    bias: float | None = None

    def setup(self) -> None:
        start = nn.initializers.constant
        self.log_scale = self.param("logit_scale", start(-math.log(self.temperature)), ())
        if self.bias is not None:
            self.shift = self.param("logit_bias", start(self.bias), ())

    def encode_image(self, image: Array, train: bool = False, logsnr: Array | None = None) -> Array:
        """`image [B, S, S, 3] float32 in [-1, 1] -> [B, E] float32`, not normalised.

        `train` makes batch norms use, and update, the batch's statistics; `logsnr [B]` is the level
        of noised images, which a tower that is `noised` is told.
        """
        level = {} if logsnr is None else {"logsnr": logsnr}
        return self.image(standardise(image, self.mean, self.std), train, **level)

    def encode_text(self, tokens: Array) -> Array:
        """`tokens [B, L] int32 -> [B, E] float32`, not normalised."""
        return self.text(tokens)

    def __call__(
        self, image: Array, tokens: Array, train: bool = False, logsnr: Array | None = None
    ) -> dict[str, Array]:
        """Both embeddings, `log_scale []`, and `bias []` where there is one."""
        out = {
            "image": self.encode_image(image, train, logsnr),
            "text": self.encode_text(tokens),
            "log_scale": self.log_scale,
        }
        return out if self.bias is None else {**out, "bias": self.shift}


class ImageEncoder(nn.Module):
    """The image tower of a `CLIP` by itself, `image [B, S, S, 3] float32 in [-1, 1] -> [B, E]
    float32`, not normalised; attributes as there."""

    image: nn.Module
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD

    @nn.compact
    def __call__(self, image: Array, train: bool = False) -> Array:
        return self.image(standardise(image, self.mean, self.std), train)


def build_image_encoder(
    *,
    image: Mapping[str, Any],
    embed: Width,
    mean: tuple[Real, ...] = MEAN,
    std: tuple[Positive, ...] = STD,
    dtype: Dtype = "float32",
) -> ImageEncoder:
    """The network of a section `dict(type="clip_image", ...)`; see `build_clip`."""
    both = {"embed": embed, "dtype": dtype}
    tower = build(IMAGE_TOWERS, "model.image", {**image, **both}, LINEN)
    return ImageEncoder(tower, tuple(mean), tuple(std))


def build_clip(
    *,
    image: Mapping[str, Any],
    text: Mapping[str, Any],
    embed: Width,
    mean: tuple[Real, ...] = MEAN,
    std: tuple[Positive, ...] = STD,
    temperature: Positive = 0.07,
    bias: Real | None = None,
    dtype: Dtype = "float32",
    remat: bool = False,
) -> CLIP:
    """The network of a config's `model=dict(type="clip", ...)`.

    Args:
      image: a section itself, `dict(type="vit", width=..., ...)` or `dict(type="resnet", ...)`.
      text: a section, `dict(width=..., ...)`, of `TextTransformer`.
      embed: width of the joint space.
      mean, std, temperature, bias: see `CLIP`.
      dtype, remat: of both towers.

    Raises:
      ValueError: a key that a tower lacks or needs; the nearest valid one is named.
    """
    for name, section in (("image", image), ("text", text)):
        if not hasattr(section, "keys"):  # a ConfigDict is no Mapping
            raise ValueError(f"model.{name} is a section, dict(width=..., ...), not {section!r}")
        shared = [k for k in ("embed", "dtype", "remat") if k in section]
        if shared:
            raise ValueError(
                f"model.{name}.{shared[0]} is one for both towers: set model.{shared[0]}"
            )
    for name, value in (("mean", mean), ("std", std)):
        if len(value) != 3:
            raise ValueError(f"model.{name}={value!r} must be three numbers, one per channel")
    both = {"embed": embed, "dtype": dtype, "remat": remat}
    return CLIP(
        image=build(IMAGE_TOWERS, "model.image", {**image, **both}, LINEN),
        text=construct(TextTransformer, "model.text", {**text, **both}, LINEN),
        mean=tuple(mean),
        std=tuple(std),
        temperature=temperature,
        bias=bias,
    )
