"""InceptionV3 as FID knows it: Google's graph of 2015-12-05 (Szegedy et al. 2016, with its quirks).

It differs from the paper's and from torchvision's network. Average pools leave the padding out of
their means, the last block pools by the maximum, batch norms have epsilon 1e-3, there are 1008
classes and no auxiliary head. `interop.inception` reads its released weights.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.typing import DTypeLike

from diffjax.nn.convolution import Conv
from diffjax.nn.initialisers import torch_bias, torch_kernel
from diffjax.nn.linear import Dense
from diffjax.nn.normalisation import BatchNorm
from diffjax.nn.partition import constrain_batch
from diffjax.nn.pooling import average_pool, max_pool

SIZE = 299
CLASSES = 1008
# Where features may be read, by their width: after either pool of the stem, the 17 x 17 grid (the
# auxiliary head's input), and at the end.
WIDTHS = (64, 192, 768, 2048)
# sFID (Nash et al. 2021, section 4.1) reads the first channels of one branch on that grid.
SPATIAL_BLOCK, SPATIAL_CHANNELS = "mixed_6d", 7


class Layer(NamedTuple):
    """A convolution, its norm and a rectifier; a stride of 2 and `valid` leave the border out."""

    name: str
    features: int
    kernel: int | tuple[int, int] = 1
    stride: int = 1
    valid: bool = False


class Spec(NamedTuple):
    """A block: branches of layers side by side, of which a tuple forks, and a pool of 3 x 3:
    "average" and "max" keep the size, "shrink" takes the maximum of whole windows two apart."""

    branches: tuple[tuple[Layer | tuple[Layer, ...], ...], ...]
    pool: str
    pool_features: int = 0  # of the 1x1 layer behind the pool; 0 for none


def _towers(pool: int) -> Spec:
    """Figure 5."""
    return Spec(
        (
            (Layer("branch1x1", 64),),
            (Layer("branch5x5_1", 48), Layer("branch5x5_2", 64, 5)),
            (
                Layer("branch3x3dbl_1", 64),
                Layer("branch3x3dbl_2", 96, 3),
                Layer("branch3x3dbl_3", 96, 3),
            ),
        ),
        "average",
        pool,
    )


def _factored(width: int) -> Spec:
    """Figure 6, n = 7."""
    row, column = (1, 7), (7, 1)
    return Spec(
        (
            (Layer("branch1x1", 192),),
            (
                Layer("branch7x7_1", width),
                Layer("branch7x7_2", width, row),
                Layer("branch7x7_3", 192, column),
            ),
            (
                Layer("branch7x7dbl_1", width),
                Layer("branch7x7dbl_2", width, column),
                Layer("branch7x7dbl_3", width, row),
                Layer("branch7x7dbl_4", width, column),
                Layer("branch7x7dbl_5", 192, row),
            ),
        ),
        "average",
        192,
    )


def _forked(pool: str) -> Spec:
    """Figure 7."""

    def fork(name: str, *letters: str) -> tuple[Layer, ...]:
        return tuple(
            Layer(f"{name}{letter}", 384, kernel)
            for letter, kernel in zip(letters, ((1, 3), (3, 1)), strict=True)
        )

    return Spec(
        (
            (Layer("branch1x1", 320),),
            (Layer("branch3x3_1", 384), fork("branch3x3_", "2a", "2b")),
            (
                Layer("branch3x3dbl_1", 448),
                Layer("branch3x3dbl_2", 384, 3),
                fork("branch3x3dbl_", "3a", "3b"),
            ),
        ),
        pool,
        192,
    )


_SHRINK = Spec(
    (
        (Layer("branch3x3", 384, 3, 2),),
        (
            Layer("branch3x3dbl_1", 64),
            Layer("branch3x3dbl_2", 96, 3),
            Layer("branch3x3dbl_3", 96, 3, 2),
        ),
    ),
    "shrink",
)
_SHRINK_AGAIN = Spec(
    (
        (Layer("branch3x3_1", 192), Layer("branch3x3_2", 320, 3, 2)),
        (
            Layer("branch7x7x3_1", 192),
            Layer("branch7x7x3_2", 192, (1, 7)),
            Layer("branch7x7x3_3", 192, (7, 1)),
            Layer("branch7x7x3_4", 192, 3, 2),
        ),
    ),
    "shrink",
)
STEM = (
    (
        Layer("conv2d_1a_3x3", 32, 3, 2),
        Layer("conv2d_2a_3x3", 32, 3, valid=True),
        Layer("conv2d_2b_3x3", 64, 3),
    ),
    (Layer("conv2d_3b_1x1", 80), Layer("conv2d_4a_3x3", 192, 3, valid=True)),
)
BLOCKS: dict[str, Spec] = {
    "mixed_5b": _towers(32),
    "mixed_5c": _towers(64),
    "mixed_5d": _towers(64),
    "mixed_6a": _SHRINK,
    "mixed_6b": _factored(128),
    "mixed_6c": _factored(160),
    "mixed_6d": _factored(160),
    "mixed_6e": _factored(192),
    "mixed_7a": _SHRINK_AGAIN,
    "mixed_7b": _forked("average"),
    "mixed_7c": _forked("max"),
}


class Unit(nn.Module):
    """The convolution (no bias), norm and rectifier of a `Layer`; `average` pools `x` before it."""

    layer: Layer
    average: bool = False
    dtype: DTypeLike = "float32"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        _, features, kernel, stride, valid = self.layer
        conv = Conv(
            features,
            kernel,
            stride,
            padding=(0, 0) if valid or stride > 1 else None,
            use_bias=False,
            kernel_init=torch_kernel,
            dtype=self.dtype,
            name="conv",
        )
        y = conv(x)
        if self.average:
            # A 1x1 convolution without bias and a mean over pixels commute: fewer channels to pool.
            y = average_pool(y)
        return jax.nn.relu(BatchNorm(momentum=0.9, eps=1e-3, name="bn")(y, train=False))


class Mixed(nn.Module):
    """A block `x [B, H, W, C] -> [B, H', W', C']`, its branches joined in their order."""

    spec: Spec
    dtype: DTypeLike = "float32"

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, Array]:
        """The block's output, and that of its first branch."""
        x = constrain_batch(x)
        outputs: list[Array] = []
        for branch in self.spec.branches:
            h = x
            for step in branch:
                if isinstance(step, Layer):
                    h = self._unit(step, h)
                else:
                    h = jnp.concatenate([self._unit(layer, h) for layer in step], axis=-1)
            outputs.append(h)
        return jnp.concatenate([*outputs, self._pooled(x)], axis=-1), outputs[0]

    def _pooled(self, x: Array) -> Array:
        if self.spec.pool == "shrink":
            return max_pool(x, stride=2, pad=False)
        average = self.spec.pool == "average"
        x = x if average else max_pool(x, stride=1, pad=True)
        return self._unit(Layer("branch_pool", self.spec.pool_features), x, average)

    def _unit(self, layer: Layer, x: Array, average: bool = False) -> Array:
        return Unit(layer, average, self.dtype, name=layer.name)(x)


class InceptionV3(nn.Module):
    """`image [B, H, W, 3]`, scaled as its protocol says and usually of 299 pixels, to features.

    The statistics of the norms are the collection `batch_stats`; this network is never trained.

    Attributes:
      dtype: of the convolutions; features and logits are float32.
    """

    dtype: DTypeLike = "float32"

    @nn.compact
    def __call__(self, image: Array) -> dict[str, Array]:
        """Features, all float32.

        Returns:
          "64", "192", "768", "2048": means over the grid, `[B, width]`; "2048" is FID's.
          "spatial": `[B, 17 * 17 * 7]` for 299 pixels, sFID's, row by row, channels last.
          "logits": `[B, 1008]`; "logits_unbiased": without the head's bias, as the Inception score
            of guided-diffusion's and torch-fidelity's code has them.

        Raises:
          ValueError: images of fewer than 75 pixels, which the strides use up.
        """
        if min(image.shape[1:3]) < 75 or image.shape[3] != 3:
            raise ValueError(
                f"InceptionV3 needs images [B, H, W, 3] of 75 pixels or more, not {image.shape}"
            )
        found: dict[str, Array] = {}

        def mean(x: Array) -> None:
            found[str(x.shape[-1])] = x.astype(jnp.float32).mean(axis=(1, 2))

        h = constrain_batch(image.astype(self.dtype))
        for layers in STEM:
            for layer in layers:
                h = Unit(layer, dtype=self.dtype, name=layer.name)(h)
            h = max_pool(h, stride=2, pad=False)
            mean(h)
        for name, spec in BLOCKS.items():
            h, first = Mixed(spec, self.dtype, name=name)(h)
            if name == SPATIAL_BLOCK:
                spatial = first[..., :SPATIAL_CHANNELS].astype(jnp.float32)
                found["spatial"] = spatial.reshape(len(spatial), -1)
            if name in ("mixed_6e", "mixed_7c"):
                mean(h)
        head = Dense(CLASSES, kernel_init=torch_kernel, bias_init=torch_bias, name="fc")
        found["logits"] = head(found["2048"])
        kernel = head.variables["params"]["kernel"]
        return {**found, "logits_unbiased": found["2048"] @ kernel}
