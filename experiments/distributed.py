"""Several processes, one run: `--coordinator=host:port --num_processes=2 --process_id=0`.

On a cluster that JAX knows (TPU pods, Slurm, Open MPI, Kubernetes) `--distributed` is enough; so
are JAX's own JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID.
"""

from __future__ import annotations

import os

import jax
from absl import flags

FLAGS = flags.FLAGS


def define_flags() -> None:
    """The command line."""
    flags.DEFINE_string("coordinator", None, "Process 0, host:port, of a run of several processes.")
    flags.DEFINE_integer("num_processes", None, "How many there are.", lower_bound=1)
    flags.DEFINE_integer("process_id", None, "Which of them this is.", lower_bound=0)
    flags.DEFINE_boolean("distributed", False, "Several processes, found out from the cluster.")


def join() -> None:
    """Joins the other processes, where there are any; to be called before JAX sees a device.

    Raises:
      ValueError: some of the flags are missing, or the others cannot be reached.
    """
    given = (FLAGS.coordinator, FLAGS.num_processes, FLAGS.process_id)
    named = any(x is not None for x in given)
    if named and None in given:
        raise ValueError("--coordinator, --num_processes and --process_id go together: give all")
    if not (named or FLAGS.distributed or "JAX_COORDINATOR_ADDRESS" in os.environ):
        return
    if named and FLAGS.process_id >= FLAGS.num_processes:
        raise ValueError(
            f"--process_id={FLAGS.process_id}: processes are 0 to {FLAGS.num_processes - 1}"
        )
    try:
        jax.distributed.initialize(*given)
    except RuntimeError as error:
        raise ValueError(f"the processes do not find each other: {error}") from error
