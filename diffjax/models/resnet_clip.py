"""CLIP's ModifiedResNet (Radford et al. 2021, section 2.4): a ResNet-D whose strides are average
pools and whose head is attention."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike

from diffjax.nn.attention import attend, count_heads, split_heads
from diffjax.nn.convolution import Conv
from diffjax.nn.initialisers import ones, torch_bias, torch_kernel, zeros
from diffjax.nn.linear import Dense
from diffjax.nn.normalisation import BatchNorm
from diffjax.nn.partition import constrain_batch
from diffjax.nn.resampling import downsample
from diffjax.ranges import Depth, Dtype, Pixels, Width

EXPANSION = 4  # a bottleneck's output over its planes


class ConvNorm(nn.Module):
    """A convolution without bias, batch normalisation, and a rectifier where `activate`."""

    features: int
    kernel: int
    stride: int = 1
    activate: bool = True
    scale_init: Initializer = ones
    dtype: DTypeLike = "float32"

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        conv = Conv(
            self.features,
            self.kernel,
            self.stride,
            use_bias=False,
            kernel_init=torch_kernel,
            dtype=self.dtype,
            name="conv",
        )
        norm = BatchNorm(momentum=0.9, eps=1e-5, scale_init=self.scale_init, name="norm")
        y = norm(conv(x), train)
        return jax.nn.relu(y) if self.activate else y


class Bottleneck(nn.Module):
    """A residual block of `planes`, 1x1, 3x3 and 1x1; `stride` 2 pools both branches by two.

    The last norm's scale starts at zero (the paper's code), so the block starts as its skip.
    """

    planes: int
    stride: int = 1
    dtype: DTypeLike = "float32"

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        out = self.planes * EXPANSION
        x = constrain_batch(x)
        y = ConvNorm(self.planes, 1, dtype=self.dtype, name="layer1")(x, train)
        y = ConvNorm(self.planes, 3, dtype=self.dtype, name="layer2")(y, train)
        pool = downsample if self.stride == 2 else (lambda z: z)
        close = {"activate": False, "dtype": self.dtype}
        y = ConvNorm(out, 1, scale_init=zeros, name="layer3", **close)(pool(y), train)
        if self.stride > 1 or x.shape[-1] != out:
            x = ConvNorm(out, 1, name="skip", **close)(pool(x), train)
        return jax.nn.relu(x + y)


class AttentionPool(nn.Module):
    """`x [B, H, W, C] -> [B, features]`: the mean pixel asks, all pixels and itself answer."""

    features: int
    heads: int
    dtype: DTypeLike = "float32"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        b, h, w, c = x.shape
        std = c**-0.5
        pixels = x.reshape(b, h * w, c)
        mean = pixels.astype(jnp.float32).mean(axis=1, keepdims=True).astype(x.dtype)
        positions = self.param("positions", nn.initializers.normal(std), (h * w + 1, c))
        tokens = jnp.concatenate([mean, pixels], axis=1) + positions.astype(x.dtype)
        kinds = {"kernel_init": nn.initializers.normal(std), "bias_init": torch_bias}
        query, key, value = (
            split_heads(Dense(c, dtype=self.dtype, name=name, **kinds)(z), self.heads)
            for name, z in (("query", tokens[:, :1]), ("key", tokens), ("value", tokens))
        )
        y = attend(query, key, value).reshape(b, c).astype(jnp.float32)
        return Dense(self.features, name="project", **kinds)(y)


class ModifiedResNet(nn.Module):
    """`image [B, S, S, 3]`, normalised, `-> [B, embed] float32`.

    The batch norms' running statistics are the collection `batch_stats`, mutable in training.

    Attributes:
      embed: width of the joint space.
      layers: blocks of each level; the published models have four levels.
      width: channels after the stem; the levels have 4, 8, 16, 32 times as many.
      image_size: S, a multiple of 32 where there are four levels and the stem pools.
      stem_pool: the stem ends in a pool of two, as in every published model; without it images of
        a few dozen pixels keep a grid on which shapes can be told apart.
      heads: of the attention pool; None for 64 channels each, as in every published model.
      dtype: of the arithmetic; parameters, statistics, the projection and the output are float32.
      remat: recompute blocks in the backward pass.
    """

    embed: Width
    layers: tuple[Depth, ...] = (3, 4, 6, 3)
    width: Width = 64
    image_size: Pixels = 224
    heads: Width | None = None
    stem_pool: bool = True
    dtype: Dtype = "float32"
    remat: bool = False

    @nn.compact
    def __call__(self, image: Array, train: bool = False) -> Array:
        """Unnormalised embeddings. Raises ValueError for images of another size."""
        # The stem's first convolution, its pool and every level after the first halve the grid.
        size, reduction = self.image_size, 2 ** (len(self.layers) + self.stem_pool)
        if image.shape[1:] != (size, size, 3) or size % reduction:
            raise ValueError(
                f"ModifiedResNet of {size} pixels got images of shape {image.shape}; it needs "
                f"[B, {size}, {size}, 3], the size a multiple of {reduction}"
            )
        h = constrain_batch(image.astype(self.dtype))
        for i, (features, stride) in enumerate(
            ((self.width // 2, 2), (self.width // 2, 1), (self.width, 1))
        ):
            h = ConvNorm(features, 3, stride, dtype=self.dtype, name=f"stem_{i}")(h, train)
        if self.stem_pool:
            h = downsample(h)
        # Argument 2 (counting self) is `train`, a Python bool.
        make = nn.remat(Bottleneck, static_argnums=(2,)) if self.remat else Bottleneck
        for level, count in enumerate(self.layers):
            for i in range(count):
                stride = 2 if level and not i else 1
                block = make(self.width * 2**level, stride, self.dtype, name=f"level_{level}_{i}")
                h = block(h, train)
        heads = count_heads(h.shape[-1], self.heads or 1, None if self.heads else 64)
        return AttentionPool(self.embed, heads, self.dtype, name="pool")(h)
