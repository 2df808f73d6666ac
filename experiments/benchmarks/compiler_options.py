"""Worth of each CPU compiler option: `python -m experiments.benchmarks.compiler_options`.

Times a 3x3 convolution, its weight gradient and the small U-Net's forward pass and train step
compiled with no option, with each alone, and with all, interleaved in one process; prints the
version of jax, milliseconds, and how many times as fast each is as no option. Three minutes on two
cores.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import jax
from absl import app, flags

from diffjax.compiler import CPU_OPTIONS, Options, supported
from experiments.benchmarks.interleave import Operation, interleave
from experiments.benchmarks.unet_ours import build

_ROUNDS = flags.DEFINE_integer("rounds", 9, "Interleaved rounds; the median counts.")
_SHAPE = flags.DEFINE_string("shape", "small16", "Of the U-Net.")

NONE = "no option"


class Setting:
    """One setting of the compiler: the operations compiled with it."""

    def __init__(self, name: str, operations: dict[str, Operation]):
        self.name, self._operations = name, operations
        for operation in operations.values():
            operation()
            operation()

    def run(self, operation: str) -> float:
        """Seconds that one run of `operation` took."""
        start = time.perf_counter()
        self._operations[operation]()
        return time.perf_counter() - start


def convolutions(options: Options) -> dict[str, Operation]:
    """A 3x3 convolution of 32 to 32 channels over 128 images of 16 pixels, and its weight
    gradient."""
    x = jax.random.normal(jax.random.key(0), (128, 16, 16, 32))
    w = jax.random.normal(jax.random.key(1), (3, 3, 32, 32))

    def convolve(x: Any, w: Any) -> Any:
        return jax.lax.conv_general_dilated(
            x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    forward = jax.jit(convolve, compiler_options=options)
    backward = jax.jit(
        lambda x, w: jax.vjp(lambda w: convolve(x, w), w)[1](x)[0], compiler_options=options
    )
    return {
        "convolution": lambda: forward(x, w).block_until_ready(),
        "weight grad": lambda: backward(x, w).block_until_ready(),
    }


def settings(shape: str) -> list[Setting]:
    """No option, each alone, all: of those that this version of XLA knows."""
    known = supported(CPU_OPTIONS)
    chosen: dict[str, Options] = {NONE: {}, **{k: {k: v} for k, v in known.items()}, "all": known}
    return [
        Setting(
            name,
            convolutions(options) | build(shape, "float32", ["forward", "train step"], options)[1],
        )
        for name, options in chosen.items()
    ]


def main(_) -> None:
    jax.config.update("jax_platforms", "cpu")
    print(f"jax {jax.__version__}, {_SHAPE.value}, {_ROUNDS.value} rounds")
    operations = ["convolution", "weight grad", "forward", "train step"]
    rivals = settings(_SHAPE.value)
    seconds = interleave(rivals, operations, _ROUNDS.value, pause=0.0)
    for rival in rivals:
        for operation in operations:
            mine, none = seconds[rival.name, operation], seconds[NONE, operation]
            ratio = statistics.median(n / m for n, m in zip(none, mine, strict=True))
            milliseconds = 1e3 * statistics.median(mine)
            print(f"{rival.name:40} {operation:12} {milliseconds:9.1f} ms {ratio:6.2f} x")


if __name__ == "__main__":
    app.run(main)
