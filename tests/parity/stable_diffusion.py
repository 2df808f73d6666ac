"""Tiny Stable Diffusions of diffusers' with random weights, in the shapes of versions 1 and 2."""

from __future__ import annotations

import diffusers
import torch
import transformers

VOCAB, CONTEXT, LATENT = 600, 77, 8
# Version -> what differs between the two: the heads, the projections, the tower's activation.
VERSIONS = {
    "sd1": dict(attention_head_dim=2, use_linear_projection=False),
    "sd2": dict(attention_head_dim=[2, 4, 4], use_linear_projection=True),
}
ACTIVATION = {"sd1": "quick_gelu", "sd2": "gelu"}


def shaken(module):
    """Norms and biases away from 1 and 0, so that a swapped pair would show."""
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return module.eval()


# Quick to compile: a level that attends and one that does not; and for pipelines, one that does.
CROSS = "CrossAttn{}Block2D"
TWO_LEVELS = {
    version: dict(
        block_out_channels=(16, 32),
        down_block_types=(CROSS.format("Down"), "DownBlock2D"),
        up_block_types=("UpBlock2D", CROSS.format("Up")),
        attention_head_dim=heads,
    )
    for version, heads in (("sd1", 2), ("sd2", [2, 4]))
}
ONE_LEVEL = {
    version: dict(
        block_out_channels=(16,),
        down_block_types=(CROSS.format("Down"),),
        up_block_types=(CROSS.format("Up"),),
        attention_head_dim=heads,
    )
    for version, heads in (("sd1", 2), ("sd2", [2]))
}


def unet(version, **changes):
    torch.manual_seed(0)
    kwargs = dict(
        sample_size=LATENT,
        block_out_channels=(16, 32, 32),
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=24,
        down_block_types=(CROSS.format("Down"), CROSS.format("Down"), "DownBlock2D"),
        up_block_types=("UpBlock2D", CROSS.format("Up"), CROSS.format("Up")),
        **VERSIONS[version],
    )
    return shaken(diffusers.UNet2DConditionModel(**{**kwargs, **changes}))


def autoencoder(**changes):
    torch.manual_seed(1)
    kwargs = dict(
        block_out_channels=(16, 32, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        norm_num_groups=8,
        sample_size=64,
    )
    return shaken(diffusers.AutoencoderKL(**{**kwargs, **changes}))


# An autoencoder of factor 2, for pipelines too.
SMALL_CODEC = dict(
    block_out_channels=(16, 32),
    down_block_types=("DownEncoderBlock2D",) * 2,
    up_block_types=("UpDecoderBlock2D",) * 2,
    sample_size=2 * LATENT,
)


def text(version, depth=3):
    torch.manual_seed(2)
    config = transformers.CLIPTextConfig(
        hidden_size=24,
        intermediate_size=96,
        num_hidden_layers=depth,
        num_attention_heads=3,
        vocab_size=VOCAB,
        max_position_embeddings=CONTEXT,
        hidden_act=ACTIVATION[version],
        bos_token_id=VOCAB - 2,
        eos_token_id=VOCAB - 1,
        projection_dim=24,
    )
    return shaken(transformers.CLIPTextModel(config))
