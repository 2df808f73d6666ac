"""Linen networks by name. No losses here: a task joins a network to its objective."""

from __future__ import annotations

import dataclasses
from typing import Any

from flax import linen as nn

from diffjax.models.choices import pick
from diffjax.models.convnet import ConvNet
from diffjax.models.dit import DiT
from diffjax.models.mlp import MLP
from diffjax.models.unet import UNet

MODELS: dict[str, type[nn.Module]] = {"unet": UNet, "dit": DiT, "mlp": MLP, "convnet": ConvNet}


def build_model(type: str, **kwargs: Any) -> nn.Module:
    """The network `MODELS[type]` with the given attributes.

    Lists become tuples, so that a config may hold either. Raises ValueError on an unknown type
    or attribute (naming the nearest valid one), and on a missing attribute.
    """
    model = MODELS[pick("model type", type, MODELS)]
    fields = {f.name: f for f in dataclasses.fields(model) if f.name not in ("parent", "name")}
    for key in kwargs:
        pick(f"key of model {type!r}:", key, fields)
    needed = [
        name
        for name, f in fields.items()
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    missing = [name for name in needed if name not in kwargs]
    if missing:
        raise ValueError(f"model {type!r} lacks {missing}; give them in its config section")
    return model(**{k: tuple(v) if isinstance(v, list) else v for k, v in kwargs.items()})
