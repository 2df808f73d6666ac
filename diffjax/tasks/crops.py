"""Training of upsamplers on random crops: a place of the image, and the same of the low-resolution
one (Saharia et al. 2022, section 2.5)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.denoisers.chain import low_resolution_of
from diffjax.denoisers.conditions.image import ImageCondition
from diffjax.denoisers.conditions.low_resolution import LOW_RESOLUTION
from diffjax.denoisers.model import DiffusionModel
from diffjax.keys import Rng, uniform


def check_crop(model: DiffusionModel, crop: int) -> None:
    """Refuses crops of `crop` pixels a side that a model cannot be trained on.

    Raises:
      ValueError: a model that is no upsampler, or whose network or conditions are of whole images;
        a size that does not fit.
    """
    if not crop:
        return
    low = low_resolution_of(model.conditions)
    if low is None:
        raise ValueError(
            f"task.crop={crop} is of upsamplers: add a condition of type 'low_resolution', or "
            "leave it out"
        )
    for c in model.conditions:
        if isinstance(c, ImageCondition):
            raise ValueError(
                f"task.crop={crop}, but conditions.{c.name} is of the whole image: leave one out"
            )
    step, (height, width, _) = _step(model), low.image_shape
    if crop % step or crop > min(height, width):
        raise ValueError(
            f"task.crop={crop} of images of {height} x {width}: it must be a multiple of {step}, "
            "for the network's levels and the low-resolution factor, and no larger than they are"
        )
    _check_places(model.network, crop // _scale(model), model.shape[0])


def _check_places(network: Any, crop: int, height: int) -> None:
    """Raises ValueError for a network that is another at another size."""
    if not hasattr(network, "channel_mult"):
        raise ValueError(
            f"task.crop: a {type(network).__name__} tells places apart, so that crops are no "
            "images to it: take a unet"
        )
    at = getattr(network, "attention_resolutions", ())
    levels = range(len(network.channel_mult))
    small, whole = ([side >> level in at for level in levels] for side in (crop, height))
    if getattr(network, "attention_levels", None) is None and small != whole:
        raise ValueError(
            f"model.attention_resolutions={tuple(at)} are other levels of crops of {crop} than of "
            f"images of {height}: set model.attention_levels"
        )


def _scale(model: DiffusionModel) -> int:
    """Pixels a side of one element of a state."""
    return model.space.image_shape[0] // model.shape[0]


def _step(model: DiffusionModel) -> int:
    low = low_resolution_of(model.conditions)
    assert low is not None
    return math.lcm(model.step, low.factor)


def cropped(
    model: DiffusionModel, crop: int, x: Array, fields: Mapping[str, Array], rng: Rng
) -> tuple[Array, dict[str, Array]]:
    """Random windows of states and of their low-resolution images, of the same places.

    Windows begin where a pixel of the low-resolution image does, each row's at a place of its own,
    every such place as often.

    Args:
      crop: pixels a side.
      x: `[B, *shape]` states; fields: of the conditions, `low_resolution` among them.

    Returns:
      `[B, crop, crop, C]`, in elements of states, and the fields.
    """
    low = low_resolution_of(model.conditions)
    assert low is not None
    step = math.lcm(low.factor, _scale(model))
    room = (jnp.asarray(low.image_shape[:2]) - crop) // step + 1
    drawn = uniform(rng.rowwise("crop"), (2,))
    start = step * jnp.minimum((drawn * room).astype(jnp.int32), room - 1)

    def window(image: Array, factor: int) -> Array:
        size = (crop // factor, crop // factor, image.shape[-1])
        one = lambda a, s: jax.lax.dynamic_slice(a, (*(s // factor), 0), size)  # noqa: E731
        return jax.vmap(one)(image, start)

    small = window(fields[LOW_RESOLUTION], low.factor)
    return window(x, _scale(model)), {**fields, LOW_RESOLUTION: small}
