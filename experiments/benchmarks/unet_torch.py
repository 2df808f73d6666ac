"""Benchmark worker: the same U-Net in PyTorch (diffusers), and its DDIM of 50 steps."""

from __future__ import annotations

import sys
from typing import Any

from experiments.benchmarks.interleave import serve
from experiments.benchmarks.shapes import SHAPES, Shape


def unet2d_kwargs(shape: Shape) -> dict[str, Any]:
    """`UNet2DModel`'s arguments for the same network."""
    m = shape.model
    sizes = [shape.size // 2**i for i in range(len(m["channel_mult"]))]
    attends = [s in m["attention_resolutions"] for s in sizes]
    return dict(
        sample_size=shape.size,
        in_channels=shape.channels_in,
        out_channels=m["out_channels"],
        layers_per_block=m["blocks"],
        block_out_channels=tuple(m["channels"] * k for k in m["channel_mult"]),
        down_block_types=tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attends),
        up_block_types=tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)),
        norm_num_groups=m.get("norm_groups", 32),
        norm_eps=1e-6,
        downsample_padding=0,
        flip_sin_to_cos=False,
        freq_shift=1,
        attention_head_dim=None,
    )


def build(shape_name: str, threads: int, layout: str, dtype: str, names: list[str]):
    """(facts, operations called `names`); the optimizer is torch's fused Adam, its fastest."""
    import torch
    from diffusers.models.unets.unet_2d import UNet2DModel
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    shape = SHAPES[shape_name]
    if threads:
        torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    memory = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    model = UNet2DModel(**unet2d_kwargs(shape)).to(device, memory_format=memory)
    x = torch.randn(shape.batch, shape.channels_in, shape.size, shape.size, device=device)
    x = x.contiguous(memory_format=memory)
    t = torch.arange(shape.batch, device=device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    cast = torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16")

    def finish():
        if device == "cuda":
            torch.cuda.synchronize()

    def forward():
        with torch.no_grad(), cast:
            model(x, t)
        finish()

    def train_step():
        optimizer.zero_grad(set_to_none=True)
        with cast:
            loss = ((model(x, t).sample - x) ** 2).mean()
        loss.backward()
        optimizer.step()
        finish()

    scheduler = DDIMScheduler(clip_sample=False)

    def draw():
        scheduler.set_timesteps(50)
        z = torch.randn_like(x)
        with torch.no_grad(), cast:
            for step in scheduler.timesteps:
                z = scheduler.step(model(z, step).sample, step, z).prev_sample
        finish()

    facts = {"parameters": sum(p.numel() for p in model.parameters()), "backend": device}
    operations = {"forward": forward, "train step": train_step, "ddim 50": draw}
    return facts, {name: operations[name] for name in names}


if __name__ == "__main__":
    shape, threads, layout, dtype, names = sys.argv[1:]
    serve(lambda: build(shape, int(threads), layout, dtype, names.split(",")))
