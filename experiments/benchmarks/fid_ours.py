"""Benchmark worker: our InceptionV3, 8-bit images to features."""

from __future__ import annotations

import sys

import jax

from diffjax.evals.released_features import inception_features
from experiments.benchmarks.fid_shapes import FID_SHAPES, pictures
from experiments.benchmarks.inception_weights import random_inception
from experiments.benchmarks.interleave import serve


def build(shape_name: str, dtype: str, names: list[str]):
    """(facts, operations) of the shape, those called `names`."""
    if dtype != "float32":
        raise ValueError("features for distances are computed in float32")
    shape = FID_SHAPES[shape_name]
    weights = jax.device_put(random_inception())
    extract, images = inception_features(weights, batch_size=shape.batch), pictures(shape)
    facts = {
        "parameters": sum(p.size for p in jax.tree.leaves(weights["params"])),
        "backend": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
    }

    def features():
        for start in range(0, shape.images, shape.batch):
            extract.pixels(images[start : start + shape.batch])  # type: ignore[arg-type]

    operations = {"features": features}
    return facts, {name: operations[name] for name in names}


if __name__ == "__main__":
    serve(lambda: build(sys.argv[1], sys.argv[2], sys.argv[3].split(",")))
