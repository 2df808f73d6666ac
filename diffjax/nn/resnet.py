"""The residual block of DDPM, ADM, DDPM++ and NCSN++, by choice."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.typing import DTypeLike

from diffjax.nn.convolution import Conv
from diffjax.nn.cpu import fence
from diffjax.nn.initialisers import Init
from diffjax.nn.linear import Dense
from diffjax.nn.normalisation import GroupNorm
from diffjax.nn.resampling import BOX, downsample, upsample


@dataclass(frozen=True)
class BlockStyle:
    """The choices that every block of one network shares.

    Attributes:
      init: the family of initialisers.
      groups, eps, min_channels: of every GroupNorm.
      dropout: rate before the second convolution.
      scale_shift: the embedding scales and shifts the second norm (ADM) or is added before it
        (DDPM).
      skip_scale: what each residual sum is multiplied by (1, or 1/sqrt(2) in DDPM++).
      taps: filter of resampling blocks.
      transformer_depth: transformer blocks in each place of attention; 0 for plain layers.
      added_kv: plain layers of self-attention take the context in, see `SpatialAttention`; there
        are none of cross-attention then.
      project_resampled: resampling blocks have a 1x1 convolution on the skip even where the
        channels stay (DDPM++, NCSN++).
      dtype: of the arithmetic.
    """

    init: Init
    groups: int = 32
    eps: float = 1e-6
    min_channels: int = 1
    dropout: float = 0.0
    scale_shift: bool = False
    skip_scale: float = 1.0
    taps: tuple[int, ...] = BOX
    project_resampled: bool = False
    transformer_depth: int = 0
    added_kv: bool = False
    dtype: DTypeLike = "float32"


class ResBlock(nn.Module):
    """`x [B, H, W, C], embedding [B, E] -> [B, H', W', features]`.

    norm, SiLU, (resample), conv, embedding, norm, SiLU, dropout, conv; plus the skip. `resample`
    is "up", "down" or None. The embedding arrives before its SiLU; None, in autoencoders, adds
    nothing.
    """

    features: int
    style: BlockStyle
    resample: str | None = None

    @nn.compact
    def __call__(self, x: Array, embedding: Array | None, train: bool) -> Array:
        s = self.style
        kinds = {"kernel_init": s.init.kernel, "bias_init": s.init.bias, "dtype": s.dtype}
        norm = (s.groups, s.eps, s.min_channels, True)
        h = GroupNorm(*norm, name="norm1")(x)
        h, skip = self._resample(h), self._resample(x)
        h = Conv(self.features, name="conv1", **kinds)(h)

        norm2 = GroupNorm(*norm, name="norm2")
        if embedding is None:
            h = norm2(h)
        else:
            wide = self.features * (2 if s.scale_shift else 1)
            e = Dense(wide, name="embed", **kinds)(jax.nn.silu(embedding))
            if s.scale_shift:
                scale, shift = jnp.split(e, 2, axis=-1)
                h = norm2(h, scale, shift)
            else:
                h = norm2(h + e[:, None, None, :])
        h = nn.Dropout(s.dropout, deterministic=not train)(h)
        h = Conv(self.features, kernel_init=s.init.final, dtype=s.dtype, name="conv2")(h)

        resampled = s.project_resampled and self.resample is not None
        if x.shape[-1] != self.features or resampled:
            skip = Conv(self.features, kernel=1, name="skip", **kinds)(skip)
        return fence((skip + h) * jnp.asarray(s.skip_scale, h.dtype))

    def _resample(self, x: Array) -> Array:
        if self.resample is None:
            return x
        return (
            upsample(x, self.style.taps)
            if self.resample == "up"
            else downsample(x, self.style.taps)
        )
