"""A small image classifier: the feature extractor of the embedded image sets."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from diffjax.nn.convolution import Conv
from diffjax.nn.initialisers import zero_bias, zeros
from diffjax.nn.linear import Dense
from diffjax.nn.normalisation import GroupNorm
from diffjax.nn.partition import constrain_batch
from diffjax.nn.resampling import downsample
from diffjax.ranges import Classes, Decay, Depth, Dtype, Positive, Width

# He et al. 2015, eq. 14: what keeps the variance through rectifiers.
he_normal = nn.initializers.variance_scaling(2.0, "fan_in", "truncated_normal")


class ConvNet(nn.Module):
    """`image [B, H, W, C] in [-1, 1] -> logits [B, num_classes] float32, features`.

    A pre-activation residual network under GroupNorm (He et al. 2016; Wu & He 2018), so that it
    has no running statistics and one image's features do not depend on its batch.

    Attributes:
      num_classes: width of the logits.
      channels: width of each level; the map is halved between levels.
      blocks: residual blocks per level.
      feature_dim: width of the penultimate layer.
      dropout: rate before the last layer.
    """

    num_classes: Classes
    channels: tuple[Width, ...] = (32, 64)
    blocks: Depth = 1
    feature_dim: Width = 64
    dropout: Decay = 0.0
    norm_groups: Width = 8
    norm_eps: Positive = 1e-5
    dtype: Dtype = "float32"

    @nn.compact
    def __call__(self, image: Array, *, train: bool = False) -> tuple[Array, dict[str, Any]]:
        """Logits; {"features": [B, feature_dim]}, which the last layer is linear in, and "maps",
        `[B, h, w, C]` at the end of each level."""
        x = constrain_batch(image.astype(self.dtype))
        h, maps = self._conv(self.channels[0], "conv_in")(x), []
        for level, width in enumerate(self.channels):
            if level:
                h = self._conv(width, f"down_{level}")(downsample(h))
            for i in range(self.blocks):
                y = self._conv(width, f"conv1_{level}_{i}")(self._act(h, f"norm1_{level}_{i}"))
                y = self._act(y, f"norm2_{level}_{i}")
                close = Conv(width, kernel_init=zeros, dtype=self.dtype, name=f"conv2_{level}_{i}")
                h = constrain_batch(h + close(y))
            maps.append(h)
        h = self._act(h, "norm_out").astype(jnp.float32).mean(axis=(1, 2))
        dense = Dense(self.feature_dim, kernel_init=he_normal, bias_init=zero_bias, name="features")
        features = jax.nn.relu(dense(h))
        kept = nn.Dropout(self.dropout, deterministic=not train)(features)
        logits = Dense(self.num_classes, kernel_init=zeros, name="logits")(kept)
        return logits, {"features": features, "maps": maps}

    def maps(self, image: Array) -> list[Array]:
        """The maps alone."""
        return self(image, train=False)[1]["maps"]

    def _conv(self, width: int, name: str) -> Conv:
        return Conv(width, kernel_init=he_normal, bias_init=zero_bias, dtype=self.dtype, name=name)

    def _act(self, x: Array, name: str) -> Array:
        return jax.nn.relu(GroupNorm(self.norm_groups, self.norm_eps, name=name)(x))
