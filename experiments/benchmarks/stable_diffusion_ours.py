"""Benchmark worker: our Stable Diffusion: U-Net, decoding, text to image."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from diffjax.compiler import compiler_options
from diffjax.denoisers.conditions.text import FrozenTower, TextCondition
from diffjax.denoisers.model import DiffusionModel
from diffjax.denoisers.spaces import LatentSpace
from diffjax.diffusion.predictions import Eps
from diffjax.diffusion.schedules import ScaledLinear
from diffjax.generate.sample import sample
from diffjax.models import build_model
from diffjax.models.conditioning import Conditioning
from diffjax.task import Variables
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


def unet_inputs(shape: DiffusionShape, rows: int) -> tuple[Any, Any, Conditioning]:
    """Latents, times, and the context that the U-Net attends to."""
    z = jax.random.normal(
        jax.random.key(0), (rows, shape.latent, shape.latent, LATENT_CHANNELS), jnp.float32
    )
    context = jax.random.normal(jax.random.key(1), (rows, CONTEXT, shape.text_width), jnp.float32)
    return z, jnp.full((rows,), 500.0), Conditioning(context=context)


def unet_macs(shape: DiffusionShape) -> float:
    """Multiply-accumulates of the U-Net's forward pass of one row, from its own program, which has
    no loops; elementwise arithmetic counts too."""
    model = build_model(**shape.unet())

    def forward(variables: Any) -> Any:
        return model.apply(variables, *unet_inputs(shape, 1))

    def init() -> Any:
        return model.init(jax.random.key(0), *unet_inputs(shape, 1))

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
    args = unet_inputs(shape, rows)
    ids = jax.random.randint(jax.random.key(2), (rows, CONTEXT), 0, VOCAB)
    inits = {
        "unet": networks["unet"].init,
        "vae": networks["vae"].init,
        "text": partial(networks["text"].init, pooled=False),
    }
    seen = {
        "unet": jax.tree.map(lambda a: a[:1], args),
        "vae": (jnp.zeros((1, side, side, 3)),),
        "text": (ids[:1],),
    }
    variables = {k: jax.jit(inits[k])(jax.random.key(3), *seen[k]) for k in networks}
    space = LatentSpace(networks["vae"], (side, side, 3))
    text = TextCondition("text", FrozenTower(networks["text"], (0,) * CONTEXT))
    model = DiffusionModel(networks["unet"], space, ScaledLinear(), Eps(), (text,))
    frozen = {"codec": variables["vae"], "text": variables["text"]}
    held = Variables(variables["unet"]["params"], {}, frozen)
    z, index = args[0][: shape.batch], jnp.arange(shape.batch)
    cond, negative = ({"tokens": x} for x in (ids[: shape.batch], ids[shape.batch :]))
    options = compiler_options()
    unet: Any = jax.jit(networks["unet"].apply, compiler_options=options)
    decode: Any = jax.jit(space.decode, compiler_options=options)
    text_to_image = partial(
        sample, model, held, jnp.uint32(0), index, cond, negative, z, sampler="ddim", steps=STEPS,
        guidance=GUIDANCE,
    )  # fmt: skip
    facts = {
        "parameters": sum(p.size for p in jax.tree.leaves(variables)),
        "backend": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
    }
    operations = {
        "unet": lambda: jax.block_until_ready(unet(variables["unet"], *args)),
        "decode": lambda: jax.block_until_ready(decode(frozen, z)),
        "text to image": lambda: jax.block_until_ready(text_to_image()),
    }
    return facts, {name: operations[name] for name in names}


def peak() -> int:
    """Bytes: on a GPU of its memory, else of the machine's."""
    stats = jax.devices()[0].memory_stats()
    return stats["peak_bytes_in_use"] if stats else resident()


if __name__ == "__main__":
    shape, dtype, names = sys.argv[1:]
    serve(lambda: build(shape, dtype, names.split(",")), peak)
