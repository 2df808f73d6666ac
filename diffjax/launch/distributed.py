"""Several processes, one run: `--coordinator=host:port --num_processes=2 --process_id=0`.

On a cluster that JAX knows (TPU pods, Slurm, Open MPI, Kubernetes) `--distributed` is enough; so
are JAX's own JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from absl import flags
from jax._src.distributed import global_state

from diffjax.launch.peers import Watch

FLAGS = flags.FLAGS
_watch: list[Watch] = []  # One, where there are other processes.
_told = itertools.count()  # Of `by_first`: every process counts alike.


def define_flags() -> None:
    """The command line."""
    flags.DEFINE_string("coordinator", None, "Process 0, host:port, of a run of several processes.")
    flags.DEFINE_integer("num_processes", None, "How many there are.", lower_bound=1)
    flags.DEFINE_integer("process_id", None, "Which of them this is.", lower_bound=0)
    flags.DEFINE_boolean("distributed", False, "Several processes, found out from the cluster.")
    flags.DEFINE_integer(
        "peer_timeout", 20, "Seconds without a sign of life after which a process counts as gone.",
        lower_bound=5,
    )  # fmt: skip


def join(workdir: Path | None = None) -> None:
    """Joins the other processes, where there are any; to be called before JAX sees a device. From
    then on this process ends with one line when another is gone, which says from what step of
    `workdir` a run that is started again goes on.

    Raises:
      ValueError: some of the flags are missing, or the others cannot be reached.
    """
    flags = (FLAGS.coordinator, FLAGS.num_processes, FLAGS.process_id)
    named = any(x is not None for x in flags)
    if named and None in flags:
        raise ValueError("--coordinator, --num_processes and --process_id go together: give all")
    if not (named or FLAGS.distributed or "JAX_COORDINATOR_ADDRESS" in os.environ):
        return
    if named and FLAGS.process_id >= FLAGS.num_processes:
        raise ValueError(
            f"--process_id={FLAGS.process_id}: processes are 0 to {FLAGS.num_processes - 1}"
        )
    try:
        jax.distributed.initialize(*flags, heartbeat_timeout_seconds=FLAGS.peer_timeout)
    except RuntimeError as error:
        raise ValueError(f"the processes do not find each other: {error}") from error
    count, me = global_state.num_processes, global_state.process_id
    if count > 1:
        _watch.append(Watch(count, me, workdir, FLAGS.peer_timeout))
        _watch[0].begin()


def leave(error: BaseException, code: int) -> None:
    """Ends this process, if there are others, for an `error` that no other may have met.

    Args:
      code: of the exit; 1 shows the traceback. With 143 all have stopped at the same step, and end
        together.
    """
    if _watch and code != 143:
        _watch[0].failed(error, code)


def by_first(act: Callable[[], Any]) -> Any:
    """The result of `act()` (as JSON), run by process 0 alone, in every process, once it is done.

    Raises:
      ValueError: `act` raised it, or an OSError; with its message, in every process.
    """
    if not jax.distributed.is_initialized():
        return act()
    client, key = global_state.client, f"diffjax/{next(_told)}"
    assert client is not None
    if global_state.process_id == 0:
        try:
            result = act()
        except (ValueError, OSError) as error:
            client.key_value_set(key, json.dumps({"error": str(error)}))
            raise
        client.key_value_set(key, json.dumps({"result": result}))
        return result
    while True:
        try:
            reply = json.loads(client.blocking_key_value_get(key, 60_000))
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise
        else:
            break
    if "error" in reply:
        raise ValueError(f"process 0: {reply['error']}")
    return reply["result"]
