"""Conditions by name: what a denoising network may be conditioned by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from diffjax.choices import check, chosen
from diffjax.denoisers.conditions.base import Condition, Surroundings
from diffjax.denoisers.conditions.class_label import class_condition
from diffjax.denoisers.conditions.image import image_condition, masked_image_condition
from diffjax.denoisers.conditions.image_embedding import image_embedding_condition
from diffjax.denoisers.conditions.learned_text import learned_text_condition
from diffjax.denoisers.conditions.low_resolution import low_resolution_condition
from diffjax.denoisers.conditions.text import text_condition
from diffjax.denoisers.spaces import Space

CONDITIONS: dict[str, Callable[..., Condition | None]] = {
    "class": class_condition,
    "text": text_condition,
    "image": image_condition,
    "learned_text": learned_text_condition,
    "masked_image": masked_image_condition,
    "image_embedding": image_embedding_condition,
    "low_resolution": low_resolution_condition,
}
# What makers are given beside the section.
HIDDEN = ("around",)
# Names that the frozen variables of a run already have.
TAKEN = ("base", "codec", "codes", "embedding", "guide", "perceptual", "prior")


def make_conditions(
    sections: Mapping[str, Mapping[str, Any]],
    num_classes: int,
    space: Space,
    towers: Mapping[str, Any],
) -> tuple[Condition, ...]:
    """The conditions of a config's section `conditions`, in its order.

    Args:
      sections: name -> `type` and options.
      num_classes: of the data.
      space: that diffusion works in.
      towers: name of a condition -> the frozen network that its `tower` names.

    Raises:
      ValueError: an unknown type or option, the nearest valid one named.
    """
    made = []
    for name, section in sections.items():
        if name in TAKEN:
            raise ValueError(f"conditions.{name}: {', '.join(TAKEN)} are no names of conditions")
        around = Surroundings(name, num_classes, space, towers.get(name))
        kind, maker, rest = chosen(CONDITIONS, f"conditions.{name}", section)
        made.append(maker(around, **check(maker, f"conditions.{name}", rest, HIDDEN, kind)))
    return tuple(c for c in made if c is not None)
