"""Two-dimensional convolution, the one layer that every convolutional network here uses."""

from __future__ import annotations

import jax
from flax import linen as nn
from jax import Array
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike

from diffjax.nn.cpu import add_bias, fence, fence_cotangent
from diffjax.nn.initialisers import BiasInit, xavier, zero_bias
from diffjax.nn.linear import matmul

LAYOUT = ("NHWC", "HWIO", "NHWC")
Padding = tuple[tuple[int, int], tuple[int, int]]


def conv2d(x: Array, kernel: Array, stride: int = 1, padding: Padding = ((0, 0), (0, 0))) -> Array:
    """Cross-correlation of `x [B, H, W, C]` with `kernel [h, w, C, F]`.

    `padding` is (before, after) on each spatial axis. A 1x1 kernel is a matrix product.
    """
    if kernel.shape[:2] == (1, 1) and stride == 1 and padding == ((0, 0), (0, 0)):
        return matmul(x, kernel[0, 0])
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=LAYOUT
    )


class Conv(nn.Module):
    """`x [B, H, W, C] -> [B, H', W', features]`; parameters float32, arithmetic in `dtype`.

    `kernel` is a side, or (height, width). `padding` is (before, after) on both spatial axes; None
    keeps the size of an odd kernel.
    """

    features: int
    kernel: int | tuple[int, int] = 3
    stride: int = 1
    padding: tuple[int, int] | None = None
    use_bias: bool = True
    kernel_init: Initializer = xavier
    bias_init: BiasInit = zero_bias
    dtype: DTypeLike = "float32"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        h, w = (self.kernel,) * 2 if isinstance(self.kernel, int) else self.kernel
        fan_in = h * w * x.shape[-1]
        kernel = self.param("kernel", self.kernel_init, (h, w, x.shape[-1], self.features))
        padding = ((h // 2, h // 2), (w // 2, w // 2))
        if self.padding is not None:
            padding = (self.padding, self.padding)
        y = conv2d(fence(x.astype(self.dtype)), kernel.astype(self.dtype), self.stride, padding)
        if self.use_bias:
            bias = self.param("bias", self.bias_init(fan_in), (self.features,))
            y = add_bias(y, bias.astype(self.dtype))
        return fence_cotangent(y)
