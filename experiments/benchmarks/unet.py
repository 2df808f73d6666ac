"""Our U-Net against the same one in PyTorch: `python -m experiments.benchmarks.unet`.

Prints milliseconds per call of every setting of the peer and the ratio to its best. On a GPU also
images per second and model FLOP utilisation. `--operations="ddim 50"` times whole sampling. A few
minutes on two cores; needs '.[parity]'.
"""

from __future__ import annotations

from absl import app, flags

from experiments.benchmarks.rivals import Benchmark, run
from experiments.benchmarks.shapes import SHAPES, forward_macs

UNET = Benchmark(
    "experiments.benchmarks.unet",
    layouts=("contiguous", "channels_last"),
    passes={"forward": 1, "train step": 3, "ddim 50": 50},
)

_SHAPE = flags.DEFINE_enum("shape", "small16", list(SHAPES), "Which problem to time.")
_OPERATIONS = flags.DEFINE_list("operations", ["forward", "train step"], f"Of {list(UNET.passes)}.")


def main(_) -> None:
    shape = SHAPES[_SHAPE.value]
    run(UNET, _SHAPE.value, shape.batch, _OPERATIONS.value, lambda: forward_macs(shape))


if __name__ == "__main__":
    app.run(main)
