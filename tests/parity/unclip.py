"""Tiny networks of Karlo's kinds with random weights, as diffusers has them."""

from __future__ import annotations

import diffusers
import torch

from tests.parity.networks import shaken

# Width of the joint space and of its text tower, tokens of a text, sides of the images.
EMBED, LENGTH, SIZE = 12, 77, 8


def decoder(**changes):
    """64 pixels' U-Net: context in self-attention, image and text in the time embedding."""
    torch.manual_seed(3)
    kwargs = dict(
        sample_size=SIZE,
        in_channels=3,
        out_channels=6,
        layers_per_block=1,
        block_out_channels=(16, 32),
        norm_num_groups=8,
        cross_attention_dim=12,
        attention_head_dim=8,
        class_embed_type="identity",
        resnet_time_scale_shift="scale_shift",
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
    )
    return shaken(diffusers.UNet2DConditionModel(**{**kwargs, **changes}))


def upsampler(seed=4, **changes):
    """256 pixels' U-Net, shown the small image enlarged: no attention."""
    torch.manual_seed(seed)
    kwargs = dict(
        sample_size=2 * SIZE,
        in_channels=6,
        out_channels=3,
        layers_per_block=1,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        down_block_types=("ResnetDownsampleBlock2D",) * 2,
        up_block_types=("ResnetUpsampleBlock2D",) * 2,
        add_attention=False,
    )
    return shaken(diffusers.UNet2DModel(**{**kwargs, **changes}))
