"""CLIP's vision transformer (Radford et al. 2021, section 2.4, after Dosovitskiy et al. 2021)."""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from diffjax.nn.attention import count_heads
from diffjax.nn.embeddings import NoiseMLP, sinusoid
from diffjax.nn.initialisers import BlockInit, Init, torch_bias, torch_kernel, xavier
from diffjax.nn.linear import Dense
from diffjax.nn.normalisation import LayerNorm
from diffjax.nn.partition import constrain_batch
from diffjax.nn.patches import patchify
from diffjax.nn.transformer import pre_norm_blocks
from diffjax.ranges import Depth, Dtype, Pixels, Positive, Ratio, Width

# The paper's code leaves this tower's blocks at torch's defaults; only the text tower has its own.
# The log SNR of images that are taken for clean.
CLEANEST = 20.0
VIT_INIT = BlockInit(xavier, torch_kernel, torch_kernel, torch_kernel, torch_bias)

LEVEL_INIT = Init(torch_kernel, torch_bias, torch_kernel, torch_kernel, torch_kernel)


class ViT(nn.Module):
    """`image [B, S, S, 3]`, normalised, `-> [B, embed] float32`.

    Patches, a class token and learned positions; a norm before the blocks; the class token's
    norm and projection after them.

    Attributes:
      embed: width of the joint space.
      width, depth, mlp_ratio: of the transformer.
      heads: of its attention; None for 64 channels each, as in every published model.
      patch: side of the square patches.
      image_size: S.
      activation: a key of `diffjax.nn.activations.ACTIVATIONS`.
      eps: of the layer norms.
      dtype: of the blocks; parameters, statistics, the projection and the output are float32.
      remat: recompute blocks in the backward pass.
      noised: images are noised, and the class token is told their level (Nichol et al. 2021,
        section 2.3).
    """

    embed: Width
    width: Width = 768
    depth: Depth = 12
    patch: Pixels = 32
    image_size: Pixels = 224
    heads: Width | None = None
    mlp_ratio: Ratio = 4.0
    activation: str = "quick_gelu"
    eps: Positive = 1e-5
    dtype: Dtype = "float32"
    remat: bool = False
    noised: bool = False

    @nn.compact
    def __call__(self, image: Array, train: bool = False, logsnr: Array | None = None) -> Array:
        """Unnormalised embeddings; `logsnr [B]` of noised images, by default they are clean.

        Raises:
          ValueError: images of another size, or a level that it is not told.
        """
        del train  # no dropout and no running statistics
        size, side = self.image_size, self.image_size // self.patch
        if image.shape[1:] != (size, size, 3) or size % self.patch:
            raise ValueError(
                f"ViT of {size} pixels in patches of {self.patch} got images of shape "
                f"{image.shape}; it needs [B, {size}, {size}, 3], the size a multiple of the patch"
            )
        normal = nn.initializers.normal(self.width**-0.5)
        h = patchify(constrain_batch(image).astype(self.dtype), self.patch)
        patches = Dense(
            self.width, False, kernel_init=torch_kernel, dtype=self.dtype, name="patch_in"
        )
        token = self.param("class_token", normal, (self.width,)).astype(self.dtype)
        positions = self.param("positions", normal, (side * side + 1, self.width))
        first = jnp.broadcast_to(token, (len(h), 1, self.width))
        if self.noised:
            first = first + self._level(logsnr, len(h)).astype(self.dtype)[:, None]
        elif logsnr is not None:
            raise ValueError("a ViT of noised=False is not told the level of an image")
        h = jnp.concatenate([first, patches(h)], axis=1) + positions.astype(self.dtype)
        h = LayerNorm(self.eps, name="norm_in")(h)
        h = pre_norm_blocks(
            h,
            self.depth,
            self.remat,
            heads=count_heads(self.width, self.heads or 1, None if self.heads else 64),
            hidden=round(self.width * self.mlp_ratio),
            activation=self.activation,
            eps=self.eps,
            init_family=VIT_INIT,
            dtype=self.dtype,
        )
        h = LayerNorm(self.eps, name="norm_out")(h[:, 0].astype(jnp.float32))
        return Dense(self.embed, False, kernel_init=normal, name="project")(h)

    def _level(self, logsnr: Array | None, batch: int) -> Array:
        """The embedding `[B, width] float32` of a level; without one, of the cleanest."""
        logsnr = jnp.full(batch, CLEANEST) if logsnr is None else logsnr
        # As times of a table, from 0 for the cleanest to 1000.
        c_noise = 500 / CLEANEST * (CLEANEST - jnp.clip(logsnr, -CLEANEST, CLEANEST))
        features = sinusoid(c_noise, self.width, "cos")
        return NoiseMLP(self.width, LEVEL_INIT, name="level")(features)
