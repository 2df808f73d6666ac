"""The predict functions of a diffusion model, and what a sampling recipe amounts to on it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from diffjax.denoisers.chain import check_augmentation
from diffjax.denoisers.conditions.image_embedding import ImageEmbeddingCondition
from diffjax.denoisers.embeddings import EmbeddingSpace
from diffjax.denoisers.model import DiffusionModel
from diffjax.diffusion.recipes import make_recipe
from diffjax.generate.embeddings import encode_image, encode_text
from diffjax.generate.invert import decode, encode
from diffjax.generate.likelihood import bits_per_dim, flow_bits_per_dim
from diffjax.generate.sample import sample, sample_base, trajectory
from diffjax.generate.variations import interpolate, text_difference, variations

# Those that draw by a recipe.
DRAWING = ("sample", "trajectory")


def predict_fns(model: DiffusionModel, levels: int = 256) -> dict[str, Callable[..., Any]]:
    """Pure functions `(variables, ...)` by name: sample, trajectory, encode, decode; of images
    themselves bits_per_dim and flow_bits_per_dim, whose pixels take `levels` values; of a
    cascade sample_base; of embeddings encode_image and encode_text; and of decoders of image
    embeddings variations, interpolate and, where they hold a prior, text_difference."""
    fns = {fn.__name__: partial(fn, model) for fn in (sample, trajectory, encode, decode)}
    if model.space.bounded:
        # Of latents there are densities, but none of the images they stand for.
        bounds = (bits_per_dim, flow_bits_per_dim)
        fns |= {fn.__name__: partial(fn, model, levels=levels) for fn in bounds}
    if model.base is not None:
        fns["sample_base"] = partial(sample_base, model)
    if isinstance(model.space, EmbeddingSpace):
        fns |= {fn.__name__: partial(fn, model) for fn in (encode_image, encode_text)}
    if any(isinstance(c, ImageEmbeddingCondition) for c in model.conditions):
        whole = model.of_images()
        fns |= {fn.__name__: partial(fn, whole) for fn in (encode_image, variations, interpolate)}
        if model.prior is not None:
            fns |= {fn.__name__: partial(fn, whole) for fn in (encode_text, text_difference)}
    return fns


def describe_recipe(model: DiffusionModel, **recipe: Any) -> dict[str, Any]:
    """The protocol of a sampling recipe, `nfe` and every default spelled out; of a cascade, under
    "base" that of the stage before.

    Raises:
      ValueError: a recipe that the model cannot follow.
    """
    choice = make_recipe(**recipe)
    # Said before anything is trained: negatives are arguments of `sample` alone.
    model.check_guidance(choice.guidance, False)
    check_augmentation(model.conditions, choice.augmentation)
    said = choice.describe(model.schedule)
    if model.base is not None:
        said["base"] = describe_recipe(model.base, **dict(model.base_recipe))
    return said


def noise_levels(model: DiffusionModel, which: str = "states", **recipe: Any) -> np.ndarray:
    """`sigma / alpha` of each frame of `trajectory`, `[T] float64`."""
    choice = make_recipe(**recipe)
    ratio = choice.rows(model.schedule).at.ratio
    if which == "estimates":
        return ratio
    return np.append(ratio, choice.make_grid(model.schedule).s.ratio[-1])
