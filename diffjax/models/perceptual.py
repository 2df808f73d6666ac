"""Perceptual distance: two images seen by a network that is not trained on (Zhang et al. 2018)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.typing import DTypeLike

from diffjax.nn.convolution import Conv
from diffjax.nn.initialisers import ones
from diffjax.nn.partition import constrain_batch
from diffjax.objectives.perceptual import layer_distance

# Mean and standard deviation of ImageNet's channels for pixels in [-1, 1], as LPIPS rounds them.
MEAN, STD = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
# Convolutions of each stage of VGG16, and their width (Simonyan & Zisserman 2015, Table 1, D).
STAGES = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))


class VGG16(nn.Module):
    """`image [B, H, W, 3] in [-1, 1]` to five maps: each stage's last, after its ReLU.

    Sides of at least 16 pixels. `dtype` is that of the arithmetic.
    """

    dtype: DTypeLike = "float32"

    @nn.compact
    def maps(self, image: Array) -> list[Array]:
        """`[B, H / 2^i, W / 2^i, C_i]` for i = 0 to 4."""
        h = (image - jnp.asarray(MEAN)) / jnp.asarray(STD)
        h, found = constrain_batch(h.astype(self.dtype)), []
        for stage, (count, width) in enumerate(STAGES):
            if stage:
                h = nn.max_pool(h, (2, 2), (2, 2), "VALID")
            for i in range(count):
                h = jax.nn.relu(Conv(width, dtype=self.dtype, name=f"conv_{stage}_{i}")(h))
            found.append(constrain_batch(h))
        return found


class Perceptual(nn.Module):
    """`x, y [B, H, W, C] in [-1, 1] -> [B] float32`, the sum of the layers' distances, eq. 1.

    Attributes:
      backbone: has `maps(image)`, a list of `[B, h, w, C]`.
      heads: whether channels are weighed by learned numbers (LPIPS) or all by one.
    """

    backbone: nn.Module
    heads: bool = True

    @nn.compact
    def __call__(self, x: Array, y: Array) -> Array:
        maps: Any = self.backbone.maps  # type: ignore[attr-defined]
        total = jnp.zeros((len(x),), jnp.float32)
        # Two passes and not one over both: of one of them nobody asks a gradient.
        for i, (a, b) in enumerate(zip(maps(x), maps(y), strict=True)):
            weight = self.param(f"head_{i}", ones, (a.shape[-1],)) if self.heads else None
            total = total + layer_distance(a, b, weight)
        return total
