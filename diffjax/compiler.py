"""Options for `jax.jit` that this machine's compiler runs our networks fastest with."""

from __future__ import annotations

import functools

import jax

CPU_OPTIONS: dict[str, str | bool] = {
    # By default every convolution goes to a library that runs it on one thread; naming matrix
    # products alone gives convolutions back to the threaded kernels (jax 0.10, two cores:
    # forward 1.7 times, weight gradient 2 to 3 times as fast).
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT",
    # Keeps the barriers of `diffjax.nn.cpu` standing until after fusion.
    "xla_disable_hlo_passes": "cse_barrier_expander",
}


@functools.cache
def compiler_options() -> dict[str, str | bool]:
    """For `jax.jit(..., compiler_options=compiler_options())`; {} where there is nothing to gain.

    The options are experimental names: a version of XLA that lacks one gets none, after trying
    it on a program of one addition. Only an outermost `jit` takes options.
    """
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(lambda x: x + 1.0, compiler_options=CPU_OPTIONS).lower(0.0).compile()
    except Exception:
        return {}
    return dict(CPU_OPTIONS)
