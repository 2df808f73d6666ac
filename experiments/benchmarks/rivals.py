"""A benchmark of ours against PyTorch under all of its settings: workers, table, utilisation."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from absl import flags

from experiments.benchmarks.interleave import Worker, interleave, table

_ROUNDS = flags.DEFINE_integer("rounds", 9, "Interleaved rounds; the median counts.")
_DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Of the arithmetic.")
_PEERS = flags.DEFINE_bool("peers", True, "Time PyTorch too.")
_ONLY = flags.DEFINE_list("only", [], "Peer settings by name, e.g. 'torch 1 thread contiguous'.")
_GPU = flags.DEFINE_bool("gpu", False, "The machine's GPU instead of its CPU.")
_PEAK = flags.DEFINE_float("peak_tflops", 989.0, "Of the GPU, for utilisation (H200, bfloat16).")

OURS = "diffjax"


@dataclass(frozen=True)
class Benchmark:
    """A program that is timed.

    Attributes:
      module: `<module>_ours` and `<module>_torch` are the workers' modules; their arguments are
        shape, dtype, operations and shape, threads, layout, dtype, operations.
      layouts: memory layouts that the peer is tried in.
      passes: operation -> forward passes of the network that it costs, a backward pass being two;
        0 where it is another network that is timed.
    """

    module: str
    layouts: Sequence[str]
    passes: Mapping[str, int]


def peers(
    benchmark: Benchmark, shape: str, dtype: str, gpu: bool, operations: str, only: Sequence[str]
) -> list[Worker]:
    """The peer under every setting (or `only` some): threads, idle threads, memory layout."""
    cores = str(os.cpu_count() or 1)
    settings = {"1 thread": ("1", {}), f"{cores} threads": (cores, {})}
    settings[f"{cores} threads passive"] = (cores, {"OMP_WAIT_POLICY": "passive"})
    if gpu:
        settings = {"cuda": ("0", {})}
    return [
        Worker(
            f"torch {name} {layout}",
            f"{benchmark.module}_torch",
            [shape, threads, layout, dtype, operations],
            # A GPU that is there must not be used by accident.
            env if gpu else {**env, "CUDA_VISIBLE_DEVICES": ""},
        )
        for name, (threads, env) in settings.items()
        for layout in benchmark.layouts
        if not only or f"torch {name} {layout}" in only
    ]


def run(
    benchmark: Benchmark,
    shape: str,
    batch: int,
    operations: Sequence[str],
    macs: Callable[[], float],
) -> None:
    """Times `operations` of `shape` and prints milliseconds, ratios to the best peer, peak memory,
    images per second and, on a GPU, utilisation; `macs` are one row's multiply-accumulates
    forwards."""
    gpu, dtype, names = _GPU.value, _DTYPE.value, ",".join(operations)
    environment = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    if not gpu:
        environment["JAX_PLATFORMS"] = "cpu"
    ours = Worker(OURS, f"{benchmark.module}_ours", [shape, dtype, names], environment)
    workers = [ours]
    try:
        ours.wait_ready()
        rivals = peers(benchmark, shape, dtype, gpu, names, _ONLY.value) if _PEERS.value else []
        workers += rivals
        for worker in rivals:
            worker.wait_ready()
            if worker.facts["parameters"] != ours.facts["parameters"]:
                raise ValueError(f"not the same network: {ours.facts} and {worker.facts}")
        print(f"{shape}: {ours.facts}, batch {batch}, {dtype}")
        seconds = interleave(workers, operations, _ROUNDS.value)
    finally:
        for worker in workers:
            worker.close()
    if rivals:
        print(table(seconds, OURS))
    peaks = (f"{w.name} {w.facts['peak_bytes'] / 2**20:,.0f}" for w in workers)
    print(f"peak memory, MiB: {', '.join(peaks)}")
    for operation in operations:
        step = statistics.median(seconds[OURS, operation])
        flops = 2 * benchmark.passes[operation] * macs() * batch / step
        line = f"{operation}: {batch / step:,.4g} images/s"
        if not flops:
            print(line)
            continue
        line += f", {flops / 1e9:,.1f} GFLOP/s"
        if ours.facts["backend"] == "gpu":
            line += f", utilisation {flops / (_PEAK.value * 1e12):.1%}"
        print(line)
