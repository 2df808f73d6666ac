"""Activations that weights are trained with and must be run with: the forms of GELU differ."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array


def quick_gelu(x: Array) -> Array:
    """x sigmoid(1.702 x) (Hendrycks & Gimpel 2016, section 2), the sigmoid as a tanh."""
    return x * (0.5 * jnp.tanh(0.851 * x) + 0.5)


# "gelu" is x Phi(x) by the error function; "gelu_tanh" approximates it.
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "quick_gelu": quick_gelu,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "relu": jax.nn.relu,
}
