"""A residual MLP for points: the network of two-dimensional studies."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from diffjax.models.conditioning import NO_CONDITIONING, Conditioning, check_unread
from diffjax.nn.embeddings import LabelTable, NoiseMLP, sinusoid
from diffjax.nn.initialisers import Init, torch_bias, torch_kernel, unit_normal, zeros
from diffjax.nn.linear import Dense
from diffjax.nn.normalisation import layer_norm
from diffjax.ranges import Classes, Depth, Dtype, Octaves, Width

MLP_INIT = Init(torch_kernel, torch_bias, zeros, torch_kernel, unit_normal)


class MLP(nn.Module):
    """`x [B, D], c_noise [B], cond -> [B, out_channels] float32`.

    Every block is modulated by the noise level and the class: scale and shift after the norm, a
    gate before the sum, as in DiT's adaLN (Peebles & Xie 2023, section 3.2).

    Attributes:
      width, depth: of the residual blocks.
      out_channels: D, or 2 D where the variance is learned.
      num_classes: 0 without labels; `null_class` adds class number `num_classes`: no class.
      octaves: x is given as waves too, of wavelengths 2, 1, 1/2, ..., for what is finer than the
        network's own smoothness (Tancik et al. 2020); 0 for none.
      time_features: width of the sinusoidal features of `c_noise`.
    """

    out_channels: Width
    width: Width = 128
    depth: Depth = 4
    num_classes: Classes = 0
    null_class: bool = True
    octaves: Octaves = 3
    time_features: Width = 64
    dtype: Dtype = "float32"

    @nn.compact
    def __call__(
        self,
        x: Array,
        c_noise: Array,
        cond: Conditioning = NO_CONDITIONING,
        *,
        augment_labels: Array | None = None,
        train: bool = False,
    ) -> Array:
        """The network's raw output; `c_noise [B]` is what the time embedding sees."""
        del train  # no dropout
        if x.ndim != 2:
            raise ValueError(f"MLP got x of shape {x.shape}; it needs points [B, D]")
        check_unread("MLP", cond, ["label"] if self.num_classes else [])
        if augment_labels is not None:
            raise ValueError("MLP takes no augment_labels; use a UNet with augment_dim")
        kinds = {"kernel_init": torch_kernel, "bias_init": torch_bias, "dtype": self.dtype}
        features = sinusoid(c_noise, self.time_features, "cos")
        embedding = NoiseMLP(self.width, MLP_INIT, self.dtype, name="embed")(features)
        if self.num_classes:
            table = LabelTable(self.num_classes, self.width, MLP_INIT, self.null_class)
            embedding = embedding + table(cond.label, len(x))
        embedding = jax.nn.silu(embedding)
        waves = [f(math.pi * 2**k * x) for k in range(self.octaves) for f in (jnp.sin, jnp.cos)]
        h = Dense(self.width, name="points_in", **kinds)(jnp.concatenate([x, *waves], axis=-1))
        for i in range(self.depth):
            modulation = Dense(3 * self.width, name=f"modulation_{i}", **kinds)(embedding)
            shift, scale, gate = jnp.split(modulation, 3, axis=-1)
            inner = layer_norm(h, 1e-6) * (1 + scale) + shift
            inner = jax.nn.silu(Dense(2 * self.width, name=f"wide_{i}", **kinds)(inner))
            h = h + gate * Dense(self.width, name=f"narrow_{i}", **kinds)(inner)
        out = Dense(self.out_channels, kernel_init=zeros, name="points_out")(layer_norm(h, 1e-6))
        return out.astype(jnp.float32)
