"""InceptionV3 with drawn weights, to be timed and compared where the released ones are not."""

from __future__ import annotations

from typing import Any

import numpy as np
from flax.traverse_util import unflatten_dict

from diffjax.interop.inception import inception_shapes

# Keeps activations of about one size through the depth of the network, rectifiers and all.
GAIN = 1.7


def random_inception(seed: int = 0) -> dict[str, Any]:
    """Variables of `InceptionV3` of the released ones' shapes, float32 numpy arrays."""
    rng = np.random.default_rng(seed)

    def draw(path: str, shape: tuple[int, ...]) -> np.ndarray:
        name = path.rpartition("/")[2]
        if name == "kernel":
            bound = GAIN / np.sqrt(np.prod(shape[:-1]))
            return rng.uniform(-bound, bound, shape).astype(np.float32)
        if name in ("scale", "var"):
            return rng.uniform(0.5, 1.5, shape).astype(np.float32)
        return rng.normal(0.0, 0.1, shape).astype(np.float32)

    drawn = {path: draw(path, leaf.shape) for path, leaf in inception_shapes().items()}
    return unflatten_dict(drawn, sep="/")
