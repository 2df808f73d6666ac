"""Number of images sent through InceptionV3, and the cost of one."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn

from diffjax.models.inception import SIZE, InceptionV3
from diffjax.nn.convolution import Conv


class FidShape(NamedTuple):
    """`images` of 32 pixels in one timed call, `batch` at a time. Many short calls interleave
    better than few long ones: on a CPU 10,000 images are forty rounds."""

    images: int
    batch: int


FID_SHAPES = {
    "small32": FidShape(32, 16),
    "cifar32": FidShape(250, 50),
    "gpu32": FidShape(10_000, 500),
}


def pictures(shape: FidShape) -> np.ndarray:
    """`[images, 32, 32, 3] uint8`."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (shape.images, 32, 32, 3)).astype(np.uint8)


def forward_macs() -> float:
    """Multiply-accumulates of the convolutions for one image."""
    total = 0.0

    def count(next_call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        nonlocal total
        y = next_call(*args, **kwargs)
        if isinstance(context.module, Conv) and context.method_name == "__call__":
            kernel = context.module.kernel
            area = kernel**2 if isinstance(kernel, int) else math.prod(kernel)
            total += math.prod(y.shape[1:]) * area * args[0].shape[-1]
        return y

    image = jax.ShapeDtypeStruct((1, SIZE, SIZE, 3), np.float32)
    with nn.intercept_methods(count):
        jax.eval_shape(lambda x: InceptionV3().init(jax.random.key(0), x), image)
    return total
