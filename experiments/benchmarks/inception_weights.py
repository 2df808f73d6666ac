"""InceptionV3 with drawn weights: what can be timed and compared where the released ones are not."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from diffjax.models.inception import InceptionV3

# Keeps activations of about one size through the depth of the network, rectifiers and all.
GAIN = 1.7


def random_inception(seed: int = 0) -> dict[str, Any]:
    """Variables of `InceptionV3` of the released ones' shapes, float32 numpy arrays."""
    rng = np.random.default_rng(seed)
    image = jax.ShapeDtypeStruct((1, 299, 299, 3), np.float32)
    shapes = jax.eval_shape(lambda x: InceptionV3().init(jax.random.key(0), x), image)

    def draw(path: Any, leaf: Any) -> np.ndarray:
        name = path[-1].key
        if name == "kernel":
            bound = GAIN / np.sqrt(np.prod(leaf.shape[:-1]))
            return rng.uniform(-bound, bound, leaf.shape).astype(np.float32)
        if name in ("scale", "var"):
            return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        return rng.normal(0.0, 0.1, leaf.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, dict(shapes))
