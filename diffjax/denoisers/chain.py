"""Whether the stages of a chain of models fit one another, and what is asked of them: cascades (Ho
et al. 2021), decoders with a prior (Ramesh et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diffjax.denoisers.conditions.base import Condition
from diffjax.denoisers.conditions.image_embedding import ImageEmbeddingCondition
from diffjax.denoisers.conditions.low_resolution import LowResolutionCondition
from diffjax.denoisers.prior import EmbeddingModel
from diffjax.denoisers.spaces import Space


def low_resolution_of(conditions: Sequence[Condition]) -> LowResolutionCondition | None:
    """The condition by which a model is an upsampler; None of another."""
    found = [c for c in conditions if isinstance(c, LowResolutionCondition)]
    return found[0] if found else None


def drawn_shape(space: Space) -> tuple[int, ...]:
    """Shape of one image that samples decode to."""
    return getattr(space, "decoded_shape", space.image_shape)


def check_base(conditions: Sequence[Condition], base: Any) -> None:
    """Refuses a base whose samples are not the low-resolution images that a model reads.

    Args:
      base: the `DiffusionModel` of the stage before; None for none.

    Raises:
      ValueError: says both shapes, or that there are two conditions that read one image.
    """
    upsampled = [c for c in conditions if isinstance(c, LowResolutionCondition)]
    if len(upsampled) > 1:
        raise ValueError(
            f"conditions.{upsampled[1].name}: a model has one low-resolution image, which "
            f"conditions.{upsampled[0].name} reads already"
        )
    if base is None:
        return
    if not upsampled:
        raise ValueError(
            "a base draws low-resolution images, and no condition reads them: add "
            "low=dict(type='low_resolution', factor=...) to conditions, or leave `base` out"
        )
    shape, condition = drawn_shape(base.space), upsampled[0]
    if shape != condition.shape:
        raise ValueError(
            f"the base draws images of {shape}, but conditions.{condition.name} makes those of "
            f"{condition.image_shape} of {condition.shape}: a base is smaller by its factor, "
            f"{condition.factor}, and of as many channels"
        )


def check_prior(conditions: Sequence[Condition], prior: EmbeddingModel | None) -> None:
    """Refuses a prior of other embeddings than the conditions read.

    Args:
      prior: the model that draws them; None for none.

    Raises:
      ValueError: says both.
    """
    if prior is None:
        return
    read = [c for c in conditions if isinstance(c, ImageEmbeddingCondition)]
    if not read:
        raise ValueError(
            "a prior draws image embeddings, and no condition reads them: add "
            "clip=dict(type='image_embedding', tower=...) to conditions, or leave `prior` out"
        )
    for c in read:
        if prior.shape != (c.tower.width,):
            raise ValueError(
                f"the prior draws states of shape {prior.shape}, but conditions.{c.name} reads "
                f"embeddings of {(c.tower.width,)}: take a prior of the same CLIP"
            )


def check_augmentation(conditions: Sequence[Condition], level: float) -> None:
    """Refuses a level of noise that a model has not learned.

    Raises:
      ValueError: there is no low-resolution image, or less noise in training.
    """
    if not level:
        return
    found = low_resolution_of(conditions)
    if found is None:
        raise ValueError(
            f"augmentation={level} is noise in a low-resolution image, which this model has not: "
            "leave it out"
        )
    if level > found.noise:
        raise ValueError(
            f"augmentation={level}, but conditions.{found.name} was trained with levels up to "
            f"{found.noise}"
        )
