"""Images of 32 pixels to FID's features: ours against pytorch-fid's network in PyTorch.

    python -m experiments.benchmarks.fid
    python -m experiments.benchmarks.fid --shape=cifar32 --rounds=40   # 10,000 images each
    python -m experiments.benchmarks.fid --shape=gpu32 --gpu

From 8-bit images to features in numpy, resized to 299 pixels on the way. Milliseconds per call of
every setting of the peer, the ratio to its best, and the peak memory of each process. Needs
'.[parity]' and what tests/parity/fid_peers.py says.
"""

from __future__ import annotations

from absl import app, flags

from experiments.benchmarks.fid_shapes import FID_SHAPES, forward_macs
from experiments.benchmarks.rivals import Benchmark, run

FID = Benchmark(
    "experiments.benchmarks.fid",
    layouts=("contiguous", "channels_last"),
    passes={"features": 1},
)

_SHAPE = flags.DEFINE_enum("shape", "small32", list(FID_SHAPES), "Which problem to time.")


def main(_) -> None:
    run(FID, _SHAPE.value, FID_SHAPES[_SHAPE.value].images, list(FID.passes), forward_macs)


if __name__ == "__main__":
    app.run(main)
