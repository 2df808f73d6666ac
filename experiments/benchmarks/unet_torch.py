"""Benchmark worker: the same U-Net in PyTorch (diffusers), forward and train step."""

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


def build(shape_name: str, threads: int, layout: str, dtype: str):
    """(facts, operations); the optimizer is torch's fused Adam, its fastest."""
    import torch
    from diffusers.models.unets.unet_2d import UNet2DModel

    shape = SHAPES[shape_name]
    if threads:
        torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    memory = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    model: torch.nn.Module = UNet2DModel(**unet2d_kwargs(shape))
    model = model.to(device=device, memory_format=memory)  # pyright: ignore[reportCallIssue]
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

    facts = {"parameters": sum(p.numel() for p in model.parameters()), "backend": device}
    return facts, {"forward": forward, "train step": train_step}


if __name__ == "__main__":
    serve(lambda: build(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]))
