"""Benchmark worker: the same Stable Diffusion in PyTorch (diffusers' networks and pipeline)."""

from __future__ import annotations

import sys

from experiments.benchmarks.interleave import resident, serve
from experiments.benchmarks.stable_diffusion_shapes import (
    CONTEXT,
    DIFFUSION_SHAPES,
    GUIDANCE,
    LATENT_CHANNELS,
    STEPS,
    VOCAB,
)


def build(shape_name: str, threads: int, layout: str, dtype: str, names: list[str]):
    """(facts, operations called `names`); on a GPU the networks themselves are of `dtype`."""
    import torch
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel

    shape = DIFFUSION_SHAPES[shape_name]
    if threads:
        torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    attends = len(shape.widths) - 1
    unet = UNet2DConditionModel(
        sample_size=shape.latent,
        block_out_channels=shape.widths,
        cross_attention_dim=shape.text_width,
        attention_head_dim=shape.heads,
        down_block_types=("CrossAttnDownBlock2D",) * attends + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * attends,
    )
    levels = len(shape.vae_widths)
    vae = AutoencoderKL(
        block_out_channels=shape.vae_widths,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=2,
        sample_size=shape.size,
    )
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=VOCAB,
            hidden_size=shape.text_width,
            intermediate_size=4 * shape.text_width,
            num_hidden_layers=shape.text_depth,
            num_attention_heads=shape.text_heads,
            max_position_embeddings=CONTEXT,
        )
    )
    memory = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    kind = getattr(torch, dtype)
    for part in (unet, vae, text):
        part.eval().to(device, kind)
    unet.to(memory_format=memory)
    vae.to(memory_format=memory)
    schedule = DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False,
        set_alpha_to_one=False, steps_offset=1,
    )  # fmt: skip
    pipeline = StableDiffusionPipeline(
        vae=vae, text_encoder=text, tokenizer=None, unet=unet, scheduler=schedule,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    rows, side = 2 * shape.batch, shape.latent
    z = torch.randn(rows, LATENT_CHANNELS, side, side, device=device, dtype=kind)
    z = z.contiguous(memory_format=memory)
    tokens = torch.randn(rows, CONTEXT, shape.text_width, device=device, dtype=kind)
    ids = torch.randint(0, VOCAB, (rows, CONTEXT), device=device)

    def finish():
        if device == "cuda":
            torch.cuda.synchronize()

    @torch.no_grad()
    def step():
        unet(z, 500, encoder_hidden_states=tokens)
        finish()

    @torch.no_grad()
    def decode():
        vae.decode(z[: shape.batch] / vae.config.scaling_factor)
        finish()

    @torch.no_grad()
    def draw():
        wanted, unwanted = text(ids).last_hidden_state.chunk(2)
        pipeline(
            prompt_embeds=wanted, negative_prompt_embeds=unwanted, latents=z[: shape.batch],
            num_inference_steps=STEPS, guidance_scale=GUIDANCE, output_type="pt",
        )  # fmt: skip
        finish()

    facts = {
        "parameters": sum(p.numel() for m in (unet, vae, text) for p in m.parameters()),
        "backend": device,
    }
    operations = {"unet": step, "decode": decode, "text to image": draw}
    return facts, {name: operations[name] for name in names}


def peak() -> int:
    """Bytes: on a GPU of its memory, else of the machine's."""
    import torch

    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else resident()


if __name__ == "__main__":
    shape, threads, layout, dtype, names = sys.argv[1:]
    serve(lambda: build(shape, int(threads), layout, dtype, names.split(",")), peak)
