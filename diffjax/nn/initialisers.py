"""Initialisers of the papers' weights, one frozen choice per family.

Flax's own defaults (LeCun normal kernels, zero biases) are nobody's in this field, so every layer
is handed its initialisers explicitly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn.initializers import Initializer

BiasInit = Callable[[int], Initializer]

zeros = nn.initializers.zeros_init()
ones = nn.initializers.ones_init()
unit_normal = nn.initializers.normal(stddev=1.0)
xavier = nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")
# U(-1/sqrt(fan_in), 1/sqrt(fan_in)): what torch.nn.Linear and Conv2d do by default.
torch_kernel = nn.initializers.variance_scaling(1.0 / 3.0, "fan_in", "uniform")


def zero_bias(fan_in: int) -> Initializer:
    """Zeros, whatever the layer's fan-in."""
    del fan_in
    return zeros


def torch_bias(fan_in: int) -> Initializer:
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)), torch's default bias."""
    bound = fan_in**-0.5

    def init(key, shape, dtype=jnp.float32, out_sharding=None):
        del out_sharding
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def scaled(init: Initializer, factor: float) -> Any:
    """`init` times `factor`."""

    def draw(key, shape, dtype=jnp.float32, out_sharding=None):
        del out_sharding
        return factor * init(key, shape, dtype)

    return draw


def parts(init: Initializer, count: int) -> Any:
    """A kernel `[n, count * m]` drawn as `count` independent `[n, m]` kernels.

    Fused query-key-value kernels whose fans must be those of the three separate layers.
    """

    def draw(key, shape, dtype=jnp.float32, out_sharding=None):
        del out_sharding
        part = (*shape[:-1], shape[-1] // count)
        keys = jax.random.split(key, count)
        return jnp.concatenate([init(k, part, dtype) for k in keys], axis=-1)

    return draw


@dataclass(frozen=True)
class Init:
    """One family's initialisers.

    Attributes:
      kernel: convolutions and dense layers.
      bias: fan-in to initialiser of their biases.
      final: kernels that close a residual branch or the network (zero, or nearly).
      qkv: the fused query-key-value kernel of an attention layer.
      label: the class table, or the kernel over one-hot classes.
    """

    kernel: Initializer
    bias: BiasInit
    final: Initializer
    qkv: Initializer
    label: Initializer


@dataclass(frozen=True)
class BlockInit:
    """A transformer block's initialisers.

    Attributes:
      qkv: the fused query-key-value kernel `[D, 3 D]`; its bias is zero.
      proj: the kernel that closes the attention; its bias is zero.
      layer1, layer2: the kernels of the MLP.
      bias: fan-in to initialiser of the MLP's biases.
    """

    qkv: Initializer = xavier
    proj: Initializer = xavier
    layer1: Initializer = xavier
    layer2: Initializer = xavier
    bias: BiasInit = zero_bias


INITS: dict[str, Init] = {
    # Ho et al. 2020: Glorot uniform; "zero" is a scale of 1e-10.
    "ddpm": Init(
        xavier,
        zero_bias,
        nn.initializers.variance_scaling(1e-10, "fan_avg", "uniform"),
        parts(xavier, 3),
        unit_normal,
    ),
    # Nichol & Dhariwal 2021, Dhariwal & Nichol 2021: torch's defaults, closing layers zero.
    "adm": Init(torch_kernel, torch_bias, zeros, torch_kernel, unit_normal),
    # Song et al. 2021 as in Karras et al. 2022: Glorot, closing layers times 1e-5, attention
    # times sqrt(0.2).
    "song": Init(xavier, zero_bias, scaled(xavier, 1e-5), scaled(xavier, 0.2**0.5), xavier),
}
