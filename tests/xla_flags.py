"""XLA flags for programs of tests: tried before they are set, since XLA ends a process whose
`XLA_FLAGS` hold one that its version does not know, with no word of Python's."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Sequence

# Programs that run sixty times need no good code, and compile sooner without fusion emitters (of
# which jax 0.12 has no flag any more).
WANTED = (
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_use_fusion_emitters=false",
)
# What the session has found, for its workers and the programs that they start.
FOUND = "DIFFJAX_TEST_XLA_FLAGS"


def starts(flags: Sequence[str]) -> bool:
    """Whether JAX opens its CPU under `flags`, in a process of its own."""
    environment = {**os.environ, "XLA_FLAGS": " ".join(flags), "JAX_PLATFORMS": "cpu"}
    program = [sys.executable, "-c", "import jax; jax.devices()"]
    return not subprocess.run(program, env=environment, capture_output=True, check=False).returncode


def accepted(flags: Sequence[str]) -> list[str]:
    """Those of `flags` that this version of XLA knows."""
    return list(flags) if starts(flags) else [flag for flag in flags if starts([flag])]


@functools.cache
def quick() -> str:
    """Flags under which programs of tests compile soonest, for `XLA_FLAGS`."""
    if FOUND not in os.environ:
        os.environ[FOUND] = " ".join(accepted(WANTED))
    return os.environ[FOUND]
