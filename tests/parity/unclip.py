"""Tiny networks of Karlo's kinds with random weights, as diffusers has them."""

from __future__ import annotations

import diffusers
import torch
import transformers

from tests.parity.networks import shaken

# Width of the joint space and of its tower, tokens of a text, words, side of the small images.
EMBED, LENGTH, VOCAB, SIZE = 12, 77, 520, 8


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


# U-Nets of one level, in the place of those of two: what is compiled for a whole pipeline.
FLAT_DECODER = dict(
    block_out_channels=(16,),
    down_block_types=("SimpleCrossAttnDownBlock2D",),
    up_block_types=("SimpleCrossAttnUpBlock2D",),
)
FLAT_UPSAMPLER = dict(
    block_out_channels=(8,),
    down_block_types=("ResnetDownsampleBlock2D",),
    up_block_types=("ResnetUpsampleBlock2D",),
)


def pipeline(folder):
    """The whole of a Karlo, its tokenizer trained in `folder`."""
    from diffusers.pipelines.deprecated.unclip import UnCLIPPipeline, UnCLIPTextProjModel

    from diffjax.data.tokenizer_training import train_tokenizer

    train_tokenizer(["a red cube on a blue ball"], VOCAB, style="hf").save(folder)
    torch.manual_seed(5)
    tower = transformers.CLIPTextConfig(
        hidden_size=EMBED, intermediate_size=4 * EMBED, num_hidden_layers=1, num_attention_heads=3,
        vocab_size=VOCAB, max_position_embeddings=LENGTH, bos_token_id=VOCAB - 2,
        eos_token_id=VOCAB - 1, projection_dim=EMBED,
    )  # fmt: skip
    prior = diffusers.PriorTransformer(
        num_attention_heads=2, attention_head_dim=8, num_layers=1, embedding_dim=EMBED,
        num_embeddings=LENGTH,
    )  # fmt: skip
    projection = UnCLIPTextProjModel(
        clip_embeddings_dim=EMBED, time_embed_dim=4 * 16, cross_attention_dim=12
    )
    scheduler = diffusers.UnCLIPScheduler
    made = UnCLIPPipeline(
        prior=shaken(prior),
        decoder=decoder(**FLAT_DECODER),
        text_encoder=shaken(transformers.CLIPTextModelWithProjection(tower)),
        tokenizer=transformers.CLIPTokenizer.from_pretrained(folder),
        text_proj=shaken(projection),
        super_res_first=upsampler(**FLAT_UPSAMPLER),
        super_res_last=upsampler(seed=6, **FLAT_UPSAMPLER),
        prior_scheduler=scheduler(prediction_type="sample", clip_sample_range=5.0),
        decoder_scheduler=scheduler(variance_type="learned_range"),
        super_res_scheduler=scheduler(),
    )
    made.set_progress_bar_config(disable=True)
    return made
