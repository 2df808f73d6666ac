"""Linen networks by name. No losses here: a task joins a network to its objective."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flax import linen as nn

from diffjax.models.choices import construct, pick
from diffjax.models.clip import build_clip
from diffjax.models.convnet import ConvNet
from diffjax.models.dit import DiT
from diffjax.models.mlp import MLP
from diffjax.models.unet import UNet

MODELS: dict[str, Callable[..., nn.Module]] = {
    "unet": UNet,
    "dit": DiT,
    "mlp": MLP,
    "convnet": ConvNet,
    "clip": build_clip,
}


def build_model(type: str, **kwargs: Any) -> nn.Module:
    """The network `MODELS[type]` with the given attributes; see `construct`.

    Raises ValueError on an unknown type or attribute (naming the nearest valid one), and on a
    missing attribute.
    """
    return construct(f"model {type!r}", MODELS[pick("model type", type, MODELS)], kwargs)
