"""Benchmark worker: our CLIP: encoding of images and texts, and a train step with AdamW."""

from __future__ import annotations

import sys
from typing import Any

import jax
import jax.numpy as jnp
import optax

from diffjax.compiler import compiler_options
from diffjax.models import build_model
from diffjax.objectives.contrastive import softmax_contrastive
from experiments.benchmarks.clip_shapes import CLIP_SHAPES
from experiments.benchmarks.interleave import serve


def build(shape_name: str, dtype: str, names: list[str]):
    """(facts, operations) of the shape, those called `names`."""
    shape = CLIP_SHAPES[shape_name]
    image = dict(
        type="vit", width=shape.image_width, depth=shape.image_depth, heads=shape.image.heads,
        patch=shape.patch, image_size=shape.image_size,
    )  # fmt: skip
    text = dict(
        width=shape.text_width, depth=shape.text_depth, heads=shape.text.heads,
        context=shape.context, vocab=shape.vocab,
    )  # fmt: skip
    model: Any = build_model(type="clip", image=image, text=text, embed=shape.embed, dtype=dtype)
    side = shape.image_size
    pixels = jax.random.uniform(jax.random.key(0), (shape.batch, side, side, 3), minval=-1.0)
    tokens = jax.random.randint(
        jax.random.key(1), (shape.batch, shape.context), 0, shape.vocab - 1
    ).at[:, -1].set(shape.vocab - 1)  # fmt: skip
    params: Any = jax.jit(model.init)(jax.random.key(2), pixels[:1], tokens[:1])
    optimizer = optax.adamw(1e-4, weight_decay=0.1)

    def encode(params):
        out = model.apply(params, pixels, tokens)
        return out["image"], out["text"]

    def loss(params):
        out = model.apply(params, pixels, tokens)
        return softmax_contrastive(out["image"], out["text"], out["log_scale"]).mean()

    def step(params, opt_state):
        value, grads = jax.value_and_grad(loss)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, value

    options = compiler_options()
    encode_jit: Any = jax.jit(encode, compiler_options=options)
    step_jit: Any = jax.jit(step, donate_argnums=(0, 1), compiler_options=options)
    held: dict[str, Any] = {"state": (jax.tree.map(jnp.copy, params), optimizer.init(params))}

    def run_step():
        *state, value = step_jit(*held["state"])
        held["state"] = tuple(state)
        jax.block_until_ready(value)

    facts = {
        "parameters": sum(p.size for p in jax.tree.leaves(params)),
        "backend": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
    }
    operations = {
        "encode": lambda: jax.block_until_ready(encode_jit(params)),
        "train step": run_step,
    }
    return facts, {name: operations[name] for name in names}


if __name__ == "__main__":
    shape, dtype, names = sys.argv[1:]
    serve(lambda: build(shape, dtype, names.split(",")))
