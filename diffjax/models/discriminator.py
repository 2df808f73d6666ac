"""A discriminator of patches: one logit for each place of an image (Isola et al. 2017)."""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from diffjax.choices import pick
from diffjax.nn.convolution import Conv
from diffjax.nn.normalisation import BatchNorm, GroupNorm
from diffjax.nn.partition import constrain_batch
from diffjax.ranges import Depth, Dtype, Width

NORMS = ("batch", "group", "none")
_kernel = nn.initializers.normal(stddev=0.02)


def _about_one(key: Array, shape: Any, dtype: Any = None, out_sharding: Any = None) -> Array:
    del out_sharding
    return 1.0 + 0.02 * jax.random.normal(key, shape, dtype or jnp.float32)


class PatchDiscriminator(nn.Module):
    """`image [B, H, W, C] -> logits [B, h, w] float32`: appendix 6.1.2; 70 x 70 pixels are seen by
    each where `layers` is 3.

    Convolutions of 4 x 4, `layers` of them halving, then one more and the last; leaky ReLUs of 0.2.

    Attributes:
      channels: of the first; they double up to eight times.
      layers: convolutions that halve.
      norm: after all but the first and last: "batch" (the paper's: examples of a batch meet, and
        training moves `batch_stats`), "group", or "none".
      norm_groups: of "group".
      dtype: of the arithmetic.
    """

    channels: Width = 64
    layers: Depth = 3
    norm: Literal["batch", "group", "none"] = "batch"
    norm_groups: Width = 8
    dtype: Dtype = "float32"

    @nn.compact
    def __call__(self, image: Array, train: bool = False) -> Array:
        pick("norm", self.norm, NORMS)
        if self.layers < 1 or min(image.shape[1:3]) < 2 ** (self.layers + 2):
            raise ValueError(
                f"discriminator got images of {image.shape[1]} x {image.shape[2]} pixels; with "
                f"layers={self.layers} (at least 1) it needs {2 ** (self.layers + 2)} a side"
            )
        shared = {"kernel": 4, "padding": (1, 1), "kernel_init": _kernel, "dtype": self.dtype}
        h = constrain_batch(image.astype(self.dtype))
        for i in range(self.layers + 1):
            width = self.channels * min(2**i, 8)
            stride = 2 if i < self.layers else 1
            plain = not i or self.norm == "none"
            h = Conv(width, stride=stride, use_bias=plain, name=f"conv_{i}", **shared)(h)
            if not plain and self.norm == "batch":
                h = BatchNorm(0.9, 1e-5, _about_one, name=f"norm_{i}")(h, train)
            elif not plain:
                h = GroupNorm(self.norm_groups, 1e-5, name=f"norm_{i}")(h)
            h = constrain_batch(jax.nn.leaky_relu(h, 0.2))
        return Conv(1, name="conv_out", **shared)(h)[..., 0].astype(jnp.float32)


DISCRIMINATORS = {"patch": PatchDiscriminator}
