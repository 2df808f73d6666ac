"""The U-Net of diffusion: DDPM, iDDPM, ADM, DDPM++, NCSN++ and Stable Diffusion by choice.

One module; `configs/networks.py` holds the choices that make it each paper's network.
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from diffjax.choices import pick
from diffjax.models.conditioning import (
    NO_CONDITIONING,
    Conditioning,
    check_unread,
    check_vector,
    with_concat,
)
from diffjax.models.unet_embedding import unet_embedding
from diffjax.nn.attention import count_heads
from diffjax.nn.blocks import Block
from diffjax.nn.convolution import Conv
from diffjax.nn.cpu import fence
from diffjax.nn.initialisers import INITS, Init
from diffjax.nn.normalisation import GroupNorm
from diffjax.nn.partition import constrain_batch
from diffjax.nn.resampling import BOX, downsample, upsample
from diffjax.nn.resnet import BlockStyle
from diffjax.ranges import (
    Classes,
    Decay,
    Depth,
    Dtype,
    Factor,
    Integer,
    MaybeDepth,
    MaybeWidth,
    Pixels,
    Positive,
    Real,
    Width,
)

# (before, after) zeros around the stride-2 convolution: TensorFlow's SAME, and torch's padding=1.
DOWN_PADDINGS = {"end": (0, 1), "both": (1, 1)}


class UNet(nn.Module):
    """`x [B, H, W, C], c_noise [B], cond -> [B, H, W, out_channels] float32`.

    Attributes:
      channels: width of the first convolution; level i has `channels * channel_mult[i]`.
      out_channels: those of the image, or twice as many where the variance is learned.
      blocks: residual blocks per level on the way down; one more on the way up.
      attention_resolutions: heights of the feature maps that attend, e.g. (16,).
      attention_levels: the levels that attend, whatever the height of the image (Stable
        Diffusion: (0, 1, 2)); instead of attention_resolutions.
      transformer_depth: transformer blocks in each place of attention; 0 for plain layers.
      num_heads, head_channels: heads by number, or (where given) by their width.
      decoder_attention: "all" blocks of an attending level, or its "last" (DDPM++, NCSN++).
      resample: "conv" (DDPM: strided convolution; repetition and convolution) or "resblock".
      resample_taps: filter of "resblock" resampling; (1, 1) is mean and repetition.
      residual_input: the filtered input is added to every lower level (NCSN++).
      down_padding: of the strided convolution; "end" as TensorFlow, "both" as torch.
      scale_shift, skip_scale, dropout, norm_*: see `BlockStyle`.
      time_embed: a key of `SINUSOIDS`, or "fourier".
      noise_channels, embed_channels: widths of the time features and of the embedding that every
        block is given; None for `channels` and `4 * channels`.
      frequencies: of "fourier"; None draws them from N(0, fourier_scale^2), always the same.
      num_classes: 0 without labels; `null_class` adds class number `num_classes`: no class.
      label_to: "embedding" (ADM: a table added to the embedding) or "noise" (DDPM++: a
        dense layer over scaled one-hot classes, added to the time features).
      augment_dim: width of `augment_labels [B, n]`, added to the time features (EDM: 9).
      vector_dim: width of the conditioning's `vector`, whose projection is added to the embedding
        (GLIDE, unCLIP, SDXL); 0 for none.
      project_vector: False to add the vector as it is, of the embedding's width.
      cross_attention: attending blocks also attend to the conditioning's `context`, which
        transformer blocks must be given.
      added_kv: they do so within self-attention, one softmax over the context's tokens and the
        pixels (Nichol et al. 2021, GLIDE; unCLIP), in place of layers of cross-attention.
      pool_tokens: a projection of the context's mean is also added to the embedding (Saharia et al.
        2022, Imagen, section 2.5); without a context nothing is.
      init_style: a key of `INITS`.
      dtype: of the arithmetic; parameters, statistics and the output are float32.
      remat: recompute blocks in the backward pass to save memory.
    """

    channels: Width
    out_channels: Width
    channel_mult: tuple[Factor, ...] = (1, 2, 2, 2)
    blocks: Depth = 2
    attention_resolutions: tuple[Pixels, ...] = (16,)
    attention_levels: tuple[MaybeDepth, ...] | None = None
    transformer_depth: MaybeDepth = 0
    num_heads: Width = 1
    head_channels: Width | None = None
    mid_attention: bool = True
    decoder_attention: str = "all"
    resample: str = "conv"
    resample_taps: tuple[Integer, ...] = BOX
    project_resampled: bool = False
    residual_input: bool = False
    down_padding: str = "end"
    scale_shift: bool = False
    skip_scale: Positive = 1.0
    dropout: Decay = 0.0
    norm_groups: Width = 32
    norm_eps: Positive = 1e-6
    norm_min_channels: Width = 1
    time_embed: str = "sin_endpoint"
    noise_channels: Width | None = None
    embed_channels: Width | None = None
    fourier_scale: Positive = 16.0
    frequencies: tuple[Real, ...] | None = None
    num_classes: Classes = 0
    null_class: bool = True
    label_to: str = "embedding"
    augment_dim: MaybeWidth = 0
    vector_dim: MaybeWidth = 0
    project_vector: bool = True
    cross_attention: bool = False
    added_kv: bool = False
    pool_tokens: bool = False
    init_style: str = "ddpm"
    dtype: Dtype = "float32"
    remat: bool = False

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
        family, style = self._choices()
        x = with_concat(x, cond)
        self._check(x, cond)
        embedding = unet_embedding(self, family, c_noise, cond, augment_labels)
        inputs = (embedding, cond.context, cond.context_mask, train)
        x = constrain_batch(x.astype(self.dtype))
        h, skips = self._encode(x, style, inputs)
        h = self._block(style, h, h.shape[-1], "mid_0", self.mid_attention)(h, *inputs)
        h = self._block(style, h, h.shape[-1], "mid_1", False)(h, *inputs)
        if cond.residuals:
            *below, middle = self._residuals(cond.residuals, skips)
            h = h + middle.astype(h.dtype)
            skips = [skip + r.astype(skip.dtype) for skip, r in zip(skips, below, strict=True)]
        h = self._decode(h, skips, style, inputs)
        # The last normalisation and convolution run in float32, as ADM's do.
        norm = (self.norm_groups, self.norm_eps, self.norm_min_channels, True)
        h = GroupNorm(*norm, name="norm_out")(h.astype(jnp.float32))
        return Conv(self.out_channels, kernel_init=family.final, name="conv_out")(h)

    def _choices(self) -> tuple[Init, BlockStyle]:
        """The named choices, checked."""
        pick("decoder_attention", self.decoder_attention, ("all", "last"))
        pick("resample", self.resample, ("conv", "resblock"))
        pick("label_to", self.label_to, ("embedding", "noise"))
        pick("down_padding", self.down_padding, DOWN_PADDINGS)
        family = INITS[pick("init_style", self.init_style, INITS)]
        if self.added_kv and (self.transformer_depth or not self.cross_attention):
            raise ValueError(
                "added_kv=True takes the context into plain layers of self-attention: set "
                "cross_attention=True and transformer_depth=0"
            )
        style = BlockStyle(
            init=family,
            groups=self.norm_groups,
            eps=self.norm_eps,
            min_channels=self.norm_min_channels,
            dropout=self.dropout,
            scale_shift=self.scale_shift,
            skip_scale=self.skip_scale,
            taps=tuple(self.resample_taps),
            project_resampled=self.project_resampled,
            transformer_depth=self.transformer_depth,
            added_kv=self.added_kv,
            dtype=self.dtype,
        )
        return family, style

    def _attends(self, level: int, h: Array) -> bool:
        if self.attention_levels is not None:
            return level in self.attention_levels
        return h.shape[1] in self.attention_resolutions

    def _residuals(self, residuals: tuple[Array, ...], skips: list[Array]) -> tuple[Array, ...]:
        if len(residuals) != len(skips) + 1:
            raise ValueError(
                f"{len(residuals)} residuals for a UNet of {len(skips)} skip connections and a "
                "middle: the control network is another U-Net's"
            )
        return residuals

    def _check(self, x: Array, cond: Conditioning) -> None:
        step = 2 ** (len(self.channel_mult) - 1)
        if x.ndim != 4 or x.shape[1] % step or x.shape[2] % step:
            raise ValueError(
                f"UNet of {len(self.channel_mult)} levels got x of shape {x.shape}; it needs "
                f"[B, H, W, C] with H and W divisible by {step} (or a shorter channel_mult)"
            )
        reads = ["concat", "residuals", "vector"]
        reads += ["label"] if self.num_classes else []
        reads += ["vector"] if self.vector_dim else []
        if self.cross_attention or self.pool_tokens:
            reads += ["context", "context_mask"]
        check_unread("this UNet", cond, reads)
        if self.cross_attention and self.transformer_depth and cond.context is None:
            raise ValueError("UNet of cross_attention in transformer blocks needs a context")
        check_vector(self.vector_dim, cond)

    def _block(
        self, style: BlockStyle, h: Array, features: int, name: str, attention: bool, **kwargs
    ) -> nn.Module:
        """One block, rematerialised if asked; `h` is its input."""
        heads = count_heads(features, self.num_heads, self.head_channels) if attention else 0
        # Argument 5 (counting self) is `train`, a Python bool.
        make = nn.remat(Block, static_argnums=(5,)) if self.remat else Block
        return make(features, style, heads, self.cross_attention, name=name, **kwargs)

    def _encode(self, x: Array, style: BlockStyle, inputs: tuple) -> tuple[Array, list[Array]]:
        """Down the levels; returns the lowest map and the skips in order."""
        kinds = {"kernel_init": style.init.kernel, "bias_init": style.init.bias}
        h = Conv(self.channels, name="conv_in", dtype=self.dtype, **kinds)(x)
        skips, pyramid = [h], x
        for level, mult in enumerate(self.channel_mult):
            if level:
                h = self._down(h, level, style, inputs)
                if self.residual_input:
                    wide = Conv(
                        h.shape[-1],
                        padding=(2, 2),
                        dtype=self.dtype,
                        name=f"down_{level}_input",
                        **kinds,
                    )(pyramid)
                    h = (h + downsample(wide, style.taps, padding=0)) * 0.5**0.5
                    pyramid = h
                skips.append(h)
            for i in range(self.blocks):
                attention = self._attends(level, h)
                name = f"down_{level}_{i}"
                h = self._block(style, h, self.channels * mult, name, attention)(h, *inputs)
                skips.append(h)
        return h, skips

    def _decode(self, h: Array, skips: list[Array], style: BlockStyle, inputs: tuple) -> Array:
        """Up the levels, one skip concatenated before every block."""
        skips = list(skips)
        for level, mult in reversed(list(enumerate(self.channel_mult))):
            if level < len(self.channel_mult) - 1:
                h = self._up(h, level, style, inputs)
            for i in range(self.blocks + 1):
                attention = self._attends(level, h)
                if self.decoder_attention == "last":
                    attention = attention and i == self.blocks
                h = fence(jnp.concatenate([h, skips.pop()], axis=-1))
                name = f"up_{level}_{i}"
                h = self._block(style, h, self.channels * mult, name, attention)(h, *inputs)
        return h

    def _down(self, h: Array, level: int, style: BlockStyle, inputs: tuple) -> Array:
        """From level - 1 to level, channels unchanged."""
        name = f"down_{level}"
        if self.resample == "resblock":
            return self._block(style, h, h.shape[-1], name, False, resample="down")(h, *inputs)
        return Conv(
            h.shape[-1],
            stride=2,
            padding=DOWN_PADDINGS[self.down_padding],
            kernel_init=style.init.kernel,
            bias_init=style.init.bias,
            dtype=self.dtype,
            name=name,
        )(h)

    def _up(self, h: Array, level: int, style: BlockStyle, inputs: tuple) -> Array:
        """From level + 1 to level, channels unchanged."""
        name = f"up_{level}"
        if self.resample == "resblock":
            return self._block(style, h, h.shape[-1], name, False, resample="up")(h, *inputs)
        kinds = {"kernel_init": style.init.kernel, "bias_init": style.init.bias}
        return Conv(h.shape[-1], dtype=self.dtype, name=name, **kinds)(upsample(h))
