"""Linen networks by name. No losses here: a task joins a network to its objective."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from diffjax.choices import LINEN, build
from diffjax.models.autoencoder import Autoencoder
from diffjax.models.clip import build_clip
from diffjax.models.clip_projection import ClipProjection
from diffjax.models.convnet import ConvNet
from diffjax.models.dit import DiT
from diffjax.models.mlp import MLP
from diffjax.models.prior import PriorTransformer
from diffjax.models.text import TextTransformer
from diffjax.models.unet import UNet
from diffjax.models.vae import build_vae

MODELS: dict[str, Callable[..., nn.Module]] = {
    "unet": UNet,
    "dit": DiT,
    "mlp": MLP,
    "convnet": ConvNet,
    "clip": build_clip,
    "vae": build_vae,
    "text": TextTransformer,
    "autoencoder": Autoencoder,
    "prior": PriorTransformer,
    "clip_projection": ClipProjection,
}


def build_model(type: str, **kwargs: Any) -> nn.Module:
    """The network `MODELS[type]` with the given attributes; lists become tuples.

    Raises:
      ValueError: an unknown type or attribute (the nearest valid one is named), a missing one, or
        a number, word or flag where another kind is asked for.
    """
    return build(MODELS, "model", {"type": type, **kwargs}, LINEN)


def section_of(network: nn.Module) -> dict[str, Any]:
    """The section that `build_model` makes `network` of, attributes at their defaults left out.

    Raises:
      ValueError: it is built of several networks, each of a section of its own.
    """
    kinds = [name for name, made in MODELS.items() if type(network) is made]
    if not kinds:
        raise ValueError(f"a {type(network).__name__} is not built from one section")
    section: dict[str, Any] = {"type": kinds[0]}
    for field in dataclasses.fields(network):
        value = getattr(network, field.name)
        value = jnp.dtype(value).name if field.name == "dtype" else value
        if field.name not in LINEN and value != field.default:
            section[field.name] = value
    return section
