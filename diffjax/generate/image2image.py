"""Image to image by strength (Meng et al. 2022, SDEdit): noise an image part-way, denoise it."""

from __future__ import annotations

from typing import Any

from jax import Array

from diffjax.denoisers.model import DiffusionModel
from diffjax.generate.known import make_known
from diffjax.generate.sample import draw
from diffjax.task import Variables


def image2image(
    model: DiffusionModel,
    variables: Variables,
    seed: Array,
    index: Array,
    image: Array,
    cond: Any = None,
    negative: Any = None,
    strength: float = 0.8,
    noise: Array | None = None,
    **recipe: Any,
) -> Array:
    """Images `[B, *image_shape] float32`; arguments as `sample`, and

    Args:
      image: `[B, *image_shape]` in [-1, 1]; of latents its code by the mode of the posterior.
      strength: share in [0, 1] of the steps that are taken: 1 keeps little of the image, less keeps
        more of it. One that leaves no step is an error.

    Raises:
      ValueError: an image that does not fit, or a strength outside its range.
    """
    known = make_known(model, image)
    return draw(model, recipe, variables, seed, index, cond, negative, noise, known, strength)
