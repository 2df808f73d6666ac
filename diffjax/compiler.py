"""Options for `jax.jit` that this machine's compiler runs our networks fastest with."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import jax

Options = dict[str, str | bool | int]

CPU_OPTIONS: Options = {
    # By default every convolution goes to a library that runs it on one thread; naming matrix
    # products alone gives convolutions back to the threaded kernels.
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT",
    # Keeps the barriers of `diffjax.nn.cpu` standing until after fusion.
    "xla_disable_hlo_passes": "cse_barrier_expander",
}
# For a program that runs once: compiling it well costs more than it could save.
ONCE_OPTIONS: Options = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}


@functools.cache
def _known(option: str, value: str | bool | int) -> bool:
    """Whether this version of XLA takes the option, tried on a program of one addition."""
    try:
        jax.jit(lambda x: x + 1.0, compiler_options={option: value}).lower(0.0).compile()
    except Exception:
        return False
    return True


def supported(options: Mapping[str, str | bool | int]) -> Options:
    """Those of `options` that this version of XLA knows: they are experimental names, which come
    and go, and an unknown one would be an error."""
    return {option: value for option, value in options.items() if _known(option, value)}


def compiler_options() -> Options:
    """For `jax.jit(..., compiler_options=compiler_options())`; {} where there is nothing to gain.

    Only an outermost `jit` takes options.
    """
    return supported(CPU_OPTIONS) if jax.default_backend() == "cpu" else {}


def once_options() -> Options:
    """The same for a program that runs once, such as an initialisation."""
    return supported(ONCE_OPTIONS) if jax.default_backend() == "cpu" else {}
