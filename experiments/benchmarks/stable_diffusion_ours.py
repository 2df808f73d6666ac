"""Benchmark worker: our Stable Diffusion: U-Net, decoding, text to image."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from diffjax.compiler import compiler_options
from diffjax.diffusion.predictions import Eps
from diffjax.diffusion.recipes import make_recipe
from diffjax.diffusion.schedules import ScaledLinear
from diffjax.generate.latent_model import LatentModel
from diffjax.generate.text2image import text2image
from diffjax.keys import per_row
from diffjax.models import build_model
from experiments.benchmarks.interleave import resident, serve
from experiments.benchmarks.stable_diffusion_shapes import (
    CONTEXT,
    DIFFUSION_SHAPES,
    GUIDANCE,
    LATENT_CHANNELS,
    STEPS,
    VOCAB,
    DiffusionShape,
)


def unet_inputs(shape: DiffusionShape, rows: int) -> tuple[tuple[Any, Any], dict[str, Any]]:
    """Latents, times, and the tokens that the U-Net attends to."""
    z = jax.random.normal(
        jax.random.key(0), (rows, shape.latent, shape.latent, LATENT_CHANNELS), jnp.float32
    )
    tokens = jax.random.normal(jax.random.key(1), (rows, CONTEXT, shape.text_width), jnp.float32)
    return (z, jnp.full((rows,), 500.0)), {"tokens": tokens}


def unet_macs(shape: DiffusionShape) -> float:
    """Multiply-accumulates of the U-Net's forward pass of one row, from its own program, which has
    no loops; elementwise arithmetic counts too."""
    model = build_model(**shape.unet())

    def forward(variables: Any) -> Any:
        args, kwargs = unet_inputs(shape, 1)
        return model.apply(variables, *args, **kwargs)

    def init() -> Any:
        args, kwargs = unet_inputs(shape, 1)
        return model.init(jax.random.key(0), *args, **kwargs)

    cost: Any = jax.jit(forward).lower(jax.eval_shape(init)).cost_analysis()
    return cost["flops"] / 2


def build(shape_name: str, dtype: str, names: list[str]):
    """(facts, operations called `names`)."""
    shape = DIFFUSION_SHAPES[shape_name]
    side, rows = shape.size, 2 * shape.batch
    networks: dict[str, Any] = {
        "unet": build_model(**shape.unet(), dtype=dtype),
        "vae": build_model(**shape.vae(), dtype=dtype),
        "text": build_model(**shape.text(), dtype=dtype),
    }
    args, told = unet_inputs(shape, rows)
    ids = jax.random.randint(jax.random.key(2), (rows, CONTEXT), 0, VOCAB)
    inits = {
        "unet": partial(networks["unet"].init, tokens=told["tokens"][:1]),
        "vae": networks["vae"].init,
        "text": partial(networks["text"].init, pooled=False),
    }
    seen = {
        "unet": tuple(a[:1] for a in args),
        "vae": (jnp.zeros((1, side, side, 3)),),
        "text": (ids[:1],),
    }
    variables = {k: jax.jit(inits[k])(jax.random.key(3), *seen[k]) for k in networks}
    model = LatentModel(**networks, schedule=ScaledLinear(), prediction=Eps())
    recipe = make_recipe("ddim", steps=STEPS, guidance=GUIDANCE)
    z, keys = args[0][: shape.batch], per_row(jax.random.key(4), jnp.arange(shape.batch))

    def draw(variables: Any) -> Any:
        return text2image(model, variables, ids[: shape.batch], ids[shape.batch :], z, keys, recipe)

    options = compiler_options()
    unet: Any = jax.jit(networks["unet"].apply, compiler_options=options)
    decode: Any = jax.jit(model.decode, compiler_options=options)
    text_to_image: Any = jax.jit(draw, compiler_options=options)
    facts = {
        "parameters": sum(p.size for p in jax.tree.leaves(variables)),
        "backend": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
    }
    operations = {
        "unet": lambda: jax.block_until_ready(unet(variables["unet"], *args, **told)),
        "decode": lambda: jax.block_until_ready(decode(variables, z)),
        "text to image": lambda: jax.block_until_ready(text_to_image(variables)),
    }
    return facts, {name: operations[name] for name in names}


def peak() -> int:
    """Bytes: on a GPU of its memory, else of the machine's."""
    stats = jax.devices()[0].memory_stats()
    return stats["peak_bytes_in_use"] if stats else resident()


if __name__ == "__main__":
    shape, dtype, names = sys.argv[1:]
    serve(lambda: build(shape, dtype, names.split(",")), peak)
