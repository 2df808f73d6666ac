"""Benchmark worker: the same CLIP in PyTorch (transformers), with its own loss and fused AdamW."""

from __future__ import annotations

import sys

from experiments.benchmarks.clip_shapes import CLIP_SHAPES
from experiments.benchmarks.interleave import serve


def build(shape_name: str, threads: int, layout: str, dtype: str, names: list[str]):
    """(facts, operations called `names`)."""
    import torch
    from transformers import CLIPConfig, CLIPModel

    del layout  # of convolutions; here there is but one, of stride equal to its kernel
    shape = CLIP_SHAPES[shape_name]
    if threads:
        torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = CLIPConfig(
        text_config=dict(
            vocab_size=shape.vocab, hidden_size=shape.text_width, eos_token_id=shape.vocab - 1,
            intermediate_size=4 * shape.text_width, num_hidden_layers=shape.text_depth,
            num_attention_heads=shape.text.heads, max_position_embeddings=shape.context,
        ),
        vision_config=dict(
            hidden_size=shape.image_width, intermediate_size=4 * shape.image_width,
            num_hidden_layers=shape.image_depth, num_attention_heads=shape.image.heads,
            image_size=shape.image_size, patch_size=shape.patch,
        ),
        projection_dim=shape.embed,
    )  # fmt: skip
    model = CLIPModel(config).to(device)
    side = shape.image_size
    pixels = torch.randn(shape.batch, 3, side, side, device=device)
    tokens = torch.randint(0, shape.vocab - 1, (shape.batch, shape.context), device=device)
    tokens[:, -1] = shape.vocab - 1
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.1, fused=True)
    cast = torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16")

    def finish():
        if device == "cuda":
            torch.cuda.synchronize()

    def encode():
        with torch.no_grad(), cast:
            model.get_image_features(pixel_values=pixels)
            model.get_text_features(input_ids=tokens)
        finish()

    def train_step():
        optimizer.zero_grad(set_to_none=True)
        with cast:
            loss = model(input_ids=tokens, pixel_values=pixels, return_loss=True).loss
        loss.backward()
        optimizer.step()
        finish()

    facts = {"parameters": sum(p.numel() for p in model.parameters()), "backend": device}
    operations = {"encode": encode, "train step": train_step}
    return facts, {name: operations[name] for name in names}


if __name__ == "__main__":
    shape, threads, layout, dtype, names = sys.argv[1:]
    serve(lambda: build(shape, int(threads), layout, dtype, names.split(",")))
