"""Losses in which the examples of a batch meet, against splits of it that would part them."""

from __future__ import annotations

from jax.sharding import Mesh

from diffjax.task import Task
from diffjax.tasks.clip import ClipTask
from diffjax.tasks.vae import VaeTask
from diffjax.train.loop import TrainConfig


def check_whole_batch(task: Task, choices: TrainConfig, mesh: Mesh) -> None:
    """Raises ValueError where a batch would be split so that its loss becomes another."""
    accum = choices.grad_accum
    if isinstance(task, VaeTask) and task.whole_batch and accum > 1:
        raise ValueError(
            f"train.grad_accum={accum} would hold free bits against the mean of a microbatch: set "
            "task.free_over='example', or train.grad_accum=1"
        )
    if not isinstance(task, ClipTask):
        return
    size, chunks = choices.batch_size, task.chunks
    if accum > 1:
        raise ValueError(
            f"train.grad_accum={accum} would compare pairs within a microbatch alone: set "
            f"task.chunks={accum} instead, which saves the memory and keeps all pairs"
        )
    ways = mesh.shape["data"] * mesh.shape["fsdp"]
    if size % (chunks * ways):
        raise ValueError(
            f"train.batch_size={size} in task.chunks={chunks} does not split over {ways} "
            f"devices: make it a multiple of {chunks * ways}"
        )
