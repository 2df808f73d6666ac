"""Variables of frozen networks before their weights are given."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from diffjax.task import Params


def placeholder_variables(network: nn.Module, *inputs: Any, **static: Any) -> Params:
    """The variables of a frozen network, all NaN, so that a run to which nobody gives them stops at
    its first step."""
    init = lambda *x: network.init(jax.random.key(0), *x, **static)  # noqa: E731
    return placeholders(jax.eval_shape(init, *inputs))


def placeholders(shapes: Params) -> Params:
    """NaN in every shape of a tree."""
    return jax.tree.map(lambda s: jnp.full(s.shape, jnp.nan, s.dtype), shapes)
