"""Variables of frozen networks before their weights are given."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from diffjax.task import Params, Variables


def placeholder_variables(network: nn.Module, *inputs: Any, **static: Any) -> Params:
    """The variables of a frozen network, all NaN, so that a run to which nobody gives them stops at
    its first step."""
    init = lambda *x: network.init(jax.random.key(0), *x, **static)  # noqa: E731
    return placeholders(jax.eval_shape(init, *inputs))


def placeholders(shapes: Params) -> Params:
    """NaN in every shape of a tree."""
    return jax.tree.map(lambda s: jnp.full(s.shape, jnp.nan, s.dtype), shapes)


def variables_of(held: Params) -> Variables:
    """The variables of a model that another holds among its frozen ones: its `params`, and its own
    `frozen` where there are any."""
    return Variables(held["params"], {}, held.get("frozen", {}))
