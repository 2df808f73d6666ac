"""Our U-Net against the same one in PyTorch: `python -m experiments.benchmarks.unet`.

Prints milliseconds per call of every setting of the peer and the ratio to its best. On a GPU also
images per second and model FLOP utilisation. `--operations="ddim 50"` times whole sampling. A few
minutes on two cores; needs '.[parity]'.
"""

from __future__ import annotations

import os
import statistics

from absl import app, flags

from experiments.benchmarks.interleave import Worker, interleave, table
from experiments.benchmarks.shapes import SHAPES, forward_macs

_SHAPE = flags.DEFINE_enum("shape", "small16", list(SHAPES), "Which problem to time.")
_ROUNDS = flags.DEFINE_integer("rounds", 9, "Interleaved rounds; the median counts.")
_DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Of the arithmetic.")
_PEERS = flags.DEFINE_bool("peers", True, "Time PyTorch too.")
_ONLY = flags.DEFINE_list("only", [], "Peer settings by name, e.g. 'torch 1 thread contiguous'.")
_GPU = flags.DEFINE_bool("gpu", False, "The machine's GPU instead of its CPU.")
_PEAK = flags.DEFINE_float("peak_tflops", 989.0, "Of the GPU, for utilisation (H200, bfloat16).")

# Passes through the network that one run of an operation costs, a backward pass being two.
PASSES = {"forward": 1, "train step": 3, "ddim 50": 50}
OURS = "diffjax"

_OPERATIONS = flags.DEFINE_list("operations", ["forward", "train step"], f"Of {list(PASSES)}.")


def peers(shape: str, dtype: str, gpu: bool, operations: str, only: list[str]) -> list[Worker]:
    """The peer under every setting (or `only` some): threads, idle threads, memory layout."""
    module = "experiments.benchmarks.unet_torch"
    cores = str(os.cpu_count() or 1)
    settings = {"1 thread": ("1", {}), f"{cores} threads": (cores, {})}
    settings[f"{cores} threads passive"] = (cores, {"OMP_WAIT_POLICY": "passive"})
    if gpu:
        settings = {"cuda": ("0", {})}
    return [
        Worker(
            f"torch {name} {layout}",
            module,
            [shape, threads, layout, dtype, operations],
            # A GPU that is there must not be used by accident.
            env if gpu else {**env, "CUDA_VISIBLE_DEVICES": ""},
        )
        for name, (threads, env) in settings.items()
        for layout in ("contiguous", "channels_last")
        if not only or f"torch {name} {layout}" in only
    ]


def main(_) -> None:
    shape = SHAPES[_SHAPE.value]
    environment = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    if not _GPU.value:
        environment["JAX_PLATFORMS"] = "cpu"
    operations = ",".join(_OPERATIONS.value)
    arguments = [_SHAPE.value, _DTYPE.value, operations]
    ours = Worker(OURS, "experiments.benchmarks.unet_ours", arguments, environment)
    workers = [ours]
    try:
        ours.wait_ready()
        chosen = (_SHAPE.value, _DTYPE.value, _GPU.value, operations, _ONLY.value)
        rivals = peers(*chosen) if _PEERS.value else []
        workers += rivals
        for worker in rivals:
            worker.wait_ready()
            if worker.facts["parameters"] != ours.facts["parameters"]:
                raise ValueError(f"not the same network: {ours.facts} and {worker.facts}")
        print(f"{_SHAPE.value}: {ours.facts}, batch {shape.batch}, {_DTYPE.value}")
        seconds = interleave(workers, _OPERATIONS.value, _ROUNDS.value)
    finally:
        for worker in workers:
            worker.close()
    if _PEERS.value:
        print(table(seconds, OURS))
    for operation in _OPERATIONS.value:
        passes = PASSES[operation]
        step = statistics.median(seconds[OURS, operation])
        flops = 2 * passes * forward_macs(shape) * shape.batch / step
        line = f"{operation}: {shape.batch / step:,.0f} images/s, {flops / 1e9:,.1f} GFLOP/s"
        if ours.facts["backend"] == "gpu":
            line += f", utilisation {flops / (_PEAK.value * 1e12):.1%}"
        print(line)


if __name__ == "__main__":
    app.run(main)
