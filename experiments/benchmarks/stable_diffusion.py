"""Our Stable Diffusion against diffusers' in PyTorch, random weights of the same networks.

    python -m experiments.benchmarks.stable_diffusion
    python -m experiments.benchmarks.stable_diffusion --shape=sd15 --gpu --dtype=bfloat16

Times one guided evaluation of the U-Net (two rows an image), decoding, and text to image end to end
(20 steps of DDIM, guidance 7.5). Milliseconds per call of every setting of the peer, the ratio to
its best, and peak memory. A few minutes on two cores; needs '.[parity]'.
"""

from __future__ import annotations

from absl import app, flags

from experiments.benchmarks.rivals import Benchmark, run
from experiments.benchmarks.stable_diffusion_ours import unet_macs
from experiments.benchmarks.stable_diffusion_shapes import DIFFUSION_SHAPES, STEPS

STABLE_DIFFUSION = Benchmark(
    "experiments.benchmarks.stable_diffusion",
    layouts=("contiguous", "channels_last"),
    passes={"unet": 2, "decode": 0, "text to image": 2 * STEPS},
)

_SHAPE = flags.DEFINE_enum("shape", "tiny", list(DIFFUSION_SHAPES), "Which problem to time.")
_OPERATIONS = flags.DEFINE_list(
    "operations", list(STABLE_DIFFUSION.passes), f"Of {list(STABLE_DIFFUSION.passes)}."
)


def main(_) -> None:
    shape = DIFFUSION_SHAPES[_SHAPE.value]
    macs = unet_macs(shape)
    run(STABLE_DIFFUSION, _SHAPE.value, shape.batch, _OPERATIONS.value, lambda: macs)


if __name__ == "__main__":
    app.run(main)
