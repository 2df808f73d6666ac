"""Linen networks by name. No losses here: a task joins a network to its objective."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from diffjax.choices import LINEN, build
from diffjax.models.autoencoder import Autoencoder
from diffjax.models.bert import BertEncoder
from diffjax.models.clip import IMAGE_TOWERS, ImageEncoder, build_clip, build_image_encoder
from diffjax.models.clip_projection import ClipProjection
from diffjax.models.convnet import ConvNet
from diffjax.models.dit import DiT
from diffjax.models.glide_text import GlideText
from diffjax.models.mlp import MLP
from diffjax.models.prior import PriorTransformer
from diffjax.models.prior_ar import AutoregressivePrior
from diffjax.models.t5 import T5Encoder
from diffjax.models.text import TextTransformer
from diffjax.models.unet import UNet
from diffjax.models.vae import build_vae

MODELS: dict[str, Callable[..., nn.Module]] = {
    "unet": UNet,
    "dit": DiT,
    "mlp": MLP,
    "convnet": ConvNet,
    "clip": build_clip,
    "clip_image": build_image_encoder,
    "vae": build_vae,
    "text": TextTransformer,
    "t5": T5Encoder,
    "bert": BertEncoder,
    "glide_text": GlideText,
    "autoencoder": Autoencoder,
    "prior": PriorTransformer,
    "prior_ar": AutoregressivePrior,
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
    if isinstance(network, ImageEncoder):
        tower = _section(network.image, IMAGE_TOWERS)
        both = {k: tower.pop(k) for k in ("embed", "dtype") if k in tower}
        return {"type": "clip_image", "image": tower, **both, **_changed(network, ("image",))}
    if type(network) not in MODELS.values():
        raise ValueError(f"a {type(network).__name__} is not built from one section")
    return _section(network, MODELS)


def _section(network: nn.Module, table: Mapping[str, Any]) -> dict[str, Any]:
    """The section of a network of a `table` of classes."""
    kind = next(name for name, made in table.items() if type(network) is made)
    return {"type": kind, **_changed(network)}


def _changed(network: nn.Module, but: Collection[str] = ()) -> dict[str, Any]:
    """Attributes of a network that are not at their defaults."""
    found = {}
    for field in dataclasses.fields(network):
        value = getattr(network, field.name)
        value = jnp.dtype(value).name if field.name == "dtype" else value
        if field.name not in (*LINEN, *but) and value != field.default:
            found[field.name] = value
    return found
