"""Inpainting: by masking, with any network, or by a network that is conditioned on the mask.

A mask is 1 where the image is drawn anew and 0 where it is kept.
"""

from __future__ import annotations

from typing import Any

from jax import Array

from diffjax.denoisers.model import DiffusionModel
from diffjax.generate.known import make_known
from diffjax.generate.sample import draw
from diffjax.task import Variables


def inpaint(
    model: DiffusionModel,
    variables: Variables,
    seed: Array,
    index: Array,
    image: Array,
    mask: Array,
    cond: Any = None,
    negative: Any = None,
    strength: float = 1.0,
    noise: Array | None = None,
    **recipe: Any,
) -> Array:
    """Images `[B, *image_shape] float32`; arguments as `image2image`, and

    Args:
      mask: `[B, H, W, 1]`, 1 where to draw anew; latents take the corner of their pixels. A model
        with a `MaskedImageCondition` is given it; any other is held to the image around the mask at
        every level.
      strength: below 1, what lies under the mask is started from, too.

    Raises:
      ValueError: an image or a mask that does not fit, or a strength outside its range.
    """
    known = make_known(model, image, mask, start=strength < 1)
    return draw(model, recipe, variables, seed, index, cond, negative, noise, known, strength)
