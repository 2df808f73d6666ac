"""Our CLIP against transformers' in PyTorch: `python -m experiments.benchmarks.clip`.

Encodes images, encodes texts, and trains (both towers, symmetric loss, AdamW). Milliseconds per
call of every setting of the peer and the ratio to its best; needs '.[parity]'.
"""

from __future__ import annotations

from absl import app, flags

from experiments.benchmarks.clip_shapes import CLIP_SHAPES, forward_macs
from experiments.benchmarks.rivals import Benchmark, run

CLIP = Benchmark(
    "experiments.benchmarks.clip",
    layouts=("contiguous",),
    passes={"encode": 1, "train step": 3},
)

_SHAPE = flags.DEFINE_enum("shape", "tiny", list(CLIP_SHAPES), "Which problem to time.")
_OPERATIONS = flags.DEFINE_list("operations", list(CLIP.passes), f"Of {list(CLIP.passes)}.")


def main(_) -> None:
    shape = CLIP_SHAPES[_SHAPE.value]
    run(CLIP, _SHAPE.value, shape.batch, _OPERATIONS.value, lambda: forward_macs(shape))


if __name__ == "__main__":
    app.run(main)
