"""Variables of small networks, without compiling their initialisation.

A real one is a program of thousands of operations for each parameter's random numbers, a minute of
compiling over the suite; only what tests starting values themselves pays for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def random_variables(
    init: Callable[..., Any],
    *inputs: Any,
    std: float = 0.1,
    seed: int = 7,
    norms: float = 1.0,
    **options: Any,
) -> Any:
    """What `init(key, *inputs, **options)` would give, normally distributed.

    No layer is zero, so that every path carries something. Arrays in float64 generators of numpy,
    then in the dtype that the network wants; whole numbers are 0; a variance (of running
    statistics) is about 1, and the scale of a norm about `norms`.
    """
    shapes = jax.eval_shape(lambda: init(jax.random.key(0), *inputs, **options))
    rng = np.random.default_rng(seed)

    def draw(path: Any, leaf: Any) -> np.ndarray:
        name = jax.tree_util.keystr(path[-1:])
        if not np.issubdtype(leaf.dtype, np.floating):
            return np.zeros(leaf.shape, leaf.dtype)
        about = 1.0 if "var" in name else norms if "'scale'" in name else 0.0
        return np.asarray(about + std * rng.standard_normal(leaf.shape), leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes)
